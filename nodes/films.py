"""Videos that are there: one gone on with, a part of one made anew, and one spoken in other words."""

from ..ltx2.clock import DEFAULT_FPS, exact_seconds, parse_fps, samples_of_seconds
from ..ltx2.errors import RequestError
from ..ltx2.film import FinishedSegment, Handoff, file_format, new_sound, write_film
from ..ltx2.film.found import Writing, write_extended
from ..ltx2.film.retake import Part
from ..ltx2.stages.pipeline import generate
from ..ltx2.stages.request import Request
from ..ltx2.story.found import (
    FilmFile,
    FilmInMemory,
    dubbing,
    film_retaken,
    go_before,
    go_on,
    retaking,
    state_at_end,
    write_longer,
    write_retaken,
)
from ..ltx2.story.segment_job import state_after
from ..ltx2.values import Waveform
from . import host, reporting
from .bundle import bundle_input, everything, gathered, pipeline_inputs
from .continuation import card
from .decode import images_of
from .denoise import BY_NAME, PRESET_TOOLTIP, preset_names, seed_input, with_preset
from .drift import drift_input
from .generate import STAGES, frames_of
from .given_film import film_file
from .shown import video_of
from .sockets import (
    PresetValue,
    State,
    audio_value,
    waveform_of,
)
from .text import NEGATIVE_TOOLTIP, asked_negative

FORWARD, BACKWARD = "forward", "backward"
BOTH, PICTURE, SOUND = "picture and sound", "picture", "sound"
IMAGES_FPS = float(DEFAULT_FPS)


def _asked(what: str) -> list:
    """Prompts, preset and seed."""
    io = host.io
    return [
        host.field(io.String, "prompt", what, multiline=True, default=""),
        host.field(io.String, "negative_prompt", NEGATIVE_TOOLTIP, multiline=True, default="full"),
        host.field(io.Combo, "preset", PRESET_TOOLTIP, options=preset_names(), default=BY_NAME),
        seed_input(),
    ]


class ExtendVideo(host.io.ComfyNode):
    """From a video to a longer one."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "ExtendVideo",
            "Extend Video",
            "story",
            description="Goes on with any video, picture and sound, from its end. The video itself stays as it is; the new part comes behind it in its "
            "size and rate. Also gives the state for the next segment.",
            has_intermediate_output=True,
            inputs=[
                *pipeline_inputs(),
                host.field(io.Video, "video", "The video to go on with, whatever it was made with."),
                *_asked("What is seen and heard from the video's end on."),
                host.field(
                    io.Float,
                    "seconds",
                    "Length of the segment in seconds, the frames that it starts from included.",
                    default=5.0,
                    min=0.1,
                    max=20.0,
                    step=0.01,
                ),
                host.field(
                    io.Int,
                    "context",
                    "How many of the video's last frames it starts from: 8k+1, such as 17 or 25; 0 takes 25, fewer for a short segment. Backward: of its first frames, one less.",
                    default=0,
                    min=0,
                    max=249,
                ),
                drift_input(),
                host.field(
                    io.Combo,
                    "direction",
                    "forward: what comes behind the video's end. backward: what comes before its beginning, and leads to it.",
                    options=[FORWARD, BACKWARD],
                    default=FORWARD,
                    optional=True,
                ),
                bundle_input(),
            ],
            outputs=[
                host.output(io.Video, "video", "The video with the new part behind it, or in front of it."),
                host.output(io.Image, "new_images", "The new frames, at the size in which they were made."),
                host.output(io.Audio, "new_audio", "Their sound."),
                host.output(State, "state", "What a next segment goes on from."),
                host.output(io.String, "info", "What was made, and what was adjusted."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            search_aliases=["extend", "ltx2 extend", "continue video", "last frame", "longer video", "video to video"],
        )

    @classmethod
    def execute(
        cls,
        video,
        prompt,
        negative_prompt,
        preset,
        seed,
        seconds,
        context,
        drift=None,
        direction=FORWARD,
        models=None,
        **single,
    ):
        models = everything(gathered(models, **single))
        source = film_file(video, cls.hidden)
        request = _request(prompt, negative_prompt, preset, seed, seconds)
        if direction == BACKWARD:
            if drift is not None:
                raise RequestError("drift is for what goes on from a state: leave it out, or make direction forward")
            return _in_front(models, go_before(models, request, source, context=context or None), cls.hidden)
        start = go_on(models, request, source, context=context or None, handoff=Handoff(drift=drift))
        made = start.made
        report = reporting.reporter(*STAGES, names=models.names)
        segment = generate(models, made.job, progress=report)
        images = images_of(frames_of(segment, report), segment.latent)
        lines = [str(made.timing), f"{segment.geometry}, seed {segment.seed}", *start.notes]
        target = host.save_target("continuum/extended", kind="temp").path(".mp4")
        write_extended(
            source,
            start.film,
            FinishedSegment(made.timing, [images], segment.sound),
            target,
            Writing(note=lines.append, metadata=host.workflow_values(cls.hidden)),
        )
        lines = _told(lines)
        carried = state_after(made, segment, images)
        sound = None if segment.sound is None else new_sound(made.timing, segment.sound)
        return host.io.NodeOutput(
            host.InputImpl.VideoFromFile(str(target)),
            images[made.timing.video_overlap :].clone(),
            audio_value(sound),
            carried,
            "\n".join(lines),
            ui={"states": [card(carried)], "text": lines},
        )


def _told(lines: list[str]) -> list[str]:
    return [host.without_folders(line) for line in lines]


def _frames_inputs() -> list:
    """Frames and their sound in place of a video."""
    io = host.io
    return [
        host.field(
            io.Image, "images", "Frames in place of a video: all of them, in order, of any size.", optional=True
        ),
        host.field(io.Audio, "audio", "The sound of the images; without it they are silent.", optional=True),
        host.field(
            io.Float,
            "fps",
            "Frames per second of the images; a video has its own.",
            default=IMAGES_FPS,
            min=1.0,
            max=120.0,
            step=0.001,
            optional=True,
        ),
    ]


def _in_front(models, made, hidden):
    """What Extend Video gives where it goes backward."""
    report = reporting.reporter(*STAGES, names=models.names)
    segment = generate(models, made.job, progress=report)
    images = images_of(frames_of(segment, report), segment.latent)
    lines = [str(made), f"{segment.geometry}, seed {segment.seed}", *made.notes]
    target = host.save_target("continuum/extended", kind="temp").path(".mp4")
    write_longer(made, [images], segment.sound, target, note=lines.append, metadata=host.workflow_values(hidden))
    lines = _told(lines)
    carried, sound = state_at_end(models, made), segment.sound
    if sound is not None:
        sound = Waveform(sound.samples[:, : samples_of_seconds(made.seconds, sound.sample_rate)], sound.sample_rate)
    return host.io.NodeOutput(
        host.InputImpl.VideoFromFile(str(target)),
        images[: made.begin].clone(),
        audio_value(sound),
        carried,
        "\n".join(lines),
        ui={"states": [card(carried)], "text": lines},
    )


class Retake(host.io.ComfyNode):
    """A part of a video made anew."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "Retake",
            "Retake Video",
            "story",
            description="Makes a part of a video, or of frames and a sound, anew that fits what is before and after it: from and to a second, "
            "picture or sound alone, or inside a mask. Everything else stays as it is.",
            inputs=[
                *pipeline_inputs(),
                host.field(
                    io.Video, "video", "The video, whatever it was made with. Or connect images.", optional=True
                ),
                *_asked("What is seen and heard in the new part."),
                host.field(
                    io.Float, "start", "Where the part begins, in seconds.", default=0.0, min=0.0, max=1e5, step=0.01
                ),
                host.field(
                    io.Float,
                    "end",
                    "Where the part ends, in seconds; 0 is the video's end.",
                    default=0.0,
                    min=0.0,
                    max=1e5,
                    step=0.01,
                ),
                host.field(
                    io.Combo,
                    "what",
                    "What is made anew; the other stays, and what is new goes with it.",
                    options=[BOTH, PICTURE, SOUND],
                    default=BOTH,
                ),
                host.field(
                    io.Mask,
                    "mask",
                    "White is made anew in the picture, the rest stays. One picture, or one for each frame, of the video's shape.",
                    optional=True,
                ),
                *_frames_inputs(),
                bundle_input(),
            ],
            outputs=[
                host.output(io.Video, "video", "The video with the new part."),
                host.output(io.String, "info", "What was made anew, and what was adjusted."),
                host.output(
                    io.Image,
                    "images",
                    "All frames, where images were connected: outside the part and the mask as they were.",
                ),
                host.output(io.Audio, "audio", "Their sound, outside the part as it was; none where there was none."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            search_aliases=["retake", "ltx2 retake", "inpaint video", "redo part", "replace", "fix video"],
        )

    @classmethod
    def execute(
        cls,
        prompt,
        negative_prompt,
        preset,
        seed,
        start,
        end,
        what,
        video=None,
        mask=None,
        images=None,
        audio=None,
        fps=IMAGES_FPS,
        models=None,
        **single,
    ):
        models = everything(gathered(models, **single))
        _check_given(video, images, audio)
        film = (
            FilmFile(film_file(video, cls.hidden), mask)
            if images is None
            else FilmInMemory(images, parse_fps(fps), waveform_of(audio), mask)
        )
        part = Part(
            exact_seconds(start), exact_seconds(end) if end else None, picture=what != SOUND, sound=what != PICTURE
        )
        made = retaking(models, _request(prompt, negative_prompt, preset, seed), film, part)
        report = reporting.reporter(*STAGES, names=models.names)
        segment = generate(models, made.job, progress=report)
        lines = [str(made.window), *film.notes, *made.job.notes]
        if video is not None and fps != IMAGES_FPS:
            lines.append(f"fps {fps:g} has no effect: the video has its own")
        new = frames_of(segment, report) if made.window.picture else ()
        if images is not None:
            frames, sound = film_retaken(made, new, segment.sound)
            heard = audio_value(sound)
            whole = video_of(frames, heard, made.window.film.fps)
            return host.io.NodeOutput(whole, "\n".join(lines), frames, heard, ui={"text": lines})
        target = host.save_target("continuum/retake", kind="temp").path(".mp4")
        write_retaken(
            made,
            new,
            segment.sound,
            target,
            crf=10,
            metadata=host.workflow_values(cls.hidden),
            note=lines.append,
        )
        lines = _told(lines)
        video = host.InputImpl.VideoFromFile(str(target))
        return host.io.NodeOutput(video, "\n".join(lines), None, None, ui={"text": lines})


class Dub(host.io.ComfyNode):
    """A video spoken in other words with its own voice."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "Dub",
            "Dub Video",
            "story",
            description="Makes a video anew in which the same person says other words, such as in another language, with the same voice and lips "
            "that move with them. Put a LoRA that dubs on the model with Apply LoRA.",
            inputs=[
                *pipeline_inputs(),
                host.field(io.Video, "video", "The video, with its sound: one speaker, 1 to 20 seconds."),
                *_asked("What is seen, and the new words in their own script."),
                bundle_input(),
            ],
            outputs=[
                host.output(io.Video, "video", "The new video with its new sound."),
                host.output(io.String, "info", "What was made, and what was adjusted."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            search_aliases=["dub", "dub-it", "lip sync", "translate video", "voice", "talking", "language"],
        )

    @classmethod
    def execute(
        cls,
        video,
        prompt,
        negative_prompt,
        preset,
        seed,
        models=None,
        **single,
    ):
        models = everything(gathered(models, **single))
        made = dubbing(models, _request(prompt, negative_prompt, preset, seed), film_file(video, cls.hidden))
        report = reporting.reporter(*STAGES, names=models.names)
        segment = generate(models, made.job, progress=report)
        lines = _told([f"{segment.geometry}, seed {segment.seed}", *made.notes, *segment.notes])
        target = host.save_target("continuum/dubbed", kind="temp").path(".mp4")
        film = FinishedSegment(made.timing, frames_of(segment, report), segment.sound)
        write_film(target, [film], file_format([segment.sound]), crf=10, metadata=host.workflow_values(cls.hidden))
        return host.io.NodeOutput(host.InputImpl.VideoFromFile(str(target)), "\n".join(lines), ui={"text": lines})


def _check_given(video, images, audio) -> None:
    """Raises RequestError unless there is one film: a video, or images, which may have a sound."""
    if video is None and images is None:
        raise RequestError("nothing is connected that a part could be made anew of: connect video, or images")
    if video is not None and images is not None:
        raise RequestError("video and images are both connected: leave one of them out")
    if video is not None and audio is not None:
        raise RequestError(
            "audio is connected with a video, which has its own sound: leave audio out, or connect images"
        )


def _request(prompt: str, negative_prompt: str, preset: str, seed: int, seconds: float | None = None) -> Request:
    """What the sockets of :func:`_asked` ask for; without seconds the video says how long."""
    request = Request(
        prompt=prompt,
        negative_prompt=asked_negative(negative_prompt),
        seconds=None if seconds is None else exact_seconds(seconds),
        seed=seed,
    )
    return with_preset(request, PresetValue(None if preset == BY_NAME else preset))


NODES = [ExtendVideo, Retake, Dub]
