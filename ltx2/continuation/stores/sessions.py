"""Where the states of running sessions are kept, and the blobs that they own: the contract, and one in memory."""

import abc
import copy
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator

from ...errors import ContinuationError
from ..format import AUDIO, BLOB_ID, VIDEO
from ..state import ContinuationState, LTX2ContinuationState
from .blobs import BlobStore


def state_blob_ids(state: ContinuationState | LTX2ContinuationState | None) -> set[str]:
    """Ids of the blobs that a state or its envelope names; empty for None and for malformed members."""
    if state is None:
        return set()
    if isinstance(state, LTX2ContinuationState):
        found = [state.video_frames_blob_id, state.audio_latents_blob_id]
        found += [
            state.unknown_fields.video_source[0] if state.unknown_fields.video_source else None,
            state.unknown_fields.audio_source,
        ]
    else:
        payload = state.payload if isinstance(state.payload, dict) else {}
        members = (payload.get(VIDEO), payload.get(AUDIO))
        found = [member.get(BLOB_ID) for member in members if isinstance(member, dict)]
    return {blob_id for blob_id in found if isinstance(blob_id, str) and blob_id}


def drop_state_blobs(state: ContinuationState | LTX2ContinuationState, store: BlobStore) -> None:
    """Drop the blobs that a state names from a store; those that are not there are no error."""
    for blob_id in state_blob_ids(state):
        store.drop(blob_id)


class SessionStore(abc.ABC):
    """The current state of each running session. What comes out is a copy: changing it changes nothing in the store."""

    @abc.abstractmethod
    def store(self, session_id: str, state: ContinuationState) -> None:
        """Set the state of a session, replacing the one before. Raises ContinuationError."""

    @abc.abstractmethod
    def snapshot(self, session_id: str) -> ContinuationState | None:
        """The current state, or None. Raises ContinuationError for one that is damaged."""

    @abc.abstractmethod
    def drop(self, session_id: str) -> None:
        """Forget a session, also a damaged one; one that is not there is no error."""

    @abc.abstractmethod
    def __iter__(self) -> Iterator[str]:
        """Session ids, over a list taken now."""

    def hydrate(self, state: ContinuationState, *, session_id: str | None = None) -> str:
        """Install a state as a session, a new one unless an id is given; returns the id."""
        session_id = session_id or uuid.uuid4().hex
        self.store(session_id, state)
        return session_id

    def __contains__(self, session_id: object) -> bool:
        return any(session_id == known for known in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class InMemorySessionStore(SessionStore):
    """Sessions of one process, safe for its threads. Every call takes the same time, however many there are.

    owned_blobs: a blob store whose blobs the sessions own: what no session names any more is dropped. ttl_seconds:
    forget sessions not stored for so long. clock: seconds, for tests.
    """

    def __init__(
        self,
        *,
        owned_blobs: BlobStore | None = None,
        ttl_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # the longest untouched first
        self._sessions: dict[str, tuple[float, ContinuationState]] = {}
        self._named: Counter[str] = Counter()  # sessions that name a blob
        self._lock = threading.RLock()
        self._blobs, self._ttl, self._clock = owned_blobs, ttl_seconds, clock

    def store(self, session_id: str, state: ContinuationState) -> None:
        state = checked_copy(state)
        with self._lock:
            self._expire()
            replaced = self._sessions.pop(session_id, None)
            self._sessions[session_id] = (self._clock(), state)
            self._named.update(state_blob_ids(state))
            self._release(replaced)

    def snapshot(self, session_id: str) -> ContinuationState | None:
        with self._lock:
            self._expire()
            found = self._sessions.get(session_id)
            return copy.deepcopy(found[1]) if found else None

    def drop(self, session_id: str) -> None:
        with self._lock:
            self._release(self._sessions.pop(session_id, None))

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            self._expire()
            return iter(list(self._sessions))

    def __contains__(self, session_id: object) -> bool:
        with self._lock:
            self._expire()
            return session_id in self._sessions

    def _expire(self) -> None:
        if self._ttl is None:
            return
        now = self._clock()
        while self._sessions:
            session_id, (stored, _) = next(iter(self._sessions.items()))
            if now - stored <= self._ttl:
                return
            self._release(self._sessions.pop(session_id))

    def _release(self, entry: tuple[float, ContinuationState] | None) -> None:
        if entry is None:
            return
        for blob_id in state_blob_ids(entry[1]):
            self._named[blob_id] -= 1
            if self._named[blob_id] <= 0:
                del self._named[blob_id]
                if self._blobs is not None:
                    self._blobs.drop(blob_id)


def checked_copy(state: ContinuationState) -> ContinuationState:
    """A deep copy of an envelope. Raises ContinuationError when it is none."""
    kind, payload = getattr(state, "kind", None), getattr(state, "payload", None)
    if not isinstance(kind, str) or not kind:
        raise ContinuationError(
            f"a session keeps an envelope whose kind is a non-empty string, got a {type(state).__name__}"
        )
    if not isinstance(payload, dict):
        raise ContinuationError(f"a session keeps an envelope whose payload is an object, got {type(payload).__name__}")
    return ContinuationState(kind, copy.deepcopy(payload))
