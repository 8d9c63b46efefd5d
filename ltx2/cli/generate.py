"""``ltx2 generate``: one clip with sound from a prompt, pictures and sound."""

import sys
import time

from ..continuation import save_attachment
from ..film import capture_state, first_segment
from ..film.timeline import VIDEO_OVERLAP_FRAMES
from ..stages.pipeline import Segment, generate, prepare
from ..story.from_pipeline import model_text
from . import options


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "generate",
        help="make one clip with sound",
        description="Make one clip with sound from a prompt, and from pictures and sound if you like.",
    )
    parser.add_argument("--prompt", required=True, help="what is seen and heard")
    parser.add_argument(
        "--out", required=True, metavar="PATH", help="a file ending in .mp4, or a folder for PNG files and sound.wav"
    )
    parser.add_argument(
        "--save-state",
        metavar="PATH",
        help="also keep what `ltx2 continue` goes on from: .png card, .safetensors, .json or a folder",
    )
    options.add_model_arguments(parser)
    options.add_request_arguments(parser)
    parser.set_defaults(run=run)


def run(args) -> None:
    options.check_out(args.out, args.samples)
    if args.save_state:
        options.check_state(args.save_state, args.samples)
    with options.Bars() as bars:
        models = options.load(args, bars)
        request = options.request_from(args, models, args.prompt)
        settings, geometry, notes = prepare(models, request)
        for note in notes:
            print(f"ltx2: note: {note}", file=sys.stderr)
        print(f"ltx2: {settings}; {geometry}", file=sys.stderr)
        segment = generate(models, request, progress=bars)
        for sample in range(segment.batch_size):
            begun = time.perf_counter()
            out, tail = options.write_segment(
                segment,
                options.sample_path(args.out, sample, segment.batch_size),
                sample=sample,
                keep_last=VIDEO_OVERLAP_FRAMES if args.save_state else 0,
                progress=bars,
                metadata=options.metadata_of(segment, request, models, sample),
            )
            seconds = {**segment.seconds, "video decoding": time.perf_counter() - begun}
            spent = ", ".join(f"{stage} {time_taken:.1f} s" for stage, time_taken in seconds.items())
            print(f"ltx2: seed {segment.seed + sample}; {spent}", file=sys.stderr)
            if args.save_state:
                state = state_of(segment, tail, model_text(models), sample)
                saved = save_attachment(state, options.sample_path(args.save_state, sample, segment.batch_size))
                print(f"ltx2: state {saved}", file=sys.stderr)
            print(out)


def state_of(segment: Segment, tail, model: str, sample: int = 0):
    """The state of a segment with nothing before it, from its last frames."""
    audio = segment.latent.audio[sample : sample + 1] if segment.latent.audio is not None else None
    known = {"audio_latents": audio.shape[2]} if audio is not None else {}
    timing = first_segment(segment.geometry.frames, segment.geometry.fps, **known)
    rate = segment.sounds[sample].sample_rate if segment.sounds[sample] is not None else None
    overlap = min(VIDEO_OVERLAP_FRAMES, timing.frames)
    return capture_state(
        tail, audio, timing, video_overlap=overlap, sample_rate=rate, seed=segment.seed + sample, model=model
    )
