"""Mutated files of every format. ``make fuzz`` runs a million inputs each (FUZZ_INPUTS), a normal run 2,000."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

from ltx2.errors import LONGEST_MESSAGE, Ltx2Error

from .formats import FORMATS

INPUTS = int(os.environ.get("FUZZ_INPUTS", "2000"))
FIRST = int(os.environ.get("FUZZ_FIRST", "0"))
GROWTH_BYTES = 256 * 2**20


@pytest.fixture
def quick_folder(tmp_path):
    """A folder in memory where the system has one: thousands of files are written."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="ltx2-fuzz-") as folder:
        yield Path(folder)


def most_memory_bytes() -> int:
    """The most memory this process has had; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ltx2.errors.Ltx2Warning")
@pytest.mark.parametrize("name", FORMATS)
def test_mutated_files_give_errors_of_our_own(name, quick_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # nothing here outlives the test
    (quick_folder / "seeds").mkdir()
    (work := quick_folder / "work").mkdir()
    form, before, refused = FORMATS[name], most_memory_bytes(), 0
    seeds = form.seeds(quick_folder / "seeds")
    for seed in seeds:
        form.read(seed, work)
    for number in range(FIRST, FIRST + INPUTS):
        data = form.input(seeds, number, name)
        try:
            form.read(data, work)
        except Ltx2Error as error:
            refused += 1
            words = str(error)
            assert words and len(words) <= LONGEST_MESSAGE and words.isprintable(), (name, number, words)
        except BaseException as error:
            (tmp_path / "input").write_bytes(data)
            raise AssertionError(f"{name}, input {number} ({tmp_path / 'input'}): {error!r}") from error
    assert refused > INPUTS // 4  # the mutations do reach the checks
    assert most_memory_bytes() - before < GROWTH_BYTES


def test_inputs_are_the_same_each_time(tmp_path):
    seeds = FORMATS["card"].seeds(tmp_path)
    one, again = ([FORMATS["card"].input(seeds, i, "card") for i in range(20)] for _ in range(2))
    assert one == again and len(set(one)) > 15
