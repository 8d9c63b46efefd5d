"""Pictures and sound in and out: the video VAE at each piece size, the diffusion decoder, the sound networks."""

import copy
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch

from ltx2.networks.audio.vae import AudioDecoder
from ltx2.networks.audio.vocoder import make_vocoder
from ltx2.networks.video_vae.diffusion_decoder import DiffusionDecoder
from ltx2.networks.video_vae.diffusion_tiling import plan_diffusion_decode, stream_diffusion_decode
from ltx2.networks.video_vae.model import VideoDecoder, VideoEncoder
from ltx2.networks.video_vae.neighborhood_attention import boxed_attention
from ltx2.networks.video_vae.plan import decode_bytes, encode_bytes
from ltx2.networks.video_vae.streaming import stream_decode, stream_encode
from ltx2.stages.memory import free_bytes

from .kernels import launches
from .networks import filled
from .session import GIB, Session, Timing, rounded
from .sizes import Clip

HALF = torch.bfloat16
WAYS = ("fastest convolutions searched for", "channels last")


def _drain(stream: Iterable[Any]) -> None:
    for piece in stream:
        del piece


def _figures(timing: Timing, clip: Clip, estimate: int | None = None) -> dict[str, Any]:
    planned = {} if estimate is None else {"plan GiB": rounded(estimate / GIB)}
    return {
        "frames": clip.frames,
        "ms a frame": rounded(1e3 * timing.seconds / clip.frames),
        **timing.figures,
        **planned,
    }


def video(session: Session) -> None:
    """Decoding and encoding by pieces; the largest picture first, in whole clips and in the usual pieces."""
    config, to = session.sizes.video_vae, (session.device, HALF)
    decoder = filled(VideoDecoder(config, device="meta"), *to)
    encoder = filled(VideoEncoder(config, device="meta"), *to)
    for clip in reversed(session.sizes.clips):
        for pieces in session.sizes.pieces:
            if session.cuda and clip is not session.sizes.clips[-1] and pieces not in (8, None):
                continue
            case = f"{clip}, {'whole' if pieces is None else f'pieces of {pieces}'}"
            session.attempt(f"decode {case}", partial(_decode, session, decoder, clip, pieces), 20 * session.cuda)
            session.attempt(f"encode {case}", partial(_encode, session, encoder, clip, pieces), 20 * session.cuda)
    clip, pieces = session.sizes.clips[len(session.sizes.clips) // 2], session.sizes.pieces[0]
    for way in session.few(WAYS):
        case = f"decode {clip.width}×{clip.height}, pieces of {pieces}, {way}"
        session.attempt(case, partial(_decode_otherwise, session, way, decoder, (clip, pieces)), 15 * session.cuda)
    session.attempt("kernels of decoding", partial(_decode_kernels, session, decoder), 10 * session.cuda)


def _latent(session: Session, clip: Clip) -> torch.Tensor:
    return torch.randn(1, session.sizes.video_vae.latent_channels, *clip.grid, device=session.device, dtype=HALF)


def _decode(session: Session, decoder: VideoDecoder, clip: Clip, pieces: int | None, way: str = "") -> None:
    latent = _latent(session, clip)

    def work() -> None:
        if pieces is None:
            decoder(latent)
        else:
            _drain(stream_decode(decoder, latent, piece_frames=pieces))

    timing = session.time(work, rounds=1)
    estimate = decode_bytes(decoder.config, tuple(latent.shape), HALF, pieces)
    case = f"decode {clip.width}×{clip.height}, {'whole' if pieces is None else f'pieces of {pieces}'}{way}"
    session.record("video VAE", case, **_figures(timing, clip, estimate))


def _decode_otherwise(session: Session, way: str, decoder: VideoDecoder, what: tuple[Clip, int]) -> None:
    """The same with a search for the fastest convolution, or with weights whose channels lie together."""
    before = torch.backends.cudnn.benchmark
    try:
        if way == WAYS[0]:
            torch.backends.cudnn.benchmark = True
        else:
            decoder = copy.deepcopy(decoder).to(memory_format=torch.channels_last_3d)
        _decode(session, decoder, *what, f", {way}")
    finally:
        torch.backends.cudnn.benchmark = before


def _encode(session: Session, encoder: VideoEncoder, clip: Clip, pieces: int | None) -> None:
    frames = torch.rand(1, 3, clip.frames, clip.height, clip.width, device=session.device, dtype=HALF)

    def work() -> None:
        if pieces is None:
            encoder(frames)
        else:
            _drain(stream_encode(encoder, frames, piece_frames=pieces))

    timing = session.time(work, rounds=1)
    estimate = encode_bytes(encoder.config, tuple(_latent(session, clip).shape), HALF, pieces)
    case = f"encode {clip.width}×{clip.height}, {'whole' if pieces is None else f'pieces of {pieces}'}"
    session.record("video VAE", case, **_figures(timing, clip, estimate))


def _decode_kernels(session: Session, decoder: VideoDecoder) -> None:
    latent = _latent(session, session.sizes.sample)

    def work() -> None:
        _drain(stream_decode(decoder, latent, piece_frames=8))

    work()
    session.wait()
    found = launches(work, cuda=session.cuda)
    case = f"kernels of decoding {session.sizes.sample}"
    session.record("video VAE", case, kernels=found.count, s=rounded(found.seconds), gaps=round(found.gaps, 3))
    for row in found.table():
        session.record("video VAE", f"{case}: {row.pop('kernel')}", **row)


def diffusion(session: Session) -> None:
    """The diffusion decoder of 2.5 and its attention, whole and as it is planned for a small card."""
    config, clip = session.sizes.diffusion, session.sizes.sample
    decoder = filled(DiffusionDecoder(config, device="meta"), session.device, HALF)
    latent = torch.randn(1, config.latent_channels, *clip.grid, device=session.device, dtype=HALF)
    budgets = {"all memory": free_bytes(session.device), "8 GiB": 8 * GIB}
    for name, budget in session.few(budgets.items()):
        plan = plan_diffusion_decode(config, tuple(latent.shape), budget, itemsize=2, fused=session.cuda)

        def work(plan=plan) -> None:
            pieces = stream_diffusion_decode(
                decoder, latent, tiling=plan.tiling, low_memory=plan.low_memory, device=session.device
            )
            _drain(pieces)

        def one(name=name, plan=plan, work=work) -> None:
            timing = session.time(work, rounds=1)
            session.record("diffusion decoder", f"{clip}, {name}", **_figures(timing, clip, plan.peak_bytes))

        session.attempt(name, one, 20 * session.cuda)
    session.attempt("attention", partial(_neighborhood, session), 10 * session.cuda)


def _neighborhood(session: Session) -> None:
    """The attention of each stage of the decoder, by torch alone."""
    config, (frames, rows, columns) = session.sizes.diffusion, session.sizes.sample.grid
    stages = zip(config.strides, config.kernels, config.channels)
    for stage, (stride, kernel, width) in enumerate(session.few(stages), 1):
        grid = (frames + config.ghost_latents) * stride[0], rows * stride[1], columns * stride[2]
        grid = tuple(max(size, window) for size, window in zip(grid, kernel))
        shape = (1, *grid, width // config.head_dim, config.head_dim)
        q, k, v = (torch.randn(shape, device=session.device, dtype=HALF) for _ in range(3))
        timing = session.time(lambda given=(q, k, v), kernel=kernel: boxed_attention(*given, kernel))
        needed = 4 * q.numel() * kernel[0] * kernel[1] * kernel[2]
        figures = {"window": "×".join(map(str, kernel)), "useful TFLOPS": rounded(needed / timing.seconds / 1e12)}
        session.record(
            "diffusion decoder",
            f"attention of stage {stage}, {q.shape[1:4].numel()} positions",
            **figures,
            **timing.figures,
        )


def sound(session: Session) -> None:
    """Five seconds of sound out of latents, in float32 as always."""
    decoder = filled(AudioDecoder(session.sizes.audio_vae, device="meta"), session.device, torch.float32)
    vocoder = make_vocoder(session.sizes.vocoder).to(session.device).eval().requires_grad_(False)
    count = session.sizes.clips[-1].sounds
    latent = torch.randn(1, 8, count, session.sizes.audio_vae.latent_bins, device=session.device)
    mel = decoder(latent)
    timing = session.time(lambda: decoder(latent))
    session.record("sound", f"audio decoder, {count} latents", **timing.figures)
    timing = session.time(lambda: vocoder(mel), rounds=2)
    session.record("sound", f"vocoder, {mel.shape[2]} mel frames", **timing.figures)
