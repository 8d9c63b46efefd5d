"""One value of every kind that travels between nodes, made by the nodes themselves on tiny models, for tests of all
nodes."""

from pathlib import Path
from types import SimpleNamespace

import torch

from . import samples
from .shelf import load

CLIP = {"width": 64, "height": 64, "length": 25, "unit": "frames", "fps": 24.0}
KEPT = {"video_overlap": 9, "audio_overlap": 17}
GUIDANCE = {
    f"{name}_{stream}": value
    for name, value in {"cfg": 1.5, "modality": 1.0, "stg": 1.0, "rescale": 0.5}.items()
    for stream in ("video", "audio")
}


class Vae(samples.FakeVae):
    """The host's video VAE; keeps no notes, since those would be a change of an input."""

    def encode(self, pixels):
        known = super().encode(pixels)
        self.calls.clear()
        return known


class AudioVae:
    """The host's audio VAE before 0.20."""

    def encode(self, audio):
        pieces = audio["waveform"][0].mean(0).split(audio["sample_rate"] // 25)
        return torch.stack([piece.mean() for piece in pieces]).reshape(1, 1, -1, 1).repeat(1, 8, 1, 16)


class Noise:
    """Noise that was made once and is handed out again and again."""

    seed = 3

    def __init__(self, made):
        self.made = made

    def generate_noise(self, latent):
        return self.made


REFERENCE = {"strength": 1.0, "attention": 0.5, "stages": "both stages"}


class PictureClock(torch.nn.Module):
    """As much of the host's LTX-2 network as has a picture clock."""

    audio_positional_embedding_max_pos = [20]

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)

    def _prepare_positional_embeddings(self, pixel_coords, frame_rate):
        return pixel_coords


def make(run, host, names: dict[str, str], output: Path) -> SimpleNamespace:
    """All values by name. names: tiny model files by role, which are in the host's folders; output: the host's output
    folder."""

    def first(name, **inputs):
        return run(name, **inputs).args[0]

    parts = load(run, names)
    vaes = {"video_vae": parts["video_vae"], "audio_vae": parts["audio_vae"]}
    prompts = {"prompt": "A lake.", "negative_prompt": "short"}
    positive, negative, _ = run("EncodePrompt", text_encoder=parts["text_encoder"], **prompts).args
    texts = {"positive": positive, "negative": negative}
    preset = first("Preset", preset="ltx2_hq", steps=1, refine_steps=2, sampler="euler", two_stages="on")

    def in_stages(clip):
        half = first("Denoise", latent=clip, model=parts["model"], seed=5, preset=preset, **texts, **vaes)
        larger = first("Upsample", latent=half, upsampler=parts["upsampler"], video_vae=parts["video_vae"])
        return half, larger, first("Refine", latent=larger, model=parts["model"], video_vae=parts["video_vae"], **texts)

    def in_full(clip):
        images = first("DecodeVideo", latent=clip, video_vae=parts["video_vae"])
        audio = first("DecodeAudio", latent=clip, audio_vae=parts["audio_vae"])
        return images, audio, *run("MakeState", latent=clip, images=images, audio=audio, **KEPT).args

    _, _, finished = in_stages(first("PrepareLatent", **CLIP))
    images, audio, state, segment = in_full(finished)
    pictures = first("AddImage", image=samples.frames(1), frame=24, strength=0.9)
    pictures = first("AddClip", frames=samples.frames(9), frame=9, strength=0.8, conditions=pictures)
    shown = first("ReferenceVideo", frames=samples.frames(25), conditions=pictures, **REFERENCE)
    shown = first("ReferenceVoice", voice=samples.sound(2), identity=3.0, conditions=shown)
    carried = first("ContinueFrom", state=state, conditions=shown)
    clip = first("PrepareLatent", conditions=carried, **CLIP)
    half, larger, following = in_stages(clip)
    own = first("UseAudio", audio=samples.sound(25 / 24), conditions=pictures)
    own_clip = first("PrepareLatent", conditions=own, **CLIP)
    saved = run("SaveState", state=state, filename_prefix="state", form="PNG card")
    return SimpleNamespace(
        names=names,
        parts=parts,
        vaes=vaes,
        texts=texts,
        preset=preset,
        guidance=first("Guidance", stg_blocks="0", **GUIDANCE),
        pictures=pictures,
        carried=carried,
        own=own,
        clip=clip,
        half=half,
        larger=larger,
        finished=finished,
        images=images,
        audio=audio,
        state=state,
        segment=segment,
        next_segment=in_full(following)[3],
        own_clip=own_clip,
        own_finished=in_stages(own_clip)[2],
        card=(output / saved.ui["images"][0]["filename"]).read_bytes(),
        **of_the_host(host, half, finished, first("LoadUpsampler", upsampler=names["temporal_upsampler"])),
    )


def of_the_host(host, half, finished, temporal) -> dict:
    """What the host's own nodes hand over: noise, a model, VAEs, latents with and without masks."""
    network = torch.nn.Module()
    network.diffusion_model = PictureClock()
    noise = [torch.randn(part.shape) for part in (half.latent.video, half.latent.audio)]
    latent = {"samples": host.nested(finished.latent.video.float(), finished.latent.audio.float()), "batch_index": [0]}
    masks = [torch.ones(1, 1, *part.shape[2:]) for part in (finished.latent.video, finished.latent.audio)]
    return {
        "temporal": temporal,
        "sigmas": torch.tensor([1.0, 0.6, 0.0]),
        "noise": Noise(host.nested(*noise)),
        "native": host.patcher(network),
        "vae": Vae(),
        "audio_vae": AudioVae(),
        "frames": samples.frames(9),
        "sound": samples.sound(25 / 24),
        "latent": latent,
        "masked": {**latent, "noise_mask": host.nested(*masks)},
    }
