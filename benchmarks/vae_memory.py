"""Live-tensor peak of the video VAE at real sizes, on ``meta``: ``python -m benchmarks.vae_memory`` prints a table in
GiB.

bfloat16, 121 frames, beside the weights; without what convolution kernels use inside. Needs no GPU and little memory.
"""

import torch

from benchmarks.live_memory import live_peak
from ltx2.networks.video_vae.model import VideoDecoder, VideoEncoder
from ltx2.networks.video_vae.plan import decode_bytes, encode_bytes
from ltx2.networks.video_vae.streaming import stream_decode, stream_encode
from tests.networks.video_vae.samples import released

SIZES = ((512, 768), (1088, 1920))
PIECES = (None, 16, 8, 4, 2, 1)
FRAMES = 121
GIB = 2**30


def drain(stream):
    for piece in stream:
        del piece


def measure(version: str, height: int, width: int, piece_frames: int | None):
    """(decode measured, decode estimated, encode measured, encode estimated), in bytes."""
    config, where = released(version), {"device": "meta", "dtype": torch.bfloat16}
    decoder, encoder = VideoDecoder(config, **where), VideoEncoder(config, **where)
    latent = torch.empty(1, config.latent_channels, (FRAMES - 1) // 8 + 1, height // 32, width // 32, **where)
    clip = torch.empty(1, 3, FRAMES, height, width, **where)
    if piece_frames is None:
        down, up = (lambda: decoder(latent)), (lambda: encoder(clip))
    else:
        down = lambda: drain(stream_decode(decoder, latent, piece_frames=piece_frames))  # noqa: E731
        up = lambda: drain(stream_encode(encoder, clip, piece_frames=piece_frames))  # noqa: E731
    shape, dtype = latent.shape, latent.dtype
    return (
        live_peak(down),
        decode_bytes(config, shape, dtype, piece_frames),
        live_peak(up),
        encode_bytes(config, shape, dtype, piece_frames),
    )


def main() -> None:
    print("| VAE | picture | pieces | decode | (plan) | encode | (plan) |\n|---|---|---|---|---|---|---|")
    for version in ("2.0", "2.3"):
        for height, width in SIZES:
            for piece_frames in PIECES:
                row = " | ".join(f"{size / GIB:.2f}" for size in measure(version, height, width, piece_frames))
                print(f"| {version} | {width}×{height} | {piece_frames or 'whole'} | {row} |", flush=True)


if __name__ == "__main__":
    main()
