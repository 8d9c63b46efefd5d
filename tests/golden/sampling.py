"""Sampler trajectories of a toy denoiser and sigma lists, as the official code gives them."""

import json

from safetensors import safe_open
from safetensors.torch import load_file

from ltx2.sampling import noise, schedules
from ltx2.sampling.samplers import SAMPLERS
from ltx2.sampling.tokens import AVTokens

from ._differences import absolute


def matches(path, metadata) -> bool:
    if path.suffix == ".json":
        return bool(metadata) and all(name.startswith(("ltx2_", "linear_quadratic_")) for name in metadata)
    return "loop" in metadata


def differences(path):
    if path.suffix == ".json":
        yield from schedule_differences(json.loads(path.read_text("utf-8")), path.stem)
    else:
        yield from sampler_differences(path)


def schedule_differences(lists, stem):
    for name, expected in lists.items():
        words = name.split("_")
        if words[0] == "linear":
            found = schedules.linear_quadratic_sigmas(int(words[-1]))
        elif words[2] == "tokens":
            found = schedules.dev_sigmas(int(words[1]), tokens=int(words[3]))
        else:
            found = schedules.dev_sigmas(int(words[1]))
        yield f"{stem}.{name}", max(abs(a - b) for a, b in zip(found.tolist(), expected, strict=True))


def sampler_differences(path):
    data = load_file(path)
    with safe_open(path, "pt") as file:
        loop = file.metadata()["loop"]
    latent, clean, mask = (
        AVTokens(data[f"video.{name}"], data[f"audio.{name}"]) for name in ("latent", "clean", "mask")
    )
    result = run(loop, latent, clean, mask, data["sigmas"])
    for stream in ("video", "audio"):
        yield f"{path.stem}.{stream}", absolute(getattr(result, stream).float(), data[f"{stream}.out"].float())


def run(loop, latent, clean, mask, sigmas):
    """One of the trajectories. loop: the sampler and, for those that draw noise, ``_seed`` and the seed."""
    name, _, seed = loop.partition("_seed")

    def toy(x, sigma, step):
        return x.map(lambda t: (0.6 * t.float().tanh() * (1 - 0.5 * sigma) + 0.1).to(t.dtype))

    def restore(x0):
        return noise.restore(x0, clean, mask)

    if name == "euler_ancestral":
        return SAMPLERS["euler_ancestral"].run(
            toy, latent, sigmas, restore=restore, generators=noise.generators(int(seed), 1)
        )
    if name == "res2s":
        sources = {
            "step_generators": noise.generators(int(seed), 1),
            "substep_generators": noise.generators(int(seed) + 10_000, 1),
        }
        return SAMPLERS["res_2s"].run(toy, latent, sigmas, restore=restore, **sources)
    sampler = {"euler": SAMPLERS["euler"].run, "gradient_estimation": SAMPLERS["gradient_estimation"].run}[name]
    return sampler(toy, latent, sigmas, restore=restore)
