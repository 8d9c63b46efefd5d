"""Steps in the host's console, as its own samplers print them: how many are done, seconds a step, time left."""

from typing import Any

from tqdm import tqdm

from ..ltx2.values import Progress

SHOWN = ("denoising", "refining", "doubling", "video decoding")  # the stages that take long


class ConsoleBar:
    """One bar after another for the long stages of a node's work. enabled: False prints nothing."""

    def __init__(self, enabled: bool = True) -> None:
        self._enabled, self._stage = enabled, ""
        self._bar: Any = None

    def __call__(self, progress: Progress) -> None:
        """Move the bar of the stage that is reported."""
        if progress.stage != self._stage:
            self.close()
        if not self._enabled or progress.stage not in SHOWN or progress.total < 2:
            return
        if self._bar is None:
            if progress.done >= progress.total:
                return  # a stage's last report may come twice
            self._stage = progress.stage
            self._bar = tqdm(total=progress.total, desc=progress.stage)
        self._bar.update(progress.done - self._bar.n)
        if progress.done >= progress.total:
            self.close()

    def close(self) -> None:
        """Leave the bar as far as it came."""
        if self._bar is not None:
            self._bar.close()
        self._bar, self._stage = None, ""
