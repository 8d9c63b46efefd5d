"""Guided predictions: the passes of one step, run by the transformer and combined by stream."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from ...networks.transformer.block import Perturbation
from ...networks.transformer.model import StreamInput
from ...networks.transformer.nag import Nag
from ...sampling.guidance import (
    ISOLATED,
    NEGATIVE,
    PERTURBED,
    POSITIVE,
    VOICELESS,
    Guidance,
    StreamGuidance,
    at_sigma,
    calls,
    combine,
    passes,
    skips,
)
from ...sampling.tokens import AVTokens
from ...values import TextContext
from .streams import Streams, StreamTokens

ISOLATION = Perturbation(skip_audio_to_video=None, skip_video_to_audio=None)

# What a stage calls for velocities: networks.transformer.model.Transformer or a host's wrapping of it.
Model = Callable[
    [StreamInput | None, StreamInput | None, Sequence[Perturbation] | None],
    tuple[torch.Tensor | None, torch.Tensor | None],
]


class _Active(NamedTuple):
    """Which streams are predicted in a step."""

    video: bool
    audio: bool


@dataclass(frozen=True)
class Prompts:
    """What a stage is told: contexts, and how strongly they guide (one setting, or one by noise level)."""

    positive: TextContext
    negative: TextContext | None = None
    guidance: Guidance | Mapping[float, Guidance] = Guidance()


@dataclass(frozen=True)
class Compute:
    """Where and how the transformer runs.

    device, dtype: of its inputs. passes_at_once: guidance passes stacked into one call, which needs that many times the
    memory and gives the same result.
    """

    device: torch.device | str
    dtype: torch.dtype
    passes_at_once: int = 1


@dataclass(frozen=True)
class _Pass:
    """All that a pass needs beside the noisy latent: the model, the streams, and the contexts by name of pass."""

    model: Model
    streams: Streams
    contexts: Mapping[str, TextContext]
    dtype: torch.dtype


class Predictor:
    """A sampler's ``denoise``: guided predictions x0 of both streams in the latents' dtype.

    Holds the last prediction of each stream, which steps that skip a stream reuse. negative: the last prediction for
    the negative prompt, unguided; where no such pass ran, the guided one.
    """

    def __init__(self, ready: _Pass, guidance: Guidance | Mapping[float, Guidance], passes_at_once: int):
        self._ready, self._guidance, self._at_once = ready, guidance, passes_at_once
        self._last = self.negative = AVTokens(None, None)

    def __call__(self, x: AVTokens, sigma: float, step: int) -> AVTokens:
        streams, last = self._ready.streams, self._last
        guidance = at_sigma(self._guidance, sigma)
        for name in ("video", "audio"):
            stream = getattr(streams, name)
            if stream is not None and stream.frozen:
                # nothing is made of this stream, so nothing guides it
                guidance = replace(guidance, **{name: StreamGuidance()})
        active = _Active(
            streams.video is not None and not (last.video is not None and skips(guidance.video, step)),
            streams.audio is not None and not (last.audio is not None and skips(guidance.audio, step)),
        )
        if not (active.video or active.audio):
            return last
        guidance = Guidance(
            guidance.video if active.video else StreamGuidance(), guidance.audio if active.audio else StreamGuidance()
        )
        wanted = passes(guidance, video=streams.video is not None, audio=streams.audio is not None)
        found: dict[str, AVTokens] = {}
        for names in calls(wanted, self._at_once):
            found |= _run(self._ready, names, x, sigma, (guidance, active))
        fresh, negative = {}, {}
        for name in ("video", "audio"):
            if getattr(active, name):
                own, noisy = {n: getattr(p, name) for n, p in found.items()}, getattr(x, name)

                def whole(prediction: torch.Tensor, noisy: torch.Tensor = noisy) -> torch.Tensor:
                    # what is only heard is no part of a prediction, and stays
                    heard = noisy[:, prediction.shape[1] :]
                    prediction = prediction.to(noisy.dtype)
                    return torch.cat([prediction, heard], dim=1) if heard.shape[1] else prediction

                fresh[name] = whole(combine(own, getattr(guidance, name)))
                negative[name] = whole(own[NEGATIVE]) if NEGATIVE in own else fresh[name]
        self._last, self.negative = replace(last, **fresh), replace(self.negative, **negative)
        return self._last


def predictor(model: Model, streams: Streams, prompts: Prompts, compute: Compute) -> Predictor:
    """Guided predictions for one stage."""
    ready = _Pass(model, streams, _contexts(prompts, compute), compute.dtype)
    return Predictor(ready, prompts.guidance, compute.passes_at_once)


def _contexts(prompts: Prompts, compute: Compute) -> dict[str, TextContext]:
    own = prompts.positive.to(compute.device, compute.dtype)
    contexts = {POSITIVE: own, PERTURBED: own, ISOLATED: own, VOICELESS: own}
    if prompts.negative is not None:
        contexts[NEGATIVE] = prompts.negative.to(compute.device, compute.dtype)
    return contexts


def _run(
    ready: _Pass, names: Sequence[str], x: AVTokens, sigma: float, how: tuple[Guidance, _Active]
) -> dict[str, AVTokens]:
    """Predictions of some passes in one call, stacked on the batch axis, of the sound without the voice's tokens; how:
    guidance, and which streams to make."""
    guidance, active = how
    streams = ready.streams
    if VOICELESS in names and streams.audio is not None and x.audio is not None:
        streams = replace(streams, audio=streams.audio.alone())
        x = replace(x, audio=x.audio[:, : streams.audio.own])
    contexts = [ready.contexts[name] for name in names]
    inputs: list[StreamInput | None] = []
    for name in ("video", "audio"):
        stream = getattr(streams, name)
        if stream is None:
            inputs.append(None)
            continue
        texts = [getattr(context, name) for context in contexts]
        one = stream_input(stream, getattr(x, name), sigma, texts, ready.dtype)
        own = getattr(guidance, name)
        if own.uses_nag and NEGATIVE in ready.contexts:
            # the negative pass, where there is one, reads the same prompt twice and stays as it is
            negative = getattr(ready.contexts[NEGATIVE], name).expand(x.batch_size, -1, -1).repeat(len(names), 1, 1)
            one = replace(one, negative_context=negative, nag=Nag(own.nag_scale, own.nag_alpha, own.nag_tau))
        inputs.append(replace(one, enabled=getattr(active, name)))
    left_out = [_perturbation(name, guidance) for name in names for _ in range(x.batch_size)]
    velocities = ready.model(inputs[0], inputs[1], left_out if any(left_out) else None)
    predictions = [
        [None] * len(names) if velocity is None else stream.x0(tokens, velocity, sigma)
        for stream, tokens, velocity in zip((streams.video, streams.audio), (x.video, x.audio), velocities)
    ]
    if streams.audio is not None:
        predictions[1] = [None if one is None else one[:, : streams.audio.own] for one in predictions[1]]
    return {name: AVTokens(*pair) for name, *pair in zip(names, *predictions)}


def stream_input(
    stream: StreamTokens, tokens: torch.Tensor, sigma: float, contexts: Sequence[torch.Tensor], dtype: torch.dtype
) -> StreamInput:
    """What the transformer takes of one stream: tokens [B, T, C] repeated for each context, which differ by pass."""
    batch, count = len(tokens), len(contexts)
    level = stream.level(sigma)
    return StreamInput(
        latent=tokens.to(dtype).repeat(count, 1, 1),
        timesteps=(stream.mask * level).repeat(count, 1, 1),
        sigma=torch.full((batch * count,), level, dtype=torch.float32, device=tokens.device),
        positions=stream.positions,
        context=torch.cat([context.expand(batch, -1, -1) for context in contexts]),
        attention_mask=stream.attention,
        keyframes_mask=None if stream.keyframes is None else stream.keyframes.expand(batch * count, -1, -1),
    )


def _perturbation(name: str, guidance: Guidance) -> Perturbation:
    if name == ISOLATED:
        return ISOLATION
    if name == PERTURBED:
        # each stream is perturbed only where its own scale asks for it
        blocks = [s.stg_blocks if s.stg != 0 else () for s in (guidance.video, guidance.audio)]
        return Perturbation(skip_video_self_attention=blocks[0], skip_audio_self_attention=blocks[1])
    return Perturbation()
