"""Everything that the API needs, filled once by the composition root."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from app.core.sessions import Calendar
from app.ports.clock import Clock
from app.ports.store import Store
from app.rest import limits
from app.rest.audience import Audience
from app.rest.auth import Authenticator
from app.rest.pages import WEB_DIR
from app.rest.status import StatusTeller

if TYPE_CHECKING:
    from app.market.atm_engine import ATMEngine, CachedWindow
    from app.market.control import Control
    from app.market.facts import StateReader
    from app.market.instrument_master.registry import InstrumentRegistry
    from app.market.live_prices import LivePrices
    from app.market.subscription_manager import SubscriptionManager
    from app.market.watchlist_manager import WatchlistManager
    from app.market.ws_manager import WebSocketManager
    from app.stream.minute_bars import BarBook
    from app.stream.topics import Topic


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether store, registry and API are up; ``waiting_for`` names what is not."""

    ready: bool
    waiting_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gauges:
    """Plain numbers of parts that the API does not know itself; read at scrape time."""

    stream_clients: int = 0
    stream_messages: int = 0
    publish_rounds: int = 0
    publish_missed: int = 0
    stream_conflated: int = 0
    stream_closed_slow: int = 0
    bus_dropped: int = 0
    loop_lag_ms: float = 0.0
    loop_lag_max_ms: float = 0.0
    loop_lag_max_waited_ms: float = 0.0
    loop_lag_own_max_ms: float = 0.0
    gc_pause_max_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """How many requests are answered at once, and how many a second of one signed-in user."""

    requests_at_once: int = limits.REQUESTS_AT_ONCE
    requests_a_second: float = limits.REQUESTS_A_SECOND


class ChainQuotes(Protocol):
    """Live ``rows``, ``summary`` and ``coverage`` of one window, by the same functions as the stream's."""

    def __call__(
        self, window: CachedWindow, underlying_ltp: float | None, underlying_source: str | None
    ) -> Mapping[str, object]: ...


class AdmitTopic(Protocol):
    """``stream.hub.Hub.admit``: the topic that a text names, or why that user may not watch it."""

    def __call__(self, asked: object, user_id: int, *, is_admin: bool) -> Topic: ...


@dataclass(frozen=True, slots=True, repr=False)
class Services:
    """The owners of state and what else the routes ask.

    ``connections`` is how many upstream connections there should be, 0 where the feed is off. ``concerns`` gives
    reasons for ``degraded`` beyond those that ``/health`` finds itself (connections down, no registry, store).
    ``first_prices_due``: what no price is known of yet may have one in a moment, for the service has just come up.
    ``silent_segments`` names those that should send and do not.
    ``badges`` says whose prices these are, whether the markets are open and when Tier A leaves: members of ``/health``.
    ``registry_admin`` is the body of ``/api/v2/admin/registry``. ``versions`` goes into ``/health`` and ``/metrics``.
    """

    clock: Clock
    calendar: Calendar
    registry: InstrumentRegistry
    board: LivePrices
    atm: ATMEngine
    subscriptions: SubscriptionManager
    watchlists: WatchlistManager
    pool: WebSocketManager
    control: Control
    states: StateReader
    status: StatusTeller
    store: Store
    authenticator: Authenticator
    chain_quotes: ChainQuotes
    admit_topic: AdmitTopic
    audience: Audience
    bars: BarBook
    registry_admin: Callable[[], Mapping[str, object]]
    readiness: Callable[[], Readiness]
    first_prices_due: Callable[[], bool] = lambda: False
    load: LoadLimits = LoadLimits()
    connections: int = 5
    gauges: Callable[[], Gauges] = Gauges
    concerns: Callable[[], Sequence[str]] = tuple
    silent_segments: Callable[[], Sequence[str]] = tuple
    badges: Callable[[], Mapping[str, object]] = dict
    versions: Mapping[str, str] = field(default_factory=dict)
    web_dir: Path = WEB_DIR
