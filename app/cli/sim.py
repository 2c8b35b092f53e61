"""``bt sim``: the exchange simulator by itself, as a program and as the child process of the service.

It reads the same instrument master as the service, so that both mean the same contracts by the same ids.
"""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import orjson

from app.core.ids import InstrumentKey, InstrumentKind, Segment
from app.core.instruments import Instrument
from app.core.sessions import Calendar, Phase
from app.market.instrument_master.registry import InstrumentRegistry
from app.ports.clock import Clock
from app.sim.child import bind_to_parent, serve_child
from app.sim.exchange import ExchangeConfig
from app.sim.prices import MarketShape
from app.sim.server import ServerConfig, SimulatorServer

_EQUITY_PRICES = (90.0, 4_500.0)
_OTHER_PRICES = {"GOLD": 72_000.0, "SILVER": 90_000.0, "COPPER": 850.0, "INDIAVIX": 14.0, "INDIA VIX": 14.0}


class RegistryDirectory:
    """Gives the simulator its contracts from the instrument registry: implements ``app.sim.prices.Directory``."""

    def __init__(self, registry: InstrumentRegistry, seed: int) -> None:
        self._registry = registry
        self._seed = seed
        self._references: dict[InstrumentKey, float] = {}

    def instrument(self, key: InstrumentKey) -> Instrument | None:
        return self._registry.get(key)

    def underlying_of(self, instrument: Instrument) -> Instrument | None:
        """What a derivative follows: an option its chain's spot, a future the spot of its symbol, else nothing."""
        if instrument.kind not in (InstrumentKind.OPTION, InstrumentKind.FUTURE):
            return None
        spot = self._registry.spot_of(instrument.symbol, instrument.expiry, str(instrument.exchange))
        return None if spot is None or spot.key == instrument.key else spot

    def reference_price(self, underlying: Instrument) -> float:
        """Median listed strike of the nearest chain; without one, a price that the seed and the symbol give.

        The same for every line of a symbol, so that a future and the cash line of another exchange agree with it.
        """
        known = self._references.get(underlying.key)
        if known is None:
            known = self._references[underlying.key] = self._reference(underlying)
        return known

    def _reference(self, underlying: Instrument) -> float:
        symbol = underlying.symbol
        expiries = self._registry.expiries(symbol)
        if underlying.expiry is not None:
            # A commodity's options settle into this very future, or into a later one.
            expiries = [day for day in expiries if day <= underlying.expiry][-1:] or expiries
        if expiries:
            strikes = self._registry.ladder(symbol, expiries[0]).strikes
            return strikes[len(strikes) // 2]
        return _OTHER_PRICES.get(symbol.upper()) or self._drawn(symbol)

    def _drawn(self, symbol: str) -> float:
        low, high = _EQUITY_PRICES
        chance = random.Random(f"{self._seed}:{zlib.crc32(symbol.encode())}").random()  # noqa: S311 - a price, no secret
        return float(round(low * (high / low) ** chance, 2))


@dataclass(frozen=True, slots=True)
class SimPlan:
    """What one simulator runs with."""

    snapshot: Path
    server: ServerConfig
    seed: int
    as_json: bool
    parent_pid: int | None


def server_config(port: int, control_port: int, *, host: str, seed: int, rate: float, untraded: float) -> ServerConfig:
    """The simulator of one account that takes any token."""
    shape = MarketShape(seed=seed, rate=rate, untraded=untraded)
    return ServerConfig(host, port, control_port, ExchangeConfig(market=shape))


def in_session_of(calendar: Calendar) -> Callable[[Segment, float], bool]:
    """Whether a segment trades at an epoch second, by the calendar; continuous trading only."""

    def in_session(segment: Segment, epoch_s: float) -> bool:
        return calendar.phase(segment, datetime.fromtimestamp(epoch_s, calendar.zone)) is Phase.OPEN

    return in_session


async def simulate(plan: SimPlan, clock: Clock, calendar: Calendar, say: Callable[[str], None]) -> None:
    """Serve until told to stop, or until the parent is gone.

    Raises:
        MasterRefused: the snapshot cannot be used.
        OSError: a port is taken.
    """
    if plan.parent_pid is not None:
        bind_to_parent(plan.parent_pid)
    registry = InstrumentRegistry(lambda: clock.now().date())
    registry.load(plan.snapshot)
    await serve_child(
        plan.server,
        RegistryDirectory(registry, plan.seed),
        clock,
        in_session_of(calendar),
        parent_pid=plan.parent_pid,
        ready=lambda server: say(announcement(server, as_json=plan.as_json)),
    )


def announcement(server: SimulatorServer, *, as_json: bool) -> str:
    """Where it listens, for a person or as one JSON line for the service that started it."""
    if not as_json:
        return f"exchange simulator at {server.feed_url}, steered at {server.control_url}"
    port = int(server.feed_url.rpartition(":")[2])
    said = {"feed_url": server.feed_url, "control_url": server.control_url, "port": port, "pid": os.getpid()}
    return orjson.dumps(said).decode()
