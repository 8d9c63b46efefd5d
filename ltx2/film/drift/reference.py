"""What the segments of a scene are held to: it begins with the scene's first segment and travels in the states.

Where it begins anew, at a cut, there is no state to carry it. A state without a reference begins one: the frames that
it holds are what the next ones are held to.
"""

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...continuation.frame_files import decode_frame
from ...continuation.state import LTX2ContinuationState
from ...errors import ContinuationError
from ...values import ChannelStatistics, ImageCondition, LatentDrift, Waveform
from ..provenance import METADATA_KEY
from .control import DriftControl
from .look import Look, change_toward, changed, gain_toward, look_of, loudness_of

_KEY = "drift"
# beneath the bound of a text in a state, which readers of other programs have too
_TEXT_BYTES = 48 * 1024
_MOST_TEXTS = 1024
_JPEG_QUALITY = 95  # an anchor is looked at, never shown
_MOST_CHANNELS = 4096


@dataclass(frozen=True, eq=False)
class DriftReference:
    """What a scene is held to; what is None nobody has asked for yet.

    look: of the picture. loudness: of the first segment's sound, and loudness_now: of that of the segment whose state
    this is in. latent: of the first stage, moved along with the scene. anchor: a picture, as JPEG.
    """

    look: Look | None = None
    loudness: float | None = None
    loudness_now: float | None = None
    latent: ChannelStatistics | None = None
    anchor: bytes | None = None

    def __str__(self) -> str:
        named = {"colours": self.look, "loudness": self.loudness, "latents": self.latent, "an anchor": self.anchor}
        return f"the scene is held to: {', '.join(name for name, part in named.items() if part is not None)}"

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known yet."""
        return all(part is None for part in (self.look, self.loudness, self.latent, self.anchor))


@dataclass(frozen=True, eq=False)
class TakenUp:
    """What a segment starts from, corrected, and the reference to hand on.

    frames: [V, H, W, 3] uint8 or None; gain: of the sound; anchor, latent: for the request. notes: one sentence each.
    """

    frames: np.ndarray | None
    gain: float = 1.0
    anchor: ImageCondition | None = None
    latent: LatentDrift | None = None
    reference: DriftReference | None = None
    notes: tuple[str, ...] = ()


def take_up(
    control: DriftControl | None, reference: DriftReference | None, frames: np.ndarray | None, *, sound: bool
) -> TakenUp:
    """What the frames of a state [V, H, W, 3] become, and the rest of what is done against drift.

    reference: that of the state, None where a scene's first segment left it. sound: whether sound is taken up as well.
    """
    if control is None or not control.corrections:
        return TakenUp(frames, reference=reference)
    held, notes, anchor, gain = reference or DriftReference(), [], None, 1.0
    if frames is None and (control.colour or control.contrast or control.anchor):
        notes.append(
            "the state carries no frames: drift of colour and contrast is not corrected, and there is no anchor"
        )
    elif frames is not None:
        frames, held = _coloured(control, held, frames)
        anchor, held = _anchored(control, held, frames)
    if control.loudness and sound and held.loudness is not None and held.loudness_now is not None:
        gain = gain_toward(held.loudness, held.loudness_now, control.loudness)
    elif control.loudness and not sound:
        notes.append("the state carries no sound: drift of loudness is not corrected")
    return TakenUp(frames, gain, anchor, latent_drift(control, held), held, tuple(notes))


def latent_drift(control: DriftControl | None, reference: DriftReference | None = None) -> LatentDrift | None:
    """What the first stage of a segment does against drift; without a reference it only measures one."""
    if control is None or not control.latent:
        return None
    return LatentDrift(control.latent, None if reference is None else reference.latent)


def _coloured(control: DriftControl, held: DriftReference, frames: np.ndarray) -> tuple[np.ndarray, DriftReference]:
    if not (control.colour or control.contrast):
        return frames, held
    look = look_of([frames])
    if held.look is None:
        return frames, replace(held, look=look)
    change = change_toward(held.look, look, control.colour, control.contrast)
    return changed(frames, change.gain, change.offset), held


def _anchored(
    control: DriftControl, held: DriftReference, frames: np.ndarray
) -> tuple[ImageCondition | None, DriftReference]:
    if not control.anchor:
        return None, held
    if held.anchor is None:  # the segment starts from this very frame
        return None, replace(held, anchor=_jpeg(frames[-1]))
    picture, _ = decode_frame(held.anchor, "the anchor in the state")
    return ImageCondition(picture, 0, control.anchor, crf=0, guide=True), held


def handed_on(
    control: DriftControl | None,
    reference: DriftReference | None,
    loudness: float | None,
    latent: ChannelStatistics | None,
) -> DriftReference | None:
    """The reference in the state of a finished segment.

    reference: that it was made with; loudness: of its sound, None for a silent one; latent: what its first stage gave.
    """
    corrections = {} if control is None else control.corrections
    held = replace(reference or DriftReference(), loudness_now=None)
    if "loudness" in corrections and loudness is not None:
        first = loudness if held.loudness is None else held.loudness
        held = replace(held, loudness=first, loudness_now=loudness)
    if latent is not None:
        held = replace(held, latent=latent)
    return None if held.is_empty else held


# --- in a state -------------------------------------------------------------------------------------------------------


def with_reference(state: LTX2ContinuationState, reference: DriftReference | None) -> LTX2ContinuationState:
    """The state with a reference in its metadata; without one it is as it was."""
    if reference is None:
        return state
    ours = {**state.metadata.get(METADATA_KEY, {}), _KEY: _written(reference)}
    return replace(state, metadata={**state.metadata, METADATA_KEY: ours})


def with_next_reference(
    state: LTX2ContinuationState,
    control: DriftControl | None,
    reference: DriftReference | None,
    sound: Waveform | None,
    latent: ChannelStatistics | None,
) -> LTX2ContinuationState:
    """The state of a finished segment with what the segment after is held to, see :func:`handed_on`.

    sound: the segment's, None for a silent one.
    """
    loudness = None if sound is None else loudness_of(sound.samples)
    return with_reference(state, handed_on(control, reference, loudness, latent))


def read_reference(metadata: Mapping[str, Any]) -> DriftReference | None:
    """The reference that a state's metadata holds, or None. Raises ContinuationError when it is damaged."""
    ours = metadata.get(METADATA_KEY)
    found = ours.get(_KEY) if isinstance(ours, dict) else None
    if found is None:
        return None
    try:
        return _read(found)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"no {error.args[0]}" if isinstance(error, KeyError) else error
        raise ContinuationError(f"metadata.{METADATA_KEY}.{_KEY} of the state is damaged: {what}") from error


def _written(reference: DriftReference) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if reference.look is not None:
        found["look"] = {"mean": reference.look.mean.tolist(), "deviation": reference.look.deviation.tolist()}
    for name in ("loudness", "loudness_now"):
        if getattr(reference, name) is not None:
            found[name] = getattr(reference, name)
    if reference.latent is not None:
        found["latent"] = {name: getattr(reference.latent, name).tolist() for name in ChannelStatistics.NAMES}
    if reference.anchor is not None:
        text = base64.b64encode(reference.anchor).decode()
        found["anchor_jpeg"] = [text[at : at + _TEXT_BYTES] for at in range(0, len(text), _TEXT_BYTES)]
    return found


def _read(found: Mapping[str, Any]) -> DriftReference:
    look, latent, texts = found.get("look"), found.get("latent"), found.get("anchor_jpeg")
    values = None
    if latent is not None:
        values = [_numbers(latent[name], f"latent.{name}") for name in ChannelStatistics.NAMES]
        if len({len(one) for one in values}) != 1:
            raise ValueError(f"latent has {[len(one) for one in values]} channels, expected the same number")
    if texts is not None and not (0 < len(texts) <= _MOST_TEXTS and all(isinstance(text, str) for text in texts)):
        raise ValueError("anchor_jpeg is no list of texts")
    return DriftReference(
        look=None if look is None else Look(*(np.array(_numbers(look[n], n, 3)) for n in ("mean", "deviation"))),
        loudness=_loudness(found, "loudness"),
        loudness_now=_loudness(found, "loudness_now"),
        latent=None if values is None else ChannelStatistics(*(torch.tensor(one) for one in values)),
        anchor=None if texts is None else base64.b64decode("".join(texts), validate=True),
    )


def _numbers(value: Any, name: str, count: int | None = None) -> list[float]:
    if not isinstance(value, list) or not 0 < len(value) <= _MOST_CHANNELS or count not in (None, len(value)):
        raise ValueError(f"{name} is no list of {count or 'some'} numbers")
    numbers = [_number(one, name) for one in value]
    if name.endswith("deviation") and min(numbers) < 0:
        raise ValueError(f"{name} holds {min(numbers):g}, expected 0 or more")
    return numbers


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or abs(value) > 1e6:
        raise ValueError(f"{name} holds {str(value)[:20]!r}, expected a number")
    return float(value)


def _loudness(found: Mapping[str, Any], name: str) -> float | None:
    value = found.get(name)
    if value is None:
        return None
    if _number(value, name) < 0:
        raise ValueError(f"{name} is {value}, expected 0 or more")
    return float(value)


def _jpeg(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame)).save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return file.getvalue()
