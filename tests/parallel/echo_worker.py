"""A worker for tests: answers in capitals, fails when told to, and dies as often as a file says."""

import errno
import os
import sys
import time
from pathlib import Path

from ltx2.errors import RequestError
from ltx2.parallel.pool import serve


def set_up(setup: bytes):
    if setup == b"broken":
        raise RequestError("the worker cannot start")
    folder = Path(setup.decode())

    def handle(task: bytes) -> bytes:
        if task.startswith(b"die"):
            # as many deaths as the task's number says, over all workers
            deaths = len(list(folder.glob(f"{task.decode()}.*")))
            if deaths < int(task.split()[1]):
                (folder / f"{task.decode()}.{os.getpid()}").touch()
                os._exit(9)
        if task == b"long":
            (folder / "at work").touch()
            time.sleep(600)
        if task == b"disk":
            raise OSError(errno.ENOSPC, "No space left on device")
        if task == b"memory":
            raise MemoryError
        if task == b"fail":
            raise RequestError("this task cannot be done")
        return task.upper() + f" by {os.getpid()}".encode()

    return handle


if __name__ == "__main__":
    serve(set_up, sys.stdin.buffer, sys.stdout.buffer)
