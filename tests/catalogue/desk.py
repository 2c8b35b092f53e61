"""A small service, the exchange it hangs on, and what its users see: the tools of every test of the catalogue."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.durability.small_service import UNIVERSE
from tests.service import ROOT, Service, die_with_parent
from tests.stream_world import Mirror
from tests.tiny_market import write_tiny_master

EXPIRY, LATER = "24FEB2026", "30MAR2026"
NIFTY_EXPIRY = "10FEB2026"
DAY = "2026-02-03"
ALWAYS_ON = 28  # NIFTY with eleven strikes, its index, five cash lines
CONNECTIONS = 5
SOON_S = 20.0
TWIN = "ABB"  # a share with the security id of the NIFTY index, 13: only the segment tells them apart
TIMES_FILE = "CATALOGUE_TIMES"  # environment: where the report wants the durations
QUICK = {
    "BT_SIM_RATE": "5",
    "BT_WATCHDOG_S": "2",
    "BT_HAND_OVER_S": "3",
    "BT_ASK_AGAIN_S": "5",
    "BT_BACKOFF_BASE_S": "0.05",
    "BT_BACKOFF_CAP_S": "0.5",
    "BT_HEALTHY_AFTER_S": "1",
    "BT_CODE_805_DELAY_S": "2",
    "BT_HTTP_429_DELAY_S": "4",
    "BT_LINGER_S": "0.2",
    "BT_RETURN_ROOM": "30",
    "BT_RETURN_AFTER_S": "0.2",
    "BT_PUBLISH_INTERVAL_MS": "50",
    "BT_STALLED_CLIENT_S": "1",
}


def write_master(path: Path) -> None:
    """The tiny master, and one share whose number an index has too."""
    write_tiny_master(path)
    lines = path.read_text().splitlines()
    share = next(line for line in lines if line.startswith("NSE,E,2885,"))
    twin = share.replace("2885", "13").replace("RELIANCE", TWIN)
    path.write_text("\n".join([*lines, twin]) + "\n")


def write_files(directory: Path) -> dict[str, str]:
    """Master and universe in ``directory``, and the settings that name them."""
    directory.mkdir(parents=True, exist_ok=True)
    write_master(directory / "master.csv")
    (directory / "universe.toml").write_text(UNIVERSE)
    return {
        "BT_INSTRUMENT_MASTER": str(directory / "master.csv"),
        "BT_TIER_B": str(directory / "universe.toml"),
        "BT_SIM_DATE": DAY,
        "BT_WEB": "skip",
    }


@dataclass
class Desk:
    """One service and its exchange. ``control_url`` steers the exchange; empty: the service's own simulator."""

    service: Service
    control_url: str = ""
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=10))

    # -- the exchange

    @property
    def control(self) -> str:
        return self.control_url or str(self.service.simulator["control_url"])

    def fault(self, *faults: dict[str, Any], **one: Any) -> None:
        """Let something go wrong on the exchange."""
        answer = self.http.post(f"{self.control}/faults", json=[*faults, *([one] if one else [])])
        assert answer.status_code == 200, answer.text

    def heal(self) -> None:
        self.http.delete(f"{self.control}/faults").raise_for_status()

    def stats(self, keys: str = "*") -> Any:
        return self.http.get(f"{self.control}/stats", params={"keys": keys}).json()

    def lines(self) -> list[int]:
        """The exchange's numbers of the open connections, oldest first."""
        return sorted(line["number"] for line in self.stats("")["connections"])

    def wire(self) -> Counter[str]:
        """How many connections the exchange sends each key on."""
        return Counter(
            {key: len(told["connections"]) for key, told in self.stats()["keys"].items() if told["connections"]}
        )

    # -- the users

    def add(self, symbol: str, user_id: int = 1, expiry: str = EXPIRY, **more: Any) -> httpx.Response:
        body = {"user_id": user_id, "symbol": symbol, "expiry": expiry, "instrument_type": "STOCK_OPTION", **more}
        return self.service.post("/api/v2/watchlist/add", body)

    def added(self, symbol: str, user_id: int = 1, expiry: str = EXPIRY) -> Any:
        answer = self.add(symbol, user_id, expiry)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def remove(self, symbol: str, user_id: int = 1, expiry: str = EXPIRY) -> httpx.Response:
        return self.service.post("/api/v2/watchlist/remove", {"user_id": user_id, "symbol": symbol, "expiry": expiry})

    def clear(self) -> None:
        assert self.service.post("/api/v2/admin/clear-watchlists").status_code == 200
        assert self.service.post("/api/v2/admin/unsubscribe-all-tier-a").status_code == 200

    def listed(self, user_id: int = 1) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.service.get(f"/api/v2/watchlist/{user_id}")["watchlist"]
        return found

    def chain(self, symbol: str, expiry: str = EXPIRY) -> Any:
        return self.service.get(f"/api/v2/option-chain/{symbol}", expiry=expiry, quotes="true")

    def states(self, symbol: str, expiry: str = EXPIRY) -> Counter[str]:
        """How many rows of a chain are in each state; none while its spot is not known."""
        told = self.service.http.get(
            f"{self.service.url}/api/v2/option-chain/{symbol}", params={"expiry": expiry, "quotes": "true"}
        )
        return Counter(row["state"] for row in told.json().get("rows", {}).values())

    def active(self, **which: str) -> dict[str, dict[str, Any]]:
        rows = self.service.get("/api/v2/subscriptions/active", **which)["subscriptions"]
        return {row["token"]: row for row in rows}

    def keys(self, **which: str) -> set[str]:
        """The wire keys of what is subscribed."""
        return {f"{row['segment']}:{row['security_id']}" for row in self.active(**which).values()}

    def why(self, token: str) -> str:
        return str(self.service.get(f"/api/v2/subscriptions/{token}")["why"])

    # -- the operator

    def reasons(self) -> list[str]:
        found: list[str] = self.service.get("/health")["reasons"]
        return found

    def connections(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.service.get("/api/v2/admin/ws-status")["per_connection"]
        return found

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self.service.http.get(f"{self.service.url}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    # -- waiting

    def wait(self, what: str, condition: Any, timeout_s: float = SOON_S) -> Any:
        return self.service.wait_for(what, timeout_s, condition)

    def is_live(self, at_least: int = ALWAYS_ON) -> bool:
        counts = self.service.status()
        return bool(counts["total_subscriptions"] >= at_least and counts["states"].keys() == {"LIVE"})

    def is_well(self) -> bool:
        """Healthy, everything live, and on the wire once: neither more nor less than what is wished."""
        if self.reasons() or not self.is_live():
            return False
        return self.wire() == Counter(self.keys())


class Screen:
    """A client of the stream that keeps all it is told; what it shows is built from the messages alone."""

    def __init__(self, service: Service, *topics: str) -> None:
        self.mirrors: dict[str, Mirror] = {topic: Mirror() for topic in topics}
        self.events: list[dict[str, Any]] = []
        self._closing = ExitStack()
        self._stream = self._closing.enter_context(connect(service.stream_url, proxy=None))
        self._stream.send(json.dumps({"op": "subscribe", "topics": list(topics), "max_rate_hz": 10}))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self.failed: BaseException | None = None
        self._reader.start()

    def _read(self) -> None:
        try:
            for words in self._stream:
                message = json.loads(words)
                if message["type"] == "event":
                    self.events.append(message)
                elif message["type"] in ("snapshot", "delta"):
                    self.mirrors[message["topic"]].take(message)
        except ConnectionClosed:
            pass
        except AssertionError as error:  # told by the test's own thread
            self.failed = error

    def rows(self, topic: str) -> dict[str, Any]:
        assert self.failed is None, self.failed
        found: dict[str, Any] = self.mirrors[topic].data.get("rows", {})
        return found

    def told(self, kind: str, **data: Any) -> list[dict[str, Any]]:
        """The events of a kind whose data has these members."""
        return [each for each in self.events if each["kind"] == kind and data.items() <= each["data"].items()]

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()
        self._reader.join(5)


class Exchange:
    """The simulator as a program of its own: it outlives the service, and goes wrong before there is one."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "sim", "--json", "--port", "0"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline())
        self.feed_url, self.control_url = str(said["feed_url"]), str(said["control_url"])

    def stop(self) -> None:
        assert self._process.stdout is not None
        self._process.terminate()
        self._process.wait(10)
        self._process.stdout.close()


@dataclass
class Times:
    """How long until a fault is seen, and until all is well after its end; seconds."""

    began: float = 0.0
    ended: float | None = None
    notice_s: float | None = None
    recover_s: float | None = None

    def injected(self) -> None:
        self.began = time.monotonic()

    def noticed(self) -> None:
        """A user, or whoever runs the service, can see it."""
        self.notice_s = time.monotonic() - self.began

    def over(self) -> None:
        """The fault ends now; one that ends by itself ends as it begins."""
        self.ended = time.monotonic()

    def recovered(self) -> None:
        self.recover_s = time.monotonic() - (self.began if self.ended is None else self.ended)
