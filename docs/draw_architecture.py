"""Draw ``rooms.svg`` and ``walks.svg`` beside this file: ``make picture``.

The rooms are placed by hand; the arrows are what the files import, without those that another way implies. A room that
is nowhere, and an arrow that does not point down, end the run with its name.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# row by row from the top: room → (left edge, what it is)
ROWS: tuple[dict[str, tuple[int, str]], ...] = (
    {"nodes": (130, "sockets in, calls, sockets out"), "cli": (600, "one file a verb")},
    {
        "story": (20, "script, journal, chain"),
        "parallel": (490, "one segment on several GPUs"),
        "tiny": (940, "tiny random checkpoints"),
    },
    {"film": (20, "segments on the film's clock"), "stages": (490, "a segment, stage by stage")},
    {"text": (725, "Gemma, tokenizers, prompts")},
    {
        "continuation": (20, "the state, and nothing else"),
        "media": (255, "pictures, sound, video"),
        "sampling": (490, "schedules, noise, samplers"),
        "checkpoint": (725, "files → weights"),
    },
    {"networks": (835, "transformer, VAEs, vocoders"), "mini": (255, "the small trained model")},
)
EVERYONE = ("clock", "config", "values", "errors", "atomic_files", "system", "resampling", "version")
# what a value passes through, each with the file that does it
WALKS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "A prompt",
        "#7a4fb5",
        (
            ("nodes/text", "a text"),
            ("stages/text_encoding", "batch, cache"),
            ("text/gemma", "hidden states"),
            ("networks/transformer", "connectors"),
            ("stages/denoising", "a TextContext"),
        ),
    ),
    (
        "A frame of the last segment",
        "#b5651d",
        (
            ("continuation", "attachment → state"),
            ("film/handoff", "state → request"),
            ("stages/conditioning", "encode, place, mask"),
            ("stages/denoising", "tokens"),
            ("stages/video_decoding", "pixels"),
            ("film/join", "the film's file"),
        ),
    ),
    (
        "A weight",
        "#2f7d4f",
        (
            ("checkpoint/reader", "header, lazy tensors"),
            ("checkpoint/layout", "names, components"),
            ("checkpoint/quantization", "if it is stored so"),
            ("checkpoint/build", "meta, then assign"),
            ("networks", "made from layers/"),
        ),
    ),
)
WIDTH, BOX, HEIGHT, GAP, TOP = 1180, 220, 52, 46, 24
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"


def room_of(path: Path) -> str:
    """The room of a file of the project."""
    parts = path.relative_to(ROOT).parts
    return "nodes" if parts[0] == "nodes" else Path(parts[1]).stem


def imports(path: Path) -> Iterator[str]:
    """Rooms that a file imports, also inside functions."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        # the pack's own folder is the package that holds both nodes and ltx2
        base = ("pack", *package)[: len(package) + 2 - node.level]
        names = [*base, *(node.module or "").split(".")] if node.module else list(base)
        for target in [names] if node.module else [[*names, alias.name] for alias in node.names]:
            if len(target) > 2 and target[1] == "ltx2":
                yield target[2]


def arrows() -> set[tuple[str, str]]:
    """(from, to) between rooms, without what everyone may know and the package's own surface."""
    found = set()
    for path in [*(ROOT / "ltx2").rglob("*.py"), *(ROOT / "nodes").glob("*.py")]:
        room = room_of(path)
        found |= {(room, target) for target in imports(path) if target != room}
    known = {*EVERYONE, "__init__", "__main__", "__version__"}
    return {(a, b) for a, b in found if a not in known and b not in known}


def reduced(edges: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without the arrows that another way implies."""

    def reaches(start: str, goal: str, without: tuple[str, str]) -> bool:
        ahead = [b for a, b in edges if a == start and (a, b) != without]
        return any(one == goal or reaches(one, goal, without) for one in ahead)

    return sorted(edge for edge in edges if not reaches(*edge, edge))


def places(rooms: Iterable[str]) -> dict[str, tuple[int, int, str]]:
    """Room → (left, top, what it is) for the rooms that are there."""
    found = {
        room: (left, TOP + row * (HEIGHT + GAP), text)
        for row, rooms_of_row in enumerate(ROWS)
        for room, (left, text) in rooms_of_row.items()
    }
    there = set(rooms)
    if missing := sorted(there - found.keys()):
        sys.exit(f"docs/draw_architecture.py: place {', '.join(missing)} in ROWS")
    return {room: place for room, place in found.items() if room in there}


def box(left: float, top: float, width: float, title: str, text: str, *, fill: str, line: str) -> str:
    middle, size = left + width / 2, min(15, int(1.5 * width / len(title)))
    return (
        f"<rect x='{left}' y='{top}' width='{width}' height='{HEIGHT}' rx='8' fill='{fill}' stroke='{line}'/>\n"
        f"<text x='{middle}' y='{top + 22}' text-anchor='middle' font-size='{size}' font-weight='600'>"
        f"{escape(title)}</text>\n"
        f"<text x='{middle}' y='{top + 40}' text-anchor='middle' font-size='12' fill='#555'>{escape(text)}</text>"
    )


def picture(width: int, height: int, parts: Iterable[str], title: str) -> str:
    heads = "\n".join(
        f"<marker id='{name}' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' markerHeight='7' orient='auto'>"
        f"<path d='M0 0 10 5 0 10z' fill='{colour}'/></marker>"
        for name, colour in (("head", "#556"), *((f"head{n}", walk[1]) for n, walk in enumerate(WALKS)))
    )
    body = "\n".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"role='img' aria-label='{escape(title)}' {FONT} fill='#1c1c22'>\n<title>{escape(title)}</title>\n"
        f"<defs>{heads}</defs>\n<rect width='{width}' height='{height}' fill='#fff'/>\n{body}\n</svg>\n"
    )


def draw_rooms() -> str:
    """The rooms and who knows whom."""
    edges = arrows()
    placed = places({room for edge in edges for room in edge})
    for start, goal in sorted(edges):
        if placed[start][1] >= placed[goal][1]:
            sys.exit(f"ltx2/{start} imports ltx2/{goal}, which is not below it: change the code, or ROWS")
    parts = []
    kept = reduced(edges)
    for start, goal in kept:
        (left, top, _), (goal_left, goal_top, _) = placed[start], placed[goal]
        siblings = sorted((placed[b][0] for a, b in kept if a == start))
        above = sorted((placed[a][0] for a, b in kept if b == goal))
        x = left + BOX * (siblings.index(goal_left) + 1) / (len(siblings) + 1)
        goal_x = goal_left + BOX * (above.index(left) + 1) / (len(above) + 1)
        y, goal_y = top + HEIGHT, goal_top - 2
        bend = GAP * 0.9
        parts.append(
            f"<path d='M{x:.0f} {y} C{x:.0f} {y + bend:.0f} {goal_x:.0f} {goal_y - bend:.0f} {goal_x:.0f} {goal_y}' "
            "fill='none' stroke='#556' stroke-width='1.5' marker-end='url(#head)'/>"
        )
    for room, (left, top, text) in placed.items():
        fill = "#fff3dc" if room in ("nodes", "cli") else "#eef3fb"
        parts.append(box(left, top, BOX, f"{room}/", text, fill=fill, line="#7d8597"))
    bottom = TOP + len(ROWS) * (HEIGHT + GAP)
    everyone = " · ".join(EVERYONE)
    parts.append(
        box(20, bottom, WIDTH - 40, everyone, "everyone may know these; they know nobody", fill="#f3f3f0", line="#aaa")
    )
    return picture(WIDTH, bottom + HEIGHT + TOP, parts, "The rooms of the engine and who knows whom")


def draw_walks() -> str:
    """What a prompt, a frame and a weight pass through."""
    parts = []
    for row, (title, colour, steps) in enumerate(WALKS):
        top = TOP + row * (HEIGHT + 66)
        parts.append(
            f"<text x='20' y='{top + 8}' font-size='15' font-weight='600' fill='{colour}'>{escape(title)}</text>"
        )
        gap = 26
        width = (WIDTH - 40 - gap * (len(steps) - 1)) / len(steps)
        for step, (place, what) in enumerate(steps):
            left = 20 + step * (width + gap)
            parts.append(box(round(left), top + 20, round(width), place, what, fill="#fff", line=colour))
            if step:
                y = top + 20 + HEIGHT / 2
                parts.append(
                    f"<path d='M{left - gap + 1:.0f} {y} H{left - 2:.0f}' stroke='{colour}' stroke-width='2' "
                    f"marker-end='url(#head{row})'/>"
                )
    return picture(WIDTH, TOP + len(WALKS) * (HEIGHT + 66), parts, "Three walks through the rooms")


PICTURES = {"rooms.svg": draw_rooms, "walks.svg": draw_walks}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (Path(__file__).parent / name).write_text(draw(), "utf-8")
