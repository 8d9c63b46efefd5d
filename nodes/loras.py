"""LoRAs on a model in the host's hands, for all that it does or for one of two stages."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..ltx2.checkpoint.layout import components
from ..ltx2.checkpoint.lora import Lora, Scaled, match_lora, merged, read_lora, weight_shapes
from ..ltx2.checkpoint.lora_report import PREFIXES, LoraReport, other_model_notes, report_lora
from ..ltx2.checkpoint.reader import open_checkpoint
from ..ltx2.checkpoint.stage_loras import LoraChoice, StageLora, read_stage_lora, repeated_notes, report_notes
from . import host, patches
from .models import LORAS, keeps_quantized, transformer_of
from .sockets import Model, ModelValue

BOTH_STAGES = "both stages"
LORA_STAGES = {BOTH_STAGES: None, "first stage": 1, "second stage": 2}


class ApplyLora(host.io.ComfyNode):
    """A LoRA on a model."""

    @classmethod
    def define_schema(cls):
        io = host.io
        return host.schema(
            "ApplyLora",
            "Apply LTX-2 LoRA",
            "models",
            description="Adds a LoRA to a model, in both stages or in one of them. The model that was given stays as it is; several can be "
            "chained, the same LoRA with another strength in each stage too.",
            inputs=[
                host.field(Model, "model", "The model to add to."),
                host.field(
                    io.Combo, "lora", "A LoRA for this model, in models/loras.", options=host.model_names(*LORAS)
                ),
                host.field(
                    io.Float,
                    "strength",
                    "How much of it: 1 as trained, 0 none, below 0 the opposite.",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.01,
                ),
                host.field(
                    io.Combo,
                    "stages",
                    "Where it counts: in both stages, or in one of two alone; a preset of one stage has only the first.",
                    options=list(LORA_STAGES),
                    default=next(iter(LORA_STAGES)),
                    optional=True,
                ),
            ],
            outputs=[
                host.output(Model, "model", "The model with the LoRA."),
                host.output(io.String, "report", "What of the LoRA fits the model, and what it needs."),
            ],
        )

    @classmethod
    def execute(cls, model, lora, strength, stages=BOTH_STAGES):
        path = host.model_path(lora, *LORAS)
        if strength == 0:
            return host.io.NodeOutput(model, f"LoRA {path.name}: strength 0, the model is as it was")
        added, report, notes = with_lora(model, LoraChoice(path, strength, LORA_STAGES[stages]))
        where = "" if stages == BOTH_STAGES else f", strength {strength:g} in the {stages} alone"
        lines = dict.fromkeys((f"LoRA {path.name}: {report}{where}", *notes))
        return host.io.NodeOutput(added, "\n".join(lines), ui=host.tell(notes))


def with_lora(model: ModelValue, choice: LoraChoice) -> tuple[ModelValue, LoraReport, tuple[str, ...]]:
    """A model with one more LoRA, what of it fits, and what to tell; the given model stays as it is. Raises
    CheckpointError for a LoRA of another model."""
    path, strength = Path(choice.path), choice.strength
    lora = read_lora(path)
    found = components(open_checkpoint(*model.files))
    report = report_lora(lora, {name: found[name].shapes for name in PREFIXES if name in found})
    if not report.fitted and not report.elsewhere:
        match_lora(lora, found["transformer"].shapes)  # says what does not fit
    if choice.stage is not None:
        read_stage_lora(choice, found["transformer"].shapes)
        notes = (*report_notes(report), *other_model_notes(lora, model.version))
        added = replace(model, stage_loras=(*model.stage_loras, choice), notes=(*model.notes, *notes))
        return added, report, notes
    lasting = (*report.notes(), *other_model_notes(lora, model.version))
    lasting += repeated_notes([one for one in (*model.loras, (path, strength)) if one[0] == path])
    notes = lasting
    if report.for_text:
        notes += (
            f"LoRA {path.name}: {report.for_text} of its weights act where prompts are encoded: connect the model with the LoRA to Load "
            "LTX-2 Text Encoder",
        )
    patcher = lora_patcher(model, [(lora, strength)]) if report.fitted.get("transformer") else model.patcher
    added = replace(
        model,
        patcher=patcher,
        loras=(*model.loras, (path, strength)),
        text_loras=(*model.text_loras, *([(path, strength)] if report.for_text else [])),
        notes=(*model.notes, *lasting),
    )
    return added, report, notes


def stage_loras_of(model: ModelValue) -> tuple[StageLora, ...]:
    """The LoRAs that one stage alone runs with, opened."""
    return tuple(StageLora(read_lora(one.path), one.strength, one.stage) for one in model.stage_loras if one.stage)


def lora_patcher(model: ModelValue, added: Sequence[tuple[Lora, float]]):
    """A patcher of the same transformer with more LoRAs at strengths.

    Weights that keep their quantised form are read anew from the file with all LoRAs beside them; they share no memory
    that the host may move. Raises CheckpointError for a LoRA of another model and for numbers that are not finite.
    """
    network = model.patcher.model
    if keeps_quantized(network):
        loras = [*((read_lora(path), amount) for path, amount in model.loras), *added]
        return host.patcher(transformer_of(open_checkpoint(*model.files), loras))
    patcher = model.patcher
    for lora, strength in added:
        patcher = _patched(patcher, network, lora, strength)
    return patcher


def _patched(patcher, network: torch.nn.Module, lora: Lora, strength: float):
    """A clone of a patcher of a network with one LoRA more."""
    matched = match_lora(lora, weight_shapes(network)).matched
    tables = [name for name in matched if any(network.get_submodule(name.rpartition(".")[0]).children())]
    layers = {name: Scaled(found, 1.0).load("cpu") for name, found in matched.items() if name not in tables}
    clone, _ = patches.with_lora(patcher, layers, strength)
    return patches.with_tables(clone, lambda name, table: merged(table, [Scaled(matched[name], strength)]), tables)


NODES = [ApplyLora]
