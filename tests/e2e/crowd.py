"""The world around a screen: accounts to sign in with, somebody who asks for more than there is room, faults."""

from __future__ import annotations

import subprocess
import sys

import httpx

from app.market.live_prices import KNOWN_AFTER
from tests.service import Service

PASSWORD = "correct horse battery staple"
LONG_NAME = "venkata.narasimha.rajuvaripeta.of.the.derivatives.desk"
ADMIN, USERS = "root", ("asha", "vikram", LONG_NAME)
WIDE = (
    *((symbol, "COMMODITY_OPTION") for symbol in ("GOLD", "SILVER", "COPPER")),
    *((symbol, "INDEX_OPTION") for symbol in ("FINNIFTY", "MIDCPNIFTY", "SENSEX", "BANKEX")),
)  # 202 legs each, and most of their expiries are not always on


def add_people(service: Service) -> None:
    """An admin and some users, all with the one password."""
    for name, *flags in ((ADMIN, "--admin"), *((name,) for name in USERS)):
        subprocess.run(
            [sys.executable, "-m", "app.cli", "user", "add", name, *flags, "--password-stdin"],
            input=PASSWORD.encode(),
            env=service.environment(),
            cwd=service.directory,
            check=True,
            capture_output=True,
        )


def fill_to_eviction(service: Service) -> None:
    """Another user adds chains, the widest first, until the first one of user 1 has to go."""
    wanted = [*WIDE, *((str(row["symbol"]), "STOCK_OPTION") for row in _fo_stocks(service))]
    with httpx.Client(base_url=service.url, timeout=30) as client:
        for symbol, kind in wanted:
            for expiry in client.get(f"/api/v2/instruments/{symbol}/expiries").json()["expiries"]:
                body = {"user_id": 2, "symbol": symbol, "expiry": expiry, "instrument_type": kind}
                answer = client.post("/api/v2/watchlist/add", json=body)
                if answer.status_code == 200 and any(one["owner"] == "other" for one in answer.json()["evicted"]):
                    return
    raise AssertionError("the feed never filled up")


def _fo_stocks(service: Service) -> list[dict[str, object]]:
    active = service.get("/api/v2/subscriptions/active", tier="TIER_B")["subscriptions"]
    return [row for row in active if str(row["token"]).endswith("_EQ") and row["symbol"] != "RELIANCE"]


def inject(service: Service, *faults: dict[str, object]) -> None:
    """Have the simulated exchange misbehave."""
    httpx.post(f"{service.simulator['control_url']}/faults", json=list(faults)).raise_for_status()


def heal(service: Service) -> None:
    httpx.delete(f"{service.simulator['control_url']}/faults").raise_for_status()


def silence_line_of_atm(service: Service, symbol: str) -> str:
    """Stop the connection that carries the call at the money, once its usual pace is known; returns its token."""
    first = service.get(f"/api/v2/instruments/{symbol}/expiries")["expiries"][0]
    atm = service.get(f"/api/v2/option-chain/{symbol}", expiry=first)["atm_strike"]
    token = f"{symbol}_{first}_{atm:.0f}CE"
    details = service.get(f"/api/v2/subscriptions/{token}")["details"]
    key = f"{details['segment']}:{details['security_id']}"
    lines = service.wait_for("its usual pace", 60, lambda: _lines_that_know(service, key))
    inject(service, {"kind": "mute", "segment": details["segment"], "connection": lines[0], "seconds": 600})
    return token


def _lines_that_know(service: Service, key: str) -> list[int]:
    """The exchange's numbers of the connections that carried enough of that key to tell how often it comes."""
    told = httpx.get(f"{service.simulator['control_url']}/stats", params={"keys": key}).json()["keys"][key]
    return [int(number) for number, packets in told["connections"].items() if packets >= KNOWN_AFTER]


def kept(service: Service, path: str, what: str, key: str, *wanted: str) -> None:
    """Wait until the service has that order too: the screen shows it before it was sent."""
    service.wait_for(f"{what} {wanted}", 15, lambda: [one[key] for one in service.get(path)[what]] == list(wanted))
