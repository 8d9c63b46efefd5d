"""Shape of the diffusion decoder that LTX-2.5 offers beside its convolutional one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError

_STRIDE_OF_FACTOR = {4: (1, 2, 2), 2: (2, 1, 1), 8: (2, 2, 2)}
_RELEASED_KERNELS = ((3, 7, 7), (3, 7, 7), (3, 5, 5), (3, 5, 5), (11, 11, 11))


@dataclass(frozen=True)
class DiffusionDecoderConfig:
    """Four stages that upsample the latent into a context volume, and a fifth that denoises patches of pixels in it.

    channels, depths, kernels: width, number of blocks and attention window (time, rows, columns) of the five stages;
    upsamples: stride and channel reduction after each of the first four; output: what the last stage predicts, ``x0``
    or ``v``.
    """

    latent_channels: int = 128
    patch_size: int = 4
    head_dim: int = 64
    channels: tuple[int, ...] = (2048, 1024, 512, 512, 256)
    depths: tuple[int, ...] = (4, 6, 4, 2, 8)
    kernels: tuple[tuple[int, int, int], ...] = _RELEASED_KERNELS
    upsamples: tuple[tuple[tuple[int, int, int], int], ...] = (
        ((1, 2, 2), 2),
        ((2, 1, 1), 2),
        ((2, 2, 2), 1),
        ((2, 2, 2), 2),
    )
    time_embedding: int = 384
    timestep_multiplier: float = 1000.0
    steps: int = 1
    output: str = "x0"
    type_embedding: bool = True

    def __post_init__(self):
        stages = len(self.upsamples)
        if not len(self.channels) == len(self.depths) == len(self.kernels) == stages + 1:
            raise CheckpointError(
                f"diffusion decoder has {len(self.channels)} widths, {len(self.depths)} depths and "
                f"{len(self.kernels)} kernels for "
                f"{stages} upsamplings, expected one more of each than upsamplings"
            )
        for stage, (_, reduction) in enumerate(self.upsamples):
            if self.channels[stage] != self.channels[stage + 1] * reduction:
                raise CheckpointError(
                    f"diffusion decoder stage {stage + 1} has {self.channels[stage + 1]} channels, expected "
                    f"{self.channels[stage]} / {reduction}: the config does not fit itself"
                )
        if any(width % self.head_dim for width in self.channels):
            raise CheckpointError(
                f"diffusion decoder widths {list(self.channels)} are not multiples of its head size {self.head_dim}"
            )
        if self.output not in ("x0", "v"):
            raise CheckpointError(f"diffusion decoder predicts {self.output!r}, expected x0 or v")

    @property
    def ghost_latents(self) -> int:
        """Copies of the last latent frame behind it, which keep the shifted windows of the end away from what is
        shown."""
        return self.kernels[0][0] // 2 * 2

    @property
    def strides(self) -> tuple[tuple[int, int, int], ...]:
        """Upsampling from a latent to the grid of each stage, (time, rows, columns)."""
        found = [(1, 1, 1)]
        for (time, rows, columns), _ in self.upsamples:
            before = found[-1]
            found.append((before[0] * time, before[1] * rows, before[2] * columns))
        return tuple(found)

    @property
    def time_compression(self) -> int:
        """Frames per latent frame."""
        return self.strides[-1][0]

    @property
    def space_compression(self) -> int:
        """Pixels per latent row and column."""
        return self.strides[-1][1] * self.patch_size

    @property
    def smallest_latent(self) -> tuple[int, int, int]:
        """Frames, rows and columns of the smallest latent on which every stage's window fits."""

        def least(axis: int) -> int:
            return max(-(-kernel[axis] // stride[axis]) for kernel, stride in zip(self.kernels, self.strides))

        return least(0), least(1), least(2)


def diffusion_decoder_config(
    config: Mapping[str, Any] | None, shapes: Mapping[str, tuple[int, ...]]
) -> DiffusionDecoderConfig:
    """Config from the checkpoint's ``vae`` dictionary, or from tensor shapes where there is none.

    shapes: official tensor names, bare, with ``decoder.`` or with ``vae.decoder.`` in front. What the weights do not
    tell (windows, timestep scale, number of steps) is then taken as released. Raises CheckpointError.
    """
    decoder = (config or {}).get("decoder")
    bare = {name.removeprefix("vae.").removeprefix("decoder."): tuple(shape) for name, shape in shapes.items()}
    type_embedding = "type_emb" in bare or not bare
    if not isinstance(decoder, Mapping):
        return _from_shapes(bare, type_embedding)
    released = DiffusionDecoderConfig()
    kernels = [tuple(kernel) for kernel in decoder.get("stage_kernels", _RELEASED_KERNELS)]
    upsamples = tuple((tuple(stride), reduction) for stride, reduction in decoder.get("upsamples", released.upsamples))
    last = tuple(decoder.get("stage5_kernel", kernels[-1]))
    return DiffusionDecoderConfig(
        latent_channels=decoder.get("in_channels", released.latent_channels),
        patch_size=decoder.get("patch_size", released.patch_size),
        head_dim=decoder.get("head_dim", released.head_dim),
        channels=tuple(decoder.get("stage_channels", released.channels)),
        depths=tuple(decoder.get("stage_depths", released.depths)),
        kernels=(*kernels[: len(upsamples)], last),
        upsamples=upsamples,
        time_embedding=decoder.get("t_emb_dim", released.time_embedding),
        timestep_multiplier=float(decoder.get("timestep_scale_multiplier", released.timestep_multiplier)),
        steps=decoder.get("default_num_inference_steps", released.steps),
        output=config.get("model_output_type", decoder.get("model_output_type", released.output)),
        type_embedding=type_embedding,
    )


def _from_shapes(shapes: Mapping[str, tuple[int, ...]], type_embedding: bool) -> DiffusionDecoderConfig:
    needed = ("conv_in.weight", "conv_in_x_t.weight", "t_embedder.mlp.2.weight", "diff_blocks.0.attn.q_norm.weight")
    missing = [name for name in needed if name not in shapes]
    if missing:
        raise CheckpointError(
            f"no diffusion decoder among these tensors ({missing[0]} is missing): choose the LTX-2.5 diffusion VAE file"
        )

    def count(stem: str) -> int:
        return len({name[len(stem) :].split(".")[0] for name in shapes if name.startswith(stem)})

    stages = count("upsamples.")
    channels = tuple(shapes[f"det_stages.{stage}.0.norm1.weight"][0] for stage in range(stages)) + (
        shapes["conv_in_x_t.weight"][0],
    )
    upsamples = []
    for stage in range(stages):
        out, width = shapes[f"upsamples.{stage}.proj.weight"]
        reduction = channels[stage] // channels[stage + 1]
        factor = out * reduction // width
        if factor not in _STRIDE_OF_FACTOR:
            raise CheckpointError(
                f"diffusion decoder upsampling {stage} makes {factor} of each position, expected 2, 4 or 8"
            )
        upsamples.append((_STRIDE_OF_FACTOR[factor], reduction))
    return DiffusionDecoderConfig(
        latent_channels=shapes["conv_in.weight"][1],
        patch_size=math.isqrt(shapes["conv_in_x_t.weight"][1] // 3),
        head_dim=shapes["diff_blocks.0.attn.q_norm.weight"][0],
        channels=channels,
        depths=tuple(count(f"det_stages.{stage}.") for stage in range(stages)) + (count("diff_blocks."),),
        upsamples=tuple(upsamples),
        time_embedding=shapes["t_embedder.mlp.2.weight"][0],
        type_embedding=type_embedding,
    )
