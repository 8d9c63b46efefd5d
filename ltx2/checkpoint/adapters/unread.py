"""Kinds of adapters that are not read here, told by the endings of their keys: named, so that nobody is sent to
download the file again."""

import re

_ENDINGS = (
    (r"lora_mid(?:\.weight)?", "a LoRA of convolutions in three factors (lora_mid)"),
    (r"hada_t[12]", "LoHa of convolutions (hada_t1)"),
    (r"lokr_t2", "LoKr of convolutions (lokr_t2)"),
    (r"(?:a1|a2|b1|b2|bm1|bm2)\.weight", "GLoRA"),
    (r"oft_diag", "OFT as LyCORIS stored it at first (oft_diag)"),
    (r"oft_[rs](?:\.\w+)?", "OFT as PEFT stored it before 0.14"),
    (r"b?oft_embedding_\w+(?:\.\w+)*", "OFT of an embedding"),
    (r"(?:lora_A|lora_down)(?:\.\w+)?\.bias", "a LoRA with a bias in its first factor"),
    (r"(?:on_input|ia3_l(?:\.\w+)*)", "IA³"),
    (r"vera_\w+(?:\.\w+)*", "VeRA"),
    (r"lora_embedding_[AB](?:\.\w+)*", "a LoRA of an embedding"),
    (r"set_weight", "weights that replace those of the model (set_weight)"),
    (r"reshape_weight", "a LoRA that changes the size of a weight (reshape_weight)"),
    (r"[wb]_norm", "differences of norms (w_norm)"),
    (r"(?:randlora|lora_ga|fourierft|waveft|hra|loha|vblora|bone|shira|miss)_\w+(?:\.\w+)*", "an adapter of PEFT's"),
)
INSTEAD = "get it as a plain LoRA, or as a model that it is merged into"
_KINDS = tuple((re.compile(rf".+\.(?:{ending})"), what) for ending, what in _ENDINGS)


def unread_kind(key: str) -> str | None:
    """What kind of adapter a key is of, where it is one that is not read here."""
    return next((what for pattern, what in _KINDS if pattern.fullmatch(key)), None)
