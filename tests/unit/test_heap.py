"""What stays is taken out of the collector's sight, and comes back into it for a day's thaw."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from app.lifecycle.heap import Heap


class Node:
    def __init__(self) -> None:
        self.other: Node | None = None


@pytest.fixture
def heap() -> Iterator[Heap]:
    heap = Heap()
    before = gc.get_threshold()
    heap.take_over()
    yield heap
    heap.give_back()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def full_collections() -> int:
    count: int = gc.get_stats()[2]["collections"]
    return count


def test_what_comes_to_stay_is_frozen_and_causes_no_full_collection(heap: Heap) -> None:
    before, frozen = full_collections(), gc.get_freeze_count()
    stays = []
    for _ in range(10):
        stays += [Node() for _ in range(20_000)]
        heap.look()
    assert full_collections() == before
    assert gc.get_freeze_count() >= frozen + len(stays)


def test_while_nothing_comes_to_stay_nothing_is_done(heap: Heap) -> None:
    heap.look()
    frozen = gc.get_freeze_count()
    young = Node()
    heap.look()
    assert gc.get_freeze_count() <= frozen
    assert gc.is_tracked(young)


def test_a_frozen_cycle_goes_with_the_thaw(heap: Heap) -> None:
    one, two = Node(), Node()
    one.other, two.other = two, one
    gone = weakref.ref(one)
    gc.freeze()
    del one, two
    gc.collect()
    assert gone() is not None
    heap.thaw()
    assert gone() is None
