"""Whatever is dropped, conflated, left or resumed: what a client has built is what the board shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.stream.fields import CODE_NAMES, FIELD_KINDS, ROW_FIELDS
from app.stream.frames import Labels, to_binary, to_json
from app.stream.sequence import Picture, Sequence, first_seq
from app.stream.stream_log import Cursor, Part, Step, StreamLog
from app.stream.topics import RATES_HZ
from tests.binary_frames import read_frame
from tests.stream_world import NIFTY_CHAIN, RELIANCE, Mirror, Reader, World

TOPICS = ("quotes:RELIANCE_EQ,NIFTY_26FEB2026_25000CE", "chain:NIFTY:26FEB2026", "depth:RELIANCE_EQ")

actions = st.one_of(
    st.tuples(st.just("tick"), st.integers(0, 5), st.integers(1, 4_000)),
    st.tuples(st.just("round"), st.integers(1, 15), st.just(0)),
    st.tuples(st.just("read"), st.integers(0, 2), st.integers(1, 3)),
    st.tuples(st.just("drop"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("subscribe"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("unsubscribe"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("spot"), st.integers(24_000, 26_000), st.just(0)),
    st.tuples(st.just("lose"), st.integers(0, 2), st.just(0)),
)


class Desk:
    """Three clients at different rates over one world, each with what it believes of each topic."""

    def __init__(self) -> None:
        self.world = World()
        asyncio.run(self.world.bus.start())
        self.world.start()
        self.legs = [RELIANCE, *(self.world.leg(strike) for strike in (24_950, 25_000, 25_050, 25_100, 25_150))]
        self.rates = (10, 5, 1)
        self.readers = [self.world.join() for _ in self.rates]
        self.mirrors: list[dict[str, Mirror]] = [{topic: Mirror() for topic in TOPICS} for _ in self.rates]
        for reader, rate in zip(self.readers, self.rates, strict=True):
            reader.watch(*TOPICS, hz=rate)

    def tick(self, place: int, price: int) -> None:
        leg = self.legs[place]
        if leg.key in self.world.books.owned:
            self.world.tick(leg, price / 4)

    def spot(self, price: int, _: int) -> None:
        self.world.engine.centre(NIFTY_CHAIN, float(price))

    def subscribe(self, place: int, _: int) -> None:
        self.world.books.subscribe(self.legs[place])

    def unsubscribe(self, place: int, _: int) -> None:
        self.world.books.unsubscribe(self.legs[place])

    def round(self, times: int, _: int) -> None:
        self.world.round(times)

    def read(self, place: int, limit: int) -> None:
        self._take(place, self.readers[place].read(limit))

    def _take(self, place: int, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            self.mirrors[place][message["topic"]].take(message)

    def drop(self, place: int, _: int) -> None:
        """The connection breaks; the client comes back and resumes every topic it holds."""
        self.world.hub.leave(self.readers[place].client)
        self.readers[place] = self._joined(place)

    def _joined(self, place: int) -> Reader:
        reader = self.world.join()
        for topic, mirror in self.mirrors[place].items():
            self.world.hub.resume(reader.client, topic, mirror.seq, self.rates[place])
        return reader

    def lose(self, place: int, _: int) -> None:
        """The next message gets lost between publisher and hub: told by the one after it, or by a beat."""
        self.world.bus.lose_next(self.readers[place].client.topics[TOPICS[0]].subject)

    def settle(self) -> None:
        self.world.round(10)
        for _ in range(2):  # what makes up for a loss may be lost as well
            self.world.clock.at_ms += 1_000
            self.world.hub.beat()
        for place, reader in enumerate(self.readers):
            self._take(place, reader.read())

    def check(self) -> None:
        face = self.world.face
        for mirrors in self.mirrors:
            for topic in TOPICS[:2]:
                for token, row in mirrors[topic].data["rows"].items():
                    leg = self.world.listing.by_token(token)
                    shown = face.values[face._row_of[leg.key, leg.token]]
                    held = np.array([_number(name, row[name]) for name in ROW_FIELDS])
                    same = np.isclose(held, shown, rtol=0, atol=0, equal_nan=True)
                    age = ROW_FIELDS.index("age_ms")
                    assert same[:age].all()
                    assert same[age + 1 :].all()
            book = self.world.prices.depth(RELIANCE.key)
            assert [level["price"] for level in mirrors[TOPICS[2]].data["bids"]] == (
                [level.price for level in book.bids] if book else []
            )


def _number(name: str, value: object) -> float:
    if name in CODE_NAMES:
        return float(CODE_NAMES[name].index(value))  # type: ignore[arg-type]
    return float("nan") if value is None else float(value)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(actions, max_size=40))
def test_every_client_ends_up_with_the_board(story: list[tuple[str, int, int]]) -> None:
    desk = Desk()
    for name, first, second in story:
        act: Callable[[int, int], None] = getattr(desk, name)
        act(first, second)
    desk.settle()
    desk.check()


cells = st.one_of(st.just(float("nan")), st.integers(0, 9).map(float))
pictures = st.lists(st.lists(cells, min_size=4, max_size=4), min_size=1, max_size=8)


@given(pictures, st.data())
def test_deltas_add_up_in_either_form(steps: list[list[float]], data: st.DataObject) -> None:
    labels = Labels("quotes:A,B", 3, 0, ("A", "B"))
    words = {"fields": ROW_FIELDS, "kinds": FIELD_KINDS, "rows": ["A", "B"], "codes": CODE_NAMES}
    sequence = Sequence(first_seq(10, 1_770_000_000))
    mirror = Mirror()
    rows: dict[str, dict[str, Any]] = {}
    for numbers in steps:
        values = np.full((2, len(ROW_FIELDS)), np.nan)
        values[:, data.draw(st.integers(0, 20))] = numbers[:2]
        values[0, ROW_FIELDS.index("state")] = numbers[2] if numbers[2] == numbers[2] else 0
        values[1, ROW_FIELDS.index("state")] = 1
        values[:, ROW_FIELDS.index("oi_basis")] = 0
        update = sequence.advance(Picture({"n": numbers[3] if numbers[3] == numbers[3] else None}, values), 5)
        if update is None:
            continue
        mirror.take(orjson.loads(to_json(labels, update)))
        frame = read_frame(to_binary(labels, update), words)
        rows = frame.rows if frame.is_snapshot else rows
        for token, changed in frame.rows.items():
            rows[token].update(changed)
        assert rows == mirror.data["rows"]
        assert frame.seq == mirror.seq


@given(st.integers(1_704_067_200, 1_704_067_200 + 2**31 - 1), st.integers(0, 2**31), st.sampled_from(RATES_HZ))
def test_numbers_of_lives_and_rates_never_meet(life: int, seconds: int, hz: int) -> None:
    first = first_seq(hz, life)
    assert 0 < first < 2**53
    last = first + min(seconds, 86_400 * 365) * hz  # what one life can use before the next begins
    later = life + max(1, min(seconds, 86_400 * 365))
    if later < 1_704_067_200 + 2**31:
        assert first_seq(hz, later) > last
    others = {first_seq(other, life) >> 51 for other in RATES_HZ}
    assert len(others) == len(RATES_HZ)


@given(st.lists(st.sampled_from(["step", "snapshot", "gap", "pull"]), max_size=200), st.integers(0, 60))
def test_a_reader_never_skips_a_step_without_a_snapshot(story: list[str], keep: int) -> None:
    log = StreamLog(keep_bytes=keep * 3, keep_steps=20)
    head, cursor, seen = 100, Cursor(), 0
    log.append(Step(Part.SNAPSHOT, head, b"{}"))
    for act in story:
        if act == "pull":
            step = None if log.is_done(cursor) else log.pull(cursor)
            if step is not None:
                assert step.part is Part.SNAPSHOT or step.seq == seen + 1
                assert step.seq > seen or step.part is Part.SNAPSHOT
                seen = step.seq
            continue
        head += {"step": 1, "snapshot": 0, "gap": 3}[act]
        log.append(Step(Part.SNAPSHOT if act == "snapshot" else Part.DELTA, head, b"{}"))
    log.append(Step(Part.SNAPSHOT, head, b"{}"))
    while not log.is_done(cursor):
        step = log.pull(cursor)
        assert step is not None
        seen = step.seq
    assert seen == head or cursor.next_seq == head + 1
