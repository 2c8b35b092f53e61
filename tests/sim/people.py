"""Who uses the simulated service: users who change their minds, and screens that read, stall, go and come back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import orjson

from app.core.errors import ExpiryUnknown, InstrumentUnknown, TerminalError
from app.ports.store import DEFAULT_LIST, InstrumentType
from tests.sim.stage import Stage
from tests.stream_world import Mirror

Note = Callable[..., None]
GONE = (InstrumentUnknown.code, ExpiryUnknown.code)
LIST_NAMES = ("swing", "income", "hedges")
KILLED = "the service was killed"  # so nobody was answered; nor was who had gone away in that instant

STRANGER_GAP_S, STRANGER_PATIENCE_S = 45.0, 8.0
FOREIGN = (  # host, address, origin
    (b"terminal.example", "203.0.113.9", b""),
    (b"127.0.0.1:8000", "127.0.0.1", b"https://elsewhere.example"),
    (b"rebound.example", "127.0.0.1", b"https://rebound.example"),
)


class User:
    """Adds, removes and tries everything else that the API offers, at random moments."""

    def __init__(
        self,
        number: int,
        stage: Stage,
        note: Note,
        complain: Callable[[str], None],
        judge: Callable[[Stage], Iterator[str]] = lambda stage: iter(()),
    ) -> None:
        self._number = number
        self._stage = stage
        self._judge = partial(judge, stage)
        self._rng = random.Random(f"user {number} of {stage.shape.seed}")
        self._chains, self._tokens = stage.shape.world.chains(), stage.shape.world.tokens()
        self._note = note
        self._complain = complain

    async def run(self, mean_gap_s: float) -> None:
        """Until cancelled; one whose caller goes away in the middle of a request is cancelled too."""
        acts: list[tuple[int, Callable[[], Awaitable[object]]]] = [
            (30, self._add),
            (18, self._remove),
            (8, self._subscribe_chain),
            (6, self._release_chain),
            (4, self._take_token),
            (4, self._drop_token),
            (2, self._clear),
            (1, self.leave_for_good),
            (3, self._rebalance),
            (1, self._unsubscribe_all),
            (1, self._end_of_day),
        ]
        if self._stage.shape.keeps:
            acts.append((20, self._arrange))
        while True:
            await self._stage.pace.sleep(self._rng.expovariate(1.0 / mean_gap_s))
            await self._stage.is_up.wait()
            act = self._rng.choices([act for _, act in acts], [weight for weight, _ in acts])[0]
            patience_s = self._rng.choice((0.005, 0.02, 60.0, 60.0, 60.0))
            try:
                async with asyncio.timeout(patience_s):
                    told = await act()
            except TimeoutError:
                told = "went away"
            except asyncio.CancelledError:
                if _is_leaving():
                    raise
                told = KILLED
            except TerminalError as refused:
                told = refused.code
            except Exception as error:
                self._complain(f"{act.__name__} of user {self._number} failed: {error!r}")
                continue
            self._stage.acts += 1
            if told != KILLED and self._stage.is_up.is_set():
                for wrong in self._judge():
                    self._complain(f"{act.__name__} of user {self._number} was {wrong}")
            self._note("act", self._number, act.__name__, told)
            if act == self.leave_for_good:
                await asyncio.sleep(self._rng.uniform(20.0, 90.0))

    async def _add(self) -> object:
        lists, rng = self._stage.runtime.watchlists, self._rng
        symbol, expiry = rng.choice(self._chains)
        if symbol == "NIFTY":
            kind = InstrumentType.INDEX_OPTION
        elif symbol == "CRUDEOIL":
            kind = InstrumentType.COMMODITY_OPTION
        else:
            kind = rng.choice((InstrumentType.STOCK_OPTION,) * 4 + (InstrumentType.FUTURE, InstrumentType.EQUITY))
        day = None if kind is InstrumentType.EQUITY else expiry
        result = await lists.add(self._number, symbol, day, kind, exchange=self._exchange(symbol))
        return len(result.legs), len(result.evicted)

    async def _remove(self) -> object:
        entries = self._stage.runtime.watchlists.entries(self._number)
        if not entries:
            return "nothing"
        chosen = self._rng.choice(entries)
        return (await self._stage.runtime.watchlists.remove(self._number, chosen.symbol, chosen.expiry)).unsubscribed

    async def _subscribe_chain(self) -> object:
        symbol, expiry = self._rng.choice(self._chains)
        lists, exchange = self._stage.runtime.watchlists, self._exchange(symbol)
        return len((await lists.subscribe_chain(self._number, symbol, expiry, exchange=exchange)).subscribed)

    def _exchange(self, symbol: str) -> str | None:
        """Where it is wanted, if it is listed twice."""
        return self._rng.choice((None, "BSE")) if symbol == self._stage.shape.world.twin else None

    async def _release_chain(self) -> object:
        entries = self._stage.runtime.watchlists.explicit_entries(self._number)
        if not entries:
            return "nothing"
        chosen = self._rng.choice(entries)
        assert chosen.expiry is not None
        return (await self._stage.runtime.watchlists.release_chain(self._number, chosen.symbol, chosen.expiry)).released

    async def _take_token(self) -> object:
        return self._stage.runtime.subscriptions.subscribe(self._rng.choice(self._tokens))[2]

    async def _drop_token(self) -> object:
        return self._stage.runtime.subscriptions.unsubscribe(self._rng.choice(self._tokens))[0]

    async def _clear(self) -> object:
        return await self._stage.runtime.watchlists.clear(self._number)

    async def leave_for_good(self) -> int:
        """Give back everything; returns how many entries of lists that were."""
        lists = self._stage.runtime.watchlists
        for each in lists.explicit_entries(self._number):
            assert each.expiry is not None
            await lists.release_chain(self._number, each.symbol, each.expiry)
        return await lists.clear(self._number)

    async def _rebalance(self) -> object:
        return len(self._stage.runtime.ws_manager.rebalance())

    async def _unsubscribe_all(self) -> object:
        return await self._stage.runtime.watchlists.unsubscribe_all_tier_a()

    async def _end_of_day(self) -> object:
        now = self._stage.clock.now()
        mark = f"EOD:sim:{now.isoformat()}"
        return await self._stage.runtime.watchlists.end_of_day(mark, now, ("NSE",))

    async def _arrange(self) -> object:
        """Something with the user's lists: made, named, put in order, emptied, filled from one another."""
        lists, rng, user = self._stage.runtime.watchlists, self._rng, self._number
        entries, names = lists.entries(user), [each.name for each in lists.lists(user)]
        act, name, other = rng.randrange(7), rng.choice(names), rng.choice(LIST_NAMES)
        if act == 0:
            return await lists.create_list(user, other)
        if act == 1:
            return await lists.rename_list(user, name, other)
        if act == 2:
            return (await lists.delete_list(user, name)).unsubscribed
        if act == 3:
            own = [each for each in names if each != DEFAULT_LIST]
            await lists.order_lists(user, rng.sample(own, len(own)))
            return own
        if act == 4:
            ids = [each.id for each in lists.entries(user, name)]
            await lists.order_entries(user, name, rng.sample(ids, len(ids)))
            return ids
        if not entries:
            return "nothing"
        place = lists.move_entry if act == 5 else lists.copy_entry
        return (await place(user, rng.choice(entries).id, name, rng.choice((None, 1)))).entry.position


def _is_leaving() -> bool:
    """Whether the user is cancelled, rather than the service's work for them."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Screen:
    """A client of the stream, through the real endpoint; what it believes is built from the messages alone."""

    def __init__(self, number: int, stage: Stage, note: Note, complain: Callable[[str], None]) -> None:
        self._number = number
        self._stage = stage
        self._rng = random.Random(f"screen {number} of {stage.shape.seed}")
        self._chains = stage.shape.world.chains()
        self._note = note
        self._complain = complain
        self._flow = asyncio.Event()
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._serving: asyncio.Task[None] | None = None
        self._life = 0
        self.hz = self._rng.choice((10, 5, 1))
        self._calm = asyncio.Event()  # reads on, changes nothing
        self.topics: dict[str, Mirror] = {}

    @property
    def is_connected(self) -> bool:
        return self._serving is not None and not self._serving.done()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._stage.is_up.wait()
                if not self.is_connected:
                    self._connect()
                if self._calm.is_set():
                    await asyncio.sleep(1.0)
                else:
                    wait_s = self._rng.expovariate(1.0 / 8.0)
                    await self._pause(self._stage.pace.after(wait_s) - self._stage.loop.time())
                    await self._do_something()
        finally:
            await self.leave()

    def calm(self) -> None:
        self._calm.set()
        self._flow.set()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._calm.wait()

    async def leave(self) -> None:
        if self._serving is not None:
            self._inbox.put_nowait({"type": "websocket.disconnect"})
            self._flow.set()
            await asyncio.wait([self._serving], timeout=5.0)
            if not self._serving.done():
                self._complain("a stream client that left is still served")
            self._serving = None

    def cut(self) -> None:
        """The service under it has gone."""
        if self._serving is not None:
            self._serving.cancel()

    def _connect(self) -> None:
        self._inbox = asyncio.Queue()
        self._inbox.put_nowait({"type": "websocket.connect"})
        self._flow.set()
        self._life = self._stage.lives
        if not self.topics:
            self._watch(self._some_topics())
        else:
            for topic, mirror in self.topics.items():
                self._say(op="resume", topic=topic, seq=mirror.seq, max_rate_hz=self.hz)
        self._serving = asyncio.ensure_future(self._serve())

    async def _serve(self) -> None:
        here = {"type": "websocket", "path": "/api/v2/stream", "headers": [(b"host", b"127.0.0.1:8000")],
                "client": ("127.0.0.1", 50_000), "server": ("127.0.0.1", 8000)}  # fmt: skip
        inbox = self._inbox
        with suppress(asyncio.CancelledError):
            await self._stage.runtime.outbound.stream(here, inbox.get, self._take)

    async def _take(self, message: dict[str, Any]) -> None:
        await self._flow.wait()
        if "text" not in message:
            return
        words = orjson.loads(message["text"])
        self._note("told", self._number, message["text"])
        if self._stage.shape.world.has_night and words.get("code") in GONE:
            self.topics.pop(words["topic"], None)
        if words["type"] not in ("snapshot", "delta") or words["topic"] not in self.topics:
            return
        mirror = self.topics[words["topic"]]
        if words["type"] == "snapshot" and words["seq"] < mirror.seq and self._life == self._stage.lives:
            self._complain(f"{words['topic']}: snapshot {words['seq']} after {mirror.seq}")
        try:
            mirror.take(words)
        except (AssertionError, KeyError) as error:
            self._complain(f"{words['topic']}: {words['type']} {words['seq']} after {mirror.seq}: {error!r}")

    async def _do_something(self) -> None:
        match self._rng.choices(("read", "stall", "leave", "watch", "unwatch"), (40, 12, 8, 10, 6))[0]:
            case "stall":
                self._flow.clear()
                await self._pause(self._rng.choice((1.0, 5.0, 12.0, 50.0)))
                self._flow.set()
            case "leave":
                await self.leave()
                await self._pause(self._rng.choice((0.5, 5.0, 45.0)))
            case "watch":
                self._watch(self._some_topics())
            case "unwatch" if len(self.topics) > 1:
                topic = self._rng.choice(sorted(self.topics))
                del self.topics[topic]
                self._say(op="unsubscribe", topics=[topic])
            case _:
                pass

    def _some_topics(self) -> list[str]:
        symbol, expiry = self._rng.choice(self._chains)
        return [f"chain:{symbol}:{expiry}", f"watchlist:{self._rng.randint(1, self._stage.shape.users)}",
                "quotes:NIFTY_IDX,RELIANCE_EQ,SBIN_EQ", "status"][self._rng.randrange(2) :]  # fmt: skip

    def _watch(self, topics: list[str]) -> None:
        fresh = [topic for topic in topics if topic not in self.topics]
        self.topics.update((topic, Mirror()) for topic in fresh)
        if fresh:
            self._say(op="subscribe", topics=fresh, max_rate_hz=self.hz)

    def _say(self, **words: object) -> None:
        self._inbox.put_nowait({"type": "websocket.receive", "text": orjson.dumps(words).decode()})


class Stranger:
    """Calls the stream from elsewhere, or from a page of another site, and has no token: nothing may be told."""

    def __init__(self, stage: Stage, note: Note, complain: Callable[[str], None]) -> None:
        self._stage = stage
        self._rng = random.Random(f"stranger {stage.shape.seed}")
        self._note = note
        self._complain = complain

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._stage.pace.sleep(self._rng.expovariate(1.0 / STRANGER_GAP_S))
            await self._stage.is_up.wait()
            serving = asyncio.ensure_future(self._try())
            await asyncio.wait([serving])

    async def _try(self) -> None:
        host, client, origin = self._rng.choice(FOREIGN)
        headers = [(b"host", host), *([(b"origin", origin)] if origin else [])]
        here = {"type": "websocket", "path": "/api/v2/stream", "headers": headers,
                "client": (client, 50_000), "server": ("127.0.0.1", 8000)}  # fmt: skip
        inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        inbox.put_nowait({"type": "websocket.connect"})
        wanted = {"op": "subscribe", "topics": ["status", "events"]}
        words = self._rng.choice((wanted, {"op": "auth", "token": "guess"}))
        inbox.put_nowait({"type": "websocket.receive", "text": orjson.dumps(words).decode()})
        with suppress(TimeoutError):
            async with asyncio.timeout(STRANGER_PATIENCE_S):
                await self._stage.runtime.outbound.stream(here, inbox.get, self._take)

    async def _take(self, message: dict[str, Any]) -> None:
        told = orjson.loads(message["text"])["type"] if "text" in message else message["type"]
        self._note("stranger", told)
        if told not in ("websocket.accept", "websocket.close", "error"):
            self._complain(f"a stranger was told a {told}")
