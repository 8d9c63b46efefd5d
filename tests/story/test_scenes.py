"""Scenes and takes: what depends on what, what is made again and what is only placed anew."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ltx2.errors import StoryError
from ltx2.media import read_video
from ltx2.story.chain import RunOptions, run_story
from ltx2.story.script import parse_script
from ltx2.story.script.unheard import unheard
from ltx2.story.takes import Redo, Wishes, entries_of, parse_pick, parse_redo, scenes_of, take_seed

from .fake import RATE, Fake, number_of


def script_of(*segments, head=""):
    """Segments as ``prompt`` or ``prompt, key: value``; a leading | starts a scene."""
    lines = []
    for segment in segments:
        name, _, more = segment.lstrip("|").partition(", ")
        cut = ", cut: true" if segment.startswith("|") else ""
        lines.append(f"  - {{prompt: '{name}'{', ' + more if more else ''}{cut}}}")
    head += "overlap: {video: 9, audio: 15}\ndefaults: {frames: 25}\n"
    return parse_script(f"{head}segments:\n" + "\n".join(lines))


def test_entries_that_nothing_reads_are_told():
    """Each where it stands, and never what the defaults say of all segments."""
    pictureless = script_of("a, strength: 0.5", "b, strength: 0.5", "|c, strength: 1", head="image_strength: 0.5\n")
    assert unheard(pictureless) == (
        "segment 1: strength has no effect: the segment starts from nothing before it",
        "segment 3: strength has no effect: the segment starts from nothing before it",
        "image_strength has no effect: no segment has an image",
    )
    assert unheard(script_of("a", "|b", head="noise: {video: 0.1}\n")) == (
        "noise has no effect: no segment goes on from another",
    )
    heard = "noise: {video: 0.1}\nimage_strength: 0.5\ndrift: {anchor: 0.5}\n"
    assert unheard(script_of("a", "b, strength: 0.5", head=heard)) == ()
    everywhere = parse_script("defaults: {frames: 25, strength: 0.5}\nsegments: [a, b]")
    assert unheard(everywhere) == () and everywhere.segments[0].strength == 0.5


@pytest.fixture
def tell(tmp_path):
    """Runs a script in one work folder; gives the result and (index, seed) of what was made."""

    def run(script, wishes=None, log=None, **options):
        fake = Fake(script.fps)
        result = run_story(
            script,
            fake,
            work=tmp_path / "work",
            out=tmp_path / "film.mp4",
            options=RunOptions(wishes or Wishes(), **options),
            log=log,
        )
        return result, [(task.index, task.seed) for task in fake.tasks]

    return run


def numbers(result):
    return [number_of(frame) for frame in read_video(result.film).frames]


def test_a_scene_is_the_same_whatever_comes_before_it(tell):
    first = script_of("a", "b", "|c, seed: 50", "d, seed: 51")
    result, made = tell(first)
    assert [index for index, _ in made] == [0, 1, 2, 3]
    # another prompt, another length and another number of segments before it: joined anew, not made anew
    for changed, again in (
        (script_of("a", "B", "|c, seed: 50", "d, seed: 51"), [1]),
        (script_of("a", "B, frames: 33", "|c, seed: 50", "d, seed: 51"), [1]),
        (script_of("a", "|c, seed: 50", "d, seed: 51"), []),
        (script_of("c, seed: 50", "d, seed: 51"), []),
        (script_of("c, seed: 50", "d, seed: 51", "|a, seed: 10", "b, seed: 11"), []),
    ):
        result, made = tell(changed)
        assert [index for index, _ in made] == again and result.written
        clip = read_video(result.film)
        assert len(clip.frames) == changed.total_frames
        assert clip.sound.samples.shape[1] == round(changed.total_frames / 24 * RATE)


def test_the_place_on_the_film_is_right_after_any_scene(tell):
    result, _ = tell(script_of("a", "b, frames: 41", "|c", "d", "|e, frames: 33"))
    # the generator counts from the start of what it is given: every scene begins with 0
    assert numbers(result) == [*range(25 + 32), *range(25 + 16), *range(33)]
    cuts = [seam for seam in result.seams if seam.correlation is None]
    assert len(result.seams) == 4 and len(cuts) == 2


def test_the_same_scene_twice_is_made_once(tell):
    result, made = tell(script_of("a, seed: 3", "b, seed: 4", "|a, seed: 3", "b, seed: 4"))
    assert made == [(0, 3), (1, 4)] and numbers(result) == [*range(41), *range(41)]


def test_what_a_cut_ignores_does_not_make_it_anew(tell):
    tell(script_of("a", "|b", "c"))
    _, made = tell(script_of("a", "|b, strength: 0.5", "c"))
    assert made == []
    _, made = tell(script_of("a", "|b", "c, strength: 0.5"))
    assert [index for index, _ in made] == [2]
    _, made = tell(script_of("a", "|b", "c, strength: 0.5", head="noise: {video: 0.1}\n"))
    assert [index for index, _ in made] == [2]


# --- takes


def test_takes_of_a_segment_go_on_from_the_kept_one(tell):
    script = script_of("a", "b, takes: 3", "c")
    result, made = tell(script)
    assert made == [(0, 10), (1, 11), (2, 12), (1, take_seed(11, 2)), (1, take_seed(11, 3))]
    assert result.made == (0, 1, 2) and result.unused.segments == 0
    # another one is picked: it is there, what follows goes on from it
    result, made = tell(script, Wishes(picks={1: 3}))
    assert made == [(2, 12)] and result.written
    # the pick holds until there is another, and the first choice was not thrown away
    assert tell(script)[1] == []
    result, made = tell(script, Wishes(picks={1: 1}))
    assert made == [] and result.written
    # the script may name it too
    result, made = tell(script_of("a", "b, takes: 3, take: 3", "c"))
    assert made == [] and result.written
    with pytest.raises(StoryError, match="names the take to keep"):
        tell(script_of("a", "b, takes: 3, take: 3", "c"), Wishes(picks={1: 2}))


def test_takes_of_a_scene_are_chains_of_their_own(tell):
    script = script_of("a", "b", "|c")
    result, made = tell(script, Wishes(takes=2))
    second = [(i, take_seed(10 + i, 2)) for i in range(3)]
    assert made == [(0, 10), (1, 11), *second[:2], (2, 12), second[2]]
    # a take of its first segment is one of the scene: nothing is made, the film changes
    result, made = tell(script, Wishes(takes=2, picks={0: 2}))
    assert made == [] and result.written and result.unused.segments == 0
    # and from the second segment on the first one again: that was never made
    result, made = tell(script, Wishes(takes=2, picks={1: 1}))
    assert made == [(1, 11)] and result.unused.segments == 0
    assert tell(script, Wishes(takes=2), prune=True)[1] == []
    result, made = tell(script)
    assert made == [] and result.unused.segments > 0


def test_a_pick_stays_with_its_segment(tell):
    tell(script_of("a", "b, takes: 2", "|c"), Wishes(picks={1: 2}))
    kept = take_seed(11, 2)
    _, made = tell(script_of("x", "|a", "b, takes: 2", "|c"))
    assert (2, kept) in made
    # another prompt is another segment
    _, made = tell(script_of("a", "B, takes: 2", "|c"))
    assert [seed for index, seed in made if index == 1] == [11, kept]


def test_redo_with_another_seed(tell):
    lines, script = [], script_of("a", "b", "c")
    tell(script)
    result, made = tell(script, Wishes(redo=(Redo(1),)), log=lines.append)
    assert made == [(1, 11)] and not result.written and any("came out as it was" in line for line in lines)
    result, made = tell(script, Wishes(redo=(Redo(1, "new"),)))
    fresh = take_seed(11, 2)
    assert made == [(1, fresh), (2, 12)] and result.written and result.unused.segments == 1
    assert tell(script)[1] == []  # it is kept from now on
    # what follows is made for the kept take alone
    assert tell(script_of("a", "b", "C"))[1] == [(2, 12)]
    assert tell(script, Wishes(redo=(Redo(1, 77),)))[1] == [(1, 77), (2, 12)]
    assert tell(script, Wishes(redo=(Redo(1, "new"),)))[1][0] not in [(1, 77), (1, fresh), (1, 11)]
    # all takes can be picked again
    result, made = tell(script, Wishes(picks={1: 1}))
    assert made == [] and result.written
    with pytest.raises(StoryError, match="segment 2 has no take 9"):
        tell(script, Wishes(picks={1: 9}))
    for wrong in (Wishes(redo=(Redo(3),)), Wishes(picks={3: 1}), Wishes(redo=(Redo(-1, "new"),))):
        with pytest.raises(StoryError, match="segments 1 to 3"):
            tell(script, wrong)


def test_a_stopped_new_take_is_gone_on_with(tmp_path):
    script, seeds = script_of("a", "b"), []
    places = {"work": tmp_path / "work", "out": tmp_path / "film.mp4"}
    run_story(script, Fake(), **places)

    def stopped(task):
        seeds.append(task.seed)
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_story(script, stopped, **places, options=RunOptions(Wishes(redo=(Redo(1, "new"),))))
    fake = Fake()
    run_story(script, fake, **places)
    assert seeds == [fake.tasks[0].seed] * 2 and len(fake.tasks) == 1


@pytest.mark.parametrize(
    "text, redo", [("2", Redo(1)), (" 2:new", Redo(1, "new")), ("3 : 77 ", Redo(2, 77)), ("2:0", Redo(1, 0))]
)
def test_redo_as_it_is_written(text, redo):
    assert parse_redo(text) == redo


@pytest.mark.parametrize(
    "text", ("", "0", "00:1", "-1", "²", "2:", "2:old", "2:-1", "2:9223372036854775808", "1e3", "٣:٣x")
)
def test_what_redo_and_pick_refuse(text):
    with pytest.raises(StoryError, match="expected"):
        parse_redo(text)
    with pytest.raises(StoryError, match="expected SEGMENT=TAKE"):
        parse_pick(text.replace(":", "="))
    assert parse_pick("3=2") == (2, 2)


@pytest.mark.slow
@settings(max_examples=11, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(told=[(False, 1, 0), (False, 2, 0), (False, 2, 0), (False, 1, 0), (True, 2, 0)], picks=[(1, 2)])
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 3), st.integers(0, 3)), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3)), max_size=3),
)
def test_any_takes_and_picks_come_out_right(tmp_path_factory, told, picks):
    """Whatever is picked in whatever order: the film is what a fresh story with these seeds would be, and nothing that
    was made is made again."""
    where = tmp_path_factory.mktemp("takes")
    lines = [f"{'|' if cut else ''}p{i}" for i, (cut, _, _) in enumerate(told)]
    script = script_of(*(f"{line}, takes: {takes}" for line, (_, takes, _) in zip(lines, told)))
    done, shown = set(), {}
    for index, take in [(None, None), *picks]:
        if index is not None and (index >= len(told) or take > told[index][1]):
            continue
        fake = Fake(script.fps, rate=8000, channels=1)
        wishes = Wishes() if index is None else Wishes(picks={index: take})
        result = run_story(script, fake, work=where / "w", out=where / "f.mp4", options=RunOptions(wishes))
        made = [(t.index, t.seed, b"" if t.clip is None else t.clip.frames.tobytes()) for t in fake.tasks]
        assert not done & set(made) and len(set(made)) == len(made)
        done |= set(made)
        assert len(read_video(where / "f.mp4").frames) == script.total_frames
        assert result.unused.segments <= len(done)
        if index is not None:
            shown[index] = take
    seeds, before = [], 1
    for index, (cut, takes, _) in enumerate(told):
        # a pick holds for what follows in its scene and has such a take
        before = shown.get(index) or (1 if cut or before > takes else before)
        seeds.append(take_seed(10 + index, before))
    fresh = script_of(*(f"{line}, seed: {seed}" for line, seed in zip(lines, seeds)))
    run_story(fresh, Fake(script.fps, rate=8000, channels=1), work=where / "fresh", out=where / "fresh.mp4")
    assert (read_video(where / "f.mp4").frames == read_video(where / "fresh.mp4").frames).all()


def test_scenes_and_entries():
    script = script_of("a", "a", "|a", "b", "|c")
    assert scenes_of(script) == (range(0, 2), range(2, 4), range(4, 5))
    names = entries_of(script)
    assert len(set(names)) == 5 and entries_of(script_of("b", "a"))[1] == names[0]
