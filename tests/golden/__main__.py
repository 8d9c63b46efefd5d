"""Recompute golden files: ``python -m tests.golden DIR…`` prints ``name  max_abs_diff`` a line, exit 1 above 1e-4
(fp32)."""

import importlib
import json
import math
import pkgutil
import sys
from pathlib import Path

import torch
from safetensors import safe_open

from . import LIMIT


def checkers():
    """Modules of this package that know a kind of golden: ``matches(path, metadata)`` and ``differences(path)``."""
    for info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if not info.name.startswith("_"):
            module = importlib.import_module(f"tests.golden.{info.name}")
            if hasattr(module, "matches"):
                yield module


def metadata_of(path: Path) -> dict:
    if path.suffix == ".json":
        loaded = json.loads(path.read_text("utf-8"))
        return loaded if isinstance(loaded, dict) else {}
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def differences(module, path: Path):
    """A file's differences; one that cannot be computed is infinitely far off, and the others are still checked."""
    try:
        yield from module.differences(path)
    except Exception as error:
        print(f"{path}: {type(error).__name__}: {error}", file=sys.stderr)
        yield path.stem, math.inf


def main(folders: list[str]) -> int:
    if not folders:
        print(__doc__)
        return 2
    torch.set_grad_enabled(False)
    known = list(checkers())
    bad, seen = False, 0
    for folder in folders:
        for path in sorted(p for p in Path(folder).rglob("*") if p.suffix in (".safetensors", ".json")):
            metadata = metadata_of(path)
            for module in known:
                if module.matches(path, metadata):
                    for name, difference in differences(module, path):
                        print(f"{name}  {difference:.3g}", flush=True)
                        bad, seen = bad or not difference <= LIMIT, seen + 1  # NaN is bad too
                    break
    if not seen:
        print(f"no golden file of a known kind in {', '.join(folders)}", file=sys.stderr)
        return 2
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
