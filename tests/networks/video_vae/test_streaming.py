"""Streaming gives the numbers of the whole clip, in order, in memory that the length does not change."""

import pytest
import torch

from benchmarks.live_memory import live_peak
from ltx2.errors import RequestError
from ltx2.networks.video_vae.model import VideoDecoder, VideoEncoder
from ltx2.networks.video_vae.streaming import default_piece_frames, stream_decode, stream_encode

from .samples import compress, decoder, encoder, noise, released, res

GIB = 2**30


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def close(ours, wanted):
    assert ours.shape == wanted.shape
    assert (ours - wanted).abs().max() <= 1e-5 * wanted.abs().max().clamp(min=1)


KINDS = ("2.0", {}), ("2.3", {}), ("2.0", {"timestep_conditioning": True}), ("2.3", {"causal_decoder": True})


@pytest.mark.parametrize("piece_frames", (None, 1, 2, 3, 8))
@pytest.mark.parametrize("version, more", KINDS)
def test_decoding_in_pieces_is_exact(version, more, piece_frames):
    model = decoder(version, layers=(1, 2, 1, 1, 1), **more)
    for latents in (1, 2, 5):
        latent = noise(2, 4, latents, 2, 3, seed=latents)
        pieces = list(stream_decode(model, latent, piece_frames=piece_frames))
        close(torch.cat(pieces, 2), model(latent))
        assert piece_frames is None or max(piece.shape[2] for piece in pieces) <= piece_frames + 2


@pytest.mark.parametrize("piece_frames", (None, 1, 2, 3, 5, 8))
@pytest.mark.parametrize("version", ("2.0", "2.3"))
def test_encoding_in_pieces_is_exact(version, piece_frames):
    model = encoder(version, layers=(1, 2, 1, 1, 1))
    for frames in (1, 9, 33):
        clip = noise(2, 3, frames, 32, 64, seed=frames).clamp(-1, 1)
        close(torch.cat(list(stream_encode(model, clip, piece_frames=piece_frames)), 2), model(clip))


def test_pictures_may_come_in_parts_of_any_length():
    model, clip = encoder(), noise(1, 3, 25, 32, 32).clamp(-1, 1)
    parts = clip.split([3, 1, 11, 10], 2)
    close(torch.cat(list(stream_encode(model, iter(parts), piece_frames=4)), 2), model(clip))
    with pytest.raises(RequestError, match="15 frames, expected 8k.1: use 9 or 17"):
        list(stream_encode(model, parts[:3]))
    with pytest.raises(RequestError, match="multiples of 32"):
        list(stream_encode(model, [clip[..., :20]]))


def test_noise_is_the_same_in_pieces():
    blocks = [
        ["res_x", {"num_layers": 1, "inject_noise": True}],
        ["compress_all", {"multiplier": 2}],
        ["res_x", {"num_layers": 2}],
    ]
    model = decoder(decoder_blocks=blocks, timestep_conditioning=True)
    latent = noise(1, 4, 4, 2, 2)
    whole = model(latent, generator=torch.Generator().manual_seed(3))
    pieces = stream_decode(model, latent, piece_frames=1, generator=torch.Generator().manual_seed(3))
    close(torch.cat(list(pieces), 2), whole)
    assert not torch.allclose(whole, model(latent))


def test_frames_come_before_the_end_and_work_can_be_stopped():
    model, latent, reports = decoder(), noise(1, 4, 30, 1, 1), []
    stream = stream_decode(model, latent, piece_frames=8, progress=reports.append)
    next(stream)
    assert reports and all(report.done == 0 and report.total == 233 for report in reports)
    seen = len(reports)
    rest = sum(piece.shape[2] for piece in stream)
    assert rest and len(reports) > seen and (reports[-1].done, reports[-1].total) == (233, 233)
    assert [report.done for report in reports] == sorted(report.done for report in reports)

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(stream_decode(model, latent, progress=stop))
    with pytest.raises(KeyboardInterrupt):
        next(stream_encode(encoder(), noise(1, 3, 9, 32, 32), progress=stop))


def test_wrong_piece_sizes_are_refused_before_work():
    with pytest.raises(RequestError, match="piece size is 0"):
        stream_decode(decoder(), noise(1, 4, 1, 2, 2), piece_frames=0)
    with pytest.raises(RequestError, match="piece size is -1"):
        stream_encode(encoder(), noise(1, 3, 1, 32, 32), piece_frames=-1)


def drain(stream):
    for piece in stream:
        del piece


def decode_peak(model, latents, rows, columns, piece_frames):
    channels, dtype = model.config.latent_channels, next(model.parameters()).dtype
    latent = torch.empty(1, channels, latents, rows, columns, device="meta", dtype=dtype)
    return live_peak(lambda: drain(stream_decode(model, latent, piece_frames=piece_frames)))


def encode_peak(model, frames, height, width, piece_frames):
    clip = torch.empty(1, 3, frames, height, width, device="meta", dtype=next(model.parameters()).dtype)
    return live_peak(lambda: drain(stream_encode(model, clip, piece_frames=piece_frames)))


def test_a_minute_needs_no_more_memory_than_ten_seconds():
    """At 12 frames per second, with few layers: the length must not show at all."""
    blocks = [compress("all", 2), res(1), compress("all", 2), res(1), compress("all", 2)]
    down = decoder("2.3", decoder_blocks=blocks).to("meta")
    assert decode_peak(down, 91, 2, 2, 8) <= decode_peak(down, 16, 2, 2, 8)
    blocks = [compress("space_res", 2), res(1), compress("time_res", 2), compress("all_res", 2), compress("all_res", 1)]
    up = encoder("2.3", encoder_blocks=blocks).to("meta")
    assert encode_peak(up, 721, 32, 32, 8) <= encode_peak(up, 121, 32, 32, 8)


def test_decoding_peak_at_real_size():
    """1920×1088, 121 frames, bfloat16: GiB of live tensors beside the weights, in pieces of 8 frames."""
    model = VideoDecoder(released("2.3"), device="meta", dtype=torch.bfloat16)
    assert decode_peak(model, 16, 34, 60, 8) <= 2.75 * GIB


def test_encoding_peak_at_real_size():
    model = VideoEncoder(released("2.3"), device="meta", dtype=torch.bfloat16)
    assert encode_peak(model, 121, 1088, 1920, 8) <= 2.65 * GIB
    clip = torch.empty(1, 3, 1, 1088, 1920, device="meta", dtype=torch.bfloat16)
    assert live_peak(lambda: model(clip)) <= 0.25 * GIB


def test_small_pictures_get_longer_pieces():
    assert default_piece_frames(released("2.3"), 34, 60, torch.bfloat16) == 8
    assert default_piece_frames(released("2.3"), 4, 4, torch.bfloat16) == 256
