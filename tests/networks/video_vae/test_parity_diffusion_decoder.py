"""The diffusion decoder beside diffusers, and its attention beside comfy_kitchen."""

import pytest
import torch

from ltx2.networks.video_vae.neighborhood_attention import boxed_attention

from .diffusion_references import NARROW, in_diffusers, random_decoder


@pytest.mark.slow
@pytest.mark.parametrize("steps, output", [(1, "x0"), (2, "x0"), (2, "v")])
@torch.no_grad()
def test_same_pixels_as_diffusers(steps, output):
    pytest.importorskip("diffusers.models.autoencoders.ltx2_diffusion_decoder")
    ours = random_decoder(NARROW, steps=steps, output=output)
    theirs = in_diffusers(ours)
    latent = torch.randn(1, 8, 2, 2, 3, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(1, 3, 9, 64, 96, generator=torch.Generator().manual_seed(2))
    context = theirs.forward_stage_4(theirs.forward_stages_1_to_3(ours.per_channel_statistics.un_normalize(latent)))
    expected = theirs.denoise(context, noise, steps)
    for low_memory in (False, True):
        context = ours.context(ours.features(latent, low_memory=low_memory), low_memory=low_memory)
        pixels = ours.denoise(context, noise, low_memory=low_memory)
        assert (pixels - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    "grid, kernel",
    [((5, 9, 8), (3, 5, 5)), ((11, 12, 14), (11, 11, 11)), ((3, 7, 40), (3, 7, 7)), ((12, 5, 6), (3, 5, 5))],
)
def test_same_attention_as_comfy_kitchen(grid, kernel, monkeypatch):
    kitchen = pytest.importorskip("comfy_kitchen")
    if not hasattr(kitchen, "na3d"):
        pytest.skip("this comfy_kitchen has no neighbourhood attention")
    q, k, v = torch.randn(3, 2, *grid, 2, 8, generator=torch.Generator().manual_seed(0))
    expected = kitchen.na3d(q, k, v, list(kernel), None, 1.0)
    assert (boxed_attention(q, k, v, kernel) - expected).abs().max() <= 1e-5
    monkeypatch.setattr("ltx2.networks.video_vae.neighborhood_attention.MASK_ELEMENTS", 2**14)
    assert (boxed_attention(q, k, v, kernel) - expected).abs().max() <= 1e-5
