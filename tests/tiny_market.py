"""A market small enough to think about: clocks that stand still, a board of slots, feeds that obey a script."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

from app.core.errors import StoreUnavailable
from app.core.ids import Exchange, InstrumentKey, InstrumentKind, Segment
from app.core.instruments import Instrument
from app.core.rows import Has
from app.core.sessions import Calendar
from app.market.always_on import TierB
from app.market.atm_engine import ATMEngine
from app.market.control import Control
from app.market.events import Event
from app.market.instrument_master.registry import InstrumentRegistry
from app.market.journal import Journal
from app.market.legs import LegFinder
from app.market.live_prices import LivePrices
from app.market.subscription_manager import SubscriptionManager
from app.market.tiers import AlwaysOn
from app.market.watchlist_manager import Desk, WatchlistManager
from app.market.ws_manager import PoolHooks, PoolPolicy, WebSocketManager
from app.ports.clock import Clock
from app.ports.feed import Feed, FeedLimits
from app.ports.store import AuditFilter, Changes, StoredState
from app.storage.memory_store import MemoryStore
from tests.masters import SMALL, registry_of

IST = ZoneInfo("Asia/Kolkata")
DHAN = FeedLimits(connections=5, instruments_per_connection=5_000, instruments_per_message=100)
MORNING = datetime(2026, 2, 3, 10, 0, tzinfo=IST)


class HandClock:
    """Time that moves only when told to."""

    def __init__(self, start: datetime = MORNING) -> None:
        self._start = start
        self.passed_s = 0.0

    def advance(self, seconds: float) -> None:
        self.passed_s += seconds

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.passed_s)

    def now_ms(self) -> int:
        return int(self.now().timestamp() * 1000)

    def monotonic(self) -> float:
        return self.passed_s


def share(number: int, *, segment: Segment = Segment.NSE_EQ) -> Instrument:
    """A cash line named after its number; segment IDX_I makes it an index, which is carried in another mode."""
    kind = InstrumentKind.INDEX if segment is Segment.IDX_I else InstrumentKind.EQUITY
    return Instrument(
        key=InstrumentKey(segment, number),
        token=f"S{number}_{'IDX' if kind is InstrumentKind.INDEX else 'EQ'}",
        kind=kind,
        exchange=Exchange.NSE,
        symbol=f"S{number}",
        name=f"Share {number}",
        lot_size=1,
        tick=0.05,
    )


HEADER = SMALL.read_text().splitlines()[0]
STOCKS = {
    "RELIANCE": (2885, 2640.0, 20.0, 60),
    "TCS": (11536, 3100.0, 20.0, 60),
    "INFY": (1594, 1500.0, 20.0, 60),
    "ONGC": (2475, 240.0, 2.5, 60),
    "SBIN": (3045, 800.0, 10.0, 12),
}
STOCK_EXPIRIES = ("2026-02-24", "2026-03-30")
INDEX_EXPIRIES = ("2026-02-10", "2026-02-24")
INDEX_EXPIRIES_RENEWED = ("2026-02-17", "2026-02-24")
COMMODITY_EXPIRY = "2026-02-17"
BSE_IDS_FROM = 900_000
NO_PUT_AT = 2600.0  # RELIANCE, both expiries


def _row(exchange: str, segment: str, number: int, instrument: str, symbol: str, kind: str, **more: object) -> str:
    values: dict[str, object] = {
        "EXCH_ID": exchange, "SEGMENT": segment, "SECURITY_ID": number, "ISIN": "NA", "INSTRUMENT": instrument,
        "UNDERLYING_SECURITY_ID": number, "UNDERLYING_SYMBOL": symbol, "SYMBOL_NAME": symbol, "DISPLAY_NAME": symbol,
        "INSTRUMENT_TYPE": kind, "SERIES": "EQ" if kind == "ES" else "NA", "LOT_SIZE": "50.0",
        "SM_EXPIRY_DATE": "0001-01-01", "OPTION_TYPE": "XX", "TICK_SIZE": "5.0000", **more,
    }  # fmt: skip
    return ",".join(str(values.get(name, "")) for name in HEADER.rstrip(",").split(",")) + ","


def _options(first: int, symbol: str, expiry: str, spot: float, step: float, count: int, **place: str) -> list[str]:
    rows = []
    low = spot - step * (count // 2)
    for number in range(count):
        for side, option_type in enumerate(("CE", "PE")):
            strike = low + number * step
            if symbol == "RELIANCE" and strike == NO_PUT_AT and option_type == "PE":
                continue
            rows.append(
                _row(
                    place["exchange"], place["segment"], first + 2 * number + side, place["instrument"], symbol, "OP",
                    SM_EXPIRY_DATE=expiry, STRIKE_PRICE=f"{strike:.5f}", OPTION_TYPE=option_type,
                )
            )  # fmt: skip
    return rows


def write_tiny_master(path: Path, ladders: Mapping[str, int] | None = None, *, is_renewed: bool = False) -> None:
    """Thirteen chains: five stocks (SBIN with a short ladder), NIFTY, CRUDEOIL; futures and cash lines.

    ``ladders`` gives other numbers of strikes, by symbol. ``is_renewed``: as a later morning has it. ONGC is gone, the
    contracts of SBIN have other ids, and NIFTY's next expiry has those of the one that is over.
    """
    counts = {
        **{symbol: stock[3] for symbol, stock in STOCKS.items()},
        "NIFTY": 140,
        "CRUDEOIL": 110,
        **(ladders or {}),
    }
    rows = [_row("NSE", "I", 13, "INDEX", "NIFTY", "INDEX", DISPLAY_NAME="Nifty 50")]
    stock, index = ("NSE", "D", "OPTSTK"), ("NSE", "D", "OPTIDX")
    for place, (symbol, (number, spot, step, _)) in enumerate(STOCKS.items(), start=1):
        if is_renewed and symbol == "ONGC":
            continue
        place += 10 if is_renewed and symbol == "SBIN" else 0
        rows.append(_row("NSE", "E", number, "EQUITY", symbol, "ES"))
        for which, expiry in enumerate(STOCK_EXPIRIES):
            first = 40_000 + place * 1_000 + which * 500
            rows.append(_row("NSE", "D", first, "FUTSTK", symbol, "FUT", SM_EXPIRY_DATE=expiry))
            rows += _options(first + 1, symbol, expiry, spot, step, counts[symbol],
                             exchange=stock[0], segment=stock[1], instrument=stock[2])  # fmt: skip
    for which, expiry in enumerate(INDEX_EXPIRIES_RENEWED if is_renewed else INDEX_EXPIRIES):
        rows += _options(60_000 + which * 1_000, "NIFTY", expiry, 25_000.0, 50.0, counts["NIFTY"],
                         exchange=index[0], segment=index[1], instrument=index[2])  # fmt: skip
    rows.append(_row("MCX", "M", 500, "FUTCOM", "CRUDEOIL", "FUTCOM", SM_EXPIRY_DATE="2026-02-19"))
    rows += _options(70_000, "CRUDEOIL", COMMODITY_EXPIRY, 6_000.0, 50.0, counts["CRUDEOIL"],
                     exchange="MCX", segment="M", instrument="OPTFUT")  # fmt: skip
    path.write_text("\n".join([HEADER, *rows]) + "\n")


def list_on_bse(master: Path, symbol: str) -> None:
    """Add to a written master all of a symbol on BSE as well, under other ids."""
    header, *rows = master.read_text().splitlines()
    id_at, symbol_at = (header.split(",").index(name) for name in ("SECURITY_ID", "UNDERLYING_SYMBOL"))
    twins = []
    for cells in (row.split(",") for row in rows):
        if cells[symbol_at] == symbol:
            cells[0], cells[id_at] = "BSE", str(BSE_IDS_FROM + int(cells[id_at]))
            twins.append(",".join(cells))
    master.write_text("\n".join([header, *rows, *twins]) + "\n")


@cache
def tiny_registry() -> InstrumentRegistry:
    """The tiny master, read once."""
    with TemporaryDirectory() as directory:
        source = Path(directory) / "tiny.csv"
        write_tiny_master(source)
        return registry_of(source, MORNING.date(), Path(directory))


class PausingStore(MemoryStore):
    """A store whose commits can be made to wait, or to fail."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.is_away = False
        self.gate: asyncio.Event | None = None
        self.waiting = asyncio.Event()
        self.commits = 0

    async def commit(self, changes: Changes) -> list[int]:
        if self.gate is not None:
            self.waiting.set()
            await self.gate.wait()
        self._reach()
        self.commits += 1
        return await super().commit(changes)

    async def ping_write(self) -> None:
        self._reach()

    def _reach(self) -> None:
        self.trouble = "write: the database cannot be reached" if self.is_away else None
        if self.is_away:
            raise StoreUnavailable("the database cannot be reached")


class Market:
    """The whole market core over the tiny master; time, spots and sockets in the test's hands."""

    def __init__(
        self,
        *,
        limits: FeedLimits = DHAN,
        feed: Feed | None = None,
        store: PausingStore | None = None,
        clock: HandClock | None = None,
        keep: bool = False,
        policy: PoolPolicy | None = None,
        hooks: PoolHooks | None = None,
        registry: InstrumentRegistry | None = None,
    ) -> None:
        self.clock = clock or HandClock()
        self.registry = registry or tiny_registry()
        self.store = store or PausingStore(self.clock)
        self.prices = LivePrices(connections=limits.connections)
        self.engine = ATMEngine(self.registry, self.clock)
        self.calendar = Calendar((), IST, always_open=True)
        self.told: list[Event] = []
        self.wire = WebSocketManager(
            self.prices, feed, limits, self.calendar, self.clock, random.Random(7),
            policy=policy or PoolPolicy(), hooks=hooks or PoolHooks(notify=self.told.append),
        )  # fmt: skip
        self.wishes = SubscriptionManager(self.registry, self.wire, limits, self.clock)
        self.wire.bind(self.wishes)
        finder = LegFinder(self.registry, self.engine, self.prices)
        self.journal = Journal(self.wishes, self.clock, self.wire.ws_id)
        desk = Desk(
            self.wishes, self.engine, finder, self.journal, self.store, self.calendar, self.clock, self.told.append
        )
        self.lists = WatchlistManager(desk, keep_at_end_of_day=keep)
        self.tier_b = TierB(
            self.registry, self.engine, finder, self.prices, self.wishes, self.journal, self.clock, self.told.append
        )
        self.control = Control(self.tier_b, self.lists, self.wishes, self.wire, self.journal, self.clock)

    async def start(self, universe: AlwaysOn | None = None) -> Market:
        await self.store.start()
        self.control.start(await self.store.load(), universe or AlwaysOn())
        return self

    async def follow(self, master: Path, universe: Callable[[], AlwaysOn] = AlwaysOn) -> None:
        """Read another master, and bring all in line with it, as the running service does."""
        self.registry.load(master)
        self.control.relist()
        self.control.use_universe(universe())
        await self.lists.relist()

    def quote(self, symbol: str, price: float) -> None:
        """A tick of the symbol's spot, tracked if it was not."""
        spot = self.registry.spot_of(symbol, None)
        assert spot is not None
        row = self.prices.buffers.table[self.prices.track(spot)]
        row["ltp"], row["has"], row["last_ms"] = price, Has.TICKER, self.clock.now_ms()

    async def stored(self) -> StoredState:
        return await self.store.load()

    async def audit(self) -> list[tuple[str, str]]:
        """Action and token, oldest first."""
        lines = await self.store.audit(AuditFilter(limit=1_000_000))
        return [(line.action.value, line.instrument_token) for line in reversed(lines)]

    def events(self, kind: str) -> list[Event]:
        return [event for event in self.told if event.kind == kind]
