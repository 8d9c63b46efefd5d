"""``ltx2 state``: look into a continuation state, or write it in another form."""

import argparse
import json
from pathlib import Path
from typing import Any

from ..continuation import Attachment, FolderBlobs, describe_attachment, load_attachment, save_attachment
from ..film.saved_film import film_beside, film_in
from ..media import video_info
from ..story.film_file import film_of_stored_state
from . import options
from .report import add_json_argument

_MOST_LETTERS, _MOST_NUMBERS = 1000, 16  # of one value that is printed as it is


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the verb and its options to the command line."""
    parser = subparsers.add_parser("state", help="show or convert a continuation state")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, help_text, run in (
        ("show", "print all fields of a state and the hashes of its content", _show),
        ("convert", "write a state in another form, chosen by the name", _convert),
    ):
        action = actions.add_parser(name, help=help_text, description=help_text)
        action.add_argument("file", help="state as .json, folder, .safetensors or PNG card")
        action.add_argument("--blobs", metavar="DIR", help="folder with the blobs that the state names")
        action.add_argument("--lenient", action="store_true", help="warn about odd values instead of refusing them")
        action.set_defaults(run=run)
        if name == "show":
            add_json_argument(action)
        else:
            action.add_argument("out", help=".png card, .safetensors, .json, or a folder")


def _show(args) -> None:
    found = describe_attachment(args.file, blob_store=_blobs(args), strict=not args.lenient)
    found["film"] = _film(args.file, found["metadata"])
    if args.json:
        print(json.dumps(found, indent=1, allow_nan=args.lenient))
        return
    for name, value in found.items():
        if value not in (None, {}, []):
            print(f"{name}: {value if isinstance(value, (str, int, float)) else json.dumps(_short(value))}")


def _film(file: str, metadata: dict) -> dict[str, Any] | None:
    """The film whose end a state is of: its name, its frames, and where it lies now, if that is known."""
    film = film_in(metadata)
    if film is not None:
        path = film_beside(film, file)
        return {"file": film.file, "frames": film.frames, "path": None if path is None else str(path)}
    path = film_of_stored_state(file)
    return None if path is None else {"file": path.name, "frames": video_info(path).frames, "path": str(path)}


def _short(value: Any) -> Any:
    """A value for people to read: of long texts and lists of numbers how long they are; --json has them whole."""
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    if isinstance(value, str):
        return value if len(value) <= _MOST_LETTERS else f"{len(value)} letters"
    if isinstance(value, list) and len(value) > _MOST_NUMBERS and isinstance(value[0], (int, float)):
        return f"{len(value)} numbers"
    return [_short(one) for one in value] if isinstance(value, list) else value


def _convert(args) -> None:
    options.check_state(args.out)
    blobs = _blobs(args)
    found = load_with_notes(args.file, blobs, strict=not args.lenient)
    print(save_attachment(found.state, args.out, texts=found.texts, blob_store=blobs))


def load_with_notes(file: str | Path, blobs: FolderBlobs | None, *, strict: bool = True) -> Attachment:
    """A state for a verb that goes on with it; what was noted while reading is told on stderr."""
    found = load_attachment(file, blob_store=blobs, strict=strict)
    options.log_notes(found.notes)
    return found


def _blobs(args) -> FolderBlobs | None:
    return FolderBlobs(args.blobs) if args.blobs else None
