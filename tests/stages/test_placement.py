"""A host's own placement: asked for every network, and the film is the same."""

from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from ltx2.stages.pipeline import generate
from ltx2.stages.refinement import stage_transformer
from ltx2.stages.request import Request
from ltx2.values import ImageCondition, Waveform


@dataclass
class Recording:
    """Everything stays where it is; what was asked for is written down."""

    asked: list = field(default_factory=list)

    def device_of(self, module):
        return torch.device("cpu")

    @contextmanager
    def on(self, *modules, activation_bytes=0):
        self.asked.append((tuple(type(module).__name__ for module in modules), activation_bytes))
        yield modules

    @contextmanager
    def transformer(self, module, loras, *, activation_bytes=0):
        self.asked.append((("Transformer", *(strength for _, strength in loras)), activation_bytes))
        with stage_transformer(module, loras, device="cpu") as there:
            yield there

    def free_bytes(self, module=None):
        return 2**33


def test_a_host_is_asked_for_every_network(models):
    own = models("2.3")
    picture = torch.rand(64, 64, 3)
    request = Request(
        prompt="A lake.",
        preset="ltx2_hq",
        width=64,
        height=64,
        frames=9,
        images=(ImageCondition(picture),),
        seed=2,
        audio=Waveform(torch.rand(2, 9000) - 0.5, 16000),
        overrides={"denoise": {"num_inference_steps": 2}},
    )
    host = Recording()
    hosted = generate(replace(own, host_placement=host, contexts=type(own.contexts)()), request)
    plain = generate(own, request)
    assert torch.equal(hosted.latent.video, plain.latent.video) and torch.equal(hosted.latent.audio, plain.latent.audio)
    assert all(torch.equal(a, b) for a, b in zip(hosted.pixels(), plain.pixels()))
    names = [name for name, _ in host.asked]
    assert names == [
        ("Gemma3TextModel", "TextProjection", "Connector", "Connector"),
        ("AudioEncoder",),
        ("VideoEncoder",),
        ("Transformer", 0.25),
        ("LatentUpsampler",),
        ("Transformer", 0.5),
        ("VideoDecoder",),
    ]
    assert all(room > 0 for name, room in host.asked if name != ("VideoEncoder",))
