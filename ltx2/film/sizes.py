"""The size of the segment after a state: that of its frames, on the grid that the models take."""

from ..clock import PIXELS_PER_LATENT, snap_size
from ..continuation.state import LTX2ContinuationState


def size_after(state: LTX2ContinuationState) -> tuple[int, int] | None:
    """Width and height of the segment after a state: those of its frames, brought to the grid where they lie off it;
    None when it carries no frames."""
    if not state.video_frames:
        return None
    height, width = state.video_frames[0].shape[:2]
    return on_grid(width, height)


def on_grid(width: int, height: int) -> tuple[int, int]:
    """The size itself where the models take it, else the nearest one that every preset takes."""
    if width % PIXELS_PER_LATENT or height % PIXELS_PER_LATENT:
        return snap_size(width, 2 * PIXELS_PER_LATENT), snap_size(height, 2 * PIXELS_PER_LATENT)
    return width, height


def sizes_on_grid(width: int, height: int) -> set[tuple[int, int]]:
    """Sizes that a state's frames of this size may be brought to: the nearest that one stage takes, or two."""
    sides = (PIXELS_PER_LATENT, 2 * PIXELS_PER_LATENT)
    return {(snap_size(width, side), snap_size(height, side)) for side in sides}
