"""Tiles: how axes are cut, that weights sum to one, and that blending puts every piece where it belongs."""

import pytest
import torch

from ltx2.errors import RequestError
from ltx2.networks.video_vae.tiling import (
    Span,
    Tiling,
    blend_tiles,
    decode_space_places,
    decode_time_places,
    encode_space_places,
    encode_time_places,
    fade_weights,
    split_axis,
    tiled_decode,
    tiled_encode,
)

from .samples import decoder, encoder, noise


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def test_axis_is_cut_as_the_official_tiling_cuts_it():
    assert split_axis(8, 8, 2) == (Span(0, 8),)
    assert split_axis(8, None, 2) == (Span(0, 8),)
    assert split_axis(20, 8, 2) == (Span(0, 8, 0, 2), Span(6, 14, 2, 2), Span(12, 20, 2, 0))
    assert split_axis(56, 24, 8, causal=True) == (Span(0, 24, 0, 8), Span(15, 40, 9, 8), Span(31, 56, 9, 0))
    assert split_axis(15, 8, 2, minimum=6) == (Span(0, 8, 0, 2), Span(6, 14, 2, 5), Span(9, 15, 5, 0))


def test_fades():
    torch.testing.assert_close(fade_weights(6, 2, 1), torch.tensor([1 / 3, 2 / 3, 1, 1, 1, 0.5]))
    torch.testing.assert_close(fade_weights(4, 2, 0, from_zero=True), torch.tensor([0, 0.5, 1, 1]))
    assert fade_weights(3, 9, 9).shape == (3,)


@pytest.mark.parametrize("length", range(1, 40))
@pytest.mark.parametrize("places", (decode_time_places, decode_space_places, encode_time_places, encode_space_places))
def test_weights_sum_to_one_and_cover_the_axis(length, places):
    for tiling in (
        Tiling(),
        Tiling(128, 32, 32, 16),
        Tiling(256, 64, 64, 24),
        Tiling(96, 64, 16, 8),
        Tiling(None, 0, None, 0),
    ):
        axis = places(length, tiling)
        end = {"decode_time_places": 8 * length - 7, "decode_space_places": 32 * length}.get(places.__name__, length)
        total = torch.zeros(end)
        for place in axis:
            assert place.weights.shape == (place.target.stop - place.target.start,)
            total[place.target] += place.weights
        torch.testing.assert_close(total, torch.ones(end))


def test_official_trapezoids_sum_to_one_by_themselves():
    spans = split_axis(16, 10, 3, causal=True)
    total = torch.zeros(121)
    for span in spans:
        start, stop = 8 * span.start, 8 * (span.end - 1) + 1
        fade_in = 1 + 8 * (span.fade_in - 1) if span.fade_in else 0
        total[start:stop] += fade_weights(stop - start, fade_in, 8 * span.fade_out, from_zero=True)
    torch.testing.assert_close(total, torch.ones(121))


@pytest.mark.parametrize("latents", (1, 7, 16, 23))
def test_blending_puts_everything_in_its_place(latents):
    """A decoder that only repeats its latent: tiles of it must give the same clip again."""

    def repeat(latent):
        frames = latent.repeat_interleave(8, 2)[:, :, 7:]
        return frames.repeat_interleave(32, 3).repeat_interleave(32, 4)

    latent = noise(1, 3, latents, 5, 7)
    pieces = list(tiled_decode(repeat, latent, Tiling(96, 32, 32, 16)))
    wanted = repeat(latent)
    joined = torch.cat(pieces, 2)
    assert joined.shape == wanted.shape and (latents < 5 or len(pieces) > 1)
    torch.testing.assert_close(joined, wanted)


@pytest.mark.parametrize("frames", (1, 49, 121))
def test_encoding_tiles_go_where_they_belong(frames):
    def average(clip):
        first, rest = clip[:, :, :1], clip[:, :, 1:]
        latent = torch.cat([first, rest.unflatten(2, (-1, 8)).mean(3)], 2)
        return latent.unflatten(3, (-1, 32)).mean(4).unflatten(4, (-1, 32)).mean(5)

    clip = noise(1, 3, frames, 160, 224)
    # The single latent that a tile makes of its first frame alone has weight 0.
    torch.testing.assert_close(tiled_encode(average, clip, Tiling(96, 64, 32, 16)), average(clip))


@pytest.mark.parametrize("version", ("2.0", "2.3"))
def test_tiles_of_real_networks(version):
    model, latent = decoder(version), noise(1, 4, 7, 4, 6)
    whole, reports = model(latent), []
    tiled = torch.cat(list(tiled_decode(model, latent, Tiling(96, 32, 32, 16), progress=reports.append)), 2)
    assert tiled.shape == whole.shape and tiled.dtype == torch.float32
    # Where only the first tile reaches, the clip is that tile.
    torch.testing.assert_close(tiled[:, :, :9, :64, :64], model(latent[:, :, :4, :3, :3])[:, :, :9, :64, :64])
    assert [report.done for report in reports] == list(range(len(reports))) and reports[0].total == len(reports) > 4
    one = torch.cat(list(tiled_decode(model, latent, Tiling())), 2)
    torch.testing.assert_close(one, whole)
    there, clip = encoder(version), noise(1, 3, 49, 128, 160)
    assert tiled_encode(there, clip, Tiling(128, 64, 32, 16)).shape == there(clip).shape
    torch.testing.assert_close(tiled_encode(there, clip, Tiling()), there(clip))


def test_requests_that_make_no_sense():
    for arguments in ((100, 32), (768, 40), (768, 768), (32, 0), (768, 64, 20, 8), (768, 64, 80, 12)):
        with pytest.raises(RequestError, match="expected multiples"):
            Tiling(*arguments)
    with pytest.raises(RequestError, match="32 pixels, expected at least 64 and by 8 frames"):
        tiled_encode(None, torch.zeros(1, 3, 9, 64, 64), Tiling(96, 32, 16, 8))
    places = decode_time_places(1, Tiling()), decode_space_places(2, Tiling()), decode_space_places(2, Tiling())
    with pytest.raises(RequestError, match="came out as"):
        list(blend_tiles(lambda *_: torch.zeros(1, 3, 2, 64, 64), *places))
