"""GGUF: headers read with bounds, shapes reversed, blocks where they belong."""

import random
import struct

import pytest
import torch

from ltx2.checkpoint.quantization.gguf_blocks import BLOCK_TYPES, dequantize_blocks
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.errors import CheckpointError

from . import gguf_files as G

F32, F16, Q8_0 = 0, 1, 8
WRONG_SHAPE = G.value("comfy.gguf.orig_shape.x", 9, struct.pack("<IQi", 5, 1, 9))


def refused(path, part: str = ""):
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert str(path) in str(caught.value) and part in str(caught.value), caught.value


def q8_block(scale: float, numbers) -> bytes:
    return struct.pack("<e32b", scale, *numbers)


def test_a_sound_file(tmp_path):
    numbers = list(range(-16, 16))
    tensors = {
        "model.diffusion_model.x.weight": ((2, 32), Q8_0, q8_block(0.5, numbers) + q8_block(2, numbers)),
        "x.bias": ((3,), F32, struct.pack("<3f", 1, 2, 3)),
        "conv.weight": ((2, 32), Q8_0, q8_block(1, numbers) * 2),
    }
    values = [
        G.value("general.architecture", 8, G.text("ltxv")),
        G.value("numbers", 9, struct.pack("<IQ4I", 4, 4, 1, 2, 3, 4)),
        G.value("tokens", 9, struct.pack("<IQ", 8, 100) + G.text("token") * 100),
        G.value("comfy.gguf.orig_shape.conv.weight", 9, struct.pack("<IQ4i", 5, 4, 4, 4, 2, 2)),
    ]
    checkpoint = open_checkpoint(G.write(tmp_path / "a.gguf", tensors, values))
    assert checkpoint.metadata == {"general.architecture": "ltxv", "numbers": "[1, 2, 3, 4]"}
    weight = checkpoint.tensors["model.diffusion_model.x.weight"]
    assert weight.shape == (2, 32) and weight.stored == "Q8_0" and weight.nbytes == 68
    assert weight.load(dtype=torch.float32).tolist() == [[n * 0.5 for n in numbers], [n * 2.0 for n in numbers]]
    assert weight.load().dtype == torch.bfloat16
    assert checkpoint.tensors["x.bias"].load().tolist() == [1, 2, 3]
    assert checkpoint.tensors["conv.weight"].load(dtype=torch.float32).shape == (4, 4, 2, 2)


def test_named_safetensors_it_is_told_apart(tmp_path):
    path = G.write(tmp_path / "a.safetensors", {})
    refused(path, "is a GGUF file")


@pytest.mark.parametrize(
    "data, part",
    [
        (b"GGUF", "ends inside"),
        (G.header([], version=1), "version 1"),
        (G.header([], tensors=2**63), "tensors"),
        (G.header([], tensors=5), "ends inside"),
        (G.header([], [struct.pack("<Q", 2**40)]), "metadata key"),
        (G.header([], [G.value("k", 8, struct.pack("<Q", 2**40))]), "ends inside"),
        (G.header([], [G.value("k", 9, struct.pack("<IQ", 4, 2**60))]), "ends inside"),
        (G.header([], [G.value("k", 9, struct.pack("<IQ", 8, 2**60))]), "list of"),
        (G.header([], [G.value("k", 9, struct.pack("<IQ", 9, 1) * 5)]), "depth"),
        (G.header([], [G.value("k", 77, b"")]), "type 77"),
        (G.header([], [G.value("general.alignment", 4, struct.pack("<I", 0))]), "alignment"),
        (G.header([], [G.value("general.alignment", 8, G.text("32"))]), "alignment"),
        (G.header([G.info("x", (2, 3, 4, 5, 6), F32, 0)]), "dimensions"),
        (G.header([G.info("x", (4,), F32, 2**63)]), "end at byte"),
        (G.header([G.info("x", (2**40, 2**40), F32, 0)]), "blocks"),
        (G.header([G.info("x", (2, 33), Q8_0, 0)]), "blocks"),
        (G.header([G.info("x", (2, 32), 16, 0)]), "GGUF type IQ2_XXS, expected"),
        (G.header([G.info("x", (1,), F32, 0), G.info("x", (1,), F32, 32)]) + b"\0" * 99, "twice"),
        (G.header([G.info("x", (8,), F32, 0), G.info("y", (8,), F32, 4)]) + b"\0" * 99, "over bytes of"),
        (G.header([G.info("x", (8,), F32, 0)], [WRONG_SHAPE]) + b"\0" * 99, "original"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + struct.pack("<Q", 1) + b"\xff", "UTF-8"),
    ],
)
def test_broken_headers(tmp_path, data, part):
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    refused(path, part)


def test_damaged_headers_never_give_another_error(tmp_path):
    values = [G.value("tokens", 9, struct.pack("<IQ", 8, 20) + G.text("token") * 20)]
    tensors = {"x": ((2, 32), Q8_0, b"\0" * 68), "y": ((3,), F16, b"\0" * 6)}
    sound = G.write(tmp_path / "a.gguf", tensors, values).read_bytes()
    chance = random.Random(0)
    path = tmp_path / "b.gguf"
    for _ in range(500):
        data = bytearray(sound)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(4, len(data))] = chance.choice((0, 1, 255, chance.randrange(256)))
        path.write_bytes(data[: chance.randint(8, len(data))] if chance.random() < 0.3 else data)
        try:
            for tensor in open_checkpoint(path).tensors.values():
                tensor.load()
        except CheckpointError:
            pass


@pytest.mark.parametrize(
    "kind", [k for k, block in BLOCK_TYPES.items() if block.formula], ids=lambda k: BLOCK_TYPES[k].name
)
def test_pieces_of_blocks_make_the_same_weights(kind, monkeypatch):
    block = BLOCK_TYPES[kind]
    data = torch.randint(
        0, 256, (7, block.block_bytes), dtype=torch.uint8, generator=torch.Generator().manual_seed(kind)
    )
    whole, pieces = torch.empty(2, 7, block.block_weights)
    dequantize_blocks(block, data.flatten(), whole)
    monkeypatch.setattr(
        "ltx2.checkpoint.quantization.gguf_blocks.weights_at_once", lambda device: 2 * block.block_weights
    )
    dequantize_blocks(block, data.flatten(), pieces)
    assert torch.equal(pieces.nan_to_num(), whole.nan_to_num()) and whole.any()
