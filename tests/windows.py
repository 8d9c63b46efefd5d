"""A stand-in for Windows, as far as this project's files and processes notice it: what POSIX alone has is gone, folders
cannot be opened, and what this process has open or mapped can be neither replaced nor renamed nor removed."""

import errno
import fcntl
import os
import signal
import stat
import sys
import types
from pathlib import Path

from ltx2 import system

POSIX_MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty")
POSIX_OS = (
    "fork",
    "setsid",
    "killpg",
    "getpgid",
    "getuid",
    "geteuid",
    "sysconf",
    "O_NOFOLLOW",
    "O_DIRECTORY",
    "mkfifo",
)
POSIX_SIGNALS = ("SIGALRM", "SIGHUP", "SIGSTOP", "SIGUSR1", "setitimer", "alarm")


def held_files() -> set[str]:
    """Files that this process has open or mapped."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue  # the one that listed them
    lines = Path("/proc/self/maps").read_text("utf-8").splitlines()
    return found | {line.split(maxsplit=5)[5] for line in lines if line.count("/")}


def _check_free(path) -> None:
    """Raise PermissionError for a file that is held, or a folder with one in it."""
    place = os.path.realpath(path)
    for one in held_files():
        if (one == place and not os.path.isdir(place)) or one.startswith(place + os.sep) and not os.path.isdir(one):
            error = PermissionError(errno.EACCES, "Access is denied", str(path))
            error.winerror = 32
            raise error


class Windows:
    """What :func:`pretend` sets up. busy: how many of the next replacements meet a virus scanner first."""

    def __init__(self) -> None:
        self.busy = 0
        self.refused = 0

    def guarded(self, real, *, both: bool = False, no_target: bool = False):
        def call(source, *target, **keywords):
            if both and self.busy:
                self.busy -= 1
                self.refused += 1
                raise PermissionError(errno.EACCES, "Access is denied", str(source))
            try:
                if keywords.get("dir_fd") is None:
                    _check_free(source)
                for one in target if both else ():
                    _check_free(one)
            except PermissionError:
                self.refused += 1
                raise
            if no_target and os.path.lexists(target[0]) and not os.path.samefile(source, target[0]):
                raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists")
            return real(source, *target, **keywords)

        return call


def _locks() -> types.ModuleType:
    found = types.ModuleType("msvcrt")
    found.LK_NBLCK, found.LK_LOCK, found.LK_UNLCK = 2, 1, 0

    def locking(handle: int, how: int, count: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB if how else fcntl.LOCK_UN)
        except OSError as error:
            raise PermissionError(errno.EACCES, "Permission denied") from error

    found.locking = locking
    return found


def pretend(monkeypatch) -> Windows:
    """Make this process meet Windows for as long as the patch lasts."""
    windows, really_open = Windows(), os.open

    def open_file(path, flags, *more, **keywords):
        if os.path.exists(path) and stat.S_ISDIR(os.stat(path).st_mode):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really_open(path, flags, *more, **keywords)

    monkeypatch.setattr(system, "WINDOWS", True)
    monkeypatch.setitem(sys.modules, "msvcrt", _locks())
    monkeypatch.setattr("shutil._use_fd_functions", False)
    for name in POSIX_MODULES:
        monkeypatch.setitem(sys.modules, name, None)
    for holder, names in ((os, POSIX_OS), (signal, POSIX_SIGNALS)):
        for name in names:
            monkeypatch.delattr(holder, name, raising=False)
    monkeypatch.setattr(os, "open", open_file)
    monkeypatch.setattr(os, "replace", windows.guarded(os.replace, both=True))
    monkeypatch.setattr(os, "rename", windows.guarded(os.rename, both=True, no_target=True))
    monkeypatch.setattr(os, "unlink", windows.guarded(os.unlink))
    monkeypatch.setattr(os, "remove", windows.guarded(os.remove))
    return windows
