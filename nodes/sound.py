"""Sound by itself, and sound for a film, in one node."""

import torch

from ..ltx2.film import Handoff
from ..ltx2.media.found.film_picture import film_picture
from ..ltx2.media.found.new_sound import check_picture_can_stay, write_with_sound
from ..ltx2.stages.geometry import LONGEST_SOUND
from ..ltx2.stages.presets import SOUND_PRESETS
from ..ltx2.stages.request import Request
from ..ltx2.story.sound import make_sound, sound_job, state_of_sound
from ..ltx2.story.sound.making import MOST_PIXELS
from ..ltx2.values import Waveform
from . import host, reporting, sockets
from .bundle import bundle_input, everything, gathered, pipeline_inputs
from .continuation import card
from .denoise import BY_NAME, seed_input
from .given_film import film_file
from .sockets import State, audio_value
from .text import asked_negative

SECONDS = 5.0
STAGES = ("text encoding", "video encoding", "denoising", "audio decoding")


class GenerateSound(host.io.ComfyNode):
    """From a prompt to sound, for a film or for none."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "GenerateSound",
            "Generate LTX-2 Sound",
            "story",
            description="Makes sound from a prompt: by itself, going on from a state, or for a video, whose picture stays as it is. Of any length, "
            "in windows that overlap.",
            inputs=[
                *pipeline_inputs("model", "text_encoder", "audio_vae"),
                host.field(
                    io.String,
                    "prompt",
                    "What is heard, as one paragraph: voices in quotes, sounds, music, the room. With a video also what is seen.",
                    multiline=True,
                    default="",
                ),
                host.field(
                    io.String,
                    "negative_prompt",
                    "What to keep out of the sound: a text, or the name of a ready one (full, picture, sound, short, none). Only guided (dev) "
                    "presets look at it.",
                    multiline=True,
                    default="sound",
                ),
                host.field(
                    io.Float,
                    "seconds",
                    "Length in seconds; a video has its own.",
                    default=SECONDS,
                    min=0.1,
                    max=float(LONGEST_SOUND),
                    step=0.01,
                ),
                host.field(
                    io.Combo,
                    "preset",
                    "ltx2_sound: dev models, guided; ltx2_sound_fast: distilled models, 8 steps.",
                    options=[BY_NAME, *(preset.name for preset in SOUND_PRESETS)],
                    default=BY_NAME,
                ),
                seed_input(),
                host.field(io.Video, "video", "A video to make sound for. Its own sound is left out.", optional=True),
                *pipeline_inputs("video_vae"),
                host.field(
                    State, "state", "The sound goes on from this state; only what is new comes out.", optional=True
                ),
                bundle_input(),
            ],
            outputs=[
                host.output(io.Audio, "audio", "The sound."),
                host.output(io.Video, "video", "The video with this sound; none where no video is connected."),
                host.output(State, "state", "What a next sound goes on from."),
                host.output(io.String, "info", "What was made, and what was adjusted."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            search_aliases=["text to audio", "video to audio", "sound effects", "foley", "ltx2 sound", "add sound"],
        )

    @classmethod
    def execute(
        cls,
        prompt,
        negative_prompt,
        seconds,
        preset,
        seed,
        video=None,
        state=None,
        models=None,
        **single,
    ):
        models = everything(gathered(models, **single))
        source = None if video is None else _file_of(video, cls.hidden)
        request = Request(
            prompt=prompt,
            negative_prompt=asked_negative(negative_prompt, "sound"),
            preset=None if preset == BY_NAME else preset,
            seconds=seconds if video is None else None,
            seed=seed if state is None else None,
            sound_only=True,
        )
        film = None if source is None else film_picture(source, most_pixels=MOST_PIXELS)
        job = sound_job(models, request, film=film, state=state, handoff=Handoff(seed=seed))
        sound, timing, segment = _made(models, job)
        carried = state_of_sound(job, timing, segment)
        lines = [str(job), *job.notes]
        if video is not None and seconds != SECONDS:
            lines.append(f"seconds {seconds:g} has no effect: the video has its own length")
        heard = None
        if source is not None:
            target = host.save_target("continuum/sound", kind="temp")
            lines += write_with_sound(source, target.path(".mp4"), [sound], metadata=host.workflow_values(cls.hidden))
            heard = host.InputImpl.VideoFromFile(str(target.path(".mp4")))
        lines = [host.without_folders(line) for line in lines]
        return host.io.NodeOutput(
            audio_value(sound), heard, carried, "\n".join(lines), ui={"states": [card(carried)], "text": lines}
        )


def _made(models, job) -> tuple[Waveform, sockets.SegmentTiming, object]:
    """The whole sound, and the last of its windows."""
    windows: list = []

    def report(progress):
        reporters[len(windows)](progress)

    reporters = [reporting.reporter(*STAGES, part=part, parts=len(job.windows)) for part in range(len(job.windows) + 1)]
    pieces = list(make_sound(models, job, progress=report, made=lambda *one: windows.append(one)))
    sound = Waveform(torch.cat([piece.samples for piece in pieces], dim=1), pieces[0].sample_rate)
    return sound, *windows[-1]


def _file_of(video, hidden):
    """A VIDEO as a file whose picture can be copied. Raises MediaError for one that cannot be."""
    path = film_file(video, hidden)
    check_picture_can_stay(path)
    return path


NODES = [GenerateSound]
