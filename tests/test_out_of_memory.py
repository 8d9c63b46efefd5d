"""Memory that runs out is never called anything else, whatever else is caught on the way; the command line alone makes
a sentence of it."""

import ast
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ltx2 import cli
from ltx2.cli import inspect
from ltx2.continuation import tensors as tensor_files
from ltx2.errors import CheckpointError, is_out_of_memory
from ltx2.media import VideoWriter, open_image

ROOT = Path(__file__).parents[1]
# kinds of error that memory which runs out has, or that stand above one
BROAD = {"BaseException", "Exception", "RuntimeError", "MemoryError", "OutOfMemoryError"}
DEVICE = getattr(torch, "OutOfMemoryError", None) or torch.cuda.OutOfMemoryError
MACHINE = (
    "[enforce fail at alloc_cpu.cpp:117] err == 0. "
    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."
)


def handlers():
    for path in [*(ROOT / "nodes").glob("*.py"), *(ROOT / "ltx2").rglob("*.py")]:
        for found in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(found, ast.ExceptHandler):
                yield f"{path.relative_to(ROOT)}:{found.lineno}", found


def test_whoever_catches_so_much_can_hand_it_on():
    """By a bare ``raise``, which keeps the error as it is, or to who waits for a future's result."""
    for where, handler in handlers():
        named = (
            set()
            if handler.type is None
            else {getattr(one, "id", getattr(one, "attr", "")) for one in ast.walk(handler.type)}
        )
        if handler.type is None or named & BROAD:
            assert any(raises_again(one) or hands_on(one, handler.name) for one in ast.walk(handler)), where


def raises_again(node) -> bool:
    return isinstance(node, ast.Raise) and node.exc is None


def hands_on(node, error: str | None) -> bool:
    called = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "set_exception"
    return called and [getattr(one, "id", "") for one in node.args] == [error]


@pytest.mark.parametrize(
    "error", [MemoryError(), DEVICE("no room"), RuntimeError(MACHINE), RuntimeError("CUDA error: out of memory")]
)
def test_kinds(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not fit"), ValueError("out of memory"), CheckpointError("DefaultCPUAllocator")]
)
def test_other_kinds(error):
    assert not is_out_of_memory(error)


def raising(error):
    def call(*_, **__):
        raise error

    return call


def test_a_picture(monkeypatch):
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "PNG")
    for name in ("open", "Image.convert"):
        with monkeypatch.context() as patch, pytest.raises(MemoryError):
            patch.setattr(f"PIL.Image.{name}", raising(MemoryError()))
            open_image(file.getvalue())


def test_a_state(monkeypatch):
    data = tensor_files.write_tensors({"a": torch.zeros(2)}, {})
    monkeypatch.setattr("safetensors.torch.load", raising(RuntimeError(MACHINE)))
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        tensor_files.read_tensors(data, "a.safetensors")


def test_a_film_that_cannot_even_be_begun_or_ended(monkeypatch, tmp_path):
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr("ltx2.media.video.json.dumps", raising(MemoryError()))
        VideoWriter(tmp_path / "a.mp4", fps=24, metadata={"prompt": {}})
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"), VideoWriter(tmp_path / "b.mp4", fps=24) as film:
        film.write_frames(np.zeros((2, 16, 16, 3), np.uint8))
        container, film._container = film._container, type("Full", (), {"close": raising(MemoryError())})()
        raise RuntimeError(MACHINE)
    container.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [DEVICE("CUDA out of memory."), RuntimeError(MACHINE), MemoryError()])
def test_the_command_line_makes_a_sentence_of_it(monkeypatch, capsys, error):
    monkeypatch.setattr(inspect, "run", raising(error))
    assert cli.main(["inspect", "anything"]) == 1
    said = capsys.readouterr().err
    assert "too little memory" in said and said.count("\n") == 1
