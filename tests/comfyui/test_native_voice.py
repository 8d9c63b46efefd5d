"""A reference voice as ComfyUI's own model hears it and as the engine does, on the same small weights."""

import pytest
import torch

from .conftest import REAL
from .shelf import shelf  # noqa: F401

SIGMAS = (1.0, 0.5, 0.0)


@pytest.mark.skipif(not REAL, reason="needs ComfyUI's own model and sampler")
def test_a_voice_changes_a_clip_as_in_the_hosts_own_model(pack, folders, shelf):  # noqa: F811
    """The host puts the voice in front of the sound, the engine behind it. Its numbers are those of half precision, so
    what is compared is what the voice changes."""
    import comfy.nested_tensor
    import comfy.samplers
    import comfy.sd

    from ltx2.checkpoint.models import load_transformer
    from ltx2.checkpoint.reader import open_checkpoint
    from ltx2.stages.conditioning import Conditioning
    from ltx2.stages.denoising import ClipClock, Compute, Prompts, Sampling, denoise
    from ltx2.stages.latent_preparation import noise_from_latents
    from ltx2.values import AVLatent, TextContext

    path = folders / "models/checkpoints" / shelf("2.3")["transformer"]
    model = comfy.sd.load_checkpoint_guess_config(str(path), output_vae=False, output_clip=False)[0]
    network = model.model.diffusion_model
    drawn_from = torch.Generator().manual_seed(3)
    noise = AVLatent(
        torch.randn(1, 128, 2, 2, 2, generator=drawn_from), torch.randn(1, 8, 10, 16, generator=drawn_from)
    )
    voice = torch.randn(1, 8, 6, 16, generator=drawn_from)
    width = network.cross_attention_dim
    text = torch.randn(1, 16, width + network.audio_cross_attention_dim, generator=drawn_from)

    def theirs(heard):
        tokens = {} if heard is None else {"ref_audio": {"tokens": heard.transpose(1, 2).flatten(2)}}
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(*[[[text, {"frame_rate": 24.0, **tokens}]]] * 2)
        guider.set_cfg(1.0)
        start = comfy.nested_tensor.NestedTensor((torch.zeros_like(noise.video), torch.zeros_like(noise.audio)))
        drawn = comfy.nested_tensor.NestedTensor((noise.video, noise.audio))
        euler, sigmas = comfy.samplers.sampler_object("euler"), torch.tensor(SIGMAS)
        with torch.inference_mode():
            found = guider.sample(drawn, start, euler, sigmas, seed=1, disable_pbar=True)
        return [part.float() for part in found.unbind()]

    transformer = load_transformer(open_checkpoint(path), dtype=torch.float32, device="cpu")

    def ours(heard):
        conditioning = Conditioning(voice=heard)
        found = denoise(
            transformer, noise.map(torch.zeros_like), Prompts(TextContext(text[..., :width], text[..., width:])),
            Sampling(SIGMAS, noise_from_latents(noise, conditioning=conditioning)), clock=ClipClock(24),
            compute=Compute("cpu", torch.float32), conditioning=conditioning,
        )  # fmt: skip
        return found.video, found.audio

    for with_theirs, without_theirs, with_ours, without_ours in zip(
        theirs(voice), theirs(None), ours(voice), ours(None)
    ):
        change, expected = (with_ours - without_ours).flatten(), (with_theirs - without_theirs).flatten()
        assert expected.abs().max() > 0.05
        assert torch.cosine_similarity(change, expected, dim=0) > 0.98
        assert (change - expected).norm() < 0.2 * expected.norm()
