"""Segments that each heard their piece of one track join into that track, sample by sample."""

import numpy as np
import torch

from ltx2.clock import samples_of_seconds
from ltx2.film import FinishedSegment, join_segments
from ltx2.film.timeline import first_segment, next_segment
from ltx2.stages.given import sound_piece
from ltx2.values import Waveform


def joined(track, timings, change=lambda index, sound: sound):
    segments = []
    for index, timing in enumerate(timings):
        sound = sound_piece(track, timing.start, timing.seconds)
        frames = np.zeros((timing.frames, 8, 8, 3), np.uint8)
        segments.append(FinishedSegment(timing, [frames], change(index, sound)))
    pieces = [piece for piece in join_segments(segments) if isinstance(piece, Waveform)]
    return torch.cat([piece.samples for piece in pieces], dim=1)


def test_pieces_of_one_track_join_without_a_trace():
    first = first_segment(25, 24)
    second = next_segment(first, 33, video_overlap=9, audio_overlap=0)
    third = next_segment(second, 25, video_overlap=1, audio_overlap=0)
    track = Waveform(torch.rand(2, 48000 * 5, generator=torch.Generator().manual_seed(1)) - 0.5, 48000)
    film = joined(track, [first, second, third])
    end = samples_of_seconds(third.picture_end, 48000)
    assert film.shape[1] == end and torch.equal(film, track.samples[:, :end])
    # sounds that differ at the seam are faded, so that nothing clicks
    other = joined(track, [first, second, third], lambda i, s: s if i != 1 else Waveform(s.samples.flip(1), 48000))
    seam = samples_of_seconds(first.picture_end, 48000)
    assert other[:, seam - 2 : seam].abs().max() < 0.01
