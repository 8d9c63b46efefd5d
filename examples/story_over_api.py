#!/usr/bin/env python3
"""A story over ComfyUI's HTTP and WebSocket interface, ending with one film. Standard library only.

    story_over_api.py "A harbour at dawn." "The camera rises over the roofs." --scene "A street." --out story

One prompt a segment; each ``--scene`` begins a new scene, which starts from nothing. On one server the whole story is
one run of the Story node: given again after a stop, it goes on where it was. With several ``--server`` the scenes are
made side by side, each on the server that is free next; when a server dies, its scene is made on another one, and at
last the first server that lives joins the scenes. The film is counted before it is called done: all of its frames, and
sound exactly as long as they are. The state of the last segment lies beside it, for the node Load Continuation State or
``ltx2 continue``.
"""

import argparse
import hashlib
import json
import os
import queue
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from comfy_client import Client, RunFailed, ServerLost  # noqa: E402
from mp4_facts import film_facts  # noqa: E402

PREFIX = "LTX2Continuum"
ATTEMPTS = 3
JOIN_INPUTS = 8  # of the node Join Segments
OVERLAP = 9  # frames that a segment repeats of the one before


@dataclass
class Scene:
    """Segments that go on from each other. first: number of the first one in the story, from 0."""

    number: int
    first: int
    prompts: list[str]
    attempts: int = 0
    film: Path | None = None
    lost: list[str] = field(default_factory=list)


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def script_of(options, scenes: list[Scene]) -> str:
    """The story node's script of some scenes; each segment has the seed that it has in the whole story."""
    segments = [
        {"prompt": prompt, "seed": options.seed + scene.first + number, "cut": number == 0}
        for scene in scenes
        for number, prompt in enumerate(scene.prompts)
    ]
    told = {"size": "{}x{}".format(*options.size), "fps": options.fps, "preset": options.preset}
    told |= {"defaults": {"seconds": options.seconds}, "overlap": {"video": OVERLAP}, "segments": segments}
    return json.dumps(told, ensure_ascii=False, indent=1)  # JSON is YAML


def story_workflow(options, scenes: list[Scene]) -> dict:
    """Scenes in one run of the Story node. The folder is named after what is in it, so that the same story goes on."""
    script = script_of(options, scenes)
    name = hashlib.sha256(f"{script} {options.checkpoint}".encode()).hexdigest()[:12]
    made = {
        "load": node(f"{PREFIX}LoadCheckpoint", checkpoint=options.checkpoint, distilled_lora="none"),
        "gemma": node(f"{PREFIX}LoadTextEncoder", text_encoder=options.text_encoder, model=["load", 0]),
        "story": node(
            f"{PREFIX}Story", model=["load", 0], text_encoder=["gemma", 0], video_vae=["load", 1],
            audio_vae=["load", 2], script=script, folder=f"{options.prefix}/{name}", redo="",
        ),
    }  # fmt: skip
    if options.upsampler:
        made["upscaler"] = node(f"{PREFIX}LoadUpsampler", upsampler=options.upsampler)
        made["story"]["inputs"]["upsampler"] = ["upscaler", 0]
    return made


def join_workflow(options, names: list[str]) -> dict:
    """Films in the server's input folder after each other, saved as one."""
    made, segments = {}, []
    for number, name in enumerate(names):
        made[f"file{number}"] = node("LoadVideo", file=name)
        made[f"parts{number}"] = node("GetVideoComponents", video=[f"file{number}", 0])
        made[f"scene{number}"] = node(
            f"{PREFIX}ImagesToState", images=[f"parts{number}", 0], fps=options.fps, audio=[f"parts{number}", 1],
            video_overlap=OVERLAP, audio_overlap=0,
        )  # fmt: skip
        segments.append([f"scene{number}", 1])
    inputs = {f"segment_{number}": segment for number, segment in enumerate(segments, 1)}
    amounts = {"hold_colour": 0.0, "hold_contrast": 0.0, "hold_loudness": 0.0}
    made["film"] = node(f"{PREFIX}JoinSegments", **inputs, **amounts)
    made["video"] = node("CreateVideo", images=["film", 0], audio=["film", 1], fps=["film", 2])
    made["save"] = node(
        "SaveVideo", video=["video", 0], filename_prefix=f"{options.prefix}/film", format="auto", codec="auto"
    )
    return made


# --- scenes on servers -----------------------------------------------------------------------------------------------


def make_story(options, client: Client, scenes: list[Scene], film: Path) -> None:
    """Some scenes as one film, and the state that they leave."""
    outputs = client.run(story_workflow(options, scenes), on_progress=show_progress)
    report = outputs.get("story")
    if report is None:
        raise RunFailed(f"{client.url} tells nothing of the story that it made: is LTX-2 Continuum there up to date?")
    found = report["images"][0]
    save(film, client.download(found["filename"], found["subfolder"], found["type"]))
    state = report["states"][0]["file"].removesuffix(" [output]")
    folder, _, name = state.rpartition("/")
    save(state_beside(film), client.download(name, folder))
    for line in report["text"][0].splitlines():
        say(f"  {client.url}: {line}")


def save(path: Path, data: bytes) -> None:
    """A file that is there whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def state_beside(film: Path) -> Path:
    return film.with_suffix(".state.safetensors")


def scene_film(options, scene: Scene) -> Path:
    return options.out / f"scene_{scene.number:03}.mp4"


def content_of(options, scene: Scene, film: Path) -> str:
    """What tells a scene that is asked for, and its files, from all others."""
    parts = (film.read_bytes(), state_beside(film).read_bytes())
    asked = json.dumps(story_workflow(options, [scene]), sort_keys=True).encode()
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in (asked, *parts))).hexdigest()


def is_done(options, scene: Scene, film: Path) -> bool:
    """Whether an earlier run got this very scene whole."""
    try:
        return film.with_suffix(".done").read_text("utf-8") == content_of(options, scene, film)
    except (OSError, ValueError):
        return False


def make_scenes(options, scenes: list[Scene], clients: list[Client]) -> list[Client]:
    """Every scene as a film of its own, on whatever servers live. Returns the servers that are left."""
    waiting: queue.Queue = queue.Queue()
    for scene in scenes:
        film = scene_film(options, scene)
        if is_done(options, scene, film):
            say(f"scene {scene.number} of {len(scenes)} is here already")
            scene.film = film
        else:
            waiting.put(scene)
    failures: list[BaseException] = []
    left: list[Client] = []

    def serve(client: Client) -> None:
        if not client.answers():
            say(f"{client.url} does not answer: the others go on without it")
            return
        while not failures:
            try:
                scene = waiting.get(timeout=0.2)
            except queue.Empty:
                if all(one.film for one in scenes) or failures:
                    break
                continue
            film = scene_film(options, scene)
            say(f"scene {scene.number} of {len(scenes)} on {client.url}")
            try:
                make_story(options, client, [scene], film)
                film.with_suffix(".done").write_text(content_of(options, scene, film), "utf-8")
                scene.film = film
            except ServerLost as error:
                scene.attempts += 1
                scene.lost.append(client.url)
                say(f"  {error}: scene {scene.number} waits for another server")
                if scene.attempts >= ATTEMPTS:
                    failures.append(RunFailed(f"scene {scene.number} was lost with {', '.join(scene.lost)}"))
                waiting.put(scene)
                return
            except BaseException as error:
                failures.append(error)
                return
        left.append(client)

    threads = [threading.Thread(target=serve, args=(client,), daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():  # Windows hears no Ctrl-C during a wait that has no end of its own
            thread.join(0.5)
    if failures:
        raise failures[0]
    if not all(scene.film for scene in scenes):
        raise RunFailed("no server is left; the scenes that are done stay, and the same command goes on with the rest")
    return left


def join(options, client: Client, films: list[Path], film: Path) -> None:
    """Films after each other as one; as many at a time as the node takes."""
    parts, round_number = films, 0
    while len(parts) > 1:
        joined = []
        for start in range(0, len(parts), JOIN_INPUTS):
            some = parts[start : start + JOIN_INPUTS]
            if len(some) == 1:
                joined += some
                continue
            content = hashlib.sha256(b"".join(path.read_bytes() for path in some)).hexdigest()[:12]
            names = [client.upload(path, f"story_api_{content}_{i}.mp4") for i, path in enumerate(some)]
            outputs = client.run(join_workflow(options, names), on_progress=show_progress)
            found = next(one for one in outputs["save"]["images"] if one["filename"].endswith(".mp4"))
            last = len(parts) <= JOIN_INPUTS
            target = film if last else options.out / f"part_{round_number}_{start // JOIN_INPUTS:03}.mp4"
            save(target, client.download(found["filename"], found["subfolder"], found["type"]))
            joined.append(target)
        parts, round_number = joined, round_number + 1


def run_story(options) -> Path:
    """The whole story. Returns the film."""
    clients = [Client(url) for url in options.server]
    options.out.mkdir(parents=True, exist_ok=True)
    film, fresh = options.out / "film.mp4", options.out / "film.new.mp4"
    try:
        if len(clients) == 1 or len(options.scenes) == 1:
            what = f"{len(options.scenes)} scene{'s' if len(options.scenes) > 1 else ''} on"
            on_first(clients, what, lambda client: make_story(options, client, options.scenes, fresh))
        else:
            left = make_scenes(options, options.scenes, clients)
            parts = [scene.film for scene in options.scenes]
            on_first(left, f"joining {len(parts)} scenes on", lambda client: join(options, client, parts, fresh))
            save(state_beside(fresh), state_beside(parts[-1]).read_bytes())
        check(options, fresh, film)
        os.replace(state_beside(fresh), state_beside(film))
        os.replace(fresh, film)
    finally:  # what was not counted is no film
        fresh.unlink(missing_ok=True)
        state_beside(fresh).unlink(missing_ok=True)
    return film


def on_first(clients: list[Client], what: str, do) -> None:
    """Do something on the first server that lives until it is done."""
    for number, client in enumerate(clients, 1):
        try:
            say(f"{what} {client.url}")
            do(client)
            return
        except ServerLost as error:
            if number == len(clients):
                raise
            say(f"  {error}: on to another server")


def check(options, film: Path, name: Path) -> None:
    """Count a film that will have a name: every frame of every segment but the repeated ones, and sound for exactly
    these."""
    try:
        facts = film_facts(film)
    except ValueError as error:
        raise RunFailed(str(error).replace(str(film), f"what came as {name}")) from None
    length = round(options.seconds * options.fps)
    clip = max(1, round((length - 1) / 8)) * 8 + 1
    expected = sum(clip * len(scene.prompts) - OVERLAP * (len(scene.prompts) - 1) for scene in options.scenes)
    samples = round(expected * facts.sample_rate / options.fps) if facts.sample_rate else 0
    if facts.frames != expected or abs(facts.samples - samples) > 1:
        raise RunFailed(
            f"what came as {name} has {facts.frames} frames and {facts.samples} samples of sound, expected {expected} "
            f"and {samples}"
        )
    say(f"{name}: {facts.frames} frames, {facts.frames / options.fps:.2f} s, {facts.samples} samples of sound")


# --- what a person sees and types ------------------------------------------------------------------------------------


def show_progress(node_id, value, total) -> None:
    if node_id == "story" and sys.stderr.isatty():
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
    add = parser.add_argument
    add("prompts", nargs="*", help="one prompt a segment, of the first scene")
    add("--scene", nargs="+", action="append", default=[], metavar="PROMPT", help="prompts of one more scene")
    add(
        "--server",
        action="append",
        metavar="URL",
        help="a server (default http://127.0.0.1:8188); with several the scenes are made side by side",
    )
    add("--out", type=Path, default=Path("story"), metavar="DIR", help="folder for the film (default story)")
    add("--checkpoint", default="ltx-2.3-22b-distilled-fp8.safetensors", help="file in the server's models/checkpoints")
    add("--text-encoder", default="gemma_3_12B_it_fp4_mixed.safetensors", help="file in models/text_encoders")
    add(
        "--upsampler",
        default="ltx-2.3-spatial-upscaler-x2-1.1.safetensors",
        help="file in models/latent_upscale_models, for presets of two stages; '' for none",
    )
    add("--preset", default="ltx2_quality")
    add("--size", type=size, default=(1280, 704), metavar="WxH", help="pixels (default 1280x704)")
    add("--seconds", type=float, default=5.0, help="length of each segment, repeated frames included (default 5)")
    add("--fps", type=float, default=24.0)
    add("--seed", type=int, default=10)
    add("--prefix", default="continuum/api", help="folder below the server's output folder")
    options = parser.parse_args(arguments)
    options.server = options.server or ["http://127.0.0.1:8188"]
    options.scenes, first = [], 0
    for prompts in filter(None, [options.prompts, *options.scene]):
        options.scenes.append(Scene(len(options.scenes) + 1, first, prompts))
        first += len(prompts)
    if not options.scenes:
        parser.error("no prompts: give one a segment")
    prompts = [prompt for scene in options.scenes for prompt in scene.prompts]
    for text in (*prompts, *vars(options).values()):
        if isinstance(text, str) and any("\ud800" <= letter <= "\udfff" for letter in text):
            parser.error(f"{text[:60]!a} holds bytes that are no text: give it as UTF-8")
    return options


def main() -> int:
    """0: the film is there; 1: one sentence says why not; 2: the command line is wrong; 130: stopped."""
    options = parse()
    if hasattr(sys.stdout, "reconfigure"):  # a console that lacks a letter gets it spelled
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(run_story(options))
    except ServerLost as error:
        say(f"story_over_api: {error}; once a server runs, the same command makes what is missing")
    except RunFailed as error:
        say(f"story_over_api: {error}")
    except OSError as error:
        say(f"story_over_api: {error.filename or options.out}: {error.strerror or error}")
    except KeyboardInterrupt:
        say("story_over_api: stopped; a server ends what it is at, and the same command goes on with it")
        return 130
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
