"""benchmarks/heads.py: what it prints and writes."""

import csv


def test_it_compares_the_heads_and_writes_a_row_for_each(run, tmp_path):
    sizes = ('--classes', 12, '--groups', 3, '--in-channels', 8, '--batch-size', 2)
    done = run('benchmarks/heads', *sizes, '--rounds', 2, '--min-seconds', 0, '--out', 'heads')
    assert done.code == 0, done.err
    assert '12 classes, 3 groups, 8 channels' in done.out
    lines = (tmp_path / 'heads.csv').read_text().splitlines()
    assert any(line.startswith('# command: python') for line in lines)
    rows = list(csv.DictReader(line for line in lines if not line.startswith('#')))
    assert [row['head'] for row in rows] == ['linear', 'ml_decoder', 'timm ml_decoder']
    # A weight for each channel and class, and a bias for each class.
    assert int(rows[0]['parameters']) == 8 * 12 + 12
    # timm's layer also holds the queries it never trains, and a norm more; both decoders learn.
    assert all(float(row['forward_img_per_s']) > 0 for row in rows)
    assert float(rows[0]['forward_ratio']) == 1
