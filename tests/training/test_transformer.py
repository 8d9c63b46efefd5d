"""What is trained is what the engine runs."""

from fractions import Fraction

import pytest
import torch

from training.engine import StreamInput, audio_positions, video_positions
from training.latents import AUDIO_CHANNELS, VIDEO_CHANNELS
from training.samples import FRAMES, Sampler, joins_of
from training.start import EDGES, initialise
from training.train import Plan, Tables, begin, draw_batch, losses
from training.transformer import CONTEXT, NEUTRAL, Inputs, MiniTransformer, rotations


@pytest.fixture(scope="module")
def model():
    made = MiniTransformer()
    initialise(made, 0)
    return made


def perturbed(model: MiniTransformer) -> MiniTransformer:
    """The same weights, none of them zero or one."""
    torch.manual_seed(1)
    made = MiniTransformer()
    made.load_state_dict({name: value + 0.05 * torch.randn_like(value) for name, value in model.state_dict().items()})
    return made


def whole_context(words: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """All 1024 vectors that the engine attends to."""
    rows = [[index for index in row if index != NEUTRAL] for row in classes.tolist()]
    ids = torch.tensor([row + [NEUTRAL] * (CONTEXT - len(row)) for row in rows])
    return torch.nn.functional.rms_norm(words[ids], words.shape[1:], eps=1e-6)


@torch.no_grad()
def test_forward_is_the_engines(model):
    model, offset, latents = perturbed(model), Fraction(124, 75), 93
    video, audio, sigma = torch.randn(2, 84, 128), torch.randn(2, latents, 128), torch.tensor([0.7, 0.3])
    classes = torch.tensor([[0, 6, 9, 13], [5, NEUTRAL, 11, 14]])
    clean_video = torch.arange(84)[None] < torch.tensor([[24], [12]])
    clean_audio = torch.arange(latents)[None] < torch.tensor([[51], [0]])
    tables = rotations(model.net, FRAMES, latents, [offset])
    ours = model(Inputs(video, audio, sigma, classes, clean_video, clean_audio, tables))
    times = [~clean * sigma[:, None] for clean in (clean_video, clean_audio)]
    places = (
        video_positions(FRAMES, 3, 4, 24, video_offset_seconds=offset, device="cpu"),
        audio_positions(latents, device="cpu"),
    )
    words = model.video_words, model.audio_words
    streams = [
        StreamInput(x, time, sigma, place, whole_context(vectors, classes))
        for x, time, place, vectors in zip((video, audio), times, places, words)
    ]
    for got, wanted in zip(ours, model.net(*streams)):
        assert (got - wanted).abs().max() < 1e-3 * wanted.abs().max()


@torch.no_grad()
def test_edges_are_flagged_from_the_start(model):
    """The first block's feed-forward tells the border from pure noise."""
    found = {}
    block = model.net.transformer_blocks[0]
    handle = block.ff.net["2"].register_forward_hook(lambda _, given, out: found.update(out=out))
    torch.manual_seed(0)
    batch = Sampler(0).batch(8, (joins_of(FRAMES).anew,), (1.0,))
    inputs = (torch.randn(8, 84, 128), torch.randn(8, 52, 128), torch.ones(8), batch.classes)
    model(Inputs(*inputs, batch.clean_video, batch.clean_audio, Tables(model.net, "cpu").of(batch)))
    handle.remove()
    flags = found["out"][..., -24 : -24 + len(EDGES)].mean(0).unflatten(0, (FRAMES, 3, 4))
    for index, edge in enumerate((flags[0], flags[:, :, 0], flags[:, :, -1], flags[:, 0])):
        assert edge[..., index].min() > 0.8
    inside = flags[1:, 1:, 1:-1]
    assert inside.max() < 0.3


@torch.enable_grad()
def test_channels_without_a_meaning_are_left_alone(model):
    torch.manual_seed(0)
    run = begin(Plan())
    video, audio = losses(run.model, draw_batch(Sampler(0), Plan()), Tables(run.model.net, "cpu"), "cpu")
    (video + audio).backward()
    for layer, channels in (("patchify_proj", VIDEO_CHANNELS), ("audio_patchify_proj", AUDIO_CHANNELS)):
        assert getattr(run.model.net, layer).weight[:, channels + 1 : -5].abs().max() == 0
    for layer, channels in (("proj_out", VIDEO_CHANNELS), ("audio_proj_out", AUDIO_CHANNELS)):
        grown = getattr(run.model.net, layer)
        assert grown.weight[channels:].abs().max() == 0 and grown.weight.grad[channels:].abs().max() == 0
