"""Which files hold a state, told from their first bytes."""

import json

import pytest
import torch
from safetensors.torch import save_file

from ltx2.continuation import save_attachment
from ltx2.continuation.frame_files import encode_png
from ltx2.continuation.recognise import holds_state

from .test_codec import full_state


@pytest.fixture(scope="module")
def state():
    return full_state()


@pytest.mark.parametrize("name", ["state.png", "state.safetensors", "state.json", "state", "STATE.PNG"])
@pytest.mark.parametrize(
    "texts", [None, {"workflow": {"nodes": [{"big": "x" * 9000}]}}], ids=["alone", "with a workflow"]
)
def test_every_form_is_recognised_and_half_of_it_is_not_read(state, tmp_path, name, texts):
    path = save_attachment(state, tmp_path / name, texts=texts, form="card" if name.isupper() else None)
    assert holds_state(path) and holds_state(str(path))


def test_what_else_lies_there_is_none(tmp_path):
    frame = torch.zeros(8, 8, 3, dtype=torch.uint8).numpy()
    (tmp_path / "picture.png").write_bytes(encode_png(frame))
    (tmp_path / "cut.png").write_bytes(encode_png(frame)[:40])
    save_file({"weight": torch.zeros(4)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 12)
    (tmp_path / "workflow.json").write_text(json.dumps({"nodes": [], "kind": "picture"}))
    (tmp_path / "deep.json").write_text("[" * 10_000)
    (tmp_path / "notes.txt").write_text("ltx2")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder").mkdir()
    assert not [path.name for path in tmp_path.iterdir() if holds_state(path)]
    assert not holds_state(tmp_path / "absent.png")
