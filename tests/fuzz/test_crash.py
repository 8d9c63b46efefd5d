"""The campaign of ``make crash``, cut short: every fault, a few kills, a full disk."""

import os
import random

import pytest

from ltx2.continuation.attachments import FORMS

from . import crash

pytestmark = pytest.mark.filterwarnings("ignore::ltx2.errors.Ltx2Warning")


@pytest.mark.parametrize("form", FORMS)
def test_saves_survive_kills(tmp_path, form):
    crash.kill_saves(tmp_path / "k", form, 3, random.Random(form))


def test_stores_survive_kills(tmp_path):
    crash.kill_stores(tmp_path / "k", 3, random.Random(1))


@pytest.fixture
def no_waiting(monkeypatch):
    """Faults are seen without waiting for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.parametrize("form", FORMS)
def test_every_fault_of_a_save(tmp_path, no_waiting, form):
    assert crash.fault_saves(tmp_path / "f", form) >= 5


def test_every_fault_of_a_store(tmp_path, no_waiting):
    assert crash.fault_stores(tmp_path / "f") > 10


@pytest.mark.slow
def test_a_full_disk(tmp_path, no_waiting):
    if "skipped" in crash.fill_disk(tmp_path / "disk"):
        pytest.skip("this machine makes no small file system")
