"""``--draft``: what it runs, who draws it, and that it is a look at the very film."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ltx2 import media
from ltx2.checkpoint.models import load_tiny_decoder
from ltx2.checkpoint.reader import open_checkpoint
from ltx2.cli import main
from ltx2.continuation import load_attachment
from ltx2.media.frames import uint8_frames
from ltx2.stages.pipeline import first_pass, generate, inputs_of, make_job
from ltx2.stages.presets import drafted, find_preset, resolve
from ltx2.stages.request import Request
from ltx2.stages.steps import encode_request_texts
from ltx2.stages.video_decoding import resized
from tests.networks.video_vae.test_tiny_decoder import tensors
from tests.stages.conftest import checkpoints_of
from tests.stages.conftest import models as models  # noqa: PLC0414 (a fixture)

pytestmark = pytest.mark.usefixtures("loaded_once")

TWO_STAGES = {"prompt": "a lake", "preset": "ltx2_two_stage", "width": 64, "height": 128, "frames": 9}
TWO_STAGES["overrides"] = {"denoise": {"num_inference_steps": 2}}


@pytest.fixture(scope="module")
def tiny_autoencoder(tmp_path_factory):
    """A file of random weights in the published layout, in the folder where ComfyUI keeps it."""
    folder = tmp_path_factory.mktemp("models") / "vae_approx"
    folder.mkdir()
    save_file({name: value.half() for name, value in tensors().items()}, folder / "taeltx2_3.safetensors")
    (folder / "taeltx9.safetensors").write_bytes(b"not one")
    return folder / "taeltx2_3.safetensors"


def command(files, out, *more):
    """``ltx2 generate`` of two stages, without an upsampler."""
    words = ["generate", "--checkpoint", *checkpoints_of(files), "--text-encoder", files["text_encoder"]]
    words += ["--prompt", "a lake", "--size", "64x128", "--frames", "9", "--preset", "ltx2_two_stage", "--steps", "2"]
    return main([str(word) for word in (*words, "--device", "cpu", "--dtype", "fp32", "--out", out, *more)])


def test_a_draft_is_what_the_second_stage_begins_from(models):
    whole, draft = (make_job(models("2.3"), Request(**TWO_STAGES, draft=draft)) for draft in (False, True))
    contexts = encode_request_texts(models("2.3"), whole)
    first = first_pass(models("2.3"), whole, inputs_of(models("2.3"), whole, *contexts))
    segment = generate(models("2.3"), draft)
    assert torch.equal(segment.latent.video, first.video) and torch.equal(segment.latent.audio, first.audio)
    pictures = np.concatenate(list(segment.frames()))
    assert pictures.shape == (9, 128, 64, 3) and pictures.std() > 1


@pytest.mark.parametrize(
    "preset, overrides, steps",
    [
        ("ltx2_3_distilled", {}, 4),
        ("ltx2_mini", {}, 4),
        ("ltx2_3_base", {}, 15),
        ("ltx2_3_distilled", {"denoise": {"num_inference_steps": 7}}, 7),
        ("ltx2_quality", {}, 8),
        ("ltx2_hq", {"denoise": {"num_inference_steps": 5}}, 5),
    ],
)
def test_steps_of_a_draft(preset, overrides, steps):
    settings = drafted(resolve(find_preset(preset), None, overrides), overrides)
    assert settings.denoise.num_inference_steps == steps
    assert settings.refine is None and str(settings).startswith(f"draft of preset {preset}: ")
    assert settings.half_size == (preset in ("ltx2_quality", "ltx2_hq"))


def test_the_tiny_autoencoder_that_is_found_draws_it(tiny, models, tiny_autoencoder, tmp_path, capsys):
    """Beside the folder of checkpoints; a file of that name that is none is passed over."""
    models_folder, files = tiny_autoencoder.parent.parent, dict(tiny("2.3"))
    (models_folder / "checkpoints").mkdir()
    for role in ("transformer", "video_vae", "audio_vae", "vocoder"):
        link = models_folder / "checkpoints" / files[role].name
        if not link.exists():
            link.symlink_to(files[role])
        files[role] = link
    assert command(files, tmp_path / "pictures", "--draft", "--override", "refine.sampler=euler") == 0
    told = capsys.readouterr().err
    assert "the draft is drawn by taeltx2_3.safetensors" in told and "pictures by the tiny autoencoder" in told
    assert "refine.sampler has no effect: a draft has no second stage" in told
    drawn = np.stack([media.open_image(path) for path in sorted((tmp_path / "pictures").glob("*.png"))])
    segment = generate(models("2.3"), Request(**TWO_STAGES, draft=True))
    decoder = load_tiny_decoder(open_checkpoint(tiny_autoencoder))
    with torch.no_grad():
        pieces = [piece.movedim(0, 1)[None] * 2 - 1 for piece in decoder.stream(segment.latent.video.float())]
    expected = np.concatenate([uint8_frames(resized(piece, 64, 128)) for piece in pieces])
    assert np.abs(drawn.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "more, sentence",
    [
        (["--tiny-decoder", "x.safetensors"], "add --draft"),
        (["--draft", "--tiny-decoder", "x.safetensors"], "x.safetensors"),
        (["--draft", "--tiny-decoder", "{upsampler}"], "this is no tiny autoencoder for LTX-2"),
        (["--draft", "--size", "96x96"], "multiples of 64 for two stages"),
    ],
)
def test_what_does_not_work_is_told_before_anything_is_made(tiny, tmp_path, capsys, more, sentence):
    files = tiny("2.3")
    more = [word.format(upsampler=files["spatial_upsampler"]) for word in more]
    assert command(files, tmp_path / "x.mp4", *more) == 1
    assert sentence in capsys.readouterr().err and not (tmp_path / "x.mp4").exists()


def test_the_demonstration_model_draws_its_own_drafts(tmp_path, capsys):
    words = ["--checkpoint", "mini", "--draft", "--frames", "25", "--prompt", "A red ball rests at night."]
    film, state = str(tmp_path / "x.mp4"), str(tmp_path / "x.png")
    assert main(["generate", *words, "--tiny-decoder", "x", "--out", film]) == 1
    assert "leave --tiny-decoder out" in capsys.readouterr().err
    assert main(["generate", *words, "--out", film, "--save-state", state]) == 0
    assert "draft of preset ltx2_mini: 4 steps" in capsys.readouterr().err
    assert load_attachment(state).state.metadata["comfy_ltx2"]["draft"] is True
    assert '"draft": true' in media.video_info(film).metadata["ltx2"]
    later = ["--checkpoint", "mini", "--frames", "25", "--prompt", "It rests.", "--out", str(tmp_path / "y.mp4")]
    assert main(["continue", state, *later]) == 0
    assert "the state comes from a draft, whose pictures are soft" in capsys.readouterr().err
