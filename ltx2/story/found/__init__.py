"""Films that were found, in the hands of a model: gone on from."""

from .going_on import GoingOn, go_on, sized_after_film

__all__ = ["GoingOn", "go_on", "sized_after_film"]
