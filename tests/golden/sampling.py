"""Sampler trajectories of a toy denoiser and sigma lists, as the official code gives them."""

import json

from safetensors.torch import load_file

from ltx2.sampling import noise, samplers, schedules
from ltx2.sampling.tokens import AVTokens, each


def matches(path, metadata) -> bool:
    return "loop" in metadata or "ltx2_8_default" in metadata


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
    latent, clean, mask = (AVTokens(data[f"video.{name}"], data[f"audio.{name}"]) for name in ("latent", "clean", "mask"))
    result = run(path.stem, latent, clean, mask, data["sigmas"])
    for stream in ("video", "audio"):
        found = getattr(result, stream).float()
        yield f"{path.stem}.{stream}", float((found - data[f"{stream}.out"].float()).abs().max())


def run(name, latent, clean, mask, sigmas):
    """One of the trajectories, by its file's name."""

    def toy(x, sigma, step):
        return each(lambda t: (0.6 * t.float().tanh() * (1 - 0.5 * sigma) + 0.1).to(t.dtype), x)

    def restore(x0):
        return noise.restore(x0, clean, mask)

    if name == "sampler_euler_ancestral_seed7":
        return samplers.euler_ancestral(toy, latent, sigmas, restore=restore, generators=noise.generators(7, 1))
    if name == "sampler_res2s_seed5":
        sources = {"step_generators": noise.generators(5, 1), "substep_generators": noise.generators(10005, 1)}
        return samplers.res_2s(toy, latent, sigmas, restore=restore, **sources)
    sampler = {"sampler_euler": samplers.euler, "sampler_gradient_estimation": samplers.gradient_estimation}[name]
    return sampler(toy, latent, sigmas, restore=restore)
