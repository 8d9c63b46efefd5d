"""Pictures that are connected to a story beside those that its script names."""

import hashlib
import os
from pathlib import Path

import torch
from PIL import Image

from ..ltx2 import system
from ..ltx2.errors import RequestError
from ..ltx2.story.script import StoryImage
from ..ltx2.values import LAST
from . import host
from .sockets import Conditions, ConditionsValue


def story_pictures() -> list:
    """Pictures beside those of the script."""
    io = host.io
    return [
        host.field(io.Image, "first_image", "The picture that the film starts from.", optional=True),
        host.field(io.Image, "last_image", "The picture that the film comes to at its end.", optional=True),
        host.field(
            Conditions,
            "conditions",
            "Pictures from a chain of Add Image nodes; their frames are counted on the whole film.",
            optional=True,
        ),
    ]


def with_pictures(story, given: ConditionsValue):
    """A script with pictures from sockets. Raises RequestError for what a story cannot start from."""
    if given.clips or given.audio is not None or given.state is not None:
        raise RequestError(
            "the conditions hold clips, a sound or a state, a story takes pictures from them: use Generate for one segment of these"
        )
    for name, held in (("reference", given.references), ("voice", given.voice)):
        if held:
            raise RequestError(
                f"the conditions hold a {name}, which a story names in its script: write `{name}: FILE` there"
            )
    if given.slots:
        raise RequestError(
            "the conditions hold keyframe slots, which a story names in its script: write `keyframe_slots: 5` there"
        )
    for image in given.images:
        if image.crf is not None:
            raise RequestError(f"a picture has crf {image.crf:g}, a story's have that of the model: leave crf at -1")
        frame = None if image.frame == LAST else image.frame
        placed = StoryImage(picture_file(image.image), frame, image.strength, image.attention)
        story = story.with_image(placed)
    return story


def picture_file(image: torch.Tensor) -> Path:
    """A picture [H, W, 3] in 0…1 as a PNG in ComfyUI's temp folder, where the same picture has the same name."""
    pixels = (image.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8).contiguous().numpy()
    folder = host.temp_folder() / "continuum"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:32]}.png"
    if not path.is_file():
        partial = path.with_suffix(f".{os.getpid()}.partial")
        Image.fromarray(pixels).save(partial, "PNG")
        system.replace(partial, path)
    return path
