"""What the code may not ask of a system, since Windows, macOS or Python 3.10 has it not, or means something else by
it: read from the files, whatever machine they are read on."""

import ast
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ltx2.atomic_files import is_portable_below

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("ltx2", "nodes", "examples")
OWN = (*PRODUCT, "training", "benchmarks", "docs")
SYSTEM = "ltx2/system.py"  # where systems are told apart

POSIX_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "crypt", "syslog", "curses"}
WINDOWS_MODULES = {"msvcrt", "winreg", "_winapi", "winsound"}
POSIX_OS = {
    *("fork", "forkpty", "setsid", "setpgid", "setpgrp", "killpg", "getpgid", "getsid", "getuid", "geteuid", "getgid"),
    *("sysconf", "uname", "mkfifo", "mknod", "chown", "chroot", "nice", "wait", "wait3", "waitid", "statvfs", "sync"),
    *("O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "O_SYNC", "pread", "pwrite", "sendfile", "posix_fadvise", "getloadavg"),
    *("sched_getaffinity", "sched_setaffinity", "sched_yield", "getpriority", "pipe2", "register_at_fork", "WNOHANG"),
}
POSIX_SIGNALS = {
    *("SIGKILL", "SIGALRM", "SIGHUP", "SIGSTOP", "SIGCONT", "SIGCHLD", "SIGPIPE", "SIGQUIT", "SIGTSTP", "SIGWINCH"),
    *("SIGUSR1", "SIGUSR2", "alarm", "pause", "setitimer", "getitimer", "pthread_sigmask", "pthread_kill", "sigwait"),
}
# Where it is asked for only after the system was, beside uses that ``hasattr`` stands before.
KNOWN = {
    "ltx2/atomic_files.py: os.O_NOFOLLOW",
    "ltx2/stages/memory.py: os.sysconf",
    "ltx2/parallel/pool.py: thread.join",  # of threads whose workers have ended
    "ltx2/stages/memory.py: /proc/meminfo",
}
# Names that came after Python 3.10, by the module that has them.
NEWER = {
    "datetime": {"UTC"},
    "typing": {
        *("Self", "Never", "LiteralString", "assert_never", "assert_type", "reveal_type", "Required", "NotRequired"),
        *("Unpack", "TypeVarTuple", "override", "TypeAliasType", "dataclass_transform", "ReadOnly", "TypeIs"),
    },
    "enum": {"StrEnum", "ReprEnum", "verify", "member", "nonmember", "global_enum", "EnumCheck"},
    "itertools": {"batched"},
    "hashlib": {"file_digest"},
    "contextlib": {"chdir"},
    "asyncio": {"TaskGroup", "timeout", "timeout_at", "Runner", "Barrier"},
    "math": {"cbrt", "exp2", "sumprod", "fma"},
    "operator": {"call", "is_none"},
    "sys": {"exception", "monitoring"},
    "os": {"EX_OK", "listdrives", "process_cpu_count", "unshare"},
    "re": {"NOFLAG"},
    "http": {"HTTPMethod"},
    "inspect": {"getmembers_static", "markcoroutinefunction", "BufferFlags"},
    "warnings": {"deprecated"},
    "copy": {"replace"},
    "functools": {"Placeholder"},
    "collections.abc": {"Buffer"},
    "queue": {"ShutDown"},
}
NEWER_MODULES = {"tomllib", "compression", "annotationlib", "wsgiref.types"}
NEWER_METHODS = {
    "walk": "Path",
    "is_junction": "Path",
    "add_note": "Exception",
    "from_uri": "Path",
    "full_match": "Path",
}
NEWER_KEYWORDS = {
    "rmtree": {"onexc"},
    "NamedTemporaryFile": {"delete_on_close"},
    "glob": {"include_hidden", "case_sensitive"},
    "catch_warnings": {"action"},
    "dataclass": {"weakref_slot"},
}
NEWER_NAMES = {"ExceptionGroup", "BaseExceptionGroup", "PythonFinalizationError"}


KINDS = (ast.Call, ast.Attribute, ast.Import, ast.ImportFrom, ast.Name, ast.Constant, getattr(ast, "TryStar", ()))


def nodes_of(tree: ast.AST) -> list[ast.AST]:
    """What rules look at; every node knows the function around it."""
    found: list[ast.AST] = []

    def walk(node: ast.AST, around: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, KINDS):
                child.around = around
                found.append(child)
            walk(child, child if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) else around)

    walk(tree, tree)
    return found


def files() -> Iterator[tuple[str, list[ast.AST]]]:
    """Every file of the project but its tests: its place, and what rules look at."""
    paths = [path for folder in OWN for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts]
    for path in sorted([*paths, *ROOT.glob("*.py")]):
        tree = ast.parse(path.read_text("utf-8"), feature_version=(3, 10))
        yield path.relative_to(ROOT).as_posix(), nodes_of(tree)


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of a name; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def called(node: ast.AST) -> str:
    """The last part of the name of what is called; empty for what is no call."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)


def known_as(node: ast.AST) -> str:
    """What an offender is called in the list of those that are known."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    return dotted(node.func if isinstance(node, ast.Call) else node)


def words(node: ast.Call) -> set[str | None]:
    return {keyword.arg for keyword in node.keywords}


def modules_of(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    return {node.module or ""} if isinstance(node, ast.ImportFrom) and not node.level else set()


def is_asked_first(node: ast.AST) -> bool:
    """Whether the function around asks with ``hasattr`` or ``getattr`` what the module has."""
    asked = [one for one in ast.walk(node.around) if called(one) in ("hasattr", "getattr")]
    return any(dotted(one.args[0]) == dotted(node.value) for one in asked)


def unnamed_encoding(node: ast.AST) -> bool:
    """Text is UTF-8 wherever the program runs: every file that is opened as text, and every program that is talked to,
    names its encoding."""
    name = called(node)
    if not name or "encoding" in words(node):
        return False
    if name in ("read_text", "write_text"):
        return len(node.args) <= (name == "write_text")
    if name in ("run", "Popen", "check_output"):
        return bool(words(node) & {"text", "universal_newlines"})
    temporary, whole = name.endswith("TemporaryFile"), dotted(node.func)
    if temporary or whole in ("open", "io.open", "os.fdopen"):
        given = [keyword.value for keyword in node.keywords if keyword.arg == "mode"]
        given += node.args[0 if temporary else 1 :][:1]
        return "b" not in ast.unparse(given[0]) if given else not temporary
    of_path = name == "open" and len(node.args) == 1 and isinstance(node.args[0], ast.Constant)
    return of_path and node.args[0].value in ("r", "w", "a", "x", "r+", "w+")


def bare_rename(node: ast.AST) -> bool:
    """A file is renamed by ``ltx2/system.py`` alone, which waits for who has it open."""
    name = called(node)
    if name not in ("replace", "rename", "renames", "move") or not isinstance(node.func, ast.Attribute):
        return False
    whole = dotted(node.func)
    if whole in ("os.rename", "os.replace", "os.renames", "shutil.move"):
        return True
    return name != "move" and len(node.args) == 1 and not node.keywords and not whole.startswith("system.")


def foreign_module(node: ast.AST) -> bool:
    """No module that only one system has is imported by name."""
    return bool({name.partition(".")[0] for name in modules_of(node)} & (POSIX_MODULES | WINDOWS_MODULES))


def foreign_name(node: ast.AST) -> bool:
    """What Windows' ``os`` and ``signal`` have not is asked for only behind ``hasattr``."""
    if not isinstance(node, ast.Attribute):
        return False
    missing = {"os": POSIX_OS, "signal": POSIX_SIGNALS}.get(dotted(node.value), set())
    return node.attr in missing and not is_asked_first(node)


def fork(node: ast.AST) -> bool:
    """No process is forked, and none is started with what POSIX alone has."""
    if not called(node):
        return False
    forked = any(isinstance(one, ast.Constant) and one.value in ("fork", "forkserver") for one in node.args)
    return forked or bool(words(node) & {"preexec_fn", "start_new_session", "process_group", "pass_fds"})


def endless_wait(node: ast.AST) -> bool:
    """No thread is waited for without an end: on Windows the keyboard is not heard meanwhile."""
    return called(node) == "join" and not node.args and not node.keywords


def place(node: ast.AST) -> bool:
    """No place of one system's is written down."""
    text = node.value if isinstance(node, ast.Constant) else None
    return isinstance(text, str) and text.startswith(("/tmp", "/proc/", "/dev/", "/var/", "/home/", "C:\\"))


def newer_name(node: ast.AST) -> bool:
    """Nothing that came after Python 3.10 is used, unless the version was asked first."""
    if isinstance(node, ast.ImportFrom) and {alias.name for alias in node.names} & NEWER.get(node.module or "", set()):
        return True
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return bool(modules_of(node) & NEWER_MODULES)
    if isinstance(node, ast.Name):
        return node.id in NEWER_NAMES
    if isinstance(node, ast.Attribute):
        holder = dotted(node.value)
        newer = node.attr in NEWER.get(holder, set()) and not is_asked_first(node)
        return newer or (node.attr in NEWER_METHODS and holder not in ("os", "ast"))
    if isinstance(node, ast.Call):
        return bool(words(node) & NEWER_KEYWORDS.get(called(node), set()))
    return not isinstance(node, ast.Constant)  # except*


RULES = {
    unnamed_encoding: OWN,
    bare_rename: ("ltx2", "nodes"),
    foreign_module: PRODUCT,
    foreign_name: (*PRODUCT, "training"),
    fork: PRODUCT,
    endless_wait: PRODUCT,
    place: PRODUCT,
    newer_name: OWN,
}


@functools.cache
def offenders() -> dict[Callable[[ast.AST], bool], list[str]]:
    """What each rule finds. Files are read once for all rules and not kept: all trees together are a million objects,
    which Python would look through again and again until its end."""
    found: dict[Callable[[ast.AST], bool], list[str]] = {rule: [] for rule in RULES}
    for where, nodes in files():
        rules = [rule for rule, tops in RULES.items() if "/" not in where or where.partition("/")[0] in tops]
        for rule in rules if where != SYSTEM else ():
            found[rule] += (
                f"{where}:{node.lineno}: {ast.unparse(node)[:80]}"
                for node in nodes
                if rule(node) and f"{where}: {known_as(node)}" not in KNOWN
            )
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_holds(rule):
    found = offenders()[rule]
    assert not found, f"{rule.__doc__}\n" + "\n".join(found)


WRONG = {
    unnamed_encoding: (
        "open(p)", "open(p, 'w')", "p.read_text()", "p.write_text(t)", "p.open('w')", "os.fdopen(3)",
        "subprocess.run(c, text=True)", "tempfile.NamedTemporaryFile('w')",
    ),
    bare_rename: ("os.replace(a, b)", "os.rename(a, b)", "a.replace(b)", "a.with_suffix('.x').rename(b)"),
    foreign_module: ("import fcntl", "from resource import getrusage", "import msvcrt"),
    foreign_name: ("os.fork()", "os.kill(1, signal.SIGKILL)", "signal.alarm(3)", "os.open(p, os.O_DIRECTORY)"),
    fork: ("get_context('fork')", "Popen(c, start_new_session=True)"),
    endless_wait: ("thread.join()",),
    place: ("open('/tmp/x', 'rb')", "Path('/proc/self/maps')"),
    newer_name: (
        "import tomllib", "from datetime import UTC", "datetime.UTC", "raise ExceptionGroup('x', [])", "p.walk()",
        "from typing import Self", "hashlib.file_digest(f, 'x')", "shutil.rmtree(p, onexc=f)",
    ),
}  # fmt: skip
RIGHT = (
    "open(p, 'rb')", "open(p, encoding='utf-8')", "p.read_text('utf-8')", "p.write_text(t, 'utf-8')", "av.open(p)",
    "Image.open(p)", "subprocess.run(c)", "text.replace('a', 'b')", "dataclasses.replace(a, x=1)", "os.walk(p)",
    "system.replace(a, b)", "os.kill(1, signal.SIGTERM)", "tempfile.TemporaryFile()", "Path('/prompt')",
    "def f():\n    return hashlib.file_digest(x, 'y') if hasattr(hashlib, 'file_digest') else None",
    "def f():\n    if hasattr(signal, 'SIGALRM'):\n        signal.setitimer(1, 2)",
)  # fmt: skip


def test_every_system_can_check_the_project_out():
    tops = (*OWN, "tests", "web", "locales", "example_workflows")
    places = [
        path.relative_to(ROOT) for top in tops for path in (ROOT / top).rglob("*") if "__pycache__" not in path.parts
    ]
    assert not [one for one in places if not is_portable_below(one.as_posix())]
    assert len({one.as_posix().casefold() for one in places}) == len(places)
    # Windows takes 260 characters, and ComfyUI's folder has its own
    assert max(len(str(one)) for one in places) <= 120
    assert "* text=auto eol=lf" in (ROOT / ".gitattributes").read_text("utf-8").splitlines()


def test_what_is_found():
    for rule, texts in WRONG.items():
        for text in texts:
            assert any(map(rule, nodes_of(ast.parse(text)))), f"{rule.__name__}: {text}"
    for text in RIGHT:
        assert not [rule.__name__ for rule in RULES if any(map(rule, nodes_of(ast.parse(text))))], text
