"""Arguments that several verbs share, and what they mean: models, requests, results as files."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from .. import __version__, media, mini, system
from ..atomic_files import file_path, is_there
from ..checkpoint.folders import has_text_encoder
from ..checkpoint.reader import open_checkpoint
from ..checkpoint.stage_loras import lora_choice
from ..clock import exact_seconds
from ..continuation.recognise import STATE_SUFFIXES as STATE_SUFFIXES
from ..errors import RequestError, is_out_of_memory
from ..film import FinishedSegment, LastFrames, SegmentTiming, file_format, write_film
from ..stages.given import sound_from, unused_conditions
from ..stages.models import BATCHINGS, Models, PipelineConfig, load_models, with_temporal_upsampler
from ..stages.pipeline import Report, Segment, generate
from ..stages.presets import PRESETS
from ..stages.request import Job, Request, make_job
from ..stages.video_decoding import MODES
from ..values import ImageCondition, Waveform
from .arguments.memory import planned
from .arguments.settings import add_setting_arguments, number, overrides_of
from .arguments.speed import (
    add_attention_argument,
    add_cache_arguments,
    add_compile_argument,
    add_memory_arguments,
    check_compile_argument,
    speed_of,
)
from .drafts import tiny_decoder_of
from .report import Bars as Bars

FILM_SUFFIXES = (".mp4", ".mov", ".m4v")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


# --- models --------------------------------------------------------------------------------------------------------


def add_model_arguments(parser: argparse.ArgumentParser, *, pictures: bool = True) -> None:
    """Options of all verbs that load models. pictures: whether these are made, in one stage or two."""
    group = parser.add_argument_group("models")
    group.add_argument(
        "--checkpoint",
        nargs="+",
        required=True,
        metavar="FILE",
        help="the LTX-2 checkpoint, or all split files of a release; mini: the demonstration model that comes along",
    )
    group.add_argument(
        "--text-encoder",
        metavar="PATH",
        help="Gemma: one file, or a Hugging Face folder (the checkpoint mini brings its own)",
    )
    _add_lora_argument(group)
    group.add_argument("--device", help="where networks run (default: cuda or mps if there is one, else cpu)")
    group.add_argument(
        "--dtype",
        choices=DTYPES,
        help="type of transformer, text encoder and video VAE (default bf16; fp32 for the video VAE on a CPU)",
    )
    group.add_argument(
        "--keep-quantized",
        action="store_true",
        help="keep fp8, nvfp4, int8 and GGUF weights small in memory, and unpack each layer when it is used",
    )
    add_memory_arguments(group)
    group.add_argument(
        "--pass-batching", choices=BATCHINGS, default="auto", help="stack guidance passes into one call (default auto)"
    )
    add_compile_argument(group)
    add_attention_argument(group)
    add_cache_arguments(group)
    group.add_argument(
        "--gpus",
        type=int,
        default=1,
        metavar="N",
        help="work on N GPUs of this machine together (docs/several-gpus.md); under torchrun its ranks are taken",
    )
    if not pictures:
        parser.set_defaults(upsampler=None, refine_lora=None, video_decoding="auto", tiny_decoder=None, draft=False)
        return
    group.add_argument("--upsampler", metavar="FILE", help="spatial x2 latent upsampler, for presets of two stages")
    group.add_argument("--refine-lora", metavar="FILE", help="distilled LoRA that a dev model refines with")
    group.add_argument(
        "--video-decoding", choices=MODES, default="auto", help="how pictures are decoded (default: by free memory)"
    )


def _add_lora_argument(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:STRENGTH][@STAGE]",
        help="LoRA for both stages, or with @1 or @2 for one of them alone; may be repeated, also with the same file",
    )


def model_files(args: argparse.Namespace) -> tuple[list[str | Path], str | Path | None]:
    """Checkpoint files and text encoder of a command line. Raises RequestError where the text encoder is missing."""
    checkpoints = [mini.checkpoint_path(name) for name in args.checkpoint]
    encoder = args.text_encoder
    if encoder is None and mini.CHECKPOINT in checkpoints:
        encoder = mini.NAME
    if encoder is None and len(checkpoints) == 1 and has_text_encoder(checkpoints[0]):
        encoder = str(checkpoints[0])
    if encoder is None and getattr(args, "follows", False):
        return checkpoints, None  # the first rank reads the prompts for all
    if encoder is None:
        open_checkpoint(checkpoints)  # a wrong name is told first
        raise RequestError("no text encoder is named: add --text-encoder with the release's Gemma file or folder")
    return checkpoints, mini.text_encoder_path(encoder)


def load(args: argparse.Namespace, progress: Report = None) -> Models:
    """The models that a command line names."""
    device = args.device or default_device()
    check_device(device)
    check_compile_argument(args)
    dtype = DTYPES[args.dtype or "bf16"]
    # half precision convolutions are a hundred times slower than full ones on a CPU
    slow = args.dtype is None and torch.device(device).type == "cpu"
    config = PipelineConfig(
        device=device,
        transformer=dtype,
        text_encoder=dtype,
        video_vae=torch.float32 if slow else dtype,
        quantized="on_use" if args.keep_quantized else "dequantize",
        upsampler=dtype,
        latents=dtype,
        offload=args.offload or "stage",
        video_decoding=args.video_decoding,
        pass_batching=args.pass_batching,
        sound_only=getattr(args, "sound_only", False),
        compile=args.compile,
        **speed_of(args),
    )
    checkpoints, text_encoder = model_files(args)
    if args.memory is not None:
        config = planned(args, config, checkpoints, text_encoder)
        log(config.memory)
    tiny_decoder = tiny_decoder_of(args, checkpoints)
    if tiny_decoder is not None:
        log(f"the draft is drawn by {Path(tiny_decoder).name}")
    if mini.CHECKPOINT in checkpoints and torch.device(device).type == "cpu":
        torch.set_num_threads(1)  # its layers are too small to be shared: threads would wait for each other
    models = load_models(
        checkpoints,
        text_encoder=text_encoder,
        upsampler=args.upsampler,
        loras=[lora_choice(text) for text in args.lora],
        distilled_lora=args.refine_lora,
        tiny_decoder=tiny_decoder,
        config=config,
        progress=progress,
    )
    temporal = getattr(args, "temporal_upsampler", None)
    return models if temporal is None else with_temporal_upsampler(models, temporal)


def generator(args: argparse.Namespace) -> Callable[..., Segment]:
    """What makes segments: this process, or all ranks of the run together."""
    driver = getattr(args, "driver", None)
    return generate if driver is None else driver.generate


def notes_of(args: argparse.Namespace, models: Models, job: Job) -> tuple[str, ...]:
    """What was adjusted or chosen for a job, and how the ranks of the run share it."""
    driver = getattr(args, "driver", None)
    shared = () if driver is None else driver.notes(models, job)
    # a draft leaves the second stage out, and says so
    if job.settings.refine is not None or job.settings.half_size:
        return (*job.notes, *shared)
    missing = f"preset {job.settings.preset.name} has no second stage"
    unused = [f"the upsampler {Path(args.upsampler).name} has no effect: {missing}"] if args.upsampler else []
    if getattr(args, "reference_stages", "") == "both" and args.reference:
        unused += unused_conditions(job.request, job.settings, anchored=True)  # a strength of no picture was refused
    return (*job.notes, *unused, *shared)


def default_device() -> str:
    """The device networks run on when none is named."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_device(name: str) -> None:
    """Raises RequestError for a device that is not there."""
    try:
        torch.zeros(1, device=name).item()  # one that computes nothing has no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        if is_out_of_memory(error):
            raise
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        known = ", ".join(["cpu", *(one for one in there if there[one])])
        raise RequestError(f"device is {name!r}, which this machine does not have: use one of {known}") from error


# --- requests ------------------------------------------------------------------------------------------------------


def add_request_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of all verbs that make a segment."""
    group = parser.add_argument_group("request")
    group.add_argument(
        "--negative",
        "--negative-prompt",
        metavar="TEXT",
        help="what to keep out; guided presets have a list of their own, distilled ones read it with --nag alone",
    )
    add_setting_arguments(group)
    group.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="FILE[@FRAME[:STRENGTH[:ATTENTION]]]",
        help=(
            "picture to start from, or to reach at a frame (a number, or last); with an attention below 1 the clip "
            "looks at it that much instead of starting from it; may be repeated"
        ),
    )
    group.add_argument(
        "--audio", metavar="FILE", help="sound of your own, of the whole film: it is kept, and the picture goes with it"
    )
    group.add_argument(
        "--audio-start", type=number, metavar="SECONDS", help="where in that sound the film begins (default 0)"
    )
    length = group.add_mutually_exclusive_group()
    length.add_argument(
        "--seconds", type=number, help="length, taken to the nearest possible one; models were trained up to 20"
    )
    length.add_argument("--frames", type=int, help="length in frames, 8k+1")
    group.add_argument("--size", metavar="WxH", help="pixels: multiples of 32, or of 64 in two stages")
    group.add_argument("--fps", help="frames per second, also 24000/1001 (default 24)")
    group.add_argument("--snap", action="store_true", help="take size and frames to the nearest possible ones")
    group.add_argument(
        "--preset", choices=[preset.name for preset in PRESETS], help="default: by the checkpoint's name"
    )
    group.add_argument("--steps", type=int, help="denoising steps of the first stage")
    group.add_argument("--guidance", type=number, help="guidance scale of the first stage")
    group.add_argument(
        "--override",
        action="append",
        default=[],
        metavar="STAGE.NAME=VALUE",
        help="one setting of one stage, such as refine.num_inference_steps=2; may be repeated",
    )
    group.add_argument("--seed", type=int, help="number that the noise comes from (default 10)")
    group.add_argument(
        "--samples", type=int, default=1, help="how many clips to make, with seeds counting up (default 1)"
    )


def request_from(
    args: argparse.Namespace, models: Models, prompt: str, opened: Callable[[Request], Request] = lambda asked: asked
) -> Request:
    """The request that a command line means. opened: gives a request what it leaves open, from what it goes on from.
    Raises RequestError and MediaError."""
    overrides = overrides_of(args)
    width, height = parse_size(args.size) if args.size else (None, None)
    request = Request(
        prompt=prompt,
        negative_prompt=args.negative,
        preset=args.preset,
        width=width,
        height=height,
        frames=args.frames,
        seconds=args.seconds,
        fps=args.fps,
        seed=args.seed,
        batch_size=args.samples,
        snap=args.snap,
        overrides=overrides,
        audio=_own_audio(args),
        draft=args.draft,
    )
    wanted = [split_image(text) for text in args.image]
    last = 0
    if any(frame is None for _, frame, *_ in wanted):
        last = make_job(models, opened(request), parts=()).geometry.frames - 1
    # opened here, so that a picture that cannot be read is told before anything runs
    images = tuple(
        ImageCondition(media.open_image(path), last if frame is None else frame, strength, attention=attention)
        for path, frame, strength, attention in wanted
    )
    return replace(request, images=images)


def _own_audio(args: argparse.Namespace) -> Waveform | None:
    """The sound of the film that a command line names, from where the film begins."""
    if not args.audio:
        if args.audio_start is not None:
            raise RequestError("--audio-start says where in --audio the film begins: give that too")
        return None
    return sound_from(media.read_sound(args.audio), exact_seconds(args.audio_start or 0.0))


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) from ``WxH``. Raises RequestError."""
    found = re.fullmatch(r"(\d+)\s*[xX×*]\s*(\d+)", text.strip())
    if not found:
        raise RequestError(f"size is {text!r}, expected WIDTHxHEIGHT such as 768x512")
    return int(found[1]), int(found[2])


def split_image(text: str) -> tuple[str, int | None, float, float]:
    """Path, frame (None: the last), strength and attention of ``FILE[@FRAME[:STRENGTH[:ATTENTION]]]``. Raises
    RequestError for a place that is none."""
    share = r"(?::([0-9]*\.?[0-9]+))?"
    found = None if is_there(text) else re.fullmatch(rf"(.+)@([0-9]{{1,9}}|last){share}{share}", text)
    if not found:
        file = text.rpartition("@")[0]
        if file and not is_there(text) and is_there(file):
            raise RequestError(
                f"image is {text!r}, expected FILE@FRAME:STRENGTH:ATTENTION with a frame number from 0 or last, such "
                f"as {file}@last:0.8"
            )
        return text, 0, 1.0, 1.0
    frame = None if found[2] == "last" else int(found[2])
    return found[1], frame, float(found[3] or 1), float(found[4] or 1)


def split_strength(text: str) -> tuple[str, float]:
    """Path and strength of ``FILE[:STRENGTH]``."""
    found = None if is_there(text) else re.fullmatch(r"(.+):(-?[0-9]*\.?[0-9]+)", text)
    return (found[1], float(found[2])) if found else (text, 1.0)


# --- work and results ----------------------------------------------------------------------------------------------


def write_segment(
    segment: Segment,
    timing: SegmentTiming,
    out: str | Path,
    *,
    index: int = 0,
    last_frames: LastFrames | None = None,
    progress: Report = None,
    metadata: Mapping[str, object] | None = None,
) -> Path:
    """Write what one clip of a segment adds to its film, while it is decoded: an MP4, or a folder of PNG with
    ``sound.wav`` in it when ``out`` has no suffix. Returns the path.

    timing: as the segment was asked for, before its frame rate was doubled. last_frames: sees all the frames that the
    next segment goes on from, which are those of before. An interruption leaves no half file.
    """
    out, sound, timing = Path(out), segment.sounds[index], timing.doubled(segment.rounds)
    watch, frames = last_frames or LastFrames(0), segment.frames(index, progress=progress)
    if segment.base is None:
        frames = watch.watch(frames)
    if out.suffix.lower() in FILM_SUFFIXES:
        write_film(out, [FinishedSegment(timing, frames, sound)], file_format([sound]), metadata=metadata)
    elif out.suffix:
        raise RequestError(f"cannot write {out.name}: expected a name that ends in .mp4, or a folder for PNG files")
    else:
        media.write_png_sequence(out, frames, sound=sound)
    if segment.base is not None and last_frames is not None:
        for _ in watch.watch(segment.base.frames(index, progress=progress)):
            pass
    return out


def log(text: Any) -> None:
    """Say what happens, beside the result on standard output and above a bar that is there."""
    tqdm.write(f"ltx2: {text}", file=sys.stderr)


def log_notes(notes: Iterable[str]) -> None:
    """One line for each note."""
    for note in notes:
        log(f"note: {note}")


def noted(kept: list[str]) -> Callable[[str], None]:
    """What tells a note at once, and keeps it for the result."""

    def note(text: str) -> None:
        log(f"note: {text}")
        kept.append(text)

    return note


def check_out(out: str | Path, count: int = 1) -> None:
    """Raise RequestError for a result that cannot be written under this name, before the work is done."""
    for index in range(max(count, 1)):
        path = numbered(out, index, count)
        if path.suffix:
            check_film(path, "a name that ends in .mp4, or a folder for PNG files")
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RequestError(f"cannot write {path}: it exists and is not an empty folder, choose another name")
        else:
            _check_folder(path)


def check_other_file(out: str, source: str, what: str) -> None:
    """Raises RequestError for a result that would be written over what it is made from. what: that is."""
    if Path(out).exists() and Path(source).exists() and Path(out).samefile(source):
        raise RequestError(f"cannot write {out}: it is {what}, use another name")


def check_film(out: str | Path, expected: str = "a name that ends in .mp4") -> None:
    """Raise RequestError for a film that cannot be written under this name, before the work is done."""
    if Path(out).suffix.lower() not in FILM_SUFFIXES:
        raise RequestError(f"cannot write {Path(out).name}: expected {expected}")
    check_file(out)


def check_state(out: str | Path, count: int = 1) -> None:
    """Raise RequestError for a state that cannot be written under this name, before the work is done."""
    for index in range(max(count, 1)):
        path = numbered(out, index, count)
        if path.suffix.lower() in STATE_SUFFIXES:
            check_file(path)
        elif not path.is_dir() and (path.suffix or path.exists()):
            raise RequestError(
                f"cannot write {path}: expected a name that ends in .png, .safetensors or .json, or the name of a "
                "folder"
            )
        else:
            _check_folder(path)


def check_file(path: str | Path) -> None:
    """Raise RequestError for a file that cannot be written under this name, before the work is done."""
    if file_path(path) is None:
        raise RequestError(f"cannot write {Path(path).name[-60:]!r}: no file can have this name, use another one")
    if Path(path).is_dir():
        raise RequestError(f"cannot write {path}: it is a folder, expected a file name")
    if system.WINDOWS and Path(path).exists() and not os.access(path, os.W_OK):
        raise RequestError(f"cannot write {path}: it is write-protected, use another name")
    if system.is_held(path):
        raise RequestError(f"cannot write {path}: another program has it open, close it there or use another name")
    _check_folder(path)


def _check_folder(path) -> None:
    """What is to be made at ``path`` can be made: the nearest folder above that exists takes new files."""
    above = next(folder for folder in Path(path).absolute().parents if folder.exists())
    if not above.is_dir():
        raise RequestError(f"cannot write {path}: {above} is a file, expected a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise RequestError(f"cannot write {path}: the folder {above} cannot be written to")


def numbered(out: str | Path, index: int, count: int) -> Path:
    """Where one of several clips goes: ``x_1.mp4``, ``x_2.mp4`` …"""
    out = Path(out)
    return out if count == 1 else out.with_name(f"{out.stem}_{index + 1}{out.suffix}")


def metadata_of(segment: Segment, request: Request, models: Models, index: int = 0) -> dict:
    """What a file says about how it was made."""
    return said_of(replace(request, seed=segment.seed + index), models, segment.notes)


def said_of(request: Request, models: Models, notes: Iterable[str] = ()) -> dict:
    """What a file says about how it was made, of a request with nothing left open."""
    said = {
        "version": __version__,
        "model": models.names[0],
        "preset": request.preset,
        "prompt": request.prompt,
        "seed": request.seed,
    }
    if request.draft:
        said["draft"] = True
    if notes:
        said["notes"] = list(notes)
    if models.loras or models.stage_loras:
        said["loras"] = [
            *(
                {"file": report.lora.path.name, "strength": strength, "fit": str(report)}
                for report, strength in models.loras
            ),
            *({"file": o.lora.path.name, "strength": o.strength, "stage": o.stage} for o in models.stage_loras),
        ]
    return {"ltx2": said}
