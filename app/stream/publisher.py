"""The cadence: what changed since the last round, worked out once and encoded once for everybody who watches it."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Protocol

import numpy as np
import orjson
import structlog

from app.core.errors import TerminalError
from app.market.atm_engine import ChainId
from app.market.events import Event
from app.market.live_prices import LivePrices
from app.ports.bus import Bus, BusSubscription
from app.ports.clock import Clock
from app.stream.demand import EVENT_SUBJECT, WANT_SUBJECT, Demand, Op, Want, unpack_want
from app.stream.desk import Desk
from app.stream.face import Face
from app.stream.frames import Labels, Update, dictionary, to_binary, to_json
from app.stream.opener import Opener
from app.stream.sequence import Sequence, first_seq
from app.stream.sources import Source
from app.stream.stream_log import Part, Step, pack_step
from app.stream.topics import RATES_HZ, Format, Kind, StreamKey, Topic, parse_topic

TOP_HZ = RATES_HZ[0]
SLICE_S = 0.002  # and a step of 2 or 3 ms: others wait 5 at the most
ROWS_TOGETHER = 1_600  # some 7 ms with all that is done for them
LOOKS_A_SECOND = 1
HUB_SILENCE_S = 10.0
REST_S = 1.0  # after the last step: by then each hub has heard it, or it is lost


class Screens(Protocol):
    """Who keeps account of what is on screens: being shown is a use (contract, rule 5.5)."""

    def touch_shown(self, chains: Iterable[ChainId]) -> None: ...
    def touch_entries(self, user_id: int, list_name: str | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class PublisherSettings:
    """``life_s``: epoch second in which this life of the process began, or a later one: two lives never share one.
    ``interval_s``: length of a round; rates are counted in rounds of a tenth of a second.
    """

    life_s: int
    interval_s: float = 1.0 / TOP_HZ


@dataclass(slots=True)
class RateClass:
    """One sequence of an open topic and the formats it is read in."""

    hz: int
    sequence: Sequence
    seen: int = -1  # stamp of the face
    stepped_s: float = 0.0
    formats: set[Format] = field(default_factory=set)


@dataclass(slots=True)
class OpenTopic:
    topic: Topic
    source: Source
    classes: dict[int, RateClass] = field(default_factory=dict)
    _labels: Labels | None = None
    _dictionary: bytes = b""

    @property
    def dictionary(self) -> bytes:
        """Made once for all who join, until the rows become others."""
        if self._labels is not self.source.labels:
            self._labels = self.source.labels
            self._dictionary = dictionary(self._labels)
        return self._dictionary


class Publisher:
    """OWNS the open topics and their sequences. Drives :class:`Face` and :class:`Desk`; the only reader of dirty marks.

    ``screens`` is told each second which chains and whose lists are on screens.
    """

    def __init__(
        self,
        prices: LivePrices,
        face: Face,
        desk: Desk,
        opener: Opener,
        bus: Bus,
        clock: Clock,
        settings: PublisherSettings,
        *,
        screens: Screens,
    ) -> None:
        self._prices = prices
        self._face = face
        self._desk = desk
        self._opener = opener
        self._bus = bus
        self._clock = clock
        self._settings = settings
        self._screens = screens
        self._demand = Demand(HUB_SILENCE_S)
        self._topics: dict[str, OpenTopic] = {}
        self._highest = {hz: first_seq(hz, settings.life_s) - 1 for hz in RATES_HZ}
        self._topic_ids = 0
        self._round = 0
        self._reader: BusSubscription | None = None
        self.messages = 0  # encoded, plain ints for the scrape
        self.bytes = 0
        self.refused = 0  # demands for what is not listed, or not understood
        self.missed_rounds = 0  # whole intervals left out because a round ended too late

    @property
    def open_topics(self) -> int:
        return len(self._topics)

    @property
    def rounds(self) -> int:
        return self._round

    # -- demand

    def start(self) -> None:
        """Listen for what hubs want."""
        self._reader = self._bus.subscribe(WANT_SUBJECT, self._hear)

    def stop(self) -> None:
        if self._reader is not None:
            self._reader.close()
        for name in list(self._topics):
            self._close(name)

    def notify(self, event: Event) -> None:
        """Pass a notice of the owners of state on to the hubs."""
        message = {"kind": event.kind, "at_ms": event.at_ms, "user_id": event.user_id, "data": event.data}
        self._bus.publish(EVENT_SUBJECT, orjson.dumps(message, default=str, option=orjson.OPT_NON_STR_KEYS))

    def _hear(self, subject: str, payload: bytes) -> None:
        try:
            want = unpack_want(payload)
        except ValueError:
            self.refused += 1
            return
        self._demand.hear(want, self._clock.monotonic())
        if want.op is Op.DROP or want.op is Op.ALL:
            self._close_unwanted()
        if want.op is not Op.DROP:
            for key, head in zip_longest(want.keys, want.heads):
                self._serve(want, key, head)

    def _serve(self, want: Want, key: StreamKey, head: int | None) -> None:
        held = self._topics.get(key.topic)
        rate = held.classes.get(key.hz) if held else None
        if held and rate and key.format in rate.formats:
            if want.op is Op.ASK or self._is_behind(head, rate):
                self._publish_snapshot(held, rate, key.format)
            return
        try:
            held = held or self._open(parse_topic(key.topic))
        except TerminalError as refused:
            self.refused += 1
            structlog.get_logger().warning("topic refused", topic=key.topic[:80], reason=refused.code)
            return
        if rate is None:
            rate = held.classes[key.hz] = RateClass(key.hz, Sequence(self._highest[key.hz] + 1))
            rate.formats.add(key.format)
            self._step(held, rate)
        else:
            rate.formats.add(key.format)
            self._publish_snapshot(held, rate, key.format)

    def _is_behind(self, head: int | None, rate: RateClass) -> bool:
        """Whether a hub lacks what got lost on its way there; of a sequence that goes on, the next step tells it."""
        is_at_rest = self._clock.monotonic() - rate.stepped_s >= REST_S
        return head is not None and head != rate.sequence.seq and is_at_rest

    def _open(self, topic: Topic) -> OpenTopic:
        self._topic_ids += 1
        held = OpenTopic(topic, self._opener.open(topic, self._topic_ids))
        self._topics[topic.name] = held
        return held

    def _close(self, name: str) -> None:
        self._topics.pop(name).source.close()

    def _close_unwanted(self) -> None:
        wanted = self._demand.keys()
        for name, held in list(self._topics.items()):
            for hz, rate in list(held.classes.items()):
                rate.formats = {form for form in rate.formats if StreamKey(name, hz, form) in wanted}
                if not rate.formats:
                    del held.classes[hz]
            if not held.classes:
                self._close(name)

    # -- rounds

    async def run(self) -> None:
        """Publish until cancelled, in slices that leave the loop to others."""
        interval_s = self._settings.interval_s
        due_s = self._clock.monotonic()
        while True:
            began_s = self._clock.monotonic()
            for _ in self.round():
                if self._clock.monotonic() - began_s > SLICE_S:
                    await asyncio.sleep(0)
                    began_s = self._clock.monotonic()
            due_s += interval_s
            wait_s = due_s - self._clock.monotonic()
            if wait_s < -interval_s:
                self.missed_rounds += int(-wait_s / interval_s)
                due_s = self._clock.monotonic()
            await asyncio.sleep(max(0.0, wait_s))

    def round(self) -> Generator[None, None, None]:
        """One round, in steps; topics go out as soon as their rows are made, for a price ages meanwhile.

        Each topic is looked over once a second, in a round of its own, since silence tells something too.
        """
        self._round += 1
        if self._round % TOP_HZ == 0:
            self._demand.forget_silent(self._clock.monotonic())
            self._close_unwanted()
            self._tell_screens()
        self._face.begin()
        self._face.note(self._prices.take_dirty())
        yield from self._desk.follow()
        for together in self._portions():
            yield from self._bring_up(together)
            for held in together:
                self._step_due(held)
                yield

    def _portions(self) -> Iterator[list[OpenTopic]]:
        """The open topics, as many together as have the rows of a few chains: to make rows one by one costs more."""
        together, rows = [], 0
        for held in list(self._topics.values()):
            together.append(held)
            rows += len(held.source.rows)
            if rows >= ROWS_TOGETHER:
                yield together
                together, rows = [], 0
        yield together

    def _bring_up(self, together: list[OpenTopic]) -> Iterator[None]:
        """Make the rows and work out the chains of topics; packets that came since the round began count too."""
        for held in together:
            if self._is_due(held.topic.name, LOOKS_A_SECOND):
                yield from self._look_over(held)
        together = [held for held in together if self._is_open(held)]
        self._face.note(self._prices.take_dirty())
        if together:
            yield from self._face.refresh(np.concatenate([held.source.rows for held in together]))
        yield from self._desk.refresh([chain for held in together for chain in held.source.chains])

    def _look_over(self, held: OpenTopic) -> Iterator[None]:
        yield from self._desk.look_over(list(held.source.chains))
        if self._is_open(held):
            held.source.reload()
            self._face.look_over(held.source.rows)

    def _step_due(self, held: OpenTopic) -> None:
        for rate in list(held.classes.values()) if self._is_open(held) else ():
            if self._is_due(held.topic.name, rate.hz) and self._may_differ(held, rate):
                self._step(held, rate)

    def _is_open(self, held: OpenTopic) -> bool:
        """It may have been closed while another slice ran."""
        return self._topics.get(held.topic.name) is held

    def _is_due(self, name: str, hz: int) -> bool:
        every = TOP_HZ // hz
        return (self._round + zlib.crc32(name.encode())) % every == 0

    def _may_differ(self, held: OpenTopic, rate: RateClass) -> bool:
        has_other_rows = rate.sequence.generation != held.source.labels.generation
        return has_other_rows or held.source.is_touched(rate.seen)

    def _tell_screens(self) -> None:
        shown = [held.topic for name in self._demand.shown() if (held := self._topics.get(name))]
        chains = [self._opener.chain_of(topic) for topic in shown]
        self._screens.touch_shown(chain for chain in chains if chain is not None)
        for topic in shown:
            if topic.kind is Kind.WATCHLIST:
                self._screens.touch_entries(topic.user_id, topic.list_name)

    def _step(self, held: OpenTopic, rate: RateClass) -> None:
        rate.seen = self._face.stamp
        update = rate.sequence.advance(held.source.picture(), self._clock.now_ms())
        if update is None:
            return
        rate.stepped_s = self._clock.monotonic()
        self._highest[rate.hz] = max(self._highest[rate.hz], update.seq)
        for form in rate.formats:
            self._publish(held, rate, form, update)

    def _publish_snapshot(self, held: OpenTopic, rate: RateClass, form: Format) -> None:
        if rate.sequence.generation != held.source.labels.generation:
            self._step(held, rate)  # the rows have become others: the step is a snapshot, for every format
            return
        update = rate.sequence.snapshot(self._clock.now_ms())
        if update is not None:
            self._publish(held, rate, form, update)

    def _publish(self, held: OpenTopic, rate: RateClass, form: Format, update: Update) -> None:
        labels = held.source.labels
        is_packed = form is Format.BINARY and held.topic.has_rows
        body = to_binary(labels, update) if is_packed else to_json(labels, update)
        words = held.dictionary if is_packed and update.is_snapshot else b""
        step = Step(Part.SNAPSHOT if update.is_snapshot else Part.DELTA, update.seq, body, words)
        payload = pack_step(step)
        self.messages += 1
        self.bytes += len(payload)
        self._bus.publish(StreamKey(held.topic.name, rate.hz, form).subject, payload)
