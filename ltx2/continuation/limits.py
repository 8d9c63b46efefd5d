"""How large a continuation state may be. States arrive from outside, so every bound is checked before anything is
decoded."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StateLimits:
    """Bounds of one state; raise the one that an error message names to read a larger state on purpose."""

    frames: int = 257
    frame_side: int = 8192  # pixels
    frame_pixels: int = 40_000_000
    total_pixels: int = 1_000_000_000  # of all frames together: 3 GB decoded
    audio_elements: int = 64 * 2**20
    inline_bytes: int = 512 * 2**20  # base64 text of one state
    inline_warning_bytes: int = (
        64 * 2**20
    )  # a writer without a blob store warns above this; hosts take uploads of 100 MB
    blob_bytes: int = 2 * 2**30
    text_bytes: int = 64 * 2**10  # any string that is not inline data
    nesting: int = 16  # objects and lists inside each other
    workflow_bytes: int = 16 * 2**20  # prompt and workflow texts of an attachment


DEFAULT_LIMITS = StateLimits()
