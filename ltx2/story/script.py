"""The story script: a readable YAML file with one prompt a segment. Errors name the line.

    fps: 24                     # also 23.976 or 24000/1001
    size: 768x512
    seed: 10                    # segment i uses seed + i unless it has its own
    preset: ltx2_fast
    negative: "blurry, watermark"
    overlap: {video: 9, audio: 49}       # in frames; what each segment repeats of the one before
    hold: {colour: 0.5, contrast: 0.5, loudness: 0.5}    # against drift, 0…1; off by default
    noise: {video: 0.0, audio: 0.0}      # on what a segment starts from; off by default
    override: {denoise.num_inference_steps: 6}
    defaults: {seconds: 5}      # for every segment that does not say otherwise
    segments:
      - A harbour at dawn, gulls call.       # a prompt alone, or
      - prompt: The camera rises over the roofs, bells ring.
        seconds: 4              # of the clip the model makes, the repeated part included; or frames: 97
        seed: 77
        strength: 0.9           # how firmly it starts from the segment before; 1 = exactly
      - prompt: A street full of people.
        cut: true               # a new scene: starts from nothing
        image: street.jpg       # or {file: street.jpg, frame: last, strength: 0.8}; paths start at the script's folder

Every entry is described in docs/story.md.
"""

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from ..clock import frames_for_seconds, is_valid_frame_count, parse_fps, snap_frames
from ..errors import Ltx2Error, StoryError
from ..film.drift import DriftCorrection
from ..film.handoff import ContextNoise
from ..film.timeline import AUDIO_OVERLAP_FRAMES, VIDEO_OVERLAP_FRAMES

MAX_SEGMENTS = 10_000
MAX_BYTES = 16 * 2**20
MAX_TEXT = 64 * 2**10
MAX_NESTING = 16


@dataclass(frozen=True)
class StoryImage:
    """A picture to appear in a segment; frame None means the last one."""

    path: Path
    frame: int | None = 0
    strength: float = 1.0


@dataclass(frozen=True)
class SegmentScript:
    """One segment as the script asks for it. seed None: the story's, counted up."""

    line: int
    prompt: str
    frames: int
    negative: str | None = None
    seed: int | None = None
    strength: float | None = None
    images: tuple[StoryImage, ...] = ()
    cut: bool = False


@dataclass(frozen=True)
class StoryScript:
    """A whole story. What is None comes from the preset."""

    path: Path
    segments: tuple[SegmentScript, ...]
    fps: Fraction = Fraction(24)
    width: int | None = None
    height: int | None = None
    seed: int = 10
    preset: str | None = None
    video_overlap: int = VIDEO_OVERLAP_FRAMES
    audio_overlap: int = AUDIO_OVERLAP_FRAMES
    hold: DriftCorrection | None = None
    noise: ContextNoise | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total_frames(self) -> int:
        """Frames of the finished film."""
        repeated = sum(self.video_overlap for segment in self.segments[1:] if not segment.cut)
        return sum(segment.frames for segment in self.segments) - repeated

    def __str__(self) -> str:
        return f"{len(self.segments)} segments, {self.total_frames} frames, {float(self.total_frames / self.fps):.2f} s"


def read_script(path: str | Path) -> StoryScript:
    """Read and check a script file. Raises StoryError naming file and line."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise StoryError(f"{path} has {path.stat().st_size} bytes, expected a script of at most {MAX_BYTES}")
        text = path.read_text("utf-8")
    except OSError as error:
        raise StoryError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise StoryError(f"{path} is not UTF-8 text (byte {error.start})") from error
    return parse_script(text, path)


def parse_script(text: str, path: str | Path = "script.yaml") -> StoryScript:
    """Check a script's text; ``path`` is what errors name and where relative image paths start. Raises StoryError."""
    reader = _Reader(Path(path))
    try:
        root = yaml.compose(text, Loader=_ShallowLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise StoryError(
            f"{path}, line {mark.line + 1 if mark else '?'}: not YAML, {error.problem or error.context}"
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise StoryError(f"{path}: not YAML, {' '.join(str(error).split())[:200]}") from error
    if root is None:
        raise StoryError(f"{path} is empty, expected a list of segments")
    found = reader.mapping(root, "the script", _STORY)
    if "segments" not in found:
        raise reader.error(root, "the script has no segments: add `segments:` with one prompt a segment")
    fps = reader.value(found, "fps", Fraction(24), _fps)
    size = reader.value(found, "size", (None, None), _size)
    overlap = reader.mapping(found["overlap"], "overlap", ("video", "audio")) if "overlap" in found else {}
    video_overlap = reader.value(overlap, "video", VIDEO_OVERLAP_FRAMES, _overlap)
    hold = reader.mapping(found["hold"], "hold", ("colour", "contrast", "loudness")) if "hold" in found else {}
    noise = reader.mapping(found["noise"], "noise", ("video", "audio")) if "noise" in found else {}
    defaults = reader.mapping(found["defaults"], "defaults", _DEFAULTS) if "defaults" in found else {}
    if "negative" in found:
        defaults = {"negative": found["negative"], **defaults}
    return StoryScript(
        path=Path(path),
        segments=tuple(_segments(reader, found["segments"], defaults, fps, video_overlap)),
        fps=fps,
        width=size[0],
        height=size[1],
        seed=reader.value(found, "seed", 10, _whole),
        preset=reader.value(found, "preset", None, _text),
        video_overlap=video_overlap,
        audio_overlap=reader.value(overlap, "audio", AUDIO_OVERLAP_FRAMES, _whole),
        hold=DriftCorrection(**{name: reader.value(hold, name, 0.0, _share) for name in hold}) if hold else None,
        noise=ContextNoise(**{name: reader.value(noise, name, 0.0, _share) for name in noise}) if noise else None,
        overrides=_overrides(reader, found.get("override")),
    )


_STORY = (
    "title",
    "fps",
    "size",
    "seed",
    "preset",
    "negative",
    "overlap",
    "hold",
    "noise",
    "override",
    "defaults",
    "segments",
)
_SEGMENT = ("prompt", "seconds", "frames", "negative", "seed", "strength", "image", "cut")
_DEFAULTS = ("seconds", "frames", "negative", "strength")


def _segments(reader: "_Reader", node, defaults: dict, fps: Fraction, overlap: int):
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise reader.error(node, "segments is empty or no list: write one `- prompt: …` a segment")
    reader.check_tag(node, "segments", "seq", "list")
    if len(node.value) > MAX_SEGMENTS:
        raise reader.error(node, f"the script has {len(node.value)} segments, expected at most {MAX_SEGMENTS}")
    before = 0  # frames of the segment before
    for index, item in enumerate(node.value):
        own = {"prompt": item} if isinstance(item, yaml.ScalarNode) else reader.mapping(item, "a segment", _SEGMENT)
        if "prompt" not in own:
            raise reader.error(item, "the segment has no prompt")
        length = ("seconds", "frames")
        if all(name in own for name in length):
            raise reader.error(own["frames"], "the segment has seconds and frames: give one of them")
        merged = {
            name: value for name, value in defaults.items() if name not in length or not any(n in own for n in length)
        }
        merged |= own
        frames = reader.value(merged, "frames", None, _whole_clip)
        if frames is None:
            frames = snap_frames(frames_for_seconds(reader.value(merged, "seconds", Fraction(5), _seconds), fps))
        cut = reader.value(merged, "cut", False, _flag)
        starts_anew = cut or index == 0
        if not starts_anew and min(frames, before) <= overlap:
            short = "segment" if frames <= before else "segment before"
            raise reader.error(
                item, f"the {short} has {min(frames, before)} frames, {overlap} of which are repeated: make it longer"
            )
        before = frames
        images = _images(reader, merged["image"], frames) if "image" in merged else ()
        if not starts_anew and any(image.frame is not None and image.frame < overlap for image in images):
            raise reader.error(
                merged["image"],
                "the segment starts from the one before: give the image a later frame, or say cut: true",
            )
        yield SegmentScript(
            line=item.start_mark.line + 1,
            prompt=reader.value(merged, "prompt", "", _prompt),
            frames=frames,
            negative=reader.value(merged, "negative", None, _text),
            seed=reader.value(merged, "seed", None, _whole),
            strength=reader.value(merged, "strength", None, _share),
            images=images,
            cut=cut,
        )


def _images(reader: "_Reader", node, frames: int) -> tuple[StoryImage, ...]:
    if isinstance(node, yaml.SequenceNode):
        return tuple(image for item in node.value for image in _images(reader, item, frames))
    found = (
        {"file": node}
        if isinstance(node, yaml.ScalarNode)
        else reader.mapping(node, "image", ("file", "frame", "strength"))
    )
    if "file" not in found:
        raise reader.error(node, "the image has no file")
    path = reader.path.parent / reader.value(found, "file", "", _prompt)
    if not path.is_file():
        raise reader.error(found["file"], f"the image {path} does not exist")
    frame = reader.value(found, "frame", 0, lambda value: None if value == "last" else _whole(value))
    if frame is not None and frame >= frames:
        raise reader.error(found["frame"], f"the image is at frame {frame}, the segment has frames 0 to {frames - 1}")
    return (StoryImage(path, frame, reader.value(found, "strength", 1.0, _share)),)


def _overrides(reader: "_Reader", node) -> dict[str, Any]:
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise reader.error(node, "override is no mapping, expected lines such as refine.num_inference_steps: 2")
    found = {}
    for key, value in node.value:
        name = reader.plain(key, "an override's name")
        if not isinstance(name, str) or name.count(".") != 1:
            raise reader.error(key, f"override {name!r}, expected STAGE.NAME such as denoise.guidance_scale")
        found[name] = reader.plain(value, name)
    return found


class _ShallowLoader(yaml.SafeLoader):
    """The safe loader, refusing deep nesting before it costs time or stack."""

    depth = 0

    def compose_node(self, parent, index):
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise yaml.composer.ComposerError(
                None, None, f"nested deeper than {MAX_NESTING} levels", self.peek_event().start_mark
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


@dataclass(frozen=True)
class _Reader:
    """Values out of YAML nodes, with the line for errors."""

    path: Path

    def error(self, node, message: str) -> StoryError:
        return StoryError(f"{self.path}, line {node.start_mark.line + 1}: {message}")

    def mapping(self, node, what: str, known: tuple[str, ...]) -> dict[str, Any]:
        """The nodes of a mapping by key; every key must be known and occur once."""
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"{what} is no mapping, expected lines such as {known[0]}: …")
        self.check_tag(node, what, "map", "mapping")
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = self.plain(key, "a key")
            if name not in known:
                near = difflib.get_close_matches(str(name), known, 1)
                hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
                raise self.error(key, f"{what} has the unknown entry {str(name)[:40]!r}: {hint}")
            if name in found:
                raise self.error(key, f"{what} has {name} twice")
            found[name] = value
        return found

    def check_tag(self, node, what: str, tag: str, name: str) -> None:
        if node.tag != f"tag:yaml.org,2002:{tag}":
            raise self.error(node, f"{what} is marked {node.tag[:40]!r}, expected a plain {name}")

    def plain(self, node, what: str):
        """A scalar as YAML means it, or a short list of scalars."""
        if isinstance(node, yaml.SequenceNode) and len(node.value) <= 1000:
            return [self.plain(item, what) for item in node.value if isinstance(item, yaml.ScalarNode)]
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(node, f"{what} is a mapping, expected one value")
        if len(node.value) > MAX_TEXT:
            raise self.error(node, f"{what} has {len(node.value)} characters, expected at most {MAX_TEXT}")
        try:
            return SafeConstructor().construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            raise self.error(node, f"{what} is {node.value[:40]!r}, which YAML cannot read") from error

    def value(self, nodes: Mapping[str, Any], name: str, default, check: Callable):
        """The checked value of an entry, or the default."""
        node = nodes.get(name)
        if node is None:
            return default
        found = self.plain(node, name)
        try:
            return check(found)
        except (Ltx2Error, TypeError, ValueError) as error:
            expected = error if str(error) else "of a wrong kind"
            raise self.error(node, f"{name} is {str(found)[:40]!r}, {expected}") from error


def _number(value) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("expected a number")
    return value


def _whole(value) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError("expected a whole number from 0")
    return value


def _overlap(value) -> int:
    if not is_valid_frame_count(_whole(value)):
        raise ValueError("expected 8k+1 frames such as 9 or 17")
    return value


def _whole_clip(value) -> int:
    if not is_valid_frame_count(_whole(value)):
        below = snap_frames(max(value, 1), "down")
        raise ValueError(f"expected 8k+1 frames: use {below} or {below + 8}")
    return value


def _seconds(value) -> Fraction:
    if not 0 < _number(value) <= 3600:
        raise ValueError("expected a length in seconds above 0")
    return Fraction(str(value))


def _share(value) -> float:
    if not 0 <= _number(value) <= 1:
        raise ValueError("expected 0 to 1")
    return float(value)


def _flag(value) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _text(value) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError("expected text: put it in quotes")
    return value


def _prompt(value) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected text: put it in quotes")
    return value.strip()


def _fps(value) -> Fraction:
    try:
        return parse_fps(value)
    except Ltx2Error as error:
        raise ValueError("expected a positive number such as 24, 23.976 or 24000/1001") from error


def _size(value) -> tuple[int, int]:
    sides = str(value).lower().replace("×", "x").split("x")
    if len(sides) != 2 or not all(side.strip().isdigit() and 0 < int(side) <= 16384 for side in sides):
        raise ValueError("expected WIDTHxHEIGHT such as 768x512")
    return int(sides[0]), int(sides[1])
