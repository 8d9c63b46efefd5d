"""Exact time: seconds, frames, latent frames, audio latents and samples. The only place with such arithmetic.

One video latent frame stands for 8 picture frames, but the first for one alone; one audio latent for four mel frames of
10 ms, but the first for one alone. All conversions go through :class:`fractions.Fraction`, so nothing drifts.
"""

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from .errors import RequestError

Seconds = Fraction | float | str
FRAMES_PER_LATENT = 8
PIXELS_PER_LATENT = 32
AUDIO_LATENTS_PER_SECOND = 25
MEL_FRAMES_PER_SECOND = 100
MEL_FRAMES_PER_LATENT = 4
MODEL_SAMPLE_RATE = 16_000
WINDOW_SECONDS = 20  # the transformer's positions end there

FASTEST_FPS = 60  # above it the models have seen no video
DEFAULT_FPS = Fraction(24)  # where nobody says a rate

AUDIO_LENGTH_RULES = ("round", "ceil", "cover")

# What people write for the NTSC rates, which are not decimal numbers.
_NTSC = {Fraction(n * 1000, 1001): n for n in (24, 30, 48, 60, 120)}


def parse_fps(value: Any) -> Fraction:
    """Frames per second as an exact fraction, from an int, float, Fraction, ``"24000/1001"`` or ``(num, den)``.

    A float or decimal text within 0.002 of an NTSC rate (23.976, 29.97, 59.94, …) means that rate.
    Raises RequestError for anything that is not a positive finite rate up to 1000.
    """
    try:
        if isinstance(value, (tuple, list)):
            fps = Fraction(int(value[0]), int(value[1]))
        elif isinstance(value, float):
            fps = Fraction(str(value))
        elif hasattr(value, "__index__"):  # whole numbers of other libraries too
            fps = Fraction(operator.index(value))
        else:
            fps = Fraction(value)
    except (TypeError, ValueError, ZeroDivisionError, IndexError, OverflowError) as error:
        raise RequestError(f"fps is {value!r}, expected a positive number such as 24 or 24000/1001") from error
    if not 0 < fps <= 1000:
        raise RequestError(f"fps is {value!r}, expected a number above 0 and up to 1000")
    if fps.denominator not in (1, 1001):
        for exact in _NTSC:
            if abs(exact - fps) < Fraction(2, 1000):
                return exact
    return fps


def round_half_up(value: Fraction) -> int:
    """Nearest integer, halves upwards."""
    return math.floor(value + Fraction(1, 2))


# --- picture -----------------------------------------------------------------------------------------------------


def is_valid_frame_count(frames: int) -> bool:
    """Whether a clip of this many frames fills its latent frames exactly (8k+1)."""
    return frames >= 1 and (frames - 1) % FRAMES_PER_LATENT == 0


def latent_frames(frames: int) -> int:
    """Latent frames of a clip of 8k+1 frames. Raises RequestError for other counts."""
    if not is_valid_frame_count(frames):
        below = max(1, snap_frames(max(frames, 1), "down"))
        above = below + FRAMES_PER_LATENT
        raise RequestError(f"there are {frames} frames, expected 8k+1: use {below} or {above}, or turn snapping on")
    return (frames - 1) // FRAMES_PER_LATENT + 1


def frames_of_latents(latents: int) -> int:
    """Picture frames that this many latent frames decode to."""
    return (latents - 1) * FRAMES_PER_LATENT + 1


def snap_frames(frames: int, mode: str = "nearest") -> int:
    """The 8k+1 count nearest to, at most (``down``) or at least (``up``) ``frames``; never below 1."""
    steps = Fraction(frames - 1, FRAMES_PER_LATENT)
    ways: dict[str, Callable[[Fraction], int]] = {"nearest": round_half_up, "down": math.floor, "up": math.ceil}
    k = ways[mode](steps)
    return max(k, 0) * FRAMES_PER_LATENT + 1


def frames_for_seconds(seconds: Seconds, fps: Fraction) -> int:
    """Frames nearest to a length in seconds, not yet snapped to 8k+1; at least 1."""
    return max(1, round_half_up(exact_seconds(seconds) * fps))


def frames_of_predicted_seconds(
    seconds: Seconds, fps: Fraction, *, shortest: Seconds = 1, longest: Seconds = 20
) -> int:
    """8k+1 frames for a predicted length: nearest frame, held between two lengths in seconds, then down to 8k+1.

    Where that falls below the shortest length, one step up. Raises RequestError for NaN and infinity.
    """
    try:
        exact = Fraction(seconds)
    except (ValueError, OverflowError) as error:
        message = f"predicted length is {seconds} s, expected a number: the duration head or its context is damaged"
        raise RequestError(message) from error
    low, high = round(exact_seconds(shortest) * fps), round(exact_seconds(longest) * fps)
    frames = snap_frames(min(max(round(exact * fps), low), high), "down")
    return frames + FRAMES_PER_LATENT if frames < low else frames


def seconds_of_frames(frames: int, fps: Fraction) -> Fraction:
    """How long that many frames are shown, exact."""
    return Fraction(frames) / fps


def exact_seconds(seconds: Seconds) -> Fraction:
    """A length in seconds as a fraction; floats are read as the decimal they print as. Raises RequestError."""
    try:
        return Fraction(str(seconds)) if isinstance(seconds, float) else Fraction(seconds)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise RequestError(f"length is {seconds!r}, expected a number of seconds") from error


def latent_frame_span(index: int) -> tuple[int, int]:
    """Picture frames [start, end) that latent frame ``index`` stands for."""
    return max(0, FRAMES_PER_LATENT * (index - 1) + 1), FRAMES_PER_LATENT * index + 1


def latent_frame_of(frame: int) -> int:
    """The latent frame that picture frame ``frame`` belongs to."""
    return -(-frame // FRAMES_PER_LATENT)


def latent_size(pixels: int) -> int:
    """Latent rows or columns of a picture side. Raises RequestError unless a multiple of 32."""
    if pixels <= 0 or pixels % PIXELS_PER_LATENT:
        near = snap_size(pixels)
        raise RequestError(
            f"picture side is {pixels} px, expected a multiple of {PIXELS_PER_LATENT}: use {near}, or turn snapping on"
        )
    return pixels // PIXELS_PER_LATENT


def snap_size(pixels: int, multiple: int = PIXELS_PER_LATENT) -> int:
    """The multiple nearest to ``pixels`` (halves upwards), at least one multiple."""
    return max(1, round_half_up(Fraction(pixels, multiple))) * multiple


# --- sound -------------------------------------------------------------------------------------------------------


def audio_latents(frames: int, fps: Fraction, rule: str = "round") -> int:
    """Audio latents for a clip of ``frames`` at ``fps``; see :func:`audio_latents_for`."""
    return audio_latents_for(seconds_of_frames(frames, fps), rule)


def audio_latents_for(seconds: Fraction, rule: str = "round") -> int:
    """Audio latents for a duration: ``round`` half to even (official), ``ceil`` (ComfyUI before 0.29),
    ``cover`` (decoded sound at least as long as the picture). Never below 1."""
    exact = seconds * AUDIO_LATENTS_PER_SECOND
    if rule == "round":
        count = round(exact)
    elif rule == "ceil":
        count = math.ceil(exact)
    elif rule == "cover":
        count = math.ceil(exact + Fraction(3, 4))
    else:
        raise RequestError(f"audio length rule is {rule!r}, expected one of {', '.join(AUDIO_LENGTH_RULES)}")
    return max(1, count)


def audio_latent_span(index: int) -> tuple[Fraction, Fraction]:
    """Seconds [start, end) that audio latent ``index`` stands for."""
    first = max(0, MEL_FRAMES_PER_LATENT * (index - 1) + 1)
    return Fraction(first, MEL_FRAMES_PER_SECOND), Fraction(MEL_FRAMES_PER_LATENT * index + 1, MEL_FRAMES_PER_SECOND)


def beyond_window(offset: Fraction, seconds: Fraction, audio_latents: int) -> Fraction | None:
    """How far a clip reaches on the model's clock, where that is more than the model was trained on; else None.

    offset: where its picture begins; seconds: length of that; audio_latents: of its sound, which begins at 0.
    """
    end = max(offset + seconds, audio_latent_span(max(audio_latents, 1) - 1)[1])
    return end if end > WINDOW_SECONDS else None


def mel_frames_of_latents(latents: int) -> int:
    """Mel frames that this many audio latents decode to."""
    return max(1, MEL_FRAMES_PER_LATENT * latents - 3)


def decoded_audio_seconds(latents: int) -> Fraction:
    """Length of the sound that this many audio latents decode to."""
    return Fraction(mel_frames_of_latents(latents), MEL_FRAMES_PER_SECOND)


def decoded_samples(latents: int, sample_rate: int) -> int:
    """Samples per channel that this many audio latents decode to at the vocoder's rate."""
    return samples_of_seconds(decoded_audio_seconds(latents), sample_rate)


def samples_of_seconds(seconds: Fraction, sample_rate: int) -> int:
    """Nearest sample index to an exact time."""
    return round(seconds * sample_rate)


def samples_of_frames(frames: int, fps: Fraction, sample_rate: int) -> int:
    """Samples per channel of a sound track as long as ``frames`` pictures: round(frames / fps · rate)."""
    return samples_of_seconds(seconds_of_frames(frames, fps), sample_rate)
