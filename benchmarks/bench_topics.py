"""What ``benchmarks.bench`` measures: networks, states and stories at several sizes, and who else can do it."""

import functools
import importlib.metadata
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ltx2.networks.layers.rope import audio_positions, video_positions
from tests.networks.video_vae.samples import decoder as video_decoder
from tests.networks.video_vae.samples import noise, vae_config
from tests.story.fake import Fake

from .card.networks import transformer
from .card.peer import published_config
from .card.sizes import full
from .peers import component

Run = Callable[[], Any]
WORDS, SOUNDS = 128, 126
# picture tokens → the grid of latents that has so many
GRIDS = {64: (1, 8, 8), 256: (4, 8, 8), 1024: (4, 16, 16), 4096: (16, 16, 16)}
LAYERS = 6
DECODER = {"base": 32, "latent": 128, "layers": (2, 2, 2, 2, 2)}


@dataclass(frozen=True)
class Topic:
    """prepare: implementation's name, what makes it, and a size → what is to be timed, None where it is not
    installed."""

    name: str
    axis: str
    sizes: tuple[int, ...]
    smallest: tuple[int, ...]
    prepare: Callable[[str, Callable[[], Any], int], Run | None]


def peers(topic: str) -> dict[str, Callable[[], Any]]:
    """Who can do a topic, by name: this package first."""
    if topic == "continuing":
        return {"first segment": lambda: False, "later segment": lambda: True}
    ours = {"ours": lambda: component(topic)}
    return ours | {"dit": {"ltx-core": LtxCoreDit}, "decode": {"ltx-core": LtxCoreDecode}}.get(topic, {})


def versions() -> dict[str, str]:
    """The versions of the published packages that are here."""
    found = {}
    for name in ("ltx-core", "diffusers"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# --- transformer -----------------------------------------------------------------------------------------------------


class LtxCoreDit:
    """The published transformer; see peers.Dit."""

    dtype = "fp32"

    def build(self, state_dict, config):
        from ltx_core.model.transformer.model_configurator import LTXModelConfigurator

        with torch.device("meta"):
            self.model = LTXModelConfigurator.from_config(config)
        self.model.load_state_dict(state_dict, strict=True, assign=True)
        self.model = self.model.eval().requires_grad_(False)

    def forward(self, inputs):
        from ltx_core.guidance.perturbations import BatchedPerturbationConfig, PerturbationConfig
        from ltx_core.model.transformer.modality import Modality

        given = (Modality(**inputs[name]) for name in ("video", "audio"))
        return dict(zip(("video", "audio"), self.model(*given, BatchedPerturbationConfig([PerturbationConfig([])]))))


def _dit(name: str, make: Callable[[], Any], tokens: int) -> Run | None:
    sample, config = _small_transformer(LAYERS, torch.float32)
    return _network(make, sample.state_dict(), config, dit_inputs(tokens))


def _small_transformer(layers: int, dtype: torch.dtype) -> tuple[torch.nn.Module, dict[str, Any]]:
    """2.3's layout with 8 heads of 64 (picture) and of 32 (sound), random weights, and its checkpoint's
    configuration."""
    heads = {"heads": 8, "head_dim": 64, "context_width": 512}
    of_sound = {"audio_heads": 8, "audio_head_dim": 32, "audio_context_width": 256}
    config = replace(full().transformer, layers=layers, **heads, **of_sound)
    network = transformer(config, torch.device("cpu"), dtype, av_timestep_mode="cross")
    return network, {"transformer": published_config(config)}


def dit_inputs(tokens: int) -> dict[str, dict[str, torch.Tensor]]:
    """Both streams in the middle of denoising, the first latent frame known."""
    grid = GRIDS[tokens]

    def stream(count: int, width: int, positions: torch.Tensor, known: int) -> dict[str, Any]:
        timesteps = torch.full((1, count, 1), 0.7)
        timesteps[:, :known] = 0
        given = {"latent": noise(1, count, 128, seed=1), "timesteps": timesteps, "sigma": torch.full((1,), 0.7)}
        return given | {"positions": positions, "context": noise(1, WORDS, width, seed=2), "context_mask": None}

    known = grid[1] * grid[2] if grid[0] > 1 else 0
    return {
        "video": stream(tokens, 512, video_positions(*grid, 24, device="cpu"), known),
        "audio": stream(SOUNDS, 256, audio_positions(SOUNDS, device="cpu"), 8 if known else 0),
    }


def _network(make: Callable[[], Any], weights: dict, config: dict, inputs: Any) -> Run | None:
    made = make()
    try:
        made.build(weights, config)
    except ImportError:
        return None

    @torch.inference_mode()
    def run() -> None:
        result = made.forward(inputs)
        if not isinstance(result, (dict, torch.Tensor)):
            for _ in result:  # pieces, as they would go to a file
                pass

    return run


# --- decoding ---------------------------------------------------------------------------------------------------------


class LtxCoreDecode:
    """The published video decoder, the whole clip at once."""

    dtype = "fp32"

    def build(self, state_dict, config):
        from ltx_core.model.video_vae.model_configurator import VideoDecoderConfigurator

        self.model = VideoDecoderConfigurator.from_config(config)
        self.model.load_state_dict({name.removeprefix("vae.decoder."): value for name, value in state_dict.items()})
        self.model = self.model.eval().requires_grad_(False)

    def forward(self, inputs):
        return self.model(inputs)


def _decode(name: str, make: Callable[[], Any], frames: int) -> Run | None:
    config = {"vae": vae_config("2.3", **DECODER)}
    weights = {f"vae.decoder.{name}": value for name, value in video_decoder("2.3", 5, **DECODER).state_dict().items()}
    return _network(make, weights, config, noise(1, 128, (frames - 1) // 8 + 1, 6, 8, seed=3))


# --- states, loading, stories ----------------------------------------------------------------------------------------


def _codec(name: str, make: Callable[[], Any], frames: int) -> Run | None:
    made = make()
    random = np.random.default_rng(0)
    # smooth pictures with the noise that films have
    base = np.linspace(0, 200, 448)[None, :, None] + np.linspace(0, 40, 256)[:, None, None]
    pictures = [
        np.clip(base + 3 * index + random.normal(0, 2, (256, 448, 3)), 0, 255).astype(np.uint8)
        for index in range(frames)
    ]
    inputs = {"frames": pictures, "audio": noise(1, 8, 50, 16, seed=4)}
    made.build({}, {})
    return lambda: made.inverse(made.forward(inputs))


def _load(name: str, make: Callable[[], Any], layers: int) -> Run | None:
    from safetensors.torch import save_file

    network, config = _small_transformer(layers, torch.bfloat16)
    path = Path(tempfile.mkdtemp()) / "model.safetensors"
    weights = {f"model.diffusion_model.{name}": value.contiguous() for name, value in network.state_dict().items()}
    save_file(weights, path, {"config": json.dumps(config), "model_version": "2.3.0"})
    made = make()
    return lambda: made.build(path, config)


def _story(name: str, make: Callable[[], Any], segments: int) -> Run | None:
    """All but the model's own work: timeline, states, journal, joins and the film."""
    from ltx2.story.chain import run_story
    from ltx2.story.script import parse_script

    lines = "\n".join(f"  - segment {number}" for number in range(segments))
    head = "overlap: {video: 9, audio: 15}\ndefaults: {frames: 25}\n"
    script = parse_script(f"{head}segments:\n{lines}\n")

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            run_story(script, Fake(), work=Path(folder) / "work", out=Path(folder) / "film.mp4")

    return run


@functools.cache
def _mini():
    from ltx2 import mini
    from ltx2.stages.models import load_models

    return load_models(mini.CHECKPOINT, text_encoder=mini.TEXT_ENCODER)


def _continuing(name: str, make: Callable[[], Any], frames: int) -> Run | None:
    """A segment of the demonstration model from prompt to frames and state: from nothing, or behind a state."""
    from ltx2.film import Overlap
    from ltx2.film.handoff import Handoff
    from ltx2.stages.pipeline import generate
    from ltx2.stages.request import Request
    from ltx2.story.segment_job import segment_job, state_after

    models = _mini()
    asked = {"prompt": "A red ball jumps.", "fps": 24, "width": 128, "height": 96, "frames": frames}

    def segment(state):
        request = Request(**asked, seed=3 if state is None else None)
        made = segment_job(models, request, state, Handoff(seed=3), overlap=Overlap(9, 25))
        done = generate(models, made.job)
        pictures = np.concatenate(list(done.frames()))
        return state_after(made, done, pictures)

    state = segment(None) if make() else None
    return lambda: segment(state)


TOPICS = (
    Topic("dit", "picture tokens", (64, 256, 1024, 4096), (64,), _dit),
    Topic("decode", "frames", (9, 17, 33, 65, 129), (9, 17), _decode),
    Topic("load", "blocks", (6, 12, 24, 48), (2, 4), _load),
    Topic("codec", "frames", (9, 17, 33, 65), (1, 9), _codec),
    Topic("continuing", "frames", (17, 33, 49, 97), (17,), _continuing),
    Topic("story", "segments", (8, 16, 32, 64), (2, 3), _story),
)
