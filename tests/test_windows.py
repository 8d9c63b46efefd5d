"""On a stand-in for Windows: states, stores, films and stories are written and read as elsewhere, what a program has
open is waited for or told, and nothing that POSIX alone has is asked for."""

import contextlib
import errno
import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import torch

from ltx2 import atomic_files, cli, system
from ltx2.atomic_files import clean_dead_temps, file_lock, file_path, held_folder, write_atomic
from ltx2.checkpoint.weight_file import open_weight_file
from ltx2.cli.options import check_file
from ltx2.cli.story_workers import _left, _taken
from ltx2.continuation import FileBlobStore, FileSessionStore, LTX2ContinuationState, load_attachment, save_attachment
from ltx2.errors import BusyError, CheckpointError, ContinuationError, MediaError, RequestError, StoryError
from ltx2.media.video import VideoWriter
from ltx2.parallel import launch, parents, ranks
from ltx2.story.chain import RunOptions, run_story
from ltx2.story.script import parse_script
from ltx2.text.context_folder import ContextFolder, KeptContext
from ltx2.values import TextContext

from .continuation.test_codec import full_state
from .story.fake import Fake
from .windows import pretend

pytestmark = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the stand-in looks there")
STORY = "fps: 24\noverlap: {video: 9, audio: 15}\ndefaults: {frames: 25}\nsegments: [a, b]\n"


@pytest.fixture
def windows(monkeypatch):
    monkeypatch.setattr(system, "PATIENCE_SECONDS", 0.1)
    return pretend(monkeypatch)


@pytest.mark.parametrize("name", ["state", "state.safetensors", "state.png", "state.json"])
def test_a_state_is_saved_again_past_a_virus_scanner_and_stays_where_it_is_in_use(tmp_path, windows, name):
    path = tmp_path / name
    for index in (0, 1):
        windows.busy = 2
        save_attachment(full_state(segment_index=index), path)
        assert load_attachment(path).state.segment_index == index
    assert not windows.busy and [one.name for one in tmp_path.iterdir()] == [name]
    inside = path / "state.json" if path.is_dir() else path
    with open(inside, "rb"), pytest.raises(ContinuationError, match="cannot be written: Access is denied$"):
        save_attachment(full_state(), path)
    assert load_attachment(path).state.segment_index == 1 and [one.name for one in tmp_path.iterdir()] == [name]


def test_a_reader_is_waited_for(tmp_path, windows, monkeypatch):
    monkeypatch.setattr(system, "PATIENCE_SECONDS", 20)
    path = save_attachment(full_state(segment_index=0), tmp_path / "state.png")
    reader = open(path, "rb")
    threading.Timer(0.1, reader.close).start()
    save_attachment(full_state(segment_index=1), path)
    assert windows.refused and load_attachment(path).state.segment_index == 1


def test_stores_and_the_folder_of_contexts(tmp_path, windows):
    blobs = FileBlobStore(tmp_path / "blobs")
    sessions = FileSessionStore(tmp_path / "sessions", owned_blobs=blobs)
    windows.busy = 3
    for index in (0, 1, 2):
        state = full_state(segment_index=index).to_continuation_state(blob_store=blobs, inline_threshold_bytes=0)
        sessions.store(f"s{index % 2}", state)
    found = LTX2ContinuationState.from_continuation_state(sessions.snapshot("s0"), blob_store=blobs)
    assert found.segment_index == 2 and sorted(sessions) == ["s0", "s1"]
    for name in ("s0", "s1"):
        sessions.drop(name)
    assert len(blobs) == 0 and not list(tmp_path.rglob(".ltx2-*"))
    contexts = ContextFolder(tmp_path / "texts", limit_bytes=2000)
    for seed in range(3):
        contexts.keep("model", f"a lake {seed}", KeptContext(TextContext(torch.full((1, 4, 6), float(seed)), None)))
    assert contexts.find("model", "a lake 2").context.video[0, 0, 0] == 2 and contexts.size_bytes <= 2000


def test_a_story_is_the_one_of_elsewhere_and_waits_for_a_player_that_has_its_film(tmp_path, monkeypatch):
    script = parse_script(STORY)

    def told(folder: Path, **more) -> Path:
        return run_story(script, Fake(script.fps), work=folder / "work", out=folder / "film.mp4", **more).film

    film = hashlib.sha256(told(tmp_path / "elsewhere").read_bytes()).hexdigest()
    windows = pretend(monkeypatch)
    windows.busy = 3
    path = told(tmp_path / "here")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == film and not windows.busy
    longer = parse_script(STORY.replace("[a, b]", "[a, b, c]"))
    monkeypatch.setattr(system, "PATIENCE_SECONDS", 0.1)
    generator = Fake(longer.fps)
    with (
        open(path, "rb"),
        pytest.raises(StoryError, match="another program has .*film.mp4 open: close it there and run"),
    ):
        run_story(longer, generator, work=tmp_path / "here/work", out=path)
    before = sorted(os.listdir(path.parent))
    run_story(longer, generator, work=tmp_path / "here/work", out=path)
    assert generator.calls == [2] and sorted(os.listdir(path.parent)) == before == ["film.mp4", "work"]


def test_nobody_waits_without_end_where_the_keyboard_is_heard(tmp_path, windows, monkeypatch):
    """What waits in the main thread without a timeout is not interrupted by Ctrl-C there."""
    asked = []

    def checked(really):
        def call(self, timeout=None):
            if threading.current_thread() is threading.main_thread():
                assert timeout is not None or self.done()
                asked.append(self)
            return really(self, timeout)

        return call

    for name in ("result", "exception"):
        monkeypatch.setattr(Future, name, checked(getattr(Future, name)))
    script = parse_script(STORY.replace("[a, b]", "[a, {prompt: b, cut: true, takes: 2}]"))
    run_story(script, Fake(script.fps), work=tmp_path / "w", out=tmp_path / "f.mp4", options=RunOptions(jobs=2))
    assert asked


def test_a_write_protected_film_is_told_before_anything_is_made(tmp_path, windows, monkeypatch):
    (tmp_path / "film.mp4").write_bytes(b"")
    monkeypatch.setattr(os, "access", lambda path, mode: os.path.isdir(path))
    with pytest.raises(RequestError, match="it is write-protected, use another name$"):
        check_file(tmp_path / "film.mp4")


def test_what_was_made_for_a_name_that_a_player_has_open_stays_beside_it(tmp_path, windows):
    path = tmp_path / "film.mp4"
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    for _ in range(2):  # the second one takes the place of the first
        with VideoWriter(path, fps=24) as writer:
            writer.write_frames(frames)
    before = path.read_bytes()
    with open(path, "rb"):
        with pytest.raises(RequestError, match="another program has it open, close it there or use another name$"):
            check_file(path)
        with pytest.raises(MediaError, match="open, what was made is film-2.mp4 beside it$"):
            with VideoWriter(path, fps=24) as writer:
                writer.write_frames(frames + 200)
    assert path.read_bytes() == before != (tmp_path / "film-2.mp4").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["film-2.mp4", "film.mp4"]
    check_file(path)


def test_unfinished_work_goes_when_nobody_has_it_and_not_while_it_gets_its_name(tmp_path, windows):
    with held_folder(tmp_path) as folder, atomic_files.atomic_file(tmp_path / "x") as file:
        (folder / "inside").write_bytes(b"1")
        for one in (file.name, folder):
            os.utime(one, (time.time() - 10**5,) * 2)
        assert clean_dead_temps(tmp_path) == 0 and (folder / "inside").exists() and os.path.exists(file.name)
    assert os.listdir(tmp_path) == ["x"]
    closed, killed = tmp_path / ".ltx2-held-1.tmp", tmp_path / ".ltx2-held-2.tmp"
    closed.write_bytes(b"whole")
    killed.mkdir()
    for name in (".held", "inside"):
        (killed / name).write_bytes(b"")
    assert clean_dead_temps(tmp_path) == 1 and closed.exists() and not killed.exists()
    os.utime(closed, (time.time() - 100,) * 2)
    assert clean_dead_temps(tmp_path) == 1 and os.listdir(tmp_path) == ["x"]


def test_locks(tmp_path, windows):
    with file_lock(tmp_path / "lock"):
        with pytest.raises(BusyError, match="^busy$"), file_lock(tmp_path / "lock", wait=False, busy="busy"):
            pass
    with file_lock(tmp_path / "lock", wait=False):
        pass


def test_weights_are_read_and_a_changed_file_is_refused(tmp_path, windows):
    path = tmp_path / "w.safetensors"
    path.write_bytes(bytes(range(64)))
    file, _ = open_weight_file(path)
    assert file.view(3, 2).tolist() == file.read(3, 2).tolist() == [3, 4]
    with pytest.raises(PermissionError):  # it is mapped
        write_atomic(path, b"new")
    os.utime(path, (1, 1))
    for read in (file.view, file.read):
        with pytest.raises(CheckpointError, match="was replaced or changed"):
            read(3, 2)


def test_equal_frames_of_two_workers_go_one_by_one(tmp_path, windows):
    frames = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3)
    left = [_left([frames], tmp_path) for _ in range(2)]
    for one in left:
        taken = _taken(tmp_path / one["name"], one["name"].partition("-")[0], tuple(one["shape"]))
        assert np.array_equal(np.concatenate(list(taken)), frames)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["ab:c.mp4", "x/con", "NUL.png", "what?.mp4", "a\tb", "..\\LPT1.txt", "x\\a|b"])
def test_names_that_windows_has_for_something_else(tmp_path, windows, name):
    assert file_path(name) is None
    with pytest.raises(RequestError, match="no file can have this name"):
        check_file(name)
    with pytest.raises(MediaError, match="no file can have this name"):
        VideoWriter(name, fps=24)


@pytest.mark.parametrize(
    "name", ["C:\\films\\a.mp4", "c:/films/größe.mp4", "\\\\server\\share\\a.mp4", "..\\con-x.png"]
)
def test_names_that_it_takes(windows, name):
    assert not system.is_refused(name)


# --- processes -------------------------------------------------------------------------------------------------------


class Rank:
    """A process that ends by itself after some looks at it."""

    def __init__(self, looks: int, status: int = 0):
        self.looks, self.status, self.did = looks, status, []

    def poll(self):
        self.looks -= 1
        return self.status if self.looks < 0 else None

    def terminate(self):
        self.did.append("terminate")

    def kill(self):
        self.did.append("kill")

    def wait(self, timeout):
        return self.status


@pytest.mark.parametrize("asked, did", [([2], ["kill"]), ([], ["terminate", "kill"])])
def test_the_keyboard_asks_every_rank_itself(windows, asked, did):
    rank = Rank(3)
    launch._end([rank], asked, grace_seconds=5)
    assert rank.did == did and rank.looks < 0


def test_a_rank_that_broke_down_is_told():
    said = []
    assert launch._wait([Rank(0), Rank(0, 0xC0000005)], [], said.append) == 1
    assert said == ["rank 1 crashed (status 0xc0000005): the others were ended"]


def test_a_parent_is_held_by_its_number(windows, monkeypatch):
    gone, api = [258, 258, 0], types.ModuleType("_winapi")
    api.SYNCHRONIZE, api.WAIT_OBJECT_0 = 1, 0
    api.OpenProcess = lambda access, inherit, number: number
    api.WaitForSingleObject = lambda handle, seconds: gone.pop(0) if handle == 77 else 0
    monkeypatch.setitem(sys.modules, "_winapi", api)
    watch = parents._watch_of(77)
    assert [watch(), watch(), watch()] == [False, False, True]

    def refused(*given):
        raise OSError(errno.EINVAL, "The parameter is incorrect")

    api.OpenProcess = refused
    assert parents._watch_of(78)()


def test_workers_are_started_apart_from_the_keyboard(windows, monkeypatch):
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 512, raising=False)
    assert system.apart() == {"creationflags": 512}


@pytest.mark.parametrize(
    "what, device, words",
    [
        ("is_available", "cpu", "what processes"),
        ("is_gloo_available", "cpu", "what processes"),
        ("is_nccl_available", "cuda", "NCCL"),
    ],
)
def test_a_pytorch_without_its_distributed_part(monkeypatch, capsys, what, device, words):
    monkeypatch.setattr(ranks.dist, what, lambda: False)
    asked = ["generate", "--prompt", "x", "--checkpoint", "mini", "--out", "x.mp4", "--device", device]
    assert cli.main([*asked, "--gpus", "2"]) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"ltx2: this PyTorch comes without {words}") and "leave --gpus out" in told


@pytest.mark.parametrize("name", ["ranks", "sequence", "passes", "together"])
def test_parts_for_several_gpus_are_imported_where_pytorch_has_none_for_that(monkeypatch, name):
    bare = types.ModuleType("torch.distributed")
    bare.is_available = lambda: False
    monkeypatch.setattr(torch, "distributed", bare)
    monkeypatch.setitem(sys.modules, "torch.distributed", bare)
    place = Path(ranks.__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"ltx2.parallel.alone_{name}", place)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look there
    spec.loader.exec_module(module)


def test_letters_that_a_console_does_not_know_are_spelled(monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    with contextlib.suppress(SystemExit):
        cli.main(["--version"])
    cli.open_streams()
    print("größe 影片", file=console, flush=True)
    assert console.buffer.getvalue().decode("cp1252").endswith("größe \\u5f71\\u7247\n")
