"""A pack for the tests alone: native conditioning of the small models' widths, since the host knows Gemma in one size
only."""

import functools
import sys
from pathlib import Path

import torch
from comfy_api.latest import ComfyExtension, io

ROOT = Path(__file__).resolve().parents[3]


class TinyConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        inputs = [io.Model.Input("model"), io.Int.Input("seed", default=0), io.String.Input("text", default="")]
        return io.Schema(
            node_id="TinyConditioning", category="testing", inputs=inputs, outputs=[io.Conditioning.Output()]
        )

    @classmethod
    def execute(cls, model, seed, text):
        network = model.model.diffusion_model
        width = network.cross_attention_dim + network.audio_cross_attention_dim
        generator = torch.Generator().manual_seed(seed + len(text))
        return io.NodeOutput([[torch.randn(1, 16, width, generator=generator), {}]])


class MiniConditioning(io.ComfyNode):
    """A prompt as the demonstration model's Gemma and projection read it."""

    @classmethod
    def define_schema(cls):
        inputs = [io.String.Input("text", multiline=True)]
        return io.Schema(
            node_id="MiniConditioning", category="testing", inputs=inputs, outputs=[io.Conditioning.Output()]
        )

    @classmethod
    def execute(cls, text):
        sys.path.append(str(ROOT))
        from ltx2 import mini
        from ltx2.checkpoint.models import load_text_projection
        from ltx2.checkpoint.reader import open_checkpoint
        from ltx2.text.gemma import load_text_encoder, project_prompt

        encoder = load_text_encoder(mini.TEXT_ENCODER, dtype=torch.float32)
        projection = load_text_projection(open_checkpoint(mini.CHECKPOINT), dtype=torch.float32)
        video, audio, mask = project_prompt(encoder, projection, text)
        return io.NodeOutput([[torch.cat([video, audio], -1)[:, : int(mask.sum())].clone(), {}]])


class MiniPositions(io.ComfyNode):
    """The demonstration model with the base of rotary positions that its file says: the host takes 10000 always."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="MiniPositions", category="testing", inputs=[io.Model.Input("model")], outputs=[io.Model.Output()]
        )

    @classmethod
    def execute(cls, model):
        network = model.model.diffusion_model
        own = type(network)._precompute_freqs_cis
        network._precompute_freqs_cis = functools.partial(own, network, theta=network.positional_embedding_theta)
        return io.NodeOutput(model)


class Pack(ComfyExtension):
    async def get_node_list(self):
        return [TinyConditioning, MiniConditioning, MiniPositions]


def comfy_entrypoint():
    return Pack()
