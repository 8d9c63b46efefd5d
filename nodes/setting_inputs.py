"""Inputs of single settings that several nodes have."""

from . import host


def nag_input(name: str, off: str):
    """The input that lets a negative prompt count within the attention."""
    return host.field(
        host.io.Float,
        name,
        f"Makes the negative prompt count without guidance, also on distilled models (NAG): 11 is usual. {off}",
        default=0.0,
        min=0.0,
        max=50.0,
        step=0.1,
        optional=True,
    )


def nag_inputs() -> list:
    """All inputs of NAG, for one stage."""
    io = host.io

    def number(name: str, tooltip: str, default: float, span: tuple[float, float, float]):
        low, high, step = span
        keywords = {"default": default, "min": low, "max": high, "step": step, "optional": True, "advanced": True}
        return host.field(io.Float, name, tooltip, **keywords)

    return [
        nag_input("nag_scale", "0 is off."),
        number("nag_alpha", "How much of that is taken: 0 nothing, 1 all.", 0.25, (0.0, 1.0, 0.01)),
        number("nag_tau", "How many times larger than before a value may get by that.", 2.5, (1.0, 20.0, 0.1)),
    ]


def eta_input():
    """How much of the noise ancestral samplers renew, in both stages."""
    return host.field(
        host.io.Float,
        "eta",
        "How much of the noise an ancestral sampler draws anew at each step, in both stages: 1 all, 0 none, as plain Euler; -1 as the preset says.",
        default=-1.0,
        min=-1.0,
        max=1.0,
        step=0.01,
        optional=True,
    )


def image_strength_inputs() -> list:
    """How firmly pictures are kept in each stage."""
    return [
        host.field(
            host.io.Float,
            name,
            f"How firmly pictures are kept in the {stage} stage, times their own strength; the official templates have {usual}. -1 as the preset says.",
            default=-1.0,
            min=-1.0,
            max=1.0,
            step=0.01,
            optional=True,
            advanced=True,
        )
        for name, stage, usual in (("image_strength", "first", 0.7), ("refine_image_strength", "second", 1))
    ]
