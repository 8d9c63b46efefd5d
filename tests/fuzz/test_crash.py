"""The campaign of ``make crash``, cut short: every fault, a few kills, a full disk."""

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


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_every_fault_of_a_save(tmp_path, form):
    assert crash.fault_saves(tmp_path / "f", form) >= 5


def test_every_fault_of_a_store(tmp_path):
    assert crash.fault_stores(tmp_path / "f") > 10


def test_every_fault_of_a_story(tmp_path):
    assert crash.fault_story(tmp_path / "f") > 20


def test_a_full_disk(tmp_path):
    if "skipped" in crash.fill_disk(tmp_path / "disk"):
        pytest.skip("this machine makes no small file system")
