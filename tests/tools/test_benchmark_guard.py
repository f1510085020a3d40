"""benchmarks/non_finite_overhead.py: what it prints and writes."""

import csv


def test_it_measures_both_ways_of_looking_at_gradients(config, run, tmp_path):
    small = ('--config', config, '--size', 128, '--rounds', 2)
    done = run('benchmarks/non_finite_overhead', *small, '--out', 'guard')
    assert done.code == 0, done.err
    assert '% of the step' in done.out
    lines = (tmp_path / 'guard.csv').read_text().splitlines()
    assert any(line.startswith('# command: python') for line in lines)
    rows = list(csv.DictReader(line for line in lines if not line.startswith('#')))
    assert [row['gradients'] for row in rows] == ['clipped', 'not clipped']
    for row in rows:
        share = 100 * float(row['hook_ms']) / float(row['step_ms'])
        assert abs(float(row['hook_percent']) - share) < 1e-6 * share
        assert float(row['percent_more_min']) <= float(row['percent_more_max'])
