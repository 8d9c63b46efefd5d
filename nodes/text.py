"""Prompts as nodes."""

import contextlib
from dataclasses import replace

from ..ltx2.errors import RequestError
from ..ltx2.stages.request import Request, check_prompt
from ..ltx2.text.prompts import NEGATIVE_PRESETS, negative_prompt
from . import host, reporting
from .placement import models_of
from .sockets import Context, ContextValue, TextEncoder

NEGATIVE_TOOLTIP = (
    "What to keep out of picture and sound: a text, or the name of a ready one (full, picture, sound, short, none). Guided (dev) "
    "presets look at it, and all others with nag (Preset, Guidance)."
)


def asked_negative(text: str, default: str = "full") -> str | None:
    """A negative prompt that somebody asked for; None, which is the preset's own, where the input is as it came."""
    return None if text.strip().lower() == default else text


class EncodePrompt(host.io.ComfyNode):
    """A prompt and a negative prompt for a model."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "EncodePrompt",
            "Encode LTX-2 Prompt",
            "text",
            description="Reads a prompt with Gemma, for picture and sound at once.",
            inputs=[
                host.field(TextEncoder, "text_encoder", "Gemma with what joins it to the model."),
                host.field(
                    io.String,
                    "prompt",
                    "What is seen and heard, as one paragraph: scene, action, camera, voices in quotes, sounds.",
                    multiline=True,
                    default="",
                ),
                host.field(io.String, "negative_prompt", NEGATIVE_TOOLTIP, multiline=True, default="full"),
                enhance_input(),
            ],
            outputs=[
                host.output(Context, "positive", "For Denoise and Refine."),
                host.output(Context, "negative", "For Denoise and Refine with guided presets."),
                host.output(io.String, "prompt", "The prompt as it was read: written out where that was asked for."),
            ],
        )

    @classmethod
    def execute(cls, text_encoder, prompt, negative_prompt, enhance=False):
        written = []
        if enhance:
            prompt, written = written_out(models_of(text_encoder=text_encoder), Request(prompt=prompt))
        positive, negative = encode(text_encoder, prompt, negative_prompt)
        shown = host.tell([*written, *positive.notes, *negative.notes])
        return host.io.NodeOutput(positive, negative, prompt, ui=shown)


def enhance_input(instead: str = "connect the text of ComfyUI's TextGenerateLTX2Prompt node to prompt instead."):
    """instead: what to do where the text encoder cannot write."""
    return host.field(
        host.io.Boolean,
        "enhance",
        "Have Gemma write a fuller prompt of it first; the same seed writes the same. What it wrote is shown below. The Gemma of LTX-2.5 reads only: "
        + instead,
        default=False,
        optional=True,
    )


def written_out(models, request, going_on: bool = False) -> tuple[str, list[str]]:
    """A request's prompt written out by the text encoder, and what to tell of it. Raises RequestError for an empty
    prompt and for a text encoder that reads only, with what to connect instead."""
    from ..ltx2.stages.given.enhanced import enhanced_request

    check_prompt(request.prompt)
    with can_write():
        made = enhanced_request(models, request, going_on=going_on, progress=reporting.reporter("writing the prompt"))[
            1
        ]
    return made.text, [f"prompt by {made.writer}, seed {made.seed}: {made.text}"]


def with_enhanced_prompt(models, request, wanted: bool, seed: int, going_on: bool = False) -> tuple[Request, list[str]]:
    """The request, its prompt written out where that is wanted, and what to tell of it."""
    if not wanted:
        return request, []
    prompt, notes = written_out(models, replace(request, seed=seed), going_on)
    return replace(request, prompt=prompt), notes


def story_enhancer(models, story):
    """What writes a story's prompts out, where it asks for that. Raises RequestError for a text encoder that reads
    only."""
    from ..ltx2.story.enhancing import pipeline_enhancer

    if not story.is_enhanced:
        return None
    with can_write():
        return pipeline_enhancer(models, progress=reporting.reporter("writing the prompt"))


@contextlib.contextmanager
def can_write():
    """Errors of a text encoder that reads only say what to connect in a workflow."""
    try:
        yield
    except RequestError as error:
        text = str(error).partition(": ")[0]
        if "cannot write" not in text:
            raise
        raise RequestError(f"{text}: connect the text of ComfyUI's TextGenerateLTX2Prompt node to prompt") from error


def encode(text_encoder, prompt: str, negative: str) -> list:
    """Contexts (sockets.ContextValue) of a prompt and a negative one. Raises RequestError for an empty prompt."""
    from ..ltx2.stages.steps import encode_texts

    check_prompt(prompt)
    models = models_of(text_encoder=text_encoder)
    made = encode_texts(models, [prompt, negative_prompt(negative)], progress=reporting.reporter("text encoding"))
    notes = models.prompt_note(prompt), models.prompt_note(negative_prompt(negative), "the negative prompt")
    return [ContextValue(context, text_encoder.version, text_encoder.loras, note) for context, note in zip(made, notes)]


class NegativePreset(host.io.ComfyNode):
    """Ready negative prompts."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "NegativePreset",
            "LTX-2 Negative Prompt",
            "text",
            description="The text of a ready negative prompt, to use as it is or to change.",
            inputs=[
                host.field(
                    io.Combo,
                    "preset",
                    "full: picture, sound and overlays; picture and sound: one of them; short; none: empty.",
                    options=list(NEGATIVE_PRESETS),
                    default="full",
                )
            ],
            outputs=[host.output(io.String, "text", "The negative prompt.")],
        )

    @classmethod
    def execute(cls, preset):
        return host.io.NodeOutput(negative_prompt(preset))


NODES = [EncodePrompt, NegativePreset]
