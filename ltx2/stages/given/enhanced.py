"""A request whose prompt is written out by a language model before anything is sampled."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from ... import mini
from ...errors import RequestError
from ...text.enhancement import DEFAULT_SEED, SAMPLING, EnhancedPrompt, enhance_prompt, style_for
from ...text.gemma import TextEncoder
from ...text.writer import PromptWriter, TextSampling, writer_of
from ...values import Progress
from ..models import Models

WRITING_BYTES = 2**30  # beside the language model's weights: what it remembers of a conversation
# The stages' own request, or anything with the same fields.
RequestLike = TypeVar("RequestLike")


def enhanced_request(
    models: Models,
    request: RequestLike,
    writer: PromptWriter | None = None,
    *,
    earlier: Sequence[str] = (),
    going_on: bool = False,
    sampling: TextSampling | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[RequestLike, EnhancedPrompt]:
    """The request with a fuller prompt, and how that came to be; the request's seed gives the same text again.

    writer: a second Gemma; None: the model's own text encoder writes. earlier: prompts of the shots before; going_on:
    the shot starts from pictures that there are, as one with a picture at its first frame does. Raises RequestError
    for a text encoder that reads only.
    """
    asked = cast(Any, request)
    style = style_for(None if models.release is None else models.release.name)
    chosen = SAMPLING[style] if sampling is None else sampling

    def report(words: int) -> None:
        if progress is not None:
            progress(Progress("writing the prompt", words, chosen.max_new_tokens))

    def write(by: PromptWriter) -> EnhancedPrompt:
        return enhance_prompt(
            by,
            asked.prompt,
            earlier=earlier,
            from_image=going_on or any(image.frame == 0 for image in asked.images),
            style=style,
            seed=DEFAULT_SEED if asked.seed is None else asked.seed,
            sampling=chosen,
            progress=report,
        )

    if writer is not None:
        made = write(writer)
    else:
        encoder = reader_and_writer(models)  # tells one that only reads before it is brought to the device
        with models.placement.on(encoder.model, activation_bytes=WRITING_BYTES) as (language,):
            made = write(writer_of(replace(encoder, model=language)))
    return replace(asked, prompt=made.text), made


def reader_and_writer(models: Models) -> TextEncoder:
    """The models' own text encoder where it can write. Raises RequestError for one that reads only."""
    encoder = models.need("text_encoder")
    if encoder.name == mini.TEXT_ENCODER.name:
        raise RequestError("mini reads prompts and cannot write them: use a Gemma of LTX-2 or 2.3")
    writer_of(encoder)
    return encoder
