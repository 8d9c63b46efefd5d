import functools

import pytest
import torch

from ltx2.stages.models import PipelineConfig, load_models, with_temporal_upsampler

# Single precision is faster than bfloat16 on a CPU.
FAST = PipelineConfig(
    transformer=torch.float32,
    text_encoder=torch.float32,
    video_vae=torch.float32,
    upsampler=torch.float32,
    latents=torch.float32,
)


def checkpoints_of(files):
    return list(dict.fromkeys(files[role] for role in ("transformer", "video_vae", "audio_vae", "vocoder")))


@pytest.fixture(scope="session")
def models(tiny):
    """``models("2.3")`` → all tiny networks of a version, loaded once."""

    @functools.cache
    def load(version):
        files = tiny(version)
        loaded = load_models(
            checkpoints_of(files),
            text_encoder=files["text_encoder"],
            upsampler=files["spatial_upsampler"],
            distilled_lora=files["distilled_lora"],
            config=FAST,
        )
        return with_temporal_upsampler(loaded, files["temporal_upsampler"])

    return load
