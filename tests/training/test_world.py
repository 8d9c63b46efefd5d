import numpy as np
import pytest

from training import latents, meaning, world
from training.samples import DEFAULT, LENGTHS, NEUTRAL, Sampler, joins_of
from training.world import Subject


def test_every_word_is_withheld_with_every_other_but_never_always():
    shown = [subject for subject in world.all_subjects() if not subject.withheld]
    held = [subject for subject in world.all_subjects() if subject.withheld]
    assert 0.1 < len(held) / (len(shown) + len(held)) < 0.15
    for first in range(4):
        assert {subject.values[first] for subject in held} == set(world.ATTRIBUTES[first])
        for second in range(first):
            pairs = {(subject.values[second], subject.values[first]) for subject in shown}
            assert len(pairs) == len(world.ATTRIBUTES[second]) * len(world.ATTRIBUTES[first])


def test_training_never_shows_what_is_withheld():
    sampler, joins = Sampler(0), joins_of(7)
    for _ in range(30):
        clips = sampler.batch(16, joins.alike, (1,) * len(joins.alike)).clips
        assert not any(clip.before.withheld or clip.after.withheld for clip in clips)
    assert DEFAULT in sampler.known


@pytest.mark.parametrize("motion", world.MOTIONS)
def test_paths_stay_in_the_picture_and_hit_at_turns(motion):
    way = world.path(motion, world.START[motion], "", 30)
    assert all(0 <= row < world.ROWS and 0 <= column < world.COLUMNS for row, column in way.cells)
    turns = [old != new for old, new in zip(way.directions, way.directions[1:])]
    assert list(way.hits[1:]) == turns and not way.hits[0]


def test_a_path_does_not_depend_on_where_it_is_cut():
    whole = world.path("side", (2, 0), "", 12)
    first = world.path("side", (2, 0), "", 5)
    assert first.then(world.path("side", first.cells[-1], first.last_direction, 7)) == whole


def test_entries_of_the_table_are_named_and_distinct():
    table = latents.table()
    assert len(table.unique(dim=0)) == len(table)
    for number in (0, 162, 163, 5000, len(table) - 1):
        assert latents.entry(*latents.meaning(number)) == number


@pytest.mark.parametrize("frames", LENGTHS)
def test_clips_continue_what_they_know(frames):
    """The known part shows the old subject and the rest the new one, and words that are not said are as they were."""
    sampler, joins = Sampler(3), joins_of(frames)
    for clip in sampler.batch(40, joins.long, (1,) * len(joins.long)).clips:
        assert clip.entries.shape == (frames, world.CELLS) and len(clip.sound) == clip.join.audio_latents
        for index, row in enumerate(clip.entries):
            shown = clip.before if index < clip.join.video else clip.after
            named = [latents.meaning(int(number)) for number in row]
            objects = [name for name in named if name[4] >= 0]
            assert {world.SCENES[name[0]] for name in named} == {shown.scene} and 1 <= len(objects) <= 2
            assert {(tuple(world.COLOURS)[name[2]], world.SHAPES[name[3]]) for name in objects} == {
                (shown.colour, shown.shape)
            }
        for index in range(3):
            if clip.words[index] == NEUTRAL:
                assert clip.before.values[index] == clip.after.values[index]


def test_the_judge_is_right_about_true_films():
    subjects = world.all_subjects()[5::24]
    rng = np.random.default_rng(0)
    for subject in subjects:
        frames, sound, truth = meaning.truth_film([subject] * 2, [6, 5])
        frames = np.clip(frames + rng.normal(0, 0.02, frames.shape), 0, 1)
        verdict = meaning.judge(frames, sound, 24000, truth)
        assert all(min(segment.values()) == 1 for segment in verdict.segments), subject
        assert all(verdict.clean) and verdict.level_step < 0.1


def test_the_judge_sees_what_is_wrong():
    truth = meaning.story_truth([Subject("red", "ball", "day", "side")], [6])
    frames, sound, _ = meaning.truth_film([Subject("blue", "star", "night", "up")], [6])
    verdict = meaning.judge(frames, sound, 24000, truth)
    assert max(verdict.segments[0][name] for name in ("colour", "shape", "scene", "tone")) == 0
    frames, sound, truth = meaning.truth_film([Subject("red", "ball", "day", "rest")], [6])
    frames[:, :32, :32] = frames[:, 32:64, 32:64]  # a second ball
    assert not meaning.judge(frames, sound, 24000, truth).clean[0]
