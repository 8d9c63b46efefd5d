"""How far a node is, on its bar and in the console, and what denoising sees: by a tiny autoencoder where the host has
one, else by colours."""

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image

from ..ltx2 import mini
from ..ltx2.errors import CheckpointError
from ..ltx2.stages.preview import drawn_pictures, latent_picture
from ..ltx2.values import AVLatent, Progress
from . import host
from .console import ConsoleBar

STEPS = 1000  # of a bar
LARGEST_PREVIEW = 1024  # pixels


def reporter(*stages: str, part: int = 0, parts: int = 1, names: Sequence[str] = ()):
    """A callback for the engine's progress: moves the node's bar and the console's, shows what denoising sees and stops
    when the user cancels.

    stages: those that this node goes through, in order; the one bar spans them all, the denoising ones with most of it.
    part, parts: this is one of so many equal parts of the node's work. names: files of the model, for its pictures.
    """
    bars: dict = {}
    console = ConsoleBar(host.console_is_on())
    long = ("denoising", "refining", "doubling")
    weights = [20 if stage in long else 5 if stage == "video decoding" else 1 for stage in stages]

    def report(progress: Progress) -> None:
        try:
            host.check_interrupted()
        except BaseException:
            console.close()
            raise
        console(progress)
        bar = bars.setdefault("bar", host.progress_bar(STEPS))
        if progress.stage in stages:
            place = stages.index(progress.stage)
            share = progress.done / progress.total if progress.total else 1.0
            through = (sum(weights[:place]) + min(share, 1.0) * weights[place]) / sum(weights)
            bars["done"] = round(STEPS * (part + through) / parts)
        image = preview_picture(progress.preview, names)
        shown = ("JPEG", image, LARGEST_PREVIEW) if image is not None else None
        bar.update_absolute(bars.get("done", STEPS * part // parts), STEPS, shown)

    return report


def preview_picture(latent, names: Sequence[str] = ()) -> PIL.Image.Image | None:
    """A picture of a latent on its way, or None where there is nothing to see or nobody can tell its colours. names:
    files of the model that makes it."""
    if not isinstance(latent, AVLatent):
        return None
    decoder = None if mini.CHECKPOINT.name in names else tiny_decoder()
    if decoder is not None:
        found = drawn_pictures(latent, decoder)
    else:
        colours = host.latent_colours()
        found = None if colours is None else latent_picture(latent, *colours)
    return None if found is None else PIL.Image.fromarray(found)


def tiny_decoder() -> Any:
    """The newest tiny autoencoder that the host has, on its device; None without one."""
    for path in host.tiny_autoencoders():
        found = _loaded(str(path), path.stat().st_mtime_ns)
        if found is not None:
            return found
    return None


@functools.lru_cache(maxsize=2)
def _loaded(path: str, changed_ns: int):
    """The decoder in a file, None for another kind of file, which is told once."""
    from ..ltx2.checkpoint.models import load_tiny_decoder
    from ..ltx2.checkpoint.reader import open_checkpoint

    try:
        return load_tiny_decoder(open_checkpoint(path), dtype=host.vae_dtype(), device=host.compute_device())
    except CheckpointError as error:
        logging.getLogger(host.PREFIX).warning("no previews by %s: %s", Path(path).name, error)
        return None
