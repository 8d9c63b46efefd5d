"""Continuation measured by meaning: three-segment stories of the demonstration model, judged from their frames and
sound.

    python -m benchmarks.meaning --out meaning.json

Everything goes through the command line, as a user runs it: `ltx2 story`, and for what it is compared with `ltx2
generate` and `ltx2 continue`. Prompts are combinations that training never saw. The judge is training/meaning.py.
"""

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ltx2.cli import main as ltx2
from ltx2.media import read_sound, read_video, write_video
from ltx2.values import Waveform
from training import meaning, world
from training.world import Subject

SEGMENTS, OVERLAP = 3, 9
LENGTHS = (41, 49, 57)  # frames of a segment, in turn: so that joins fall in the middle of a way too
SEED = 100
BRIEF = {"side": "It rolls", "up": "It jumps", "round": "It circles", "rest": "It rests"}


@dataclass(frozen=True)
class Case:
    """A story of one subject. brief: later prompts say the motion alone."""

    subject: Subject
    frames: int
    seed: int
    brief: bool = False

    @property
    def prompts(self) -> list[str]:
        later = f"{BRIEF[self.subject.motion]}." if self.brief else self.subject.prompt
        return [self.subject.prompt, *[later] * (SEGMENTS - 1)]

    def truth(self, repeated: int = OVERLAP, segments: int = SEGMENTS) -> meaning.Truth:
        """What is right, where each later segment repeats so many frames."""
        first, later = (self.frames - 1) // world.STEP, (self.frames - repeated) // world.STEP
        return meaning.story_truth([self.subject] * segments, [first, *[later] * (segments - 1)])


@dataclass(frozen=True)
class Film:
    """Frames [N, 96, 128, 3] in 0…1, and mono samples."""

    frames: np.ndarray
    sound: np.ndarray
    rate: int

    def judged(self, truth: meaning.Truth) -> meaning.Verdict:
        return meaning.judge(self.frames, self.sound, self.rate, truth)


@dataclass(frozen=True)
class Method:
    """A way to make a story. repeated: frames that a later segment has in common with the one before."""

    title: str
    make: Callable[[Case, Path], Film]
    repeated: int = OVERLAP


def run(*words: object) -> None:
    """One command; what it says is shown when it fails."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        status = ltx2([str(word) for word in words])
    if status:
        raise SystemExit(f"ltx2 {words[0]} failed:\n{said.getvalue()}")


def read_film(path: Path) -> Film:
    clip, sound = read_video(path), read_sound(path)
    frames = np.asarray(clip.frames, dtype=np.float32) / 255
    return Film(frames, sound.samples.mean(0).numpy(), sound.sample_rate)


def story(case: Case, folder: Path, audio_overlap: int = 49) -> Film:
    """The whole state: picture and sound go on."""
    overlap = f"overlap: {{video: {OVERLAP}, audio: {audio_overlap}}}"
    lines = [f"seed: {case.seed}", overlap, f"defaults: {{frames: {case.frames}}}", "segments:"]
    script = folder / "story.yaml"
    script.write_text("\n".join([*lines, *(f"  - {prompt}" for prompt in case.prompts)]) + "\n", "utf-8")
    run("story", script, "--checkpoint", "mini", "--work", folder / "work", "--out", folder / "film.mp4")
    return read_film(folder / "film.mp4")


def picture_only(case: Case, folder: Path) -> Film:
    """The last nine frames, without their sound."""
    return story(case, folder, audio_overlap=0)


def clip_of(case: Case, index: int, out: Path, *more: object) -> Film:
    """One segment, as PNG and WAV: nothing is lost before it is judged or continued."""
    words = ("--prompt", case.prompts[index], "--seed", case.seed + index, "--frames", case.frames)
    run("generate", "--checkpoint", "mini", *words, "--out", out, *more)
    frames = [np.asarray(Image.open(path), np.float32) / 255 for path in sorted(out.glob("*.png"))]
    sound = read_sound(out / "sound.wav")
    return Film(np.stack(frames), sound.samples.mean(0).numpy(), sound.sample_rate)


def joined(films: list[Film], repeated: int) -> Film:
    """Segments one after the other, without each later one's first frames; sound as long as the picture."""
    frames, sounds = [], []
    for index, film in enumerate(films):
        first = repeated if index else 0
        frames.append(film.frames[first:])
        start, end = (round(count * film.rate / world.FPS) for count in (first, len(film.frames)))
        sounds.append(film.sound[start:end])
    return Film(np.concatenate(frames), np.concatenate(sounds), films[0].rate)


def anew(case: Case, folder: Path) -> Film:
    """Each segment from its prompt alone."""
    return joined([clip_of(case, index, folder / str(index)) for index in range(SEGMENTS)], OVERLAP)


def last_frame(case: Case, folder: Path) -> Film:
    """Each segment from the last frame of the one before: what most extend workflows do."""
    films: list[Film] = []
    for index in range(SEGMENTS):
        more: tuple[object, ...] = ()
        if films:
            picture = folder / f"{index}.png"
            Image.fromarray((films[-1].frames[-1] * 255).round().astype(np.uint8)).save(picture)
            more = ("--image", picture)
        films.append(clip_of(case, index, folder / str(index), *more))
    return joined(films, 1)


METHODS = (
    Method("continuation (`ltx2 story`)", story),
    Method("picture only: 9 frames, no sound", picture_only),
    Method("last frame only", last_frame, repeated=1),
    Method("each segment anew", anew),
)


def cases(count: int, brief: bool = False) -> list[Case]:
    """Combinations that training never saw, spread over all."""
    found = [subject for subject in world.all_subjects() if subject.withheld]
    picked = [found[index * len(found) // count] for index in range(count)]
    return [
        Case(subject, LENGTHS[index % len(LENGTHS)], SEED + 10 * index, brief) for index, subject in enumerate(picked)
    ]


def mean_of(verdicts: list[meaning.Verdict]) -> dict:
    """Shares by segment, clips without a ghost, and level steps in dB."""
    segments = [
        {name: float(np.mean([verdict.segments[index][name] for verdict in verdicts])) for name in meaning.NAMES}
        for index in range(len(verdicts[0].segments))
    ]
    return {
        "segments": segments,
        "without_ghost": float(np.mean([flag for verdict in verdicts for flag in verdict.clean])),
        "level_step_db": float(np.max([verdict.level_step for verdict in verdicts])),
        "level_step_median_db": float(np.median([verdict.level_step for verdict in verdicts])),
    }


def judge_itself(stories: list[Case], folder: Path) -> dict:
    """The judge on films as they should be, through the same files."""
    verdicts = []
    for index, case in enumerate(stories):
        truth = case.truth()
        frames = world.render(case.subject, truth.way)
        samples = world.sound(case.subject.colour, truth.way.hits, truth.frames, 24000)
        path = folder / f"truth{index}.mp4"
        sound = Waveform(torch.from_numpy(samples).float(), 24000)
        write_video(path, [np.round(frames * 255).astype(np.uint8)], fps=world.FPS, sound=sound)
        verdicts.append(read_film(path).judged(truth))
    return mean_of(verdicts)


def shuffled_ends(stories: list[Case], folder: Path) -> dict:
    """Control: a segment that goes on from another story's state. Right is where its own story would have gone."""
    firsts = [
        clip_of(case, 0, folder / f"first{index}", "--save-state", folder / f"{index}.safetensors")
        for index, case in enumerate(stories)
    ]
    verdicts = []
    for index, case in enumerate(stories):
        state, out = folder / f"{(index + 1) % len(stories)}.safetensors", folder / f"second{index}.mp4"
        words = ("--checkpoint", "mini", "--prompt", case.subject.prompt, "--frames", case.frames)
        run("continue", state, *words, "--out", out)
        film, first = read_film(out), firsts[index]
        sounds = first.sound[: round(case.frames * first.rate / world.FPS)], film.sound
        whole = Film(np.concatenate([first.frames, film.frames]), np.concatenate(sounds), film.rate)
        verdicts.append(whole.judged(case.truth(segments=2)))
    return {name: float(np.mean([verdict.segments[1][name] for verdict in verdicts])) for name in meaning.NAMES}


def compare(stories: list[Case], folder: Path) -> tuple[dict, list[Film]]:
    """All methods on the same stories, and the films of the first."""
    found, first = {}, []
    for number, method in enumerate(METHODS):
        verdicts = []
        for index, case in enumerate(stories):
            place = folder / f"{'brief' if case.brief else 'full'}-{number}-{index}"
            place.mkdir()
            film = method.make(case, place)
            verdicts.append(film.judged(case.truth(method.repeated)))
            first += [film] if number == 0 else []
        found[method.title] = mean_of(verdicts)
        print(f"{method.title}: {found[method.title]}", flush=True)
    return found, first


def measure(count: int, folder: Path) -> dict:
    stories = cases(count)
    result: dict = {"cases": count, "judge": judge_itself(stories, folder)}
    result["full"], films = compare(stories, folder)
    # the same films, held against another story of the same length
    others = [stories[(index + len(LENGTHS)) % count] for index in range(count)]
    result["other prompts"] = mean_of([film.judged(other.truth()) for film, other in zip(films, others)])
    result["other state"] = shuffled_ends(stories, folder)
    result["brief"], _ = compare(cases(max(1, count // 2), brief=True), folder)
    return result


def table(rows: dict[str, dict]) -> str:
    """Markdown: one row a method and segment."""
    lines = [f"| | segment | {' | '.join(meaning.NAMES)} | clips without ghost | level step dB, median (most) |"]
    lines.append("|---|---|" + "---|" * (len(meaning.NAMES) + 2))
    for title, found in rows.items():
        for index, segment in enumerate(found["segments"]):
            shares = " | ".join(f"{segment[name]:.2f}" for name in meaning.NAMES)
            last = f"{found['without_ghost']:.2f} | {found['level_step_median_db']:.1f} ({found['level_step_db']:.1f})"
            lines.append(f"| {'' if index else title} | {index + 1} | {shares} | {'|' if index else last} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--out", type=Path, help="all figures as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)  # the networks are too small for more
    with tempfile.TemporaryDirectory() as folder:
        result = measure(args.cases, Path(folder))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(
        table({"the judge on true films": result["judge"], **result["full"], "other prompts": result["other prompts"]})
    )
    shares = " | ".join(f"{result['other state'][name]:.2f}" for name in meaning.NAMES)
    print(f"| another story's state | 2 | {shares} | | |\n")
    print(table(result["brief"]))


if __name__ == "__main__":
    main()
