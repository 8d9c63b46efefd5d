"""One run on a card: how much time is left, what was measured, and how seconds, memory and kernels are taken."""

import gc
import json
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .sizes import Sizes

GIB = 2**30
Work = Callable[[], Any]


@dataclass(frozen=True)
class Timing:
    """Median seconds of one call, and the most bytes that it took on the card beside what was there before."""

    seconds: float
    peak_bytes: int | None

    @property
    def figures(self) -> dict[str, float]:
        """As columns of a table."""
        peak = {} if self.peak_bytes is None else {"peak GiB": round(self.peak_bytes / GIB, 3)}
        return {"s": rounded(self.seconds), **peak}


@dataclass
class Session:
    """Rows are written to ``out`` as soon as they are there, so that a run that is cut off keeps what it has."""

    device: torch.device
    sizes: Sizes
    out: Path
    seconds: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)
    begun: float = field(default_factory=time.perf_counter)
    _section: str = ""

    def __post_init__(self):
        self.out.mkdir(parents=True, exist_ok=True)
        self.facts = {**machine(self.device), "sizes": self.sizes.name}

    @property
    def cuda(self) -> bool:
        """Whether there is a card at all: in miniature the same runs on a CPU."""
        return self.device.type == "cuda"

    @property
    def left(self) -> float:
        """Seconds of the budget that are still there."""
        return self.seconds - (time.perf_counter() - self.begun)

    def run(self, name: str, section: Callable[["Session"], None], estimate: float) -> None:
        """One section, if about a third of what it usually takes is left; an error is told, and the next one runs."""
        if self.left < estimate / 3:
            self.record(name, "all", **{"left out": f"{self.left:.0f} s left, about {estimate:.0f} needed"})
            return
        self._section, started, worked = name, time.perf_counter(), time.process_time()
        print(f"\n== {name} ({self.left:.0f} s left)", flush=True)
        try:
            with torch.no_grad():
                section(self)
        except Exception:  # one section that fails must not cost the others
            self.failures.append(f"{name}\n{traceback.format_exc()}")
            print(self.failures[-1], flush=True)
        self.facts.setdefault("seconds", {})[name] = round(time.perf_counter() - started, 1)
        self.facts.setdefault("seconds of the CPU", {})[name] = round(time.process_time() - worked, 1)
        self.empty()
        self.flush()

    def attempt(self, case: str, work: Callable[[], None], seconds: float = 0) -> None:
        """One case of a section; an error is told, and the section goes on. seconds: that it needs at least."""
        if self.left < seconds:
            self.record(self._section, case, **{"left out": f"{self.left:.0f} s left"})
            return
        try:
            work()
        except Exception as error:
            self.failures.append(f"{self._section}: {case}\n{traceback.format_exc()}")
            print(self.failures[-1], flush=True)
            self.record(self._section, case, failed=f"{type(error).__name__}: {str(error).splitlines()[0][:160]}")
        self.empty()

    def record(self, section: str, case: str, **figures: Any) -> None:
        """A row of the table."""
        self.rows.append({"section": section, "case": case, **figures})
        print(f"{case}: " + ", ".join(f"{name} {value}" for name, value in figures.items()), flush=True)
        self.flush()

    def flush(self) -> None:
        """All that is known so far, as JSON."""
        whole = {"facts": self.facts, "rows": self.rows, "failures": self.failures}
        partial = self.out / "gpu.json.partial"
        partial.write_text(json.dumps(whole, indent=1, ensure_ascii=False), "utf-8")
        partial.replace(self.out / "gpu.json")

    def empty(self) -> None:
        """Let go of what nobody holds."""
        if self.cuda:
            gc.collect()
            torch.cuda.empty_cache()

    def keep(self, name: str, make: Callable[[], Any]) -> Any:
        """Something that several sections use, made once."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def drop(self, *names: str) -> None:
        """Let go of what is kept: these, or all of it."""
        for name in names or tuple(self.kept):
            self.kept.pop(name, None)
        self.empty()

    def few(self, cases: Iterable[Any], count: int = 1) -> list[Any]:
        """All cases on a card; in miniature the first ones, which are enough to see that the code runs."""
        return list(cases) if self.cuda else list(cases)[:count]

    def wait(self) -> None:
        """Until the card has done what it was given."""
        if self.cuda:
            torch.cuda.synchronize()

    def time(self, work: Work, *, rounds: int = 3, warm: int = 1) -> Timing:
        """Seconds and memory of one call, the median of some, after ``warm`` calls that do not count."""
        rounds, warm = (rounds, warm) if self.cuda else (1, min(warm, 1))
        for _ in range(warm):
            work()
        self.wait()
        before = self._restart_peak()
        found = []
        for _ in range(rounds):
            started = time.perf_counter()
            work()
            self.wait()
            found.append(time.perf_counter() - started)
        peak = torch.cuda.max_memory_allocated(self.device) - before if self.cuda else None
        return Timing(statistics.median(found), peak)

    def _restart_peak(self) -> int:
        if not self.cuda:
            return 0
        torch.cuda.reset_peak_memory_stats(self.device)
        return torch.cuda.memory_allocated(self.device)


def rounded(value: float) -> float:
    """Four figures that count."""
    return float(f"{value:.4g}")


def machine(device: torch.device) -> dict[str, Any]:
    """What everything was measured on."""
    facts = {"python": platform.python_version(), "torch": torch.__version__, "device": str(device)}
    facts |= {"date": time.strftime("%Y-%m-%d"), "command": " ".join(sys.argv)}
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        facts |= {
            "card": about.name,
            "card GiB": round(about.total_memory / GIB, 1),
            "multiprocessors": about.multi_processor_count,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    else:
        facts["card"] = f"none ({platform.machine()} CPU)"
    return facts
