"""``--gpus``: two processes make what one makes, the second never sees the prompt's model, and a lost rank ends all."""

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ltx2.cli import main
from ltx2.continuation import load_attachment
from ltx2.media import read_sound, write_wav
from ltx2.parallel import launch
from ltx2.values import Waveform

from .processes import ROOT, Forked, forking

GUIDED = "ltx2_3_base"
SMALL = ("--size", "64x64", "--frames", "17", "--dtype", "fp32", "--device", "cpu", "--seed", "3")


def command(files, out: Path, *more: str) -> list[str]:
    return [
        "generate", "--prompt", "a harbour", "--checkpoint", str(files["transformer"]),
        "--text-encoder", str(files["text_encoder"]), "--upsampler", str(files["spatial_upsampler"]),
        "--out", str(out), "--save-state", f"{out}.safetensors", *SMALL, *more,
    ]  # fmt: skip


@pytest.fixture
def run(capfd, monkeypatch):
    """The command line in this process, with ranks in processes of their own: its exit status, and what all of them
    said."""
    monkeypatch.setattr(launch, "subprocess", forking())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(ROOT)

    def call(arguments: list[str]) -> tuple[int, str]:
        capfd.readouterr()
        return main(arguments), capfd.readouterr().err

    return call


def pictures(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)).astype(int) for path in sorted(folder.glob("*.png"))])


def assert_alike(folder: Path, one: str, two: str) -> None:
    """The same state within what sums in another order change, and the same pictures but for their last rounding."""
    states = [load_attachment(folder / f"{name}.safetensors").state for name in (one, two)]
    furthest = (states[0].audio_latents - states[1].audio_latents).abs().max()
    assert states[0].audio_latents.dtype == torch.float32 and furthest <= 1e-5
    assert abs(pictures(folder / one) - pictures(folder / two)).max() <= 1
    assert (folder / one / "sound.wav").stat().st_size == (folder / two / "sound.wav").stat().st_size
    assert states[0].metadata == states[1].metadata


TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "tests.parallel.opened_files")


@pytest.fixture(scope="module")
def of_one(tiny, tmp_path_factory):
    """A folder with what one process makes of a preset, and the options that it took."""

    @functools.cache
    def make(preset: str) -> tuple[Path, tuple[str, ...]]:
        folder = tmp_path_factory.mktemp(preset)
        more = ("--preset", preset, "--override", "denoise.num_inference_steps=2")
        if preset == GUIDED:  # a voice's guidance is one more pass, which is shared in another way
            write_wav(folder / "voice.wav", Waveform(torch.sin(torch.arange(24_000) / 9)[None], 16_000))
            more += ("--voice", str(folder / "voice.wav"))
        assert main(command(tiny("2.3"), folder / "one", *more)) == 0
        return folder, more

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset, size, words",
    [(GUIDED, 2, "2 GPUs: 2 guidance passes"), ("ltx2_fast", 4, "4 GPUs: 4 sequence parts")],
)
def test_ranks_make_what_one_makes(tiny, of_one, run, preset, size, words):
    folder, more = of_one(preset)
    status, said = run(command(tiny("2.3"), folder / "ranks", *more, "--gpus", str(size)))
    assert status == 0 and words in said, said
    assert_alike(folder, "one", "ranks")


@pytest.mark.slow
def test_torchrun_makes_what_one_makes_and_the_first_rank_alone_opens_the_language_model(tiny, of_one):
    (folder, more), files = of_one("ltx2_fast"), tiny("2.3")
    started = [sys.executable, *TORCHRUN, *command(files, folder / "torchrun", *more)]
    own = {**os.environ, "OMP_NUM_THREADS": "1", "OPENED_FILES": str(folder / "opened")}
    ranks = subprocess.run(started, cwd=ROOT, env=own, capture_output=True, text=True, timeout=600)
    assert ranks.returncode == 0 and ranks.stderr.count("2 GPUs: 2 sequence parts") == 1, ranks.stderr
    assert_alike(folder, "one", "torchrun")
    opened = [Path(f"{folder}/opened{rank}").read_text("utf-8").split("\n") for rank in range(2)]
    encoder = str(files["text_encoder"])
    assert any(encoder in path for path in opened[0]) and not any(encoder in path for path in opened[1])
    assert any(str(files["transformer"]) in path for path in opened[1])


def test_heads_and_numbers_that_do_not_fit_are_refused_before_anything_is_loaded(tiny, run, tmp_path):
    for count, sentence in (("3", "attention heads evenly: use"), ("0", "expected 1 or more")):
        status, said = run(command(tiny("2.3"), tmp_path / "x.mp4", "--gpus", count))
        assert status == 1 and sentence in said and len(said.splitlines()) == 1


# The keyboard's signal is ignored by what a shell starts in the background, and so by tests that run there.
HEARING = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('ltx2', run_name='__main__', alter_sys=True)"
)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of one process to another")
@pytest.mark.parametrize(
    "hit, number, status, words",
    [
        (2, signal.SIGKILL, 137, "rank 1 was killed"),
        ("group", signal.SIGINT, 130, "interrupted"),
        (0, signal.SIGKILL, -9, ""),
    ],
    ids=["a rank killed", "Ctrl-C", "launcher killed"],
)
def test_whatever_ends_one_process_ends_all_and_leaves_no_half_file(
    tiny, tmp_path, monkeypatch, hit, number, status, words
):
    arguments = command(tiny("2.3"), tmp_path / "out.mp4", "--preset", "ltx2_3_base", "--steps", "200", "--gpus", "2")
    start, program = subprocess.Popen, ("-c", HEARING)
    if hit != "group":  # who is killed ends in no way of its own: Python's end is seen with the keyboard
        monkeypatch.setattr(launch, "subprocess", forking())
        start, program = Forked, ("-m", "ltx2")
    process = start(
        [sys.executable, *program, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert any("2 guidance passes" in line for line in process.stderr)  # at work from now on
    everybody = [process.pid, *_children(process.pid, 2)]
    if hit == "group":  # as a terminal does
        os.killpg(process.pid, number)
    else:
        os.kill(everybody[hit], number)
    text = process.communicate(timeout=60)[1]  # ends when the last of them has closed it
    assert process.returncode == status and words in text and "Traceback" not in text, text
    assert not any(_alive(one) for one in everybody)
    assert [path.name for path in tmp_path.iterdir()] == []


def _children(parent: int, count: int) -> list[int]:
    """Process numbers of a process's children."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("needs /proc to find the ranks")
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    assert len(found) == count
    return [int(one) for one in found]


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] not in ("Z", "X")
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_ranks_make_the_sound_that_one_makes(tiny, run, tmp_path):
    """With the half of the model that makes sound on each of them, and one guidance pass each."""
    files = tiny("2.3")
    given = [
        "sound", "--prompt", "rain", "--checkpoint", str(files["transformer"]), "--text-encoder",
        str(files["text_encoder"]), "--preset", "ltx2_sound", "--steps", "1", "--seconds", "0.5",
        "--dtype", "fp32", "--device", "cpu", "--seed", "3", "--out",
    ]  # fmt: skip
    status, said = run([*given, str(tmp_path / "one.wav")])
    assert status == 0 and "GPUs" not in said
    status, said = run([*given, str(tmp_path / "ranks.wav"), "--gpus", "2"])
    assert status == 0 and "2 GPUs: 2 guidance passes" in said, said
    one, two = (read_sound(tmp_path / f"{name}.wav").samples for name in ("one", "ranks"))
    assert one.shape == two.shape and one.abs().max() > 0.01 and (one - two).abs().max() < 1e-4
