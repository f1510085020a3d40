"""Flags of train.py for what is changed in every run: mistakes, and one training with them."""

import pytest

MISTAKES = {
    '--epochs 0': '0: give a whole number from 1 to 1000000',
    '--batch-size 2.5': '2.5: give a whole number from 1 to 65536',
    '--lr -1': '-1: give a number above 0, at most 1000',
    '--lr nan': 'nan: give a number above 0',
    '--lr fast': "'fast': give a number above 0",
    '--lr 0.1 --auto-scale-lr': 'not allowed with argument --lr',
    '--img-size 8': "'8' is no size: give 640 or 1333x800, of at least 32 pixels a side",
    '--img-size 640x640x3': 'is no size',
    '--workers -1': '-1: give a whole number from 0 to 1024',
    '--freeze 5': "'5' is not 0 to 4 or backbone",
    '--freeze 1 --from-scratch': 'random weights would stay as they are: give --pretrained',
    '--demo --freeze backbone': 'random weights would stay as they are: give --pretrained',
    '--device gpu': "'gpu' is not cpu, cuda or cuda:N",
}


@pytest.mark.parametrize('flags', MISTAKES)
def test_a_mistake_of_a_flag_is_one_line(flags, run):
    error = run('train', 'config.py', *flags.split()).error
    assert error.startswith('train.py: error: argument --')
    assert MISTAKES[flags] in error
