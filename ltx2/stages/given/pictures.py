"""Pictures of another shape than the clip: how much of them is seen is told."""

from collections.abc import Sequence

from ...values import ImageCondition

_NOTED_SHARE = 0.98  # what is cut off beyond this is hardly seen


def cut_pictures(images: Sequence[ImageCondition], width: int, height: int) -> tuple[str, ...]:
    """A note for each picture of which much lies outside a clip of so many pixels that it is made to cover."""
    notes = []
    for one in images:
        shape: tuple[int, ...] = tuple(getattr(one.image, "shape", ()))
        if len(shape) != 3 or not (width and height and shape[0] and shape[1]):
            continue
        own, clip = shape[1] / shape[0], width / height
        seen = min(own, clip) / max(own, clip)
        if seen < _NOTED_SHARE:
            side = "at the sides" if own > clip else "above and below"
            share = f"{100 * (1 - seen):.1f} %"
            size = f"{shape[1]}x{shape[0]}, the clip {width}x{height}"
            notes.append(f"the picture at frame {one.frame} is {size}: {share} of it are cut off {side}")
    return tuple(notes)
