"""Stores of both kinds, in memory and on disk."""

import pytest

from ltx2.continuation import FileBlobStore, FileSessionStore, InMemoryBlobStore, InMemorySessionStore


@pytest.fixture(params=("memory", "files"))
def blobs(request, tmp_path):
    return InMemoryBlobStore() if request.param == "memory" else FileBlobStore(tmp_path / "blobs")


@pytest.fixture(params=("memory", "files"))
def sessions(request, tmp_path):
    return InMemorySessionStore() if request.param == "memory" else FileSessionStore(tmp_path / "sessions")
