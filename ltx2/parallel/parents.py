"""Processes that end with the one that started them, however that one ends."""

import _thread
import os
import threading
import time

LOOK_SECONDS, GRACE_SECONDS = 0.5, 3.0


def end_with_parent(parent: int) -> None:
    """End this process when its parent is gone, killed as it may be: nobody else would, and it may fill a GPU."""
    if os.name == "nt":  # there, a parent's number never changes
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        _thread.interrupt_main()  # files that are half written go
        time.sleep(GRACE_SECONDS)
        os._exit(1)  # it is in a place that no signal reaches

    threading.Thread(target=watch, daemon=True).start()
