"""The preset that a kind of LoRA was made for, by release."""

from ...checkpoint.lora_purpose import DISTILLED, DUB, IC, ID, Purpose

# as the official templates and pipelines run them: of LTX-2.0, and of later releases
_PRESETS = {
    IC: ("ltx2_distilled", "ltx2_3_distilled"),
    DUB: ("ltx2_quality", "ltx2_quality"),
    ID: ("ltx2_hq", "ltx2_3_template"),
    DISTILLED: ("ltx2_hq", "ltx2_3_template"),
}
_MODELS = {IC: "distilled", DUB: "distilled", ID: "dev, with its distilled LoRA", DISTILLED: "dev"}


def preset_for_lora(purpose: Purpose, *, first_release: bool) -> tuple[str, str] | None:
    """Name of a preset and the kind of model that it runs on; None where every preset does. first_release: the LoRA is
    for LTX-2.0."""
    if purpose.kind not in _PRESETS:
        return None
    old, new = _PRESETS[purpose.kind]
    return old if first_release else new, _MODELS[purpose.kind]
