"""What stays on a device of so much memory, known from headers alone, before anything is loaded."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

from ...checkpoint.layout import MissingComponent, find_component
from ...checkpoint.quantization.packed import QuantizedTensor
from ...checkpoint.reader import Checkpoint, open_checkpoint
from ...clock import PIXELS_PER_LATENT
from ...config.diffusion_decoder import diffusion_decoder_config
from ...config.transformer import transformer_config
from ...config.video_vae import video_vae_config
from ...errors import RequestError
from ...networks.video_vae.diffusion_tiling import plan_diffusion_decode
from ...networks.video_vae.plan import plan_decode
from ...text.gemma import encoder_files
from ...text.llama_cpp import language_component
from ...values import VIDEO_CHANNELS
from .. import memory
from .layer_stream import BLOCKS, SLOTS, coming

GIB = 2**30
_TEXT = ("text_encoder", "text_projection", "video_connector", "audio_connector")
_AROUND = ("video_encoder", "audio_encoder", "audio_decoder", "vocoder", "upsampler")


@dataclass(frozen=True)
class LargestClip:
    """The largest clip of a run: pixels, frames, tokens of its largest stage, and how many at once."""

    width: int
    height: int
    frames: int
    latent_frames: int
    tokens: int
    batch_size: int = 1

    def __str__(self) -> str:
        size = f"{self.width}x{self.height}, " if self.latent_frames else ""
        return f"{size}{self.frames} frames{'' if size else ' of sound'}"


@dataclass(frozen=True, eq=False)
class Sizes:
    """Bytes of the networks as they lie in memory. blocks: of the transformer, as they are kept; slot: of the largest
    as it computes; outer: of what is in no block; streamed_text: of the language model on the device while its layers
    come one by one. decoder: its configuration."""

    blocks: Sequence[int]
    slot: int
    outer: int
    width: int
    text: int
    streamed_text: int
    video_decoder: int
    around: Mapping[str, int]
    decoder: Any
    dtype: torch.dtype
    vae_dtype: torch.dtype

    @property
    def transformer(self) -> int:
        """The bytes of the whole transformer."""
        return sum(self.blocks) + self.outer

    @property
    def everything(self) -> int:
        """The bytes of all networks."""
        return self.transformer + self.text + self.video_decoder + sum(self.around.values())


@dataclass(frozen=True)
class MemoryPlan:
    """How a run stays within ``budget`` bytes: as ``PipelineConfig.offload`` says, of the transformer
    ``blocks_on_device`` of ``blocks`` on the device throughout where it comes layer by layer."""

    budget: int
    offload: str
    blocks_on_device: int
    blocks: int
    weights: int
    others: int
    activations: int
    decoding: str
    clip: str

    def check(self, activations: int, clip: str) -> None:
        """Raise RequestError for a clip that takes more than the plan leaves."""
        need = self.weights + self.others + activations
        if need > self.budget:
            raise RequestError(
                f"memory is {_gib(self.budget)}, and denoising {clip} takes {_gib(need)} as it was planned: give "
                f"{_gib(need, up=True)} or more, or make it smaller or shorter"
            )

    def __str__(self) -> str:
        how = {
            "none": "all networks stay on the device",
            "stage": "each network is on the device while its stage runs",
            "layers": f"{self.blocks_on_device} of {self.blocks} blocks stay on the device, the others come one by one",
        }[self.offload]
        beside = f"{_gib(self.weights)} of the transformer beside {_gib(self.activations)} to denoise {self.clip}"
        return f"memory {_gib(self.budget)}: {how}; {beside}; decoding: {self.decoding}"


def plan_memory(sizes: Sizes, clip: LargestClip, budget: int) -> MemoryPlan:
    """The fastest way that stays within a budget. Raises RequestError naming the smallest that would do."""
    needs = {offload: _peak(sizes, clip, offload) for offload in ("none", "stage", "layers")}
    offload = next((way for way, need in needs.items() if need <= budget), None)
    if offload is None:
        least = _gib(min(needs.values()), up=True)
        raise RequestError(
            f"memory is {_gib(budget)}, too little for {clip}: give {least} or more, or make it smaller or shorter"
        )
    blocks_on_device, weights = 0, sizes.transformer
    activations = _denoising(sizes, clip)
    if offload == "layers":
        fitting = [n for n in range(len(sizes.blocks) - SLOTS + 1) if _streamed(sizes, n) + activations <= budget]
        blocks_on_device = max(fitting, default=0)
        weights = _streamed(sizes, blocks_on_device)
    others = sizes.everything - sizes.transformer if offload == "none" else 0
    beside = sizes.everything if offload == "none" else sizes.video_decoder
    decoding = _decoding(sizes, clip, budget - beside)
    return MemoryPlan(
        budget,
        offload,
        blocks_on_device,
        len(sizes.blocks),
        weights,
        others,
        activations,
        str(decoding).partition(", about")[0] if decoding is not None else "none",
        str(clip),
    )


def _peak(sizes: Sizes, clip: LargestClip, offload: str) -> int:
    """The most that a run takes at once, with decoding as lean as it is exact."""
    leanest = _decoding(sizes, clip, 0)
    decoding = 0
    if leanest is not None:
        decoding = leanest.peak_bytes if sizes.decoder[0] != "conv" else int(leanest.estimate_bytes * leanest.margin)
    sound = sum(sizes.around.get(name, 0) for name in ("audio_decoder", "vocoder"))
    activations = _denoising(sizes, clip)
    if offload == "none":
        return sizes.everything + max(activations, decoding, memory.TEXT_BYTES, memory.SOUND_BYTES)
    text = sizes.text if offload == "stage" else sizes.streamed_text
    transformer = sizes.transformer if offload == "stage" else _streamed(sizes)
    text_need = text + memory.TEXT_BYTES if sizes.text else 0
    return max(
        transformer + activations, text_need, sizes.video_decoder + decoding, sound + memory.SOUND_BYTES * bool(sound)
    )


def _streamed(sizes: Sizes, blocks_on_device: int = 0) -> int:
    """The bytes of the transformer that are on the device while its blocks come one by one, but for some that stay."""
    come = set(coming(len(sizes.blocks), blocks_on_device))
    stay = sum(size for index, size in enumerate(sizes.blocks) if index not in come)
    return sizes.outer + stay + slots_bytes(sizes.blocks, sizes.slot)


def slots_bytes(blocks: Iterable[int], slot: int) -> int:
    """The bytes of the places that blocks come to: each holds the largest block as it computes, and beside it stored
    bytes, where there are blocks that are stored in fewer."""
    return SLOTS * (slot + max((block for block in blocks if block < slot), default=0))


def _denoising(sizes: Sizes, clip: LargestClip) -> int:
    return memory.denoising_bytes(
        width=sizes.width, video_tokens=clip.tokens, batch_size=clip.batch_size, dtype=sizes.dtype
    )


def _decoding(sizes: Sizes, clip: LargestClip, free: int) -> Any:
    """How the picture is decoded in so much memory."""
    if sizes.decoder is None or not clip.latent_frames:
        return None
    kind, config = sizes.decoder
    shape = (1, VIDEO_CHANNELS, clip.latent_frames, clip.height // PIXELS_PER_LATENT, clip.width // PIXELS_PER_LATENT)
    if kind == "conv":
        return plan_decode(config, shape, max(free, 0), sizes.vae_dtype)
    return plan_diffusion_decode(config, shape, max(free, 0), itemsize=sizes.vae_dtype.itemsize, fused=True)


# --- sizes ---------------------------------------------------------------------------------------------------------


def sizes_of(checkpoint: Checkpoint, encoder: str | Path | None, upsampler: str | Path | None, config: Any) -> Sizes:
    """The sizes of networks as a PipelineConfig loads them. Reads headers alone. Raises CheckpointError."""
    stored = config.quantized == "on_use"
    transformer = find_component(checkpoint, "transformer")
    blocks, slot, outer = _by_block(transformer.tensors, config.transformer, stored)
    with_text = checkpoint if encoder is None else open_checkpoint(checkpoint.paths, encoder_files(encoder))
    text = [] if encoder is None else [_bytes(t, config.text_encoder, stored) for t in _of(with_text, _TEXT)]
    files = checkpoint if upsampler is None else open_checkpoint(checkpoint.paths, upsampler)
    around = {name: sum(_bytes(t, torch.float32, False) for t in _of(files, [name])) for name in _AROUND}
    decoder, tensors = _decoder(checkpoint)
    vae = config.video_vae
    return Sizes(
        blocks,
        slot,
        outer,
        transformer_config(transformer.config, transformer.shapes).width,
        sum(text),
        0 if encoder is None else _streamed_text(with_text, config.text_encoder, stored),
        sum(_bytes(tensor, vae, False) for tensor in tensors),
        around,
        decoder,
        config.transformer,
        vae,
    )


def _by_block(tensors: Mapping[str, Any], dtype: torch.dtype, stored: bool) -> tuple[tuple[int, ...], int, int]:
    """Bytes of a network's blocks in order, of the largest as it computes, and of what is in none of them."""
    blocks: Counter[int] = Counter()
    dense: Counter[int] = Counter()
    outer = 0
    for name, tensor in tensors.items():
        size = _bytes(tensor, dtype, stored)
        stem, number = (name.split(".") + [""])[:2]
        if stem not in BLOCKS:
            outer += size
            continue
        blocks[int(number)] += size
        dense[int(number)] += _bytes(tensor, dtype, False)
    return tuple(blocks[index] for index in sorted(blocks)), max(dense.values(), default=0), outer


def _streamed_text(checkpoint: Checkpoint, dtype: torch.dtype, stored: bool) -> int:
    """Two layers of the language model, or one tensor of what follows it; the table of its words never leaves."""
    try:
        found = language_component(checkpoint) or find_component(checkpoint, "text_encoder")
    except MissingComponent:
        return 0
    blocks, slot, _ = _by_block(found.tensors, dtype, stored)
    after = [_bytes(tensor, dtype, stored) for tensor in _of(checkpoint, _TEXT[1:])]
    return slots_bytes(blocks, slot) + max(after, default=0)


def _decoder(checkpoint: Checkpoint) -> tuple[Any, list[Any]]:
    for name, kind, read in (
        ("video_decoder", "conv", video_vae_config),
        ("diffusion_decoder", "diffusion", diffusion_decoder_config),
    ):
        try:
            found = find_component(checkpoint, name)
        except MissingComponent:
            continue
        return (kind, read(found.config, found.shapes)), list(found.tensors.values())
    return None, []


def _of(checkpoint: Checkpoint, names: Sequence[str]) -> Iterator[Any]:
    for name in names:
        try:
            found = language_component(checkpoint) if name == "text_encoder" else None
            yield from (found or find_component(checkpoint, name)).tensors.values()
        except MissingComponent:
            continue


def _bytes(tensor: Any, dtype: torch.dtype, stored: bool) -> int:
    if isinstance(tensor, QuantizedTensor):
        return tensor.nbytes if stored and len(tensor.shape) == 2 else prod(tensor.shape) * dtype.itemsize
    return prod(tensor.shape) * dtype.itemsize if tensor.dtype.is_floating_point else tensor.nbytes


def _gib(size: int, *, up: bool = False) -> str:
    tenths = -(-size * 10 // GIB) if up else round(size * 10 / GIB)
    return f"{tenths / 10:g} GiB" if size >= GIB / 10 else f"{-(-size // 2**20) if up else round(size / 2**20)} MiB"
