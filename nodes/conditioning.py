"""What is known of a clip in advance, one thing a node; nodes are chained."""

from dataclasses import replace

from ..ltx2.errors import RequestError
from ..ltx2.film import Handoff
from ..ltx2.stages.conditioning.slots import MOST_SLOTS, read_slots
from ..ltx2.stages.conditioning.voices import STRONGEST
from ..ltx2.stages.given import ready_audio, ready_voice
from ..ltx2.values import ClipCondition, ImageCondition, ReferenceCondition, VoiceCondition
from . import host
from .drift import drift_input
from .sockets import Conditions, ConditionsValue, State, overlap_error, picture_of, waveform_of

REFERENCE_STAGES = {"first stage": "first", "both stages": "both"}
SLOTS = 5  # keyframes, unless another number is asked for
MORE = "What is known already; leave it open in the first node of the chain."


def _outputs():
    return [host.output(Conditions, "conditions", "For Prepare LTX-2 Clip, or the next node of the chain.")]


def attention_input(what: str):
    """How much the clip looks at a picture or clip."""
    return host.field(
        host.io.Float,
        "attention",
        f"How much the clip looks at {what}: 1 in full. Below 1 it stands beside the clip as a guide, at frame 0 too, and 0 is not looked at.",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.01,
        optional=True,
    )


class AddImage(host.io.ComfyNode):
    """A picture at a place in the clip."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "AddImage",
            "Add Image",
            "conditioning",
            description="A picture that the clip starts from or comes to. Chain several for keyframes.",
            inputs=[
                host.field(io.Image, "image", "The picture; of a batch the first. It is cropped to the clip's shape."),
                host.field(
                    io.Int,
                    "frame",
                    "Where it stands: frame number in the clip, 0 is the first, -1 the last.",
                    default=0,
                    min=-1,
                    max=9999,
                ),
                host.field(
                    io.Float,
                    "strength",
                    "How exactly it is kept: 1 exactly, 0 not at all.",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                ),
                host.field(Conditions, "conditions", MORE, optional=True),
                host.field(
                    io.Float,
                    "crf",
                    "H.264 quality the picture is taken through first, since films are what the model knows: 0 none, 33 usual, -1 as the model's release says.",
                    default=-1.0,
                    min=-1.0,
                    max=51.0,
                    step=1.0,
                ),
                attention_input("it"),
            ],
            outputs=_outputs(),
            search_aliases=["keyframe", "reference image", "image guide"],
        )

    @classmethod
    def execute(cls, image, frame, strength, conditions=None, crf=-1.0, attention=1.0):
        given = conditions or ConditionsValue()
        added = ImageCondition(picture_of(image), frame, strength, None if crf < 0 else crf, attention=attention)
        return host.io.NodeOutput(replace(given, images=(*given.images, added)))


class AddClip(host.io.ComfyNode):
    """Consecutive frames in the clip."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "AddClip",
            "Add Video Clip",
            "conditioning",
            description="Frames that the clip starts from or contains, with their motion.",
            inputs=[
                host.field(io.Image, "frames", "8k+1 frames in order, such as 9 or 25."),
                host.field(
                    io.Int,
                    "frame",
                    "Where the first of them stands in the clip, 0 is the start.",
                    default=0,
                    min=0,
                    max=9999,
                ),
                host.field(
                    io.Float,
                    "strength",
                    "How exactly they are kept: 1 exactly, 0 not at all.",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                ),
                host.field(Conditions, "conditions", MORE, optional=True),
                attention_input("them"),
            ],
            outputs=_outputs(),
            search_aliases=["video to video", "video guide"],
        )

    @classmethod
    def execute(cls, frames, frame, strength, conditions=None, attention=1.0):
        given = conditions or ConditionsValue()
        added = ClipCondition(frames[..., :3], frame, strength, attention=attention)
        return host.io.NodeOutput(replace(given, clips=(*given.clips, added)))


class ReferenceVideo(host.io.ComfyNode):
    """A video that an IC-LoRA looks at beside the clip."""

    @classmethod
    def define_schema(cls):
        io = host.io

        def share(name, tooltip):
            return host.field(io.Float, name, tooltip, default=1.0, min=0.0, max=1.0, step=0.01)

        return host.schema(
            "ReferenceVideo",
            "Reference Video",
            "conditioning",
            description="What an IC-LoRA follows while the clip is made: a control map (depth, canny, pose, drawn tracks), a reference sheet, "
            "or a film to change. Put the LoRA on the model with Apply LoRA; its file says how much smaller the reference is.",
            inputs=[
                host.field(
                    io.Image,
                    "frames",
                    "As many frames as the clip has, those that a continuation repeats included, or one picture for all of them. They are "
                    "cropped to the clip's shape; more frames than the clip's are left out.",
                ),
                share("strength", "How clean it is shown: 1 as it is, less with noise over it."),
                share("attention", "How much the clip looks at it: 1 in full, 0 not at all."),
                host.field(
                    io.Combo,
                    "stages",
                    "Of two stages, which ones see it. Control LoRAs are made for the first.",
                    options=list(REFERENCE_STAGES),
                    default=next(iter(REFERENCE_STAGES)),
                ),
                host.field(
                    io.Mask,
                    "mask",
                    "Where the reference counts: white in full, black not at all. One for each frame, or one for all.",
                    optional=True,
                ),
                host.field(Conditions, "conditions", MORE, optional=True),
            ],
            outputs=_outputs(),
            search_aliases=[
                "ic-lora",
                "control video",
                "depth",
                "canny",
                "pose",
                "union control",
                "reference sheet",
                "ingredients",
            ],
        )

    @classmethod
    def execute(cls, frames, strength, attention, stages, mask=None, conditions=None):
        given = conditions or ConditionsValue()
        added = ReferenceCondition(frames[..., :3], strength, attention, mask, REFERENCE_STAGES[stages])
        return host.io.NodeOutput(replace(given, references=(*given.references, added)))


class ReferenceVoice(host.io.ComfyNode):
    """A voice that people of the clip speak with."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "ReferenceVoice",
            "Reference Voice",
            "conditioning",
            description="A voice that an ID-LoRA has people in the clip speak with. The speech itself is not heard. Put the LoRA on the model with "
            "Apply LoRA, and write what is said into the prompt.",
            inputs=[
                host.field(io.Audio, "voice", "About 5 seconds of one person's speech without music, 1 to 20."),
                host.field(
                    io.Float,
                    "identity",
                    "How strongly each step goes towards the voice, at one more model call a step in the first stage: 3 is usual, 0 is off.",
                    default=VoiceCondition.identity,
                    min=0.0,
                    max=STRONGEST,
                    step=0.1,
                ),
                host.field(Conditions, "conditions", MORE, optional=True),
            ],
            outputs=_outputs(),
            search_aliases=["id-lora", "voice", "talking", "speaker", "identity", "reference audio", "voice clone"],
        )

    @classmethod
    def execute(cls, voice, identity, conditions=None):
        given = conditions or ConditionsValue()
        if given.voice is not None:
            raise RequestError("the conditions hold a voice already: leave one of them out")
        added, notes = ready_voice(VoiceCondition(waveform_of(voice), identity))
        return host.io.NodeOutput(replace(given, voice=added), ui=host.tell(notes) if notes else None)


class KeyframeSlots(host.io.ComfyNode):
    """Keyframes that the model makes beside a clip."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "KeyframeSlots",
            "Keyframe Slots",
            "conditioning",
            description="Keyframes that LTX-2.5 makes beside the clip in the first stage and that hold it together. Each costs as much as one latent "
            "frame; nothing of them is shown.",
            inputs=[
                host.field(
                    io.Int,
                    "number",
                    "How many, spread evenly between the clip's ends, or behind the frames that it continues.",
                    default=SLOTS,
                    min=1,
                    max=MOST_SLOTS,
                ),
                host.field(
                    io.String,
                    "frames",
                    "Frames that they stand at, such as 24, 48, 72, in place of a number.",
                    default="",
                    advanced=True,
                ),
                host.field(Conditions, "conditions", MORE, optional=True),
            ],
            outputs=_outputs(),
            search_aliases=["generated keyframes", "keyframe slots", "ltx2.5 keyframes", "dfr"],
        )

    @classmethod
    def execute(cls, number, frames="", conditions=None):
        try:
            places = tuple(int(one) for one in frames.replace(",", " ").split())
        except ValueError as error:
            raise RequestError(f"frames are {frames[:40]!r}, expected whole numbers such as 24, 48, 72") from error
        added = replace(conditions or ConditionsValue(), slots=read_slots(places or number))
        if places and number not in (SLOTS, len(places)):
            return host.io.NodeOutput(
                added, ui=host.tell([f"number {number} has no effect: frames names {len(places)}"])
            )
        return host.io.NodeOutput(added)


class UseAudio(host.io.ComfyNode):
    """A sound track of one's own."""

    @classmethod
    def define_schema(cls):
        return host.schema(
            "UseAudio",
            "Use Own Audio",
            "conditioning",
            description="The clip is made to go with this sound, which is heard as it is. It begins with the clip's first frame (in a "
            "continuation, with the first repeated one) and is padded with silence or cut to the clip. Denoise needs the audio VAE for it.",
            inputs=[
                host.field(host.io.Audio, "audio", "The sound; of a batch the first. Any sample rate."),
                host.field(Conditions, "conditions", MORE, optional=True),
            ],
            outputs=_outputs(),
            search_aliases=["audio to video", "music video", "lip sync", "talking", "sound track"],
        )

    @classmethod
    def execute(cls, audio, conditions=None):
        sound, notes = ready_audio(waveform_of(audio), "the audio input")
        return host.io.NodeOutput(replace(conditions or ConditionsValue(), audio=sound), ui=host.tell(notes))


class ContinueFrom(host.io.ComfyNode):
    """The clip goes on where another ended."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "ContinueFrom",
            "Continue From State",
            "conditioning",
            description="The clip continues the one that left this state, picture and sound. Size and frame rate must be the same.",
            inputs=[
                host.field(State, "state", "What the clip before left."),
                host.field(Conditions, "conditions", MORE, optional=True),
                host.field(
                    io.Float,
                    "strength",
                    "How exactly the carried frames are kept: 1 exactly, 0 not at all, -1 as the state says.",
                    default=-1.0,
                    min=-1.0,
                    max=1.0,
                    step=0.01,
                ),
                host.field(
                    io.Int,
                    "video_overlap",
                    "Frames to start from: 8k+1, at most as many as the state carries; -1 all of them.",
                    default=-1,
                    min=-1,
                    max=249,
                ),
                host.field(
                    io.Int,
                    "audio_overlap",
                    "Sound to start from, in video frames; 0 none, -1 as the state says.",
                    default=-1,
                    min=-1,
                    max=480,
                ),
                drift_input(),
            ],
            outputs=_outputs(),
            search_aliases=["ltx2 continuation", "video prefix"],
        )

    @classmethod
    def validate_inputs(cls, video_overlap=-1):
        return True if video_overlap is None or video_overlap == -1 else overlap_error(video_overlap) or True

    @classmethod
    def execute(cls, state, conditions=None, strength=-1.0, video_overlap=-1, audio_overlap=-1, drift=None):
        given = conditions or ConditionsValue()
        return host.io.NodeOutput(
            replace(
                given,
                state=state,
                handoff=Handoff(
                    video_overlap=None if video_overlap < 0 else video_overlap,
                    audio_overlap=None if audio_overlap < 0 else audio_overlap,
                    strength=None if strength < 0 else strength,
                    drift=drift,
                ),
            )
        )


NODES = [AddImage, AddClip, ReferenceVideo, ReferenceVoice, KeyframeSlots, UseAudio, ContinueFrom]
