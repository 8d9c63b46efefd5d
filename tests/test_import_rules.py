"""Who may know whom. The rooms of the engine only look one way, and nothing in it knows ComfyUI."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENGINE = ROOT / "ltx2"

EVERYONE = {
    "clock",
    "config",
    "values",
    "errors",
    "resampling",
    "atomic_files",
    "system",
    "version",
    "mini",
    "__init__",
}
ALLOWED = {
    "errors": set(),
    "clock": set(),
    "values": set(),
    "resampling": set(),
    "atomic_files": set(),
    "system": set(),
    "version": set(),
    "mini": set(),
    "config": set(),
    "networks": {"networks"},
    "sampling": {"sampling"},
    "media": {"media"},
    "checkpoint": {"checkpoint", "networks"},
    "tiny": {"tiny", "checkpoint", "networks", "text"},
    "text": {"text", "networks", "checkpoint"},
    "stages": {"stages", "networks", "sampling", "text", "media", "checkpoint"},
    "continuation": {"continuation"},
    "film": {"film", "continuation", "media"},
    "story": {"story", "stages", "film", "continuation", "media"},
    "parallel": {"parallel", "checkpoint", "networks", "sampling", "stages", "text"},
    "cli": {
        "parallel",
        "cli",
        "checkpoint",
        "networks",
        "sampling",
        "text",
        "stages",
        "continuation",
        "film",
        "story",
        "media",
        "tiny",
    },
    "__init__": {"checkpoint", "stages", "continuation", "film", "story", "media"},
    "__main__": {"cli"},
}
# A service that forwards states needs nothing else: the room of the state knows these of the files that everyone may
# know.
STATE_KNOWS = {"clock", "errors", "atomic_files", "system"}
HOST = {
    "comfy",
    "comfy_api",
    "comfy_execution",
    "folder_paths",
    "server",
    "nodes",
    "node_helpers",
    "latent_preview",
    "execution",
}


def modules(folder: Path):
    return sorted(p for p in folder.rglob("*.py") if "__pycache__" not in p.parts)


@functools.cache
def source_of(path: Path) -> tuple[list[ast.Import | ast.ImportFrom], list[tuple[int, str]]]:
    """All imports of a file, also inside functions, and all calls of a plain name with their lines; read once."""
    imports, calls = [], []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imports.append(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            calls.append((node.lineno, node.func.id))
    return imports, calls


def imported(path: Path, top: Path):
    """Absolute dotted names of everything a file imports."""
    package = ("ltx2", *path.relative_to(top).parent.parts)
    for node in source_of(path)[0]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif not node.level:
            yield node.module
        else:
            base = package[: len(package) - node.level + 1]
            stem = ".".join((*base, *([node.module] if node.module else [])))
            yield from ([stem] if node.module else [f"{stem}.{alias.name}" for alias in node.names])


@pytest.mark.parametrize("path", modules(ENGINE), ids=lambda p: str(p.relative_to(ENGINE)))
def test_rooms_look_one_way(path):
    parts = path.relative_to(ENGINE).with_suffix("").parts
    room = parts[0]
    for name in imported(path, ENGINE):
        top, *rest = name.split(".")
        assert top not in HOST, f"{path.name} imports {name}: the engine never knows ComfyUI"
        if top != "ltx2" or not rest:
            continue
        target = rest[0]
        assert target in EVERYONE | {"__version__"} | ALLOWED[room], f"ltx2/{'/'.join(parts)} must not import {name}"
        if room == "continuation":
            assert target in STATE_KNOWS | {"continuation"}, f"ltx2/{'/'.join(parts)} must not import {name}"


@pytest.mark.parametrize("path", [*modules(ENGINE), *modules(ROOT / "nodes")], ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_safe(path):
    imports, calls = source_of(path)
    for line, name in calls:
        assert name not in {"eval", "exec", "print"} or "cli" in path.parts, f"line {line}: {name}"
    for node in imports:
        names = {alias.name.split(".")[0] for alias in node.names} | {
            (getattr(node, "module", None) or "").split(".")[0]
        }
        assert not names & {"pickle", "marshal", "urllib", "requests", "socket"}, f"line {node.lineno}: {names}"


def test_only_one_file_of_the_nodes_knows_the_host():
    for path in modules(ROOT / "nodes"):
        if path.name == "host.py":
            continue
        for node in source_of(path)[0]:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            assert not {n.split(".")[0] for n in names} & HOST, f"nodes/{path.name} imports {names}: only host.py may"
