"""``ltx2 sound``: sound by itself, sound for a film, sound that goes on from sound."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..media import write_wav
from ..media.found.film_picture import film_picture
from ..media.found.new_sound import check_picture_can_stay, write_with_sound
from ..stages.models import Models
from ..stages.presets import SOUND_PRESETS
from ..stages.request import Request
from ..stages.steps import pass_count
from ..story.sound import SoundJob, make_sound, sound_job, state_of_sound
from ..story.sound.making import MOST_PIXELS
from ..values import Waveform
from . import options
from .continue_ import is_film
from .films.states import save_state
from .report import add_json_argument, print_result
from .state import load_with_notes


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the verb and its options to the command line."""
    parser = subparsers.add_parser(
        "sound",
        help="make sound: by itself, for a film, or going on from a state",
        description=(
            "Make sound from a prompt. Alone it becomes a WAV file of any length. For a film, whatever it was made "
            "with, the result is that film with its picture as it is and the new sound beside it. From a state it is "
            "what follows. The prompt should name what is heard."
        ),
    )
    parser.add_argument(
        "start", nargs="?", metavar="FILM|STATE", help="a film to make sound for, or a state to go on from"
    )
    parser.add_argument("--prompt", required=True, help="what is heard")
    parser.add_argument("--out", required=True, metavar="FILE", help="a .wav file; for a film the new film, .mp4")
    parser.add_argument("--negative", metavar="TEXT", help="what to keep out; dev models have a list of their own")
    parser.add_argument("--seconds", type=options.number, help="length (default 5; a film's own)")
    parser.add_argument("--fps", help="frames per second of a clock that later pictures go by (default 24)")
    parser.add_argument(
        "--preset", choices=[preset.name for preset in SOUND_PRESETS], help="default: by the checkpoint's name"
    )
    parser.add_argument("--steps", type=int, help="denoising steps")
    parser.add_argument("--guidance", type=options.number, help="guidance scale of the sound")
    parser.add_argument("--seed", type=int, help="number that the noise comes from (default 10)")
    parser.add_argument(
        "--save-state",
        metavar="PATH",
        help="also keep what the next sound goes on from: .png card, .safetensors, .json or a folder",
    )
    add_json_argument(parser)
    options.add_model_arguments(parser, pictures=False)
    parser.set_defaults(run=run, before_loading=of_a_film)


def run(args: argparse.Namespace) -> None:
    """Run the verb. Raises Ltx2Error."""
    of_film = of_a_film(args)
    _check(args, of_film)
    before = None if args.start is None or of_film else load_with_notes(args.start, None).state
    film = film_picture(args.start, most_pixels=MOST_PIXELS) if of_film else None
    with options.Bars() as bars:
        models = options.load(args, bars)
        sound = sound_job(models, request_of(args), film=film, state=before)
        notes = [*sound.notes, *shared_notes(args, models, sound)]
        options.log_notes(notes)
        options.log(sound)
        windows: list = []
        make = options.generator(args)
        pieces = make_sound(models, sound, progress=bars, generate=make, made=lambda *one: windows.append(one))
        written = _write(args, sound, pieces, of_film, models)
        options.log_notes(written)
        notes += written
    state = None
    if args.save_state:
        state = save_state(state_of_sound(sound, *windows[-1]), args.save_state, args.out)
    print_result(args, {**_result(args, sound, state), "notes": notes}, [args.out])


def of_a_film(args: argparse.Namespace) -> bool:
    """Whether the sound is of a film; else the half of the transformer that makes pictures is not loaded."""
    of_film = args.start is not None and is_film(args.start)
    args.sound_only = not of_film
    return of_film


def shared_notes(args: argparse.Namespace, models: Models, sound: SoundJob) -> tuple[str, ...]:
    """How the ranks of the run share the work, and that more of them than guidance passes bring nothing where there is
    no picture."""
    notes = options.notes_of(args, models, sound.job)[len(sound.job.notes) :]
    passes = max(pass_count(stage) for stage in sound.job.stages)
    if not notes or sound.film is not None or args.driver.ranks.size <= passes:
        return notes
    return (*notes, f"sound alone is shared by its guidance passes, {passes} here: more GPUs than that bring nothing")


def _result(args: argparse.Namespace, sound: SoundJob, state: Path | None) -> dict[str, Any]:
    """What was made, as a JSON object."""
    request = sound.job.request
    return {
        "file": str(args.out),
        "state": None if state is None else str(state),
        "preset": request.preset,
        "seed": request.seed,
        "seconds": float(sound.seconds),
        "windows": len(sound.windows),
    }


def request_of(args: argparse.Namespace) -> Request:
    """The request that a command line means."""
    given = {"num_inference_steps": args.steps, "cfg_scale_audio": args.guidance}
    stage = {name: value for name, value in given.items() if value is not None}
    return Request(
        prompt=args.prompt,
        negative_prompt=args.negative,
        preset=args.preset,
        seconds=args.seconds,
        fps=args.fps,
        seed=args.seed,
        overrides={"denoise": stage} if stage else {},
        sound_only=True,
    )


def _check(args: argparse.Namespace, of_film: bool) -> None:
    """Everything that can be known before a model is loaded."""
    if of_film:
        options.check_film(args.out)
        if args.seconds is not None or args.fps is not None:
            raise RequestError("the sound of a film is as long as the film: leave --seconds and --fps out")
        options.check_other_file(args.out, args.start, "the film that sound is made for")
        check_picture_can_stay(args.start)
    elif Path(args.out).suffix.lower() != ".wav":
        raise RequestError(f"cannot write {Path(args.out).name}: expected a name that ends in .wav")
    else:
        options.check_file(args.out)
    if args.save_state:
        options.check_state(args.save_state)


def _write(args, sound: SoundJob, pieces: Iterable[Waveform], of_film: bool, models) -> Sequence[str]:
    """The result as a file. Returns what of a film did not stay as it was."""
    if not of_film:
        write_wav(args.out, pieces)
        return ()
    metadata = options.said_of(sound.job.request, models, sound.notes)
    return write_with_sound(args.start, args.out, pieces, metadata=metadata)
