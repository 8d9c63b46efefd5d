"""A whole film from a script in one node, resumed wherever it was stopped."""

import re

from ..ltx2.errors import Ltx2Error, RequestError
from . import host
from .continuation import card
from .generate import STAGES
from .models import pipeline_inputs, upsampler_of
from .placement import models_of
from .sockets import State

FILM = "film.mp4"
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
            "are kept in the output folder: a run that was stopped goes on where it was, and a changed script makes anew only what changed.",
            is_output_node=True,
            inputs=[
                *pipeline_inputs(),
                host.field(
                    io.String,
                    "script",
                    "The story as YAML: size, fps, seed, preset, and one prompt a segment; lengths in seconds or frames, pictures from the input folder.",
                    multiline=True,
                    default=EXAMPLE,
                ),
                host.field(
                    io.String,
                    "folder",
                    "Folder below ComfyUI's output folder for the film and its finished segments. The same folder goes on with the same story.",
                    default="continuum/story",
                ),
                host.field(
                    io.String,
                    "redo",
                    "Segments to make again although they are there, such as 2 or 2, 5; counted from 1. Empty: none.",
                    default="",
                ),
            ],
            outputs=[
                host.output(io.Video, "video", "The film."),
                host.output(State, "state", "What the last segment leaves, to go on from."),
                host.output(io.String, "report", "What was made and kept, and how well each seam joins."),
                host.output(io.String, "file", "The film's name in the output folder."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            search_aliases=["long video", "ltx2 script", "film"],
        )

    @classmethod
    def validate_inputs(cls, script=None, folder=None, redo=None):
        try:
            if script is not None:
                read(script)
            if folder is not None:
                host.output_folder(folder)
            numbers(redo or "")
        except Ltx2Error as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, script=None, folder=None, redo=None, **others):
        # a film that was deleted or made anew by another run is looked at again; finished segments cost nothing
        return host.changed_at(f"{folder}/{FILM} [output]")

    @classmethod
    def execute(cls, model, text_encoder, video_vae, audio_vae, script, folder, redo="", upsampler=None):
        from ..ltx2.story.chain import run_story
        from ..ltx2.story.from_pipeline import check_story, identity_of, pipeline_generator
        from ..ltx2.story.segment_files import STATE, read_state
        from ..ltx2.story.segment_job import source_of

        story, target = read(script), host.output_folder(folder)
        loaded_upsampler = None if upsampler is None else upsampler_of(upsampler)
        models = models_of(
            model, text_encoder=text_encoder, video_vae=video_vae, audio_vae=audio_vae, upsampler=loaded_upsampler
        )
        check_story(models, story)
        lines = []

        def make(task):
            progress = host.progress_reporter(*STAGES, part=task.index, parts=len(story.segments))
            return pipeline_generator(models, progress=progress)(task)

        settings = [
            model.dtype,
            [(path.name, strength) for path, strength in model.loras],
            text_encoder.identity,
            *weights(models),
        ]
        files = [*model.files, *(path for path, _ in model.loras), *filter(None, [model.distilled_lora])]
        result = run_story(
            story,
            make,
            work=target.folder,
            out=target.folder / FILM,
            identity=identity_of(files, settings),
            source=source_of(models),
            redo=[number - 1 for number in numbers(redo)],
            log=lines.append,
            metadata=host.workflow_texts(cls.hidden),
        )
        state = read_state(result.last)
        lines += [f"{len(result.made)} segments made, {len(result.kept)} kept", *map(str, result.seams)]
        report = "\n".join(lines)
        film = {"filename": FILM, "subfolder": target.subfolder, "type": "output"}
        inside = result.last.relative_to(target.folder).as_posix()
        shown = card(state) | {"file": f"{target.subfolder}/{inside}/{STATE} [output]"}
        return host.io.NodeOutput(
            host.InputImpl.VideoFromFile(str(result.film)),
            state,
            report,
            f"{target.subfolder}/{FILM} [output]",
            ui={"images": [film], "animated": (True,), "states": [shown], "text": [report]},
        )


def read(script: str):
    """The checked script; its pictures are in the input folder. Raises StoryError and RequestError."""
    from ..ltx2.story.script import parse_script

    base = host.input_folder()
    story = parse_script(script, base / "script")
    for segment in story.segments:
        for image in segment.images:
            if not host.inside(base, image.path):
                raise RequestError(
                    f"script, line {segment.line}: the image {image.path.name} is outside ComfyUI's input folder: put it there"
                )
    return story


def numbers(text: str) -> list[int]:
    """Segment numbers of a text such as ``2, 5``. Raises RequestError."""
    parts = [part for part in re.split(r"[,;\s]+", str(text)) if part]
    if not all(part.isdigit() for part in parts):
        raise RequestError(f"redo is {str(text)[:40]!r}, expected segment numbers such as 2 or 2, 5")
    return [int(part) for part in parts]


def weights(models) -> list[str]:
    """What tells the networks around the transformer from others."""
    from ..ltx2.text.cache import fingerprint

    parts = (
        models.video_encoder,
        models.video_decoder,
        models.audio_encoder,
        models.audio_decoder,
        models.vocoder,
        models.upsampler,
    )
    return ["" if part is None else fingerprint(part) for part in parts]


NODES = [Story]
