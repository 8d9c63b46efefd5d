"""``make mini`` in a shortened form: from nothing to files that the command line runs, killed again and again."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from ltx2.cli import main as ltx2
from ltx2.media import read_video
from training import evaluate, export, picture_codec, train
from training.__main__ import main
from training.logs import read_log


class Killed(BaseException):
    """Nothing after it is done, as after a kill."""


class Reaper:
    """Counts what is written to disk, and ends the run in the middle of one of these acts: half a file is left, or
    a file that has not got its name yet."""

    def __init__(self, monkeypatch):
        self.acts, self.due, self.reached = 0, 1, set()
        save, replace, write = torch.save, Path.replace, export.write_safetensors
        monkeypatch.setattr(torch, "save", self.killing("save", save, self.half_saved))
        monkeypatch.setattr(Path, "replace", self.killing("name", replace, lambda *_: None))
        monkeypatch.setattr(export, "write_safetensors", self.killing("export", write, lambda *_: None))
        monkeypatch.setattr(train, "log", self.killing("log", train.log, self.half_logged))

    def killing(self, kind, act, half):
        def done(*given, **named):
            self.acts += 1
            # each place once: the next kill hits another one
            place = kind, Path(next(one for one in given if isinstance(one, Path))).name
            if place not in self.reached:
                self.reached.add(place)
                half(*given)
                raise Killed
            return act(*given, **named)

        return done

    def half_saved(self, content, path):
        path.write_bytes(b"PK half a file")

    def half_logged(self, path, line):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line)[:20])


@pytest.mark.slow
def test_from_nothing_to_the_finished_file_however_often_it_is_killed(tmp_path, monkeypatch):
    torch.manual_seed(0)
    drawn = picture_codec.blocks()
    monkeypatch.setattr(picture_codec, "blocks", lambda: drawn)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    quality = picture_codec.quality
    monkeypatch.setattr(picture_codec, "quality", lambda *codec: quality(*codec, count=8))
    monkeypatch.setattr(evaluate, "SIGMAS", (1.0, 0.5, 0.0))
    reaper, work, out = Reaper(monkeypatch), tmp_path / "work", tmp_path / "out"
    words = ["--work", str(work), "--out", str(out), "--device", "cpu", "--no-compile", "--clips", "1"]
    words += ["--minutes", "0.02", "--codec-minutes", "0.006", "--save-seconds", "0.2"]
    kills, steps = 0, [0]
    while True:
        try:
            main(words)
            break
        except Killed:
            kills += 1
            if (work / "run.pt").exists():
                steps.append(torch.load(work / "run.pt", weights_only=True)["step"])
    assert kills == len(reaper.reached) >= 9
    assert steps == sorted(steps) and steps[-1] > 0  # nothing is begun anew
    log = read_log(work / train.LOG)
    assert [line["step"] for line in log] == sorted({line["step"] for line in log}) and "metrics" in log[-1]
    if find_spec("matplotlib"):  # which training asks for, and the tests do not
        assert (work / "loss.png").exists() and (work / "metrics.png").exists()
    checkpoint, gemma = out / export.CHECKPOINT, out / export.TEXT_ENCODER
    assert {path.name for path in out.iterdir()} == {checkpoint.name, gemma.name}
    given = ["generate", "--checkpoint", checkpoint, "--text-encoder", gemma, "--frames", "25", "--size", "128x96"]
    assert ltx2([*map(str, given), "--prompt", "A red ball rolls.", "--out", str(tmp_path / "film.mp4")]) == 0
    assert len(read_video(tmp_path / "film.mp4").frames) == 25
