"""What was measured, as tables for people."""

from collections.abc import Iterable
from typing import Any

from .session import Session


def markdown(session: Session) -> str:
    """A heading, the machine, and one table a section."""
    facts = session.facts
    told = [name for name in ("card", "card GiB", "torch", "cuda", "cudnn", "python") if name in facts]
    head = ", ".join(f"{name} {facts[name]}" for name in told)
    lines = [f"# {facts['sizes']} on {facts['card']}", "", f"{facts['date']}, {head}.", "", f"    {facts['command']}"]
    for name in dict.fromkeys(row["section"] for row in session.rows):
        rows = [row for row in session.rows if row["section"] == name]
        lines += ["", f"## {name}", "", *table(rows)]
    if session.failures:
        lines += ["", "## What failed", "", *(f"    {line}" for one in session.failures for line in one.splitlines())]
    return "\n".join(lines) + "\n"


def table(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Rows of one section; a column that a row lacks stays empty."""
    rows = list(rows)
    columns = [name for name in dict.fromkeys(name for row in rows for name in row) if name != "section"]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return lines + [f"| {' | '.join(str(row.get(name, '')) for name in columns)} |" for row in rows]
