"""The operators against the answers of a compiled mmcv 2.1.0 on the CPU, gradients included."""

import numpy as np
import pytest
import torch
from compiled_cases import ANSWERS, CASES, inputs


@pytest.fixture(scope='module')
def answers():
    with np.load(ANSWERS) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def test_there_are_answers_to_these_cases_and_to_no_others(answers):
    assert {key.rpartition(': ')[0] for key in answers} == CASES.keys()


@pytest.mark.parametrize('name', CASES)
def test_outputs_and_gradients_are_those_of_the_compiled_operator(name, answers):
    results = CASES[name](inputs(name))
    assert len(results) == sum(key.rpartition(': ')[0] == name for key in answers)
    for number, result in enumerate(results):
        torch.testing.assert_close(result, answers[f'{name}: {number}'], rtol=1e-5, atol=1e-5)
