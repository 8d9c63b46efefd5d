"""Tiny checkpoints in the released layouts: random weights under the official names, prefixes, metadata and file names.

For tests and demonstrations: they load through the same code as released files, make moving pictures with sound in
seconds on one CPU core, and mean nothing. The same version and seed give the same bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .. import system
from ..errors import RequestError
from . import configs as tiny_configs
from . import text as tiny_text
from .codecs import audio_vae_tensors, duration_head_tensors, upsampler_tensors, vocoder_tensors
from .video import decoder_tensors, diffusion_decoder_tensors, encoder_tensors, statistics
from .weights import Tensors, lora_tensors, text_encoder_tensors, text_projection_tensors, transformer_tensors

_HEADER_BYTES = 1 << 16  # in which a tiny file says what it is
LICENSE = "Random numbers, in the public domain."


@dataclass(frozen=True)
class TinyFile:
    """One file: its place under the folder, what it holds, and the roles for which it is the file to load."""

    path: str
    roles: tuple[str, ...]
    tensors: Tensors
    config: dict | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def write_tiny(folder: str | Path, version: str, seed: int = 0) -> dict[str, Path]:
    """Write all files of one version under ``folder``, in folders named like ComfyUI's. Returns role → path.

    Roles of every version: transformer, text_encoder, text_projection, video_vae, audio_vae, vocoder,
    spatial_upsampler, temporal_upsampler, distilled_lora; 2.3 also spatial_upsampler_x1.5, 2.5 also conv_video_vae and
    duration_head. One file may have several roles. Errors: RequestError for another version, and
    where a file lies in the place of one, which may be a released one.
    """
    if version not in tiny_configs.VERSIONS:
        raise RequestError(
            f"tiny checkpoints exist for LTX-2 {', '.join(tiny_configs.VERSIONS)}, got {version!r}: choose one of these"
        )
    paths: dict[str, Path] = {}
    files = (split_files if version == "2.5" else monolith_files)(version, seed)
    for file in files:
        if not _is_ours(Path(folder) / file.path):
            raise RequestError(
                f"{Path(folder) / file.path} is there already and is no tiny file: choose another folder"
            )
    for file in files:
        path = Path(folder) / file.path
        metadata = {"license": LICENSE, **file.metadata}
        if version != "2.0":
            metadata["model_version"] = f"{version}.0"
        if file.config is not None:
            metadata["config"] = json.dumps(file.config)
        write_safetensors(path, file.tensors, metadata)
        paths |= dict.fromkeys(file.roles, path)
    return paths


def _is_ours(path: Path) -> bool:
    """Whether a tiny file may be written there: over nothing, or over another tiny one."""
    try:
        with path.open("rb") as file:
            return LICENSE.encode() in file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return True


def write_safetensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file whose bytes depend on its content alone (the safetensors package orders metadata at random).

    Float tensors are stored as bfloat16, as in the released files. The file gets its name when it is complete.
    """
    header: dict = {"__metadata__": dict(metadata)}
    chunks, offset = [], 0
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        if tensor.is_floating_point():
            tensor = tensor.to(torch.bfloat16)
        data = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        kind = {torch.bfloat16: "BF16", torch.uint8: "U8"}[tensor.dtype]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [offset, offset + len(data)]}
        chunks.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(chunks)
    system.replace(partial, path)


def monolith_files(version: str, seed: int) -> list[TinyFile]:
    """2.0 and 2.3: one file for everything but Gemma, upsamplers and LoRA."""
    name = {"2.0": "ltx-2-19b", "2.3": "ltx-2.3-22b"}[version]
    family = {"2.0": "ltx-2", "2.3": "ltx-2.3"}[version]
    transformer = transformer_tensors(version, seed)
    video = encoder_tensors(version, seed) | decoder_tensors(version, seed) | statistics(seed)
    tensors = (
        transformer | text_projection_tensors(version, seed) | {f"vae.{name}": tensor for name, tensor in video.items()}
    )
    tensors |= audio_vae_tensors(seed) | vocoder_tensors(version, seed)
    config = {
        "transformer": tiny_configs.transformer(version),
        "vae": tiny_configs.video_vae(version),
        "scheduler": tiny_configs.scheduler(),
        "audio_vae": tiny_configs.audio_vae(),
        "vocoder": tiny_configs.vocoder(version),
    }
    roles = ("transformer", "text_projection", "video_vae", "audio_vae", "vocoder")
    # the same network under other tensor names: 2.0's upsampler is stored as one for any ratio
    spatial = {
        f"{family}-spatial-upscaler-x2-{'1.0' if version == '2.0' else '1.1'}": (
            "spatial_upsampler",
            2.0,
            version == "2.0",
        )
    }
    if version == "2.3":
        spatial[f"{family}-spatial-upscaler-x1.5-1.0"] = ("spatial_upsampler_x1.5", 1.5, True)
    return [
        TinyFile(f"checkpoints/{name}-dev.safetensors", roles, tensors, config),
        TinyFile("text_encoders/gemma_3_12B_it.safetensors", ("text_encoder",), text_encoder_tensors("gemma3", seed)),
        TinyFile(f"loras/{name}-distilled-lora-384.safetensors", ("distilled_lora",), lora_tensors(transformer, seed)),
        *(
            _upsampler(f"{stem}.safetensors", role, seed, spatial_scale=scale, rational=rational)
            for stem, (role, scale, rational) in spatial.items()
        ),
        _upsampler(
            f"{family}-temporal-upscaler-x2-1.0.safetensors", "temporal_upsampler", seed, temporal=True, rational=True
        ),
    ]


def split_files(version: str, seed: int) -> list[TinyFile]:
    """2.5: one file for each part; the text projection is in the text encoder's, both video VAEs have the same
    encoder."""
    transformer = transformer_tensors(version, seed)
    source = {"ltx_version": "2.5.0", "gemma_version": tiny_text.GEMMA4_VERSION}
    encoder = encoder_tensors(version, seed) | statistics(seed)
    return [
        TinyFile(
            "diffusion_models/ltx-2.5-22b-dev-transformer-bf16.safetensors",
            ("transformer",),
            transformer,
            {"transformer": tiny_configs.transformer(version), "scheduler": tiny_configs.scheduler()},
            {"gemma_source_checkpoint": json.dumps(source)},
        ),
        TinyFile(
            "text_encoders/gemma4-12b-with-proj-ltx-2.5-bf16.safetensors",
            ("text_encoder", "text_projection"),
            text_encoder_tensors("gemma4", seed) | text_projection_tensors(version, seed),
            None,
            {"gemma_config": json.dumps(tiny_text.gemma4_config())},
        ),
        TinyFile(
            "vae/ltx-2.5-video-vae-bf16.safetensors",
            ("video_vae",),
            encoder | diffusion_decoder_tensors(seed),
            {"vae": tiny_configs.diffusion_vae()},
        ),
        TinyFile(
            "vae/ltx-2.5-video-vae-conv-bf16.safetensors",
            ("conv_video_vae",),
            encoder | decoder_tensors(version, seed),
            {"vae": tiny_configs.video_vae(version)},
        ),
        TinyFile(
            "vae/ltx-2.5-audio-vae-bf16.safetensors",
            ("audio_vae", "vocoder"),
            audio_vae_tensors(seed) | vocoder_tensors(version, seed),
            {"audio_vae": tiny_configs.audio_vae(), "vocoder": tiny_configs.vocoder(version)},
        ),
        TinyFile(
            "loras/ltx-2.5-22b-distilled-lora-450-bf16.safetensors",
            ("distilled_lora",),
            lora_tensors(transformer, seed),
        ),
        TinyFile(
            "model_patches/ltx-2.5-duration-head-bf16.safetensors",
            ("duration_head",),
            duration_head_tensors(seed),
            tiny_configs.duration_head(),
        ),
        _upsampler("ltx-2.5-spatial-upscaler-x2-bf16.safetensors", "spatial_upsampler", seed),
        _upsampler(
            "ltx-2.5-temporal-upscaler-x2-bf16.safetensors", "temporal_upsampler", seed, temporal=True, rational=True
        ),
    ]


def _upsampler(name: str, role: str, seed: int, **settings) -> TinyFile:
    config = tiny_configs.upsampler(**settings)
    return TinyFile(f"latent_upscale_models/{name}", (role,), upsampler_tensors(config, seed), config)
