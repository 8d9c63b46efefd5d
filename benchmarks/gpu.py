"""Everything that can only be known on a card, in one run of a few minutes: ``python benchmarks/gpu.py --out DIR``.

Needs this checkout, torch, numpy, safetensors, pillow, transformers and sentencepiece; nothing is downloaded, weights
are random. First whether the card computes what a CPU does; then the released shapes of LTX-2.3: rates of the card
itself, steps of the transformer, kernels, stored forms, decoding, text, loading, layers from main memory; ltx-core
beside it where it is installed. ``gpu.json`` is written row by row, ``gpu.md`` at the end; what there is no time for is
left out and named. ``--miniature`` runs the same code with tiny sizes on a CPU.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402 (after the checkout is on the path)

from benchmarks.card import correctness, decoding, denoising, forms, loading, peer, texts  # noqa: E402
from benchmarks.card.report import markdown  # noqa: E402
from benchmarks.card.session import Session  # noqa: E402
from benchmarks.card.sizes import full, miniature  # noqa: E402

# name → what it does, and about how many seconds it takes on an H100; the most valuable first. A name may be part of
# a larger one: --only dit runs all that have to do with the transformer.
SECTIONS = {
    "correct": (correctness.networks, 10),
    "films": (correctness.films, 25),
    "rates": (denoising.rates, 8),
    "dit.steps": (denoising.steps, 45),
    "dit.passes": (denoising.guidance_passes, 25),
    "dit.kernels": (denoising.profiles, 20),
    "dit.operators": (denoising.operators, 5),
    "codec.video": (decoding.video, 65),
    "dit.compiled": (forms.compiled, 60),
    "dit.forms": (forms.stored_forms, 40),
    "offload": (loading.loading, 45),
    "text": (texts.texts, 25),
    "codec.diffusion": (decoding.diffusion, 40),
    "codec.sound": (decoding.sound, 8),
    "attention": (denoising.attentions, 15),
    "ltx-core": (peer.ltx_core, 30),
}
# the whole model is let go of when the last of these is done
WITH_WHOLE_MODEL = ("dit.steps", "dit.passes")


def chosen(only: str | None) -> list[str]:
    """Sections by their names or the first part of these, in the order asked for. Raises ValueError."""
    if not only:
        return list(SECTIONS)
    wanted = [name.strip() for name in only.split(",")]
    unknown = [name for name in wanted if not any(name in (s, s.partition(".")[0]) for s in SECTIONS)]
    if unknown:
        raise ValueError(f"no section is called {unknown[0]}, expected some of {', '.join(SECTIONS)}")
    named = (section for name in wanted for section in SECTIONS if name in (section, section.partition(".")[0]))
    return list(dict.fromkeys(named))


def main(arguments: list[str] | None = None) -> Session:
    """Run the sections that are asked for; what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where gpu.json and gpu.md go")
    parser.add_argument("--minutes", type=float, default=8, help="that it may take (default 8)")
    parser.add_argument("--only", metavar="NAMES", help=f"some sections: {', '.join(SECTIONS)}, or dit, codec")
    parser.add_argument("--miniature", action="store_true", help="tiny sizes on the CPU: does it still run?")
    args = parser.parse_args(arguments)
    if not (args.miniature or torch.cuda.is_available()):
        parser.error("there is no CUDA card here: use --miniature to try it on the CPU")
    try:
        names = chosen(args.only)
    except ValueError as error:
        parser.error(str(error))
    device = torch.device("cpu" if args.miniature else "cuda:0")
    session = Session(device, miniature() if args.miniature else full(), args.out, 60 * args.minutes)
    for name in names:
        section, estimate = SECTIONS[name]
        if name not in WITH_WHOLE_MODEL:
            session.drop()
        session.run(name, section, 0 if args.miniature else estimate)
    session.facts["minutes"] = round((60 * args.minutes - session.left) / 60, 2)
    session.flush()
    report = markdown(session)
    (args.out / "gpu.md").write_text(report, "utf-8")
    print(report)
    return session


if __name__ == "__main__":
    sys.exit(bool(main().failures))
