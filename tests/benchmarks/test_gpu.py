"""The benchmark for a card runs in miniature on a CPU, keeps to its time and keeps what it has when something fails."""

import json

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu
from benchmarks.card.kernels import of_spans
from benchmarks.card.networks import inputs, step_flops, transformer
from benchmarks.card.session import Session
from benchmarks.card.sizes import Clip, full, gemma3_shapes, miniature
from tests.networks.video_vae.samples import released


def test_every_section_runs_in_miniature(tmp_path):
    names = [name for name in gpu.SECTIONS if name != "dit.compiled"]
    session = gpu.main(["--miniature", "--out", str(tmp_path), "--only", ",".join(names)])
    assert not session.failures
    found = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert found["rows"] == session.rows and set(found["facts"]["seconds"]) == set(names)
    right = [row for row in session.rows if row["section"] == "correctness"]
    assert len(right) > 10 and all(row["right"] and row["difference"] <= row["limit"] for row in right)
    report = (tmp_path / "gpu.md").read_text("utf-8")
    assert "| fp8 with LoRA, 16 tokens |" in report or "| fp8 with LoRA, 4 tokens |" in report
    assert {path.name for path in tmp_path.iterdir()} == {"gpu.json", "gpu.md"}


def test_a_section_that_fails_costs_the_others_nothing(tmp_path, monkeypatch):
    def fails(session):
        session.record("first", "before", s=1)
        session.attempt("case", lambda: 1 / 0)
        raise OSError("the disk is full")

    sections = {"first": (fails, 5), "dit.operators": gpu.SECTIONS["dit.operators"]}
    monkeypatch.setattr(gpu, "SECTIONS", sections)
    session = gpu.main(["--miniature", "--out", str(tmp_path)])
    assert [row["section"] for row in session.rows] == ["first", "first", "operators", "operators"]
    assert session.rows[1]["failed"].startswith("ZeroDivisionError")
    assert "the disk is full" in (tmp_path / "gpu.md").read_text("utf-8") and len(session.failures) == 2
    late = gpu.main(["--miniature", "--out", str(tmp_path), "--minutes", "0"])
    assert [set(row) for row in late.rows] == [{"section", "case", "left out"}] * 2 and not late.failures
    with pytest.raises(SystemExit):
        gpu.main(["--miniature", "--out", str(tmp_path), "--only", "dot"])


def test_flops_are_those_that_torch_counts(tmp_path):
    """All but norms, gates and modulation: some hundredths at this size, thousandths at the released one."""
    session = Session(torch.device("cpu"), miniature(), tmp_path, 60)
    config, clip = session.sizes.transformer, Clip(256, 192, 17)
    model = transformer(config, session.device, torch.float32)
    streams = inputs(session, clip, batch=2, dtype=torch.float32)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted:
        model(*streams)
    formula = step_flops(config, clip.tokens, clip.sounds, session.sizes.words, batch=2)
    assert 0.94 < formula / counted.get_total_flops() < 1


def test_busy_time_of_overlapping_kernels():
    found = of_spans([(0.0, 2.0, "a"), (1.0, 1.5, "b"), (3.0, 4.0, "a")])
    assert (found.count, found.seconds, found.busy, found.gaps) == (3, 4.0, 3.0, 0.25)
    assert found.costliest == (("a", 2, 3.0), ("b", 1, 0.5))


def test_the_full_sizes_are_the_released_ones():
    sizes = full()
    assert sizes.video_vae == released("2.3")
    assert [clip.tokens for clip in sizes.clips] == [6144, 14080, 32640] and sizes.clips[-1].half.tokens == 8160
    assert sum(torch.Size(shape).numel() for shape in gemma3_shapes(48).values()) == pytest.approx(11.77e9, rel=1e-2)
