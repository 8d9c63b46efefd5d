"""Which files a path means: one file, the parts of one model, the shards of an index, or what a folder holds."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ...atomic_files import file_path
from ...errors import CheckpointError
from ..weight_file import first_names

# What writers of models in parts call them.
_PART = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})(?P<suffix>\.gguf|\.safetensors)", re.IGNORECASE)
PARTS_LIMIT = 1000
INDEX = ".safetensors.index.json"
INDEX_LIMIT_BYTES = 20_000_000
PIPELINE_INDEX = "model_index.json"
# The folders of a diffusers pipeline whose networks make films; text encoder and upsampler are named by themselves.
PIPELINE_FOLDERS = ("transformer", "connectors", "vae", "audio_vae", "vocoder")


def is_part(name: str) -> bool:
    """Whether a file is called as one part of a model."""
    return _PART.fullmatch(name) is not None


def part_stem(path: Path) -> str:
    """What the parts of one model have in common: where they lie and what stands before their numbers; "" for a file
    that is none."""
    named = _PART.fullmatch(path.name)
    return f"{path.parent}/{named['stem']}-{named['count']}" if named else ""


def parts_of(path: str | os.PathLike) -> list[Path]:
    """The file, all parts of a model that the file is a part of, the shards that an index names, or the model in a
    folder. Raises CheckpointError naming the first part that is missing, and for folders without one model."""
    path = Path(path)
    if file_path(path) is None:  # which is told when it is opened
        return [path]
    if path.is_dir():
        return folder_files(path)
    if path.name.lower().endswith(INDEX) and path.is_file():
        return index_shards(path)
    named = _PART.fullmatch(path.name)
    count = int(named["count"]) if named else 1
    if not named or not 1 < count <= PARTS_LIMIT or not path.exists():
        return [path]
    parts = [path.with_name(f"{named['stem']}-{i:05}-of-{count:05}{named['suffix']}") for i in range(1, count + 1)]
    missing = [part.name for part in parts if not part.exists()]
    if missing:
        raise CheckpointError(
            f"{path} is one of {count} parts, and {missing[0]} is not beside it ({len(missing)} are missing): finish "
            "the download"
        )
    return parts


def index_shards(index: Path) -> list[Path]:
    """The files that an index of shards names, which lie beside it. Raises CheckpointError for another file, and when
    some are absent."""
    try:
        if index.stat().st_size > INDEX_LIMIT_BYTES:
            raise ValueError
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        if not names or any(not name or Path(name).name != name for name in names):
            raise ValueError
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{index} is not an index of safetensors shards: get it again") from error
    files = [index.with_name(name) for name in names]
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise CheckpointError(
            f"{index.parent} lacks {len(absent)} of {len(files)} shards ({absent[0]}): finish the download"
        )
    return files


def folder_files(folder: Path) -> list[Path]:
    """The one model of a folder, or the networks of a diffusers pipeline. Raises CheckpointError when there are none or
    several."""
    if (folder / PIPELINE_INDEX).is_file():
        parts = [one for one in (folder / name for name in PIPELINE_FOLDERS) if one.is_dir()]
        if not parts:
            raise CheckpointError(
                f"{folder} is a diffusers pipeline without the folder transformer: finish the download"
            )
        return [file for one in parts for file in folder_files(one)]
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    found = [name for name in names if name.lower().endswith(INDEX)] or [
        name for name in names if name.lower().endswith((".safetensors", ".gguf")) and (folder / name).is_file()
    ]
    models: dict[str, list[Path]] = {}
    for name in found:
        files = parts_of(folder / name)
        models.setdefault(str(files[0]), files)
    if len(models) == 1:
        return next(iter(models.values()))
    if models:
        raise CheckpointError(
            f"{folder} is a folder with {len(models)} models ({first_names(found)}): choose one of the files"
        )
    below = next(_with_weights(folder), None)
    fix = "name the file itself" if below is None else f"its weights are in {below}, so name that folder"
    raise CheckpointError(f"{folder} is a folder without weights, expected a .safetensors or .gguf file: {fix}")


def _with_weights(folder: Path) -> Iterator[str]:
    """Folders below one that have weights or a pipeline in them, as Hugging Face's cache keeps them below
    ``snapshots``."""
    for place, folders, files in os.walk(folder):
        here = os.path.relpath(place, folder)
        folders[:] = sorted(one for one in folders if not one.startswith(".")) if here.count(os.sep) < 2 else []
        if any(name == PIPELINE_INDEX or name.lower().endswith((".safetensors", ".gguf")) for name in files):
            yield here


def model_name(path: Path) -> str:
    """What a model is called: as its file; a network of a diffusers pipeline, whose files are all called the same, as
    the pipeline's folder."""
    folder = path.absolute().parent
    return folder.parent.name if folder.name in PIPELINE_FOLDERS and folder.parent.name else path.name


def has_text_encoder(folder: str | os.PathLike) -> bool:
    """Whether a path is the folder of a diffusers pipeline with its text encoder."""
    return all(os.path.exists(os.path.join(folder, name)) for name in (PIPELINE_INDEX, "text_encoder"))


def gguf_names(folder: str | os.PathLike, *, below: bool = True) -> list[str]:
    """GGUF files in a folder, as paths from there; of a model in parts the first. below: in its folders too."""
    found = []
    for place, folders, files in os.walk(os.fspath(folder), followlinks=True):
        folders[:] = [one for one in folders if one != ".git"] if below else []
        names = [name for name in files if name.lower().endswith(".gguf")]
        first = (name for name in names if not (is_part(name) and "-00001-of-" not in name))
        found += [os.path.relpath(os.path.join(place, name), folder) for name in first]
    return found
