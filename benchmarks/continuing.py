"""What it costs to go on: segments that start from the one before, beside first ones with as many frames.

``python -m benchmarks.continuing [--rounds N]`` makes both by turns, in one process with networks loaded once. First
whole segments of the demonstration model, whose clips have 84 tokens of the picture, stage by stage; then one step of a
transformer in LTX-2.3's layout (6 layers, 8 heads of 64) at sizes of real clips, with as many tokens on both sides. A
whole continuation has the picture's tokens of a first segment, of which the first two latent frames are known, more
tokens of the sound, of which it takes up a longer piece, and besides encodes the frames that it starts from.
"""

import argparse
import statistics
import time
from fractions import Fraction

import torch

from ltx2 import mini
from ltx2.config.transformer import TransformerConfig
from ltx2.film import LastFrames
from ltx2.networks.transformer.model import StreamInput, Transformer
from ltx2.stages.models import PipelineConfig, load_models
from ltx2.stages.pipeline import generate
from ltx2.stages.request import Request
from ltx2.story.segment_job import segment_job, state_after

PROMPTS = ("A red ball jumps up and down over the sea.", "It rolls from side to side.")
FRAMES, FPS = 49, Fraction(24)
SIZES = {
    "layers": 6,
    "heads": 8,
    "head_dim": 64,
    "in_channels": 128,
    "out_channels": 128,
    "context_width": 512,
    "audio_heads": 8,
    "audio_head_dim": 32,
    "audio_in_channels": 128,
    "audio_out_channels": 128,
    "audio_context_width": 256,
}
TOKENS = ("tokens of the picture", "tokens of the sound")
KNOWN = 2 / 16  # of the latent frames of 121 frames: nine frames of the segment before


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    models = load_models(
        mini.CHECKPOINT, text_encoder=mini.TEXT_ENCODER, config=PipelineConfig(video_vae=torch.float32)
    )
    _, state = _segment(models, PROMPTS[0], None)
    _segment(models, PROMPTS[1], state)  # prompts are encoded by now, and pages of the file are in memory
    first: list[dict[str, float]] = []
    after: list[dict[str, float]] = []
    for turn in range(rounds):
        for kind in (first, after) if turn % 2 else (after, first):
            seconds, _ = _segment(models, PROMPTS[kind is after], state if kind is after else None)
            kind.append(seconds)
    print("| stage | first s | continuing s | ratio |\n|---|---|---|---|")
    for stage in [*first[0], "all", "all but conditioning"]:
        if stage in TOKENS:
            one, other = (each[-1][stage] for each in (first, after))
            print(f"| {stage} | {one} | {other} | {other / one:.2f} |")
            continue
        one, other = (statistics.median(_of(stage, each) for each in kind) for kind in (first, after))
        print(f"| {stage} | {one:.3f} | {other:.3f} | {other / one if one > 1e-3 else float('nan'):.2f} |")

    print("\n| tokens | first s a step | continuing s a step | ratio (min/median/max) |\n|---|---|---|---|")
    for tokens, turns in ((256, rounds), (1024, rounds), (4096, max(2, rounds // 3))):
        found = _steps(tokens, turns)
        ratios = sorted(other / one for one, other in found)
        medians = (statistics.median(pair[kind] for pair in found) for kind in (0, 1))
        spread = f"{ratios[0]:.2f}/{statistics.median(ratios):.2f}/{ratios[-1]:.2f}"
        print("| {:,} | {:.3f} | {:.3f} | {} |".format(tokens, *medians, spread))


@torch.inference_mode()
def _steps(tokens: int, rounds: int) -> list[tuple[float, float]]:
    """Seconds of a step without and with known tokens, by turns."""
    config = TransformerConfig(**SIZES)
    network = Transformer(config, device="cpu", dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)

    def stream(count: int, channels: int, axes: int, width: int, known: int) -> StreamInput:
        starts = torch.rand(1, axes, count, 1, generator=generator)
        timesteps = torch.full((1, count), 0.5)
        timesteps[:, :known] = 0
        return StreamInput(
            latent=torch.randn(1, count, channels, generator=generator),
            timesteps=timesteps,
            sigma=torch.tensor([0.5]),
            positions=torch.cat([starts, starts + 0.1], -1),
            context=torch.randn(1, 128, width, generator=generator),
        )

    def step(share: float) -> float:
        video = stream(tokens, config.in_channels, 3, config.context_width, round(share * tokens))
        audio = stream(126, config.audio_in_channels, 1, config.audio_context_width, round(share * 126))
        begun = time.process_time()
        network(video, audio)
        return time.process_time() - begun

    step(0), step(KNOWN)
    found = []
    for turn in range(rounds):
        pair = {share: step(share) for share in ((0, KNOWN) if turn % 2 else (KNOWN, 0))}
        found.append((pair[0], pair[KNOWN]))
    return found


def _of(stage: str, seconds: dict[str, float]) -> float:
    if stage in seconds:
        return seconds[stage]
    left_out = () if stage == "all" else ("conditioning",)
    return sum(spent for name, spent in seconds.items() if name not in (*TOKENS, *left_out))


def _segment(models, prompt: str, state):
    begun = time.process_time()
    made = segment_job(models, Request(prompt=prompt, frames=FRAMES, fps=FPS, seed=10), state)
    planned = time.process_time() - begun
    tokens: list[int] = []
    counting = models.transformer.register_forward_pre_hook(
        lambda _, given: tokens.extend(stream.latent.shape[1] for stream in given[:2])
    )
    segment = generate(models, made.job)
    counting.remove()
    begun = time.process_time()
    last = LastFrames(made.overlap.video_frames)
    for _ in last.watch(segment.frames()):
        pass
    decoded = time.process_time()
    seconds = {"planning": planned, **segment.seconds, "video decoding": decoded - begun}
    after = state_after(made, segment, last.frames)
    return seconds | {"state": time.process_time() - decoded, **dict(zip(TOKENS, tokens))}, after


if __name__ == "__main__":
    main()
