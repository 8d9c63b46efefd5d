"""The list of states that Load Continuation State shows, and what the page asks of one."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from .test_saved_names import state_of

PICTURES = 2000


@pytest.fixture
def card(pack):
    """The bytes of a state's card."""
    return pack.ltx2.continuation.attachments.attachment_bytes(state_of(pack), "card")


@pytest.fixture
def states(pack, folders, card):
    """A fresh list over folders with many pictures; ``put(name, kind)`` adds a state that is newer than all before."""
    for kind in ("input", "output"):
        (folders / kind / "x").mkdir(parents=True)
        picture = folders / kind / "x/picture.png"
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture)
        for index in range(PICTURES // 2):
            os.link(picture, folders / kind / f"picture_{index:05}.png")
    ages = iter(range(1, 100))

    def put(name, kind="output"):
        path = folders / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(card)
        os.utime(path, ns=(age := 10**18 + next(ages) * 10**9, age))
        os.utime(path.parent, ns=(age, age))

    listed = pack.nodes.state_list.StateList()
    listed.put = put
    return listed


def test_real_states_alone_newest_first_and_each_file_looked_into_once(states, pack, folders, monkeypatch):
    looked_at = []
    holds_state = pack.nodes.state_list.holds_state

    def counted(path):
        looked_at.extend([] if os.path.isdir(path) else [path])
        return holds_state(path)

    monkeypatch.setattr(pack.nodes.state_list, "holds_state", counted)
    for kind in ("input", "output"):
        os.utime(folders / kind, ns=(10**18, 10**18))
    states.put("a.png"), states.put("film/b.png"), states.put("c.png", "input")
    assert states.names() == ["c.png", "film/b.png [output]", "a.png [output]"]
    assert len(looked_at) >= PICTURES
    looked_at.clear()
    assert states.names() == ["c.png", "film/b.png [output]", "a.png [output]"] and not looked_at
    # a new one is seen without a restart, and nothing else is looked into for it
    states.put("film/d.png")
    assert states.names()[0] == "film/d.png [output]" and len(looked_at) == 1
    (folders / "output/film/d.png").unlink()
    assert states.names()[0] == "c.png"
    # one that is replaced by a picture, and folders that come and go
    shutil.copy(folders / "output/x/picture.png", folders / "output/a.png")
    os.utime(folders / "output", ns=(10**18 + 1, 10**18 + 1))
    shutil.rmtree(folders / "output/film")
    assert states.names() == ["c.png"]


def test_links_that_lead_away_and_hidden_files_are_left_out(states, folders, card):
    (folders / "outside.png").write_bytes(card)
    (folders / "output/link.png").symlink_to(folders / "outside.png")
    (folders / "output/.hidden.png").write_bytes(card)
    (folders / "output/away").symlink_to(folders)
    assert states.names() == []


def test_a_folder_is_one_state(states, run, pack):
    run("SaveState", state=state_of(pack), filename_prefix="film/part", form="folder")
    assert states.names() == ["film/part_00001_ [output]"]


def test_what_the_page_asks_of_a_file(pack, run, folders):
    routes, frame = pack.nodes.routes, np.zeros((64, 96, 3), np.uint8)
    state = dataclasses.replace(state_of(pack), video_frames=[frame])
    for form in ("PNG card", "safetensors", "folder"):
        file = run("SaveState", state=state, filename_prefix="film/part", form=form).args[1]
        shown = routes.state_card({"file": file})
        assert shown["file"] == file and shown["thumbnail"].startswith("data:image/jpeg;base64,")
        assert (shown["frames"], shown["width"], shown["height"]) == (1, 96, 64)
    for file in ("../outside.png", "", "/etc/passwd", "absent.png"):
        with pytest.raises(ValueError, match="input folder"):
            routes.state_card({"file": file})
