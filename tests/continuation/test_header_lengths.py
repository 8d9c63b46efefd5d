"""A state's .safetensors form loads whatever the length of its header is."""

import struct

from ltx2.continuation import attachment_bytes, load_attachment_bytes

from .test_codec import full_state


def test_states_of_every_header_length():
    state = full_state()
    seen = set()
    for letters in range(0, 2048, 8):
        data = attachment_bytes(state, "safetensors", texts={"note": "x" * letters})
        seen.add(struct.unpack_from("<Q", data)[0] % 256)
        assert load_attachment_bytes(data).texts["note"] == "x" * letters
    assert seen == set(range(0, 256, 8))  # a low byte of 0x80, the first of a pickle, among them
