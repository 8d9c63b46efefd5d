"""The networks that read prompts, left in their files until a prompt is new."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .context_folder import ContextFolder
from .identity import content_identity, quick_key

TEXT_PARTS = ("text_encoder", "text_projection", "connectors")
# of what the facts about known files say; another number makes all of them and their contexts unknown
_FACTS_VERSION = 1


@dataclass(frozen=True)
class TextFiles:
    """Everything that decides a prompt's context: files, and settings that are told apart by their text."""

    files: tuple[Path, ...]
    settings: tuple[object, ...]

    @property
    def key(self) -> str:
        """What changes whenever the files do; no file is opened."""
        return f"text {quick_key(self.files, (_FACTS_VERSION, *self.settings))}"

    @property
    def identity(self) -> str:
        """What is the same for the same files elsewhere; looks into them."""
        return content_identity(self.files, (_FACTS_VERSION, *self.settings))


class TextSource:
    """Networks by name, loaded when the first of them is asked for.

    load: gives them; it raises what loading raises.
    """

    def __init__(self, load: Callable[[], Mapping[str, Any]]) -> None:
        self._load = load
        self._parts: dict[str, Any] | None = None

    def __getitem__(self, name: str) -> Any:
        return self.parts.get(name)

    @property
    def parts(self) -> Mapping[str, Any]:
        """All of them, loaded."""
        if self._parts is None:
            self._parts = dict(self._load())
        return self._parts

    @property
    def is_loaded(self) -> bool:
        """Whether the networks were asked for."""
        return self._parts is not None


def text_source(
    files: TextFiles,
    folder: ContextFolder,
    load: Callable[[], Mapping[str, Any]],
    facts_of: Callable[[Mapping[str, Any]], Mapping[str, Any] | None],
) -> tuple[TextSource, Mapping[str, Any] | None]:
    """Networks, and the facts about them with what their contexts are known by (``contexts``).

    Files that the folder knows were loaded and checked before: they stay closed. Others are loaded now. facts_of: what
    is to be known of them without loading, as JSON; None: what was loaded is not whole, and is not remembered. Raises
    what loading raises.
    """
    key = files.key
    known = folder.recall(key)
    if known is not None:

        def load_known() -> Mapping[str, Any]:
            if files.key != key:
                raise CheckpointError(f"{files.files[0]} or a file beside it was changed meanwhile: start again")
            return load()

        return TextSource(load_known), known
    source = TextSource(load)
    facts = facts_of(source.parts)
    if facts is not None:
        facts = {**facts, "contexts": files.identity}
        folder.remember(key, facts)
    return source, facts
