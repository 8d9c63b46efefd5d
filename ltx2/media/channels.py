"""Sound of more than two channels mixed down to two, as cinemas' tracks are heard on a stereo set."""

from collections.abc import Sequence

import torch

from ..values import Waveform

_HALF_POWER = 0.5**0.5
# What the channels are where only their count is known, in the order in which files hold them.
_USUAL = {
    1: ("FC",),
    2: ("FL", "FR"),
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
_FRONT = ("FL", "FR", "DL", "DR")  # heard in full; everything else at half power


def mix_to_stereo(waveform: Waveform, channels: Sequence[str] | None = None) -> Waveform:
    """At most two channels: one or two stay as they are; of more, centre and surround are heard on both sides or on
    their own at half power, the low frequency channel is left out (ITU-R BS.775).

    channels: what each is, by FFmpeg's short names; None takes the usual ones for their count. A mix that would clip is
    made quieter as a whole.
    """
    samples = waveform.samples
    count = samples.shape[0]
    if count <= 2:
        return waveform
    names = channels if channels is not None and len(channels) == count else _USUAL.get(count, ())
    left, right = zip(*(_gains(name) for name in names)) if names else ((1 / count,) * count,) * 2
    gains = torch.tensor([left, right], dtype=torch.float32, device=samples.device)  # [2, C]
    if not gains.any():  # of nothing that is known
        gains = torch.full_like(gains, 1 / count)
    mixed = gains @ samples.float()
    peak, before = (
        float(mixed.abs().max()) if mixed.numel() else 0.0,
        float(samples.abs().max()) if mixed.numel() else 0,
    )
    if peak > max(1.0, before):
        mixed = mixed * (max(1.0, before) / peak)
    return Waveform(mixed, waveform.sample_rate)


def mix_note(name: str, count: int) -> str:
    """What to tell of a sound that was mixed down."""
    return f"{name} has {count} channels: they are mixed down to stereo, for the model and the film alike"


def _gains(name: str) -> tuple[float, float]:
    """How loud a channel is heard left and right."""
    if name.startswith("LFE"):
        return 0.0, 0.0
    gain = 1.0 if name in _FRONT else _HALF_POWER
    side = name.rstrip("C") if name in ("FLC", "FRC") else name
    if side.endswith("L"):
        return gain, 0.0
    if side.endswith("R"):
        return 0.0, gain
    return (_HALF_POWER, _HALF_POWER) if name == "FC" else (0.5, 0.5)
