"""Networks stay on the device between stages and segments while there is room, and go for what comes."""

import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ltx2.stages import memory, refinement
from ltx2.stages.placing import warm
from ltx2.stages.placing.warm import WarmPlacement

SPARE, UNTOLD = 1000, 600


class Card:
    """A device of some bytes, on which nothing but networks takes any."""

    def __init__(self, monkeypatch, size):
        monkeypatch.setattr(warm, "SPARE_BYTES", SPARE)
        monkeypatch.setattr(warm, "UNTOLD_BYTES", UNTOLD)
        self.size = size
        self.placement = WarmPlacement("meta", free=self.free)

    def free(self):
        return self.size - sum(memory.weight_bytes(copy) for _, copy in self.placement._kept.values())

    def kept(self, networks):
        return [network for network in networks if (id(network), ()) in self.placement._kept]


def network(numbers):
    return nn.Linear(numbers, 1, bias=False)  # of four bytes each


def test_what_fits_stays_and_is_not_copied_again(monkeypatch):
    one, other = network(100), network(50)
    card = Card(monkeypatch, 2000)
    with card.placement.on(one) as (first,):
        assert first.weight.device.type == "meta" and one.weight.device.type == "cpu"
    with card.placement.on(other, one, activation_bytes=10) as (_, second), card.placement.on(one) as (third,):
        assert second is first and third is first
    assert card.kept([one, other]) == [one, other]
    # a stage that needs more than is free sends away what it does not use itself, and gets it back later
    with card.placement.on(other, activation_bytes=1700):
        assert card.kept([one, other]) == [other] and not first.weight.numel()
    with card.placement.on(one) as (again,):
        assert again is not first and again.weight.shape == one.weight.shape
    assert torch.equal(one.weight, one.weight)


def test_on_a_small_card_nothing_stays(monkeypatch):
    one = network(100)
    card = Card(monkeypatch, 400 + SPARE - 1)
    with card.placement.on(one) as (first,):
        assert first.weight.numel()
    assert not card.placement._kept and not first.weight.numel()
    with pytest.raises(KeyError), card.placement.on(one):
        raise KeyError
    assert not card.placement._kept


def test_a_network_that_is_gone_takes_no_room(monkeypatch):
    card, one = Card(monkeypatch, 5000), network(100)
    with card.placement.on(one):
        pass
    del one
    gc.collect()
    with card.placement.on(network(10)):
        assert len(card.placement._kept) == 1


def test_each_choice_of_loras_is_a_copy_of_its_own(models, monkeypatch):
    own = models("2.3")
    card = Card(monkeypatch, 2**30)
    # one device only: what is there counts as elsewhere
    card.placement = WarmPlacement("cpu", free=card.free)
    for room in (refinement, memory):
        monkeypatch.setattr(room, "stays", lambda module, device: False)
    lora = own.distilled_lora
    seen = []
    for loras in ([], [(lora, 0.5)], [(lora, 0.25)], [(lora, 0.5)], [(lora, 0.0)], []):
        with card.placement.transformer(own.transformer, loras) as there:
            seen.append(there)
    assert seen[1] is seen[3] and seen[0] is seen[4] is seen[5] and len(set(map(id, seen))) == 3


@settings(max_examples=60, deadline=None)
@given(size=st.integers(0, 6000), asked=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2000)), max_size=12))
def test_room_is_made_for_whatever_comes(size, asked):
    networks = [network(60 * number) for number in range(1, 6)]
    with pytest.MonkeyPatch.context() as patch:
        card = Card(patch, size)
        for number, room in asked:
            wanted = networks[number]
            with card.placement.on(wanted, activation_bytes=room):
                others = len(card.placement._kept) > 1
                # either there is the room, or nothing else could have gone
                assert card.free() >= (room or UNTOLD) or not others
            assert card.free() >= SPARE or not card.placement._kept
