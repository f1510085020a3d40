"""Any exported file: the runner gives answers of its task, or one line says what is wrong."""

import json

import fuzz_mutations as fuzz
import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from tresnet_det.inference.onnx_runner import OnnxModel, describe

METADATA = {
    'format': 1,
    'task': 'detector',
    'classes': ['cat', 'dog'],
    'divisor': 32,
    'border': [0.0, 0.0, 0.0],
    'threshold': [0.5, 0.4],
    'reader': 'pillow',
    'iou_threshold': 0.6,
    'steps': [{'type': 'fit', 'scale': [64, 64], 'resampling': 'bilinear'}],
}
RIGHT = {
    'boxes': np.ones((1, 3, 4), np.float32),
    'scores': np.full((1, 3), 0.9, np.float32),
    'labels': np.array([[1, 0, -1]]),
    'num': np.array([2]),
    'logits': np.ones((1, 3), np.float32),
}
SHAPES = ((), (1,), (0,), (3,), (1, 3), (1, 2), (0, 3), (2, 3), (1, 3, 4), (1, 3, 3))
VALUES = (0, 1, -1, 2, 10**12, 0.5, float('nan'), float('inf'))
INPUTS = {'images': ['N', 3, 'H', 'W'], 'sizes': ['N', 2], 'original_sizes': ['N', 2]}


@st.composite
def odd_arrays(draw):
    value, shape = draw(st.sampled_from(VALUES)), draw(st.sampled_from(SHAPES))
    return np.full(shape, value, np.float32 if isinstance(value, float) else np.int64)


def write(path, metadata, outputs, inputs=tuple(INPUTS)):
    """Write a network that gives the same for any images."""
    arrays = {name: numpy_helper.from_array(array) for name, array in outputs.items()}
    nodes = [helper.make_node('Constant', [], [name], value=v) for name, v in arrays.items()]
    ends = [helper.make_tensor_value_info(n, v.data_type, v.dims) for n, v in arrays.items()]
    starts = [
        helper.make_tensor_value_info(name, 1 if name == 'images' else 7, INPUTS.get(name, ['N']))
        for name in inputs
    ]
    graph = helper.make_graph(nodes, 'g', starts, ends)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    for key, value in metadata.items():
        text = json.dumps(value).encode('utf-8', 'replace').decode()
        model.metadata_props.add(key=str(key), value=text)
    onnx.save(model, path)


def predict(path):
    found, message = None, ''
    try:
        model = OnnxModel(path, threads=1)
        found = model.predict(np.zeros((30, 40, 3), np.uint8))
        assert all(map(str, describe(model, found, model.score_thr)))
    except ValueError as error:  # the runner is alone and knows no InputError
        message = str(error)
    assert len(message.splitlines()) == (found is None), message
    return found


@given(st.dictionaries(st.sampled_from([*RIGHT]), odd_arrays(), max_size=2), st.data())
def test_fuzz_outputs_of_exported_files(odd, data):
    task = data.draw(st.sampled_from(('detector', 'classifier')))
    right = dict(RIGHT, scores=RIGHT['scores'][:, :2], logits=RIGHT['logits'][:, :2])
    right = RIGHT if task == 'detector' else {name: right[name] for name in ('logits', 'scores')}
    odd = {name: array for name, array in odd.items() if name in right}
    with fuzz.folder() as root:
        write(root / 'm.onnx', METADATA | dict(task=task, threshold=0.5), right | odd)
        found = predict(root / 'm.onnx')
    if not odd:
        assert found is not None
    if found is not None and task == 'detector':
        assert found['boxes'].shape == (len(found['labels']), 4)
        assert found['scores'].shape == found['labels'].shape
        assert all(label in (0, 1) for label in found['labels'])
    elif found is not None:
        assert found['scores'].shape in ((1,), (2,))


@given(fuzz.broken_trees(METADATA))
def test_fuzz_metadata_of_exported_files(metadata):
    with fuzz.folder() as root:
        write(root / 'm.onnx', metadata, RIGHT)
        predict(root / 'm.onnx')


def test_a_network_with_other_inputs_is_refused(tmp_path):
    write(tmp_path / 'm.onnx', METADATA, RIGHT, inputs=['x'])
    assert predict(tmp_path / 'm.onnx') is None
