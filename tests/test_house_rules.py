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
    """What rules ask of a function: its name with the classes and functions around it; its parameters, but the object
    or class that a method belongs to; whether it is one of the file's public names (of a public class, or of the file
    itself), and whether all of it has types."""

    label: str
    name: str
    lines: int
    parameters: int
    public: bool
    typed: bool
    told: str

    @property
    def own_name(self) -> str:
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
class Class:
    """What rules ask of a class: whether it stands in no other, its bases, and which methods it documents."""

    label: str
    name: str
    at_top: bool
    bases: tuple[str, ...]
    methods: frozenset[str]
    told: str


@dataclass(frozen=True)
class Source:
    """What rules ask of a file. Its tree is not kept: all trees together are a million objects, which Python would look
    through again and again until its end."""

    place: str
    lines: int
    told: bool
    functions: tuple[Function, ...]
    classes: tuple[Class, ...]
    constants: tuple[tuple[str, str], ...]  # names and values
    messages: tuple[tuple[int, str], ...]  # lines and texts; of the engine and the nodes


def python_files(*folders: str) -> list[Path]:
    """All files, or those of some folders at the top."""
    tops = [ROOT / folder for folder in folders] or [
        top for top in ROOT.iterdir() if top.is_dir() and not top.name.startswith(".") and top.name not in NOT_OURS
    ]
    found = [path for top in tops for path in top.rglob("*.py") if not NOT_OURS & set(path.relative_to(ROOT).parts[1:])]
    return sorted([*found, *([] if folders else ROOT.glob("*.py"))])


def sources(*folders: str) -> list[Source]:
    return [source_of(path) for path in python_files(*folders)]


@functools.cache
def source_of(path: Path) -> Source:
    """A file, read once for all rules."""
    text, place = path.read_text("utf-8"), str(path.relative_to(ROOT))
    tree = ast.parse(text)
    functions: list[Function] = []
    classes: list[Class] = []

    def walk(node: ast.AST, around: tuple[str, ...], public: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                inside = (*around, child.name)
                functions.append(function_of(child, place, ".".join(inside), public))
                walk(child, inside, False)
            elif isinstance(child, ast.ClassDef):
                classes.append(class_of(child, place, node is tree))
                walk(child, (*around, child.name), public and not child.name.startswith("_"))
            elif not isinstance(child, ast.expr):
                walk(child, around, public)

    walk(tree, (), True)
    told = not tree.body or bool(ast.get_docstring(tree))
    messages = messages_of(tree) if Path(place).parts[0] in (ENGINE, "nodes") else ()
    return Source(
        place,
        len(text.splitlines()),
        told,
        tuple(functions),
        tuple(classes),
        tuple(constants_of(tree)),
        tuple(messages),
    )


def function_of(node: ast.FunctionDef | ast.AsyncFunctionDef, place: str, name: str, around: bool) -> Function:
    given = node.args
    stars = [one for one in (given.vararg, given.kwarg) if one]
    named = [a for a in (*given.posonlyargs, *given.args, *given.kwonlyargs, *stars) if a.arg not in ("self", "cls")]
    return Function(
        f"{place}::{name}",
        name,
        lines=node.end_lineno - node.lineno + 1,
        parameters=len(named),
        public=around and not node.name.startswith("_"),
        typed=node.returns is not None and all(a.annotation is not None for a in named),
        told=ast.get_docstring(node) or "",
    )


def class_of(node: ast.ClassDef, place: str, at_top: bool) -> Class:
    bases = tuple(ast.unparse(base).rpartition(".")[2] for base in node.bases)
    methods = {one.name for one in node.body if isinstance(one, ast.FunctionDef) and ast.get_docstring(one)}
    told = ast.get_docstring(node) or ""
    return Class(f"{place}::{node.name}", node.name, at_top, bases, frozenset(methods), told)


def long_files() -> Iterator[str]:
    """Files over 500 lines: split them by idea."""
    yield from (source.place for source in sources() if source.lines > FILE_LINES)


def long_functions() -> Iterator[str]:
    """Functions over 60 lines, docstring counted, decorators not: take them apart."""
    for source in sources():
        yield from (function.label for function in source.functions if function.lines > FUNCTION_LINES)


def wide_functions() -> Iterator[str]:
    """Functions of more than 8 parameters: bundle what travels together. Node signatures are free."""
    for source in sources():
        in_nodes = Path(source.place).parts[0] == "nodes"
        for function in source.functions:
            if function.parameters > PARAMETERS and not (in_nodes and function.own_name in NODE_SIGNATURES):
                yield function.label


def crowded_folders() -> Iterator[str]:
    """Folders of the engine with more than 14 files: two rooms in one."""
    for folder in {path.parent for path in python_files(ENGINE)}:
        if len(list(folder.glob("*.py"))) > FOLDER_FILES:
            yield str(folder.relative_to(ROOT))


def untyped_functions() -> Iterator[str]:
    """Public functions and methods of the engine without a type for a parameter or for the result."""
    for source in sources(ENGINE):
        yield from (function.label for function in source.functions if function.public and not function.typed)


def undocumented_functions() -> Iterator[str]:
    """Public functions, methods and classes of the engine, and files, without a docstring. A method may be documented
    by the protocol or the base class that it fulfils, and a network's ``forward`` by its class."""
    classes = {one.name: one for source in sources(ENGINE) for one in source.classes}
    of_protocols = {
        method
        for source in sources(ENGINE)
        for one in source.classes
        if "Protocol" in one.bases
        for method in one.methods
    }
    for source in sources(ENGINE):
        if not source.told:
            yield source.place
        yield from (one.label for one in source.classes if one.at_top and not one.name.startswith("_") and not one.told)
        for function in source.functions:
            owner = function.name.rpartition(".")[0]
            bases = classes[owner].bases if owner in classes else ()
            promised = owner and (
                function.own_name in of_protocols | {"forward"}
                or any(function.own_name in classes[base].methods for base in bases if base in classes)
            )
            if function.public and not promised and not function.told:
                yield function.label


def repeated_classes() -> Iterator[str]:
    """Names that two classes of the engine or the nodes share."""
    homes: dict[str, list[str]] = {}
    for source in sources(ENGINE, "nodes"):
        for one in source.classes:
            if one.at_top:
                homes.setdefault(one.name, []).append(source.place)
    yield from (f"{name}: {', '.join(places)}" for name, places in homes.items() if len(places) > 1)


def constants_of(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
            yield node.targets[0].id.lstrip("_"), ast.unparse(node.value)


def repeated_constants() -> Iterator[str]:
    """Constants that stand in two files of the engine or the nodes with one name and one value: write them once."""
    homes: dict[tuple[str, str], list[str]] = {}
    for source in sources(ENGINE, "nodes"):
        for constant in source.constants:
            homes.setdefault(constant, []).append(source.place)
    for (name, _), places in homes.items():
        if len(places) > 1 and name not in TWICE:
            yield f"{name}: {', '.join(places)}"


def text_of(node: ast.expr) -> str:
    """What a message says, with … where a value stands."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else "…"


def messages_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The longest text that each error or note is made of, and its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
            if called.endswith(("Error", "Warning")) or called in {"warn", "_warn", "error", "note"}:
                yield node.lineno, max(map(text_of, node.args), key=len)


def loud_messages() -> Iterator[str]:
    """Errors and notes that begin with a capital, names aside, end with a full stop, or are too long to be read."""
    for source in sources(ENGINE, "nodes"):
        for line, text in source.messages:
            shouted = text[:1].isupper() and text.split()[0] not in NAMES
            if shouted or text.endswith(".") or len(text) > MESSAGE_LETTERS:
                yield f"{source.place}:{line}: {text[:60]}"


def clipped_docstrings() -> Iterator[str]:
    """Docstrings that begin in the middle of a sentence, such as "Of the file": say what it is of the file."""
    for source in sources(ENGINE, "nodes"):
        yield from (one.label for one in (*source.functions, *source.classes) if one.told.startswith(CLIPPED))


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
