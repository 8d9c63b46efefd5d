"""What does not belong together is refused with one sentence, before any work is lost."""

import pytest
import torch

from . import samples
from .shelf import loaded, shelf  # noqa: F401
from .test_native import nested
from .test_stages import SMALL, contexts, decoded, preset

ONE_STAGE = "ltx2_3_distilled"


def denoised(run, parts, conditions=None, **inputs):
    clip = run("PrepareLatent", **SMALL, **({"conditions": conditions} if conditions else {})).args[0]
    given = {
        "model": parts["model"],
        "positive": contexts(run, parts)["positive"],
        "preset": preset(run, ONE_STAGE, 1),
        **inputs,
    }
    return run("Denoise", latent=clip, seed=1, **given).args[0]


@pytest.mark.slow
def test_parts_of_another_release(run, loaded, shelf):  # noqa: F811
    first, second, third = loaded("2.0"), loaded("2.3"), loaded("2.5")
    with pytest.raises(
        ValueError, match="encoded for LTX-2.5, the model is LTX-2.3: load the text encoder for this model"
    ):
        denoised(run, second, positive=contexts(run, third)["positive"])
    with pytest.raises(ValueError, match="loaded for LTX-2.5, the model is LTX-2.3: connect this model"):
        run(
            "Generate",
            prompt="A lake.",
            negative_prompt="",
            seconds=9 / 24,
            width=64,
            height=64,
            fps=24.0,
            preset=ONE_STAGE,
            seed=1,
            video_overlap=1,
            audio_overlap=1,
            **{**second, "text_encoder": third["text_encoder"]},
        )
    picture = run("AddImage", image=samples.frames(1), frame=0, strength=1.0).args[0]
    with pytest.raises(
        ValueError, match="is of LTX-2.0, the clip's model is LTX-2.3: load the video VAE of LTX-2.3 or 2.5"
    ):
        denoised(run, second, picture, video_vae=first["video_vae"])
    clip = denoised(run, second)
    for node, inputs in (("DecodeVideo", {}), ("DecodeToFile", {"filename_prefix": "film/part"})):
        with pytest.raises(ValueError, match="is of LTX-2.0"):
            run(node, latent=clip, video_vae=first["video_vae"], **inputs)
    # 2.3 and 2.5 share their latents
    assert run("DecodeVideo", latent=clip, video_vae=third["video_vae"]).args[0].shape == (9, 64, 64, 3)
    with pytest.raises(
        ValueError, match="is of LTX-2.3 or 2.5, the clip's model is LTX-2.0: load the video VAE of LTX-2.0"
    ):
        run("DecodeVideo", latent=denoised(run, first), video_vae=second["video_vae"])
    files = {
        "transformer": shelf("2.5")["transformer"],
        "audio_vae": shelf("2.5")["audio_vae"],
        "distilled_lora": "none",
    }
    with pytest.raises(ValueError, match="is of LTX-2.0, the clip's model is LTX-2.5"):
        run("LoadSplitFiles", video_vae=shelf("2.0")["transformer"], **files)
    half = denoised(run, second, preset=preset(run, "ltx2_fast", 1))
    larger = run("Upsample", latent=half, upsampler=second["upsampler"], video_vae=second["video_vae"]).args[0]
    with pytest.raises(ValueError, match="made with LTX-2.3, the model is LTX-2.5: use the same release"):
        run("Refine", model=third["model"], positive=contexts(run, third)["positive"], latent=larger)


def test_files_of_another_kind(run, shelf):  # noqa: F811
    names = shelf("2.5")
    files = {name: names[name] for name in ("transformer", "video_vae", "audio_vae")}
    with pytest.raises(ValueError, match="holds no audio VAE: choose the release's audio VAE as audio_vae"):
        run("LoadSplitFiles", **{**files, "audio_vae": names["video_vae"]}, distilled_lora="none")
    with pytest.raises(ValueError, match="holds no video VAE"):
        run("LoadSplitFiles", **{**files, "video_vae": names["audio_vae"]}, distilled_lora="none")


@pytest.mark.parametrize("wrong", ["temporal_upsampler", "spatial_upsampler"])
def test_an_upsampler_of_the_other_kind(run, loaded, shelf, monkeypatch, wrong):  # noqa: F811
    """The loader takes both kinds; what needs the other one says so before anything is sampled."""
    parts = loaded("2.3")
    given = run("LoadUpsampler", upsampler=shelf("2.3")[wrong]).args[0]
    film = {"prompt": "A lake.", "negative_prompt": "", "seconds": 9 / 24, "width": 64, "height": 64, "fps": 24.0}
    film |= {"preset": "ltx2_fast", "seed": 1, "video_overlap": 1, "audio_overlap": 1}
    if wrong == "temporal_upsampler":
        expected = (
            "the upsampler adds frames, expected one that doubles height and width: load the spatial x2 upsampler"
        )
        half = denoised(run, parts, preset=preset(run, "ltx2_fast", 1))
        nodes = {
            "Upsample": {"latent": half, "upsampler": given, "video_vae": parts["video_vae"]},
            "Generate": {**parts, **film, "upsampler": given},
        }
    else:
        expected = (
            "the temporal upsampler enlarges 2 times, expected one that doubles the frame rate: load the release's "
            "temporal-upscaler-x2 file"
        )
        models = run("Models", **parts, temporal_upsampler=given).args[0]
        nodes = {"Generate": {"models": models, "double_rate": 1, **film}}
    ran = []
    for network in (parts["model"].patcher.model, parts["text_encoder"].encoder.model, given.patcher.model):
        monkeypatch.setattr(network, "forward", lambda *_, **__: ran.append("a network"))
    for name, inputs in nodes.items():
        with pytest.raises(ValueError) as refused:
            run(name, **inputs)
        assert str(refused.value) == expected and not ran, name


def test_frames_and_sound_of_another_clip(run, loaded):  # noqa: F811
    parts = loaded()
    clip = denoised(run, parts)
    images, audio = decoded(run, parts, clip)
    given = {"latent": clip, "images": images, "audio": audio, "video_overlap": 1, "audio_overlap": 1}
    with pytest.raises(ValueError, match="5 images, the latent decodes to 9"):
        run("MakeState", **{**given, "images": images[:5]})
    with pytest.raises(ValueError, match="the sound is 5.00 s long, that of this segment 0.38 s"):
        run("MakeState", **{**given, "audio": samples.sound(5.0)})
    fitted = run("MakeState", **{**given, "video_overlap": 4})  # as a wire may bring it to a clip that is made
    assert len(fitted.args[0].video_frames) == 1 and "4 became 1" in fitted.ui["states"][0]["notes"][0]
    with pytest.raises(ValueError, match="holds no picture"):
        run("AddImage", image=torch.zeros(0, 64, 64, 3), frame=0, strength=1.0)


@pytest.mark.parametrize("case", ["swapped", "another model's", "no VAE", "sound", "half a latent's width"])
def test_native_latents_that_are_not_ltx(run, pack, folders, case):
    video, audio = torch.zeros(1, 128, 3, 2, 3), torch.zeros(1, 8, 18, 16)
    given = {"images": samples.frames(17), "fps": 24.0, "video_overlap": 9, "audio_overlap": 9}
    state = run("AVLatentToState", latent={"samples": nested(pack, video, audio)}, **given).args[0]
    back = {"state": state, "vae": samples.FakeVae(), "seconds": 1.0, "divide": 1, "strength": 1.0, "audio_overlap": -1}
    if case == "swapped":
        latent = {"samples": nested(pack, audio, video)}
        with pytest.raises(ValueError, match=r"\[1, 8, 18, 16\] and \[1, 128, 3, 2, 3\], expected LTX-2's"):
            run("AVLatentToState", latent=latent, **given)
    elif case == "another model's":
        with pytest.raises(ValueError, match=r"the latent is \[1, 4, 8, 8\], expected LTX-2's"):
            run("StateToAVLatent", latent={"samples": torch.zeros(1, 4, 8, 8)}, **back)
    elif case == "no VAE":
        with pytest.raises(ValueError, match="the checkpoint holds none, load the model's video VAE"):
            run("StateToAVLatent", **{**back, "vae": None})
    elif case == "sound":
        with pytest.raises(ValueError, match="the sound is 9.00 s long, that of this segment 0.71 s"):
            run("AVLatentToState", latent={"samples": nested(pack, video, audio)}, audio=samples.sound(9.0), **given)
    else:
        with pytest.raises(ValueError, match="expected LTX-2's"):
            run("AVLatentToState", latent={"samples": nested(pack, video, audio[..., :8])}, **given)
