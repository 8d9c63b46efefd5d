"""This package as one of the implementations in a side-by-side benchmark: ``--impl ours=benchmarks.peers:component``.

The benchmark asks ``component("dit")`` (or ``decode``, ``load``, ``codec``) for an object and sets its ``dtype``.
``build`` gets tensors under their official names and the checkpoint's configuration, ``forward`` what the peers get
too.
"""

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def component(name: str):
    """The object for a component, or None where there is none."""
    kind = COMPONENTS.get(name)
    return kind and kind()


class Dit:
    """One forward of the transformer. Wired as ltx-core 1.0.0 is, so that outputs can be compared."""

    dtype = "fp32"

    def build(self, state_dict, config):
        from ltx2.config.transformer import transformer_config
        from ltx2.networks.transformer.model import Transformer

        weights = {name: tensor.to(DTYPES[self.dtype]) for name, tensor in state_dict.items()}
        shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        self.model = Transformer(
            transformer_config(config["transformer"], shapes), device="meta", av_timestep_mode="cross"
        )
        self.model.load_state_dict(weights, strict=True, assign=True)

    def forward(self, inputs):
        from ltx2.networks.transformer.model import StreamInput

        streams = (StreamInput(**inputs[name]) for name in ("video", "audio"))
        return dict(zip(("video", "audio"), self.model(*streams)))


class Load:
    """A checkpoint's transformer as every verb loads it by default: built on the meta device, its weights views of the
    mapped file."""

    def __init__(self):
        # imports are not part of loading, for nobody
        from ltx2.checkpoint import models, reader

        self.models, self.reader = models, reader

    def build(self, state_dict, config):
        checkpoint = self.reader.open_checkpoint(state_dict)
        self.model = self.models.load_transformer(checkpoint, av_timestep_mode="cross", dtype=torch.bfloat16)

    forward = Dit.forward


class Decode:
    """The convolutional video decoder, streamed exactly as it is by default."""

    dtype = "fp32"

    def build(self, state_dict, config):
        from ltx2.config.video_vae import video_vae_config
        from ltx2.networks.video_vae.model import VideoDecoder

        weights = {name.removeprefix("vae."): tensor.to(DTYPES[self.dtype]) for name, tensor in state_dict.items()}
        weights = {name.removeprefix("decoder."): tensor for name, tensor in weights.items()}
        shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        self.model = VideoDecoder(video_vae_config(config["vae"], shapes), device="meta")
        self.model.load_state_dict(weights, strict=True, assign=True)

    def forward(self, inputs):
        from ltx2.networks.video_vae.streaming import stream_decode

        return stream_decode(self.model, inputs)


class Codec:
    """A continuation state as one JSON document with everything inline, and back."""

    dtype = "fp32"

    def build(self, state_dict, config):
        pass

    def forward(self, inputs):
        from ltx2.continuation import LTX2ContinuationState, write_envelope

        state = LTX2ContinuationState(video_frames=inputs["frames"], audio_latents=inputs["audio"])
        return write_envelope(state.to_continuation_state()).encode()

    def inverse(self, data):
        from ltx2.continuation import LTX2ContinuationState, read_envelope

        state = LTX2ContinuationState.from_continuation_state(read_envelope(data))
        return {"frames": state.video_frames, "audio": state.audio_latents}


COMPONENTS = {"dit": Dit, "load": Load, "decode": Decode, "codec": Codec}
