"""What a LoRA is for, as far as its file tells: by what its metadata says, what it changes, and what it is called."""

import re
from dataclasses import dataclass

from .lora import Lora
from .lora_report import TEXT_NETWORKS, network_of

IC, DUB, ID, DISTILLED, TEXT, STYLE = KINDS = (
    "IC-LoRA", "dubbing IC-LoRA", "ID-LoRA", "distilled LoRA", "text-encoder LoRA", "LoRA",
)  # fmt: skip
_DISTILLED = re.compile(r"distill", re.IGNORECASE)
_DUB = re.compile(r"dub[-_ ]?it(?![a-z])|lip[-_ ]?dub", re.IGNORECASE)
# What IC-LoRAs look at, by a word in their name; the first that fits counts.
_REFERENCES = (
    ("union", "a control film of depth, edges (canny) or poses, whichever is shown"),
    ("depth", "a depth film"),
    ("canny", "a film of edges (canny)"),
    ("pose", "a film of poses"),
    ("track", "a film of drawn tracks"),
    ("ingredient", "a reference sheet, one picture with everything that is to appear"),
    ("paint", "a film in which what is to be filled is painted over in RGB 102, 255, 0"),
    ("detail", "the film that gets more detail"),
    ("upscal", "the film that is enlarged"),
    ("hdr", "the film that is changed"),
)  # fmt: skip


@dataclass(frozen=True)
class Purpose:
    """kind: one of KINDS; use: what it does and how it is given, in a few words."""

    kind: str
    use: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.use}"


def purpose_of(lora: Lora) -> Purpose:
    """What a LoRA is for. A plain one is for style, subject or motion, which its file does not tell."""
    names = " ".join(lora.names)
    if _DUB.search(names):
        return Purpose(DUB, "has a film spoken anew in its own voice: ltx2 dub, node Dub Video")
    if lora.reference is not None:
        looked_at = next((what for word, what in _REFERENCES if word in names.lower()), "a film or picture")
        return Purpose(IC, f"looks at {looked_at}: --lora FILE@1 --reference FILE, node Reference Video")
    if lora.takes_voice:
        return Purpose(ID, "speaks with the voice of a recording: --lora FILE@1 --voice FILE, node Reference Voice")
    if all(network_of(name) in TEXT_NETWORKS for name in lora.differences):
        return Purpose(TEXT, "changes how prompts are read or written: --lora, as any other")
    if _DISTILLED.search(names):
        return Purpose(DISTILLED, "makes a dev model fit for few steps: --refine-lora, or distilled_lora of the loader")
    return Purpose(STYLE, "style, subject or motion: --lora, node Apply LoRA")
