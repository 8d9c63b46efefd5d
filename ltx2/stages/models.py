"""The networks of a pipeline, loaded from files, and the settings they run with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checkpoint import models as load
from ..checkpoint.build import check_dtype
from ..checkpoint.folders import model_name
from ..checkpoint.layout import MissingComponent, model_version
from ..checkpoint.lora import Lora, check_lora, match_lora, read_lora, weight_shapes
from ..checkpoint.lora_report import LoraReport, other_model_notes, report_lora
from ..checkpoint.reader import Checkpoint, open_checkpoint
from ..checkpoint.stage_loras import LoraChoice, StageLora, read_stage_lora, repeated_notes, report_notes
from ..config.versions import ModelVersion, Version, release
from ..errors import CheckpointError, RequestError
from ..networks.layers.attention_ways import SDPA, attention_way
from ..networks.layers.offload_ops import OFFLOAD_OPS
from ..text.cache import ContextCache
from ..text.context_folder import DEFAULT_LIMIT_BYTES, ContextFolder
from ..text.gemma import TextEncoder, check_gemma_version, context_identity, encoder_files, load_text_encoder
from ..text.identity import text_files
from ..text.layers import with_ops
from ..text.source import TEXT_PARTS, TextFiles, TextSource, text_source
from ..text.tokenizer import cut_note
from ..values import Progress
from .placement import DevicePlacement, Network, Placement
from .placing.layered import LayeredPlacement
from .placing.plan import MemoryPlan
from .placing.warm import WarmPlacement
from .refinement import check_temporal_upsampler, check_upsampler
from .video_decoding import MODES

OFFLOADS = ("stage", "layers", "none")
BATCHINGS = ("auto", "always", "never")


# What is said of a network that is needed and was not named.
NOT_NAMED = {
    "upsampler": "two stages need the latent upsampler: load the release's spatial-upscaler-x2 file",
    "temporal_upsampler": "double_rate needs the temporal upsampler: load the release's temporal-upscaler-x2 file",
}


@dataclass(frozen=True)
class PipelineConfig:
    """Settings of a whole pipeline.

    device: where networks run. Types: of each component's weights and arithmetic; latents: of what goes between steps.
    offload: ``stage`` keeps weights in host memory and each network on the device only while its stage runs; ``layers``
    brings the transformer and the text encoder layer by layer, for cards smaller than they are; ``none`` loads all to
    the device at once.
    video_decoding: ``auto`` by free memory, ``whole``, ``stream`` (exact pieces) or ``tiles``.
    pass_batching: guidance passes in one call: ``auto`` when memory allows, ``always``, ``never``. quantized: weights
    of quantised files are turned into plain ones at load (``dequantize``), or kept small in linear layers (``on_use``).
    sound_only: of the transformer only the half is loaded that makes sound where there is no picture.
    noise_device: ``cpu`` makes results the same on every machine. schedule_shift: of the dev schedule at 1024 and at
    4096 tokens; None for the models' own. cache: a folder that keeps what prompts became for later runs, which then do
    not open the text encoder for them; cache_bytes: how much it may hold. attention: how it is computed (``sdpa``,
    ``cudnn``, ``flash``, ``sage``). compile: the transformer's blocks are compiled when they first run, for a CUDA card
    and plain weights that are there as a whole. memory: the plan that the device's memory is kept to, which ``offload``
    has to be that of.
    """

    device: str = "cpu"
    transformer: torch.dtype = torch.bfloat16
    text_encoder: torch.dtype = torch.bfloat16
    video_vae: torch.dtype = torch.bfloat16
    upsampler: torch.dtype = torch.bfloat16
    audio_vae: torch.dtype = torch.float32
    vocoder: torch.dtype = torch.float32
    latents: torch.dtype = torch.bfloat16
    offload: str = "stage"
    video_decoding: str = "auto"
    pass_batching: str = "auto"
    quantized: str = "dequantize"
    noise_device: str = "cpu"
    sound_only: bool = False
    schedule_shift: tuple[float, float] | None = None
    cache: str | Path | None = None
    cache_bytes: int = DEFAULT_LIMIT_BYTES
    compile: bool = False
    attention: str = SDPA
    memory: MemoryPlan | None = None

    def __post_init__(self):
        check_compile(self)
        for name, known in (("offload", OFFLOADS), ("video_decoding", MODES), ("pass_batching", BATCHINGS)):
            if getattr(self, name) not in known:
                raise RequestError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")
        for name in ("transformer", "text_encoder", "video_vae", "upsampler", "audio_vae", "vocoder", "latents"):
            check_dtype(getattr(self, name), name)


def check_compile(config: PipelineConfig) -> None:
    """Raise RequestError where blocks are to be compiled and cannot be."""
    if not config.compile:
        return
    if torch.device(config.device).type != "cuda":
        raise RequestError(f"compiled blocks are for a CUDA card, the device is {config.device}: leave compile out")
    if config.offload == "layers" or config.quantized == "on_use":
        way = "brought layer by layer" if config.offload == "layers" else "unpacked when they are used"
        raise RequestError(f"compiled blocks need weights that are there as a whole, these are {way}: leave one out")
    if config.attention != SDPA:
        raise RequestError(
            f"compiled blocks hold torch's own attention, {config.attention} was asked for: leave one out"
        )
    if find_spec("triton") is None:
        raise RequestError("compiled blocks need the package triton, which is not installed: leave compile out")


@dataclass(frozen=True, eq=False)
class Models:
    """Everything a pipeline needs. A network that the files do not hold is None, and ``missing`` says what to load for
    it.

    tiny_decoder: of a tiny autoencoder, for drafts. distilled_lora: for the stages that ask for it, on a copy of the
    transformer. loras: those that are merged in, with strengths and what of them fits; stage_loras: those that one
    stage alone runs with; reference_loras: those of both that look at a reference video or take up a voice; notes: what
    the user has to know of them. contexts: prompts encoded so far. text_source: gives the networks of the text where
    they were not loaded yet, because prompts that come again need none.
    own_placement: what brings the networks to the config's device, with what it has there; None: each by itself.
    host_placement: of a host that keeps the networks itself; None: they are brought to the config's device and dropped
    again. release and transformer may be missing (None) where only other steps are run.
    """

    config: PipelineConfig
    release: ModelVersion | None
    names: tuple[str, ...]
    transformer: Network | None
    text_encoder: TextEncoder | None = None
    text_projection: Network | None = None
    connectors: tuple[Network, Network | None] | None = None
    video_encoder: Network | None = None
    video_decoder: Network | None = None
    audio_encoder: Network | None = None
    audio_decoder: Network | None = None
    vocoder: Network | None = None
    upsampler: Network | None = None
    temporal_upsampler: Network | None = None
    tiny_decoder: Network | None = None
    distilled_lora: Lora | None = None
    loras: tuple[tuple[LoraReport, float], ...] = ()
    stage_loras: tuple[StageLora, ...] = ()
    reference_loras: tuple[Lora, ...] = ()
    notes: tuple[str, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    contexts: ContextCache = field(default_factory=ContextCache)
    context_identity: str = ""
    text_source: TextSource | None = None
    own_placement: Placement | None = None
    host_placement: Placement | None = None

    @property
    def placement(self) -> Placement:
        """What brings the networks to their device."""
        plan = self.config.memory
        limited = DevicePlacement(self.config.device, None if plan is None else plan.budget)
        own = limited if self.own_placement is None else self.own_placement
        return own if self.host_placement is None else self.host_placement

    def need(self, name: str) -> Any:
        """A network by its field's name. Raises CheckpointError saying which file holds it when it was not loaded."""
        found = getattr(self, name)
        if found is None and name in TEXT_PARTS and self.text_source is not None:
            found = self.text_source[name]
        if found is None:
            raise CheckpointError(self.missing.get(name) or f"the {name.replace('_', ' ')} was not loaded")
        return found

    def check(self, name: str) -> None:
        """Raise CheckpointError as ``need`` does, without loading what can be loaded later."""
        if name not in TEXT_PARTS or self.text_source is None:
            self.need(name)

    @property
    def reads_prompts(self) -> bool:
        """Whether there is a text encoder, loaded or not."""
        return self.text_encoder is not None or self.text_source is not None

    def prompt_note(self, prompt: str, name: str = "the prompt") -> tuple[str, ...]:
        """What is to be told of a prompt, which is that the models do not read it to its end. name: what it is called
        there."""
        if not self.reads_prompts:
            return ()
        known, note = self.contexts.note(self.context_identity, prompt)
        if not known:
            note = cut_note(self.need("text_encoder").tokenizer, prompt)
        return () if note is None else (note.replace("the prompt", name, 1),)


def load_models(
    checkpoints: str | Path | Sequence[str | Path],
    *,
    text_encoder: str | Path | None = None,
    upsampler: str | Path | None = None,
    loras: Sequence[LoraChoice | tuple[str | Path, float]] = (),
    distilled_lora: str | Path | None = None,
    tiny_decoder: str | Path | None = None,
    config: PipelineConfig = PipelineConfig(),  # noqa: B008 (frozen)
    progress: Callable[[Progress], None] | None = None,
) -> Models:
    """Load every network that the files hold.

    checkpoints: one file that holds all, or the split files of a release. text_encoder: Gemma, a file or folder.
    upsampler: the spatial x2 latent upsampler. loras: files with strengths, merged into the transformer, or on the copy
    of the stage that they name. distilled_lora: the one that a dev model refines with; the transformer itself never has
    it. tiny_decoder: a tiny autoencoder, whose decoder draws drafts. Raises CheckpointError (not a checkpoint, no
    transformer, LoRA with no matching key); other networks may be missing until they are needed.
    """
    paths = [checkpoints] if isinstance(checkpoints, (str, Path)) else list(checkpoints)
    cache = ContextCache(folder=None if config.cache is None else ContextFolder(config.cache, config.cache_bytes))
    loading, checkpoint = _Loading(config, progress), open_checkpoint(paths)
    read, of_stages = _read_loras(loras)
    half = {"sound_only": True} if config.sound_only else {}
    transformer = loading.take(
        load.load_transformer, checkpoint, config.transformer, loras=read, **half, **loading.attention, **loading.large
    )
    if config.compile:
        transformer.compile_blocks()
    found = _networks(loading, checkpoint)
    if upsampler is not None:
        file = open_checkpoint(upsampler)
        found["upsampler"] = loading.take(load.load_upsampler, file, config.upsampler)
        check_upsampler(found["upsampler"].config)
    if tiny_decoder is not None:
        found["tiny_decoder"] = load.load_tiny_decoder(
            open_checkpoint(tiny_decoder), dtype=config.video_vae, device=loading.device
        )
    text = _Text(loading, checkpoint, text_encoder, read)
    shapes = text.put_in(found, cache.folder)
    loading.report(_Loading.STEPS)
    result = Models(
        config=config,
        release=release(model_version(checkpoint), str(checkpoint)),
        names=tuple(dict.fromkeys(model_name(path) for path in checkpoint.paths)),
        transformer=transformer,
        distilled_lora=None if distilled_lora is None else read_refine_lora(distilled_lora, transformer),
        stage_loras=tuple(read_stage_lora(one, transformer) for one in of_stages),
        missing=loading.missing,
        contexts=cache,
        own_placement=_placement(config, transformer),
        **found,
    )
    return _with_reports(result, read, model_version(checkpoint), shapes)


def _placement(config: PipelineConfig, transformer: nn.Module) -> Placement | None:
    """What brings networks to the device by itself, block by block or to stay while there is room."""
    plan = config.memory
    limit = None if plan is None else plan.budget
    if config.offload == "layers":
        blocks_on_device = 0 if plan is None else plan.blocks_on_device
        return LayeredPlacement(config.device, first=transformer, blocks_on_device=blocks_on_device, limit_bytes=limit)
    on_card = torch.device(config.device).type == "cuda"
    return WarmPlacement(config.device, limit) if config.offload == "stage" and on_card else None


def with_temporal_upsampler(models: Models, path: str | Path) -> Models:
    """The same models with the temporal x2 latent upsampler of a file. Raises CheckpointError for another file, and
    RequestError for an upsampler of another kind."""
    loading = _Loading(models.config, None)
    network = loading.take(load.load_upsampler, open_checkpoint(path), models.config.upsampler)
    check_temporal_upsampler(network.config)
    return replace(models, temporal_upsampler=network)


def _read_loras(
    loras: Sequence[LoraChoice | tuple[str | Path, float]],
) -> tuple[list[tuple[Lora, float]], list[LoraChoice]]:
    """The LoRAs of both stages, opened, and those of one."""
    chosen = [one if isinstance(one, LoraChoice) else LoraChoice(*one) for one in loras]
    read = [(read_lora(one.path), one.strength) for one in chosen if one.stage is None]
    return read, [one for one in chosen if one.stage is not None]


class _Loading:
    """One network after another as a configuration asks for, counted for the bar.

    missing: what no file holds, and which one to load for it. attention: how networks of tokens attend; large: options
    of what fills a card: the transformer and everything of the text.
    """

    STEPS = 10

    def __init__(self, config: PipelineConfig, progress: Callable[[Progress], None] | None) -> None:
        self.config, self._progress, self._done = config, progress, 0
        self.missing: dict[str, str] = dict(NOT_NAMED)
        self.attention: dict[str, Any] = {"attention": attention_way(config.attention, config.device)}
        self.large: dict[str, Any] = {"ops": OFFLOAD_OPS} if config.offload == "layers" else {}

    @property
    def device(self) -> str:
        """Where the weights lie while nobody works."""
        return self.config.device if self.config.offload == "none" else "cpu"

    def report(self, done: int) -> None:
        if self._progress is not None:
            self._progress(Progress("loading", done, self.STEPS))

    def take(self, loader: Callable, source: Any, dtype: torch.dtype, **options: Any) -> Any:
        """One network. Raises MissingComponent when no file holds it."""
        self.report(self._done)
        self._done += 1
        return loader(source, dtype=dtype, device=self.device, quantized=self.config.quantized, **options)

    def try_to_take(self, name: str, loader: Callable, source: Any, dtype: torch.dtype, **options: Any) -> Any:
        """One network, or None when no file holds it."""
        try:
            return self.take(loader, source, dtype, **options)
        except MissingComponent as error:
            self.missing[name] = str(error)
            return None


def _networks(loading: _Loading, checkpoint: Checkpoint) -> dict[str, Any]:
    """The autoencoders that these files hold, by their field's name."""
    config = loading.config
    table: dict[str, tuple[Callable, torch.dtype]] = {
        "video_encoder": (load.load_video_encoder, config.video_vae),
        "video_decoder": (load.load_video_decoder, config.video_vae),
        "audio_encoder": (load.load_audio_encoder, config.audio_vae),
        "audio_decoder": (load.load_audio_decoder, config.audio_vae),
        "vocoder": (load.load_vocoder, config.vocoder),
    }
    return {name: loading.try_to_take(name, loader, checkpoint, dtype) for name, (loader, dtype) in table.items()}


@dataclass(frozen=True, eq=False)
class _Text:
    """What reads prompts, as files: Gemma, which may be None, and a checkpoint with what joins it to the model."""

    loading: _Loading
    checkpoint: Checkpoint
    encoder: str | Path | None
    loras: Sequence[tuple[Lora, float]]

    def put_in(self, found: dict[str, Any], folder: ContextFolder | None) -> dict[str, Any] | None:
        """Add the networks to what was found, or what loads them when a prompt is new: such files were loaded before,
        and are known to fit. Returns their shapes where they were not loaded, for LoRAs."""
        if folder is None or self.encoder is None:
            found |= self.load()
            if not any(found.get(name) is None for name in TEXT_PARTS):
                networks = found["text_projection"], found["connectors"]
                found["context_identity"] = context_identity(found["text_encoder"], *networks)
            return None
        source, facts = text_source(self._files, folder, self.load, self._facts)
        if facts is not None:
            found["context_identity"] = facts["contexts"]
        if source.is_loaded or facts is None:
            found |= source.parts
            return None
        found["text_source"] = source
        return {name: {one: tuple(shape) for one, shape in of_one.items()} for name, of_one in facts["shapes"].items()}

    def _facts(self, parts: Mapping[str, Any]) -> dict[str, Any] | None:
        if any(parts.get(name) is None for name in TEXT_PARTS):
            return None
        return {
            "shapes": {name: weight_shapes(one) for name, one in _text_modules(parts).items()} if self.loras else {}
        }

    def load(self) -> dict[str, Any]:
        """The networks by their field's name. Raises CheckpointError for a text encoder of another release."""
        config, loading, where = self.loading.config, self.loading, self.checkpoint
        options = {"loras": self.loras, **loading.large}
        encoder = None
        if self.encoder is None:
            loading.missing["text_encoder"] = "no text encoder was loaded: name the release's Gemma file or folder"
        else:
            encoder = loading.take(load_text_encoder, self.encoder, config.text_encoder, loras=self.loras)
            # the text projection of 2.5 is in the text encoder's file
            where = open_checkpoint(self.checkpoint.paths, encoder_files(self.encoder))
        if encoder is not None and loading.large:
            model = with_ops(encoder.model, OFFLOAD_OPS, dtype=config.text_encoder)
            encoder = replace(encoder, model=model, compute_device=torch.device(config.device))
        found = {"text_encoder": encoder}
        for name, loader, file, more in (
            ("text_projection", load.load_text_projection, where, {}),
            ("connectors", load.load_connectors, self.checkpoint, loading.attention),
        ):
            found[name] = loading.try_to_take(name, loader, file, config.text_encoder, **options, **more)
        if not any(found[name] is None for name in TEXT_PARTS):
            known = release(model_version(self.checkpoint), str(self.checkpoint))
            name = self.checkpoint.paths[0].name
            check_gemma_version(encoder, self.checkpoint.metadata, name, known.text_encoder)
        return found

    @property
    def _files(self) -> TextFiles:
        config = self.loading.config
        kind = torch.device(config.device).type
        settings = (
            config.text_encoder,
            config.quantized,
            kind,
            config.attention,
            *(strength for _, strength in self.loras),
        )
        others = (*self.checkpoint.paths, *(lora.path for lora, _ in self.loras))
        files = text_files(str(self.encoder), encoder_files(str(self.encoder)), others)
        return TextFiles(tuple(files), settings)


def _text_modules(found: Mapping[str, Any]) -> dict[str, nn.Module]:
    """The networks of the text under the names that LoRA reports use."""
    video, audio = found.get("connectors") or (None, None)
    encoder = found.get("text_encoder")
    modules = {
        "video_connector": video,
        "audio_connector": audio,
        "text_projection": found.get("text_projection"),
        "text_encoder": None if encoder is None else encoder.model,
    }
    return {name: module for name, module in modules.items() if module is not None}


def read_refine_lora(path: str | Path, transformer: nn.Module) -> Lora:
    """The LoRA of stages of few steps, checked before any of them runs. Raises CheckpointError when it does not fit the
    transformer or holds numbers that are none."""
    lora = read_lora(path)
    match_lora(lora, weight_shapes(transformer))
    check_lora(lora)
    return lora


def _with_reports(
    models: Models,
    loras: Sequence[tuple[Lora, float]],
    version: Version | None,
    shapes: Mapping[str, Any] | None = None,
) -> Models:
    """What of the LoRAs took effect in the networks that were loaded, or will be. version: of the transformer; shapes:
    of those of the text that were not loaded yet."""
    text = _text_modules(vars(models)) if shapes is None else shapes
    networks = {"transformer": models.transformer, **text}
    reports = tuple((report_lora(lora, networks), strength) for lora, strength in loras)
    notes = [note for report, _ in reports for note in report.notes()]
    if models.distilled_lora is not None:
        notes += report_lora(models.distilled_lora, {"transformer": models.transformer}).notes()
    for lora in {one.lora.path: one.lora for one in models.stage_loras}.values():
        notes += report_notes(report_lora(lora, {"transformer": models.transformer}))
    notes += repeated_notes([(lora.path, strength) for lora, strength in loras])
    all_loras = (*(lora for lora, _ in loras), *(one.lora for one in models.stage_loras))
    given = (*all_loras, *filter(None, [models.distilled_lora]))
    for lora in {one.path: one for one in given}.values():
        notes += other_model_notes(lora, version)
    references = tuple(lora for lora in all_loras if lora.reference is not None or lora.takes_voice)
    return replace(models, loras=reports, reference_loras=references, notes=tuple(notes))
