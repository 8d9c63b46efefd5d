"""Pipeline numbers: schedules, guidance, order of draws, whole denoising stages with a toy model, lengths of sound."""

import json
from fractions import Fraction

import torch

from ltx2 import clock
from ltx2.sampling import noise, schedules
from ltx2.sampling.guidance import Guidance, StreamGuidance, combine
from ltx2.sampling.tokens import AVTokens, patchify_audio, patchify_video, unpatchify_audio, unpatchify_video
from ltx2.stages.conditioning import Conditioning
from ltx2.stages.denoising import ClipClock, Compute, Prompts, Sampling, denoise
from ltx2.values import AVLatent, TextContext

KINDS = ("schedules", "guidance", "noise_order", "denoise_golden", "audio_lengths")
STG_BLOCKS = (29,)
NEARLY_KEPT = 1e-9


def matches(path, metadata) -> bool:
    if path.suffix != ".json" or path.stem not in KINDS:
        return False
    return path.stem != "schedules" or "distilled_subset" in metadata


def differences(path):
    data = json.loads(path.read_text("utf-8"))
    return {
        "schedules": schedule_differences,
        "guidance": guidance_differences,
        "noise_order": noise_differences,
        "denoise_golden": stage_differences,
        "audio_lengths": length_differences,
    }[path.stem](data)


def schedule_differences(data):
    for steps, expected in data["distilled_subset"].items():
        yield f"distilled.{steps}", furthest(schedules.distilled_sigmas(int(steps)), expected["sigmas"])
    for steps, expected in data["refine"].items():
        yield f"refine.{steps}", furthest(schedules.refine_sigmas(int(steps)), expected)
    for steps, expected in data["base"].items():
        yield f"base.{steps}", furthest(schedules.dev_sigmas(int(steps)), expected)


def guidance_differences(data):
    names = {"positive": "pos", "negative": "neg", "isolated": "mod", "perturbed": "ptb"}
    predictions = {name: torch.tensor(data[key]).view(data["shape"]) for name, key in names.items()}
    for index, case in enumerate(data["cases"]):
        settings = StreamGuidance(cfg=case["cfg"], modality=case["modality"], stg=case["stg"], rescale=case["rescale"])
        yield f"guidance.{index}", furthest(combine(predictions, settings), case["out"])


def noise_differences(data):
    _, _, frames, height, width = data["video_shape"]
    sources = noise.generators(data["seed"], 1, data["device"])
    tokens = noise.draw_tokens(
        frames * height * width, data["audio_shape"][2], sources, dtype=torch.float32, device="cpu"
    )
    yield (
        "noise_order.video",
        furthest(unpatchify_video(tokens.video, frames, height, width).flatten()[:8], data["video_first8"]),
    )
    yield "noise_order.audio", furthest(unpatchify_audio(tokens.audio).flatten()[:8], data["audio_first8"])


def length_differences(data):
    for case in data:
        frames, fps = case["frames"], Fraction(case["fps"])
        for rule in clock.AUDIO_LENGTH_RULES:
            yield (
                f"audio_lengths.{frames}@{fps}.{rule}",
                abs(clock.audio_latents(frames, fps, rule) - case[f"latents_{rule}"]),
            )


def stage_differences(data):
    for name, case in data["cases"].items():
        result, calls = run_stage(data, case)
        yield f"denoise.{name}.video", furthest(result.video, case["video"])
        yield f"denoise.{name}.audio", furthest(result.audio, case["audio"])
        yield f"denoise.{name}.calls", abs(calls - case["model_calls"])


def run_stage(data, case, passes_at_once=1):
    """One case of the reference stage, through ours: the result and how many passes the model made."""
    ramp = {name: ramp_of(data, name) for name in data["inputs"]}
    toy = Toy(ramp["video_base"], ramp["audio_base"])
    video, audio = ramp["video_noise"], ramp["audio_noise"]
    conditioning = Conditioning()
    if case["conditioned"]:
        # The toy predicts its own x0 for kept tokens too, which counts in the deviation of the rescale. A velocity
        # cannot say that at timestep 0, only very near it.
        masks = {name: torch.tensor(values).clamp_min(NEARLY_KEPT) for name, values in data["masks"].items()}
        conditioning = Conditioning(
            video=ramp["video_clean"],
            video_mask=masks["video_per_latent_frame"].view(1, 1, -1, 1, 1).expand(1, 1, -1, *video.shape[3:]),
            audio=ramp["audio_clean"],
            audio_mask=masks["audio_per_latent_frame"].view(1, 1, -1, 1),
        )
    refine = case["stage"].get("sigmas_override")
    steps = case["request"]["num_inference_steps"]
    sigmas = refine or (schedules.distilled_sigmas(steps) if steps <= 8 else schedules.dev_sigmas(steps))
    context = TextContext(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2))
    result = denoise(
        toy,
        AVLatent(torch.zeros_like(video), torch.zeros_like(audio)),
        Prompts(context, TextContext(context.video + 1, context.audio + 1), guidance_of(case)),
        Sampling(sigmas, AVTokens(patchify_video(video), patchify_audio(audio))),
        clock=ClipClock(24),
        compute=Compute("cpu", torch.float32, passes_at_once),
        conditioning=conditioning,
    )
    return result, toy.passes


def guidance_of(case) -> Guidance:
    request, forced = case["request"], case["stage"].get("force_guidance_scale")

    def stream(name):
        return StreamGuidance(
            cfg=request.get(f"ltx2_cfg_scale_{name}", 1.0) if forced is None else forced,
            modality=request.get(f"ltx2_modality_scale_{name}", 1.0),
            stg=request.get(f"ltx2_stg_scale_{name}", 0.0),
            rescale=request.get("ltx2_rescale_scale", 0.0),
            stg_blocks=STG_BLOCKS,
        )

    return Guidance(stream("video"), stream("audio"))


class Toy:
    """The reference's toy model, as velocities: x0 = base · (1 − timestep / 2) + a shift that tells the passes
    apart."""

    def __init__(self, video_base, audio_base):
        self.bases = patchify_video(video_base), patchify_audio(audio_base)
        self.passes = 0

    def __call__(self, video, audio, perturbations):
        self.passes += len(video.latent)
        return tuple(self.velocity(i, given, perturbations) for i, given in enumerate((video, audio)))

    def velocity(self, index, given, perturbations):
        rows = []
        for row in range(len(given.latent)):
            timestep = given.timesteps[row]
            x0 = self.bases[index][0] * (1 - timestep / 2) + self.shift(index, given, perturbations, row)
            rows.append(torch.where(timestep > 0, (given.latent[row] - x0) / timestep.clamp_min(1e-20), 0))
        return torch.stack(rows)

    def shift(self, index, given, perturbations, row):
        if given.context[row].mean() > 0.5:
            return 0.5
        perturbation = perturbations[row] if perturbations else None
        if not perturbation:
            return 0.0
        if perturbation.skip_audio_to_video is None and perturbation.skip_video_to_audio is None:
            return -0.25
        skipped = (perturbation.skip_video_self_attention, perturbation.skip_audio_self_attention)[index]
        return (0.125, 0.25)[index] if skipped == STG_BLOCKS else 0.0


def ramp_of(data, name):
    a, m, offset = data["inputs"][name]
    shape = data["video_shape"] if name.startswith("video") else data["audio_shape"]
    k = torch.arange(torch.Size(shape).numel())
    return ((((a * k) % m) - offset) / 8).view(shape)


def furthest(found, expected) -> float:
    return float((torch.as_tensor(found).flatten() - torch.tensor(expected)).abs().max())
