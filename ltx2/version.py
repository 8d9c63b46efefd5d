"""The version of this package. It is written in ``pyproject.toml`` alone, where ComfyUI's manager and pip read it."""

import re
from importlib import metadata
from pathlib import Path

NAME = "ltx2-continuum"
PROJECT_FILE = Path(__file__).resolve().parent.parent / "pyproject.toml"
UNKNOWN = "0+unknown"


def read_version(project_file: Path = PROJECT_FILE) -> str:
    """The version in a checkout's or a ComfyUI pack's project file, or that of the installed distribution.

    ``0+unknown`` where neither is there, which is the case when somebody copied the folder ``ltx2`` alone.
    """
    # not by tomllib, which Python 3.10 does not have
    text = project_file.read_text("utf-8") if project_file.is_file() else ""
    table = re.search(r"^\[project\]$(.*?)(?=^\[|\Z)", text, re.M | re.S)
    found = dict(re.findall(r'^(name|version) *= *"([^"]+)"', table[1], re.M)) if table else {}
    if found.get("name") == NAME and "version" in found:
        return found["version"]
    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return UNKNOWN


__version__ = read_version()
