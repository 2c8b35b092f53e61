"""The real owners, composed for API tests: generated master, memory store, and a feed that answers in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from app.bus.memory import MemoryBus
from app.core.entitlement import parse_segments
from app.core.errors import StoreUnavailable
from app.core.ids import InstrumentKey, InstrumentKind, Mode
from app.core.packets import DepthLevel, Full, Packet, Quote, ltt_from_utc
from app.core.sessions import Calendar
from app.dhan.codec import encode_packet
from app.dhan.decoder import write_frame
from app.market.always_on import TierB
from app.market.atm_engine import ATMEngine
from app.market.chain_view import ChainView
from app.market.control import Control
from app.market.facts import StateReader
from app.market.fill_gauge import FillGauge
from app.market.instrument_master.registry import InstrumentRegistry
from app.market.journal import Journal
from app.market.legs import LegFinder
from app.market.live_prices import LivePrices
from app.market.subscription_manager import SubscriptionManager
from app.market.tiers import always_on, parse_universe
from app.market.watchlist_manager import Desk, WatchlistManager
from app.market.ws_manager import PoolHooks, PoolPolicy, WebSocketManager
from app.ports.feed import FeedClosed, FeedLimits, TickBuffers
from app.ports.store import Role, StoredState
from app.rest.audience import Audience, Shown
from app.rest.auth import Authenticator, AuthMode
from app.rest.chain_quotes import DeskQuotes
from app.rest.market_api_v2 import create_api
from app.rest.services import LoadLimits, Readiness, Services
from app.rest.status import StatusTeller
from app.rest.stream_ws import StreamEndpoint
from app.runtime.build import watchlist_rows
from app.storage.memory_store import MemoryStore
from app.stream.desk import Desk as ChainDesk
from app.stream.face import Face
from app.stream.hub import Hub
from app.stream.minute_bars import BarBook
from app.stream.opener import Opener
from tests.api.support import IST, HandClock, cheap_passwords, client_of

FULL_LIMITS = FeedLimits(5, 5000, 100)
SMALL_UNIVERSE = """
[[chain]]
symbol = "BANKNIFTY"
monthly = 1
strikes = 101

[[future]]
symbol = "GOLD"
expiries = 1

[drivers]
fo_stocks = true
"""
EMPTY_UNIVERSE = "[drivers]\nfo_stocks = false\n"
SPOT_PRICES = {"RELIANCE": 2641.5, "NIFTY": 25_012.3, "BANKNIFTY": 55_420.0}
PASSWORD = "a long password"


class StoreWithSwitch(MemoryStore):
    """A memory store that can be cut off, as a database can."""

    is_down = False

    def _require_started(self) -> None:
        if self.is_down:
            raise StoreUnavailable("the database cannot be reached")
        super()._require_started()


@dataclass(repr=False)
class AnsweringFeed:
    """Every subscribe is answered by one packet per key, at once; a symbol without a price stays silent."""

    buffers: TickBuffers
    registry: InstrumentRegistry
    clock: HandClock
    prices: dict[str, float]
    is_up: bool = True
    open: list[AnsweringConnection] = field(default_factory=list)

    async def connect(self, index: int) -> AnsweringConnection:
        if not self.is_up:
            raise FeedClosed("refused")
        connection = AnsweringConnection(self, index)
        self.open.append(connection)
        return connection

    def packet(self, key: InstrumentKey) -> Packet | None:
        instrument = self.registry.get(key)
        spot = self.prices.get(instrument.symbol) if instrument else None
        if instrument is None or spot is None:
            return None
        price = spot if instrument.strike is None else max(0.05, round((spot - instrument.strike) / 10) + 100.0)
        ltt = ltt_from_utc(self.clock.now_ms() / 1000 - 1)
        day = (price, 25, ltt, price, 1000, 500, 600)
        if instrument.kind is InstrumentKind.INDEX:
            return Quote(key, *day, price, price, price, price)
        level = DepthLevel(50, 75, 2, 3, price - 0.05, price + 0.05)
        return Full(key, *day, 4000, 5000, 3000, price, price, price, price, (level,) * 5)


class AnsweringConnection:
    def __init__(self, feed: AnsweringFeed, index: int) -> None:
        self._feed = feed
        self._index = index
        self._closed: asyncio.Future[FeedClosed] = asyncio.get_running_loop().create_future()

    async def subscribe(self, keys: Sequence[InstrumentKey], mode: Mode) -> None:
        packets = [packet for key in keys if (packet := self._feed.packet(key)) is not None]
        frame = b"".join(encode_packet(packet) for packet in packets)
        if frame:
            write_frame(self._feed.buffers, self._index, frame, self._feed.clock.now_ms())

    async def unsubscribe(self, keys: Sequence[InstrumentKey], mode: Mode) -> None:
        """Heard."""

    async def wait_closed(self) -> FeedClosed:
        return await asyncio.shield(self._closed)

    async def close(self) -> None:
        if not self._closed.done():
            self._closed.set_result(FeedClosed("closed"))


@dataclass(repr=False)
class World:
    """One running service without sockets."""

    clock: HandClock
    store: StoreWithSwitch
    feed: AnsweringFeed
    services: Services
    app: FastAPI
    stream: StreamEndpoint
    hub: Hub

    def client(self, **options: Any) -> httpx.AsyncClient:
        return client_of(self.app, **options)

    async def settle(self) -> None:
        """Let the control loop and the connections do all that is due."""
        for _ in range(400):
            await self.services.control.step()
            self.services.board.take_dirty()
            await asyncio.sleep(0.001)
            if self.services.pool.is_settled and self.services.pool.connected == 5:
                break
        else:
            raise AssertionError("the wire did not settle")
        self.services.board.take_dirty()

    def bring_price(self, symbol: str, price: float) -> None:
        """The first packet of the cash line, which is on the wire and has been silent so far."""
        key = self.services.registry.spot_of(symbol, None).key
        ws_id = self.services.pool.ws_id(key)
        assert ws_id is not None
        self.feed.prices[symbol] = price
        packet = self.feed.packet(key)
        assert packet is not None
        write_frame(self.feed.buffers, ws_id - 1, encode_packet(packet), self.clock.now_ms())

    async def user(self, name: str, role: Role = Role.USER) -> tuple[int, dict[str, str]]:
        """An account that can sign in: its id, and the header of a token."""
        hashed = await cheap_passwords().hash(PASSWORD)
        made = await self.store.add_user(name, role, hashed)
        token = (await self.services.authenticator.sessions.open(made, "test")).access_token
        return made.id, {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def running_world(
    snapshot: Path,
    *,
    limits: FeedLimits = FULL_LIMITS,
    universe: str = SMALL_UNIVERSE,
    auth: AuthMode = "auto",
    web_dir: Path | None = None,
    load: LoadLimits | None = None,
    segments: str = "",
    first_prices_due: Callable[[], bool] = lambda: False,
) -> AsyncIterator[World]:
    """The owners, connected and settled; stopped at the end."""
    clock = HandClock()
    registry = InstrumentRegistry(lambda: clock.now().date())
    registry.load(snapshot)
    calendar = Calendar([], IST, always_open=True)
    board = LivePrices(connections=limits.connections)
    store = StoreWithSwitch(clock)
    await store.start()
    feed = AnsweringFeed(board.buffers, registry, clock, dict(SPOT_PRICES))
    pool = WebSocketManager(
        board, feed, limits, calendar, clock, random.Random(1), policy=PoolPolicy(open_gap_s=0.0), hooks=PoolHooks()
    )
    subscriptions = SubscriptionManager(registry, pool, limits, clock)
    pool.bind(subscriptions)
    atm = ATMEngine(registry, clock)
    finder = LegFinder(registry, atm, board)
    journal = Journal(subscriptions, clock, pool.ws_id)
    watchlists = WatchlistManager(Desk(subscriptions, atm, finder, journal, store, calendar, clock, lambda event: None))
    tier_b = TierB(registry, atm, finder, board, subscriptions, journal, clock, lambda event: None)
    control = Control(tier_b, watchlists, subscriptions, pool, journal, clock)
    states = StateReader(board, pool, subscriptions, calendar, clock)
    face = Face(board, states, clock)
    desk = ChainDesk(ChainView(registry, atm, board, calendar), face, clock, calendar)
    looks_face = Face(board, states, clock)
    looks = ChainDesk(ChainView(registry, atm, board, calendar), looks_face, clock, calendar)
    status = StatusTeller(subscriptions, pool, states, board, clock, FillGauge(subscriptions, clock))
    rows = partial(watchlist_rows, registry, watchlists)
    opener = Opener(registry, atm, board, face, desk, watchlist=rows, status=status.status)
    shown = Shown(registry, atm, rows)
    audience = Audience(parse_segments(segments), shown, store, lambda: clock.now().date())
    hub = Hub(MemoryBus(), clock, opener.check, audience=audience)
    services = Services(
        clock=clock,
        calendar=calendar,
        registry=registry,
        board=board,
        atm=atm,
        subscriptions=subscriptions,
        watchlists=watchlists,
        pool=pool,
        control=control,
        states=states,
        status=status,
        store=store,
        authenticator=Authenticator(store, clock, "a secret", auth, passwords=cheap_passwords()),
        chain_quotes=DeskQuotes(looks, looks_face, registry),
        bars=BarBook(),
        admit_topic=hub.admit,
        audience=audience,
        registry_admin=lambda: {**(registry.report.as_dict() if registry.report else {}), "last_refused": None},
        readiness=lambda: Readiness(True),
        first_prices_due=first_prices_due,
        load=load or LoadLimits(),
        versions={"service": "2.0.0"},
    )
    if web_dir is not None:
        services = replace(services, web_dir=web_dir)
    control.start(StoredState(), always_on(parse_universe(universe), registry, clock.now().date()))
    stream = StreamEndpoint(hub, services.authenticator, clock)
    world = World(clock, store, feed, services, create_api(services), stream, hub)
    running = asyncio.ensure_future(pool.run())
    try:
        await world.settle()
        yield world
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await store.stop()
