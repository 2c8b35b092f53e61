"""``kill -9`` in a loop: ``python -m tests.durability.kill_loop --kills 100 --database postgresql``.

Two users add and remove, are refused, evict each other, see windows move and chains return; days end; the service is
killed at random, while it works and while it starts. Every answer is in a ledger; after each kill the database must
agree with it, and after each start books, rows and log must agree with each other.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx

from tests.contract.servers import make_postgres
from tests.durability.ledger import Ledger, Tables, Wish, day_of, read_tables, wrong_at_once, wrong_when_settled
from tests.durability.small_service import UNIVERSE
from tests.service import Service
from tests.tiny_market import STOCKS, write_tiny_master

EXPIRIES = ("24FEB2026", "30MAR2026")
CHAINS = [(symbol, expiry, "STOCK_OPTION") for symbol in STOCKS for expiry in EXPIRIES]
WISHES: list[Wish] = [*CHAINS, ("TCS", "24FEB2026", "FUTURE"), ("INFY", "", "EQUITY")]
REFUSED = ({"symbol": "NOSUCH"}, {"symbol": "TCS", "expiry": "25FEB2026"}, {"symbol": "TCS", "underlying_ltp": -1})
SETTLE_S = 15.0
DRIVERS = len(STOCKS) + 1
DAYS = 19  # before the first expiry
START_SHARE = 0.2  # of the kills come while the service starts


class Trader(threading.Thread):
    """One user at work until told to stop or the service is gone; every answer goes into the ledger."""

    def __init__(self, url: str, ledger: Ledger, seed: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._ledger = ledger
        self._rng = random.Random(seed)
        self.is_at_work = True

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as http, contextlib.suppress(httpx.HTTPError):
            while self.is_at_work:
                act = self._rng.choices((self._add, self._remove, self._ask_wrongly, self._clear), (60, 30, 8, 2))[0]
                act(http)
                self._ledger.past.append(frozenset(self._ledger.held))

    def _add(self, http: httpx.Client) -> None:
        symbol, expiry, kind = wish = self._rng.choice(WISHES)
        body = {"symbol": symbol, "instrument_type": kind, **({"expiry": expiry} if expiry else {})}
        answer = self._say(http, "watchlist/add", body, {wish})
        if answer.status_code == 200:
            self._ledger.held.add(wish)
            self._ledger.evicted_legs += sum(each["legs"] for each in answer.json()["evicted"])

    def _remove(self, http: httpx.Client) -> None:
        if not self._ledger.held:
            return
        symbol, expiry, _ = self._rng.choice(sorted(self._ledger.held))
        gone = {each for each in self._ledger.held if each[0] == symbol and expiry in ("", each[1])}
        body = {"symbol": symbol, **({"expiry": expiry} if expiry else {})}
        if self._say(http, "watchlist/remove", body, gone).status_code == 200:
            self._ledger.held -= gone

    def _ask_wrongly(self, http: httpx.Client) -> None:
        body = {"instrument_type": "STOCK_OPTION", **self._rng.choice(REFUSED)}
        assert self._say(http, "watchlist/add", body, set()).status_code in (404, 409, 422)

    def _clear(self, http: httpx.Client) -> None:
        if self._say(http, "admin/clear-watchlists", {}, set(self._ledger.held)).status_code == 200:
            self._ledger.held.clear()

    def _say(self, http: httpx.Client, path: str, body: dict[str, object], about: set[Wish]) -> httpx.Response:
        self._ledger.open |= about
        answer = http.post(f"/api/v2/{path}", json={"user_id": self._ledger.user_id, **body})
        self._ledger.open -= about
        self._ledger.answered[f"{path} {answer.status_code}"] += 1
        return answer


class Weather(threading.Thread):
    """Spots jump, so that windows move; now and then everything in Tier A is released."""

    def __init__(self, service: Service, seed: str) -> None:
        super().__init__(daemon=True)
        self._control = service.simulator["control_url"]
        self._url = service.url
        self._rng = random.Random(seed)

    def run(self) -> None:
        with httpx.Client(timeout=5) as http, contextlib.suppress(httpx.HTTPError):
            while True:
                time.sleep(self._rng.uniform(0.05, 0.4))
                share = self._rng.uniform(-0.03, 0.03)
                jump = {"kind": "jump", "symbol": self._rng.choice(sorted(STOCKS)), "value": share}
                http.post(f"{self._control}/faults", json=jump)
                if self._rng.random() < 0.04:
                    http.post(f"{self._url}/api/v2/admin/unsubscribe-all-tier-a")


@dataclass(slots=True)
class KillLoop:
    """OWNS the service under the knife and what its clients were told."""

    service: Service
    url: str
    seed: int = 1
    ledgers: list[Ledger] = field(default_factory=lambda: [Ledger(1), Ledger(2)])
    kills: int = 0
    days: int = 0
    complaints: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    def run(self, kills: int) -> None:
        """``kills`` rounds: start, work, kill, compare."""
        rng = random.Random(f"kills {self.seed}")
        day_every = max(4, -(-kills // DAYS))
        self._start()
        while self.kills < kills:
            self._work_and_kill(rng.uniform(0.1, 1.2))
            if self.kills % day_every == 0:
                self._begin_day()
            while rng.random() < START_SHARE and self.kills < kills:
                self._kill_at_start(rng.uniform(0.2, 3.0))
            self._start()
            self._settled()
        self.service.stop()

    def _start(self) -> None:
        """Until the drivers are live: without a spot there is no window."""
        self.service.start()
        self.service.wait_for("spots", 60, lambda: self.service.status()["states"].get("LIVE", 0) >= DRIVERS)

    def _work_and_kill(self, seconds: float) -> None:
        seed = f"{self.seed} {self.kills}"
        crowd: list[threading.Thread] = [
            Trader(self.service.url, each, f"{seed} {each.user_id}") for each in self.ledgers
        ]
        crowd.append(Weather(self.service, seed))
        for each in crowd:
            each.start()
        time.sleep(seconds)
        self.service.kill()
        for each in crowd:
            each.join()
        self._compare()

    def _begin_day(self) -> None:
        """The next start finds a day that ended while the service was down."""
        self.days += 1
        self.service.settings["BT_SIM_DATE"] = day_of(self.days).isoformat()
        for ledger in self.ledgers:
            ledger.open |= ledger.held  # until the end of day is done both are right

    def _kill_at_start(self, seconds: float) -> None:
        self.service.launch()
        time.sleep(seconds)
        self.service.kill()
        self._compare()
        self.seen["killed while starting"] += 1

    def _compare(self) -> None:
        self.kills += 1
        asked = [set(each.open) for each in self.ledgers]
        tables = read_tables(self.url)
        self._note(wrong_at_once(tables, self.ledgers))
        if len(tables.marks) < self.days + 1:  # the end of day has not happened: still both are right
            for ledger, before in zip(self.ledgers, asked, strict=True):
                ledger.open |= before & ledger.held

    def _settled(self) -> None:
        """The service is up: a day that had ended has been cleared, and all books agree."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            tables = read_tables(self.url)
            wrong = [*wrong_when_settled(tables), *self._unlike(tables)]
            if not wrong or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        self._note(iter(wrong))
        self._note(wrong_at_once(tables, self.ledgers))
        if len(tables.marks) != self.days + 1:
            self._note(iter([f"{self.days + 1} days have ended, done are {sorted(tables.marks)}"]))
        self.seen.update({"entries compared": len(tables.entries), "rows compared": len(tables.legs)})

    def _unlike(self, tables: Tables) -> Iterator[str]:
        """Where the API's answers differ from the tables."""
        counts = self.service.status()
        if counts["total_subscriptions"] != len(tables.legs):
            yield f"{counts['total_subscriptions']} subscribed, {len(tables.legs)} rows"
        if sum(counts["ws_usage"].values()) != counts["total_subscriptions"]:
            yield f"connections carry {counts['ws_usage']} of {counts['total_subscriptions']}"
        for ledger in self.ledgers:
            shown = self.service.get(f"/api/v2/watchlist/{ledger.user_id}")["watchlist"]
            stored = {(*wish, row.id) for wish, row in zip(tables.wishes(ledger.user_id),
                      [row for row in tables.entries if row.user_id == ledger.user_id], strict=True)}  # fmt: skip
            if {(each["symbol"], each["expiry_date"] or "", each["instrument_type"], each["id"]) for each in shown} != (
                stored
            ):
                yield f"user {ledger.user_id} is shown another list than the stored one"

    def _note(self, wrong: Iterator[str]) -> None:
        self.complaints += [f"kill {self.kills}: {each}" for each in wrong]

    def report(self) -> str:
        answered = sum((ledger.answered for ledger in self.ledgers), Counter())
        lines = read_tables(self.url).lines
        told = ", ".join(f"{count} {what}" for what, count in sorted(answered.items()))
        logged = ", ".join(f"{count} {what}" for what, count in sorted(lines.items()))
        looked = ", ".join(f"{count} {what}" for what, count in sorted(self.seen.items()))
        verdict = "\n".join(["LOST OR WRONG:", *self.complaints]) if self.complaints else "nothing lost, nothing wrong"
        return f"{self.kills} kills, {self.days} ends of day; {looked}\nanswered: {told}\nlogged: {logged}\n{verdict}"


def small_settings(directory: Path) -> dict[str, str]:
    """Settings of a service that five chains fill, whose evicted chains return at once, and whose days end today."""
    master, universe = directory / "tiny.csv", directory / "universe.toml"
    directory.mkdir(parents=True, exist_ok=True)
    write_tiny_master(master)
    universe.write_text(UNIVERSE)
    later = datetime.now(ZoneInfo("Asia/Kolkata")) + timedelta(hours=6)
    return {
        "BT_INSTRUMENT_MASTER": str(master),
        "BT_TIER_B": str(universe),
        "BT_SIM_DATE": day_of(0).isoformat(),
        "BT_EOD_TIME": f"{later:%H:%M}",
        "BT_LINGER_S": "0.2",
        "BT_RETURN_ROOM": "30",
        "BT_RETURN_AFTER_S": "0.2",
        "BT_WEB": "skip",
    }


def kill_loop(directory: Path, url: str, kills: int, seed: int) -> KillLoop:
    """Run it; the outcome tells what was lost or wrong."""
    settings = {**small_settings(directory), "BT_DATABASE_URL": url}
    service = Service(directory / "service", settings, ("-m", "tests.durability.small_service"))
    loop = KillLoop(service, url, seed)
    try:
        loop.run(kills)
    finally:
        if service.process is not None and service.process.poll() is None:
            service.kill()
        service.http.close()
    return loop


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    asked = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="bt-kill-loop-"))
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        url = f"sqlite+aiosqlite:///{directory / 'app.db'}"
        if asked.database == "postgresql":
            server = make_postgres()
            stack.callback(server.destroy)
            server.start()
            url = server.url("postgres")
        loop = kill_loop(directory, url, asked.kills, asked.seed)
        print(f"{asked.database}, seed {asked.seed}, {time.monotonic() - began:.0f} s: {loop.report()}", flush=True)
    return int(bool(loop.complaints))


if __name__ == "__main__":
    sys.exit(main())
