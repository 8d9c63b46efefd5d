"""Stories in tests do not wait for the disk, but where that is what is tested."""

import os

import pytest


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(request, monkeypatch):
    if "kill" not in request.node.name:
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)
