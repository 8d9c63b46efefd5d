"""The trained demonstration model: where its files are, and that the name ``mini`` stands for them.

A small model in LTX-2.3's layout, made by ``training/``. It knows a world of 3 × 4 cells with one object in it, and
what that sounds like; README.md beside this file is its card. Wherever a checkpoint or a text encoder is asked for,
its name will do.
"""

from pathlib import Path

NAME = "mini"
_FOLDER = Path(__file__).resolve().parent
CHECKPOINT = _FOLDER / "ltx-2.3-mini-distilled.safetensors"
TEXT_ENCODER = _FOLDER / "gemma_3_mini.safetensors"


def is_mini(name: str | Path) -> bool:
    """Whether a model is asked for by the name ``mini``. A file or folder of that name in the working folder goes
    first."""
    return str(name) == NAME and not Path(name).exists()


def checkpoint_path(name: str | Path) -> str | Path:
    """The demonstration model's checkpoint for its name, any other path as it is."""
    return CHECKPOINT if is_mini(name) else name


def text_encoder_path(name: str | Path) -> str | Path:
    """The demonstration model's Gemma for its name, any other path as it is."""
    return TEXT_ENCODER if is_mini(name) else name
