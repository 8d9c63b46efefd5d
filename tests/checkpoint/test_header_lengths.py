"""A safetensors file begins with the length of its header, in bytes that may be those of anything else's signature."""

import pytest
import torch

from ltx2.checkpoint.reader import open_checkpoint
from ltx2.checkpoint.recognition.file_kinds import SIGNATURES, kind_of

from .files import header_bytes, write

# below 8 there is no room for a brace and a tensor's entry; the writers of the format pad to multiples of 8
LENGTHS = range(8, 70_001)
SMALLEST = '{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'


def test_no_length_is_taken_for_another_kind_of_file():
    for length in (*LENGTHS, *(1 << n for n in range(17, 27)), *range(1 << 20, (1 << 20) + 70_000)):
        first = length.to_bytes(8, "little") + b'{"__metadata__":'
        assert kind_of(first, 8 + length) is None, length


@pytest.mark.parametrize("signature", SIGNATURES, ids=repr)
def test_a_length_that_spells_a_signature(tmp_path, signature):
    """With every byte behind the signature that keeps the header of a size that a test can write."""
    path = tmp_path / "a.safetensors"
    for behind in (b"", b"\1", b"\2", b"\x10"):
        length = int.from_bytes((signature + behind)[:8], "little")
        if len(SMALLEST) <= length <= 1 << 21:
            assert open_checkpoint(write(path, SMALLEST.ljust(length), b"\7")).tensors["x"].load() == 7


@pytest.mark.slow
def test_lengths_load(tmp_path):
    path = tmp_path / "a.safetensors"
    # every fifteenth that a writer pads to, which are all low bytes that there are
    for length in range(8 * (len(SMALLEST) // 8 + 1), LENGTHS.stop, 120):
        path.write_bytes(header_bytes(SMALLEST.ljust(length)) + b"\7")
        assert open_checkpoint(path).tensors["x"].load(mapped=False) == torch.tensor([7], dtype=torch.uint8), length
    for length in (8, 16, 0x80, 0x280, 0x380, 0x480, 0x580):
        assert not open_checkpoint(write(path, "{}".ljust(length), b"")).tensors
