"""The side-by-side benchmark runs, and its tables say what was measured."""

import json

import pytest
import torch

from benchmarks import bench, reading
from benchmarks.bench import Cell, exponent, markdown


def test_every_topic_runs_at_small_sizes(tmp_path):
    cells = bench.main(["--out", str(tmp_path), "--smallest", "--rounds", "1", "--only", "dit,load,codec,story"])
    kept = json.loads((tmp_path / "bench.json").read_text())["cells"]
    assert [vars(cell) for cell in cells] == kept and {cell.topic for cell in cells} == {
        "dit",
        "load",
        "codec",
        "story",
    }
    assert all(cell.seconds > 0 for cell in cells)
    assert "| picture tokens | 64 | exponent |" in (tmp_path / "bench.md").read_text()


def test_exponents_and_ratios():
    def cells(name, power, factor):
        return [Cell("t", "n", size, name, factor * size**power, 1) for size in (1, 2, 4, 8)]

    ours, theirs = cells("ours", 1, 0.1), cells("theirs", 2, 0.1)
    assert exponent(ours) == pytest.approx(1) and exponent(theirs) == pytest.approx(2) and exponent(ours[:1]) is None
    text = markdown(ours + theirs, {"torch": "x"})
    assert "| theirs | 0.1 s (1.00 of ours) | 0.4 s (2.00 of ours) |" in text and "| 2.00 |" in text


def test_what_is_no_implementation_is_said(tmp_path, capsys):
    for given in ("x", "a=b", "a=no_such_module:x", "a=json:no_such"):
        with pytest.raises(SystemExit):
            bench.main(["--out", str(tmp_path), "--impl", given])
    with pytest.raises(SystemExit):
        bench.main(["--out", str(tmp_path), "--only", "dit,nothing"])
    assert "no topic is called nothing" in capsys.readouterr().err


def test_every_way_of_reading_runs(monkeypatch, capsys):
    monkeypatch.setattr(reading, "ROWS", 3)
    monkeypatch.setattr("sys.argv", ["reading", "--gigabytes", "0.0003", "--rounds", "1"])
    threads = torch.get_num_threads()
    reading.main()
    torch.set_num_threads(threads)
    assert capsys.readouterr().out.count("\n| ") == 8
