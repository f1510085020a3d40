"""The modes that have models of their own, on small ones."""

import pytest

from tresnet_det.profiling import ablation, comparison, modes
from tresnet_det.profiling.report import format_table

CONFIG = """
model = dict(backbone=dict(type='TResNet', frozen_stages=1, norm_eval=True,
    arch=dict(depths=(1, 1, 1, 1), width_factor=0.25{extra}), out_indices=(1, 2, 3)))
"""


def silent(line):
    pass


def test_family_puts_published_accuracy_beside_measured_speed(settings, monkeypatch, tmp_path):
    published = {'tresnet_m@32': 80.8, 'timm:efficientnet_b0@32': 77.1}
    monkeypatch.setattr(comparison, 'PUBLISHED_TOP1', published)
    result = modes.run_family(settings, silent)
    assert [row['published_top1'] for row in result.rows] == [80.8, 77.1]
    text = format_table(result.rows, result.columns)
    assert '77.1 %' in text
    result.draw(tmp_path / 'family.png', title='Title', caption='machine')
    assert (tmp_path / 'family.png').stat().st_size > 0


def test_ablation_has_two_tables_with_the_full_model_first(settings, tmp_path):
    folder = tmp_path / 'ablation'
    folder.mkdir()
    (tmp_path / 'base.py').write_text(CONFIG.format(extra=''))
    (folder / 'no_se.py').write_text(CONFIG.format(extra=', se_stages=(False,) * 4'))
    result = modes.run_ablation(tmp_path / 'base.py', folder, 64, settings, silent)
    names = [[row['model'] for row in rows] for rows in result.tables.values()]
    assert names == [['full', 'no_se'], ['full', *ablation.OPTIMISATIONS_OFF]]
    by_name = {row['model']: row for row in result.rows}
    assert by_name['no_se']['parameters'] < by_name['full']['parameters']
    assert by_name['no_fused_blur']['kept_ratio'] > 1
    assert by_name['no_fast_pooling']['kept_ratio'] == pytest.approx(1, abs=0.01)
