"""``ltx2 demo``: the whole way from a prompt and a photograph to a film, on tiny random models that need no
download."""

import argparse
import json
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

from ..tiny.configs import VERSIONS
from ..tiny.write import write_tiny
from . import story

PHOTO = Path(__file__).resolve().parents[2] / "examples/photo.jpg"
# Two segments: the second starts from the last frames and the last sound of the first.
SCRIPT = """
size: 256x192
preset: ltx2_fast
defaults: {{frames: 25}}
segments:
  - prompt: >
      Morning at a mountain lake. The camera moves slowly over the still water while birds call and a light wind passes.
    image: {image}
  - The camera reaches the far shore and comes to rest. Water laps against the stones.
"""


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="try everything on tiny random models",
        description=(
            "Write tiny random checkpoints, and run the same steps on them as on a real one: a film that starts "
            "from the photograph and goes over into random colours, with noise for sound. It shows that "
            "everything works here, not what the real models can do."
        ),
    )
    parser.add_argument("--out", default="demo", metavar="DIR", help="where the film goes (default demo)")
    parser.add_argument("--version", choices=VERSIONS, default="2.3", help="which release's layout (default 2.3)")
    parser.add_argument(
        "--image",
        default=str(PHOTO),
        metavar="FILE",
        help="photograph to start from (default: the one that comes along)",
    )
    parser.set_defaults(run=run)


def run(args) -> None:
    begun = time.perf_counter()
    out = Path(args.out) / "demo.mp4"
    folder = Path(tempfile.mkdtemp(prefix="ltx2-demo-"))
    try:
        files = write_tiny(folder, args.version)
        roles = ("transformer", "video_vae", "audio_vae", "vocoder")
        checkpoints = dict.fromkeys(str(files[role]) for role in roles)
        script = folder / "story.yaml"
        script.write_text(SCRIPT.format(image=json.dumps(str(Path(args.image).resolve()))), "utf-8")
        command = [
            "story", str(script), "--checkpoint", *checkpoints, "--text-encoder", str(files["text_encoder"]),
            "--upsampler", str(files["spatial_upsampler"]), "--device", "cpu", "--dtype", "fp32",
            "--work", str(folder / "work"), "--out", str(out),
        ]  # fmt: skip
        verbs = argparse.ArgumentParser().add_subparsers()
        story.add_parser(verbs)
        print(f"ltx2: running ltx2 {shlex.join(command)}", file=sys.stderr)
        made = verbs.choices["story"].parse_args(command[1:])
        story.run(made)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"The film is at {out.resolve()} ({time.perf_counter() - begun:.0f} s).")
