"""How large a continuation state may be. States arrive from outside, so every bound is checked before anything is
decoded."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StateLimits:
    """Bounds of one state; raise the one that an error message names to read a larger state on purpose.

    frame_side: pixels; total_pixels: of all frames together, 3 GB decoded; inline_bytes: base64 text of one state;
    inline_warning_bytes: above it a writer without a blob store says so (hosts take uploads of 100 MB); text_bytes: of
    any text that is not inline data; nesting: objects and lists inside each other; nodes: values of one JSON document;
    workflow_bytes: prompt and workflow texts of an attachment.
    """

    frames: int = 257
    frame_side: int = 8192
    frame_pixels: int = 40_000_000
    total_pixels: int = 1_000_000_000
    audio_elements: int = 64 * 2**20
    inline_bytes: int = 512 * 2**20
    inline_warning_bytes: int = 64 * 2**20
    blob_bytes: int = 2 * 2**30
    text_bytes: int = 64 * 2**10
    nesting: int = 16
    nodes: int = 200_000
    workflow_bytes: int = 16 * 2**20


DEFAULT_LIMITS = StateLimits()
