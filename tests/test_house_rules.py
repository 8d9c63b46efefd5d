"""How long and how wide the code may be, and what it must say of itself, measured in every Python file."""

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENGINE = "ltx2"
FILE_LINES, FUNCTION_LINES, PARAMETERS, FOLDER_FILES = 500, 60, 8, 14
# made here and not written
NOT_OURS = {"build", "demo", "dist", "out", "__pycache__"}
CLIPPED = ("Of ", "As it ", "For people")
# every format counts its versions; the launcher is asked for before anything of the engine is imported
TWICE = {"VERSION", "LAUNCHER_VARIABLE"}
# how a message may begin, and how long it may be before its values are in it
NAMES, MESSAGE_LETTERS = {"LoRA", "WAV", "Hold"}, 300
# a node's sockets are its parameters: the host calls these with one argument for each
NODE_SIGNATURES = {"execute", "validate_inputs", "fingerprint_inputs", "check_lazy_status"}


@dataclass(frozen=True)
class Function:
    """A function of a file: its name with the classes and functions around it, and whether it is one of the file's
    public names (of a public class, or of the file itself)."""

    path: Path
    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef
    public: bool

    @property
    def label(self) -> str:
        return f"{self.path.relative_to(ROOT)}::{self.name}"

    @property
    def arguments(self) -> list[ast.arg]:
        """All but the object or class that a method belongs to."""
        given = self.node.args
        stars = [one for one in (given.vararg, given.kwarg) if one]
        return [a for a in (*given.posonlyargs, *given.args, *given.kwonlyargs, *stars) if a.arg not in ("self", "cls")]


def python_files(*folders: str) -> list[Path]:
    """All files, or those of some folders at the top."""
    tops = [ROOT / folder for folder in folders] or [
        top for top in ROOT.iterdir() if top.is_dir() and not top.name.startswith(".") and top.name not in NOT_OURS
    ]
    found = [path for top in tops for path in top.rglob("*.py") if not NOT_OURS & set(path.relative_to(ROOT).parts[1:])]
    return sorted([*found, *([] if folders else ROOT.glob("*.py"))])


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """A file, read once for all rules."""
    return ast.parse(path.read_text("utf-8"))


def functions_of(path: Path) -> Iterator[Function]:
    def walk(node: ast.AST, around: tuple[str, ...], public: bool) -> Iterator[Function]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                open_name = public and not child.name.startswith("_")
                yield Function(path, ".".join((*around, child.name)), child, open_name)
                yield from walk(child, (*around, child.name), False)
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, (*around, child.name), public and not child.name.startswith("_"))
            else:
                yield from walk(child, around, public)

    return walk(tree_of(path), (), True)


def long_files() -> Iterator[str]:
    """Files over 500 lines: split them by idea."""
    for path in python_files():
        if len(path.read_text("utf-8").splitlines()) > FILE_LINES:
            yield str(path.relative_to(ROOT))


def long_functions() -> Iterator[str]:
    """Functions over 60 lines, docstring counted, decorators not: take them apart."""
    for path in python_files():
        for function in functions_of(path):
            if function.node.end_lineno - function.node.lineno + 1 > FUNCTION_LINES:
                yield function.label


def wide_functions() -> Iterator[str]:
    """Functions of more than 8 parameters: bundle what travels together. Node signatures are free."""
    for path in python_files():
        in_nodes = path.relative_to(ROOT).parts[0] == "nodes"
        for function in functions_of(path):
            if len(function.arguments) > PARAMETERS and not (in_nodes and function.node.name in NODE_SIGNATURES):
                yield function.label


def crowded_folders() -> Iterator[str]:
    """Folders of the engine with more than 14 files: two rooms in one."""
    for folder in {path.parent for path in python_files(ENGINE)}:
        if len(list(folder.glob("*.py"))) > FOLDER_FILES:
            yield str(folder.relative_to(ROOT))


def untyped_functions() -> Iterator[str]:
    """Public functions and methods of the engine without a type for a parameter or for the result."""
    for path in python_files(ENGINE):
        for function in functions_of(path):
            missing = function.node.returns is None or any(a.annotation is None for a in function.arguments)
            if function.public and missing:
                yield function.label


def promised_methods() -> tuple[set[str], dict[str, tuple[set[str], list[str]]]]:
    """Methods that protocols document; and for every class of the engine what it documents, and its bases."""
    of_protocols: set[str] = set()
    classes: dict[str, tuple[set[str], list[str]]] = {}
    for path in python_files(ENGINE):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                told = {one.name for one in node.body if isinstance(one, ast.FunctionDef) and ast.get_docstring(one)}
                bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
                classes[node.name] = told, bases
                of_protocols |= told if "Protocol" in bases else set()
    return of_protocols, classes


def undocumented_functions() -> Iterator[str]:
    """Public functions, methods and classes of the engine, and files, without a docstring. A method may be documented
    by the protocol or the base class that it fulfils, and a network's ``forward`` by its class."""
    of_protocols, classes = promised_methods()
    for path in python_files(ENGINE):
        tree = tree_of(path)
        if tree.body and not ast.get_docstring(tree):
            yield str(path.relative_to(ROOT))
        for node in tree.body:
            public = isinstance(node, ast.ClassDef) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                yield f"{path.relative_to(ROOT)}::{node.name}"
        for function in functions_of(path):
            owner, _, name = function.name.rpartition(".")
            bases = classes.get(owner, (set(), []))[1] if owner else []
            promised = owner and (
                name in of_protocols | {"forward"} or any(name in classes[b][0] for b in bases if b in classes)
            )
            if function.public and not promised and not ast.get_docstring(function.node):
                yield function.label


def repeated_classes() -> Iterator[str]:
    """Names that two classes of the engine or the nodes share."""
    homes: dict[str, list[str]] = {}
    for path in python_files(ENGINE, ROOT / "nodes"):
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    yield from (f"{name}: {', '.join(places)}" for name, places in homes.items() if len(places) > 1)


def repeated_constants() -> Iterator[str]:
    """Constants that stand in two files of the engine or the nodes with one name and one value: write them once."""
    homes: dict[tuple[str, str], list[str]] = {}
    for path in python_files(ENGINE, ROOT / "nodes"):
        for node in tree_of(path).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
                name = node.targets[0].id.lstrip("_")
                homes.setdefault((name, ast.unparse(node.value)), []).append(str(path.relative_to(ROOT)))
    for (name, _), places in homes.items():
        if len(places) > 1 and name not in TWICE:
            yield f"{name}: {', '.join(places)}"


def text_of(node: ast.expr) -> str:
    """What a message says, with … where a value stands."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "…"


def loud_messages() -> Iterator[str]:
    """Errors and notes that begin with a capital, names aside, end with a full stop, or are too long to be read."""
    for path in python_files(ENGINE, "nodes"):
        for node in ast.walk(tree_of(path)):
            called = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) and node.args else ""
            if called.endswith(("Error", "Warning")) or called in {"warn", "_warn", "error", "note"}:
                text = max(map(text_of, node.args), key=len)
                shouted = text[:1].isupper() and text.split()[0] not in NAMES
                if shouted or text.endswith(".") or len(text) > MESSAGE_LETTERS:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}: {text[:60]}"


def clipped_docstrings() -> Iterator[str]:
    """Docstrings that begin in the middle of a sentence, such as "Of the file": say what it is of the file."""
    for path in python_files(ENGINE, "nodes"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                if (ast.get_docstring(node) or "").startswith(CLIPPED):
                    yield f"{path.relative_to(ROOT)}::{node.name}"


RULES = (
    long_files,
    long_functions,
    wide_functions,
    crowded_folders,
    untyped_functions,
    undocumented_functions,
    repeated_classes,
    repeated_constants,
    loud_messages,
    clipped_docstrings,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_holds(rule):
    offenders = sorted(rule())
    assert not offenders, f"{rule.__doc__}\n" + "\n".join(offenders)


def test_what_is_measured(tmp_path, monkeypatch):
    """Each rule finds its offender, and lets pass what is at the limit or free."""
    body = "\n".join(f"    x = {n}" for n in range(FUNCTION_LINES))
    told = '    """Told."""\n'
    protocol = f"class Told(Protocol):\n{told}    def told(self) -> None:\n    {told}"
    names = ", ".join(f"a{n}" for n in range(PARAMETERS + 1))
    (tmp_path / "ltx2/room").mkdir(parents=True)
    (tmp_path / "nodes").mkdir()
    (tmp_path / "ltx2/room/long.py").write_text('"""Long."""\n' + "\n" * FILE_LINES)
    (tmp_path / "ltx2/room/functions.py").write_text(f'''"""Functions."""
def long(a: int) -> None:
    """Long."""
{body}
def fits() -> None:
    """Fits."""
    {body[4:].rpartition(chr(10))[0].rpartition(chr(10))[0]}
class Wide:
    def wide(self, {names}): ...
    def _hidden(self, {names[:30]}): ...
    def typed(self, *a: int, **b: int) -> None: ...
    def told(self) -> None: ...
    def forward(self) -> None: ...
class Heir(Wide):
    """Documents what is above it not."""
    def told(self) -> None: ...
{protocol}class _Hidden:
    def method(self, a): ...
''')
    (tmp_path / "nodes/node.py").write_text(
        f'_LIMIT = 3\nclass Node:\n    """Of it."""\n    def execute(cls, {names}): ...\n    def other({names}): ...\n'
    )
    for n in range(FOLDER_FILES - 1):
        (tmp_path / f"ltx2/room/empty_{n}.py").write_text('"""Empty."""\n')
    (tmp_path / "ltx2/room/empty_0.py").write_text('"""Not empty."""\nclass Node:\n    """Another."""\n')
    (tmp_path / "ltx2/room/empty_1.py").write_text('"""Not empty."""\nLIMIT = 3\nOTHER = 3\nVERSION = 1\n')
    (tmp_path / "ltx2/room/empty_2.py").write_text('"""Not empty."""\nOTHER = 4\nVERSION = 1\n')
    (tmp_path / "ltx2/room/empty_3.py").write_text('"""Not empty."""\nraise E(ValueError("LoRA is quiet"))\n')
    (tmp_path / "ltx2/room/empty_4.py").write_text('"""Not empty."""\nraise AnError(f"{1} is loud.")\n')
    (tmp_path / "ltx2/room/empty_5.py").write_text('"""Not empty."""\nwarn("Loud too")\n')
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    functions = "ltx2/room/functions.py::"
    assert {rule.__name__: set(rule()) for rule in RULES} == {
        "long_files": {"ltx2/room/long.py"},
        "long_functions": {functions + "long"},
        "wide_functions": {functions + "Wide.wide", "nodes/node.py::Node.other"},
        "crowded_folders": {"ltx2/room"},
        "untyped_functions": {functions + "Wide.wide"},
        "repeated_classes": {"Node: ltx2/room/empty_0.py, nodes/node.py"},
        "repeated_constants": {"LIMIT: ltx2/room/empty_1.py, nodes/node.py"},
        "loud_messages": {"ltx2/room/empty_4.py:2: … is loud.", "ltx2/room/empty_5.py:2: Loud too"},
        "clipped_docstrings": {"nodes/node.py::Node"},
        "undocumented_functions": {functions + "Wide", functions + "Wide.wide", functions + "Wide.typed"},
    }
