"""A whole film from a script in one node, resumed wherever it was stopped."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..ltx2.atomic_files import file_path, is_portable_below
from ..ltx2.errors import Ltx2Error, RequestError
from . import host, reporting
from .bundle import bundle_input, everything, gathered, pipeline_inputs
from .continuation import card
from .drift import drift_input, with_drift
from .generate import STAGES, audio_inputs, conditions_of, own_audio
from .loras import with_lora
from .models import LORAS
from .sockets import ModelsValue, State
from .story_pictures import story_pictures, with_pictures
from .text import enhance_input, story_enhancer

FILM = "film.mp4"
LONGEST_PART = 120  # bytes of one folder's name
EXAMPLE = """fps: 24
size: 768x512
seed: 10
defaults: {seconds: 5}
segments:
  - A harbour at dawn, gulls call over the water.
  - The camera rises over the roofs, bells begin to ring.
  - A street full of people, a brass band comes nearer.
"""


class Story(host.io.ComfyNode):
    """A script carried out segment by segment; what is finished stays on disk."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "Story",
            "LTX-2 Story",
            "story",
            description="Makes a film of many segments that continue each other from a script with one prompt a segment. Finished segments "
            "are kept in the output folder: a run that was stopped goes on where it was, and a changed script makes anew only what changed. "
            "A film is never replaced: another script's gets a number.",
            is_output_node=True,
            inputs=[
                *pipeline_inputs(),
                host.field(
                    io.String,
                    "script",
                    "The story: one prompt a line, or YAML with size, fps, seed, preset and one prompt a segment; lengths in seconds or frames, pictures "
                    "from the input folder.",
                    multiline=True,
                    default=EXAMPLE,
                ),
                host.field(
                    io.String,
                    "folder",
                    "Folder below ComfyUI's output folder for films and finished segments. What is there is used again where it fits, and nothing in it "
                    "is removed or replaced. May have the tokens of ComfyUI's own save nodes.",
                    default="continuum/story",
                ),
                host.field(
                    io.String,
                    "redo",
                    "Segments to make again although they are there, counted from 1, such as 2 or 2, 5: with the same seed; 2:new takes a fresh seed on every "
                    "run, 2:77 the seed 77. Empty: none.",
                    default="",
                ),
                *audio_inputs(),
                bundle_input(),
                *story_pictures(),
                enhance_input("write the prompts of the script in full instead."),
                host.field(
                    io.Boolean,
                    "bridge",
                    "What redo names is made to fit both the segment before it and the one behind it, which stays as it is with all after it.",
                    default=False,
                    optional=True,
                ),
                drift_input(),
            ],
            outputs=[
                host.output(io.Video, "video", "The film."),
                host.output(State, "state", "What the last segment leaves, to go on from."),
                host.output(io.String, "report", "What was made and kept, and how well each seam joins."),
                host.output(io.String, "file", "The film's name in the output folder."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            search_aliases=["long video", "ltx2 script", "ltx2 story", "film", "movie", "storyboard", "scenes"],
        )

    @classmethod
    async def validate_inputs(cls, script=None, folder=None, redo=None):
        # the server answers nobody else while this runs, and looking for pictures may take its time
        return await asyncio.to_thread(problem, script, folder, redo)

    @classmethod
    def fingerprint_inputs(cls, script=None, folder=None, redo=None, **others):
        # films that were deleted or made by another run are looked at again; finished segments cost nothing
        return films_in(folder)

    @classmethod
    def execute(
        cls,
        script,
        folder,
        redo="",
        models=None,
        first_image=None,
        last_image=None,
        conditions=None,
        audio=None,
        audio_start=0.0,
        enhance=False,
        bridge=False,
        drift=None,
        **single,
    ):
        from ..ltx2.story.chain import RunOptions, run_story
        from ..ltx2.story.found import film_start, sized_story
        from ..ltx2.story.from_pipeline import check_story, pipeline_generator, prompt_notes
        from ..ltx2.story.segment_job import source_of
        from ..ltx2.story.takes import Wishes

        typed = read(script)
        story = with_drift(typed, drift)
        story = replace(with_audio(story, audio, audio_start), enhance=enhance or story.enhance)
        story = with_pictures(story, conditions_of(conditions, None, image=first_image, last_image=last_image))
        wired = with_loras(gathered(models, **single), story.loras)
        models = everything(wired)
        story = sized_story(models, story)
        check_story(models, story)
        enhancer = story_enhancer(models, story)
        target = target_of(folder, cls.hidden, size_of(models, story))
        lines, begins = [], film_start(models, story)
        if bridge and not wishes(redo):
            lines.append("bridge has no effect: redo names no segment")
        texts = host.workflow_texts(cls.hidden, prompt_notes(models, story))

        def make(task):
            progress = reporting.reporter(*STAGES, part=task.index, parts=len(story.segments), names=models.names)
            return pipeline_generator(models, progress=progress)(task)

        with named_as(target):
            result = run_story(
                story,
                make,
                work=target.folder,
                out=target.folder / FILM,
                identity=identity_of_wires(wired, models, story),
                source=source_of(models),
                options=RunOptions(
                    Wishes(redo=wishes(redo, bridge)),
                    numbered=True,
                    metadata=texts,
                    enhancer=enhancer,
                    start=begins,
                    typed=typed,
                ),
                log=lambda line: lines.append(as_named(line, target)),
            )
        return shown_story(result, target, lines)


def shown_story(result, target: host.SaveTarget, lines: list[str]):
    """What the node gives: the film, the state that the last segment left, and what happened."""
    from ..ltx2.film.saved_film import with_film_file
    from ..ltx2.story.segment_files import STATE, read_state

    name, notes = f"{target.subfolder}/{result.film.name} [output]", result_notes(result, target)
    state = with_film_file(read_state(result.last), result.film, name)
    report = "\n".join([*lines, *notes])
    notes += notes_of(lines)
    film = {"filename": result.film.name, "subfolder": target.subfolder, "type": "output"}
    inside = result.last.relative_to(target.folder).as_posix()
    # a scene counts its segments anew; who looks at the film counts through
    shown = card(state) | {
        "segment_index": len(result.made) + len(result.kept) - 1,
        "file": f"{target.subfolder}/{inside}/{STATE} [output]",
    }
    return host.io.NodeOutput(
        host.InputImpl.VideoFromFile(str(result.film)),
        state,
        report,
        name,
        ui={"images": [film], "animated": (True,), "states": [shown], "text": notes},
    )


def with_loras(models: ModelsValue, loras) -> ModelsValue:
    """Models with the LoRAs of a script on them."""
    for choice in loras if models.model is not None else ():
        models = replace(models, model=with_lora(models.model, choice)[0])
    return models


def as_named(text: str, target: host.SaveTarget) -> str:
    """A text with the folder as the user named it, not where it lies on the server's disk."""
    return text.replace(str(target.folder), target.subfolder)


@contextlib.contextmanager
def named_as(target: host.SaveTarget) -> Iterator[None]:
    """Errors of the engine tell of the folder as the user named it."""
    try:
        yield
    except Ltx2Error as error:
        raise type(error)(as_named(str(error), target)) from error


def problem(script, folder, redo) -> bool | str:
    """What is wrong with the inputs in one sentence, or True."""
    try:
        if script is not None:
            read(script)
        if folder is not None:
            target_of(folder)
        wishes(redo or "")
    except Ltx2Error as error:
        return str(error)
    return True


def read(script: str):
    """The checked script; its pictures are in the input folder. Raises StoryError."""
    from ..ltx2.story.script import parse_script

    base = host.user_folder("input")

    def find(name: str) -> Path | None:
        path = base / name
        return path if host.inside(base, path) and path.is_file() else None

    def find_lora(name: str) -> Path | None:
        try:
            return host.model_path(name, *LORAS)
        except Ltx2Error:
            return None

    return parse_script(
        script,
        "script",
        find_image=find,
        image_place="in ComfyUI's input folder",
        find_lora=find_lora,
        lora_place="in ComfyUI's models/loras",
    )


def notes_of(lines: list[str]) -> list[str]:
    """What a run told besides how far it was: a note that several segments have stands once, with their numbers."""
    found: dict[str, list[str]] = {}
    for line in lines:
        note = re.fullmatch(r"segment (\d+): (.*)", line, re.S)
        if note:
            found.setdefault(note[2], []).append(note[1])
        elif not re.match(r"segment \d+ of \d+|writing |\d+ of \d+ done", line):
            found[line] = []
    named = {
        note: f"segment{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}: " for note, numbers in found.items()
    }
    return [f"{named[note] if numbers else ''}{note}" for note, numbers in found.items()]


def result_notes(result, target) -> list[str]:
    """What was made, how well its seams join, and what could be removed."""
    unused = [f"{result.unused} in {target.subfolder}/segments"] if result.unused.segments else []
    return [str(result), *map(str, result.seams), *unused]


def size_of(models, story) -> tuple[int, int]:
    """Width and height of a story's film."""
    from ..ltx2.stages.request import make_job
    from ..ltx2.story.from_pipeline import request_of
    from ..ltx2.story.tasks import task_of

    size = make_job(models, request_of(task_of(story, 0)), parts=()).geometry
    return size.width, size.height


def with_audio(story, audio, start: float):
    """A story with the sound that is connected. Raises RequestError where the script has one too."""
    from ..ltx2.story.script import StoryAudio

    sound = own_audio(audio, start)
    if sound is None:
        return story
    if story.start is not None:
        raise RequestError("the script goes on from a film, with the sound that it has: leave the connected sound out")
    if story.audio is not None:
        raise RequestError("the script names a sound, and one is connected: keep one of them")
    return replace(story, audio=StoryAudio(sound=sound))


def target_of(folder: str, hidden=None, size: tuple[int, int] = (0, 0)) -> host.SaveTarget:
    """The folder of a story. hidden, size: what tokens in its name stand for. Raises RequestError for a name that not
    every system takes, or that leaves the output folder."""
    name = host.file_name(folder.strip().replace("\\", "/").rstrip("/"), hidden, size)
    target = host.output_folder(name) if file_path(name) is not None else None
    if (
        target is None
        or not is_portable_below(name)
        or any(len(part.encode()) > LONGEST_PART for part in name.split("/"))
    ):
        raise RequestError(f"folder {folder[:60]!r} is no name for a folder: use one such as continuum/story")
    return target


def films_in(folder: str | None) -> list[tuple[str, int, int]]:
    """Name, size and time of the films in a story's folder."""
    try:
        films = sorted(target_of(folder or "").folder.glob(f"{Path(FILM).stem}*{Path(FILM).suffix}"))
        return [(film.name, film.stat().st_size, film.stat().st_mtime_ns) for film in films]
    except (Ltx2Error, OSError):
        return []


def wishes(text: str, bridge: bool = False) -> tuple:
    """What is to be made again, of a text such as ``2, 5:new``; bridge: each to fit what is behind it. Raises
    StoryError."""
    from ..ltx2.story.takes import bridged, parse_redo

    found = tuple(parse_redo(part) for part in re.split(r"[,;\s]+", str(text)) if part)
    return bridged(found) if bridge and found else found


def identity_of_wires(wired, models, story) -> str:
    """A text that differs for other models, LoRAs and settings."""
    from ..ltx2.story.from_pipeline import identity_of

    model = wired.model
    loras: list[tuple] = [(path.name, strength) for path, strength in model.loras]
    loras += [(Path(one.path).name, one.strength, one.stage) for one in model.stage_loras]
    settings = [model.dtype, loras, wired.text_encoder.identity, *weights(models, story)]
    added = [*(path for path, _ in model.loras), *(Path(one.path) for one in model.stage_loras)]
    files = [*model.files, *added, *filter(None, [model.distilled_lora])]
    return identity_of(files, settings)


def weights(models, story) -> list[str]:
    """What tells the networks around the transformer from others, as far as a story needs them."""
    from ..ltx2.text.cache import fingerprint

    parts = (
        models.video_encoder,
        models.video_decoder,
        models.audio_encoder,
        models.audio_decoder,
        models.vocoder,
        models.upsampler,
        *((models.temporal_upsampler,) if story.double_rate else ()),
    )
    return ["" if part is None else fingerprint(part) for part in parts]


NODES = [Story]
