"""What a script says that nothing in its film reads: told before anything is made."""

from .reading import StoryScript


def unheard(script: StoryScript) -> tuple[str, ...]:
    """One note for each entry that has no effect, whatever the models are."""
    notes = []
    goes_on = [not (one.cut or (not index and script.start is None)) for index, one in enumerate(script.segments)]
    for number, segment in enumerate(script.segments, 1):
        if not goes_on[number - 1] and "strength" in segment.said:
            notes.append(f"segment {number}: strength has no effect: the segment starts from nothing before it")
    anchored = script.drift is not None and script.drift.anchor
    if not anchored and not any(segment.images for segment in script.segments):
        if any(name.endswith(".image_strength") for name in script.overrides):
            notes.append("image_strength has no effect: no segment has an image")
    if script.noise is not None and not any(goes_on):
        notes.append("noise has no effect: no segment goes on from another")
    return tuple(notes)
