"""What can be used of a state: its frames and audio latents, checked, and noise on them where that is wanted."""

from dataclasses import dataclass

import numpy as np
import torch

from ..clock import snap_frames
from ..continuation.state import LTX2ContinuationState
from ..errors import ContinuationError
from ..values import AUDIO_BINS, AUDIO_CHANNELS


@dataclass(frozen=True)
class ContextNoise:
    """Noise put on what a segment starts from, which keeps small flaws from growing over many segments.

    video: standard deviation as a share of full brightness; audio: standard deviation in latent units.
    """

    video: float = 0.0
    audio: float = 0.0


@dataclass(frozen=True, eq=False)
class StateContent:
    """frames [V, H, W, 3] uint8 with V = 8k+1, and audio latents [1, 8, T, 16]; None each where there is nothing to
    use."""

    frames: np.ndarray | None
    audio: torch.Tensor | None


def read_content(state: LTX2ContinuationState, notes: list[str]) -> StateContent:
    """What a state holds; what is left out of it is added to the notes. Raises ContinuationError for what is damaged or
    still in a blob store."""
    return StateContent(_usable_frames(state, notes), _usable_latents(state, notes))


def with_noise(held: StateContent, noise: ContextNoise, seed: int) -> StateContent:
    """Seeded noise on both; zero leaves the very same arrays."""
    generator = torch.Generator("cpu").manual_seed(seed % 2**63)
    frames, audio = held.frames, held.audio
    if frames is not None and noise.video > 0:
        drawn = torch.randn(frames.shape, generator=generator).numpy()
        frames = np.clip(np.rint(frames + drawn * (noise.video * 255)), 0, 255).astype(np.uint8)
    if audio is not None and noise.audio > 0:
        sample = torch.randn(audio.shape, generator=generator)
        audio = (audio.float() + sample * noise.audio).to(audio.dtype)
    return StateContent(frames, audio)


def _usable_frames(state: LTX2ContinuationState, notes: list[str]) -> np.ndarray | None:
    """The state's frames as one array [V, H, W, 3] with V = 8k+1, or None."""
    if not state.video_frames:
        if state.video_frames_blob_id is not None:
            raise ContinuationError(
                f"the state's frames are in the blob {state.video_frames_blob_id!r}: read it with its blob store"
            )
        return None
    sizes = {frame.shape for frame in state.video_frames}
    if len(sizes) > 1:
        raise ContinuationError(
            f"the state's frames have different sizes, {sorted(sizes)[:3]}: a segment starts from frames of one size"
        )
    have = len(state.video_frames)
    usable = snap_frames(have, "down")
    if usable != have:
        notes.append(f"the state carries {have} frames; the last {usable} were used, because a clip has 8k+1")
    return np.stack(state.video_frames[have - usable :])


def _usable_latents(state: LTX2ContinuationState, notes: list[str]) -> torch.Tensor | None:
    if state.audio_conditioning_num_frames == 0:
        return None
    if state.audio_latents is None:
        if state.audio_latents_blob_id is not None:
            raise ContinuationError(
                f"the state's sound is in the blob {state.audio_latents_blob_id!r}: read it with its blob store"
            )
        notes.append(
            "the state asks for a sound overlap but carries no latents; the next segment starts its sound anew"
        )
        return None
    check_latents(state.audio_latents)
    return state.audio_latents


def check_latents(latents: torch.Tensor) -> None:
    """Raises ContinuationError for a tensor that is no audio latent."""
    if (
        latents.ndim != 4
        or latents.shape[1] != AUDIO_CHANNELS
        or latents.shape[3] != AUDIO_BINS
        or latents.shape[2] < 1
    ):
        raise ContinuationError(
            f"audio latents are {list(latents.shape)}, LTX-2 makes [B, {AUDIO_CHANNELS}, T, {AUDIO_BINS}]"
        )
