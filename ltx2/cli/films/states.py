"""The state of a film that a verb just wrote: saved so that it knows its film."""

from pathlib import Path

from ...continuation import save_attachment
from ...continuation.state import LTX2ContinuationState
from ...film.saved_film import with_film_beside
from .. import options


def save_state(state: LTX2ContinuationState, path: str | Path, film: str | Path) -> Path:
    """Save a state, and say where. film: what was written with it; one that is a film and no sound or folder of
    pictures is known to the state. Returns the path. Raises ContinuationError and MediaError."""
    if Path(film).suffix.lower() in options.FILM_SUFFIXES:
        state, notes = with_film_beside(state, film, path)
        options.log_notes(notes)
    saved = save_attachment(state, path)
    options.log(f"state {saved}")
    return saved
