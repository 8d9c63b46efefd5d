"""The published packages as references for the transformer: our weights and inputs put the way they want them."""

import contextlib
import dataclasses

import torch

RENAMED_IN_DIFFUSERS = (  # longest first, each a part of a name
    ("av_ca_video_scale_shift_adaln_single", "av_cross_attn_video_scale_shift"),
    ("av_ca_audio_scale_shift_adaln_single", "av_cross_attn_audio_scale_shift"),
    ("av_ca_a2v_gate_adaln_single", "av_cross_attn_video_a2v_gate"),
    ("av_ca_v2a_gate_adaln_single", "av_cross_attn_audio_v2a_gate"),
    ("scale_shift_table_a2v_ca_video", "video_a2v_cross_attn_scale_shift_table"),
    ("scale_shift_table_a2v_ca_audio", "audio_a2v_cross_attn_scale_shift_table"),
    ("prompt_adaln_single", "prompt_adaln"),
    ("adaln_single", "time_embed"),
    ("patchify_proj", "proj_in"),
    ("q_norm", "norm_q"),
    ("k_norm", "norm_k"),
    ("transformer_1d_blocks", "transformer_blocks"),
)


def diffusers_name(name: str) -> str:
    for ours, theirs in RENAMED_IN_DIFFUSERS:
        name = name.replace(ours, theirs)
    return name


def ltx_core_model(config: dict, weights: dict):
    """The network of ltx-core 1.0.0 with our weights. Of 2.5 it does not know the feed-forward without bias: zeros are
    put."""
    from ltx_core.model.transformer.model_configurator import LTXModelConfigurator

    weights = dict(weights)
    keyframes = weights.pop("keyframes_abs_pos_embedding", None)
    model = LTXModelConfigurator.from_config({"transformer": config})
    for name, tensor in model.state_dict().items():
        if ".ff." in name and name.endswith(".bias") and name not in weights:
            weights[name] = torch.zeros(tensor.shape)
    model.load_state_dict(weights, strict=True, assign=True)
    model.for_keyframes = keyframes
    return model.eval()


def ltx_core(model, inputs: dict, mode: str = "hybrid"):
    """Velocities of an ``ltx_core_model``; it knows ``cross``, to which ``hybrid`` adds scale and shift from the own
    timesteps. The keyframe embedding of 2.5 is added from outside."""
    from ltx_core.guidance.perturbations import (
        BatchedPerturbationConfig,
        Perturbation,
        PerturbationConfig,
        PerturbationType,
    )
    from ltx_core.model.transformer.modality import Modality

    hooks = contextlib.ExitStack()
    if model.for_keyframes is not None:
        added = (inputs["video"]["keyframes_mask"] > 0) * model.for_keyframes
        hooks.callback(model.patchify_proj.register_forward_hook(lambda layer, given, out: out + added).remove)
    streams = []
    for name in ("video", "audio"):
        given = {"context_mask": None, "attention_mask": None, **inputs[name]}
        given.pop("keyframes_mask", None)
        streams.append(Modality(**given))
    samples = inputs["perturbations"] or [[] for _ in inputs["video"]["latent"]]
    perturbations = [
        PerturbationConfig([Perturbation(PerturbationType[kind], blocks) for kind, blocks in sample])
        for sample in samples
    ]
    with hooks, torch.no_grad(), _own_scale_and_shift() if mode == "hybrid" else contextlib.nullcontext():
        return model(*streams, BatchedPerturbationConfig(perturbations))


@contextlib.contextmanager
def _own_scale_and_shift():
    from ltx_core.model.transformer.transformer_args import MultiModalTransformerArgsPreprocessor as Preprocessor

    published = Preprocessor.prepare

    def prepare(self, modality, cross_modality=None):
        args = published(self, modality, cross_modality)
        if cross_modality is None:
            return args
        steps = (modality.timesteps * self.simple_preprocessor.timestep_scale_multiplier).flatten()
        rows, _ = self.cross_scale_shift_adaln(steps, hidden_dtype=modality.latent.dtype)
        return dataclasses.replace(args, cross_scale_shift_timestep=rows.view(len(args.x), -1, rows.shape[-1]))

    Preprocessor.prepare = prepare
    try:
        yield
    finally:
        Preprocessor.prepare = published


def diffusers_model(config: dict, weights: dict):
    """Its network with our weights."""
    from diffusers import LTX2VideoTransformer3DModel

    later, gated = config.get("cross_attention_adaln", False), config.get("apply_gated_attention", False)
    extra = (
        {"use_keyframes_abs_pos_embedding": True, "ff_bias": False}
        if config.get("use_keyframes_abs_pos_embedding")
        else {}
    )
    model = LTX2VideoTransformer3DModel(
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        num_attention_heads=config["num_attention_heads"],
        attention_head_dim=config["attention_head_dim"],
        cross_attention_dim=config["cross_attention_dim"],
        gated_attn=gated,
        audio_in_channels=config["audio_in_channels"],
        audio_out_channels=config["audio_out_channels"],
        cross_attn_mod=later,
        audio_num_attention_heads=config["audio_num_attention_heads"],
        audio_attention_head_dim=config["audio_attention_head_dim"],
        audio_cross_attention_dim=config["audio_cross_attention_dim"],
        audio_gated_attn=gated,
        audio_cross_attn_mod=later,
        num_layers=config["num_layers"],
        caption_channels=config["caption_channels"],
        rope_type=config["rope_type"],
        rope_double_precision=config["frequencies_precision"] == "float64",
        timestep_scale_multiplier=1000,
        cross_attn_timestep_scale_multiplier=1000,
        use_prompt_embeddings=not later,
        perturbed_attn=True,
        **extra,
    )
    model.load_state_dict({diffusers_name(name): tensor for name, tensor in weights.items()}, strict=True, assign=True)
    return model.eval()


def diffusers(model, inputs: dict, mode: str = "cross"):
    """Velocities of a ``diffusers_model``, which knows ``cross`` and ``own``, and one block list for both streams."""
    video, audio = inputs["video"], inputs["audio"]
    options = {"use_cross_timestep": mode == "cross"}
    samples = inputs["perturbations"]
    if samples and samples[0][0][0].endswith("CROSS_ATTN"):
        options["isolate_modalities"] = True
    elif samples:
        options["spatio_temporal_guidance_blocks"] = samples[0][0][1]
        options["perturbation_mask"] = torch.zeros(len(samples))
    with torch.no_grad():
        return model(
            hidden_states=video["latent"],
            audio_hidden_states=audio["latent"],
            encoder_hidden_states=video["context"],
            audio_encoder_hidden_states=audio["context"],
            timestep=video["timesteps"][..., 0] * 1000,
            audio_timestep=audio["timesteps"][..., 0] * 1000,
            sigma=video["sigma"] * 1000,
            audio_sigma=audio["sigma"] * 1000,
            encoder_attention_mask=video.get("context_mask"),
            audio_encoder_attention_mask=audio.get("context_mask"),
            video_coords=video["positions"],
            audio_coords=audio["positions"],
            video_self_attention_mask=video.get("attention_mask"),
            video_keyframes_mask=video.get("keyframes_mask"),
            return_dict=False,
            **options,
        )


def ltx_core_contexts(config: dict, weights: dict, states: torch.Tensor, mask: torch.Tensor):
    """Contexts of ltx-core 1.0.0, which takes one sample at a time; ``weights`` under the names of a file."""
    from ltx_core.text_encoders.gemma.embeddings_connector import (
        AudioEmbeddings1DConnectorConfigurator,
        Embeddings1DConnectorConfigurator,
    )
    from ltx_core.text_encoders.gemma.embeddings_processor import EmbeddingsProcessor
    from ltx_core.text_encoders.gemma.feature_extractor import FeatureExtractorV1, FeatureExtractorV2

    prefix = "text_embedding_projection."
    flat, hidden = states.shape[2] * states.shape[3], states.shape[2]

    def projection(name):
        return torch.nn.Linear(flat, len(weights[f"{prefix}{name}.weight"]), bias=f"{prefix}{name}.bias" in weights)

    if f"{prefix}aggregate_embed.weight" in weights:
        extractor = FeatureExtractorV1(projection("aggregate_embed"), is_av=True)
    else:
        extractor = FeatureExtractorV2(projection("video_aggregate_embed"), hidden, projection("audio_aggregate_embed"))
    whole = {"transformer": config}
    processor = EmbeddingsProcessor(
        feature_extractor=extractor,
        video_connector=Embeddings1DConnectorConfigurator.from_config(whole),
        audio_connector=AudioEmbeddings1DConnectorConfigurator.from_config(whole),
    )
    renames = (("_embeddings_connector.", "_connector."), (prefix, "feature_extractor."))
    renamed = {name.replace(*renames[0]).replace(*renames[1]): tensor for name, tensor in weights.items()}
    processor.load_state_dict(renamed, strict=True, assign=True)
    with torch.no_grad():
        outs = [
            processor.process_hidden_states(tuple(s[None].unbind(-1)), m[None], "left") for s, m in zip(states, mask)
        ]
    return [torch.cat([out[i] for out in outs]) for i in range(2)]


def diffusers_contexts(config: dict, weights: dict, states: torch.Tensor, mask: torch.Tensor):
    """Contexts of diffusers; ``weights`` under the names of a file."""
    from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors

    heads, head_dim = config["connector_num_attention_heads"], config["connector_attention_head_dim"]
    audio_heads = config.get("audio_connector_num_attention_heads", heads)
    audio_head_dim = config.get("audio_connector_attention_head_dim", head_dim)
    later, gated = (
        config.get("caption_proj_before_connector", False),
        config.get("connector_apply_gated_attention", False),
    )
    model = LTX2TextConnectors(
        caption_channels=states.shape[2],
        text_proj_in_factor=states.shape[3],
        video_connector_num_attention_heads=heads,
        video_connector_attention_head_dim=head_dim,
        video_connector_num_layers=config["connector_num_layers"],
        video_gated_attn=gated,
        audio_connector_num_attention_heads=audio_heads,
        audio_connector_attention_head_dim=audio_head_dim,
        audio_connector_num_layers=config["connector_num_layers"],
        audio_gated_attn=gated,
        connector_rope_base_seq_len=4096,
        rope_double_precision=config["frequencies_precision"] == "float64",
        rope_type=config["rope_type"],
        per_modality_projections=later,
        video_hidden_dim=heads * head_dim,
        audio_hidden_dim=audio_heads * audio_head_dim,
        proj_bias=later,
    )
    renamed = {}
    for name, tensor in weights.items():
        name = name.replace("_embeddings_connector", "_connector").replace("text_embedding_projection.", "")
        renamed[diffusers_name(name.replace("aggregate_embed", "text_proj_in"))] = tensor
    model.load_state_dict(renamed, strict=True)
    with torch.no_grad():
        return model.eval()(states, mask)[:2]
