"""A pack for the tests alone: native conditioning of the tiny model's width, since the host knows Gemma in one size
only."""

import torch
from comfy_api.latest import ComfyExtension, io


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


class Pack(ComfyExtension):
    async def get_node_list(self):
        return [TinyConditioning]


def comfy_entrypoint():
    return Pack()
