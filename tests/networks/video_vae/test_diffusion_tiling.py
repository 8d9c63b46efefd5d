"""Tiles of the diffusion decoder and the plan for the memory there is."""

from dataclasses import replace

import pytest
import torch

from ltx2.config.diffusion_decoder import DiffusionDecoderConfig
from ltx2.errors import RequestError
from ltx2.networks.video_vae import diffusion_decoder
from ltx2.networks.video_vae.diffusion_decoder import DiffusionDecoder
from ltx2.networks.video_vae.diffusion_tiling import (
    peak_bytes,
    plan_diffusion_decode,
    smallest_tile,
    stream_diffusion_decode,
    tile_places,
)
from ltx2.networks.video_vae.tiling import Tiling

from .diffusion_references import SMALL, LiveBytes, random_decoder
from .test_diffusion_decoder import latent, no_grad  # noqa: F401

pytestmark = pytest.mark.usefixtures("no_grad")
TILES = Tiling(96, 32, 24, 8)
SHALLOW = replace(SMALL, depths=(1, 1, 1, 1, 1))


def joined(decoder, z, **options):
    return torch.cat(list(stream_diffusion_decode(decoder, z, **options)), 2)


def test_one_tile_is_the_whole_decode():
    decoder = random_decoder(SHALLOW)
    for shape in ((1, 8, 4, 3, 3), (1, 8, 1, 2, 2)):
        z = latent(*shape)
        assert torch.equal(joined(decoder, z, tiling=None), decoder(z))
    # tiles larger than the clip are one tile too
    assert torch.equal(joined(decoder, z), decoder(z))


@pytest.mark.parametrize("frames, rows, columns", [(16, 16, 24), (31, 34, 60), (3, 7, 7), (11, 7, 8), (121, 17, 30)])
@pytest.mark.parametrize(
    "tiling", [Tiling(320, 160, 80, 40), Tiling(768, 160, 80, 40), Tiling(None, 0, 96, 40), Tiling(384, 160, None, 0)]
)
def test_tiles_cover_everything_once(frames, rows, columns, tiling):
    config = DiffusionDecoderConfig()
    places = tile_places(config, (frames, rows, columns), tiling)
    least = smallest_tile(config)
    assert least == (6, 6, 6)
    sizes = ((8 * frames - 7, 4 * frames - 3, 2), (32 * rows, 4 * rows, 8), (32 * columns, 4 * columns, 8))
    for axis, (size, cells, unit) in zip(places, sizes):
        total = torch.zeros(size)
        for place in axis:
            total[place.target] += place.weights
            read = place.source.stop - place.source.start
            assert read >= min(least[0], cells)
            twin = 1 if unit == 2 and place.source.start == 0 else 0
            assert place.target.stop - place.target.start == read * unit - twin
        assert (total - 1).abs().max() < 1e-5 and axis[-1].target.stop == size and axis[-1].source.stop == cells


def test_tiled_pixels_are_close_and_in_order():
    """With a context that matters and little noise, tiles agree with the whole where no tile edge is near."""
    decoder = random_decoder(SHALLOW, steps=2)
    z = latent(1, 8, 5, 3, 5)
    whole = decoder(z)
    pieces = list(stream_diffusion_decode(decoder, z, tiling=TILES))
    assert len(pieces) == 2 and sum(piece.shape[2] for piece in pieces) == 33
    tiled = torch.cat(pieces, 2)
    assert tiled.shape == whole.shape and (tiled - whole).abs().mean() < 0.1 * whole.abs().mean()
    assert (tiled[:, :, :8, :, :32] - whole[:, :, :8, :, :32]).abs().max() < 1e-4 * whole.abs().max()


def test_tiles_in_low_memory():
    decoder, z = random_decoder(SHALLOW), latent(1, 8, 5, 3, 3)
    plain, low = (joined(decoder, z, tiling=TILES, low_memory=low) for low in (False, True))
    assert (low - plain).abs().max() < 1e-4 * plain.abs().max()


def test_each_tile_of_a_single_step_draws_its_noise_in_order():
    decoder, z = random_decoder(SHALLOW), latent(1, 8, 3, 3, 5)
    drawn = []
    original = diffusion_decoder.draw_noise
    with pytest.MonkeyPatch.context() as patch:
        record = lambda shape, *args, **options: drawn.append(tuple(shape)) or original(shape, *args, **options)  # noqa: E731
        patch.setattr("ltx2.networks.video_vae.diffusion_tiling.draw_noise", record)
        first = joined(decoder, z, tiling=TILES)
    assert drawn == [(1, 3, 17, 96, 96)] * 2
    assert torch.equal(joined(decoder, z, tiling=TILES), first)


def test_progress_can_stop_the_work():
    decoder, z = random_decoder(SHALLOW), latent(1, 8, 5, 3, 3)
    seen = []
    for _ in stream_diffusion_decode(decoder, z, tiling=TILES, progress=lambda p: seen.append((p.done, p.total))):
        pass
    assert [done for done, _ in seen] == list(range(seen[0][1] + 1))

    def stop(progress):
        if progress.done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        joined(decoder, z, tiling=TILES, progress=stop)


def test_tiles_below_the_windows_are_one_sentence():
    decoder = DiffusionDecoder(replace(SMALL, kernels=((3, 3, 3),) * 4 + ((11, 41, 41),)), device="meta")
    with pytest.raises(RequestError, match="at least 168"):
        list(
            stream_diffusion_decode(
                decoder, torch.empty(1, 8, 9, 16, 16, device="meta"), tiling=Tiling(128, 32, 64, 16)
            )
        )
    with pytest.raises(RequestError, match="expected"):
        stream_diffusion_decode(decoder, torch.empty(1, 3, 9, 16, 16))


def test_plan_repeats_least_work_that_fits():
    config = DiffusionDecoderConfig()
    small, hd = (1, 128, 16, 16, 24), (1, 128, 16, 34, 60)
    assert plan_diffusion_decode(config, small, 80 * 2**30).tiling is None
    assert not plan_diffusion_decode(config, small, 80 * 2**30).low_memory
    last = None
    for gib in (80, 40, 24, 16, 8, 6, 4):
        plan = plan_diffusion_decode(config, hd, gib * 2**30)
        assert plan.fits and plan.peak_bytes <= gib * 2**30 and "GiB" in str(plan)
        assert last is None or plan.peak_bytes <= last
        last = plan.peak_bytes
    tight = plan_diffusion_decode(config, hd, 2**30)
    assert not tight.fits and tight.low_memory and tight.tiling.pixels == 320
    for option in ({"fused": False}, {"blended_here": True}, {"itemsize": 4}):
        more = plan_diffusion_decode(config, hd, 2**30, **option)
        assert more.peak_bytes > tight.peak_bytes


@pytest.mark.parametrize("low_memory", [False, True])
@pytest.mark.parametrize("tiling", [None, Tiling(320, 160, 80, 40)])
def test_estimate_bounds_what_is_live(tiling, low_memory, monkeypatch):
    """Real widths on meta tensors, one block a stage, attention as in a fused kernel."""
    monkeypatch.setattr(diffusion_decoder, "neighborhood_attention", lambda q, k, v, kernel: torch.empty_like(v))
    monkeypatch.setattr(diffusion_decoder, "PIECE_ELEMENTS", 2**25)
    monkeypatch.setattr("ltx2.networks.video_vae.diffusion_tiling.PIECE_ELEMENTS", 2**25)
    empty = lambda shape, generator, like, stay=False: like.new_empty(shape)  # noqa: E731
    monkeypatch.setattr("ltx2.networks.video_vae.diffusion_tiling.draw_noise", empty)
    decoder = DiffusionDecoder(DiffusionDecoderConfig(depths=(1, 1, 1, 1, 1)), device="meta", dtype=torch.bfloat16)
    z = torch.empty(1, 128, 11, 10, 15, device="meta", dtype=torch.bfloat16)
    with LiveBytes() as live:
        for piece in stream_diffusion_decode(decoder, z, tiling=tiling, low_memory=low_memory):
            del piece
    estimate = peak_bytes(decoder.config, (11, 10, 15), tiling, low_memory, blended_here=tiling is not None)
    assert 0.5 * estimate < live.peak <= 1.05 * estimate
