#!/usr/bin/env python3
"""A story over ComfyUI's HTTP and WebSocket interface, one run a segment. Standard library only.

    story_over_api.py "A harbour at dawn." "The camera rises over the roofs." --server http://127.0.0.1:8188

Every run but the first starts from the state that the run before saved; its name comes out of /history. With a second
``--server`` the segments take turns on the two machines: the state travels as a PNG card, downloaded from one and
uploaded to the other. The segments are written to ``--out`` as MP4 files, and the last state beside them, so that the
story can go on with ``--state``.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from comfy_client import Client, RunFailed  # noqa: E402

PREFIX = "LTX2Continuum"


def workflow(options, prompt: str, state: str | None) -> dict:
    """One segment in API form: load, generate from ``state`` if there is one, save the video and the new state."""

    def node(kind: str, **inputs) -> dict:
        return {"class_type": kind, "inputs": inputs}

    width, height = options.size
    made = {
        "load": node(f"{PREFIX}LoadCheckpoint", checkpoint=options.checkpoint, distilled_lora="none"),
        "gemma": node(f"{PREFIX}LoadTextEncoder", text_encoder=options.text_encoder, model=["load", 0]),
        "segment": node(
            f"{PREFIX}Generate", model=["load", 0], text_encoder=["gemma", 0], video_vae=["load", 1],
            audio_vae=["load", 2],
            prompt=prompt, negative_prompt="full", seconds=options.seconds, width=width, height=height, fps=options.fps,
            preset=options.preset, seed=options.seed, video_overlap=9, audio_overlap=49,
        ),
        "card": node(f"{PREFIX}SaveState", state=["segment", 2], filename_prefix=f"{options.prefix}/state",
        form="PNG card"),
        "video": node("CreateVideo", images=["segment", 0], audio=["segment", 1], fps=["segment", 5]),
        "save": node("SaveVideo", video=["video", 0], filename_prefix=f"{options.prefix}/segment", format="auto",
        codec="auto"),
    }  # fmt: skip
    if options.upsampler:
        made["upscaler"] = node(f"{PREFIX}LoadUpsampler", upsampler=options.upsampler)
        made["segment"]["inputs"]["upsampler"] = ["upscaler", 0]
    if state:
        made["before"] = node(f"{PREFIX}LoadState", file=state)
        made["segment"]["inputs"]["state"] = ["before", 0]
    return made


def run_story(options) -> list[Path]:
    """All segments in order. Returns their files."""
    clients = [Client(url) for url in options.server]
    options.out.mkdir(parents=True, exist_ok=True)
    # where the newest state is: the server that has it, what to call it there, and how to download it
    home, name, card = None, None, None
    films = []
    for index, prompt in enumerate(options.prompts):
        client = clients[index % len(clients)]
        if options.state and index == 0:
            name = client.upload(options.state)
        elif home is not None and home is not client:
            local = options.out / "state.png"
            local.write_bytes(home.download(**card))
            name = client.upload(local, f"story_api_{options.seed}_{index:03}.png")
        say(f"segment {index + 1} of {len(options.prompts)} on {client.url}" + (f", from {name}" if name else ""))
        outputs = client.run(workflow(options, prompt, name), on_progress=show_progress)
        state = next(one for one in outputs["card"]["states"] if one.get("file"))
        home, name, card = client, state["file"], {key: state[key] for key in ("filename", "subfolder", "type")}
        found = next(one for one in outputs["save"]["images"] if one["filename"].endswith(".mp4"))
        films.append(options.out / f"segment_{index + 1:03}.mp4")
        films[-1].write_bytes(client.download(found["filename"], found["subfolder"], found["type"]))
        say(
            f"  {films[-1]}: state of segment {state['segment_index']}, {state['audio_seconds']:.2f} s of sound carried"
        )
    (options.out / "state.png").write_bytes(home.download(**card))
    return films


def show_progress(node, value, total) -> None:
    if node == "segment" and sys.stderr.isatty():
        end = "\n" if value == total else ""
        sys.stderr.write(f"\r  {100 * value / total:3.0f} %{end}")


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r}, expected WIDTHxHEIGHT such as 1280x704")
    return int(width), int(height)


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", nargs="+", help="one prompt a segment")
    parser.add_argument(
        "--server", action="append", metavar="URL", help="a server (default http://127.0.0.1:8188); may be given twice"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("story"), metavar="DIR", help="folder for the segments (default story)"
    )
    parser.add_argument("--state", type=Path, metavar="FILE", help="go on from this saved state")
    parser.add_argument(
        "--checkpoint", default="ltx-2.3-22b-distilled-fp8.safetensors", help="file in the server's models/checkpoints"
    )
    parser.add_argument(
        "--text-encoder", default="gemma_3_12B_it_fp4_mixed.safetensors", help="file in models/text_encoders"
    )
    parser.add_argument(
        "--upsampler",
        default="ltx-2.3-spatial-upscaler-x2-1.1.safetensors",
        help="file in models/latent_upscale_models, for presets of two stages; '' for none",
    )
    parser.add_argument("--preset", default="ltx2_quality")
    parser.add_argument("--size", type=size, default=(1280, 704), metavar="WxH", help="pixels (default 1280x704)")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="length of each segment, repeated frames included (default 5)"
    )
    parser.add_argument("--fps", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--prefix", default="continuum/api", help="folder below the server's output folder")
    options = parser.parse_args(arguments)
    options.server = options.server or ["http://127.0.0.1:8188"]
    return options


def main() -> int:
    try:
        run_story(parse())
    except RunFailed as error:
        say(f"story_over_api: {error}")
    except OSError as error:
        say(f"story_over_api: {getattr(error, 'reason', None) or error}: is the server running, and the file there?")
    except KeyboardInterrupt:
        say("story_over_api: stopped; the segments that are done stay")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
