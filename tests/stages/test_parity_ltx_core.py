"""External the models' own package: positions, appended guides, and the start of a stage."""

import pytest
import torch

from ltx2 import clock
from ltx2.sampling import noise
from ltx2.sampling.tokens import patchify_audio, patchify_video
from ltx2.stages.conditioning import Conditioning, add_guide, place_latent
from ltx2.stages.conditioning.references import ReferenceLatent, row_strengths
from ltx2.stages.denoising import ClipClock, streams
from ltx2.stages.latent_preparation import draw_noise, empty_latent

pytest.importorskip("ltx_core")
tools = pytest.importorskip("ltx_core.tools")
types = pytest.importorskip("ltx_core.types")
patchifiers = pytest.importorskip("ltx_core.components.patchifiers")
noisers = pytest.importorskip("ltx_core.components.noisers")
keyframes = pytest.importorskip("ltx_core.conditioning.types.keyframe_cond")
references = pytest.importorskip("ltx_core.conditioning.types.reference_video_cond")
strengths = pytest.importorskip("ltx_core.conditioning.types.attention_strength_wrapper")

SHAPE = (1, 128, 4, 2, 3)


def official(fps=24.0):
    shape = types.VideoLatentShape.from_torch_shape(torch.Size(SHAPE))
    patchifier = patchifiers.VideoLatentPatchifier(patch_size=1)
    made = tools.VideoLatentTools(patchifier=patchifier, target_shape=shape, fps=fps)
    return made, made.create_initial_state(device="cpu", dtype=torch.float32)


def test_tokens_and_their_order():
    video, audio = torch.randn(SHAPE), torch.randn(2, 8, 9, 16)
    assert torch.equal(patchify_video(video), patchifiers.VideoLatentPatchifier(patch_size=1).patchify(video))
    assert torch.equal(patchify_audio(audio), patchifiers.AudioPatchifier(patch_size=1).patchify(audio))


def test_a_clip_as_guides():
    """Positions and masks of a clip that stands later on. A single picture now lasts one frame, in the package still
    eight."""
    made, state = official()
    latent = torch.randn(1, 128, 2, 2, 3)
    expected = keyframes.VideoConditionByKeyframeIndex(keyframes=latent, frame_idx=9, strength=0.75).apply_to(
        state, made
    )
    start = empty_latent(width=96, height=64, frames=25, audio_latents=clock.audio_latents(25, 24))
    conditioning = add_guide(Conditioning(), latent, frame=9, strength=0.75)
    video = streams(start, conditioning, ClipClock(24)).video
    assert torch.allclose(video.positions, expected.positions, atol=1e-6)
    assert torch.equal(video.clean[:, 24:], expected.clean_latent[:, 24:])
    assert torch.allclose(video.mask, expected.denoise_mask)
    assert video.own == made.target_shape.token_count()


@pytest.mark.parametrize("fps", [24, 25, 30])
def test_positions_of_the_clip_itself(fps):
    _, state = official(float(fps))
    start = empty_latent(width=96, height=64, frames=25, audio_latents=clock.audio_latents(25, fps))
    video = streams(start, Conditioning(), ClipClock(fps)).video
    assert torch.allclose(video.positions, state.positions.expand_as(video.positions), atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.909375])
def test_noise_is_drawn_and_mixed_alike(scale):
    made, state = official()
    latent = torch.randn(1, 128, 1, 2, 3)
    start = empty_latent(width=96, height=64, frames=25, audio_latents=clock.audio_latents(25, 24))
    conditioning = place_latent(Conditioning(), latent, latent_frame=0, strength=1.0, shape=SHAPE)
    conditioning = add_guide(conditioning, latent, frame=12, strength=1.0)
    known = patchify_video(conditioning.video)
    official_state = types.LatentState(
        latent=torch.cat([known, patchify_video(latent)], dim=1),
        denoise_mask=torch.ones(1, 30, 1),
        positions=state.positions,
        clean_latent=state.clean_latent,
    )
    official_state.denoise_mask[:, :6] = 0
    official_state.denoise_mask[:, 24:] = 0
    expected = noisers.GaussianNoiser(torch.Generator().manual_seed(5))(official_state, noise_scale=scale).latent
    drawn = draw_noise(start, noise.generators(5, 1), conditioning=conditioning)
    video = streams(start, conditioning, ClipClock(24)).video
    assert torch.allclose(
        noise.add_noise(video.latent, video.clean, video.mask, drawn.video, scale), expected, atol=1e-6
    )


def test_references_stand_behind_everything():
    """Two references, the first half as large: tokens, positions and masks."""
    made, expected = official()
    given = [torch.randn(1, 128, 4, 1, 2), torch.randn(1, 128, 4, 2, 3)]
    for latent, factor, strength in zip(given, (2, 1), (1.0, 0.75)):
        condition = references.VideoConditionByReferenceLatent(latent, downscale_factor=factor, strength=strength)
        expected = condition.apply_to(expected, made)
    start = empty_latent(width=96, height=64, frames=25, audio_latents=clock.audio_latents(25, 24))
    conditioning = Conditioning(references=(ReferenceLatent(given[0], 2), ReferenceLatent(given[1], strength=0.75)))
    video = streams(start, conditioning, ClipClock(24)).video
    assert torch.allclose(video.positions, expected.positions, atol=1e-6)
    assert torch.equal(video.clean[:, 24:], expected.clean_latent[:, 24:])
    assert torch.allclose(video.mask, expected.denoise_mask) and video.attention is None
    assert video.own == made.target_shape.token_count() and not video.keyframes[:, 24:].any()


@pytest.mark.parametrize("weights", [(0.5, 0.25), (0.0, 1.0), ("tokens", 0.3), ("tokens", "tokens")])
def test_attention_to_references(weights):
    """As the package's matrix of all tokens by all tokens, with references that do not see each other."""
    made, expected = official()
    latents = [torch.randn(1, 128, 4, 1, 2), torch.randn(1, 128, 4, 2, 3)]
    weights = [torch.rand(one[0, 0].numel()) if w == "tokens" else w for one, w in zip(latents, weights)]
    for latent, factor, weight in zip(latents, (2, 1), weights):
        condition = references.VideoConditionByReferenceLatent(latent, downscale_factor=factor)
        wrapped = strengths.ConditioningItemAttentionStrengthWrapper(condition, weight)
        expected = wrapped.apply_to(expected, made)
    given = [ReferenceLatent(one, factor, attention=w) for one, factor, w in zip(latents, (2, 1), weights)]
    rows = row_strengths(24, given, apart=True)
    dense = torch.cat([row.strengths.expand(row.stop - row.start, -1) for row in rows])
    assert torch.allclose(dense[None], expected.attention_mask)
    assert [(row.start, row.stop) for row in rows] == [(0, 24), (24, 32), (32, 56)]
