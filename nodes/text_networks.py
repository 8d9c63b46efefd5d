"""Gemma and what joins it to a model, in the host's hands: left in their files while every prompt is known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..ltx2.checkpoint import models as load
from ..ltx2.checkpoint.lora import read_lora
from ..ltx2.checkpoint.reader import open_checkpoint
from ..ltx2.errors import RequestError
from . import host
from .sockets import ModelValue, TextEncoderValue

TEXTS_BYTES = 2 * 2**30  # of what prompts became, among the user's files: more than a hundred of a released model


def load_text(path: Path, model: ModelValue) -> TextEncoderValue:
    """A text encoder for a model; one that was loaded for it before, with these files, is left in them until a prompt
    is new. Raises CheckpointError when the two do not belong together."""
    from ..ltx2.text.gemma import encoder_files
    from ..ltx2.text.identity import text_files
    from ..ltx2.text.source import TextFiles, TextSource, text_source

    def load_parts() -> dict[str, Any]:
        return _text_parts(path, model)

    def facts_of(parts) -> dict[str, Any]:
        return {"identity": parts["identity"], "name": parts["encoder"].name}

    folder = contexts_folder()
    if folder is None:
        source = TextSource(load_parts)
        facts = {**facts_of(source.parts), "contexts": source["identity"]}
    else:
        others = (*model.files, *(lora for lora, _ in model.loras))
        how = (host.text_dtype(), host.compute_device().type, host.attention_name())
        settings = (*how, *(strength for _, strength in model.loras))
        files = TextFiles(tuple(text_files(path, encoder_files(path), others)), settings)
        source, known = text_source(files, folder, load_parts, facts_of)
        facts = dict(known or {})
    return TextEncoderValue(
        source,
        identity=facts["identity"],
        contexts=facts["contexts"],
        version=model.version,
        name=facts["name"],
        loras=model.loras,
    )


def contexts_folder():
    """Where what prompts became is kept among the user's files; None where the host has no place for it, or it cannot
    be written to."""
    from ..ltx2.text.context_folder import ContextFolder

    place = host.own_folder("texts")
    try:
        return None if place is None else ContextFolder(place, TEXTS_BYTES)
    except RequestError as error:
        host.tell([str(error)])
        return None


def _text_parts(path: Path, model: ModelValue) -> dict[str, Any]:
    """The networks of the text in the host's hands, as TextEncoderValue has them, and their identity."""
    from ..ltx2.text.gemma import check_gemma_version, check_width, context_identity, encoder_files, load_text_encoder
    from ..ltx2.text.layers import with_ops

    files = open_checkpoint(*model.files, *encoder_files(path))
    dtype = host.text_dtype()
    loras = [(read_lora(lora), strength) for lora, strength in model.loras]
    encoder = load_text_encoder(path, quantized="on_use", loras=loras)
    checkpoint = open_checkpoint(*model.files)
    check_gemma_version(encoder, checkpoint.metadata, model.files[0].name)
    options = {"dtype": dtype, "ops": host.OPS, "loras": loras}
    projection = load.load_text_projection(files, **options)
    check_width(encoder, projection)
    connectors = load.load_connectors(files, attention=host.attention, **options)
    identity = context_identity(encoder, projection, connectors)
    host.adopt(with_ops(encoder.model, host.OPS, dtype=dtype))
    patcher = host.patcher(encoder.model, "text")
    return {
        "patcher": patcher,
        "projection": host.patcher(projection, "text"),
        "connectors": tuple(host.patcher(connector, "text") for connector in connectors),
        "encoder": replace(encoder, compute_device=patcher.load_device),
        "identity": identity,
    }
