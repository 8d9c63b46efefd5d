"""Prompts as nodes."""

from ..ltx2.text.prompts import NEGATIVE_PRESETS, negative_prompt
from . import host
from .placement import models_of
from .sockets import Context, ContextValue, TextEncoder

NEGATIVE_TOOLTIP = (
    "What to keep out of picture and sound: a text, or the name of a ready one (full, picture, sound, short, none). Guided (dev) "
    "presets look at it, and all others with nag (Preset, Guidance)."
)


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
            ],
            outputs=[
                host.output(Context, "positive", "For Denoise and Refine."),
                host.output(Context, "negative", "For Denoise and Refine with guided presets."),
            ],
        )

    @classmethod
    def execute(cls, text_encoder, prompt, negative_prompt):
        positive, negative = encode(text_encoder, prompt, negative_prompt)
        return host.io.NodeOutput(positive, negative, ui=host.tell([*positive.notes, *negative.notes]))


def encode(text_encoder, prompt: str, negative: str) -> list:
    """Contexts (sockets.ContextValue) of a prompt and a negative one. Raises RequestError for an empty prompt."""
    from ..ltx2.errors import RequestError
    from ..ltx2.stages.steps import encode_texts

    if not prompt.strip():
        raise RequestError("the prompt is empty: say what is seen and heard")
    models = models_of(text_encoder=text_encoder)
    made = encode_texts(models, [prompt, negative_prompt(negative)], progress=host.progress_reporter("text encoding"))
    notes = models.prompt_note(prompt), models.prompt_note(negative_prompt(negative), "the negative prompt")
    return [ContextValue(context, text_encoder.version, text_encoder.loras, told) for context, told in zip(made, notes)]


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
