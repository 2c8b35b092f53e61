"""Moves between connections lose no packet: the simulator's own count of every key against what the service counted."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.core.packets import Full
from app.dhan.codec import decode
from tests.service import Service

NewService = Callable[..., Service]
UNIVERSE = '[[chain]]\nsymbol = "NIFTY"\nweekly = 4\nstrikes = 101\n\n[drivers]\nfo_stocks = true\n'
STOCKS = ("RELIANCE", "TCS", "INFY")
EXPIRY = "24FEB2026"
PENNY_BLUR = 0.005  # a float32 below 131,072 is closer to its paisa than this


def stats(service: Service, keys: str = "") -> Any:
    asked = {"keys": keys} if keys else None
    return service.http.get(service.simulator["control_url"] + "/stats", params=asked).json()


def counted(service: Service) -> dict[str, int]:
    """What became of the packets, over all connections."""
    text = service.http.get(f"{service.url}/metrics").text
    totals: dict[str, int] = {}
    for name, value in re.findall(r"^bt_feed_(\w+)_total\{[^}]*\} (\S+)$", text, re.MULTILINE):
        totals[name] = totals.get(name, 0) + int(float(value))
    return totals


def is_level(service: Service) -> bool:
    """All five connections are up and carry, by either side's word, what they should and nothing twice."""
    lines = service.get("/api/v2/admin/ws-status")["per_connection"].values()
    loads = [line["sent"] for line in lines if line["active"] and line["sent"] == line["instruments"]]
    told = [line["instruments"] for line in stats(service)["connections"]]
    return len(loads) == 5 and max(loads) - min(loads) <= 1 and sorted(told) == sorted(loads)


def is_all_live(service: Service, at_least: int) -> bool:
    counts = service.status()
    return bool(counts["total_subscriptions"] >= at_least and counts["states"].keys() == {"LIVE"})


def test_every_packet_sent_is_applied_or_superseded(new_service: NewService, tmp_path: Path) -> None:
    universe = tmp_path / "universe.toml"
    universe.write_text(UNIVERSE)
    with new_service(BT_TIER_B=str(universe), BT_CODE_805_DELAY_S="1", BT_LINGER_S="0") as service:
        service.wait_for("Tier B", 30, lambda: is_all_live(service, 1_000))
        for symbol in STOCKS:
            add = {"user_id": 1, "symbol": symbol, "expiry": EXPIRY, "instrument_type": "STOCK_OPTION"}
            assert service.post("/api/v2/watchlist/add", add).json()["strikes_subscribed"] == 50
        # One socket fewer for a second: it comes back empty, and a fifth of all keys moves to it while they tick.
        first = stats(service)["connections"][0]["number"]
        fault(service, kind="disconnect", value=805, connection=first)
        service.wait_for("one socket fewer", 10, lambda: len(stats(service)["connections"]) == 4)
        service.wait_for("five sockets", 10, lambda: len(stats(service)["connections"]) == 5)
        service.post("/api/v2/admin/rebalance-ws")
        service.wait_for("five level sockets", 15, lambda: is_level(service))
        newest = max(stats(service)["connections"], key=lambda line: line["number"])
        assert newest["instruments"] >= 200
        fault(service, kind="mute", seconds=60)
        sent = service.wait_for("the last packets", 5, lambda: settled(service))
        hold_true(service, sent)


def fault(service: Service, **described: Any) -> None:
    answer = service.http.post(service.simulator["control_url"] + "/faults", json=described)
    assert answer.status_code == 200, answer.text


def settled(service: Service) -> Any:
    """The simulator's counts, once the service has read all that was sent."""
    told = stats(service, "*")
    return told if counted(service)["bytes"] == stats(service)["totals"]["bytes"] else None


def hold_true(service: Service, told: Any) -> None:
    totals, keys = counted(service), told["keys"]
    assert totals["unwanted"] == totals["unknown"] == totals["malformed"] == 0
    # What came from a key's other socket during its move is the twin of a packet that its owner brought.
    assert sum(key["packets"] for key in keys.values()) == (
        totals["applied"] + totals["superseded"] + totals["foreign"]
    )
    assert totals["foreign"] < totals["applied"] / 10
    checked = 0
    for symbol, expiry in [*((symbol, EXPIRY) for symbol in STOCKS), ("NIFTY", nearest(service, "NIFTY"))]:
        rows = service.get(f"/api/v2/option-chain/{symbol}", expiry=expiry, quotes="true")["rows"]
        for row in service.get("/api/v2/subscriptions/active", symbol=symbol)["subscriptions"]:
            if row["token"] in rows and row["option_type"]:
                shows_the_last_packet(rows[row["token"]], keys[f"{row['segment']}:{row['security_id']}"])
                checked += 1
    assert checked == 50 * len(STOCKS) + 202


def nearest(service: Service, symbol: str) -> str:
    expiries: list[str] = service.get(f"/api/v2/instruments/{symbol}/expiries")["expiries"]
    return expiries[0]


def shows_the_last_packet(row: dict[str, Any], key: dict[str, Any]) -> None:
    (last,) = decode(bytes.fromhex(key["last"]))
    assert isinstance(last, Full)
    assert len(key["connections"]) == 1
    assert abs(row["ltp"] - last.ltp) < PENNY_BLUR
    assert (row["volume"], row["oi"], row["total_buy_qty"]) == (last.volume, last.oi, last.total_buy_qty)
