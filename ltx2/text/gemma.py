"""Prompts → text contexts: Gemma reads the prompt, every one of its hidden states goes into the projection, the
connectors finish.

Hidden states are handed on one by one while the model runs, so that no more than one is ever kept.
Checked against the released pipelines (ltx-core 1.0.0) and transformers 5.23.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..atomic_files import file_path
from ..checkpoint.build import LoadOptions, build
from ..checkpoint.folders import index_shards
from ..checkpoint.layout import find_component
from ..checkpoint.lora import TEXT_ENCODER, Lora, only_fitting
from ..checkpoint.reader import Checkpoint, gguf_names, open_checkpoint, parts_of
from ..config.transformer import TextProjectionConfig
from ..errors import CheckpointError, RequestError
from ..networks.layers.ops import compute_dtype
from ..values import TextContext
from .cache import ContextCache, fingerprint
from .language_model import RELEASES, empty_language_model, family_of, fill_computed_buffers, hugging_face_config
from .llama_cpp import language_component
from .prompts import check_text
from .tokenizer import (
    MAX_TOKENS,
    PromptTokenizer,
    cut_note,
    from_file,
    from_folder,
    from_sentencepiece,
    from_tokenizer_json,
    prompt_ids,
)


@dataclass(frozen=True)
class TextEncoder:
    """A tokenizer and the language model it feeds.

    family: ``gemma3`` or ``gemma4``; version: the release named in the file, or None; identity: changes when the files
    do;
    name: for messages. compute_device: where prompts are run when weights may lie elsewhere; None: where the weights
    are.
    """

    model: Any  # of the transformers library, the attributes of which torch's own type does not know
    tokenizer: PromptTokenizer
    family: str
    version: str | None
    identity: str
    name: str
    compute_device: torch.device | None = None

    @property
    def width(self) -> int:
        """Numbers in one hidden state."""
        return self.model.config.hidden_size

    @property
    def states(self) -> int:
        """Hidden states per token: the embedding and every layer's output."""
        return self.model.config.num_hidden_layers + 1

    @property
    def device(self) -> torch.device:
        """Where prompts are run."""
        return self.model.embed_tokens.weight.device if self.compute_device is None else self.compute_device


# ---------------------------------------------------------------------------------------------------------------
# Loading

ENCODER_FOLDER = "text_encoder"  # of a diffusers pipeline


def encoder_files(path: str | Path) -> list[Path]:
    """The weight files meant by a path: the file itself, or a Hugging Face folder's safetensors (also in
    ``text_encoder/`` in it).

    A folder without any may hold one GGUF model. Errors: CheckpointError when there is none, or a shard that the index
    names is absent.
    """
    path = Path(path)
    if file_path(path) is None or not os.path.lexists(path):
        raise CheckpointError(f"{path} is not there: name the release's Gemma file or folder")
    if not path.is_dir():
        return [path]
    for folder in (path, path / ENCODER_FOLDER):
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            return index_shards(index)
        files = sorted(folder.glob("*.safetensors")) or _gguf_files(folder)
        if files:
            return files
    raise CheckpointError(
        f"{path} holds no safetensors file and no GGUF file: choose the Gemma folder or the text encoder file"
    )


def _gguf_files(folder: Path) -> list[Path]:
    """The one GGUF model of a folder, in one file or in parts. Raises CheckpointError when there are several."""
    names = [name for name in gguf_names(folder, below=False) if not name.startswith("mmproj")]  # of pictures
    if len(names) > 1:
        listed = ", ".join(sorted(names)[:3])
        raise CheckpointError(f"{folder} holds {len(names)} GGUF models ({listed}): choose one of the files")
    return [part for name in names for part in parts_of(folder / name)]


def files_identity(paths: Sequence[Path], strengths: Sequence[float] = ()) -> str:
    """A short digest that changes when one of the files is another or was rewritten, or a LoRA's strength is another;
    reads no weights."""
    digest = hashlib.sha256("".join(f"{strength}\0" for strength in strengths).encode())
    for path in paths:
        status = path.stat()
        digest.update(f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def load_text_encoder(
    path: str | Path,
    *,
    tokenizer: str | Path | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    quantized: str = "dequantize",
    loras: Sequence[tuple[Lora, float]] = (),
) -> TextEncoder:
    """Gemma 3 or Gemma 4 from a Hugging Face folder or from one safetensors file with the tokenizer inside; Gemma 3
    also from GGUF.

    tokenizer: a folder, ``tokenizer.json`` or ``tokenizer.model``, for files that hold none (GGUF); else looked for
    beside the file. quantized: ``dequantize`` at load, or ``on_use``. loras: with strengths; what they say of other
    networks is passed over.
    Errors: CheckpointError (not a Gemma, damaged, no tokenizer), MissingPackageError (transformers absent or too old).
    """
    path = Path(path)
    files = encoder_files(path)
    checkpoint = open_checkpoint(*files)
    _check_once(path, checkpoint)
    name = path.name or str(path)
    component = language_component(checkpoint) or find_component(checkpoint, "text_encoder")
    shapes = component.shapes
    family = family_of(shapes)
    config = _config(checkpoint.metadata, files[0].parent if path.is_dir() else None, name)
    parts = [(only_fitting(lora.part(TEXT_ENCODER), shapes), strength) for lora, strength in loras]
    parts = [(part, strength) for part, strength in parts if part.differences]
    options = LoadOptions(dtype, device, quantized=quantized, loras=parts)
    model = build(lambda ops: empty_language_model(family, shapes, config), component, options)
    fill_computed_buffers(model, device)
    reader = _tokenizer(checkpoint.tensors, path, Path(tokenizer) if tokenizer else None, name)
    rows = model.embed_tokens.num_embeddings
    if reader.size > rows:
        raise CheckpointError(
            f"the tokenizer of {name} has {reader.size} pieces, the model {rows}: take both from the same release"
        )
    version = (config or {}).get("gemma_version") or checkpoint.metadata.get("gemma_version")
    identity = files_identity(
        [*checkpoint.paths, *(part.path for part, _ in parts)], [strength for _, strength in parts]
    )
    return TextEncoder(model, reader, family, version, identity, name)


def _check_once(path: Path, checkpoint: Checkpoint) -> None:
    """Raise CheckpointError for a folder with several models, as a release's variants are."""
    if sum(len(file.tensors) for file in checkpoint.files) != len(checkpoint.tensors):
        names = ", ".join(one.name for one in checkpoint.paths[:3])
        raise CheckpointError(f"{path} holds tensors of one name in several files ({names}): choose one of the files")


def _config(metadata: Mapping[str, str], folder: Path | None, name: str) -> dict[str, Any] | None:
    """The Hugging Face config: from the metadata of a single file or from the folder's config.json; None = from
    shapes."""
    if folder is None or not (folder / "config.json").is_file():
        return hugging_face_config(metadata, name)
    path = folder / "config.json"
    return hugging_face_config({"gemma_config": path.read_text("utf-8", "replace")}, str(path))


def _tokenizer(tensors, path: Path, given: Path | None, name: str) -> PromptTokenizer:
    if given is not None:
        if given.is_dir():
            return from_folder(given)
        return from_file(given)
    for key, read in (("tokenizer_json", from_tokenizer_json), ("spiece_model", from_sentencepiece)):
        if key in tensors:
            return read(tensors[key].load().cpu().numpy().tobytes(), name)
    if path.is_dir():
        return from_folder(path, path / ENCODER_FOLDER)
    try:
        return from_folder(path.parent)
    except CheckpointError as error:
        raise CheckpointError(
            f"{name} holds no tokenizer (no spiece_model or tokenizer_json inside): put the release's "
            "tokenizer.json beside it"
        ) from error


def check_gemma_version(
    encoder: TextEncoder,
    metadata: Mapping[str, str],
    transformer_name: str = "the transformer",
    expected_model: str | None = None,
) -> None:
    """Compare the encoder's release with the one that the transformer was trained with (2.5 names it in its metadata).

    expected_model: the language model of the transformer's release, such as "Gemma 3 12B"; both kinds have the same
    width, so nothing but this tells them apart where the metadata is silent.
    Errors: CheckpointError when both are known and differ, or when the transformer asks for one and the encoder has
    another kind.
    """
    text = metadata.get("gemma_source_checkpoint")
    if not text:
        if expected_model and not expected_model.lower().replace(" ", "").startswith(encoder.family):
            raise CheckpointError(
                f"{transformer_name} was trained with {expected_model}, {encoder.name} is "
                f"{RELEASES[encoder.family]}: load a "
                f"{expected_model} file"
            )
        return
    try:
        expected = json.loads(text)["gemma_version"]
    except (ValueError, KeyError, TypeError) as error:
        found = f"gemma_source_checkpoint {text[:60]!r}"
        raise CheckpointError(f"the metadata of {transformer_name} is damaged ({found}): get the file again") from error
    if encoder.version is None and str(expected).startswith(encoder.family):
        return
    if encoder.version != expected:
        found = encoder.version or RELEASES[encoder.family]
        raise CheckpointError(
            f"{transformer_name} was trained with the text encoder {expected}, {encoder.name} is {found}: load the "
            f"{expected} file"
        )


# ---------------------------------------------------------------------------------------------------------------
# Encoding


@contextmanager
def _watched(model: nn.Module, take: Callable[[int, torch.Tensor], None]) -> Iterator[None]:
    """Hand each hidden state to ``take(index, state)`` as soon as it exists: 0 the embedding, i the output of layer
    i-1.

    The last layer's output counts only after the final norm, as in ``output_hidden_states``.
    """
    modules = [model.embed_tokens, *model.layers[: model.config.num_hidden_layers - 1], model.norm]

    def hook(index):
        def taken(module, inputs, output):
            take(index, output[0] if isinstance(output, tuple) else output)

        return taken

    handles = [module.register_forward_hook(hook(index)) for index, module in enumerate(modules)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def run_hidden_states(
    encoder: TextEncoder, ids: torch.Tensor, mask: torch.Tensor | None, take: Callable[[int, torch.Tensor], None]
) -> None:
    """Run the language model once and hand over its states [B, T, D] in order, 49 of them for the released encoders.

    ids: [B, T]; mask: [B, T] or None when every token is valid. Tokens keep the positions they have when the prompt
    is padded on the left to 1024, as the released pipelines do: rotary angles are then rounded alike.
    """
    tokens = ids.shape[1]
    positions = torch.arange(MAX_TOKENS - tokens, MAX_TOKENS, device=ids.device)[None]
    with _watched(encoder.model, take):
        encoder.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)


@torch.inference_mode()
def project_prompt(
    encoder: TextEncoder, projection: nn.Module, prompt: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of one prompt, before the connectors: video [1, 1024, Dv], audio [1, 1024, Da], mask [1, 1024].

    Only the prompt's own tokens are run: padding never reaches the result. They come first, zeros follow.
    """
    ids = torch.tensor([prompt_ids(encoder.tokenizer, prompt)], device=encoder.device)  # [1, T]
    accumulator = projection.accumulator(torch.ones_like(ids))
    dtype = compute_dtype(projection)
    run_hidden_states(encoder, ids, None, lambda index, state: accumulator.add(index, state.to(dtype)))
    video, audio = accumulator.features()
    mask = torch.zeros(1, MAX_TOKENS, dtype=torch.int64, device=ids.device)
    mask[:, : ids.shape[1]] = 1
    padding = (0, 0, 0, MAX_TOKENS - ids.shape[1])
    padded = nn.functional.pad(video, padding)
    # the first release feeds one and the same tensor to both connectors
    return padded, padded if audio is video else nn.functional.pad(audio, padding), mask


def check_width(encoder: TextEncoder, projection: nn.Module) -> None:
    """Errors: CheckpointError when the projection was made for another language model."""
    config: TextProjectionConfig = projection.config
    found, expected = (encoder.states, encoder.width), (config.states, config.hidden_width)
    if found != expected:
        raise CheckpointError(
            f"the text encoder {encoder.name} gives {found[0]} states of {found[1]}, the checkpoint's text "
            "projection expects "
            f"{expected[0]} of {expected[1]}: load {' or '.join(RELEASES.values())}"
        )


def encode(
    encoder: TextEncoder,
    projection: nn.Module,
    connectors: tuple[nn.Module, nn.Module | None],
    prompts: Sequence[str],
    *,
    cache: ContextCache | None = None,
    identity: str | None = None,
) -> list[TextContext]:
    """Text contexts of prompts, in order: video [1, 1024, Dv] and audio [1, 1024, Da] each.

    connectors: (video, audio or None). Prompts run one at a time, so that a context depends on its prompt alone and
    not on what it was encoded with. With a cache, a prompt known for these very weights is not run again;
    identity: what the cache knows them by (default: a digest of files and weights).
    Errors: RequestError (not a text), CheckpointError (encoder and projection do not fit).
    """
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise RequestError(f"a prompt is text, got {type(prompt).__name__}")
        check_text(prompt)
    check_width(encoder, projection)
    if identity is None:
        identity = context_identity(encoder, projection, connectors) if cache is not None else ""
    contexts = []
    for prompt in prompts:
        context = cache.find(identity, prompt, encoder.device) if cache is not None else None
        if context is None:
            context = _encode_one(encoder, projection, connectors, prompt)
            if cache is not None:
                cache.keep(identity, prompt, context, cut_note(encoder.tokenizer, prompt))
        contexts.append(context)
    return contexts


def context_identity(encoder: TextEncoder, projection: nn.Module, connectors: Sequence[nn.Module | None]) -> str:
    """The model part of a cache key: the encoder's files and the weights of projection and connectors."""
    return f"{encoder.identity}-{fingerprint(projection, *connectors)}"


@torch.inference_mode()
def _encode_one(encoder: TextEncoder, projection: nn.Module, connectors, prompt: str) -> TextContext:
    video_features, audio_features, mask = project_prompt(encoder, projection, prompt)
    video_connector, audio_connector = connectors
    video = video_connector(video_features, mask)
    audio = audio_connector(audio_features, mask) if audio_connector is not None else None
    return TextContext(video, audio)
