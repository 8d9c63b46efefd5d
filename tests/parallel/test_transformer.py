"""A call of the transformer over ranks gives what one process gives; how ranks are split is chosen and told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx2.errors import RequestError
from ltx2.parallel.split import Split, choose_split, shares, span

from .processes import together


@pytest.mark.slow
@pytest.mark.parametrize("size, versions", [(2, "2.0,2.3,2.5"), (4, "2.3")])
def test_velocities_are_those_of_one_process(size, versions):
    printed = together(size, "tests.parallel.compare_transformer", versions)
    assert all("alike" in text for text in printed)


def test_passes_first_then_tokens():
    heads = (32, 32)
    assert choose_split(4, 4, heads) == Split(4, 1)
    assert choose_split(4, 2, heads) == Split(2, 2)
    assert choose_split(4, 1, heads) == Split(1, 4)
    assert choose_split(4, 3, heads) == Split(2, 2)
    assert choose_split(3, 3, heads) == Split(3, 1)
    assert str(choose_split(4, 2, heads)) == "4 ranks: 2 guidance passes × 2 sequence parts"


def test_heads_that_do_not_divide_are_refused_with_the_nearest_number():
    with pytest.raises(RequestError, match="3 GPUs cannot share 32 attention heads evenly: use 2"):
        choose_split(3, 1, (32, 32))


@given(st.integers(1, 10_000), st.integers(1, 64))
def test_shares_are_even_and_cover_everything(total, parts):
    counts = shares(total, parts)
    assert sum(counts) == total and max(counts) - min(counts) <= 1
    spans = [span(total, parts, part) for part in range(parts)]
    assert spans[0][0] == 0 and spans[-1][1] == total
    assert all(before[1] == after[0] for before, after in zip(spans, spans[1:]))
