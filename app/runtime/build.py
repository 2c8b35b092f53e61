"""Builds every owner and adapter from settings. Opens nothing: starting is the lifecycle's work."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

from app.bus.memory import MemoryBus
from app.core.entitlement import parse_segments
from app.core.eod import MAIN_SEGMENT
from app.core.errors import TerminalError
from app.core.instruments import Instrument
from app.core.sessions import Calendar
from app.dhan.limits import DHAN_LIMITS
from app.dhan.option_chain import PACE_S, ChainRefused
from app.market.always_on import TierB
from app.market.atm_engine import ATMEngine
from app.market.chain_view import ChainView
from app.market.control import Control, ReturnPolicy
from app.market.events import Event, Notify
from app.market.facts import StateReader
from app.market.fill_gauge import FillGauge
from app.market.instrument_master.registry import InstrumentRegistry
from app.market.journal import Journal
from app.market.legs import LegFinder
from app.market.live_prices import BOARD_SLOTS, LivePrices
from app.market.oi_baselines import OiBaselines
from app.market.session_watch import SessionWatch
from app.market.silence_watch import SilenceWatch
from app.market.subscription_manager import SubscriptionManager
from app.market.tiers import AlwaysOn, Universe, UniverseInvalid, always_on, parse_universe
from app.market.watchlist_manager import Desk as ListDesk
from app.market.watchlist_manager import ListLimits, WatchlistManager
from app.market.ws_manager import WebSocketManager
from app.ports.bus import Bus
from app.ports.feed import FeedClosed, FeedLimits
from app.ports.store import Store
from app.rest.audience import Audience, Shown
from app.rest.auth import Authenticator
from app.rest.chain_quotes import DeskQuotes
from app.rest.services import Gauges, LoadLimits, Readiness, Services
from app.rest.status import StatusTeller
from app.rest.stream_ws import StreamEndpoint, StreamSettings
from app.runtime.bar_file import BarFile
from app.runtime.clock import ShiftedClock
from app.runtime.open_interest import OpenInterestBook
from app.runtime.places import calendar_of, clock_of, next_life, secret_key_of
from app.runtime.upstream import Upstream, build_hooks, build_policy, build_upstream
from app.settings import Settings
from app.storage.memory_store import MemoryStore
from app.storage.sql_store import SqlStore
from app.stream.bar_recorder import BarRecorder
from app.stream.desk import Desk as ChainDesk
from app.stream.face import Face
from app.stream.hub import Hub
from app.stream.minute_bars import BarBook
from app.stream.opener import Opener
from app.stream.publisher import Publisher, PublisherSettings

LOOKED_AT_ROWS = 512  # at first: two wide chains
FIRST_PRICES_S = 3.0  # after the start: the exchange answers each subscribe with what it has
SEGMENT_WATCHDOGS = 2.0  # a segment is judged later than a connection, whose replacement may be all that is needed


@dataclass(frozen=True, slots=True)
class Given:
    """What a simulation puts in the place of the machine's own; None leaves a part as the settings have it.

    ``is_lazy`` works out volatilities in every tenth round only. ``tls`` saves loading the authorities for each of many
    lives.
    """

    clock: ShiftedClock | None = None
    calendar: Calendar | None = None
    store: Store | None = None
    bus: Bus | None = None
    rng: random.Random | None = None
    limits: FeedLimits = DHAN_LIMITS
    slots: int = BOARD_SLOTS
    is_lazy: bool = False
    tls: ssl.SSLContext | None = None


@dataclass(slots=True)
class Status:
    """What the lifecycle tells the edges: set at start and stop, read by health and metrics."""

    waiting_for: list[str] = field(default_factory=lambda: ["start"])
    ready_s: float | None = None  # by the monotonic clock
    concerns: dict[str, str] = field(default_factory=dict)
    master_refused: str | None = None
    next_eod: Mapping[str, object] | None = None
    scheduler: object | None = None
    loop_lag_ms: float = 0.0
    loop_lag_max_ms: float = 0.0
    loop_lag_max_waited_ms: float = 0.0
    loop_lag_own_max_ms: float = 0.0
    gc_pause_max_ms: float = 0.0


class Relay:
    """Carries news from parts that are built first to those that are built after them."""

    def __init__(self) -> None:
        self.deliver: Notify = _nobody
        self.renewed: Callable[[], None] = lambda: None

    def token_is_new(self) -> None:
        self.renewed()

    def __call__(self, event: Event) -> None:
        self.deliver(event)


def _nobody(event: Event) -> None:
    """Nobody listens yet."""


@dataclass(frozen=True, slots=True, repr=False)
class Market:
    """The owners of state."""

    board: LivePrices
    registry: InstrumentRegistry
    engine: ATMEngine
    subscriptions: SubscriptionManager
    ws_manager: WebSocketManager
    journal: Journal
    watchlists: WatchlistManager
    control: Control
    states: StateReader
    silences: SilenceWatch
    fill: FillGauge


@dataclass(frozen=True, slots=True, repr=False)
class Outbound:
    """From the board to the browsers."""

    bus: Bus
    publisher: Publisher
    hub: Hub
    stream: StreamEndpoint
    teller: StatusTeller
    quotes: DeskQuotes
    audience: Audience
    bars: BarBook
    recorder: BarRecorder


@dataclass(frozen=True, slots=True, repr=False)
class Runtime:
    """Everything one service consists of."""

    settings: Settings
    clock: ShiftedClock
    calendar: Calendar
    store: Store
    upstream: Upstream
    market: Market
    outbound: Outbound
    sessions: SessionWatch
    open_interest: OpenInterestBook
    oi_baselines: OiBaselines
    bar_file: BarFile
    services: Services
    universe: Universe
    status: Status
    relay: Relay

    @property
    def registry(self) -> InstrumentRegistry:
        return self.market.registry

    @property
    def ws_manager(self) -> WebSocketManager:
        return self.market.ws_manager

    @property
    def board(self) -> LivePrices:
        return self.market.board

    @property
    def subscriptions(self) -> SubscriptionManager:
        return self.market.subscriptions

    @property
    def watchlists(self) -> WatchlistManager:
        return self.market.watchlists

    @property
    def engine(self) -> ATMEngine:
        return self.market.engine

    @property
    def control(self) -> Control:
        return self.market.control

    def always_on(self) -> AlwaysOn:
        """Today's always-on universe by the master in use; ``UniverseInvalid`` if the connections cannot carry it."""
        found, capacity = always_on(self.universe, self.registry, self.clock.now().date()), self.subscriptions.capacity
        if found.total > capacity:
            raise UniverseInvalid(f"BT_TIER_B asks for {found.total:,} instruments, and {capacity:,} fit")
        return found

    async def follow_master(self) -> None:
        """Bring all in line with the master just read, or with a new day by the old one.

        Raises:
            UniverseInvalid: the always-on universe of the day before stays; all else is done.
        """
        self.control.relist()
        try:
            self.control.use_universe(self.always_on())
        finally:
            await self.watchlists.relist()


def build(settings: Settings, *, in_memory: bool = False, given: Given | None = None) -> Runtime:
    """Call every constructor; ``in_memory`` stores in memory and never opens a socket."""
    given = given or Given()
    clock, calendar = given.clock or clock_of(settings), given.calendar or calendar_of(settings)
    key = "in memory" if in_memory else secret_key_of(settings)
    store = given.store or (MemoryStore(clock) if in_memory else SqlStore(settings.bt_database_url, clock))
    board = LivePrices(given.slots, given.limits.connections)
    relay = Relay()
    upstream = build_upstream(settings, board.buffers, clock, key, relay.token_is_new, tls=given.tls)
    market = _build_market(settings, clock, calendar, store, board, upstream, relay, given)
    authenticator = Authenticator(store, clock, key, settings.bt_auth)
    began_s = clock.machine_ms() // 1000
    life_s = began_s if in_memory else next_life(settings, began_s)
    bus = given.bus or _build_bus(settings)
    outbound = _build_outbound(
        settings, clock, calendar, market, authenticator, store, bus, life_s, is_lazy=given.is_lazy
    )
    relay.renewed = market.ws_manager.credentials_renewed
    relay.deliver = outbound.publisher.notify
    status = Status()
    open_interest = OpenInterestBook(settings.bt_data_dir, board, calendar, clock.now)
    return Runtime(
        settings=settings,
        clock=clock,
        calendar=calendar,
        store=store,
        upstream=upstream,
        market=market,
        outbound=outbound,
        sessions=SessionWatch(board, market.ws_manager, calendar, clock, relay, open_interest.keep, market.silences),
        open_interest=open_interest,
        bar_file=BarFile(settings.bt_data_dir, outbound.bars),
        oi_baselines=OiBaselines(
            board,
            market.registry,
            market.subscriptions.wishes,
            calendar,
            clock,
            upstream.chains.previous_oi,
            (ChainRefused, FeedClosed),
            PACE_S,
        ),
        services=_build_services(settings, clock, calendar, store, market, outbound, authenticator, status),
        universe=parse_universe(_universe_text(settings)),
        status=status,
        relay=relay,
    )


def _build_outbound(
    settings: Settings,
    clock: ShiftedClock,
    calendar: Calendar,
    market: Market,
    authenticator: Authenticator,
    store: Store,
    bus: Bus,
    life_s: int,
    *,
    is_lazy: bool,
) -> Outbound:
    board = market.board
    face = Face(board, market.states, clock)
    chains = ChainView(market.registry, market.engine, board, calendar)
    desk = ChainDesk(chains, face, clock, calendar, is_lazy=is_lazy)
    teller = StatusTeller(market.subscriptions, market.ws_manager, market.states, board, clock, market.fill)
    list_rows = partial(watchlist_rows, market.registry, market.watchlists)
    opener = Opener(
        market.registry,
        market.engine,
        board,
        face,
        desk,
        watchlist=list_rows,
        status=teller.status,
    )
    cadence = PublisherSettings(life_s, settings.bt_publish_interval_ms / 1000)
    shown = Shown(market.registry, market.engine, list_rows)
    audience = Audience(parse_segments(settings.bt_segments), shown, store, lambda: clock.now().date())
    hub = Hub(bus, clock, opener.check, wide=settings.bt_nats_url is None, audience=audience)
    bars = BarBook()
    return Outbound(
        bus=bus,
        publisher=Publisher(board, face, desk, opener, bus, clock, cadence, screens=market.watchlists),
        hub=hub,
        stream=StreamEndpoint(hub, authenticator, clock, StreamSettings(stalled_s=settings.bt_stalled_client_s)),
        teller=teller,
        quotes=_build_quotes(market, calendar, clock),
        audience=audience,
        bars=bars,
        recorder=BarRecorder(bars, board, desk, market.subscriptions.owned, calendar, clock),
    )


def _build_quotes(market: Market, calendar: Calendar, clock: ShiftedClock) -> DeskQuotes:
    """What is looked at over HTTP, on a desk beside the stream's: the publisher keeps only that one up to date."""
    face = Face(market.board, market.states, clock, LOOKED_AT_ROWS)
    view = ChainView(market.registry, market.engine, market.board, calendar)
    return DeskQuotes(ChainDesk(view, face, clock, calendar), face, market.registry)


def _first_prices_due(status: Status, market: Market, clock: ShiftedClock) -> bool:
    """Whether the service was ready a moment ago, and its feed may bring what nobody has seen yet."""
    is_young = status.ready_s is not None and clock.monotonic() - status.ready_s < FIRST_PRICES_S
    return is_young and not market.ws_manager.is_away


def _build_services(
    settings: Settings,
    clock: ShiftedClock,
    calendar: Calendar,
    store: Store,
    market: Market,
    outbound: Outbound,
    authenticator: Authenticator,
    status: Status,
) -> Services:
    return Services(
        clock=clock,
        calendar=calendar,
        registry=market.registry,
        board=market.board,
        atm=market.engine,
        subscriptions=market.subscriptions,
        watchlists=market.watchlists,
        pool=market.ws_manager,
        control=market.control,
        states=market.states,
        status=outbound.teller,
        store=store,
        authenticator=authenticator,
        chain_quotes=outbound.quotes,
        admit_topic=outbound.hub.admit,
        audience=outbound.audience,
        bars=outbound.bars,
        registry_admin=lambda: _registry_admin(market.registry, status),
        readiness=lambda: Readiness(not status.waiting_for, tuple(status.waiting_for)),
        first_prices_due=lambda: _first_prices_due(status, market, clock),
        load=LoadLimits(settings.bt_requests_at_once, settings.bt_requests_a_second),
        connections=0 if settings.feed_source == "off" else DHAN_LIMITS.connections,
        gauges=lambda: _gauges(status, outbound),
        concerns=lambda: (*status.concerns.values(), *market.silences.concerns()),
        silent_segments=lambda: [segment.name for segment in market.silences.silent],
        badges=lambda: _badges(settings, calendar, clock, status),
        versions=_versions(),
    )


def _build_market(
    settings: Settings,
    clock: ShiftedClock,
    calendar: Calendar,
    store: Store,
    board: LivePrices,
    upstream: Upstream,
    notify: Notify,
    given: Given,
) -> Market:
    registry = InstrumentRegistry(lambda: clock.now().date())
    pool = WebSocketManager(
        board,
        upstream.feed,
        given.limits,
        calendar,
        clock,
        given.rng or random.Random(),  # noqa: S311 - jitter of retries
        policy=build_policy(settings),
        hooks=build_hooks(settings, upstream.tokens.renew, notify),
    )
    subscriptions = SubscriptionManager(registry, pool, given.limits, clock, linger_s=settings.bt_linger_s)
    pool.bind(subscriptions)
    engine = ATMEngine(registry, clock)
    finder = LegFinder(registry, engine, board)
    journal = Journal(subscriptions, clock, pool.ws_id)
    desk = ListDesk(subscriptions, engine, finder, journal, store, calendar, clock, notify)
    list_limits = ListLimits(settings.bt_lists_max, settings.bt_list_entries_max)
    watchlists = WatchlistManager(desk, keep_at_end_of_day=settings.bt_eod_keep_watchlists, limits=list_limits)
    tier_b = TierB(registry, engine, finder, board, subscriptions, journal, clock, notify)
    return Market(
        board=board,
        registry=registry,
        engine=engine,
        subscriptions=subscriptions,
        ws_manager=pool,
        journal=journal,
        watchlists=watchlists,
        control=Control(
            tier_b,
            watchlists,
            subscriptions,
            pool,
            journal,
            clock,
            ReturnPolicy(settings.bt_return_room, settings.bt_return_after_s),
        ),
        states=StateReader(board, pool, subscriptions, calendar, clock),
        silences=SilenceWatch(board, pool, calendar, clock, notify, SEGMENT_WATCHDOGS * settings.bt_watchdog_s),
        fill=FillGauge(subscriptions, clock),
    )


def _build_bus(settings: Settings) -> Bus:
    if settings.bt_nats_url is None:
        return MemoryBus()
    from app.bus.nats import NatsBus  # late: a start without NATS does without its client

    return NatsBus(settings.bt_nats_url, random.Random())  # noqa: S311 - jitter of retries


def _universe_text(settings: Settings) -> str:
    if settings.bt_tier_b is None:
        return (files("app.market") / "tier_b.toml").read_text("utf-8")
    try:
        return settings.bt_tier_b.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TerminalError(f"BT_TIER_B was {str(settings.bt_tier_b)!r}: {error}") from None


def watchlist_rows(
    registry: InstrumentRegistry, watchlists: WatchlistManager, user_id: int, list_name: str | None
) -> Mapping[str, Instrument]:
    """The rows of a user's list, or of all, on the stream: every leg, and the underlying of each chain."""
    rows: dict[str, Instrument] = {}
    for entry in watchlists.listed(user_id, list_name):
        if entry.window is not None:
            spot = registry.spot_of(entry.row.symbol, entry.row.expiry, entry.row.exchange)
            rows.update({} if spot is None else {spot.token: spot})
        rows.update((leg.token, leg) for leg in entry.legs)
    return rows


def _registry_admin(registry: InstrumentRegistry, status: Status) -> Mapping[str, object]:
    report = registry.report.as_dict() if registry.report else {}
    return {**report, "last_refused": status.master_refused}


def _gauges(status: Status, outbound: Outbound) -> Gauges:
    return Gauges(
        stream_clients=outbound.hub.clients,
        stream_messages=outbound.publisher.messages,
        publish_rounds=outbound.publisher.rounds,
        publish_missed=outbound.publisher.missed_rounds,
        stream_closed_slow=outbound.stream.stalled,
        bus_dropped=outbound.bus.dropped,
        loop_lag_ms=status.loop_lag_ms,
        loop_lag_max_ms=status.loop_lag_max_ms,
        loop_lag_max_waited_ms=status.loop_lag_max_waited_ms,
        loop_lag_own_max_ms=status.loop_lag_own_max_ms,
        gc_pause_max_ms=status.gc_pause_max_ms,
    )


def _badges(settings: Settings, calendar: Calendar, clock: ShiftedClock, status: Status) -> Mapping[str, object]:
    """Whose prices these are, whether the markets are open, and when Tier A leaves."""
    now = clock.now()
    market = {}
    for exchange, segment in MAIN_SEGMENT.items():
        change = calendar.next_change(segment, now)
        market[str(exchange)] = {
            "phase": str(calendar.phase(segment, now)),
            "next_change": change.isoformat() if change else None,
        }
    is_simulated = settings.feed_source == "simulator"
    return {
        "feed": {"source": settings.feed_source, "simulated": is_simulated, "hours": settings.bt_sim_hours},
        "market": market,
        "eod": status.next_eod,
    }


def _versions() -> Mapping[str, str]:
    try:
        return {"service": version("broking-terminal")}
    except PackageNotFoundError:  # run from a source tree that was never installed
        return {"service": "source"}
