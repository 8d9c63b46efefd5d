"""The networks that read prompts, left in their files until a prompt is new."""

from collections.abc import Callable, Mapping
from typing import Any

TEXT_PARTS = ("text_encoder", "text_projection", "connectors")


class TextSource:
    """The parts of TEXT_PARTS, loaded when the first of them is asked for.

    load: gives them by name; it raises what loading raises.
    """

    def __init__(self, load: Callable[[], Mapping[str, Any]]) -> None:
        self._load = load
        self._parts: dict[str, Any] | None = None

    def __getitem__(self, name: str) -> Any:
        if self._parts is None:
            self._parts = dict(self._load())
        return self._parts.get(name)

    @property
    def is_loaded(self) -> bool:
        """Whether the networks were asked for."""
        return self._parts is not None
