"""The same blocks in the published package, where it can be imported."""

import torch

from tests.networks.released_shapes import CONFIGS

from .denoising import stages
from .networks import few_blocks, inputs, transformer
from .session import Session, rounded


def ltx_core(session: Session) -> None:
    """A step of ltx-core's transformer and of ours with the same weights, on a few blocks."""
    try:
        from ltx_core.guidance.perturbations import BatchedPerturbationConfig, PerturbationConfig
        from ltx_core.model.transformer.modality import Modality
        from ltx_core.model.transformer.model_configurator import LTXModelConfigurator
    except ImportError as error:
        session.record("ltx-core", "all", **{"left out": str(error)[:80]})
        return
    config = few_blocks(session)
    ours = transformer(config, session.device, av_timestep_mode="cross")
    with torch.device("meta"):
        theirs = LTXModelConfigurator.from_config({"transformer": published_config(config)})
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)
    theirs = theirs.eval().requires_grad_(False)
    chosen = stages(session)
    for name, clip in session.few((chosen[0], chosen[-1])):
        streams = inputs(session, clip)
        fields = ("latent", "timesteps", "sigma", "positions", "context", "context_mask", "attention_mask")
        given = [Modality(**{name: getattr(stream, name) for name in fields}) for stream in streams]
        nothing = BatchedPerturbationConfig([PerturbationConfig([])])
        figures = {"blocks": config.layers, "tokens": clip.tokens}
        own = session.time(lambda streams=streams: ours(*streams))
        session.record("ltx-core", f"{name}, ours", **figures, **own.figures)
        other = session.time(lambda given=given, nothing=nothing: theirs(*given, nothing))
        ratio = {"to ours": rounded(other.seconds / own.seconds)}
        session.record("ltx-core", f"{name}, ltx-core", **figures, **other.figures, **ratio)


def published_config(config) -> dict:
    """A transformer's configuration as checkpoints of the published package hold it."""
    return {
        **CONFIGS["2.3"],
        "num_layers": config.layers,
        "num_attention_heads": config.heads,
        "attention_head_dim": config.head_dim,
        "cross_attention_dim": config.context_width,
        "audio_num_attention_heads": config.audio_heads,
        "audio_attention_head_dim": config.audio_head_dim,
        "audio_cross_attention_dim": config.audio_context_width,
    }
