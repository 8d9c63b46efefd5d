"""What can be said of a request to double the frame rate before anything runs."""

from typing import Any

from ...errors import RequestError
from ..geometry import Geometry
from ..models import Models
from ..presets import Settings
from ..refinement import check_temporal_upsampler
from .tiles import MOST_ROUNDS, most_latent_frames

EXPERIMENTAL = (
    "doubling the frame rate is experimental: it follows LTX-2.5's released rounds, with the clip's own pictures as "
    "keyframes"
)


def check_double_rate(request: Any) -> int:
    """How often a request doubles the frame rate. Raises RequestError for more than there is, and where there is no
    picture."""
    rounds = request.double_rate
    if not 0 <= rounds <= MOST_ROUNDS:
        raise RequestError(f"double_rate is {rounds}, expected 0 (off) to {MOST_ROUNDS} rounds")
    if rounds and request.sound_only:
        raise RequestError("only the sound is to be made, which has no frame rate to double: leave double_rate out")
    return rounds


def doubling_notes(request: Any, settings: Settings) -> tuple[str, ...]:
    """What is to be told of it."""
    asked = request.overrides.get("double", {})
    unused = next((name for name, value in asked.items() if value is not None and not name.startswith("nag_")), None)
    if request.double_rate and settings.draft:
        return ("a draft keeps its frame rate: double_rate has no effect",)
    if not settings.rounds and unused is not None:
        return (f"double.{unused} has no effect: the frame rate is not doubled",)
    return (EXPERIMENTAL,) if settings.rounds else ()


def check_doubling_models(models: Models) -> None:
    """Raises CheckpointError and RequestError where a network is missing or of another kind."""
    for name in ("temporal_upsampler", "video_decoder", "video_encoder"):
        models.need(name)
    check_temporal_upsampler(models.temporal_upsampler.config)


def doubling_tokens(geometry: Geometry, rounds: int) -> int:
    """Tokens of the largest tile of a clip of this size, about, its keyframes included."""
    if not rounds:
        return 0
    frame = geometry.video_tokens // geometry.latent_frames
    return frame * (2 + most_latent_frames(geometry.frames, rounds) * 9 // 8)
