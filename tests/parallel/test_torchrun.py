"""torchrun itself: ranks that it starts make what one process makes."""

import subprocess
import sys

import numpy as np
import pytest

from ltx2.cli import main
from ltx2.continuation import load_attachment
from ltx2.media import open_image


@pytest.mark.slow
def test_ranks_that_torchrun_starts_make_one_film(tmp_path, monkeypatch):
    def made(name):
        prompt = ("--prompt", "A red ball jumps up and down over the sea.", "--size", "64x64", "--frames", "17")
        fixed = ("generate", "--checkpoint", "mini", "--device", "cpu", "--dtype", "fp32", *prompt)
        out = tmp_path / name
        return [*fixed, "--out", str(out), "--save-state", str(out.with_suffix(".safetensors"))], out

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arguments, together = made("together")
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    command = [sys.executable, *launcher, "--rdzv-endpoint", "127.0.0.1:0", "-m", "ltx2", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0 and run.stdout.split() == [str(together)], run.stderr
    assert "2 GPUs: 2 sequence parts" in run.stderr
    arguments, alone = made("alone")
    assert main(arguments) == 0
    states = [load_attachment(out.with_suffix(".safetensors")).state for out in (together, alone)]
    assert (states[0].audio_latents - states[1].audio_latents).abs().max() < 1e-5
    for mine, theirs in zip(sorted(together.glob("*.png")), sorted(alone.glob("*.png")), strict=True):
        assert np.abs(open_image(mine).astype(int) - open_image(theirs)).max() <= 1  # one level of 255
