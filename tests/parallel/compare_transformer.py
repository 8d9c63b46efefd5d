"""Run as several ranks: the transformer's velocities of all ranks together against those of one process."""

import functools
import sys
from dataclasses import replace

import torch

from ltx2.networks.layers.attention import RowStrength
from ltx2.networks.transformer.block import Perturbation
from ltx2.networks.transformer.model import StreamInput
from ltx2.parallel.passes import ParallelTransformer
from ltx2.parallel.ranks import joined
from ltx2.parallel.sequence import _tokens, exchanged
from ltx2.parallel.split import shares
from tests.networks.transformer.samples import inputs, small_config, small_transformer

LIMIT = 1e-5
CASES = (
    "plain",
    "first_frame",
    "appended",
    "frozen_audio",
    "slots",
    "fractional_mask",
    "sound_first",
    "by_rows",
    "few",
)
PERTURBED = (
    None,
    Perturbation(skip_video_self_attention=(1,), skip_audio_self_attention=(0,)),
    Perturbation(skip_audio_to_video=None, skip_video_to_audio=None),
)


@functools.cache
def network_of(version: str):
    """A version's configuration and a small transformer of it."""
    config = small_config(version, num_attention_heads=4, audio_num_attention_heads=4, attention_head_dim=8)
    config |= {"audio_attention_head_dim": 4}
    return config, small_transformer(config, seed=5)


def check(ranks, version: str, case: str) -> None:
    if case == "slots" and version != "2.5":
        return
    config, network = network_of(version)
    given = inputs(config, 1, {"by_rows": "fractional_mask", "few": "plain"}.get(case, case))
    given["video"].pop("perturbations", None)
    video, audio = (StreamInput(**given[name]) for name in ("video", "audio"))
    if case == "by_rows":  # what a reference gives: the same strengths for many tokens
        alike, apart = video.attention_mask[0, :1], video.attention_mask[0, -4:]
        last = video.latent.shape[1] - 4
        video = replace(video, attention_mask=(RowStrength(0, last, alike), RowStrength(last, last + 4, apart)))
    if case == "few":  # fewer tokens than ranks
        video = _tokens(video, 0, ranks.size - 1)
    parallel = ParallelTransformer(network, ranks)
    before = [block.attn1.attention for block in network.transformer_blocks]
    for perturbation in PERTURBED:
        left_out = None if perturbation is None else [perturbation] * len(video.latent)
        expected = network(video, audio, left_out)
        found = parallel(video, audio, left_out)
        for name, ours, theirs in zip(("video", "audio"), found, expected):
            furthest = float((ours - theirs).abs().max())
            assert furthest <= LIMIT, (version, case, name, furthest)
    assert [block.attn1.attention for block in network.transformer_blocks] == before
    check_traffic(ranks, network, video, audio)


def check_traffic(ranks, network, video, audio) -> None:
    """What leaves a rank is what the formula says, to the byte."""
    rows, tokens = len(video.latent), (video.latent.shape[1], audio.latent.shape[1])
    parallel = ParallelTransformer(network, ranks)
    split = parallel.split(rows)
    parallel(video, audio)
    part = ranks.rank % split.parts
    own_rows = shares(rows, split.passes)[ranks.rank // split.parts]
    own = shares(tokens[0], split.parts)[part]
    calls, elements = exchanged(network.config, own_rows, tokens, own, split.parts)
    if split.passes > 1:
        largest = max(shares(rows, split.passes))
        channels = network.config.out_channels, network.config.audio_out_channels
        calls += 2
        elements += sum(largest * t * c * (split.passes - 1) for t, c in zip(tokens, channels))
    assert (parallel.traffic.calls, parallel.traffic.bytes) == (calls, elements * 4), (
        parallel.traffic,
        calls,
        elements,
    )


def main() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    with joined("cpu") as ranks:
        for version in sys.argv[1].split(","):
            for case in CASES:
                check(ranks, version, case)
        print(f"rank {ranks.rank} of {ranks.size}: alike")


if __name__ == "__main__":
    main()
