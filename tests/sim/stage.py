"""Puts the whole service, but for threads and HTTP, on virtual time: real owners, the real feed client, the simulated
exchange behind a network in memory."""

from __future__ import annotations

import asyncio
import math
import random
import shutil
import ssl
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from enum import StrEnum
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from app.cli.sim import RegistryDirectory, in_session_of
from app.core.errors import StoreUnavailable
from app.core.ids import Exchange, Segment
from app.core.sessions import Calendar, ExchangeDays, parse_exchange_days
from app.dhan.credentials import Token
from app.dhan.limits import DHAN_LIMITS
from app.market.events import Event, Notify
from app.market.instrument_master.registry import InstrumentRegistry
from app.market.instrument_master.scrip_csv import build_snapshot
from app.market.live_prices import BOARD_SLOTS
from app.market.pool_policy import LineState
from app.market.tiers import DEFAULT_FILE, UniverseInvalid
from app.ports.feed import FeedLimits
from app.ports.store import Changes
from app.runtime.build import Given, Runtime, build
from app.runtime.clock import ShiftedClock
from app.settings import Settings
from app.sim.exchange import ExchangeConfig
from app.sim.faults import TimedFault
from app.sim.loop import SimLoop
from app.sim.master import write_master
from app.sim.prices import MarketShape
from app.sim.server import FeedSocket, ServerConfig, SimulatorServer
from app.storage.memory_store import MemoryStore
from tests.sim.exchange_watch import WatchedExchange
from tests.sim.pace import Pace, Spell
from tests.stream_world import LossyBus
from tests.tiny_market import list_on_bse, write_tiny_master

IST = ZoneInfo("Asia/Kolkata")
DAY = date(2026, 2, 3)  # a Tuesday
EXPIRY_DAY = date(2026, 2, 10)  # NIFTY's
UNIVERSE = """
[[chain]]
symbol = "NIFTY"
nearest = 1
strikes = 11

[[chain]]
symbol = "CRUDEOIL"
nearest = 1
strikes = 11

[drivers]
fo_stocks = true
"""
STOCKS = ("RELIANCE", "TCS", "INFY", "ONGC", "SBIN")
SOON = "24FEB2026"
LOOK_S = 1.0
AUCTION_SINCE = date(2026, 8, 3)
EARLY_AFTER_S = 150.0
HEARD_S = 0.1  # an answer of the exchange has arrived by then
ASKED_S = 0.04  # a handshake has arrived by then, and none of the next life has
OPERATOR_S = 45.0  # how long a person takes to bring a new token


class Hours(StrEnum):
    """When the markets of the run trade."""

    ALWAYS = "always"
    MARKET = "market"  # as on any Tuesday
    AUCTION = "auction"  # as since August 2026: a closing auction, F&O until 15:40
    EARLY = "early"  # NSE closes in the middle of the run
    HOLIDAY = "holiday"  # NSE and BSE are closed


class StoreTrouble(StrEnum):
    AWAY = "away"  # nothing works
    FULL = "full"  # reads do


@dataclass(frozen=True, slots=True)
class World:
    """What is listed, as numbers of strikes where they differ from the tiny master's, None for the generated master;
    the size of the board; the limits of the wire, some of them small enough to be reached; and a later expiry of
    stocks. The generated master goes with the always-on universe of the service itself."""

    name: str
    ladders: Mapping[str, int] | None
    slots: int
    limits: tuple[FeedLimits, ...]
    later: str = "30MAR2026"
    twin: str | None = None  # a symbol that is listed on BSE as well
    has_night: bool = False  # NIFTY's first chain is over at midnight, and the next morning's master is another

    def chains(self) -> list[tuple[str, str]]:
        """Symbol and expiry of what people look at."""
        stocks = [(symbol, expiry) for symbol in STOCKS for expiry in (SOON, self.later)]
        coming = [("NIFTY", "17FEB2026")] if self.has_night else []
        return [*stocks, ("NIFTY", "10FEB2026"), ("NIFTY", SOON), ("CRUDEOIL", "17FEB2026"), *coming]

    def tokens(self) -> list[str]:
        return ["RELIANCE_EQ", f"TCS_{SOON}_FUT", "NIFTY_IDX", f"SBIN_{SOON}_800CE", f"INFY_{self.later}_1500PE"]


WIDE = World("wide", {}, 8_192, (FeedLimits(5, 5_000, 100), FeedLimits(5, 80, 20), FeedLimits(5, 250, 50)))
SMALL = World(
    "small",
    {"RELIANCE": 34, "TCS": 9, "INFY": 9, "ONGC": 7, "SBIN": 12, "NIFTY": 15, "CRUDEOIL": 13},
    1_024,
    (FeedLimits(5, 5_000, 100), FeedLimits(5, 26, 10), FeedLimits(5, 55, 25)),
)
NIGHT = replace(SMALL, name="night", twin="RELIANCE", has_night=True)
FULL = World("full", None, BOARD_SLOTS, (DHAN_LIMITS,), "31MAR2026")


@dataclass(frozen=True, slots=True)
class Shape:
    """What one run is like."""

    seed: int
    epoch_s: float
    limits: FeedLimits
    world: World = WIDE
    users: int = 4
    screens: int = 3
    return_room: int = 500
    return_after_s: float = 60.0
    rate: float = 0.25
    untraded: float = 0.1
    step_s: float = 0.25
    publish_ms: int = 250
    faults: tuple[TimedFault, ...] = ()
    spells: tuple[Spell, ...] = ()  # at full pace; none: all of it
    is_lazy: bool = False  # volatilities every tenth round only
    is_native: bool = False
    gap_s: float = 5.0  # between two acts of a user
    sets_clock: bool = False
    is_refused: bool = False
    is_lossy: bool = False  # the bus is as one between machines
    keeps: bool = False  # lists over the end of day; and people arrange them
    hours: Hours = Hours.ALWAYS


class FlakyStore(MemoryStore):
    """A store that can be away, and that takes its time."""

    def __init__(self, clock: ShiftedClock, rng: random.Random) -> None:
        super().__init__(clock)
        self._rng = rng
        self.trouble_now: StoreTrouble | None = None
        self.slowness_s = 0.02

    async def commit(self, changes: Changes) -> list[int]:
        await asyncio.sleep(self.slowness_s * self._rng.random())
        if self.trouble_now is not None:
            raise StoreUnavailable(f"the database is {self.trouble_now}")
        ids = await super().commit(changes)
        await asyncio.sleep(self.slowness_s * self._rng.random())
        return ids

    @property
    def entry_ids(self) -> set[int]:
        """Of the entries that are committed now."""
        return set(self._entries)

    async def load(self) -> Any:
        self._require()
        return await super().load()

    async def was_done(self, once: str) -> bool:
        self._require()
        return await super().was_done(once)

    def _require(self) -> None:
        if self.trouble_now is StoreTrouble.AWAY:
            raise StoreUnavailable("the database cannot be reached")


@dataclass(slots=True)
class Props:
    """What runs need from the disk, made once: masters, and the universe of the small ones."""

    directory: Path
    tls: ssl.SSLContext = field(init=False)  # trusts nobody: nothing of HTTP is ever sent

    def __post_init__(self) -> None:
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        (self.directory / "universe.toml").write_text(UNIVERSE)

    def snapshot(self, world: World, *, is_renewed: bool = False) -> Path:
        """The world's master, of the day or of the morning after, made on first use; several processes may do so at
        once."""
        found = self.directory / f"{world.name}{'-renewed' if is_renewed else ''}.snapshot"
        if not found.exists():
            with tempfile.TemporaryDirectory(dir=self.directory) as directory:
                source, made = Path(directory) / f"{world.name}.csv", Path(directory) / "snapshot"
                if world.ladders is None:
                    write_master(source, DAY, 1)
                else:
                    write_tiny_master(source, world.ladders, is_renewed=is_renewed)
                    if world.twin is not None:
                        list_on_bse(source, world.twin)
                build_snapshot(source, made)
                made.replace(found)
        return found

    def universe(self, world: World) -> Path:
        return DEFAULT_FILE if world.ladders is None else self.directory / "universe.toml"


def calendar_for(shape: Shape) -> Calendar:
    if shape.hours is Hours.ALWAYS:
        return Calendar([], IST, always_open=True)
    folder = Path(__file__).parents[2] / "app" / "core" / "calendars"
    return Calendar([_days(shape, each) for each in sorted(folder.glob("*.toml"))], IST)


def _days(shape: Shape, file: Path) -> ExchangeDays:
    days = parse_exchange_days(file.read_text("utf-8"))
    if shape.hours is Hours.AUCTION:
        early = DAY - AUCTION_SINCE
        return replace(days, hours=tuple(replace(each, since=each.since + early) for each in days.hours))
    if shape.hours is Hours.HOLIDAY and days.exchange is not Exchange.MCX:
        return replace(days, closed=days.closed | {DAY})
    if shape.hours is Hours.EARLY and days.exchange is Exchange.NSE:
        closes = datetime.fromtimestamp(shape.epoch_s + EARLY_AFTER_S, IST).time()
        return replace(days, special={DAY: (time(9, 15), closes)})
    return days


class Stage:
    """OWNS the exchange, the clock, the store and the service that runs at the time."""

    def __init__(self, shape: Shape, props: Props, loop: SimLoop, complain: Callable[[str], None]) -> None:
        self.shape = shape
        self.loop = loop
        self.rng = random.Random(f"stage {shape.seed}")
        self.clock_step_s = 0.0
        self._was_set = False
        self.clock = ShiftedClock(
            IST, epoch_s=lambda: shape.epoch_s + loop.time() + self.clock_step_s, monotonic_s=loop.time
        )
        self.calendar = calendar_for(shape)
        self.store = FlakyStore(self.clock, self.rng)
        self.pace = Pace(loop, shape.spells)
        self.is_frozen = False
        self.is_up = asyncio.Event()
        self.lives = 0
        self.acts = 0  # of people
        self._props = props
        self._snapshot = props.snapshot(shape.world)
        self._listing = InstrumentRegistry(lambda: self.clock.now().date())  # the exchange's
        self._data_dir = Path(tempfile.mkdtemp(dir=props.directory))  # kept over restarts, fresh for each run
        self._complain = complain
        self._tokens = 0
        self._main: asyncio.Task[None] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._operator: asyncio.Task[None] | None = None
        self.server = self._make_server()
        self.exchange: WatchedExchange = self.server.exchange  # type: ignore[assignment]
        self.runtime = self._build()

    def _make_server(self) -> SimulatorServer:
        shape = self.shape
        self._listing.load(self._snapshot)
        config = ServerConfig(
            "localhost",
            80,
            None,
            ExchangeConfig(
                MarketShape(seed=shape.seed, rate=shape.rate, untraded=shape.untraded),
                connections_max=shape.limits.connections,
                instruments_max=shape.limits.instruments_per_connection,
                plan=shape.faults,
            ),
            step_s=shape.step_s,
        )
        directory, trades = RegistryDirectory(self._listing, shape.seed), in_session_of(self.calendar)

        def in_session(segment: Segment, at_s: float) -> bool:
            at = datetime.fromtimestamp(at_s, IST)
            return trades(segment, at_s) and not self.calendar.is_frozen(segment, at)

        server = SimulatorServer(config, directory, self.loop, in_session)
        server.exchange = WatchedExchange(config.exchange, directory, in_session, time_s=self.loop.time)
        return server

    def _build(self) -> Runtime:
        settings = Settings(
            _env_file=None,
            bt_feed="dhan",
            dhan_client_id="1000000001",
            dhan_access_token=f"token-{self._tokens}",
            dhan_feed_url="ws://localhost:80",
            bt_secret_key="a key for simulations only, not for use",
            bt_data_dir=self._data_dir,
            bt_tier_b=self._props.universe(self.shape.world),
            bt_native="auto" if self.shape.is_native else "0",
            bt_auth="auto",
            bt_linger_s=10.0,
            bt_publish_interval_ms=self.shape.publish_ms,
            bt_http_429_delay_max_s=120.0,
            bt_return_room=self.shape.return_room,
            bt_return_after_s=self.shape.return_after_s,
            bt_eod_keep_watchlists=self.shape.keeps,
        )
        self.bus = LossyBus()
        given = Given(
            self.clock,
            self.calendar,
            self.store,
            self.bus,
            self.rng,
            self.shape.limits,
            self.shape.world.slots,
            is_lazy=self.shape.is_lazy,
            tls=self._props.tls,
        )
        runtime = build(settings, given=given)
        runtime.registry.load(self._snapshot)
        runtime.relay.deliver = self._overhear(runtime.relay.deliver)
        return runtime

    def _overhear(self, deliver: Notify) -> Notify:
        """One notice for each change: of a connection, of a segment's silence, of a session."""
        last: dict[object, object] = {}

        def heard(event: Event) -> None:
            if event.kind in ("feed", "session"):
                subject = (event.kind, event.data.get("ws_id"), event.data.get("segment"))
                state = event.data.get("state", event.data.get("phase"))
                if last.get(subject) == state:
                    self._complain(f"{subject} is told to be {state} twice")
                last[subject] = state
            deliver(event)

        return heard

    # -- the exchange

    async def open(self) -> None:
        await self.store.start()
        await self.server.start()
        self._pump = self.loop.create_task(self._keep_pumping(), name="play pump")
        self._operator = self.loop.create_task(self._mind_tokens(), name="play operator")
        await self.start()

    async def _keep_pumping(self) -> None:
        due, step_s = 0.0, self.shape.step_s
        while True:
            late = math.floor((self.loop.time() - due) / step_s)
            due += step_s * (1 + max(0, late))
            await asyncio.sleep(due - self.loop.time())
            if not self.is_frozen:
                self.server.step()

    async def close(self) -> None:
        await self.stop()
        for task in (self._pump, self._operator):
            assert task is not None
            if task.done():
                self._complain(f"the simulation broke: {task.exception()!r}")
            task.cancel()
            await asyncio.wait([task])
        await self.server.stop()
        await self.store.stop()
        shutil.rmtree(self._data_dir)

    # -- the service

    async def start(self) -> None:
        """As the lifecycle starts it, without files, child processes and scheduler."""
        runtime = self.runtime
        self.lives += 1
        self.is_up.clear()
        await runtime.outbound.bus.start()
        runtime.sessions.look()
        while True:
            try:
                stored = await self.store.load()
                break
            except StoreUnavailable:
                await asyncio.sleep(1.0)
        runtime.control.start(stored, runtime.always_on())
        runtime.outbound.publisher.start()
        runtime.outbound.hub.start()
        self._main = self.loop.create_task(self._run(runtime))
        self.is_up.set()

    async def _run(self, runtime: Runtime) -> None:
        works: list[Coroutine[Any, Any, None]] = [
            runtime.control.run(),
            runtime.outbound.publisher.run(),
            runtime.outbound.hub.run(),
            self._watch_sessions(runtime),
            runtime.ws_manager.run(),
            runtime.upstream.tokens.run(),
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for work in works:
                    group.create_task(work)
        except* Exception as failed:
            self._complain(f"a task of the service failed: {failed.exceptions!r}")

    async def _watch_sessions(self, runtime: Runtime) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            runtime.sessions.look()

    async def stop(self) -> None:
        """Stop the service in order."""
        assert self._main is not None
        self._main.cancel()
        await asyncio.wait([self._main])
        await self.runtime.control.flush()
        await self._clear_away()

    async def _clear_away(self) -> None:
        self.runtime.outbound.hub.stop()
        self.runtime.outbound.publisher.stop()
        await self.runtime.outbound.bus.stop()
        await self.runtime.upstream.http.aclose()

    async def restart(self) -> None:
        """As ``kill -9`` and a start: whatever the service was doing ends where it is."""
        self.is_up.clear()
        if self.loop.time() - self.exchange.limited_at_s < HEARD_S or self._was_set:
            self.exchange.limited_until_s = 0.0  # it cannot have kept what it had not heard, nor with another clock
        self.exchange.unheard_until_s = self.loop.time() + ASKED_S
        for link in list(self.loop.links):
            if not isinstance(link.get_protocol(), FeedSocket):
                link.abort()
        doomed = [task for task in asyncio.all_tasks(self.loop) if not task.get_name().startswith("play ")]
        for task in sorted(doomed, key=_number):
            task.cancel()
        await asyncio.wait(doomed)
        await self._clear_away()
        self.runtime = self._build()
        await self.start()

    async def begin_new_day(self) -> None:
        """The morning's master, for exchange and service: a symbol is gone, contracts have other ids, and an expiry is
        listed under the ids of the one that is over."""
        self._snapshot = self._props.snapshot(self.shape.world, is_renewed=True)
        for registry in (self._listing, self.runtime.registry):
            registry.load(self._snapshot)
        with suppress(UniverseInvalid):  # then that of the day before stays
            await self.runtime.follow_master()

    def set_clock(self, step_s: float) -> None:
        """Somebody sets the machine's clock."""
        self.clock_step_s += step_s
        self._was_set = True

    async def _mind_tokens(self) -> None:
        """The person who brings a new token when the service says that it waits for one."""
        while True:
            await asyncio.sleep(OPERATOR_S)
            states = {line.state for line in self.runtime.ws_manager._pool.lines}
            if states & {LineState.WAITING_FOR_TOKEN, LineState.STOPPED}:
                self._tokens += 1
                self.runtime.upstream.tokens.replace(Token(f"token-{self._tokens}"))


def _number(task: asyncio.Task[Any]) -> int:
    """In order of making: a set of tasks has another order each time."""
    return int(task.get_name().rsplit("-", 1)[1])


def moment(hour: int, minute: int, day: date = DAY) -> float:
    """A time of the simulated day, or of another, as an epoch second."""
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=IST).timestamp()
