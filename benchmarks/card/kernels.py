"""What a card is given to do: how many kernels, which of them cost most, and how long it waits for the next one."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

NAME_SHOWN = 70


@dataclass(frozen=True)
class Launches:
    """Kernels of one call. seconds: from the first one's start to the last one's end; busy: in which any of them ran;
    costliest: name, how often, and seconds of each kind."""

    count: int
    seconds: float
    busy: float
    costliest: tuple[tuple[str, int, float], ...]

    @property
    def gaps(self) -> float:
        """Share of the time in which the card waited."""
        return 0.0 if not self.seconds else 1 - self.busy / self.seconds

    def table(self, kinds: int = 10) -> list[dict[str, Any]]:
        """The costliest, as rows."""
        whole = sum(seconds for _, _, seconds in self.costliest) or 1
        rows = []
        for name, times, seconds in self.costliest[:kinds]:
            figures = {"times": times, "ms": round(1e3 * seconds, 3), "share": round(seconds / whole, 3)}
            rows.append({"kernel": name[:NAME_SHOWN], **figures})
        return rows


def launches(work: Callable[[], Any], *, cuda: bool) -> Launches:
    """Profile one call. Without a card operators stand for kernels, by the time of their own."""
    activities = [ProfilerActivity.CUDA, ProfilerActivity.CPU] if cuda else [ProfilerActivity.CPU]
    with profile(activities=activities) as profiled:
        work()
        if cuda:
            torch.cuda.synchronize()
    if not cuda:
        kinds = [(e.key, e.count, e.self_cpu_time_total / 1e6) for e in profiled.key_averages()]
        total = sum(seconds for _, _, seconds in kinds)
        ordered = tuple(sorted(kinds, key=lambda kind: -kind[2]))
        return Launches(sum(count for _, count, _ in kinds), total, total, ordered)
    spans = [
        (event.time_range.start / 1e6, event.time_range.end / 1e6, event.name)
        for event in profiled.events()
        if event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
    ]
    return of_spans(spans)


def of_spans(spans: list[tuple[float, float, str]]) -> Launches:
    """Launches from the start and end of each kernel, in seconds, and its name."""
    times: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    busy = end = 0.0
    for start, stop, name in sorted(spans):
        times[name] += 1
        seconds[name] += stop - start
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    first = min((start for start, _, _ in spans), default=0.0)
    ordered = tuple((name, times[name], spent) for name, spent in seconds.most_common())
    return Launches(len(spans), end - first if spans else 0.0, busy, ordered)


# They only make room or pass on: no kernel runs for them.
FREE = {"empty", "empty_like", "empty_strided", "new_empty", "_unsafe_view", "detach", "unbind"}


class Dispatched(TorchDispatchMode):
    """Counts the operators that compute something; views are free. On ``meta`` this counts real sizes at no cost."""

    def __init__(self):
        super().__init__()
        self.operators: Counter[str] = Counter()
        self.paused = False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._overloadpacket.__name__
        if not (self.paused or function.is_view or name in FREE):
            self.operators[name] += 1
        return function(*args, **(kwargs or {}))


class _WholeNorms(TorchFunctionMode):
    """A norm is one kernel on a card; elsewhere the dispatcher sees the parts of it."""

    def __init__(self, counted: Dispatched):
        super().__init__()
        self.counted = counted

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") not in ("rms_norm", "layer_norm") or self.counted.paused:
            return function(*args, **(kwargs or {}))
        self.counted.operators["norm"] += 1
        self.counted.paused = True
        try:
            return function(*args, **(kwargs or {}))
        finally:
            self.counted.paused = False


def dispatched(work: Callable[[], Any]) -> Counter[str]:
    """How often each computing operator is called by ``work()``."""
    with torch.no_grad(), Dispatched() as counted, _WholeNorms(counted):
        work()
    return counted.operators
