"""Several processes that join one group over gloo: a function of a test module, run in each of them; and programs that
begin at once, where it is not their start that is looked at."""

import functools
import gc
import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
import types
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Forked(subprocess.Popen):
    """``python -m MODULE …`` as a fork of this process, which has imported already what a new one takes seconds for.

    Where there is no fork it is a new process. Its command line, as /proc has it, is that of this process.
    """

    def __init__(self, command, *, env=None, **how):
        if hasattr(os, "fork"):
            how["preexec_fn"] = functools.partial(_become, command, dict(os.environ if env is None else env))
        super().__init__(command, env=env, **how)


def forking() -> types.SimpleNamespace:
    """What a module that starts processes may have for ``subprocess``, so that it forks them."""
    return types.SimpleNamespace(**{**vars(subprocess), "Popen": Forked})


def _become(command: list[str], environment: dict[str, str]) -> None:
    """The rest of a forked process's life; does not return, so that nothing is executed in its place."""
    status = 1
    try:
        gc.enable()  # whoever forks has it wait
        _forget(environment)
        _, flag, module, *arguments = map(str, command)
        assert flag == "-m", command
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 (told, as Python does at the end of a program)
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _forget(environment: dict[str, str]) -> None:
    """Signal handlers, files, variables and filters of the process that this one was forked from."""
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    # not closed: what owns the number here may close it later, when it were another file's
    for descriptor in map(int, os.listdir("/dev/fd")):
        if descriptor > 2 and descriptor != null:
            os.dup2(null, descriptor, inheritable=False)
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = open(number, "w" if number else "r", 1, "utf-8", closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    # it was imported here, and is run all the same
    warnings.filterwarnings("ignore", "'.*' found in sys.modules", RuntimeWarning)


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    return {**os.environ, **{name: str(value) for name, value in own.items()}, "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def together(size: int, module: str, *arguments: str, seconds: float = 300) -> list[str]:
    """Run ``python -m module arguments`` as ``size`` ranks; what each printed. Raises AssertionError when one fails."""
    port = free_port()
    started = [
        Forked(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=environment(rank, size, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        printed = [process.communicate(timeout=seconds)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert all(process.returncode == 0 for process in started), "\n---\n".join(printed)
    return printed
