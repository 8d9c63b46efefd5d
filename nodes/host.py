"""All that the pack asks of ComfyUI: the only file that imports it. From host 0.8.0 on; newer things looked up late."""

import asyncio
import inspect
import json
import logging
import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.cli_args
import comfy.latent_formats
import comfy.ldm.modules.attention
import comfy.model_management as mm
import comfy.model_patcher
import comfy.nested_tensor
import comfy.ops
import comfy.utils
import comfy.weight_adapter
import folder_paths
import torch
from comfy_api.latest import ComfyExtension, InputImpl, Types, io, ui

from ..ltx2 import mini
from ..ltx2.checkpoint.quantization.linear import PackedParameter
from ..ltx2.checkpoint.reader import gguf_names
from ..ltx2.errors import CheckpointError, Ltx2Error, RequestError
from ..ltx2.networks.layers.attention import by_rows
from ..ltx2.text.layers import OnInputDevice
from .names import resolve_name
from .paths import SaveTarget, below, inside, names_something

__all__ = ["ComfyExtension", "InputImpl", "Types", "io", "ui"]

CATEGORY = "LTX-2 Continuum"
PREFIX = "LTX2Continuum"


# --- schemas -----------------------------------------------------------------------------------------------------


def _supported(target, keywords: dict) -> dict:
    """The keywords that this host's version of ``target`` knows; newer ones are cosmetic and may be dropped."""
    parameters = inspect.signature(target).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return keywords
    return {name: value for name, value in keywords.items() if name in parameters}


def schema(name: str, title: str, group: str, **keywords):
    """A node's schema. ``name`` gets the pack's prefix, ``group`` is the part of the menu below the pack's."""
    again = not keywords.get("is_output_node")  # what it tells, when the host takes it from its cache
    own = {"node_id": PREFIX + name, "display_name": title, "category": f"{CATEGORY}/{group}"}
    return io.Schema(**_supported(io.Schema, {**own, "has_intermediate_output": again, **keywords}))


def field(kind, name: str, tooltip: str, **keywords):
    """One input of any kind with its tooltip; keywords that the host does not know are left out."""
    return kind.Input(name, **_supported(kind.Input.__init__, {"tooltip": tooltip, **keywords}))


# a seed stays as it is from run to run unless the user asks for another; older hosts know no such default
FIXED = getattr(getattr(io, "ControlAfterGenerate", None), "fixed", True)


def output(kind, name: str, tooltip: str = ""):
    return kind.Output(
        **_supported(
            kind.Output.__init__, {"id": name.replace(" ", "_"), "display_name": name, "tooltip": tooltip or None}
        )
    )


# --- devices, memory ---------------------------------------------------------------------------------------------


def compute_device() -> torch.device:
    return mm.get_torch_device()


def result_device() -> torch.device:
    return mm.intermediate_device()


def result_dtype() -> torch.dtype:
    """The type of IMAGE values: single precision, or half where the user asked for that."""
    return mm.intermediate_dtype() if hasattr(mm, "intermediate_dtype") else torch.float32


def transformer_dtype(weight_dtype: torch.dtype, parameters: int) -> torch.dtype:
    """The dtype to compute the transformer in, by the user's launch flags and the card."""
    device = mm.get_torch_device()
    allowed = [torch.bfloat16, torch.float32]
    chosen = mm.unet_dtype(device=device, model_params=parameters, supported_dtypes=allowed, weight_dtype=weight_dtype)
    cast = mm.unet_manual_cast(chosen, device, allowed)
    return cast if cast is not None else chosen if chosen in allowed else torch.bfloat16


def vae_dtype() -> torch.dtype:
    """bf16 or fp32: half precision overflows in these VAEs."""
    return mm.vae_dtype(mm.vae_device(), [torch.bfloat16, torch.float32])


def text_dtype() -> torch.dtype:
    return torch.bfloat16 if mm.should_use_bf16(mm.text_encoder_device()) else torch.float32


def free_memory_bytes(device: torch.device) -> int:
    return int(mm.get_free_memory(device))


OPS = comfy.ops.manual_cast
WeightAdapter = comfy.weight_adapter.WeightAdapterBase


@by_rows
def attention(q, k, v, *, heads: int, mask=None):
    """The attention the user chose for this host (sdpa, sage, flash, xformers). q, k, v: [B, T, heads * dim]."""
    return comfy.ldm.modules.attention.optimized_attention(q, k, v, heads, mask=mask)


def attention_name() -> str:
    """The name of the attention that the user chose, or the host by itself."""
    return comfy.ldm.modules.attention.optimized_attention.__name__


def patcher(network: torch.nn.Module, kind: str = "transformer"):
    """Wrap a network so that the host loads, streams and unloads it. ``kind``: transformer, text or vae."""
    devices = {
        "transformer": (mm.get_torch_device, mm.unet_offload_device),
        "text": (mm.text_encoder_device, mm.text_encoder_offload_device),
        "vae": (mm.vae_device, mm.vae_offload_device),
    }[kind]
    # re-bound by newer hosts at start-up, so it must be looked up now
    wrapper = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    network = network.eval().requires_grad_(False)
    if isinstance(getattr(type(network), "device", None), property):
        network = torch.nn.Sequential(network)  # the wrapper writes an attribute of that name
    if hasattr(mm, "archive_model_dtypes"):
        mm.archive_model_dtypes(network)
    return wrapper(network, load_device=devices[0](), offload_device=devices[1]())


def load(*patchers, activation_bytes: int = 0) -> list[torch.nn.Module]:
    """Bring networks to their device together, leaving room for activations; returns them in order."""
    mm.load_models_gpu(list(patchers), memory_required=activation_bytes)
    return [one.model for one in patchers]


@contextmanager
def cast(layer, device: torch.device):
    """Weight and bias of one of the engine's stored layers on a device, as the host brings those of its own layers:
    some stay there while there is room, the others come from pinned memory on a stream of their own."""
    types = {"dtype": layer.weight.dtype, "bias_dtype": None if layer.bias is None else layer.bias.dtype}  # as they are
    weight, bias, borrowed = comfy.ops.cast_bias_weight(layer, device=device, offloadable=True, **types)
    try:
        yield weight, bias
    finally:
        comfy.ops.uncast_bias_weight(layer, weight, bias, borrowed)


def adopt(network: torch.nn.Module) -> torch.nn.Module:
    """The same network, the engine's stored layers now in the host's hands as those of its own layers are: marked as
    ones that it may leave in main memory, and brought by its own way."""
    for layer in network.modules():
        marks: Any = layer  # torch's own type knows no marks
        if isinstance(layer, PackedParameter):
            marks.cast = cast
            marks.comfy_cast_weights = True
            marks.weight_function, marks.bias_function = [], []
        elif isinstance(layer, OnInputDevice):
            marks.comfy_cast_weights = True
    return network


def can_stream(network: torch.nn.Module) -> bool:
    """Whether the host can leave weights of a network in main memory: all are in layers of its kind."""
    return all(
        hasattr(layer, "comfy_cast_weights") for layer in network.modules() if list(layer.parameters(recurse=False))
    )


def with_picture_offset(model, offset_seconds: float):
    """A clone of the host's LTX-2 MODEL whose picture positions lie later by some seconds, as a carried sound needs it.

    Uses the host's own object patches, so that it comes off with the clone. Raises RequestError for another kind of
    model.
    """
    name = "_prepare_positional_embeddings"
    network = model.model.diffusion_model
    original = getattr(type(network), name, None)
    if original is None or not hasattr(network, "audio_positional_embedding_max_pos"):
        raise RequestError("the model is no LTX-2 audio-video model of this host: connect the one the sampler uses")
    clone = model.clone()

    def prepare(pixel_coords, frame_rate, *rest, **keywords):
        video = pixel_coords[0].float()  # a copy unless it is float32 already
        video = torch.cat([video[:, :1] + offset_seconds * frame_rate, video[:, 1:]], dim=1)
        return original(network, [video, *pixel_coords[1:]], frame_rate, *rest, **keywords)

    clone.add_object_patch(f"diffusion_model.{name}", prepare)
    return clone


# --- notes ---------------------------------------------------------------------------------------------------------


def tell(notes) -> dict:
    """What a node's result says to the page of notes, one a line; they go to the host's log as well."""
    for note in notes:
        logging.getLogger(PREFIX).warning("%s", note)
    return {"text": list(notes)}


GIVEN = "continuum/given"  # below the temp folder: copies of films that were given, each in a folder of its own


def without_folders(text: str) -> str:
    """A message with the host's own folders left out of its file names: workflows and screenshots are shared,
    and nobody knows of copies."""
    listed = [folder for paths, _ in folder_paths.folder_names_and_paths.values() for folder in paths]
    own = [*(base() for base in _BASES.values()), folder_paths.base_path]
    for folder in sorted({os.path.abspath(one) for one in (*listed, *own)}, key=len, reverse=True):
        for separator in {os.sep, "/"}:
            text = text.replace(folder + separator, "")
    return re.sub(GIVEN.replace("/", r"[/\\]") + r"_\d+_[/\\]", "", text)


# --- progress ----------------------------------------------------------------------------------------------------


def check_interrupted() -> None:
    mm.throw_exception_if_processing_interrupted()


def progress_bar(total: int):
    """The bar of the node that is at work."""
    return comfy.utils.ProgressBar(total)


def console_is_on() -> bool:
    """Whether the host's own samplers print their progress."""
    return getattr(comfy.utils, "PROGRESS_BAR_ENABLED", True)


def latent_colours() -> tuple[Any, Any] | None:
    """Shares of red, green and blue of the latents' channels, and a bias, as the host keeps them for previews."""
    known = comfy.latent_formats.LTXV()
    factors = getattr(known, "latent_rgb_factors", None)
    return None if factors is None else (factors, getattr(known, "latent_rgb_factors_bias", None))


def tiny_autoencoders() -> list[Path]:
    """Files of tiny autoencoders for LTX-2 in the host's folder for previews, newest release first; none where the user
    wants plain previews."""
    method = getattr(comfy.cli_args.args, "preview_method", None)
    if getattr(method, "value", method) == "latent2rgb":
        return []
    names = [name for name in model_names("vae_approx") if Path(name).name.startswith("taeltx")]
    return [model_path(name, "vae_approx") for name in sorted(names, reverse=True)]


# --- model files -------------------------------------------------------------------------------------------------


# The demonstration model comes with the pack: no folder holds it.
MINI_FILES = {"checkpoints": mini.CHECKPOINT, "text_encoders": mini.TEXT_ENCODER}


def model_names(*kinds: str) -> list[str]:
    """File names in ComfyUI's model folders of these kinds, each once, in order; GGUF files too, which a plain ComfyUI
    does not list; last the demonstration model's."""
    names: dict[str, None] = {}
    for kind in kinds:
        try:
            found = set(folder_paths.get_filename_list(kind)).union(
                *map(gguf_names, folder_paths.get_folder_paths(kind))
            )
        except KeyError:  # older hosts lack the newest kinds
            continue
        names.update(dict.fromkeys(sorted(found)))
    if not {*MINI_FILES}.isdisjoint(kinds):
        names[mini.NAME] = None
    return list(names)


def model_folders(kind: str) -> list[str]:
    """Folders of models in shards: those with a numbered first shard in them."""
    shards = [name for name in model_names(kind) if "-00001-of-" in name and "/" in name.replace("\\", "/")]
    return list(dict.fromkeys(name.replace("\\", "/").rpartition("/")[0] for name in shards))


def model_path(name: str, *kinds: str, folders: bool = False) -> Path:
    """Full path of a model file, or folder where that is asked for. Raises CheckpointError with the folders that were
    searched."""
    for kind in kinds if names_something(name) else ():
        try:
            found = folder_paths.get_full_path(kind, name)
            if found is None and folders:
                places = [
                    os.path.join(base, name)
                    for base in folder_paths.get_folder_paths(kind)
                    if inside(base, os.path.join(base, name))
                ]
                found = next(filter(os.path.isdir, places), None)
        except KeyError:  # older hosts lack the newest kinds
            continue
        if found:
            return Path(found)
    for kind in kinds:
        if name == mini.NAME and kind in MINI_FILES:
            return MINI_FILES[kind]
    raise CheckpointError(
        f"{name} is not in ComfyUI's model folders ({', '.join(kinds)}): put the file there and refresh the page"
    )


# --- the user's files --------------------------------------------------------------------------------------------

_LONGEST_NAME = 200  # bytes of a file name before its number and suffix; disks take 255
_BASES = {
    "input": folder_paths.get_input_directory,
    "output": folder_paths.get_output_directory,
    "temp": folder_paths.get_temp_directory,
}


def user_file(value: str, *, folder: bool = False) -> Path:
    """The file a person named as ``sub/name`` or ``name [output]``. Raises RequestError when it leaves its base folder
    or is absent, in the same words: what lies elsewhere is nobody's to ask about."""
    match = re.fullmatch(r"(.*?)(?: \[(input|output|temp)\])?", str(value or "").strip(), re.S)
    name, base_name = match[1].strip(), match[2] or "input"
    if not name:
        raise RequestError(f"no file chosen: pick one from ComfyUI's {base_name} folder")
    path = below(_BASES[base_name](), name)
    if path is None or not (os.path.isdir(path) if folder else os.path.exists(path)):
        ways = (
            "upload it, or add [output] behind the name of one that a node saved"
            if base_name == "input"
            else "upload it"
        )
        raise RequestError(
            f"there is no {name[:80]!r} in ComfyUI's {base_name} folder: choose a file that is, or {ways}"
        )
    return Path(os.path.realpath(path))


def user_folder(kind: str) -> Path:
    """ComfyUI's folder of a kind: input, output or temp."""
    return Path(_BASES[kind]())


def own_folder(name: str) -> Path | None:
    """A folder of the pack's own among the user's files, where no request of a page reaches it; None on hosts without
    such folders."""
    system = getattr(folder_paths, "get_system_user_directory", None)
    return None if system is None else Path(system("ltx2_continuum")) / name


def changed_at(value: str) -> str:
    """What a file loader gives as its fingerprint: name, size and time of the file, or why it cannot be read."""
    try:
        path = user_file(value, folder=False)
        newest = max(
            (p.stat() for p in [path, *(path.iterdir() if path.is_dir() else ())]), key=lambda s: s.st_mtime_ns
        )
        return f"{path}:{newest.st_size}:{newest.st_mtime_ns}"
    except (Ltx2Error, OSError) as error:
        return f"unreadable: {error}"


def file_name(text: str, hidden=None, size: tuple[int, int] = (0, 0)) -> str:
    """A name with its tokens filled in, safe on every system; what was changed is logged."""
    name, notes = resolve_name(text, hidden, size)
    if hidden is not None:  # while it runs, not each time that the host asks whether the inputs are right
        tell(notes)
    return name


def save_target(prefix: str, hidden=None, size: tuple[int, int] = (0, 0), kind: str = "output") -> SaveTarget:
    """A fresh numbered name under ComfyUI's output folder, or its temp folder, which its loading nodes take. hidden,
    size: what tokens in the prefix stand for. Raises RequestError when it would leave the folder."""
    base = _BASES[kind]()
    prefix = file_name(prefix, hidden, size)
    if below(base, prefix) is None or any(len(part.encode()) > _LONGEST_NAME for part in prefix.split("/")):
        raise RequestError(
            f"file name prefix {prefix[:60]!r} is empty, too long or leaves the output folder: use a name such as film/part"
        )
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, base)
    os.makedirs(folder, exist_ok=True)
    return SaveTarget(Path(folder), f"{name}_{counter:05}_", subfolder.replace(os.sep, "/"), kind)


def output_folder(name: str) -> SaveTarget:
    """A folder of its own below ComfyUI's output folder; it may be there already. Raises RequestError when it would
    leave it."""
    base = folder_paths.get_output_directory()
    path = below(base, name.strip())
    if path is None or os.path.realpath(path) == os.path.realpath(base) or len(name) > 200:
        raise RequestError(
            f"folder {name[:60]!r} is empty, too long or leaves the output folder: use a name such as continuum/story"
        )
    return SaveTarget(Path(path), "", os.path.relpath(path, base).replace(os.sep, "/"))


def temp_folder() -> Path:
    return Path(folder_paths.get_temp_directory())


def workflow_values(hidden) -> dict[str, Any]:
    """What restores the workflow from a saved file, by key; empty when the user turned that off."""
    if comfy.cli_args.args.disable_metadata:
        return {}
    prompt, extra = getattr(hidden, "prompt", None), getattr(hidden, "extra_pnginfo", None)
    return {**({} if prompt is None else {"prompt": prompt}), **(extra or {})}


def workflow_texts(hidden, notes=()) -> dict[str, str]:
    """The same as JSON texts to embed in saved files, and what was adjusted."""
    given = workflow_values(hidden)
    if notes and not comfy.cli_args.args.disable_metadata:
        given = {**given, "ltx2": {"notes": list(notes)}}
    return {key: json.dumps(value) for key, value in given.items()}


def save_video(video, path: Path, hidden) -> None:
    """The host's VIDEO as an MP4 that restores the workflow."""
    form = {"format": Types.VideoContainer("mp4"), "codec": Types.VideoCodec("h264")}
    video.save_to(str(path), metadata=workflow_values(hidden) or None, **form)


# --- the server ---------------------------------------------------------------------------------------------------


def serve(path: str, answer, method: str = "GET") -> None:
    """Answer requests with the JSON that ``answer`` makes of the query, or of a POST's JSON, beside the server's own
    loop, or with ``{"error": …}`` for one of the engine's errors. Does nothing where no server runs."""
    try:
        from aiohttp import web
        from server import PromptServer

        routes = PromptServer.instance.routes
    except (ImportError, AttributeError):
        return

    @routes.route(method, path)
    async def respond(request):
        try:
            given = await request.json() if method == "POST" else dict(request.query)
            return web.json_response(await asyncio.to_thread(answer, given))
        except (Ltx2Error, json.JSONDecodeError) as error:
            return web.json_response({"error": without_folders(str(error))})


# --- native values -----------------------------------------------------------------------------------------------


def nested(video: torch.Tensor, audio: torch.Tensor):
    """A native audio-video latent, or mask, of two streams."""
    return comfy.nested_tensor.NestedTensor((video, audio))


def streams(samples) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Video and audio stream of a native latent; a plain tensor is video alone."""
    if getattr(samples, "is_nested", False):
        parts = list(samples.unbind())
        return parts[0], parts[1] if len(parts) > 1 else None
    return samples, None


def native_shapes(model) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights in a host's MODEL by name; none for what is no model of networks."""
    network = getattr(getattr(model, "model", None), "diffusion_model", None)
    if not isinstance(network, torch.nn.Module):
        return {}
    return {name: tuple(weight.shape) for name, weight in network.named_parameters()}
