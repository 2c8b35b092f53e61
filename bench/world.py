"""The service under measurement: a process of its own, filled with chains over HTTP as users would."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from app.market.instrument_master.registry import InstrumentRegistry
from tests.service import LITERAL_DAY, Service, link_masters

CAPACITY = 25_000
FULL_ENOUGH = CAPACITY - 49  # one more chain of 50 does not fit
CHAINS_A_USER = 20
IDLE_MAX_S = 2.0  # the service hangs up on idle connections after five
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
LIVE_WORDS = ("LIVE", "QUIET")


class Caller:
    """A kept-alive connection that costs the client next to nothing."""

    def __init__(self, port: int) -> None:
        self._line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._used_s = 0.0

    def get(self, path: str) -> Any:
        return self._call("GET", path, None)

    def post(self, path: str, body: object) -> Any:
        return self._call("POST", path, json.dumps(body))

    def get_bytes(self, path: str) -> bytes:
        """Without reading it: for timing."""
        return self._send("GET", path, None)

    def _call(self, method: str, path: str, body: str | None) -> Any:
        return json.loads(self._send(method, path, body))

    def _send(self, method: str, path: str, body: str | None) -> bytes:
        now_s = time.monotonic()
        if now_s - self._used_s > IDLE_MAX_S:
            self._line.close()  # the next request connects again
        self._used_s = now_s
        self._line.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = self._line.getresponse()
        raw = answer.read()
        assert answer.status < 300, f"{method} {path}: {answer.status} {raw[:300]!r}"
        return raw

    def close(self) -> None:
        self._line.close()


def memory_mb(pid: int) -> float:
    """Resident memory of a process, MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used, in itself and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def waited_s(pid: int) -> float:
    """Seconds for which a process's first thread, the event loop's, was ready to run and had no core (Linux)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


@dataclass(frozen=True, slots=True)
class Machine:
    """Time of all cores together, seconds."""

    total: float
    idle: float
    stolen: float  # by the hypervisor, for others

    def since(self, before: Machine) -> Machine:
        return Machine(self.total - before.total, self.idle - before.idle, self.stolen - before.stolen)


def machine_time() -> Machine:
    """Since the machine was started."""
    spent = [int(each) / TICKS_A_SECOND for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return Machine(total=sum(spent), idle=spent[3] + spent[4], stolen=spent[7])


@dataclass
class Filled:
    """A running service and what filling it took."""

    service: Service
    caller: Caller
    add_ms: list[float] = field(default_factory=list)

    @property
    def pid(self) -> int:
        assert self.service.process is not None
        return self.service.process.pid

    def counts(self) -> dict[str, Any]:
        counts: dict[str, Any] = self.caller.get("/api/v2/subscriptions/status")["subscriptions"]
        return counts

    @property
    def total(self) -> int:
        total: int = self.counts()["total_subscriptions"]
        return total

    def live(self) -> int:
        states = self.counts()["states"]
        return sum(states.get(word, 0) for word in LIVE_WORDS)

    def metric(self, name: str) -> float:
        """The sum of one metric over its labels."""
        lines = self.caller.get_bytes("/metrics").decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    def loop_lag_max_ms(self) -> float:
        """The most the event loop was late in the last minute."""
        return self.metric("bt_loop_lag_max_ms")

    def wait_live(self, wanted: int, timeout_s: float = 120.0) -> float:
        """Seconds until so many instruments are live."""
        began = time.monotonic()
        self.service.wait_for(f"{wanted} live", timeout_s, lambda: self.live() >= wanted)
        return time.monotonic() - began

    def add(self, user_id: int, symbol: str, expiry: date) -> dict[str, Any]:
        """Add one stock chain and remember how long the answer took."""
        body = {
            "user_id": user_id,
            "symbol": symbol,
            "expiry": expiry.isoformat(),
            "instrument_type": "STOCK_OPTION",
        }
        began = time.perf_counter()
        answer: dict[str, Any] = self.caller.post("/api/v2/watchlist/add", body)
        self.add_ms.append((time.perf_counter() - began) * 1000)
        return answer

    def fill(self, wanted: int, chains: Iterator[tuple[str, date]], tick: Callable[[float], None]) -> None:
        """Add stock chains until ``wanted`` instruments are subscribed."""
        total = self.total
        while total < wanted:
            self.add(1 + len(self.add_ms) // CHAINS_A_USER, *next(chains))
            total = self.total
            tick(total / wanted)


class World:
    """Services for the rows. Masters are made once; the filled service is shared by the rows that only look."""

    def __init__(self, *, quick: bool, say: Callable[[str], None]) -> None:
        self.quick = quick
        self.say = say
        self.directory = Path(tempfile.mkdtemp(prefix="bench"))
        self.masters = self.directory / "masters"
        self.masters.mkdir()
        self._full: Filled | None = None
        self._full_is_live = False
        self._names = 0

    @property
    def fullness(self) -> int:
        """How many subscriptions the filled service has."""
        return 10_000 if self.quick else FULL_ENOUGH

    @contextmanager
    def service(self, **settings: str) -> Iterator[Filled]:
        """A service of one's own, ready; ends with the block."""
        service = self.unstarted(**settings)
        with service:
            caller = Caller(service.port)
            yield Filled(service, caller)
            caller.close()

    def unstarted(self, **settings: str) -> Service:
        self._names += 1
        service = Service(self.directory / f"service{self._names}", settings)
        link_masters(service, self.masters)
        return service

    @cached_property
    def registry(self) -> InstrumentRegistry:
        """The master that the services use, in this process; a service must have run before."""
        registry = InstrumentRegistry(lambda: date.fromisoformat(LITERAL_DAY))
        registry.load(next(self.masters.glob("generated-*.snapshot")))
        return registry

    def chains(self) -> Iterator[tuple[str, date]]:
        """Stock chains, the nearest expiry of every stock first."""
        registry = self.registry
        listed = {symbol: registry.expiries(symbol) for symbol in registry.fo_stocks()}
        for nth in range(3):
            for symbol, expiries in listed.items():
                if nth < len(expiries) and len(registry.ladder(symbol, expiries[nth]).strikes) >= 25:
                    yield symbol, expiries[nth]

    def full(self) -> Filled:
        """The shared service: the always-on universe and stock chains up to the capacity, all live."""
        if self._full is None:
            service = self.unstarted().start()
            self._full = Filled(service, Caller(service.port))
            self._full.wait_live(8_000)
            self.say("filling the service")
            self._full.fill(self.fullness, self.chains(), lambda share: None)
        if not self._full_is_live:
            self._full.wait_live(int(0.99 * self._full.total))
            self._full_is_live = True
        return self._full

    def close(self) -> None:
        if self._full is not None:
            self._full.caller.close()
            self._full.service.stop()
            self._full.service.http.close()
        shutil.rmtree(self.directory, ignore_errors=True)
