"""Presets by name. Each family is a file with its presets in ``PRESETS``: a new preset is one entry there.

The first four are the reference pipeline's; numbers checked against FastVideo 0.2.1 and the models' own pipelines.
"""

from collections.abc import Collection

from ... import mini
from ...config.versions import ModelVersion
from ...errors import RequestError
from . import detail, dev, distilled, hq, template
from .draft import drafted
from .overrides import nag_overrides, override_names, parse_override, resolve, setting_overrides
from .settings import Preset, RefineSettings, Settings, StageSettings, guidance_of, sigmas_of
from .sound import SOUND_PRESETS, sound_preset_name

__all__ = [
    "PRESETS",
    "Preset",
    "RefineSettings",
    "SOUND_PRESETS",
    "Settings",
    "StageSettings",
    "drafted",
    "find_preset",
    "guidance_of",
    "nag_overrides",
    "override_names",
    "parse_override",
    "preset_for",
    "resolve",
    "setting_overrides",
    "sigmas_of",
]

PRESETS: tuple[Preset, ...] = (*dev.PRESETS, *distilled.PRESETS, *hq.PRESETS, *template.PRESETS, *detail.PRESETS)


def find_preset(name: str, version: int | None = None) -> Preset:
    """The preset of a name, in its newest version unless one is given. Raises RequestError listing the known ones."""
    known_ones = (*PRESETS, *SOUND_PRESETS)
    named = [preset for preset in known_ones if preset.name == name and version in (None, preset.version)]
    if not named:
        known = ", ".join(f"{p.name}{f' (version {p.version})' if p.version > 1 else ''}" for p in known_ones)
        wanted = name if version is None else f"{name} version {version}"
        raise RequestError(f"there is no preset {wanted}, expected one of {known}")
    return max(named, key=lambda preset: preset.version)


def preset_for(file_names: Collection[str], release: ModelVersion, *, sound_only: bool = False) -> Preset:
    """The preset for a checkpoint when none was named. Dev and distilled files differ in nothing but their names."""
    if sound_only:
        return find_preset(sound_preset_name(preset_for(file_names, release)))
    if mini.CHECKPOINT.name in file_names:
        return find_preset("ltx2_mini")
    old = release.name == "2.0"
    if any("distilled" in name.lower() for name in file_names):
        return find_preset("ltx2_distilled" if old else "ltx2_3_distilled")
    return find_preset("ltx2_base" if old else "ltx2_3_base")
