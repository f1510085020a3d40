"""``--cfg-options KEY=VALUE``: any text is a value, or one line; dicts in Python's notation."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config

from tresnet_det.cli.config_values import parse_value
from tresnet_det.engine import config as edit
from tresnet_det.errors import InputError

NESTED = {'a': [1, {'b': (2, -3.5)}], 'c': {'d': None, 'e': True}}
VALUES = {
    # in Python's notation
    "dict(type='AdamW', lr=0.001)": dict(type='AdamW', lr=0.001),
    'dict(type=AdamW,lr=1e-3)': dict(type='AdamW', lr=0.001),
    repr(NESTED): NESTED,
    "[dict(type='A', x=[1]), dict(type='B')]": [dict(type='A', x=[1]), dict(type='B')],
    "'1,2'": '1,2',
    "(1, 'a b')": (1, 'a b'),
    # in mmengine's
    '1,2,3': [1, 2, 3],
    '[(1,2),(a,b)]': [(1, 2), ('a', 'b')],
    '[/data/a b, c-d/e.png]': ['/data/a b', 'c-d/e.png'],
    'true,False,None': [True, False, None],
    '1,': [1],
    '007': 7,
    '-inf': -math.inf,
    # text
    '': '',
    '/my data/$x {y} %s "z': '/my data/$x {y} %s "z',
    'https://host/a?b=c': 'https://host/a?b=c',
    'lambda: 0': 'lambda: 0',
    '__import__("os").getcwd()': '__import__("os").getcwd()',
    '犬': '犬',
    'a(b': 'a(b',
}
BROKEN = ['[1,2', 'dict(a=', '{', "{'a': 1", '{1: 2}', '[' * 9999, 'dict(**a)']


@pytest.mark.parametrize('text', VALUES)
def test_a_text_means(text):
    assert parse_value(text) == VALUES[text]


@pytest.mark.parametrize('text', BROKEN, ids=range(len(BROKEN)))
def test_what_is_broken_is_one_line(text, run, tiny_config):
    result = run('check_data', tiny_config('detection'), '--cfg-options', f'model.neck={text}')
    assert 'error: --cfg-options model.neck: ' in result.error


@given(st.text() | st.text('[](){},\'"=: abd1.-*dict'))
def test_any_text_ends_in_a_value_or_a_mistake(text):
    try:
        value = parse_value(text)
    except (ValueError, KeyError):
        assert text.strip()[0] in '[({d'
    else:
        assert isinstance(value, str | int | float | list | tuple | dict | None)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
))  # fmt: skip
def test_what_python_writes_is_read_back(value):
    assert parse_value(repr(value)) == value


def config():
    optimizer = dict(type='SGD', lr=0.1, momentum=0.9)
    return Config(
        dict(optim_wrapper=dict(optimizer=optimizer, clip_grad=None), model=dict(x=[dict()]))
    )


@pytest.mark.parametrize(
    ('key', 'value', 'expected'),
    [
        ('optimizer', dict(type='AdamW', lr=0.001), dict(type='AdamW', lr=0.001)),
        ('optimizer', dict(type='SGD', lr=1), dict(type='SGD', lr=1, momentum=0.9)),
        ('optimizer', dict(lr=1), dict(type='SGD', lr=1, momentum=0.9)),
        ('clip_grad', dict(max_norm=35), dict(max_norm=35)),
        ('paramwise_cfg', dict(norm_decay_mult=0), dict(norm_decay_mult=0)),
    ],
)
def test_a_dict_is_merged_unless_it_is_of_another_type(key, value, expected):
    cfg = config()
    edit.override(cfg, {f'optim_wrapper.{key}': value})
    assert cfg.optim_wrapper[key] == expected


def test_dicts_in_a_list_are_as_the_configs_own():
    cfg = config()
    edit.override(cfg, {'custom_hooks': [dict(type='EMAHook')], 'model.x.0': dict(type='A')})
    assert (cfg.custom_hooks[0].type, cfg.model.x[0].type) == ('EMAHook', 'A')


BAD_KEYS = ['', '.', 'a b', '1a', 'class', 'filename', 'model.x.7', 'model.x.²', 'model.x.y']


@pytest.mark.parametrize('key', [*BAD_KEYS, 'optim_wrapper.optimizer.lr.x'])
def test_a_key_that_no_config_can_have_is_one_line(key):
    with pytest.raises(InputError, match='--cfg-options'):
        edit.override(config(), {key: 1})


@pytest.mark.parametrize(
    'option',
    [
        'custom_hooks=5',
        'train_cfg=abc',
        'default_hooks=[1,2]',
        'env_cfg=5',
        'val_cfg=-1',
        'model.test_cfg.nms=5',  # of the first validation
        'train_cfg.val_interval=x',
    ],
)
def test_a_value_of_the_wrong_kind_is_one_line(option, run, tiny_config):
    assert run('train', tiny_config('detection'), '--cfg-options', option).error  # of one line
