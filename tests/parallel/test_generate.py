"""``--gpus``: two processes make what one makes, the second never sees the prompt's model, and a lost rank ends all."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ltx2.continuation import load_attachment

from .processes import ROOT, environment, free_port

SMALL = ("--size", "64x64", "--frames", "17", "--dtype", "fp32", "--device", "cpu", "--seed", "3")


def command(files, out: Path, *more: str) -> list[str]:
    return [
        "generate", "--prompt", "a harbour", "--checkpoint", str(files["transformer"]),
        "--text-encoder", str(files["text_encoder"]), "--upsampler", str(files["spatial_upsampler"]),
        "--out", str(out), "--save-state", f"{out}.safetensors", *SMALL, *more,
    ]  # fmt: skip


def run(arguments: list[str], program=("-m", "ltx2"), **more) -> subprocess.CompletedProcess:
    own = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    return subprocess.run(
        [sys.executable, *program, *arguments], cwd=ROOT, env=own, capture_output=True, text=True, timeout=600
    )


def pictures(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)).astype(int) for path in sorted(folder.glob("*.png"))])


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset, words", [("ltx2_fast", "2 GPUs: 2 sequence parts"), ("ltx2_3_base", "2 GPUs: 2 guidance passes")]
)
def test_two_ranks_make_what_one_makes(tiny, tmp_path, preset, words):
    more = ("--preset", preset, "--override", "denoise.num_inference_steps=2")
    alone = run(command(tiny("2.3"), tmp_path / "one", *more))
    assert alone.returncode == 0, alone.stderr
    both = run(command(tiny("2.3"), tmp_path / "two", *more, "--gpus", "2"))
    assert both.returncode == 0, both.stderr
    assert words in both.stderr and words not in alone.stderr
    one, two = (load_attachment(tmp_path / f"{name}.safetensors").state for name in ("one", "two"))
    assert torch.allclose(one.audio_latents.float(), two.audio_latents.float(), atol=1e-4)
    assert abs(pictures(tmp_path / "one") - pictures(tmp_path / "two")).max() <= 1
    assert (tmp_path / "two" / "sound.wav").stat().st_size == (tmp_path / "one" / "sound.wav").stat().st_size
    assert one.metadata == two.metadata


@pytest.mark.slow
def test_ranks_of_torchrun_and_the_language_model_of_the_first_alone(tiny, tmp_path):
    files, port = tiny("2.3"), free_port()
    arguments = command(files, tmp_path / "out.mp4", "--preset", "ltx2_fast", "--steps", "1")
    started = []
    for rank in range(2):
        own = {**environment(rank, 2, port), "OPENED_FILES": str(tmp_path / "opened")}
        line = [sys.executable, "-m", "tests.parallel.opened_files", *arguments]
        started.append(subprocess.Popen(line, cwd=ROOT, env=own, stderr=subprocess.PIPE, text=True))
    printed = [process.communicate(timeout=600)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], printed
    opened = [Path(f"{tmp_path}/opened{rank}").read_text("utf-8").split("\n") for rank in range(2)]
    encoder = str(files["text_encoder"])
    assert any(encoder in path for path in opened[0]) and not any(encoder in path for path in opened[1])
    assert any(str(files["transformer"]) in path for path in opened[1])
    assert printed[1] == "" and (tmp_path / "out.mp4").is_file()


def test_heads_and_numbers_that_do_not_fit_are_refused_before_anything_is_loaded(tiny, tmp_path):
    for count, sentence in (("3", "attention heads evenly: use"), ("0", "expected 1 or more")):
        found = run(command(tiny("2.3"), tmp_path / "x.mp4", "--gpus", count))
        assert found.returncode == 1 and sentence in found.stderr and len(found.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_rank_ends_all_of_them_and_leaves_no_half_file(tiny, tmp_path, lost):
    arguments = command(tiny("2.3"), tmp_path / "out.mp4", "--preset", "ltx2_3_base", "--steps", "200", "--gpus", "2")
    process = subprocess.Popen(
        [sys.executable, "-m", "ltx2", *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    ranks = _children(process.pid, 2)
    os.kill(ranks[lost], signal.SIGKILL)
    text = process.communicate(timeout=60)[1]
    assert process.returncode not in (0, None) and f"rank {lost} was killed" in text
    assert not any(_alive(rank) for rank in ranks)
    assert [path.name for path in tmp_path.iterdir()] == []


def _children(parent: int, count: int) -> list[int]:
    """Process numbers of a process's children, once all are there and at work."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("needs /proc to find the ranks")
    for _ in range(1200):
        found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        if len(found) == count:
            time.sleep(2)
            return [int(one) for one in found]
        time.sleep(0.05)
    raise AssertionError("the ranks did not start")


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] not in ("Z", "X")
    except FileNotFoundError:
        return False
