"""The gallery pictures of all templates: the graph, and under it the film that this very template makes on the
demonstration model in a real ComfyUI, frames and sound.

    python -m tests.comfyui.make_pictures

``make_workflows`` takes the graphs' pictures anew and then does the same.
"""

import functools
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ltx2.media import read_sound, read_video
from ltx2.media.charts import frame_strip, sound_picture
from ltx2.values import Waveform

from . import hosting, mini_templates, real
from .workflow_loras import LORA_WORKFLOWS
from .workflow_texts import WORKFLOWS

WIDTH, COUNT, SOUND_HEIGHT, MOST_BYTES = 1280, 8, 64, 58_000


def films_of(host: real.Host, name: str) -> list[Path]:
    """What a template makes, after the film that it goes on from."""
    before = mini_templates.prepare(name, host.base)
    there = set((host.base / "output").rglob("*.mp4"))
    host.run(mini_templates.with_mini(name, real.api_workflow(name)))
    made = sorted(set((host.base / "output").rglob("*.mp4")) - there, key=lambda path: path.stat().st_mtime_ns)
    assert made, f"{name} made no film"
    return [*([before] if before else []), *made]


def strip_of(films: list[Path]) -> Image.Image:
    """Eight frames of a film, which may lie in several files, over its sound."""
    frames = np.concatenate([np.asarray(read_video(path).frames) for path in films])
    sounds = [read_sound(path) for path in films]
    sound = Waveform(torch.cat([one.samples for one in sounds], -1), sounds[0].sample_rate)
    places = np.linspace(0, len(frames) - 1, COUNT).round().astype(int)
    row = frame_strip([frames[places]])
    row = row.resize((WIDTH, round(row.height * WIDTH / row.width)), Image.Resampling.LANCZOS)
    joins = np.cumsum([one.samples.shape[-1] / one.sample_rate for one in sounds])[:-1]
    heard = sound_picture(sound, joins=joins.tolist(), width=WIDTH).resize((WIDTH, SOUND_HEIGHT))
    whole = Image.new("RGB", (WIDTH, row.height + SOUND_HEIGHT + 4), "white")
    whole.paste(row, (0, 0))
    whole.paste(heard, (0, row.height + 4))
    return whole


def add(name: str, strip: Image.Image) -> None:
    """Put a strip under the picture of a graph."""
    path = real.WORKFLOWS / f"{name}.jpg"
    with Image.open(path) as graph:
        graph = graph.convert("RGB")
    whole = Image.new("RGB", (max(WIDTH, graph.width), graph.height + strip.height + 8), "white")
    whole.paste(graph, ((whole.width - graph.width) // 2, 0))
    whole.paste(strip, (0, graph.height + 8))
    for quality in range(88, 20, -4):
        whole.save(path, quality=quality, optimize=True)
        if path.stat().st_size <= MOST_BYTES:
            break


def make(host: real.Host) -> None:
    """Strips under the graphs' pictures, which must be fresh; none where mini has not the LoRA. The host has the tests'
    own pack."""
    for name in WORKFLOWS:
        if name not in LORA_WORKFLOWS:
            add(name, strip_of(films_of(host, name)))


BOARD = """\
defaults: {frames: 49}
segments:
  - A yellow star rolls from side to side at sunset.
  - It jumps up and down.
  - prompt: A green ball circles around at night.
    cut: true
  - The ball, now red, rolls from side to side.
"""


def make_board(host: real.Host, folder: Path) -> None:
    """docs/storyboard.jpg: the Story node on the page, when its film is made."""
    from .pages import browsing

    plan = {"workflows": [], "board": {"script": BOARD, "folder": "continuum/board"}, "boardWidth": 780}
    with browsing() as browser:
        browser.visit(host, folder, vue=True, language="en", thumbnails=True, **plan)
    picture = Image.open(folder / "vue/en/board.png").convert("RGB")
    picture.save(hosting.ROOT / "docs/storyboard.jpg", quality=85, optimize=True)


def main() -> None:
    from ltx2.tiny.write import write_tiny

    from .pages import missing
    from .test_real_page import thumbnails

    if not hosting.available() or missing:
        sys.exit(f"{hosting.NO_HOST}; the page needs {', '.join(missing)}")
    with tempfile.TemporaryDirectory() as folder:
        files = functools.cache(lambda version: write_tiny(Path(folder) / version, version))
        base = real.make_base(Path(folder) / "host", files, native=True)
        real.put_inputs(base)
        mini_templates.put_inputs(base)
        with real.running(base) as host:
            thumbnails(host, Path(folder))
            make(host)
            make_board(host, Path(folder))


if __name__ == "__main__":
    main()
