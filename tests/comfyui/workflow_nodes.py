"""What the example workflows are written with: nodes with settings and links, and the model files that they name."""

from dataclasses import dataclass, field, replace
from typing import Any

OURS = "LTX2Continuum"


@dataclass(frozen=True)
class Link:
    node: str
    output: str


@dataclass(frozen=True)
class Node:
    """group: the frame that it stands in, below the others of the same column of that frame; frames flow from left to
    right in rows. control: what the page does with its seed after each run."""

    name: str
    kind: str
    inputs: dict[str, Any] = field(default_factory=dict)
    title: str | None = None
    column: int = 0
    group: str | None = None
    control: str = "fixed"


@dataclass(frozen=True)
class Workflow:
    title: str
    note: str
    nodes: tuple[Node, ...]


def ours(name: str, kind: str, title: str | None = None, column: int = 0, **inputs) -> Node:
    return Node(name, OURS + kind, inputs, title, column)


def grouped(group: str, *nodes: Node) -> tuple[Node, ...]:
    """Nodes in one frame, below each other."""
    return tuple(replace(node, group=group) for node in nodes)


def native(name: str, kind: str, title: str | None = None, column: int = 0, **inputs) -> Node:
    return Node(name, kind, inputs, title, column)


CHECKPOINT = "ltx-2.3-22b-distilled-fp8.safetensors"
GEMMA = "gemma_3_12B_it_fp4_mixed.safetensors"
UPSAMPLER = "ltx-2.3-spatial-upscaler-x2-1.1.safetensors"
TEMPORAL_UPSAMPLER = "ltx-2.3-temporal-upscaler-x2-1.0.safetensors"
DEV = "ltx-2.3-22b-dev-fp8.safetensors"
DISTILLED = "ltx_2.3_22b_distilled_1.1_lora_dynamic_fro09_avg_rank_111_bf16.safetensors"
UNION = "ltx-2.3-22b-ic-lora-union-control-ref0.5.safetensors"
SHEET = "ltx-2.3-22b-ic-lora-ingredients-0.9.safetensors"
INPAINT = "ltx-2.3-22b-ic-lora-in-outpainting-0.9.safetensors"
VOICE = "ltx-2.3-id-lora-talkvid-3k.safetensors"
DUB = "ltx-2.3-22b-ic-lora-dubit-0.9.safetensors"
MOGE = "moge_2_vitl_normal_fp16.safetensors"
TRANSFORMER_25 = "ltx-2.5-22b-distilled-transformer-comfy-int8-convrot.safetensors"
VIDEO_VAE_25 = "ltx-2.5-video-vae-bf16.safetensors"
AUDIO_VAE_25 = "ltx-2.5-audio-vae-bf16.safetensors"
GEMMA_25 = "gemma4-12b-with-proj-ltx-2.5-comfy-int8-convrot.safetensors"
UPSAMPLER_25 = "ltx-2.5-latent-spatial-upscaler-x2-bf16-1.0.safetensors"
WRITER = "gemma4_e2b_it_int8_convrot.safetensors"
_HUB = "https://huggingface.co"
# file name → (directory below models/, address)
MODELS = {
    CHECKPOINT: ("checkpoints", f"{_HUB}/Lightricks/LTX-2.3-fp8/resolve/main/{CHECKPOINT}"),
    GEMMA: ("text_encoders", f"{_HUB}/Comfy-Org/ltx-2/resolve/main/split_files/text_encoders/{GEMMA}"),
    UPSAMPLER: ("latent_upscale_models", f"{_HUB}/Lightricks/LTX-2.3/resolve/main/{UPSAMPLER}"),
    TEMPORAL_UPSAMPLER: ("latent_upscale_models", f"{_HUB}/Lightricks/LTX-2.3/resolve/main/{TEMPORAL_UPSAMPLER}"),
    DEV: ("checkpoints", f"{_HUB}/Lightricks/LTX-2.3-fp8/resolve/main/{DEV}"),
    DISTILLED: ("loras", f"{_HUB}/Comfy-Org/ltx-2.3/resolve/main/split_files/loras/{DISTILLED}"),
    UNION: ("loras", f"{_HUB}/Lightricks/LTX-2.3-22b-IC-LoRA-Union-Control/resolve/main/{UNION}"),
    SHEET: ("loras", f"{_HUB}/Comfy-Org/ltx-2.3/resolve/main/split_files/loras/{SHEET}"),
    INPAINT: ("loras", f"{_HUB}/Lightricks/LTX-2.3-22b-IC-LoRA-In-Outpainting/resolve/main/{INPAINT}"),
    VOICE: ("loras", f"{_HUB}/Comfy-Org/ltx-2.3/resolve/main/split_files/loras/{VOICE}"),
    DUB: ("loras", f"{_HUB}/Lightricks/LTX-2.3-22b-IC-LoRA-DubIt/resolve/main/{DUB}"),
    **{
        name: (folder, f"{_HUB}/Lightricks/LTX-2.5/resolve/main/{folder}/{name}")
        for name, folder in (
            (TRANSFORMER_25, "diffusion_models"),
            (VIDEO_VAE_25, "vae"),
            (AUDIO_VAE_25, "vae"),
            (GEMMA_25, "text_encoders"),
            (UPSAMPLER_25, "latent_upscale_models"),
        )
    },
    WRITER: ("text_encoders", f"{_HUB}/Comfy-Org/gemma-4/resolve/main/text_encoders/{WRITER}"),
    MOGE: ("geometry_estimation", f"{_HUB}/Comfy-Org/MoGe/resolve/main/geometry_estimation/{MOGE}"),
}
