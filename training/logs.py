"""A log with a JSON object a line, each with the step it tells of, which a killed run goes on with."""

import json
from pathlib import Path


def read_log(path: Path) -> list[dict]:
    """All lines that were written whole."""
    lines = path.read_text("utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def cut_log(path: Path, step: int) -> list[dict]:
    """What was logged up to a step; what a killed run logged after it was last saved is gone with it."""
    kept = [line for line in read_log(path) if line["step"] <= step]
    part = path.with_name(f"{path.name}.part")
    part.write_text("".join(f"{json.dumps(line)}\n" for line in kept), "utf-8")
    part.replace(path)
    return kept


def log(path: Path, line: dict) -> None:
    """Add a line."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{json.dumps(line)}\n")
