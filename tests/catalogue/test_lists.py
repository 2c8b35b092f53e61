"""Faults of sharing: two owners, a storm of changes, no room, a death between the commit and the wire."""

from __future__ import annotations

import threading
from collections import Counter

import httpx

from tests.catalogue.desk import EXPIRY, LATER, Desk, Screen, Times
from tests.durability.small_service import LIMITS

CHAIN_LEGS = 50


def test_10_two_users_on_a_chain_and_one_leaves(desk: Desk, times: Times) -> None:
    topic = f"chain:INFY:{EXPIRY}"
    for user_id in (1, 2):
        desk.added("INFY", user_id)
    assert desk.service.status()["tier_a_count"] == CHAIN_LEGS, "the chain is on the wire once"
    desk.wait("live", lambda: desk.states("INFY") == {"LIVE": CHAIN_LEGS})
    keys = desk.keys(symbol="INFY", tier="TIER_A")
    with Screen(desk.service, topic) as screen:
        desk.wait("the screen", lambda: len(screen.rows(topic)) == CHAIN_LEGS)
        sent = {key: desk.stats()["keys"][key]["packets"] for key in keys}
        times.injected()
        desk.remove("INFY", 1)
        desk.wait("ticks for the other", lambda: _all_more(desk, sent))
        times.recovered()
        assert {row["state"] for row in screen.rows(topic).values()} <= {"LIVE", "QUIET"}
        assert screen.failed is None
    assert (len(desk.listed(1)), len(desk.listed(2))) == (0, 1)
    assert {desk.wire()[key] for key in keys} == {1}
    desk.remove("INFY", 2)
    desk.wait("off the wire with its last owner", lambda: not keys & desk.wire().keys())


def _all_more(desk: Desk, sent: dict[str, int]) -> bool:
    now = desk.stats()["keys"]
    return all(now[key]["packets"] > count for key, count in sent.items())


def test_11_storm_of_adds_and_removes_leaks_nothing(desk: Desk, times: Times) -> None:
    answers: Counter[int] = Counter()

    def storm(user_id: int) -> None:
        with httpx.Client(base_url=desk.service.url, timeout=30) as http:
            for number in range(30):
                symbol, expiry = ("TCS", "INFY", "ONGC")[number % 3], (EXPIRY, LATER)[number % 2]
                body = {"user_id": user_id, "symbol": symbol, "expiry": expiry}
                added = http.post("/api/v2/watchlist/add", json={**body, "instrument_type": "STOCK_OPTION"})
                removed = http.post("/api/v2/watchlist/remove", json=body)
                answers.update((added.status_code, removed.status_code))

    opened = desk.stats("")["totals"]["opened"]
    users = [threading.Thread(target=storm, args=(user_id,)) for user_id in (1, 2, 3)]
    times.injected()
    for user in users:
        user.start()
    for user in users:
        user.join()
    times.over()
    assert answers == {200: 180}
    assert desk.service.status()["tier_a_count"] == 0
    desk.wait("nothing left on the wire", lambda: desk.wire() == Counter(desk.keys(tier="TIER_B")))
    times.recovered()
    totals = desk.stats("")["totals"]
    assert totals["bad_commands"] == 0
    assert totals["opened"] == opened, "what was left on the wire was got rid of with its connection"


def test_12_full_and_one_more(desk: Desk, times: Times) -> None:
    """The oldest chain leaves as a whole, its owner is told, and it comes back by itself when there is room."""
    always_on = desk.service.status()["tier_b_count"]
    room = (LIMITS.capacity - always_on) // CHAIN_LEGS
    chains = [(symbol, expiry) for expiry in (EXPIRY, LATER) for symbol in ("TCS", "INFY", "ONGC")]
    for place, (symbol, expiry) in enumerate(chains[:room]):
        desk.added(symbol, 1 if place == 0 else 2, expiry)
    assert LIMITS.capacity - desk.service.status()["total_subscriptions"] < CHAIN_LEGS
    with Screen(desk.service, "events") as screen:
        times.injected()
        answer = desk.added(symbol=chains[room][0], user_id=2, expiry=chains[room][1])
        assert [(each["symbol"], each["owner"]) for each in answer["evicted"]] == [("TCS", "other")]
        told = desk.wait("the owner told", lambda: screen.told("evicted", symbol="TCS"))
        times.noticed()
        assert told[0]["user_id"] == 1
        assert [each["state"] for each in desk.listed(1)] == ["EVICTED"]
        assert desk.service.status()["tier_b_count"] >= always_on, "what is always on never gives way"
        assert desk.service.status()["total_subscriptions"] <= LIMITS.capacity
        log = desk.service.get("/api/v2/subscriptions/log", action="RATE_LIMIT_EVICT", limit=CHAIN_LEGS)
        assert {line["instrument_token"].split("_")[0] for line in log["log"]} == {"TCS"}
        desk.wait("the wire", lambda: max(desk.wire().values()) == 1 and _carried(desk) <= LIMITS.capacity)
        desk.remove(symbol=chains[1][0], user_id=2, expiry=chains[1][1])
        times.over()
        desk.wait("its return", lambda: screen.told("restored", symbol="TCS"))
        desk.wait("live", lambda: desk.states("TCS") == {"LIVE": CHAIN_LEGS})
        times.recovered()
        assert [each["state"] for each in desk.listed(1)] == ["ACTIVE"]


def _carried(desk: Desk) -> int:
    return sum(desk.wire().values())


def test_21_killed_between_the_commit_and_the_wire(desk: Desk, times: Times) -> None:
    """Answered, stored, and not yet said to the exchange: the next life says it."""
    desk.fault({"kind": "refuse", "value": 503, "seconds": 600}, {"kind": "cut"})
    desk.wait("no wire", lambda: desk.lines() == [])
    assert desk.added("SBIN")["strikes_subscribed"] == 24
    assert _active_states(desk, "SBIN") == {"WANTED"}
    desk.service.kill()
    times.injected()
    desk.service.start()
    times.noticed()
    assert [each["symbol"] for each in desk.listed()] == ["SBIN"]
    assert desk.service.status()["tier_a_count"] == 24
    desk.wait("live", lambda: _active_states(desk, "SBIN") == {"LIVE"})
    times.recovered()
    restored = desk.service.get("/api/v2/subscriptions/log", action="SUBSCRIBE", limit=1_000)["log"]
    assert sum(line["instrument_token"].startswith("SBIN_") for line in restored) == 24, "written twice"


def _active_states(desk: Desk, symbol: str) -> set[str]:
    return {row["state"] for row in desk.active(symbol=symbol, tier="TIER_A").values()}
