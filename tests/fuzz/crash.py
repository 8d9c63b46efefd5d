"""A campaign of kills and faults: nothing that was finished is lost, nothing is half, nothing is left lying about.

    python -m tests.fuzz.crash [--kills 200] [--story-kills 10] [--seed 0]      (``make crash``)

kills: of processes that save states in every form and store sessions with their blobs, at random moments.
story-kills: of the real ``ltx2 story`` on the demonstration model, until it is finished; the film must be the one of a
run that nobody killed. faults: every write, sync, rename, creation and removal of saving, storing and telling a story
fails, once and from then on. full disk: the same on a file system of a few hundred kilobytes, where this machine lets
us make one.
"""

import argparse
import contextlib
import hashlib
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ltx2.continuation import (
    FileBlobStore,
    FileSessionStore,
    LTX2ContinuationState,
    load_attachment,
    save_attachment,
)
from ltx2.continuation.attachments import FORMS
from ltx2.errors import LONGEST_MESSAGE, Ltx2Error, Ltx2Warning
from ltx2.story.chain import run_story
from ltx2.story.script import parse_script

from ..continuation.test_codec import full_state
from ..continuation.vectors import described
from ..story.fake import Fake
from .faults import CODES, PLACE, STEPS, failing

NAMES = {"folder": "state", "safetensors": "state.safetensors", "card": "state.png", "json": "state.json"}
ROOT = Path(__file__).resolve().parents[2]
STARTED_SECONDS = 120
SMALL_DISK_KIB = 1600  # a story of two segments needs 1100


def wanted(index: int) -> LTX2ContinuationState:
    return full_state(segment_index=index)


def litter(folder: Path) -> list[str]:
    """What unfinished work leaves: nothing may be there after the next save."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob(".ltx2-*"))


# --- kills of saves and stores ---------------------------------------------------------------------------------------


def save_on_and_on(folder: Path, form: str, started) -> None:
    for index in range(10**9):
        save_attachment(wanted(index % 2), folder / NAMES[form])
        started.set()


def store_on_and_on(folder: Path, form: str, started) -> None:
    blobs = FileBlobStore(folder / "blobs")
    sessions = FileSessionStore(folder / "sessions", owned_blobs=blobs)
    for index in range(10**9):
        state = wanted(index % 2).to_continuation_state(blob_store=blobs, inline_threshold_bytes=0)
        sessions.store(f"s{index % 3}", state)
        if index % 5 == 4:
            sessions.drop(f"s{index % 3}")
        started.set()


def kill_during(work: Callable, folder: Path, form: str, rng: random.Random) -> None:
    """Run work in a process of its own and kill it at a random moment after its first round."""
    context = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
    started = context.Event()
    process = context.Process(target=work, args=(folder, form, started))
    process.start()
    try:
        assert started.wait(STARTED_SECONDS), "the process that saves did not begin"
        time.sleep(rng.random() * 0.03)
    finally:
        process.kill()
        process.join()


def kill_saves(folder: Path, form: str, kills: int, rng: random.Random) -> None:
    sound = [described(wanted(index)) for index in (0, 1)]
    folder.mkdir()
    for _ in range(kills):
        kill_during(save_on_and_on, folder, form, rng)
        assert described(load_attachment(folder / NAMES[form]).state) in sound
    save_attachment(wanted(0), folder / NAMES[form])
    assert not litter(folder) and os.listdir(folder) == [NAMES[form]], litter(folder)


def kill_stores(folder: Path, kills: int, rng: random.Random) -> None:
    sound = [described(wanted(index)) for index in (0, 1)]
    folder.mkdir()
    for _ in range(kills):
        kill_during(store_on_and_on, folder, "", rng)
        blobs = FileBlobStore(folder / "blobs")
        sessions = FileSessionStore(folder / "sessions", owned_blobs=blobs)
        assert not sessions.damaged() and not blobs.damaged()
        for name in sessions:
            state = LTX2ContinuationState.from_continuation_state(sessions.snapshot(name), blob_store=blobs)
            assert described(state) in sound
        sessions.sweep()
        assert not litter(folder), litter(folder)


# --- faults ----------------------------------------------------------------------------------------------------------


def ours(error: BaseException) -> None:
    """Asserts that an error is one sentence of ours, without a path that nobody gave."""
    words = str(error)
    assert isinstance(error, Ltx2Error), repr(error)
    assert words.isprintable() and len(words) <= LONGEST_MESSAGE, words
    assert not any(hidden in words for hidden in (PLACE, ".story-", ".ltx2-")), words


def every_fault(
    work: Callable[[], object], check: Callable[[bool], None], codes: Sequence[int] = CODES, some_mux: int = 1
) -> int:
    """Do work with each of its steps failing, once and from then on, and check after each what it is told: whether the
    work was done. Of what FFmpeg writes by itself, every ``some_mux``-th. Returns how many faults that were."""
    with failing(STEPS, 0) as counter:
        work()
    check(True)
    calls = [call for call, name in enumerate(counter.done, 1) if name != "mux" or not call % some_mux]
    for number, (lasting, call) in enumerate(itertools.product((False, True), calls)):
        done = True
        with failing(STEPS, call, codes[number % len(codes)], lasting):
            try:
                work()
            except Ltx2Error as error:
                ours(error)
                done = False
        check(done)
    return 2 * len(calls)


def fault_saves(folder: Path, form: str) -> int:
    path = folder / NAMES[form]
    folder.mkdir()
    save_attachment(wanted(0), path)

    def check(done: bool) -> None:
        assert load_attachment(path).state.segment_index in ((1,) if done else (0, 1))
        save_attachment(wanted(0), path)
        assert not litter(folder), litter(folder)

    return every_fault(lambda: save_attachment(wanted(1), path), check)


def fault_stores(folder: Path) -> int:
    folder.mkdir()
    blobs = FileBlobStore(folder / "blobs")
    sessions = FileSessionStore(folder / "sessions", owned_blobs=blobs)

    def store(index: int) -> None:
        state = wanted(index).to_continuation_state(blob_store=blobs, inline_threshold_bytes=0)
        sessions.store("s", state)

    def check(done: bool) -> None:
        state = LTX2ContinuationState.from_continuation_state(sessions.snapshot("s"), blob_store=blobs)
        assert state.segment_index in ((1,) if done else (0, 1)) and len(state.video_frames) == 9
        store(0)
        sessions.sweep()
        blobs.sweep()

    store(0)
    found = every_fault(lambda: store(1), check)
    assert not litter(folder), litter(folder)
    return found


STORY = "fps: 24\noverlap: {video: 9, audio: 15}\ndefaults: {frames: 25}\nsegments: [a, b]\n"


def tell(folder: Path) -> Path:
    script = parse_script(STORY)
    return run_story(script, Fake(script.fps), work=folder / "work", out=folder / "film.mp4").film


def fault_story(folder: Path) -> int:
    """Faults of a story told from nothing; told again, it gives the film that it would have given."""
    folder.mkdir()
    film = hashlib.sha256(tell(folder).read_bytes()).hexdigest()

    def clear() -> None:
        shutil.rmtree(folder / "work", ignore_errors=True)
        (folder / "film.mp4").unlink(missing_ok=True)

    def check(done: bool) -> None:
        assert hashlib.sha256(tell(folder).read_bytes()).hexdigest() == film
        assert not litter(folder) and sorted(os.listdir(folder)) == ["film.mp4", "work"], os.listdir(folder)
        clear()

    clear()
    return sum(every_fault(lambda: tell(folder), check, [code], some_mux=8) for code in CODES)


# --- a full disk -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A file system of a few hundred kilobytes, or None where this machine does not let us make one."""
    folder.mkdir()
    mount = shutil.which("mount")
    made = (
        mount
        and not subprocess.run(
            [mount, "-t", "tmpfs", "-o", f"size={SMALL_DISK_KIB}k", "tmpfs", str(folder)], capture_output=True
        ).returncode
    )
    try:
        yield folder if made else None
    finally:
        if made:
            subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def fill_disk(folder: Path) -> str:
    with small_disk(folder) as disk:
        if disk is None:
            return "skipped: this machine makes no small file system"
        refused = 0
        film = tell(folder.parent / "told").read_bytes()
        save_attachment(wanted(0), disk / "state.safetensors")
        for attempt in (*FORMS, "store", "story"):
            for room in range(0, *((1200, 60) if attempt == "story" else (400, 24))):
                refused += fill_and_try(disk, attempt, room * 1024, film)
                assert load_attachment(disk / "state.safetensors").state.segment_index in (0, 1)
        return f"{refused} refused, the state before always there"


def fill_and_try(disk: Path, attempt: str, room: int, film: bytes) -> int:
    """Leave so many bytes free, try, and clear what is left: whether it was refused. A story that is told again when
    there is room becomes the film that it would have been."""
    ballast = disk / "ballast"
    free = shutil.disk_usage(disk).free
    ballast.write_bytes(b"x" * max(0, free - room))
    try:
        if attempt == "story":
            tell(disk)
        elif attempt == "store":
            blobs = FileBlobStore(disk / "blobs")
            state = wanted(1).to_continuation_state(blob_store=blobs, inline_threshold_bytes=0)
            FileSessionStore(disk / "sessions", owned_blobs=blobs).store("s", state)
        else:
            save_attachment(wanted(1), disk / ("state.safetensors" if attempt == "safetensors" else NAMES[attempt]))
    except Ltx2Error as error:
        ours(error)
        return 1
    finally:
        ballast.unlink(missing_ok=True)
        assert attempt != "story" or tell(disk).read_bytes() == film
        assert not [name for name in litter(disk) if "work" not in name], litter(disk)
        for entry in disk.iterdir():
            if entry.name != "state.safetensors":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return 0


# --- kills of the real story -----------------------------------------------------------------------------------------


REAL_STORY = """
size: 64x64
defaults: {frames: 17}
segments: [A red ball jumps., It rolls from side to side., A blue star circles around., It jumps.]
"""
LINES_OF_A_RUN = 10  # about so many things it says on the way


def kill_story(folder: Path, kills: int, rng: random.Random) -> str:
    folder.mkdir()
    (folder / "story.yaml").write_text(REAL_STORY)

    def command(name: str) -> list[str]:
        where = ["--work", folder / name, "--out", folder / f"{name}.mp4", "--checkpoint", "mini", "--device", "cpu"]
        return [sys.executable, "-m", "ltx2", "story", *map(str, [folder / "story.yaml", *where])]

    subprocess.run(command("whole"), cwd=ROOT, check=True, capture_output=True)
    done = finished = 0
    while done < kills:
        process = subprocess.Popen(command("killed"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        said = []
        for line, _ in zip(process.stderr, range(rng.randrange(LINES_OF_A_RUN))):
            said.append(line.decode())
        time.sleep(rng.random() * 0.4)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            done += 1
        process.stderr.close()
        process.wait()
        assert process.returncode in (0, -signal.SIGKILL), said
        if process.returncode == 0:  # begun anew, so that every kill finds work to do
            finished += 1
            same_story(folder)
            shutil.rmtree(folder / "killed")
            (folder / "killed.mp4").unlink()
    subprocess.run(command("killed"), cwd=ROOT, check=True, capture_output=True)
    same_story(folder)
    return f"{done} kills, {finished + 1} times to the end, each time to the film that nobody killed"


def same_story(folder: Path) -> None:
    """Asserts that the killed story is, byte for byte, the one that nobody killed, and that nothing else lies there."""
    films = [hashlib.sha256((folder / f"{name}.mp4").read_bytes()).hexdigest() for name in ("whole", "killed")]
    segments = [segment_hashes(folder / name) for name in ("whole", "killed")]
    assert segments[0] == segments[1], "the segments differ from those of a run that nobody killed"
    assert films[0] == films[1], "the film differs from the one of a run that nobody killed"
    left = [str(p.relative_to(folder)) for p in folder.rglob(".*") if p.name != ".lock"]
    assert not left, left


def segment_hashes(work: Path) -> dict[str, str]:
    return {
        str(p.relative_to(work)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted((work / "segments").rglob("*"))
        if p.is_file()
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.crash", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="of processes that save or store (default 200)")
    parser.add_argument("--story-kills", type=int, default=10, help="of the real ltx2 story (default 10)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    rng = random.Random(args.seed)
    warnings.simplefilter("ignore", Ltx2Warning)
    share = max(1, args.kills // 5)
    with tempfile.TemporaryDirectory(prefix="ltx2-crash-") as name:
        base = Path(name)
        for form in FORMS:
            kill_saves(base / f"kill-{form}", form, share, rng)
            print(f"kills while saving as {form}: {share}, each time the old state or the new", flush=True)
        kill_stores(base / "kill-stores", share, rng)
        print(f"kills while storing: {share}, each session whole with its blobs", flush=True)
        for form in FORMS:
            print(f"faults while saving as {form}: {fault_saves(base / f'fault-{form}', form)}", flush=True)
        print(f"faults while storing: {fault_stores(base / 'fault-stores')}", flush=True)
        print(f"faults in a story: {fault_story(base / 'fault-story')}", flush=True)
        print(f"full disk: {fill_disk(base / 'disk')}", flush=True)
        if args.story_kills:
            print(f"the real story: {kill_story(base / 'story', args.story_kills, rng)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
