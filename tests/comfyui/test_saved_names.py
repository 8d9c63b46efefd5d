"""Names in the host's folders: what saves under a name loads under it again, and nothing is told of what lies
outside."""

import random

import pytest

from ..continuation.test_codec import full_state

NAMES = (
    "film/part",
    "~/x",
    "~x",
    "C:x",
    "c:\\x",
    "..\\x",
    "../x",
    "a\\b",
    "a/../b",
    "/x",
    "\\\\server\\x",
    " x",
    "x ",
    "a / b",
    "x [output]",
    "größe",
    "a.b",
    ".x",
    "x" * 300,
    "é" * 150,
    "a/" * 100 + "x",
    "a\nb",
    "a\0b",
    "\ud800",
    "",
    "..",
    ".",
    "con",
    "%width%",
    "[input]",
)
LETTERS = "ab./\\~: [%é\n\ud800-output]"


def mixed_names(count: int):
    random_of = random.Random(7)
    return ["".join(random_of.choices(LETTERS, k=random_of.randint(1, 9))) for _ in range(count)]


@pytest.mark.parametrize("form", ("PNG card", "folder"))
def test_what_is_saved_under_a_name_loads_under_it(run, pack, folders, form):
    errors = pack.ltx2.errors
    saved = 0
    for prefix in (*NAMES, *mixed_names(120)):
        try:
            file = run("SaveState", state=state_of(pack), filename_prefix=prefix, form=form).args[1]
        except (errors.RequestError, errors.ContinuationError) as error:
            assert len(str(error)) <= 300 and str(error).isprintable()
            continue
        saved += 1
        assert run("LoadState", file=file).args[0].segment_index == 3
    assert saved > 40
    outside = [p for p in folders.rglob("*") if p.is_file() and "output" not in p.relative_to(folders).parts[0]]
    assert not outside


def state_of(pack):
    fields = {name: getattr(full_state(), name) for name in ("segment_index", "metadata", "audio_sample_rate")}
    return pack.ltx2.continuation.LTX2ContinuationState(**fields)


@pytest.mark.parametrize(
    "name", ("../secret.png", "link/secret.png", "~/secret.png", "/etc/passwd", "none.png", "\ud800")
)
@pytest.mark.parametrize("there", (True, False))
def test_what_lies_outside_and_what_is_not_there_sound_the_same(pack, folders, name, there):
    pack.nodes.host.user_folder("input")
    (folders / "elsewhere").mkdir()
    if there:
        (folders / "secret.png").write_bytes(b"x")
        (folders / "elsewhere" / "secret.png").write_bytes(b"x")
    (pack.nodes.host.user_folder("input") / "link").symlink_to(folders / "elsewhere")
    with pytest.raises(pack.ltx2.errors.RequestError) as caught:
        pack.nodes.host.user_file(name)
    words = str(caught.value)
    assert "in ComfyUI's input folder: choose a file that is" in words and len(words) <= 300
    assert str(folders) not in words and "elsewhere" not in words
