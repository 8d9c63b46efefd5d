"""One track of one's own over a whole story, cut for each segment on the film's clock."""

from fractions import Fraction

import pytest
import torch

from ltx2 import media
from ltx2.errors import StoryError
from ltx2.story.film_file import _with_track
from ltx2.story.script import StoryAudio, parse_script
from ltx2.story.tasks import audio_of, task_of
from ltx2.values import Waveform

SCRIPT = """audio: {audio}
defaults: {{frames: 25}}
segments:
  - one
  - two
  - prompt: three
    cut: true
  - four
"""


def noise(seconds, rate=48000, channels=2):
    return Waveform(torch.rand(channels, round(seconds * rate), generator=torch.Generator().manual_seed(0)) - 0.5, rate)


@pytest.fixture
def song(tmp_path):
    sound = noise(6)
    media.write_wav(tmp_path / "song.wav", sound, format="float32")
    return sound


def story_of(tmp_path, audio):
    return parse_script(SCRIPT.format(audio=audio), tmp_path / "script.yaml")


@pytest.mark.parametrize("audio, start", [("song.wav", 0), ("{file: song.wav, start: 1.3}", Fraction("1.3"))])
def test_each_segment_hears_its_piece_of_the_track(tmp_path, song, audio, start):
    story = story_of(tmp_path, audio)
    # 25 frames; 16 new ones; a cut repeats nothing; 16 new ones
    for index, first in enumerate((0, 16, 41, 57)):
        begin = round((start + Fraction(first, 24)) * 48000)
        piece = task_of(story, index).audio
        assert torch.equal(piece.samples, song.samples[:, begin : begin + 50000])
    whole = story.audio.piece(Fraction(0), story.total_frames / story.fps)
    assert whole.samples.shape[1] == round(82 / 24 * 48000)
    same = StoryAudio(sound=song, start=Fraction(start))
    assert torch.equal(
        same.piece(Fraction(1), Fraction(2)).samples, story.audio.piece(Fraction(1), Fraction(2)).samples
    )


def test_behind_the_end_of_the_track_it_is_silent(tmp_path, song):
    piece = audio_of(story_of(tmp_path, "{file: song.wav, start: 5.5}"), 1)
    assert piece.samples.shape[1] == 50000 and not piece.samples[:, 24000:].any()


def test_the_film_has_the_track_sample_by_sample(tmp_path, song):
    frames = [torch.zeros(n, 8, 8, 3).numpy() for n in (1, 7, 24)]
    given = [piece for piece in _with_track(iter(frames), song, Fraction(30000, 1001)) if isinstance(piece, Waveform)]
    joined = torch.cat([piece.samples for piece in given], dim=1)
    assert torch.equal(joined, song.samples[:, : round(32 * 1001 / 30000 * 48000)])


@pytest.mark.parametrize(
    "audio, sentence",
    [
        ("none.wav", "line 1, column 8: the sound 'none.wav' is not there"),
        ("{start: 2}", "the audio has no file"),
        ("{file: song.wav, start: -1}", "start is '-1', expected a time in seconds from 0"),
        ("{file: song.wav, strat: 1}", "did you mean start"),
        ("[song.wav]", "audio is no mapping"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path, song, audio, sentence):
    with pytest.raises(StoryError, match="script.yaml, line 1") as caught:
        story_of(tmp_path, audio)
    assert sentence in str(caught.value)


def test_another_track_or_place_makes_other_segments(tmp_path, song):
    def keys(audio):
        from ltx2.story.records import Keys

        return [Keys(story_of(tmp_path, audio), "m").key(index, 1, None) for index in range(4)]

    plain, later = keys("song.wav"), keys("{file: song.wav, start: 1}")
    assert len({*plain, *later}) == 8 and keys("song.wav") == plain
    media.write_wav(tmp_path / "song.wav", noise(5))
    assert not set(keys("song.wav")) & set(plain)


@pytest.mark.parametrize("start, missing", [(0, 0), (1.5, 0), (3.5, 1), (5.5, 3)])
def test_what_the_track_lacks_of_the_film_is_known_of_files_and_of_sounds(tmp_path, song, start, missing):
    script = story_of(tmp_path, f"{{file: song.wav, start: {start}}}")
    for audio in (script.audio, StoryAudio(sound=song, start=Fraction(str(start)))):
        assert audio.missing(Fraction("3.5")) == missing
