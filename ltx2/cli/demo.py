"""``ltx2 demo``: a film of three segments with sound on the demonstration model, which needs no download."""

import argparse
import shlex
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from .. import media
from ..errors import RequestError
from ..film.timeline import VIDEO_OVERLAP_FRAMES
from ..media.charts import frame_strip, sound_picture
from ..mini import NAME
from . import story

FRAMES, EVERY = 49, 8
# Nothing but the first prompt says what it is and where: the state does.
PROMPTS = (
    "A yellow star rolls from side to side at sunset.",
    "It jumps up and down.",
    "The star, now blue, circles around.",
)
SCRIPT = """\
# the demonstration model makes 2 seconds a segment at 128x96
defaults: {{frames: {frames}}}
segments:
{lines}"""
LOOK = """
What to look for in {strip} (a row a segment, a frame in eight):
  * the second prompt says neither what jumps nor where: colour, shape and scene go on, from where the first ended;
  * the third changes the colour alone, and the place and the way go on.
In {sound} (waveform over spectrogram, joins in red):
  * the tone belongs to the colour: it goes on over the first join without a click, and changes at the second;
  * a short high blip is heard whenever the star touches a wall, which happens in the picture at the same time.
The released models make real pictures, speech and music by the same steps:
  ltx2 story film.yaml --checkpoint ltx-2.3-22b-distilled.safetensors --text-encoder gemma_3_12B_it.safetensors ...
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the verb and its options to the command line."""
    parser = subparsers.add_parser(
        "demo",
        help="make a film with sound on the model that comes along",
        description=(
            "Make a film of three segments on the small trained model that comes along, by the same steps as on a "
            "released one. Besides the film it leaves a strip of its frames, a picture of its sound and the script."
        ),
    )
    parser.add_argument("--out", default="demo", metavar="DIR", help="where the film goes (default demo)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the verb. Raises Ltx2Error."""
    begun = time.perf_counter()
    out = Path(args.out)
    _check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    script, film, work = out / "story.yaml", out / "demo.mp4", out / "work"
    lines = "".join(f"  - {prompt}\n" for prompt in PROMPTS)
    script.write_text(SCRIPT.format(frames=FRAMES, lines=lines), "utf-8")
    shutil.rmtree(work, ignore_errors=True)  # shown from the beginning, each time
    command = ["story", str(script), "--checkpoint", NAME, "--device", "cpu", "--work", str(work), "--out", str(film)]
    verbs = argparse.ArgumentParser().add_subparsers()
    story.add_parser(verbs)
    print(f"ltx2: running ltx2 {shlex.join(command)}", file=sys.stderr)
    story.run(verbs.choices["story"].parse_args(command[1:]))
    strip, sound = picture(film, out)
    print(LOOK.format(strip=strip, sound=sound))
    print(f"The film is at {film.resolve()} ({time.perf_counter() - begun:.0f} s).")


def _check_folder(out: Path) -> None:
    """Raises RequestError for a folder that holds other things: what is in an earlier demonstration's is replaced."""
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out} is a file, expected a folder: choose another name")
    if not out.exists() and out.suffix.lower() == ".mp4":
        raise RequestError(f"out is {out}, expected a folder: name one, the film becomes demo.mp4 in it")
    if out.is_dir() and any(out.iterdir()) and not (out / "story.yaml").is_file():
        raise RequestError(f"{out} holds other files: choose a new folder")
    if (out / "story.yaml").is_file() and not (out / "story.yaml").read_bytes().startswith(SCRIPT[:24].encode()):
        raise RequestError(f"{out} holds another story: choose a new folder")


def picture(film: Path, out: Path) -> tuple[Path, Path]:
    """Write the strip of frames and the picture of the sound."""
    clip = media.read_video(film)
    new = FRAMES - VIDEO_OVERLAP_FRAMES
    starts = [0, *(FRAMES + new * index for index in range(len(PROMPTS) - 1))]
    rows = [np.asarray(clip.frames[start : start + new : EVERY]) for start in starts]
    strip, sound = out / "frames.png", out / "sound.png"
    frame_strip(rows, scale=2).save(strip)
    sound_picture(media.read_sound(film), joins=[start / float(clip.fps) for start in starts[1:]]).save(sound)
    return strip, sound
