"""Small diffusion decoders with random weights, ours and the one of diffusers, and memory of live tensors."""

import weakref
from dataclasses import replace

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ltx2.config.diffusion_decoder import DiffusionDecoderConfig
from ltx2.networks.video_vae.diffusion_decoder import DiffusionDecoder

SMALL = DiffusionDecoderConfig(
    latent_channels=8,
    head_dim=16,  # narrower heads make the norms amplify float32 rounding
    channels=(32, 16, 16, 16, 16),
    depths=(1, 1, 2, 1, 2),
    kernels=((3, 3, 3), (3, 3, 3), (3, 5, 5), (3, 5, 5), (5, 5, 5)),
    upsamples=(((1, 2, 2), 2), ((2, 1, 1), 1), ((2, 2, 2), 1), ((2, 2, 2), 1)),
    time_embedding=16,
    type_embedding=False,
)

# The attention of diffusers makes a mask over all pairs of positions, so it needs clips below the usual windows.
NARROW = replace(SMALL, kernels=((3, 1, 1), (3, 3, 3), (3, 3, 5), (3, 5, 5), (5, 5, 5)))


def random_decoder(config=SMALL, seed=0, **changes) -> DiffusionDecoder:
    """A decoder whose every parameter matters: norms near 1, everything else of the size that keeps values near 1."""
    decoder = DiffusionDecoder(replace(config, **changes)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in decoder.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if "norm" in name or "std-of-means" in name:
            tensor.copy_(1 + 0.1 * noise)
        elif tensor.ndim == 2 and "table" not in name:
            tensor.copy_(noise / tensor.shape[1] ** 0.5)
        else:
            tensor.copy_(0.1 * noise)
        tensor.copy_(tensor.bfloat16())
    return decoder


def in_diffusers(decoder: DiffusionDecoder):
    """The same decoder as diffusers' LTX2VideoDiffusionDecoder3d, which takes latents that are not normalised."""
    from diffusers.models.autoencoders.ltx2_diffusion_decoder import LTX2VideoDiffusionDecoder3d

    config = decoder.config
    theirs = LTX2VideoDiffusionDecoder3d(
        in_channels=config.latent_channels,
        patch_size=config.patch_size,
        head_dim=config.head_dim,
        stage_channels=config.channels,
        stage_depths=config.depths,
        stage_kernels=config.kernels[:-1],
        upsample_strides=tuple(stride for stride, _ in config.upsamples),
        upsample_channel_reductions=tuple(reduction for _, reduction in config.upsamples),
        stage5_kernel=config.kernels[-1],
        t_emb_dim=config.time_embedding,
        timestep_scale_multiplier=config.timestep_multiplier,
        model_output_type=config.output,
        default_num_inference_steps=config.steps,
    )
    state = {}
    for name, tensor in decoder.state_dict().items():
        name = name.replace("mlp.0.", "timestep_embedder.linear_1.") if name.startswith("t_embedder.") else name
        name = name.replace("mlp.2.", "timestep_embedder.linear_2.") if name.startswith("t_embedder.") else name
        for ours, their_name in (("attn.proj.", "attn.to_out.0."), ("q_norm", "norm_q"), ("k_norm", "norm_k")):
            name = name.replace(ours, their_name)
        if ".qkv." in name:
            state |= {name.replace("qkv", f"to_{part}"): rows for part, rows in zip("qkv", tensor.chunk(3))}
        elif not name.startswith("per_channel_statistics") and name != "type_emb":
            state[name] = tensor
    theirs.load_state_dict(state, strict=True)
    return theirs.eval().requires_grad_(False)


class LiveBytes(TorchDispatchMode):
    """Bytes of all tensor storages made inside the block: ``now`` and at their ``peak``."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def gone():
            self._known.discard(key)
            self.now -= size

        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, gone)
