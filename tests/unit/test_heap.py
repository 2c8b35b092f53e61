"""What stays is taken out of the collector's sight, and comes back into it for a day's thaw."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from app.lifecycle.heap import GROWTH, Heap


class Node:
    def __init__(self) -> None:
        self.other: Node | None = None


@pytest.fixture(autouse=True)
def nothing_stays_frozen() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_growth_is_frozen_once_it_is_worth_it() -> None:
    subscribed = 0
    heap = Heap(lambda: subscribed)
    gc.unfreeze()
    heap.look()
    assert gc.get_freeze_count() == 0
    subscribed = GROWTH
    heap.look()
    frozen = gc.get_freeze_count()
    assert frozen > 0
    more = [Node() for _ in range(100)]
    heap.look()
    assert gc.get_freeze_count() <= frozen, "no growth since"
    subscribed += GROWTH
    heap.look()
    assert gc.get_freeze_count() >= frozen + len(more)


def test_a_frozen_cycle_goes_with_the_thaw() -> None:
    heap = Heap(lambda: 0)
    one, two = Node(), Node()
    one.other, two.other = two, one
    gone = weakref.ref(one)
    heap.freeze()
    del one, two
    gc.collect()
    assert gone() is not None
    heap.thaw()
    assert gone() is None
