"""What a story may touch: names that its journal recorded before they were there, and files whose content it recorded.

Everything else – a film that somebody put under the same name, a folder named like a segment – is left as it is.
"""

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import system
from ..atomic_files import file_path, sync, sync_folder
from ..errors import StoryError
from .journal import Journal
from .records import TEMP_NAME, SegmentRecord, read_record
from .segment_files import file_sha256
from .sentences import as_story_error, shown


@contextlib.contextmanager
def unfinished(journal: Journal, folder: Path, what: str) -> Iterator[Path]:
    """A new folder inside ``folder`` for what is not finished; gone after the block, also when a later run has to do
    that. One that a segment's record speaks of is finished and stays. what: for errors, such as "the film"."""
    temp = Path(os.path.abspath(folder)) / f".story-{uuid.uuid4().hex}"
    journal.append("writing", temp=os.fspath(temp))
    try:
        with as_story_error(f"{what} cannot be written to {shown(folder)}"):
            temp.mkdir(parents=True)
        yield temp
    finally:
        if temp.name not in finished_folders(journal):
            shutil.rmtree(temp, ignore_errors=True)


def remove_unfinished(journal: Journal) -> None:
    """Remove what killed runs were writing, by the names in the journal; what a record speaks of is finished."""
    finished = finished_folders(journal)
    for entry in journal.of("writing"):
        temp = Path(str(entry.get("temp", "")))
        if TEMP_NAME.fullmatch(temp.name) and temp.is_absolute() and temp.name not in finished:
            shutil.rmtree(temp, ignore_errors=True)


def finished_folders(journal: Journal) -> set[str]:
    """Names under which finished segments lie for a moment, until they have their own."""
    return {str(entry.get("temp")) for entry in journal.of("segment")}


def is_there(path: Path) -> bool:
    """Whether anything has this name, also a link to nothing."""
    return os.path.lexists(path)


def free_name(folder: Path, name: str) -> str:
    """The name, or the name with a number, under which nothing lies in a folder."""
    number, free = 1, name
    while is_there(folder / free):
        number += 1
        free = f"{name}-{number}"
    return free


def recorded_films(journal: Journal) -> set[str]:
    """Hashes of the films that this story wrote."""
    return {str(entry.get("sha256")) for entry in journal.of("film")}


def checked_path(path: str | Path, what: str) -> Path:
    """A path that the file system can be asked about. Raises StoryError."""
    if not os.fspath(path) or file_path(path) is None:
        raise StoryError(f"{shown(path, 60)!r} can be the name of no {what}: use a shorter one of plain characters")
    return Path(path)


def check_writable(journal: Journal, path: Path) -> None:
    """Raise StoryError for a film whose folder takes nothing, while there is nothing to lose yet."""
    with unfinished(journal, path.parent, shown(path)):
        pass


def check_replaceable(path: Path, owned: Collection[str], work: Path) -> None:
    """Raise StoryError when something else than this story's film lies under a film's name."""
    with as_story_error(f"{shown(path)} cannot be read"):
        if is_there(path) and not (path.is_file() and file_sha256(path) in owned):
            raise StoryError(
                f"{shown(path)} is there already and is not the film that the story in {shown(work)} wrote: move it, "
                "or choose another name"
            )


def put_in_place(source: Path, path: Path, owned: Collection[str], work: Path) -> None:
    """Give a finished file its name, in place of nothing or of this story's own file. Raises StoryError."""
    with as_story_error(f"{shown(path)} cannot be written"):
        sync(source)
        if is_there(path):
            check_replaceable(path, owned, work)
            if system.is_held(path):
                raise StoryError(
                    f"another program has {shown(path)} open: close it there and run the story again, whose segments "
                    "are kept"
                )
            system.replace(source, path)
        else:
            _rename_to_nothing(source, path, work)
        sync_folder(path.parent)


def _rename_to_nothing(source: Path, path: Path, work: Path) -> None:
    """As a rename, but refused when something has come there since."""
    try:
        if system.WINDOWS:
            system.rename(source, path)  # refuses by itself
            return
        try:
            os.link(source, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if is_there(path):
                raise FileExistsError from None
            system.replace(source, path)
        else:
            source.unlink()
    except FileExistsError as error:
        raise StoryError(
            f"{shown(path)} was written by something else while the story in {shown(work)} was made: choose another "
            "name, the segments are kept"
        ) from error


def write_owned(journal: Journal, path: Path, data: bytes, owned: Collection[str]) -> bool:
    """Write a small file of the work folder where it does not replace another's. Returns whether it was written."""
    if is_there(path) and not (path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() in owned):
        return False
    with unfinished(journal, path.parent, path.name) as temp:
        (temp / path.name).write_bytes(data)
        put_in_place(temp / path.name, path, owned, path.parent)
    return True


def remove_segment(folder: Path, record: SegmentRecord) -> int:
    """Remove the files of a segment that are still what was recorded, and their folder when nothing else is in it.
    Returns the bytes that are free now."""
    removed = 0
    for name, file in record.files.items():
        path = folder / name
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink() and path.stat().st_size == file.bytes:
                if file_sha256(path) == file.sha256:
                    path.unlink()
                    removed += file.bytes
    with contextlib.suppress(OSError):
        folder.rmdir()
    return removed


@dataclass(frozen=True)
class Unused:
    """Finished segments that a run had no use for, and how much room they take. drafts: how many of them are of
    drafts, which the script may ask for as well as before."""

    segments: int
    bytes: int
    drafts: int = 0

    def __str__(self) -> str:
        return f"{self.what} take{'s' * (self.segments == 1)} {self.bytes / 1e6:.1f} MB"

    @property
    def what(self) -> str:
        """Which segments these are, in words."""
        others = self.segments - self.drafts
        parts = []
        if others or not self.drafts:
            parts.append(f"{others} finished segment{'s' * (others != 1)} that the script no longer asks for")
        if self.drafts:
            parts.append(f"{self.drafts} segment{'s' * (self.drafts != 1)} of a draft")
        return " and ".join(parts)


def remove_unused(
    journal: Journal, segments: Path, used: Collection[str], draft: bool, prune: bool, log: Callable[[str], None]
) -> Unused:
    """What a run had no use for; gone where ``prune`` wished that. segments: the folder of all of them; used: the
    folders of those that it used; draft: whether it made a draft, which knows nothing of finished segments."""
    records = {record.folder: record for record in map(read_record, journal.of("segment"))}
    left = [
        record
        for folder, record in records.items()
        if folder not in used and (record.draft or not draft) and (segments / folder).is_dir()
    ]
    unused = Unused(len(left), sum(record.bytes for record in left), sum(record.draft for record in left))
    if not prune or not left:
        return unused
    freed = sum(remove_segment(segments / record.folder, record) for record in left)
    log(f"{unused.what} {'is' if len(left) == 1 else 'are'} removed, {freed / 1e6:.1f} MB")
    for record in left:
        if (segments / record.folder).exists():
            log(f"{shown(segments / record.folder)} holds something else too: it stays")
    return Unused(0, 0)
