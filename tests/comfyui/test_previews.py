"""What denoising sees, on the node: by the host's tiny autoencoder for LTX-2, or by colours."""

import importlib
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ltx2 import mini
from ltx2.networks.video_vae.tiny_decoder import TinyDecoder

from .conftest import PACK_NAME, REAL


@pytest.fixture
def shown(pack, folders, monkeypatch):
    """``shown(latent, names)`` → the node's picture of it."""
    import folder_paths

    folder = folders / "models/vae_approx"
    folder.mkdir(parents=True)
    if REAL:
        folder_paths.add_model_folder_path("vae_approx", str(folder), is_default=True)
    progress = importlib.import_module(f"{PACK_NAME}.nodes.reporting")
    values = sys.modules[f"{PACK_NAME}.ltx2.values"]
    yield folder, lambda video, names=(): progress.preview_picture(values.AVLatent(video, None), names)
    if REAL:
        folder_paths.folder_names_and_paths["vae_approx"][0].remove(str(folder))
        folder_paths.filename_list_cache.pop("vae_approx", None)


def save_decoder(path, shade: float) -> None:
    """A tiny autoencoder that draws everything in one shade."""
    tensors = {
        name: torch.full_like(value, 1e-30, device="cpu")
        for name, value in TinyDecoder(device="meta").state_dict().items()
    }
    tensors["decoder.22.bias"] = torch.full((48,), shade)
    save_file(tensors, path)


def test_first_middle_and_last_frame_by_a_tiny_autoencoder(shown):
    folder, preview = shown
    clip = torch.randn(1, 128, 5, 4, 6)
    assert preview(clip).size == (48, 32)  # by colours
    save_decoder(folder / "taeltx_2.safetensors", 0.5)
    assert preview(clip).size == (3 * 6 * 32, 4 * 32) and np.asarray(preview(clip)).min() == 127
    # one frame is first and last; a large clip is reduced; the newest file goes first, and one that is none is left out
    assert preview(clip[:, :, :1]).size == (6 * 32, 4 * 32)
    assert preview(torch.randn(1, 128, 2, 20, 40)).size == (2 * 12 * 32, 6 * 32)
    save_decoder(folder / "taeltx_2_3.safetensors", 1.0)
    (folder / "taeltx_9.safetensors").write_bytes(b"not one")
    if not REAL:  # whose list of files is not read anew within moments
        assert np.asarray(preview(clip)).min() == 255
    # the demonstration model has latents of its own
    assert preview(clip, (mini.CHECKPOINT.name,)).size == (48, 32)
    assert preview(None) is None


def test_plain_previews_where_the_user_asks_for_them(shown, monkeypatch):
    import comfy.cli_args

    folder, preview = shown
    save_decoder(folder / "taeltx_2.safetensors", 0.5)
    monkeypatch.setattr(comfy.cli_args.args, "preview_method", "latent2rgb", raising=False)
    assert preview(torch.randn(1, 128, 5, 4, 6)).size == (48, 32)
