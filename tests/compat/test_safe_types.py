"""Stand-ins that only older torch asks for: newer ones have such names on a list of their own."""

import pickle

import pytest

from tresnet_det.compat.safe_types import SAFE_TYPES


def test_bytes_are_read_out_of_a_text_in_the_one_encoding_that_pickle_writes():
    (encode,) = (t for t in SAFE_TYPES if (t.__module__, t.__name__) == ('_codecs', 'encode'))
    # What protocol 2, torch's, makes of bytes: a call of _codecs.encode.
    data = bytes(range(256))
    assert b'_codecs\nencode\n' in pickle.dumps(data, protocol=2)
    assert encode(data.decode('latin1'), 'latin1') == data
    with pytest.raises(pickle.UnpicklingError, match="encode to 'rot13' is refused"):
        encode('text', 'rot13')
