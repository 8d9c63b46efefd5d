"""A prompt that comes again in ComfyUI: Gemma stays in its file, also after a restart."""

import os
import shutil

import pytest
import torch

from .shelf import shelf  # noqa: F401

PROMPTS = {"prompt": "A lake.", "negative_prompt": "short"}


def test_a_known_prompt_leaves_gemma_in_its_file(run, shelf, folders, monkeypatch):  # noqa: F811
    import folder_paths

    place = folders / "user" / "__ltx2_continuum" / "texts"
    monkeypatch.setattr(
        folder_paths, "get_system_user_directory", lambda name: str(folders / "user" / f"__{name}"), raising=False
    )
    names = shelf("2.3")
    gemma = folders / "models/text_encoders" / names["text_encoder"]
    shutil.copy(gemma.resolve(), whole := folders / "whole.safetensors")
    gemma.unlink()
    shutil.copy(whole, gemma)

    def start():
        """As a host does that was started anew."""
        model = run("LoadCheckpoint", checkpoint=names["transformer"]).args[0]
        return run("LoadTextEncoder", text_encoder=names["text_encoder"], model=model).args[0]

    first = start()
    expected = run("EncodePrompt", text_encoder=first, **PROMPTS).args
    assert len(first.get_models()) == 4 and len(list(place.iterdir())) == 3
    before, content = gemma.stat(), gemma.read_bytes()
    gemma.write_bytes(b"x" * len(content))
    os.utime(gemma, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = start()
    found = run("EncodePrompt", text_encoder=again, **PROMPTS).args
    assert found[2:] == expected[2:] == (PROMPTS["prompt"],)  # the prompt as it was read
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert torch.equal(one.context.video, other.context.video)
        assert torch.equal(one.context.audio, other.context.audio)
    # the host, which looks for what a value holds, finds nothing to bring
    assert again.get_models() == [] and again.patcher is None and not again.source.is_loaded
    assert (again.identity, again.name, str(again)) == (first.identity, first.name, str(first))
    with pytest.raises(ValueError, match="gemma|text_encoder"):
        run("EncodePrompt", text_encoder=again, prompt="A sea.", negative_prompt="short")

    gemma.write_bytes(content)
    os.utime(gemma, ns=(before.st_atime_ns, before.st_mtime_ns))
    later = start()
    new = run("EncodePrompt", text_encoder=later, prompt="A sea.", negative_prompt="short").args
    assert len(later.get_models()) == 4 and not torch.equal(new[0].context.video, expected[0].context.video)
    direct = run("EncodePrompt", text_encoder=first, prompt="A sea.", negative_prompt="short").args
    assert torch.equal(new[0].context.video, direct[0].context.video)
