"""A script's text as checked values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...atomic_files import file_path
from ...clock import DEFAULT_FPS, frames_for_seconds, snap_frames
from ...errors import StoryError
from ...film.drift import DRIFT_NAMES, DriftControl, DriftCorrection, control_of
from ...film.handoff import ContextNoise
from ...film.timeline import AUDIO_OVERLAP_FRAMES, VIDEO_OVERLAP_FRAMES
from ...stages.given import LoraChoice
from ..sentences import as_story_error, shown
from . import values
from .audio import StoryAudio, read_audio
from .files import FindImage, ScriptFiles, beside
from .loras import read_loras
from .nodes import MAX_BYTES, Node, NotYaml, Scalar, Sequence, checked_text, compose
from .nodes import Mapping as MappingNode
from .references import StoryReference, read_references
from .start import StoryStart, read_start
from .text import MAX_SEGMENTS, as_source, too_many
from .values import Reader
from .voices import StoryVoice, read_voice

STORY_ENTRIES = (
    "segments",
    "title",
    "fps",
    "size",
    "seed",
    "preset",
    "negative",
    "overlap",
    "drift_correction",
    "hold",
    "noise",
    "override",
    "nag",
    "eta",
    "image_strength",
    "drift",
    "takes",
    "enhance",
    "reference",
    "voice",
    "audio",
    "double_rate",
    "keyframe_slots",
    "lora",
    "start",
    "defaults",
)
SEGMENT_ENTRIES = (
    "prompt",
    "seconds",
    "frames",
    "negative",
    "seed",
    "strength",
    "image",
    "cut",
    "takes",
    "take",
    "enhance",
    "reference",
    "voice",
)
_DEFAULTS = ("seconds", "frames", "negative", "strength", "takes", "reference", "voice")
_SHARED = ("negative", "takes", "reference", "voice")  # may stand above the segments as well


@dataclass(frozen=True)
class StoryImage:
    """A picture to appear in a segment; frame None means the last one."""

    path: Path
    frame: int | None = 0
    strength: float = 1.0
    attention: float = 1.0


@dataclass(frozen=True)
class SegmentScript:
    """One segment as the script asks for it. seed None: the story's, counted up. takes: how many are made; take: the
    one that the film shows, None where the script leaves it open. enhance: whether its prompt is written out, None: as
    the others. said: names of its own entries, beside the defaults."""

    line: int
    prompt: str
    frames: int
    negative: str | None = None
    seed: int | None = None
    strength: float | None = None
    images: tuple[StoryImage, ...] = ()
    cut: bool = False
    takes: int = 1
    take: int | None = None
    enhance: bool | None = None
    references: tuple[StoryReference, ...] = ()
    voice: StoryVoice | None = None
    said: frozenset[str] = frozenset()


@dataclass(frozen=True)
class StoryScript:
    """A whole story. What is None comes from the preset. path: what errors call it, a file or a node's input.
    double_rate: how often the frame rate of the film is doubled; fps and all frames are those of before.
    keyframe_slots: of each segment. enhance: whether a language model writes its prompts out. start: a found film, from
    whose end on all frames count."""

    path: Path
    segments: tuple[SegmentScript, ...]
    fps: Fraction = DEFAULT_FPS
    width: int | None = None
    height: int | None = None
    seed: int = 10
    preset: str | None = None
    video_overlap: int = VIDEO_OVERLAP_FRAMES
    audio_overlap: int = AUDIO_OVERLAP_FRAMES
    drift_correction: DriftCorrection | None = None
    noise: ContextNoise | None = None
    drift: DriftControl | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    enhance: bool = False
    audio: StoryAudio | None = None
    double_rate: int = 0
    keyframe_slots: int = 0
    loras: tuple[LoraChoice, ...] = ()
    start: StoryStart | None = None

    @property
    def is_enhanced(self) -> bool:
        """Whether a language model is to write some of its prompts out."""
        return any(self.enhance if one.enhance is None else one.enhance for one in self.segments)

    @property
    def total_frames(self) -> int:
        """Frames of the finished film that the story makes, which are all but those of a found one."""
        return sum(segment.frames - self.repeated(index) for index, segment in enumerate(self.segments))

    def repeated(self, index: int) -> int:
        """How many frames a segment repeats of what it goes on from."""
        if index == 0:
            return 0 if self.start is None else self.start.context
        return 0 if self.segments[index].cut else self.video_overlap

    def start_frame(self, index: int) -> int:
        """Where on the film a segment's clip begins, the frames that it repeats included."""
        frames = 0
        for number, segment in enumerate(self.segments[: index + 1]):
            frames -= 0 if number == 0 or segment.cut else self.video_overlap
            if number < index:
                frames += segment.frames
        return frames

    def start_seconds(self, index: int) -> Fraction:
        """When on the film a segment's clip begins. A doubled scene ends with its last frame, of half the length or
        less."""
        cuts = sum(segment.cut for segment in self.segments[1 : index + 1])
        gap = (1 - Fraction(1, 1 << self.double_rate)) / self.fps
        return self.start_frame(index) / self.fps - cuts * gap

    def with_image(self, image: StoryImage) -> "StoryScript":
        """The same story with one more picture, at a frame of the film (None: its last one), in the segment that shows
        that frame. Raises StoryError for a frame that the film has not."""
        frame = image.frame
        if frame is None:
            return self._with_image(len(self.segments) - 1, image)
        first = 0  # frame of the film with which a segment begins to show
        for index, segment in enumerate(self.segments):
            repeated = self.repeated(index)
            if first <= frame < first + segment.frames - repeated:
                return self._with_image(index, replace(image, frame=frame - first + repeated))
            first += segment.frames - repeated
        raise StoryError(f"a picture is at frame {frame} of the film, which has frames 0 to {self.total_frames - 1}")

    def _with_image(self, index: int, image: StoryImage) -> "StoryScript":
        segments, last = list(self.segments), self.segments[index].frames - 1
        places = {last if one.frame is None else one.frame for one in segments[index].images}
        if (last if image.frame is None else image.frame) in places:
            message = (
                f"segment {index + 1} has a picture at that frame already, {shown(image.path, 80)} too: leave one out"
            )
            raise self.error(segments[index], message)
        segments[index] = replace(segments[index], images=(*segments[index].images, image))
        return replace(self, segments=tuple(segments))

    def error(self, segment: SegmentScript, message: object) -> StoryError:
        """What is wrong with a segment, with the script's name and line."""
        return StoryError(f"{shown(self.path)}, line {segment.line}: {message}")

    def __str__(self) -> str:
        count = f"{len(self.segments)} segment{'s' if len(self.segments) > 1 else ''}"
        return f"{count}, {self.total_frames} frames, {float(self.total_frames / self.fps):.2f} s"


def read_script(path: str | Path) -> StoryScript:
    """Read and check a script file. Raises StoryError naming file, line and column."""
    if file_path(path) is None:
        raise StoryError(f"{shown(Path(str(path)))} is no name of a file: name the script")
    path = Path(path)
    with as_story_error(f"{shown(path)} cannot be read"):
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            size = path.stat().st_size
            raise StoryError(f"{shown(path)} has {size} bytes, expected a script of at most {MAX_BYTES}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise StoryError(f"{shown(path)} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    return parse_script(text, path)


def parse_script(
    text: str,
    path: str | Path = "script.yaml",
    *,
    find_image: FindImage | None = None,
    image_place: str = "there",
    find_lora: FindImage | None = None,
    lora_place: str = "there",
    look: bool = True,
) -> StoryScript:
    """Check a script's text. Raises StoryError naming line and column.

    path: what errors call the script, and where relative image paths start; find_image: the file of an image's name,
    None when there is none, for scripts whose images lie elsewhere, and image_place: how errors call that; find_lora,
    lora_place: the same of LoRAs, which lie where images do unless given. look: whether the film that the
    story goes on from is opened.
    """
    path = Path(path)
    reader = Reader(shown(path))
    found = read_tree(text, reader)
    files = ScriptFiles(reader, find_image or beside(path), image_place)
    start = read_start(reader, found.get("start"), files.file, look=look)
    fps = reader.value(found, "fps", DEFAULT_FPS if start is None else start.fps, values.fps)
    no_size: tuple[int | None, int | None] = None, None
    size = reader.value(found, "size", no_size, values.size)
    overlap = reader.mapping(found["overlap"], "overlap", ("video", "audio")) if "overlap" in found else {}
    noise = reader.mapping(found["noise"], "noise", ("video", "audio")) if "noise" in found else {}
    video_overlap = reader.value(overlap, "video", VIDEO_OVERLAP_FRAMES, values.overlap)
    double_rate = reader.value(found, "double_rate", 0, values.rounds)
    loras = files if find_lora is None else ScriptFiles(reader, find_lora, lora_place)
    segments = _Segments(reader, _defaults(reader, found), fps, video_overlap, files)
    script = StoryScript(
        path=path,
        segments=tuple(segments.read(found["segments"])),
        fps=fps,
        width=size[0],
        height=size[1],
        seed=reader.value(found, "seed", 10, values.whole),
        preset=reader.value(found, "preset", None, values.text),
        video_overlap=video_overlap,
        audio_overlap=reader.value(overlap, "audio", AUDIO_OVERLAP_FRAMES, values.whole),
        drift_correction=_drift_correction(reader, found),
        noise=ContextNoise(**{name: reader.value(noise, name, 0.0, values.share) for name in noise}) if noise else None,
        audio=read_audio(reader, found.get("audio"), files.file),
        loras=read_loras(reader, found.get("lora"), loras.file),
        drift=_drift(reader, found),
        enhance=reader.value(found, "enhance", False, values.flag),
        double_rate=double_rate,
        keyframe_slots=reader.value(found, "keyframe_slots", 0, values.slots),
        overrides=_nag(reader, found.get("nag"), double_rate)
        | _settings(reader, found)
        | _overrides(reader, found.get("override")),
    )
    return script if start is None else _going_on(script, start, reader, found["start"])


def _going_on(script: StoryScript, start: StoryStart, reader: Reader, node: Node) -> StoryScript:
    """A story that goes on from a film. Raises StoryError for what does not go with that."""
    first = script.segments[0]
    count = start.context_for(first.frames, script.fps)
    if script.audio is not None or script.double_rate:
        other = "audio" if script.audio is not None else "double_rate"
        raise reader.error(node, f"a story that goes on from a film takes up its sound and its rate: leave {other} out")
    if start.frames_at(script.fps) < count:
        have = start.frames_at(script.fps)
        raise reader.error(node, f"the film has {have} frames at {script.fps} fps, {count} are asked for: use fewer")
    if first.cut:
        raise script.error(first, "the first segment goes on from the film that start names: leave cut out")
    if first.frames <= count:
        raise script.error(first, f"the first segment has {first.frames} frames, {count} of which repeat the film")
    if any(image.frame is not None and image.frame < count for image in first.images):
        raise script.error(first, f"frames 0 to {count - 1} come from the film: give the image a later frame")
    return replace(script, start=replace(start, context=count))


def read_tree(text: str, reader: Reader) -> dict[str, Any]:
    """A script's entries by name, as nodes that know their place; ``segments`` is among them. Raises StoryError."""
    source = as_source(checked_text(text, reader.name), reader.name, STORY_ENTRIES, SEGMENT_ENTRIES)
    try:
        root = compose(source)
    except NotYaml as error:
        raise StoryError(f"{reader.name}, {error.place}: {error}") from error
    if root is None:
        raise StoryError(f"{reader.name} is empty, expected one prompt a line, or a list of segments")
    for key, _ in root.entries if isinstance(root, MappingNode) else ():
        name = key.text if isinstance(key, Scalar) else ""
        if name in SEGMENT_ENTRIES and name not in STORY_ENTRIES:
            where = f"`defaults: {{{name}: …}}`" if name in _DEFAULTS else "it below the `- prompt: …` that it is for"
            raise reader.error(key, f"{name} is of a segment and stands above them all: write {where}")
    found = reader.mapping(root, "the script", STORY_ENTRIES)
    if "segments" not in found:
        raise reader.error(root, "the script has no segments: add `segments:` with one prompt a segment")
    return found


def _defaults(reader: Reader, found: dict[str, Any]) -> dict[str, Any]:
    given = reader.mapping(found["defaults"], "defaults", _DEFAULTS) if "defaults" in found else {}
    return {name: found[name] for name in _SHARED if name in found} | given


def _drift_correction(reader: Reader, found: dict[str, Any]) -> DriftCorrection | None:
    """The setting of that name, or of its older one, hold."""
    if "hold" in found and "drift_correction" in found:
        raise reader.error(found["hold"], "hold is the older name of drift_correction: keep one of them")
    name = "hold" if "hold" in found else "drift_correction"
    if name not in found:
        return None
    given = reader.mapping(found[name], name, ("colour", "contrast", "loudness"))
    return DriftCorrection(**{part: reader.value(given, part, 0.0, values.share) for part in given})


def _overrides(reader: Reader, node: Node | None) -> dict[str, Any]:
    if node is None:
        return {}
    if not isinstance(node, MappingNode):
        raise reader.error(node, "override is no mapping, expected lines such as refine.num_inference_steps: 2")
    found: dict[str, Any] = {}
    for key, value in node.entries:
        name = reader.scalar(key, "an override's name")
        if not isinstance(name, str) or name.count(".") != 1:
            raise reader.error(key, f"override {str(name)[:40]!r}, expected STAGE.NAME such as denoise.guidance_scale")
        if name in found:
            raise reader.error(key, f"override has {name[:40]} twice: keep one")
        found[name] = reader.plain(value, name[:40])
    return found


def _drift(reader: Reader, found: dict[str, Any]) -> DriftControl | None:
    """``drift: {strength: 0.95, settles: 0.9, colour: 0.5}``."""
    node = found.get("drift")
    if node is None:
        return None
    given = reader.mapping(node, "drift", DRIFT_NAMES)
    if "strength" not in given and "settles" in given:
        raise reader.error(node, "drift has no strength: add `strength: 0.95`, and `settles: 0.9`")
    if not given:
        raise reader.error(node, f"drift is empty: say how much of {', '.join(DRIFT_NAMES)}")
    control = control_of({name: reader.value(given, name, 0.0, values.share) for name in given})
    if control is not None and control.loudness and "audio" in found:
        raise reader.error(
            given["loudness"], "loudness is of sound that is made, and the film has its own: leave it out"
        )
    return control


def _nag(reader: Reader, node: Node | None, double_rate: int = 0) -> dict[str, Any]:
    """Overrides of all stages for a negative prompt within the text attention: its scale, or a mapping."""
    if node is None:
        return {}
    names = {"scale": "nag_scale", "alpha": "nag_alpha", "tau": "nag_tau"}
    given = reader.mapping(node, "nag", tuple(names)) if isinstance(node, MappingNode) else {"scale": node}
    if "scale" not in given:
        raise reader.error(node, "nag has no scale: add `scale: 11`")
    said = {names[name]: reader.value(given, name, 0.0, values.number) for name in given}
    stages = ("denoise", "refine", *(("double",) if double_rate else ()))
    return {f"{stage}.{name}": value for stage in stages for name, value in said.items()}


def _settings(reader: Reader, found: dict[str, Any]) -> dict[str, Any]:
    """Overrides of both stages for how much noise ancestral samplers renew, and how firmly pictures are kept."""
    eta = reader.value(found, "eta", None, values.share)
    nothing: tuple[float | None, float | None] = None, None
    firm = reader.value(found, "image_strength", nothing, values.shares)
    said = {"eta": (eta, eta), "image_strength": firm}
    stages = ("denoise", "refine")
    return {f"{s}.{name}": value for name, pair in said.items() for s, value in zip(stages, pair) if value is not None}


@dataclass(frozen=True)
class _Segments:
    """Reads the list of segments. defaults: nodes by name; overlap: frames of picture that each repeats."""

    reader: Reader
    defaults: dict[str, Any]
    fps: Fraction
    overlap: int
    files: ScriptFiles
    lengths: dict[Fraction, int] = field(default_factory=dict)  # frames by seconds

    def read(self, node: Node) -> Iterator[SegmentScript]:
        if not isinstance(node, Sequence) or not node.items:
            raise self.reader.error(node, "segments is empty or no list: write one `- prompt: …` a segment")
        if len(node.items) > MAX_SEGMENTS:
            raise self.reader.error(node, too_many(len(node.items)))
        before = 0  # frames of the segment before
        for index, item in enumerate(node.items):
            segment = self._segment(item, index, before)
            before = segment.frames
            yield segment

    def _segment(self, item: Node, index: int, before: int) -> SegmentScript:
        reader = self.reader
        own = {"prompt": item} if isinstance(item, Scalar) else reader.mapping(item, "a segment", SEGMENT_ENTRIES)
        if "prompt" not in own:
            raise reader.error(item, "the segment has no prompt: add `prompt:` with what is seen and heard")
        merged = self._merged(own)
        frames = self._frames(merged)
        cut = reader.value(merged, "cut", False, values.flag)
        continues = index > 0 and not cut
        if continues and min(frames, before) <= self.overlap:
            short = "segment" if frames <= before else "segment before"
            message = f"the {short} has {min(frames, before)} frames, {self.overlap} of which are repeated"
            raise reader.error(item, f"{message}: make it longer")
        images = self._images(merged["image"], frames) if "image" in merged else ()
        if continues and any(image.frame is not None and image.frame < self.overlap for image in images):
            message = "the segment starts from the one before: give the image a later frame, or say cut: true"
            raise reader.error(merged["image"], message)
        references = read_references(reader, merged.get("reference"), self.files.file)
        takes = reader.value(merged, "takes", 1, values.take_number)
        take = reader.value(merged, "take", None, values.take_number)
        return SegmentScript(
            line=item.place.line,
            prompt=reader.text(merged, "prompt", "", values.prompt),
            frames=frames,
            negative=reader.value(merged, "negative", None, values.text),
            seed=reader.value(merged, "seed", None, values.whole),
            strength=reader.value(merged, "strength", None, values.share),
            images=images,
            cut=cut,
            takes=max(takes, take or 1),
            take=take,
            enhance=reader.value(merged, "enhance", None, values.flag),
            references=references,
            voice=read_voice(reader, merged.get("voice"), self.files.file),
            said=frozenset(own),
        )

    def _merged(self, own: dict[str, Any]) -> dict[str, Any]:
        """The entries of a segment with the defaults for what it does not say."""
        length = ("seconds", "frames")
        for given in (own, self.defaults):
            if all(name in given for name in length):
                raise self.reader.error(given["frames"], "the segment has seconds and frames: give one of them")
        said = any(name in own for name in length)
        kept = {name: node for name, node in self.defaults.items() if not (said and name in length)}
        return kept | own

    def _frames(self, merged: dict[str, Any]) -> int:
        frames = self.reader.value(merged, "frames", None, values.whole_clip)
        if frames is not None:
            return frames
        seconds = self.reader.value(merged, "seconds", Fraction(5), values.seconds)
        if seconds not in self.lengths:  # most segments of a long story last alike
            self.lengths[seconds] = snap_frames(frames_for_seconds(seconds, self.fps))
        return self.lengths[seconds]

    def _images(self, node: Node, frames: int) -> tuple[StoryImage, ...]:
        items = node.items if isinstance(node, Sequence) else [node]
        if len(items) > 100:
            raise self.reader.error(node, f"the segment has {len(items)} images, expected at most 100")
        images, places = [], set()
        for item in items:
            image = self._image(item, frames)
            place = frames - 1 if image.frame is None else image.frame
            if image.attention == 1 and place in places:
                last = ", the last one" if place == frames - 1 else ""
                message = f"two images stand at frame {place}{last}: keep one of them, or give one another frame"
                raise self.reader.error(item, message)
            places |= {place} if image.attention == 1 else set()
            images.append(image)
        return tuple(images)

    def _image(self, node: Node, frames: int) -> StoryImage:
        reader = self.reader
        if isinstance(node, Sequence):
            raise reader.error(node, "the image is a list in a list: write one list of files")
        known = ("file", "frame", "strength", "attention")
        found = {"file": node} if isinstance(node, Scalar) else reader.mapping(node, "image", known)
        if "file" not in found:
            raise reader.error(node, "the image has no file: add `file:`")
        path = self.files.file(found["file"], reader.text(found, "file", "", values.file_name), "image")
        frame = reader.value(found, "frame", 0, values.frame_place)
        if frame is not None and frame >= frames:
            message = f"the image is at frame {frame}, the segment has frames 0 to {frames - 1}"
            raise reader.error(found["frame"], message)
        strength, attention = (reader.value(found, name, 1.0, values.share) for name in ("strength", "attention"))
        return StoryImage(path, frame, strength, attention)
