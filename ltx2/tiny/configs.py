"""Configs of the tiny checkpoints: the released ones, key by key, with small widths and depths.

Latent geometry is the real one: 128 latent channels, 8 × 32 × 32 compression, audio latents of 8 × 16, released sample
rates.
"""

from . import text as tiny_text

VERSIONS = ("2.0", "2.3", "2.5")
LATENT_CHANNELS = 128
LAYERS = 4
HEADS, HEAD, AUDIO_HEAD = 4, 16, 8
WIDTH, AUDIO_WIDTH = HEADS * HEAD, HEADS * AUDIO_HEAD
VAE_CHANNELS = 8


def _transformer_base() -> dict:
    """What the transformers of all versions share."""
    return {
        "_class_name": "AVTransformer3DModel",
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
        "attention_head_dim": HEAD,
        "attention_type": "default",
        "caption_channels": tiny_text.HIDDEN,
        "cross_attention_dim": WIDTH,
        "double_self_attention": False,
        "dropout": 0.0,
        "in_channels": LATENT_CHANNELS,
        "norm_elementwise_affine": False,
        "norm_eps": 1e-6,
        "norm_num_groups": 32,
        "num_attention_heads": HEADS,
        "num_embeds_ada_norm": 1000,
        "num_layers": LAYERS,
        "num_vector_embeds": None,
        "only_cross_attention": False,
        "cross_attention_norm": True,
        "out_channels": LATENT_CHANNELS,
        "upcast_attention": False,
        "use_linear_projection": False,
        "qk_norm": "rms_norm",
        "standardization_norm": "rms_norm",
        "positional_embedding_type": "rope",
        "positional_embedding_theta": 10000.0,
        "positional_embedding_max_pos": [20, 2048, 2048],
        "timestep_scale_multiplier": 1000,
        "av_ca_timestep_scale_multiplier": 1000.0,
        "causal_temporal_positioning": True,
        "audio_num_attention_heads": HEADS,
        "audio_attention_head_dim": AUDIO_HEAD,
        "use_audio_video_cross_attention": True,
        "share_ff": False,
        "audio_out_channels": 128,
        "audio_cross_attention_dim": AUDIO_WIDTH,
        "audio_positional_embedding_max_pos": [20],
        "av_cross_ada_norm": True,
        "use_embeddings_connector": True,
        "connector_attention_head_dim": HEAD,
        "connector_num_attention_heads": tiny_text.HIDDEN // HEAD,
        "connector_num_layers": 2,
        "connector_positional_embedding_max_pos": [4096],
        "connector_num_learnable_registers": 128,
        "connector_norm_output": True,
        "use_middle_indices_grid": True,
        "rope_type": "split",
        "frequencies_precision": "float64",
    }


def transformer(version: str) -> dict:
    """``config["transformer"]``; the keys that a release lacks are left out here as well."""
    config = _transformer_base()
    if version == "2.0":
        return config
    config |= {
        "connector_num_attention_heads": HEADS,
        "connector_num_layers": 1,
        "audio_connector_num_attention_heads": HEADS,
        "audio_connector_attention_head_dim": AUDIO_HEAD,
        "apply_gated_attention": True,
        "connector_apply_gated_attention": True,
        "cross_attention_adaln": True,
        "caption_proj_before_connector": True,
        "caption_projection_first_linear": False,
        "caption_projection_second_linear": False,
        "caption_proj_input_norm": False,
        "connector_learnable_registers_std": 1,
        "text_encoder_norm_type": "per_token_rms",
    }
    if version == "2.5":
        config |= {"text_encoder_norm_type": "PER_TOKEN_RMS", "ff_bias": False, "use_keyframes_abs_pos_embedding": True}
    return config


def scheduler() -> dict:
    """The scheduler's part of the metadata."""
    return {
        "_class_name": "RectifiedFlowScheduler",
        "_diffusers_version": "0.25.1",
        "num_train_timesteps": 1000,
        "shifting": None,
        "base_resolution": None,
        "target_shift_terminal": None,
        "sampler": "LinearQuadratic",
    }


def encoder_blocks(version: str) -> list:
    """The video encoder's blocks, as the metadata lists them."""
    last = 2 if version == "2.0" else 1
    kinds = [("space", 2), ("time", 2), ("all", 2), ("all", last)]
    blocks = [["res_x", {"num_layers": 1}]]
    for kind, multiplier in kinds:
        blocks += [[f"compress_{kind}_res", {"multiplier": multiplier}], ["res_x", {"num_layers": 1}]]
    return blocks


def decoder_blocks(version: str) -> list:
    """The video decoder's blocks, as the metadata lists them."""
    if version == "2.0":
        res = ["res_x", {"num_layers": 1, "inject_noise": False}]
        return [
            res,
            *(block for _ in range(3) for block in (["compress_all", {"residual": True, "multiplier": 2}], res)),
        ]
    res = ["res_x", {"num_layers": 1}]
    kinds = [("compress_space", 2), ("compress_time", 2), ("compress_all", 1), ("compress_all", 2)]
    return [res, *(block for kind, multiplier in kinds for block in ([kind, {"multiplier": multiplier}], res))]


def video_vae(version: str) -> dict:
    """``config["vae"]`` of the convolutional VAE."""
    config = {
        "_class_name": "CausalVideoAutoencoder",
        "dims": 3,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": LATENT_CHANNELS,
        "encoder_blocks": encoder_blocks(version),
        "decoder_blocks": decoder_blocks(version),
        "scaling_factor": 1.0,
        "norm_layer": "pixel_norm",
        "patch_size": 4,
        "latent_log_var": "uniform",
        "use_quant_conv": False,
        "causal_decoder": False,
        "timestep_conditioning": False,
        "encoder_base_channels": VAE_CHANNELS,
        "decoder_base_channels": VAE_CHANNELS,
    }
    if version != "2.0":
        config["spatial_padding_mode"] = "zeros"
    return config


def diffusion_vae() -> dict:
    """``config["vae"]`` of the 2.5 VAE with the diffusion decoder."""
    return {
        "_class_name": "CausalDiffusionVAE",
        "model_output_type": "x0",
        "encoder": {
            "dims": 3,
            "in_channels": 3,
            "out_channels": LATENT_CHANNELS,
            "blocks": encoder_blocks("2.5"),
            "patch_size": 4,
            "norm_layer": "pixel_norm",
            "latent_log_var": "constant",
            "base_channels": VAE_CHANNELS,
            "spatial_padding_mode": "zeros",
        },
        "decoder": {
            "_class_name": "NADiffusionDecoder",
            "in_channels": LATENT_CHANNELS,
            "out_channels": 3,
            "patch_size": 4,
            "head_dim": 16,
            "stage_channels": [128, 64, 32, 32, 16],
            "stage_depths": [1, 1, 1, 1, 1],
            # windows are narrower than the released ones: a few hundred keys a token are what one CPU core likes
            "stage_kernels": [[3, 3, 3], [3, 3, 3], [3, 5, 5], [3, 5, 5], [5, 5, 5]],
            "upsamples": [[[1, 2, 2], 2], [[2, 1, 1], 2], [[2, 2, 2], 1], [[2, 2, 2], 2]],
            "resampler_kind": "linear",
            "stage5_kernel": [5, 5, 5],
            "t_emb_dim": 32,
            "timestep_scale_multiplier": 1000.0,
            "default_num_inference_steps": 1,
            "spatial_padding_mode": "zeros",
        },
    }


def audio_vae() -> dict:
    """``config["audio_vae"]``, the same in all versions."""
    return {
        "model": {
            "params": {
                "sampling_rate": 16000,
                "ddconfig": {
                    "double_z": True,
                    "mel_bins": 64,
                    "z_channels": 8,
                    "resolution": 256,
                    "downsample_time": False,
                    "in_channels": 2,
                    "out_ch": 2,
                    "ch": 8,
                    "ch_mult": [1, 2, 4],
                    "num_res_blocks": 1,
                    "attn_resolutions": [],
                    "dropout": 0.0,
                    "mid_block_add_attention": False,
                    "norm_type": "pixel",
                    "causality_axis": "height",
                },
            }
        },
        "preprocessing": {
            "audio": {"sampling_rate": 16000, "max_wav_value": 32768.0, "stereo": True, "causal_padding": True},
            "stft": {"filter_length": 1024, "hop_length": 160, "win_length": 1024, "causal": True},
            "mel": {"n_mel_channels": 64, "mel_fmin": 0, "mel_fmax": 8000},
        },
    }


def vocoder(version: str) -> dict:
    """``config["vocoder"]``: 24 kHz for 2.0, 48 kHz through the bandwidth extension since 2.3. A stage has two blocks
    in place of three, one in the extension; a block has the released three dilations."""
    if version == "2.0":
        rates = {"upsample_rates": [6, 5, 2, 2, 2], "upsample_kernel_sizes": [16, 15, 8, 4, 4]}
        return {"resblock": "1", "upsample_initial_channel": 64, **rates, **_blocks([3, 7])}
    shared = {"resblock": "AMP1", "activation": "snakebeta", "use_bias_at_final": False, "use_tanh_at_final": False}
    return {
        "vocoder": {
            "upsample_initial_channel": 64,
            "upsample_rates": [5, 2, 2, 2, 2, 2],
            "upsample_kernel_sizes": [11, 4, 4, 4, 4, 4],
            **shared,
            **_blocks([3, 7]),
        },
        "bwe": {
            "upsample_initial_channel": 32,
            "upsample_rates": [6, 5, 2, 2, 2],
            "upsample_kernel_sizes": [12, 11, 4, 4, 4],
            "apply_final_activation": False,
            "input_sampling_rate": 16000,
            "output_sampling_rate": 48000,
            "hop_length": 80,
            "n_fft": 512,
            "win_size": 512,
            "num_mels": 64,
            **shared,
            **_blocks([3]),
        },
    }


def _blocks(kernels: list[int]) -> dict:
    """The residual blocks of a vocoder's stage, one for each kernel size."""
    dilations = [[1, 3, 5] for _ in kernels]
    return {"resblock_kernel_sizes": kernels, "resblock_dilation_sizes": dilations, "stereo": True}


def upsampler(*, spatial_scale: float = 2.0, temporal: bool = False, rational: bool = False) -> dict:
    """The flat config of an upsampler file."""
    return {
        "_class_name": "LatentUpsampler",
        "in_channels": LATENT_CHANNELS,
        "mid_channels": 32,
        "num_blocks_per_stage": 1,
        "dims": 3,
        "spatial_upsample": not temporal,
        "temporal_upsample": temporal,
        "spatial_scale": 1.0 if temporal else spatial_scale,
        "rational_resampler": rational,
    }


def duration_head() -> dict:
    """The config of the 2.5 duration head's file."""
    return {
        "transformer": {"cross_attention_dim": WIDTH, "audio_cross_attention_dim": AUDIO_WIDTH},
        "duration_head": {"pooler_hidden_dim": 16, "num_queries": 1, "num_pooler_heads": 4, "mlp_hidden": 16},
    }
