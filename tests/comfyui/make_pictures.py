"""Under the picture of each template's graph, what the demonstration model makes by the same steps: frames and sound.

    python -m tests.comfyui.make_pictures

``make_workflows`` takes the graphs' pictures anew and then calls this.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ltx2.cli import main
from ltx2.media import read_sound, read_video, write_wav
from ltx2.media.charts import frame_strip, sound_picture
from ltx2.values import Waveform
from training import world
from training.world import Subject

from . import real

WIDTH, COUNT, SOUND_HEIGHT, MOST_BYTES = 1280, 8, 64, 58_000
BOX = Subject("purple", "box", "sea", "up")
BALL = Subject("green", "ball", "night", "round")
STAR = Subject("yellow", "star", "sunset", "side")
STORY = """\
defaults: {{frames: 49}}
segments:
{lines}"""


def run(*words: object) -> None:
    if main([str(word) for word in words]):
        raise SystemExit(f"ltx2 {words[0]} failed")


def generate(folder: Path, prompt: str, *more: object) -> list[Path]:
    run("generate", "--checkpoint", "mini", "--prompt", prompt, "--out", folder / "film.mp4", *more)
    return [folder / "film.mp4"]


def story(folder: Path, *lines: str) -> list[Path]:
    script = folder / "story.yaml"
    script.write_text(STORY.format(lines="".join(f"  - {line}\n" for line in lines)), "utf-8")
    run("story", script, "--checkpoint", "mini", "--work", folder / "work", "--out", folder / "film.mp4")
    return [folder / "film.mp4"]


def continued(folder: Path, prompt: str, later: str) -> list[Path]:
    """A film in two runs: the second knows the state alone."""
    state, second = folder / "state.png", folder / "second.mp4"
    first = generate(folder, prompt, "--save-state", state)
    run("continue", state, "--checkpoint", "mini", "--prompt", later, "--out", second)
    return [*first, second]


def picture(folder: Path, subject: Subject, cell: tuple[int, int]) -> Path:
    """A drawn picture of the world."""
    frame = world.render(subject, world.path("rest", cell, "", 0))[0]
    path = folder / f"{cell[0]}{cell[1]}.png"
    Image.fromarray((frame * 255).round().astype(np.uint8)).save(path)
    return path


def own_audio(folder: Path) -> list[Path]:
    way = world.path(BALL.motion, world.START[BALL.motion], "", 6)
    sound = torch.from_numpy(world.sound(BALL.colour, way.hits, 49)).float()
    write_wav(folder / "own.wav", Waveform(sound, 48000))
    return generate(folder, BALL.prompt, "--audio", folder / "own.wav")


def keyframes(folder: Path) -> list[Path]:
    """The model never saw a last picture; where the way between the two is short it takes it."""
    subject = STAR.but(motion="up")
    way = world.path(subject.motion, (1, 2), "", 6)
    first, last = (picture(folder, subject, cell) for cell in (way.cells[0], way.cells[-1]))
    return generate(folder, subject.prompt, "--image", f"{first}@0", "--image", f"{last}@last")


FILMS: dict[str, Callable[[Path], list[Path]]] = {
    "text_to_video_two_stages": lambda folder: generate(folder, STAR.prompt),
    "image_to_video": lambda folder: generate(folder, "It jumps up and down.", "--image", picture(folder, BOX, (1, 3))),
    "keyframes": keyframes,
    "three_segment_film": lambda folder: story(
        folder, STAR.prompt, "It jumps up and down.", "The star, now blue, circles around."
    ),
    "continue_from_state": lambda folder: continued(folder, BALL.prompt, "It rolls from side to side."),
    "story": lambda folder: story(
        folder, STAR.prompt, "It circles around.", f"{{prompt: {BALL.prompt}, cut: true}}", "It jumps up and down."
    ),
    "own_audio": own_audio,
    "native_continuation": lambda folder: continued(folder, BOX.prompt, "The box, now red, circles around."),
}


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


def make() -> None:
    for name, film in FILMS.items():
        with tempfile.TemporaryDirectory() as folder:
            add(name, strip_of(film(Path(folder))))


if __name__ == "__main__":
    make()
