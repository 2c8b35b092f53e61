"""Requests, checked; answers, described for OpenAPI and held to it by the tests.

Wrong types are refused (no text for a number, no number for a flag); fields nobody knows are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.ports.store import DEFAULT_LIST, USER_ID_MAX, InstrumentType
from app.rest import limits

UserId = Annotated[int, Field(strict=True, ge=1, le=USER_ID_MAX, description="`users.id`")]
Symbol = Annotated[str, Field(strict=True, min_length=1, max_length=limits.SYMBOL_CHARS_MAX)]
Expiry = Annotated[
    str,
    Field(
        strict=True,
        min_length=1,
        max_length=limits.EXPIRY_CHARS_MAX,
        description="`26FEB2026`, `26-FEB-2026` or `2026-02-26`",
    ),
]
Price = Annotated[
    float, Field(strict=True, gt=0, le=limits.PRICE_MAX, allow_inf_nan=False, description="rupees, finite and above 0")
]
ExchangeName = Annotated[
    Literal["NSE", "BSE", "MCX"],
    BeforeValidator(lambda told: told.strip().upper() if isinstance(told, str) else told),
    Field(description="another than the symbol's primary exchange"),
]


ListName = Annotated[
    str,
    Field(strict=True, min_length=1, max_length=limits.LIST_NAME_CHARS_MAX, description="a list; case does not matter"),
]
EntryId = Annotated[int, Field(strict=True, ge=1, le=limits.ENTRY_ID_MAX, description="`id` of an entry")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AddRequest(_Request):
    user_id: UserId
    symbol: Symbol
    expiry: Expiry | None = None
    instrument_type: InstrumentType
    underlying_ltp: Price | None = None
    exchange: ExchangeName | None = None
    list: ListName = DEFAULT_LIST


class RemoveRequest(_Request):
    user_id: UserId
    symbol: Symbol
    expiry: Expiry | None = None
    list: ListName | None = Field(default=None, description="the default list if left out")
    id: EntryId | None = Field(default=None, description="that entry only, from whichever list")


class ListRequest(_Request):
    user_id: UserId
    name: ListName


class RenameListRequest(_Request):
    user_id: UserId
    list: ListName
    name: ListName


class DeleteListRequest(_Request):
    user_id: UserId
    list: ListName


class OrderListsRequest(_Request):
    user_id: UserId
    lists: Annotated[list[ListName], Field(max_length=limits.ORDERED_MAX)]


class OrderEntriesRequest(_Request):
    user_id: UserId
    list: ListName = DEFAULT_LIST
    ids: Annotated[Sequence[EntryId], Field(max_length=limits.ORDERED_MAX)]


class MoveRequest(_Request):
    user_id: UserId
    id: EntryId
    list: ListName
    position: Annotated[int, Field(strict=True, ge=1, le=limits.ORDERED_MAX)] | None = Field(
        default=None, description="from 1; the end if left out"
    )
    # Not named ``copy``, which the model has a method for.
    is_copy: bool = Field(default=False, strict=True, alias="copy", description="leave the entry where it is as well")


class ChainRequest(_Request):
    symbol: Symbol
    expiry: Expiry
    underlying_ltp: Price | None = None
    action: Literal["subscribe", "release"] = "subscribe"
    exchange: ExchangeName | None = None
    user_id: UserId | None = Field(default=None, description="whose entry; the caller's own if left out")


class ClearRequest(_Request):
    user_id: UserId | None = None


class Problem(Answer):
    """RFC 9457, with a stable `code`; some codes add members (`valid`, `short`, `errors`, `retry_after_s`)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str


class MissingLeg(Answer):
    strike: float | None
    option_type: str | None
    reason: str


class EvictedChain(Answer):
    symbol: str
    expiry: str | None
    legs: int
    owner: Literal["you", "other"]


class StrikePair(Answer):
    CE: str | None = Field(description="token; null: not listed")
    PE: str | None


class LiveRow(Answer):
    """One row as the stream tells it; null is unknown."""

    model_config = ConfigDict(extra="allow", frozen=True)

    ltp: float | None
    change: float | None
    change_pct: float | None
    bid: float | None
    ask: float | None
    bid_qty: int | None
    ask_qty: int | None
    ltq: int | None
    atp: float | None
    volume: int | None
    total_buy_qty: int | None
    total_sell_qty: int | None
    oi: int | None
    oi_high: int | None
    oi_low: int | None
    oi_change: int | None
    open: float | None
    high: float | None
    low: float | None
    prev_close: float | None
    ltt_ms: int | None
    age_ms: int | None
    state: str
    iv: float | None
    delta: float | None
    gamma: float | None
    theta: float | None
    vega: float | None


class ChainSummary(Answer):
    model_config = ConfigDict(extra="allow", frozen=True)

    underlying_ltp: float | None
    underlying_source: str | None
    atm_strike: float | None
    pcr: float | None
    max_pain: float | None
    straddle: float | None
    atm_iv: float | None
    total_ce_oi: float | None
    total_pe_oi: float | None
    future: str | None = Field(description="of the same expiry, else the nearest")
    future_ltp: float | None
    future_change_pct: float | None
    future_buildup: Literal["long_buildup", "short_buildup", "short_covering", "long_unwinding"] | None
    basis: float | None = Field(description="`future_ltp` less `underlying_ltp`")
    lot_size: int
    expiry_ms: int = Field(description="when trading in the options ends")
    days_left: int = Field(description="calendar days; 0 on the day of expiry")
    session: Literal["PRE_OPEN", "OPEN", "CLOSED"]


class ChainWindow(Answer):
    """The strikes around the underlying, by position in the listing."""

    symbol: str
    expiry: str
    underlying_ltp: float
    underlying_source: Literal["request", "live", "last"]
    underlying_age_ms: int | None
    exchange: str
    atm_strike: float
    strike_step: float
    strikes: list[float]
    strikes_ce_pe: dict[str, StrikePair]
    cached_at: datetime
    cache_ttl_seconds: int | None


class OptionChain(ChainWindow):
    rows: dict[str, LiveRow] | None = Field(default=None, description="with `quotes=true`")
    summary: ChainSummary | None = Field(default=None, description="with `quotes=true`")
    coverage: dict[str, int] | None = Field(
        default=None, description="with `quotes=true`: legs live, never traded, stale, missing, …"
    )


class Added(Answer):
    model_config = ConfigDict(extra="allow", frozen=True)

    success: bool
    message: str
    option_chain: ChainWindow | None
    strikes_subscribed: int
    missing: list[MissingLeg]
    evicted: list[EvictedChain]
    revision: int


class Removed(Answer):
    model_config = ConfigDict(extra="allow", frozen=True)

    success: bool
    message: str
    unsubscribed: int


class WatchlistEntry(Answer):
    model_config = ConfigDict(extra="allow", frozen=True)

    id: int
    symbol: str
    expiry_date: str | None
    instrument_type: InstrumentType
    added_at: datetime
    added_order: int
    state: str


class Watchlist(Answer):
    user_id: int
    count: int
    watchlist: list[WatchlistEntry]


class NamedList(Answer):
    name: str
    position: int
    count: int
    evicted: int = Field(description="entries that are not ACTIVE")
    is_default: bool


class NamedLists(Answer):
    user_id: int
    count: int
    lists: list[NamedList]


class ListsChanged(Answer):
    model_config = ConfigDict(extra="allow", frozen=True)

    success: bool
    message: str
    lists: list[NamedList]


class ListOrdered(Answer):
    success: bool
    message: str
    list: str
    watchlist: Sequence[WatchlistEntry]


class EntryMoved(Answer):
    success: bool
    message: str
    list: str
    entry: WatchlistEntry
    evicted: Sequence[EvictedChain]
    watchlist: Sequence[WatchlistEntry]


class ChainSubscribed(Answer):
    model_config = ConfigDict(extra="allow", frozen=True)

    action: Literal["subscribe", "release"]
    subscribed: list[str]
    failed: list[MissingLeg]
    total_subscribed: int
    released: int
    evicted: list[EvictedChain]
    option_chain: ChainWindow | None


class Connection(Answer):
    model_config = ConfigDict(extra="allow", frozen=True)

    active: bool
    state: str
    instruments: int
    utilization_percent: float
    last_connected: datetime | None
    reconnect_attempts: int
    last_error: str | None
    last_data_age_ms: int | None
    packets_per_s: float
    lag_p50_ms: float | None
    lag_p99_ms: float | None
    late: bool


class WsStatus(Answer):
    model_config = ConfigDict(extra="allow", frozen=True)

    total_subscriptions: int
    max_capacity: int
    utilization_percent: float
    connected_connections: int
    total_connections: int
    per_connection: dict[str, Connection]


class CapacityForecast(Answer):
    free: int
    window_min: int
    adds_per_min: float | None
    net_per_min: float | None
    full_by: datetime | None


class SubscriptionCounts(Answer):
    model_config = ConfigDict(extra="allow", frozen=True)

    total_subscriptions: int
    max_capacity: int
    utilization_percent: float
    tier_a_count: int
    tier_b_count: int
    states: dict[str, int]
    forecast: CapacityForecast


class Status(Answer):
    model_config = ConfigDict(extra="allow", frozen=True)

    subscriptions: SubscriptionCounts
    websocket: WsStatus


class ActiveSubscription(Answer):
    model_config = ConfigDict(extra="allow", frozen=True)

    token: str
    symbol: str
    expiry: str | None
    strike: float | None
    option_type: str | None
    tier: str
    subscribed_at: datetime
    ws_id: int | None
    active: bool
    state: str
    owners: int = Field(description="how many entries hold it; Tier B counts as one")


class ActiveSubscriptions(Answer):
    tier: str | None
    count: int
    total: int | None = None
    next: str | None = None
    subscriptions: list[ActiveSubscription]


class LogLine(Answer):
    id: int
    action: str
    instrument_token: str
    reason: str
    timestamp: datetime


class SubscriptionLog(Answer):
    count: int
    next: str | None
    log: list[LogLine]


class SubscriptionDetail(Answer):
    token: str
    details: dict[str, object]
    why: str


class SearchResult(Answer):
    model_config = ConfigDict(extra="allow", frozen=True)

    symbol: str
    count: int
    f_o_eligible: bool
    name: str
    match: str


class SearchResults(Answer):
    query: str
    count: int
    results: list[SearchResult]


class InstrumentInfo(Answer):
    model_config = ConfigDict(extra="allow", frozen=True)

    symbol: str
    lot_size: int | None
    tick: float | None
    strike_step: float | None
    segments: list[str]
    f_o_eligible: bool
    nearest_future: str | None


class Expiries(Answer):
    symbol: str
    expiries: list[str]
    count: int


class TierACleared(Answer):
    action: str
    count: int
    message: str


class WatchlistsCleared(Answer):
    action: str
    user_id: int | None
    success: bool
    cleared_count: int


class Rebalanced(Answer):
    action: str
    moved_count: int
    details: list[dict[str, object]]


class Health(Answer):
    model_config = ConfigDict(extra="allow", frozen=True)

    status: Literal["healthy", "degraded"]
    reasons: list[str]
    subscriptions: SubscriptionCounts
    websocket_status: WsStatus


class Ready(Answer):
    status: Literal["ready"]
