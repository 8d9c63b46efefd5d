"""Which component lies where in which files: released layouts, split files and third-party conversions.

A component is told by a tensor that only it has. Its names lose whatever stands in front of them, so that the same
network loads from a file that holds everything, a split file and a conversion without prefixes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .. import mini
from ..config.versions import Version, parse_version, version_of_shapes
from ..errors import CheckpointError
from .adapters.kinds import is_adapter_key
from .quantization.packed import FileTensor
from .reader import Checkpoint, CheckpointFile
from .recognition.families import family_of_names

Tensors = Mapping[str, FileTensor]

CONNECTORS = ("video_embeddings_connector.", "audio_embeddings_connector.")
_DIFFUSION = ("model.diffusion_model.", "diffusion_model.", "")
# Statistics of earlier models that nothing reads.
_UNUSED_STATISTICS = ("channel", "mean-of-stds", "mean-of-stds_over_std-of-means")


SPLIT_SINCE = (2, 5)


class MissingComponent(CheckpointError):
    """No file holds a component. The message says which released file does."""


@dataclass(frozen=True, eq=False)
class Component:
    """One network's tensors under their bare names, the metadata that describes it, and the files they come from."""

    name: str
    tensors: Tensors
    config: dict[str, Any] | None
    version: Version | None
    paths: tuple[Path, ...]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of its tensors, by bare name."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    def __str__(self) -> str:
        return f"{self.name} of {', '.join(path.name for path in self.paths)}"


@dataclass(frozen=True)
class _Layout:
    """How a component is found: what may stand in front of its names, tried in order.

    marker: a bare name that only this component has, with its number of dimensions (0: any); block: of ``config``;
    homes: the released files; belongs: which names after the prefix are part of it; bare: how names start where there
    is no prefix;
    beside: whether statistics stand beside it, which are kept under their own name.
    """

    prefixes: tuple[str, ...]
    marker: tuple[str, int]
    block: str
    homes: tuple[str, str]
    belongs: Callable[[str], bool] = lambda name: True
    bare: tuple[str, ...] = ()
    with_statistics: bool = False


# Known starts of a transformer's names, for files in which nothing stands in front of them.
_TRANSFORMER_PARTS = (
    "patchify_proj.", "adaln_single.", "prompt_adaln_single.", "audio_", "av_ca_", "caption_projection.",
    "transformer_blocks.",
    "scale_shift_table", "proj_out.", "keyframes_abs_pos_embedding",
)  # fmt: skip
_OTHER_PARTS = (*CONNECTORS, "embeddings_connector.", "duration_head.", "text_embedding_projection.", "audio_vae.")


# Released files that hold a component: up to 2.3, from 2.5 on.
_SINGLE = "the ltx-2-19b or ltx-2.3-22b checkpoint"
_TRANSFORMER_FILES = (_SINGLE, "diffusion_models/ltx-2.5-22b-…-transformer")
_VIDEO_FILES = (_SINGLE, "vae/ltx-2.5-video-vae")
_AUDIO_FILES = (_SINGLE, "vae/ltx-2.5-audio-vae")
_UPSCALERS = ("initial_conv.", "initial_norm.", "res_blocks.", "upsampler.", "post_upsample_res_blocks.", "final_conv.")
_VOCODER_PARTS = (
    "vocoder.",
    "bwe_generator.",
    "mel_stft.",
    "conv_pre.",
    "ups.",
    "resblocks.",
    "conv_post.",
    "act_post.",
)

_LAYOUTS = {
    "transformer": _Layout(
        _DIFFUSION, ("patchify_proj.weight", 0), "transformer",
        _TRANSFORMER_FILES, lambda name: not name.startswith(_OTHER_PARTS),
        _TRANSFORMER_PARTS,
    ),
    "video_connector": _Layout(
        tuple(prefix + CONNECTORS[0] for prefix in _DIFFUSION), ("learnable_registers", 0), "transformer",
        _TRANSFORMER_FILES,
    ),
    "audio_connector": _Layout(
        tuple(prefix + CONNECTORS[1] for prefix in _DIFFUSION), ("learnable_registers", 0), "transformer",
        _TRANSFORMER_FILES,
    ),
    "text_projection": _Layout(
        ("text_embedding_projection.", "model.diffusion_model.text_embedding_projection."), ("aggregate_embed.weight",
        0), "transformer",
        (_SINGLE, "text_encoders/gemma4-12b-with-proj-ltx-2.5"),
    ),
    "text_encoder": _Layout(
        (), ("embed_tokens.weight", 2), "", ("text_encoders/gemma_3_12B_it",
        "text_encoders/gemma4-12b-with-proj-ltx-2.5"),
        lambda name: name.startswith(("embed_tokens.", "layers.", "norm.")),
    ),
    "video_encoder": _Layout(("vae.encoder.", "encoder."), ("conv_in.conv.weight", 5), "vae", _VIDEO_FILES,
    with_statistics=True),
    "video_decoder": _Layout(
        ("vae.decoder.", "decoder."), ("up_blocks.0.res_blocks.0.conv1.conv.weight", 5), "vae",
        (_SINGLE, "vae/ltx-2.5-video-vae-conv"), with_statistics=True,
    ),
    "diffusion_decoder": _Layout(
        ("vae.decoder.", "decoder."), ("conv_in_x_t.weight", 2), "vae", ("", "vae/ltx-2.5-video-vae"),
        lambda name: not name.startswith("coarse_"), with_statistics=True,
    ),
    "audio_encoder": _Layout(("audio_vae.encoder.", "encoder."), ("conv_in.conv.weight", 4), "audio_vae", _AUDIO_FILES,
    with_statistics=True),
    "audio_decoder": _Layout(("audio_vae.decoder.", "decoder."), ("conv_in.conv.weight", 4), "audio_vae", _AUDIO_FILES,
    with_statistics=True),
    "vocoder": _Layout(
        ("vocoder.", ""), ("conv_pre.weight", 3), "vocoder", _AUDIO_FILES, lambda name: name.startswith(_VOCODER_PARTS),
    ),
    "upsampler": _Layout(
        ("",), ("initial_conv.weight", 5), "", ("latent_upscale_models/ltx-…-upscaler",
        "latent_upscale_models/ltx-2.5-…-upscaler"),
        lambda name: name.startswith(_UPSCALERS),
    ),
    "duration_head": _Layout(
        ("duration_head.", "model.diffusion_model.duration_head.", "diffusion_model.duration_head.", ""),
        ("attention_pooler.query_tokens", 0), "", ("", "model_patches/ltx-2.5-duration-head"),
        lambda name: name.startswith(("video_", "audio_", "attention_pooler.", "mlp_")),
    ),
}  # fmt: skip

COMPONENTS = tuple(_LAYOUTS)
# What a checkpoint may hold without being the wrong file; the others are asked for alone.
_PIPELINE = tuple(name for name in COMPONENTS if name not in ("text_encoder", "upsampler", "duration_head"))


def components(checkpoint: Checkpoint) -> dict[str, Component]:
    """Every component that the files hold, by name."""
    found = ((name, _find(checkpoint, name)) for name in COMPONENTS)
    return {name: component for name, component in found if component is not None}


def find_component(checkpoint: Checkpoint, name: str) -> Component:
    """One component. Where several files hold it, the first one counts, and nothing of the others is mixed in.

    Errors: MissingComponent, a CheckpointError, that says which released file holds it.
    """
    component = _find(checkpoint, name)
    if component is None:
        home = home_of(name, checkpoint)
        what, way = _held(checkpoint)
        raise MissingComponent(f"{checkpoint} {what}holds no {name.replace('_', ' ')}, expected one: load {home} {way}")
    return component


def _held(checkpoint: Checkpoint) -> tuple[str, str]:
    """What files are that lack a component, for a message, and whether another one is loaded beside or in their place.

    Files with a part of a pipeline may be right, those with nothing of it are not.
    """
    names = [one.replace("_", " ") for one in COMPONENTS if one in _PIPELINE and _find(checkpoint, one) is not None]
    if names:
        return "", "as well"
    if any(map(is_adapter_key, checkpoint.tensors)):
        return "is a LoRA and ", "instead"
    what = family_of_names(checkpoint.tensors)
    if what is None:
        alone = next((one for one in COMPONENTS if _find(checkpoint, one) is not None), None)
        what = alone and f"the {alone.replace('_', ' ')}"
    return (f"is {what} and " if what else ""), "instead"


def released_file(name: str, version: Version | None) -> str:
    """Which released file of a version holds a component; of all versions when it is not known."""
    before, after = _LAYOUTS[name].homes
    if version is not None and before:
        return after if version >= SPLIT_SINCE else before
    return " or ".join(home for home in (before, after) if home)


def home_of(name: str, checkpoint: Checkpoint) -> str:
    """Which file holds what a checkpoint lacks: of its release, or what comes along with the demonstration model."""
    own = any(file.path.name == mini.CHECKPOINT.name for file in checkpoint.files)
    if own and name == "text_encoder":
        return f"{mini.TEXT_ENCODER.name}, which comes along as {mini.NAME}"
    return released_file(name, model_version(checkpoint))


def model_version(checkpoint: Checkpoint) -> Version | None:
    """The version of the transformer, by its file's metadata and its tensors; without a transformer, by any file's
    metadata."""
    transformer = _find(checkpoint, "transformer")
    if transformer is not None:
        return transformer.version
    return parse_version(checkpoint.metadata.get("model_version"))


def file_config(file: CheckpointFile) -> dict[str, Any]:
    """The ``config`` of a file's metadata; empty when there is none. Raises CheckpointError when it is no JSON
    object."""
    text = file.metadata.get("config")
    if text is None:
        return {}
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{file.path} has metadata config {text[:40]!r}, expected a JSON object: get the file again"
        )
    return config


def _find(checkpoint: Checkpoint, name: str) -> Component | None:
    layout = _LAYOUTS[name]
    taken: dict[str, FileTensor] = {}
    files: list[CheckpointFile] = []
    first = next((file for file in checkpoint.files if _prefix(file.tensors, name) is not None), None)
    if first is None:
        return None
    prefix = _prefix(first.tensors, name)
    for file in (first, *(file for file in checkpoint.files if file is not first)):
        part = _part(file.tensors, layout, prefix)
        # a further shard of the same component is no whole one, and repeats no name
        if file is not first and _prefix(file.tensors, name) is not None:
            continue
        if part and not part.keys() & taken.keys():
            taken |= part
            files.append(file)
    config, version = _about(checkpoint, files, layout, taken if name == "transformer" else {})
    return Component(name, MappingProxyType(taken), config, version, tuple(file.path for file in files))


def _prefix(tensors: Tensors, name: str) -> str | None:
    """What stands in front of a component's names in one file, or None."""
    layout = _LAYOUTS[name]
    marker, dimensions = layout.marker
    if name == "text_encoder":
        found = [n[: -len(marker)] for n in tensors if n == marker or n.endswith(f".{marker}")]
        return min(found, key=len) if found else None
    markers = [marker]
    if name == "text_projection":
        markers.append("video_aggregate_embed.weight")
    elif name == "vocoder":
        # since 2.3 a vocoder is two generators; as bare names their own prefixes look like the file's
        if "bwe_generator.conv_pre.weight" in tensors:
            return ""
        markers.append("bwe_generator.conv_pre.weight")
    for prefix in layout.prefixes:
        for one in markers:
            tensor = tensors.get(prefix + one)
            if tensor is not None and dimensions in (0, len(tensor.shape)):
                return prefix
    return None


def _part(tensors: Tensors, layout: _Layout, prefix: str) -> dict[str, FileTensor]:
    bare = ((name[len(prefix) :], tensor) for name, tensor in tensors.items() if name.startswith(prefix))
    part = {
        name: tensor
        for name, tensor in bare
        if layout.belongs(name) and (prefix or not layout.bare or name.startswith(layout.bare))
    }
    if layout.with_statistics:
        stem = prefix.rpartition(".")[0].rpartition(".")[0]
        stem = f"{stem}.per_channel_statistics." if stem else "per_channel_statistics."
        part |= {
            f"per_channel_statistics.{name[len(stem) :]}": tensor
            for name, tensor in tensors.items()
            if name.startswith(stem) and name[len(stem) :] not in _UNUSED_STATISTICS
        }
    return part


def _about(checkpoint: Checkpoint, files: Sequence[CheckpointFile], layout: _Layout, transformer: Tensors):
    """Config block and version of a component that is in ``files``, the first that says something counting.

    What describes the transformer also describes connectors and text projection, wherever these are.
    """
    if layout.block:
        others = checkpoint.files if layout.block == "transformer" else ()
        found = ((file, file_config(file).get(layout.block)) for file in (*files, *others))
        file, block = next(((file, one) for file, one in found if one is not None), (files[0], None))
        if block is not None and not isinstance(block, dict):
            raise CheckpointError(
                f"{file.path} has config {layout.block} of kind {type(block).__name__}, expected an object: "
                "get the file again"
            )
    else:
        block = file_config(files[0]) or None
    versions = (parse_version(file.metadata.get("model_version")) for file in files)
    version = next((known for known in versions if known), None)
    by_tensors = version_of_shapes({name: tuple(tensor.shape) for name, tensor in transformer.items()})
    # metadata tells more (2.4 has the tensors of 2.3), except where it names an older model than the tensors can be of
    return block, max((known for known in (version, by_tensors) if known), default=None)
