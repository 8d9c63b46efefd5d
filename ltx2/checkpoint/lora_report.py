"""What of a LoRA takes effect in which network, and what the user is told about it."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from torch import nn

from ..config.versions import Version, parse_version
from .layout import CONNECTORS
from .lora import TEXT_ENCODER, Lora, fitting, weight_shapes
from .weight_file import first_names, shown

Shapes = Mapping[str, tuple[int, ...]]
# What stands in front of a network's names in a LoRA.
PREFIXES: Mapping[str, str] = MappingProxyType(
    {
        "transformer": "",
        "video_connector": CONNECTORS[0],
        "audio_connector": CONNECTORS[1],
        "text_projection": "",
        "text_encoder": TEXT_ENCODER,
    }
)


PROJECTIONS = ("aggregate_embed", "video_aggregate_embed", "audio_aggregate_embed")
TEXT_NETWORKS = tuple(name for name in PREFIXES if name != "transformer")


def network_of(name: str) -> str:
    """The network that a module of a LoRA is of, by its name; the transformer for all that no other one has."""
    prefixed = (network for network, prefix in PREFIXES.items() if prefix and name.startswith(prefix))
    return next(prefixed, "text_projection" if name.startswith(PROJECTIONS) else "transformer")


@dataclass(frozen=True, eq=False)
class LoraReport:
    """What of a LoRA fits. fitted: network → how many of its weights; elsewhere: how many are for networks that were
    not looked at; unmatched: the others' names."""

    lora: Lora
    fitted: Mapping[str, int]
    elsewhere: Mapping[str, int]
    unmatched: tuple[str, ...]

    @property
    def total(self) -> int:
        """How many weights the file changes."""
        return len(self.lora.differences)

    @property
    def for_text(self) -> int:
        """How many weights act where prompts are encoded."""
        counts = (*self.fitted.items(), *self.elsewhere.items())
        return sum(count for network, count in counts if network in TEXT_NETWORKS)

    def __str__(self) -> str:
        text = f"{sum(self.fitted.values())} of {self.total} LoRA weights fit the model"
        for network, count in self.elsewhere.items():
            text += f"; {count} are for the {network.replace('_', ' ')}"
        if not self.unmatched:
            return text
        return f"{text}; not in the model: {first_names(self.unmatched)}"

    def notes(self, *, with_reference: bool = False) -> tuple[str, ...]:
        """What the user has to know: weights without effect, what the file says and could not be used, and that an
        IC-LoRA runs without the reference it was trained with. with_reference: whether it has one."""
        name = self.lora.path.name
        notes = [f"LoRA {name}: {self}"] if self.unmatched else []
        notes += [f"LoRA {note}" for note in self.lora.notes]
        return tuple(notes) if with_reference else (*notes, *without_reference(self.lora), *without_voice(self.lora))


# What a LoRA says of the model it was made for: trainers' keys, and the release in these or in what the file is called.
_BASE_KEYS = ("ss_base_model_version", "modelspec.architecture", "base_model")
_OURS = re.compile(r"ltx[-_ ]?(?:v|video|av)?[-_ ]?2|ltxav", re.IGNORECASE)
_OTHERS = re.compile(
    r"wan|hunyuan|flux|sdxl|stable[-_ ]?diffusion|sd[-_]?[123]|ltxv|ltx[-_ ]?video|qwen|cosmos|mochi|cogvideo",
    re.IGNORECASE,
)
_RELEASE = re.compile(r"ltx[-_ ]?2(?:\.(?P<minor>[035])(?!\d)|[-_](?P<first>19b))", re.IGNORECASE)


def other_model_notes(lora: Lora, version: Version | None) -> tuple[str, ...]:
    """What to tell of a LoRA that its metadata or its name says was made for another family or for another release than
    the model's. Nothing where neither says it."""
    bases = [lora.metadata[key] for key in _BASE_KEYS if key in lora.metadata]
    foreign = next((base for base in bases if _OTHERS.search(base) and not _OURS.search(base)), None)
    if foreign is not None:
        return (
            f"LoRA {lora.path.name} was made for {shown(foreign, 40)}, as its metadata says, which is no LTX-2: it may "
            "do harm",
        )
    made = _release_of(lora, bases)
    if made is None or version is None or made == version[:2] or version[:2] not in _RELEASES:
        return ()
    mine, model = (f"LTX-{major}.{minor}" for major, minor in (made, version[:2]))
    return (f"LoRA {lora.path.name} was made for {mine}, the model is {model}: it may do little or harm",)


_RELEASES = ((2, 0), (2, 3), (2, 5))


def _release_of(lora: Lora, bases: Sequence[str]) -> Version | None:
    said = parse_version(lora.metadata.get("model_version"))
    if said is not None and said[:2] in _RELEASES:
        return said[:2]
    found = next(filter(None, map(_RELEASE.search, (*bases, *lora.names))), None)
    return None if found is None else (2, int(found["minor"] or 0))


def without_reference(lora: Lora) -> tuple[str, ...]:
    """What to tell of a LoRA where nothing is shown to it: of an IC-LoRA, that it misses what it was trained with."""
    if lora.reference is None:
        return ()
    return (f"LoRA {lora.path.name} is an IC-LoRA, made for a {lora.reference}: without one it runs as a plain LoRA",)


def without_voice(lora: Lora) -> tuple[str, ...]:
    """What to tell of a LoRA where no voice is given to it: of an ID-LoRA, that it misses what it was trained with."""
    if not lora.takes_voice:
        return ()
    return (f"LoRA {lora.path.name} is an ID-LoRA, made for a reference voice: without one it runs as a plain LoRA",)


def report_lora(lora: Lora, networks: Mapping[str, Shapes | nn.Module | None]) -> LoraReport:
    """What of a LoRA fits these networks, by the names of PREFIXES: parameters with shapes, or the network itself. None
    and absent ones are not looked at.

    Errors: CheckpointError when a shape differs, since the LoRA is for another model then.
    """
    fitted: Counter[str] = Counter()
    found: set[str] = set()
    for network, prefix in PREFIXES.items():
        given = networks.get(network)
        if given is None:
            continue
        shapes = weight_shapes(given) if isinstance(given, nn.Module) else given
        part = lora.part(prefix) if prefix else lora
        # a text encoder may be another one than that of the LoRA, which still does the rest
        match = fitting(part, shapes, any_shape=network == "text_encoder")
        if match.matched:
            fitted[network] = len(match.matched)
        found |= {prefix + name for name in part.differences.keys() - set(match.unmatched)}
    left = [name for name in lora.differences if name not in found]
    absent = {name for name in TEXT_NETWORKS if networks.get(name) is None}
    elsewhere = Counter(network for name in left if (network := network_of(name)) in absent)
    unmatched = tuple(name for name in left if network_of(name) not in absent)
    return LoraReport(lora, dict(fitted), dict(elsewhere), unmatched)
