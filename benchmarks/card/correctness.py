"""Does the card compute what a CPU does? Small networks in float32 on both, and in bfloat16 beside float32."""

import copy
import json
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from ltx2.config.audio import audio_vae_config, vocoder_config
from ltx2.config.diffusion_decoder import diffusion_decoder_config
from ltx2.config.video_vae import video_vae_config
from ltx2.continuation import LTX2ContinuationState, read_envelope, write_envelope
from ltx2.film import Overlap, capture_state, continue_request, first_segment
from ltx2.mini import CHECKPOINT, TEXT_ENCODER
from ltx2.networks.audio.vae import AudioDecoder, AudioEncoder
from ltx2.networks.audio.vocoder import make_vocoder
from ltx2.networks.transformer.model import StreamInput
from ltx2.networks.video_vae.diffusion_decoder import DiffusionDecoder
from ltx2.networks.video_vae.model import VideoDecoder, VideoEncoder
from ltx2.networks.video_vae.neighborhood_attention import boxed_attention, neighborhood_attention
from ltx2.networks.video_vae.streaming import stream_decode
from ltx2.stages.models import PipelineConfig, load_models
from ltx2.stages.pipeline import Segment, generate
from ltx2.stages.request import Request
from ltx2.tiny import configs as tiny_configs
from tests.golden.transformer import perturbations
from tests.networks.transformer.samples import inputs, small_config, small_text_path, small_transformer, text_states
from tests.networks.video_vae.samples import fill

from .networks import FORMS, packed_weight
from .session import Session, rounded

# Largest difference, as a share of the largest number of the reference. float32 differs by the order of sums alone;
# bfloat16 has eight bits, and a few layers of it in a row.
SINGLE, HALF = 1e-4, 0.06
# A film of the demonstration model: eight steps, and then decoded frames and sound encoded again.
FILM = 5e-3
CASES = ("plain", "first_frame", "text_mask", "mask", "fractional_mask", "stg", "mixed", "frozen_audio", "slots")
SINGLE_TYPES = {
    name: torch.float32 for name in ("transformer", "text_encoder", "video_vae", "upsampler", "latents", "audio_vae")
}


def compare(session: Session, case: str, found: Any, expected: Any, limit: float) -> None:
    """A row; and an error, which the session tells, where the difference is over the limit."""
    differences = [_difference(a, b) for a, b in zip(_tensors(found), _tensors(expected), strict=True)]
    worst = max(differences)
    session.record("correctness", case, difference=rounded(worst), limit=limit, right=worst <= limit)
    if not worst <= limit:
        session.failures.append(f"correctness: {case} differs by {worst:.3g}, expected at most {limit:g}")


def _tensors(values: Any) -> list[torch.Tensor]:
    return [values] if isinstance(values, torch.Tensor) else [value for value in values if value is not None]


def _difference(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double().cpu(), b.double().cpu()
    if a.shape != b.shape:
        raise ValueError(f"shapes {list(a.shape)} and {list(b.shape)} differ")
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))


def _moved(value: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """Inputs on a device; latents and contexts in a type of their own."""
    if isinstance(value, torch.Tensor):
        return value.to(device, dtype if value.is_floating_point() else None)
    return value


def _both(session: Session, case: str, network: nn.Module, call, limit: float = HALF) -> None:
    """A network in float32 on the CPU, beside itself on the card in float32 and in bfloat16. call: of a network, a
    device and a type."""
    cpu = torch.device("cpu")
    expected = call(network, cpu, torch.float32)
    for dtype, bound in ((torch.float32, SINGLE), (torch.bfloat16, limit)):
        there = copy.deepcopy(network).to(session.device, dtype)
        compare(session, f"{case}, {str(dtype)[6:]}", call(there, session.device, dtype), expected, bound)


def networks(session: Session) -> None:
    """Every network by itself."""
    exact = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        for case in session.few(CASES):
            session.attempt(f"transformer {case}", partial(_transformer, session, case))
        for name, work in NETWORKS.items():
            session.attempt(name, partial(work, session))
        for kind in session.few(FORMS):
            session.attempt(f"{kind} weights", partial(_stored, session, kind))
    finally:
        torch.backends.cudnn.allow_tf32 = exact


def _transformer(session: Session, case: str) -> None:
    config = small_config("2.5" if case == "slots" else "2.3")
    given = inputs(config, case=case)
    left_out = perturbations(json.dumps(given.pop("perturbations")))

    def call(network, device, dtype):
        in_type = ("latent", "context", "context_mask", "attention_mask", "keyframes_mask")
        streams = [
            StreamInput(**{k: _moved(v, device, dtype if k in in_type[:2] else None) for k, v in given[name].items()})
            for name in ("video", "audio")
        ]
        return network(*streams, left_out)

    _both(session, f"transformer {case}", small_transformer(config), call)


def _video_decoder(session: Session) -> None:
    network = fill(VideoDecoder(video_vae_config(tiny_configs.video_vae("2.3"), {})), 0)
    latent = torch.randn(1, 128, 3, 2, 3, generator=torch.Generator().manual_seed(1))
    _both(session, "video decoder", network, lambda net, device, dtype: net(latent.to(device, dtype)))

    def streamed(net, device, dtype):
        return torch.cat(list(stream_decode(net, latent.to(device, dtype), piece_frames=2)), 2)

    _both(session, "video decoder, streamed", network, streamed)


def _video_encoder(session: Session) -> None:
    network = fill(VideoEncoder(video_vae_config(tiny_configs.video_vae("2.3"), {})), 0)
    clip = torch.rand(1, 3, 9, 64, 96, generator=torch.Generator().manual_seed(1)) * 2 - 1
    _both(session, "video encoder", network, lambda net, device, dtype: net(clip.to(device, dtype)))


def _diffusion_decoder(session: Session) -> None:
    network = fill(DiffusionDecoder(diffusion_decoder_config(tiny_configs.diffusion_vae(), {})), 0)
    latent = torch.randn(1, 128, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    _both(session, "diffusion decoder", network, lambda net, device, dtype: net(latent.to(device, dtype)))


def _neighborhood(session: Session) -> None:
    q, k, v = (torch.randn(1, 4, 9, 10, 2, 16, generator=torch.Generator().manual_seed(n)) for n in range(3))
    expected = boxed_attention(q, k, v, (3, 5, 5))
    for dtype, limit in ((torch.float32, SINGLE), (torch.bfloat16, HALF)):
        there = (x.to(session.device, dtype) for x in (q, k, v))
        case = f"neighbourhood attention, {str(dtype)[6:]}"
        compare(session, case, neighborhood_attention(*there, (3, 5, 5)), expected, limit)


def _audio(session: Session) -> None:
    config = audio_vae_config(tiny_configs.audio_vae(), {})
    latent = torch.randn(1, 8, 6, 16, generator=torch.Generator().manual_seed(1))
    mel = torch.randn(1, 2, 21, 64, generator=torch.Generator().manual_seed(2))
    cpu = torch.device("cpu")
    vocoder = make_vocoder(vocoder_config(tiny_configs.vocoder("2.3"), {}))
    for name, tensor in vocoder.named_parameters():
        tensor.data.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
    pairs = (
        ("audio decoder", fill(AudioDecoder(config), 0), latent),
        ("audio encoder", fill(AudioEncoder(config), 0), mel),
        ("vocoder", vocoder.eval().requires_grad_(False), mel),
    )
    for case, network, given in pairs:
        expected = network(given.to(cpu))
        there = copy.deepcopy(network).to(session.device)
        compare(session, f"{case}, float32", there(given.to(session.device)), expected, SINGLE)


def _text(session: Session) -> None:
    config = small_config("2.3")
    modules = small_text_path(config)
    states, mask = text_states(config)
    whole = nn.ModuleDict({name.replace(".", "_"): module for name, module in modules.items()})

    def call(network, device, dtype):
        projection, video, audio = network.values()
        features = projection(states.to(device, dtype), mask.to(device))
        return [connector(own, mask.to(device)) for connector, own in zip((video, audio), features)]

    _both(session, "text projection and connectors", whole, call)


def _stored(session: Session, kind: str) -> None:
    packed = packed_weight(kind, 96, 64, torch.device("cpu"))
    for dtype in (torch.float32, torch.bfloat16):
        found = []
        for device in ("cpu", session.device):
            out = torch.empty(packed.shape, dtype=dtype, device=device)
            packed.form.fill(out, {name: part.to(device) for name, part in packed.parts.items()})
            found.append(out)
        compare(session, f"{kind} weights, {str(dtype)[6:]}", found[1], found[0], 1e-6)


NETWORKS = {
    "video decoder": _video_decoder,
    "video encoder": _video_encoder,
    "diffusion decoder": _diffusion_decoder,
    "neighbourhood attention": _neighborhood,
    "sound": _audio,
    "text": _text,
}


# ---------------------------------------------------------------------------------------------------------------
# Whole segments of the demonstration model


def films(session: Session) -> None:
    """Two segments with a state between them, on the card and on a CPU; and on the card in other ways."""
    size = {"width": 128, "height": 96, "frames": 17} if session.cuda else {"width": 64, "height": 64, "frames": 9}
    request = Request(prompt="A yellow star rolls from side to side at sunset.", fps=8, seed=3, **size)
    if not session.cuda:
        request = replace(request, overrides={"denoise": {"sigmas": (1.0, 0.5, 0.0)}})
    expected = _film(PipelineConfig(**SINGLE_TYPES), request)
    device = str(session.device)
    single = {"device": device, **SINGLE_TYPES}
    ways: dict[str, dict[str, Any]] = {
        "resident": {**single, "offload": "none"},
        "stage by stage": {**single, "offload": "stage"},
        "layer by layer": {**single, "offload": "layers"},
    }
    for name in ("transformer", "text_encoder", "video_vae", "latents"):
        ways[f"bfloat16 {name}"] = {**single, "offload": "none", name: torch.bfloat16}
    ways["bfloat16"] = {"device": device, "offload": "none"}
    resident = None
    for way, settings in session.few(ways.items()):
        found, limit = _film(PipelineConfig(**settings), request), FILM
        if way.startswith("bfloat16"):
            # eight bits less at every step go their own way: a CPU's shows how far
            rough = _film(PipelineConfig(**{**settings, "device": "cpu"}), request)
            far = [_difference(a, b) for a, b in zip((*rough[0], *rough[1]), (*expected[0], *expected[1]))]
            limit = FILM + 3 * max(far)
            each = [rounded(_difference(a, b)) for a, b in zip((*found[0], *found[1]), (*expected[0], *expected[1]))]
            session.record("correctness", f"two segments, {way}: each", card=each, cpu=[rounded(one) for one in far])
        resident = resident or found
        compare(session, f"two segments, {way}: latents", found[0], expected[0], limit)
        compare(session, f"two segments, {way}: frames", found[1], expected[1], limit)
        if way in ("stage by stage", "layer by layer"):
            compare(session, f"two segments, {way}: latents as resident ones", found[0], resident[0], 1e-6)


def _film(config: PipelineConfig, request: Request) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Latents and frames of a segment and of one that goes on from its state."""
    exact = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        models = load_models(str(CHECKPOINT), text_encoder=str(TEXT_ENCODER), config=config)
        first = generate(models, request)
        state = _state(first, request)
        following, _ = continue_request(replace(request, seed=None), state)
        second = generate(models, following)
        latents = [latent for one in (first, second) for latent in (one.latent.video, one.latent.audio)]
        return latents, [torch.cat(list(one.pixels()), 2) for one in (first, second)]
    finally:
        torch.backends.cudnn.allow_tf32 = exact


def _state(segment: Segment, request: Request) -> LTX2ContinuationState:
    """What a segment leaves, through its envelope and back."""
    pixels = torch.cat(list(segment.pixels()), 2)[0]
    frames = pixels.permute(1, 2, 3, 0).add(1).div(2).clamp(0, 1).float()
    timing = first_segment(request.frames, segment.geometry.fps, audio_latents=segment.latent.audio.shape[2])
    overlap = Overlap(9 if request.frames > 9 else 1, 9)
    state = capture_state(frames, segment.latent.audio.float(), timing, overlap=overlap, seed=segment.seed)
    document = write_envelope(state.to_continuation_state())
    return LTX2ContinuationState.from_continuation_state(read_envelope(document))
