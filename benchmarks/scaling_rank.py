"""One rank of ``benchmarks.scaling --gloo``: times a small transformer call shared over processes; rank 0 prints."""

import os
import statistics
import sys
import time
from pathlib import Path

import torch

from ltx2.networks.layers.rope import video_positions
from ltx2.networks.transformer.model import StreamInput
from ltx2.parallel.passes import ParallelTransformer
from ltx2.parallel.ranks import STORE_VARIABLE, joined
from tests.networks.transformer.samples import small_config, small_transformer

FRAMES, HEIGHT, WIDTH = 8, 16, 16


def main(size: int, rank: int, store: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), STORE_VARIABLE: str(store)}
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    config = small_config("2.3", num_layers=4, num_attention_heads=8, attention_head_dim=64)
    config |= {"audio_num_attention_heads": 8, "audio_attention_head_dim": 32}
    config |= {"cross_attention_dim": 512, "audio_cross_attention_dim": 256}
    network, tokens = small_transformer(config), FRAMES * HEIGHT * WIDTH
    video = StreamInput(
        latent=torch.randn(1, tokens, 8),
        timesteps=torch.full((1, 1), 0.9),
        sigma=torch.full((1,), 0.9),
        positions=video_positions(FRAMES, HEIGHT, WIDTH, 24, device="cpu"),
        context=torch.randn(1, 64, 512),
    )
    with joined("cpu") as ranks:
        model = ParallelTransformer(network, ranks)
        seconds = []
        for _ in range(6):
            begun = time.perf_counter()
            model(video, None)
            seconds.append(time.perf_counter() - begun)
    if rank == 0:
        print(f"{statistics.median(seconds[1:]):.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
