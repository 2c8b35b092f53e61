"""Faults of what the exchange sends: broken frames, silence, ghosts, prices that cannot be, ids that collide."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from app.core.packets import Full, Quote
from app.dhan.codec import decode
from tests.catalogue.conftest import NewDesk
from tests.catalogue.desk import ALWAYS_ON, LATER, NIFTY_EXPIRY, TWIN, Desk, Screen, Times
from tests.tiny_market import STOCKS

PENNY_BLUR = 0.005  # a float32 below 131,072 is closer to its paisa than this
ODDITIES = {
    "truncated": "bt_feed_malformed_total",
    "garbage": "bt_feed_malformed_total",
    "unknown_code": "bt_feed_unknown_total",
}


def last_told(desk: Desk, key: str) -> Full | Quote:
    """The last packet of a key that the exchange sent."""
    (packet,) = decode(bytes.fromhex(desk.stats(key)["keys"][key]["last"]))
    assert isinstance(packet, Full | Quote)
    return packet


def shows_the_last_packets(desk: Desk) -> None:
    """Once nothing more is under way, every row is what was sent last."""
    desk.fault(kind="mute", seconds=600)
    desk.wait("the last bytes", lambda: desk.metric("bt_feed_bytes_total") == desk.stats("")["totals"]["bytes"])
    shown = desk.chain("NIFTY", NIFTY_EXPIRY)["rows"]
    rows = {token: row for token, row in desk.active(symbol="NIFTY").items() if token in shown}
    assert len(rows) >= ALWAYS_ON - len(STOCKS) - 1
    for token, row in rows.items():
        told = last_told(desk, f"{row['segment']}:{row['security_id']}")
        assert abs(shown[token]["ltp"] - told.ltp) < PENNY_BLUR
        assert shown[token]["volume"] == told.volume


def test_07_stacked_truncated_garbled_and_unknown_packets(desk: Desk, times: Times) -> None:
    before = {line["last_connected"] for line in desk.connections().values()}
    superseded = desk.metric("bt_feed_superseded_total")
    desk.fault({"kind": "stacked", "seconds": 2}, {"kind": "duplicate", "seconds": 2})
    for kind, metric in ODDITIES.items():
        counted = desk.metric(metric)
        times.injected()
        desk.fault(kind=kind)
        desk.wait(f"{kind} counted", lambda metric=metric, counted=counted: desk.metric(metric) > counted)
        times.noticed()
    desk.heal()
    times.recovered()
    assert {line["last_connected"] for line in desk.connections().values()} == before, "a connection was given up"
    assert desk.is_live()
    assert desk.metric("bt_feed_superseded_total") == superseded, "a packet twice is not an older one"
    shows_the_last_packets(desk)


def test_08_subscribed_and_never_a_tick(new_desk: NewDesk, times: Times) -> None:
    """One strike that nobody trades, and a whole segment that says nothing, look alike and are told apart."""
    desk = new_desk(BT_SIM_UNTRADED="0.3")
    desk.fault(kind="mute", segment="NSE_FNO", seconds=600)
    with desk.service:
        desk.wait("a spot", lambda: desk.add("TCS").status_code == 200)
        times.injected()
        desk.wait("all sent", lambda: desk.states("TCS") == {"SENT": 50})
        times.noticed()
        token = min(desk.chain("TCS")["rows"])
        assert desk.why(token).endswith("nor for anything else in its segment lately")
        desk.heal()
        times.over()
        desk.wait("those that trade", lambda: desk.states("TCS")["LIVE"] > 20)
        times.recovered()
        chain = desk.chain("TCS")
        silent = {token for token, row in chain["rows"].items() if row["state"] == "SENT"}
        keys = {token: f"{row['segment']}:{row['security_id']}" for token, row in desk.active(symbol="TCS").items()}
        sent = desk.stats()["keys"]
        assert silent == {token for token in chain["rows"] if not sent[keys[token]]["packets"]}
        assert 0 < len(silent) < 30
        assert chain["coverage"]["never_traded"] == len(silent)
        assert chain["rows"][min(silent)]["ltp"] is None, "unknown is unknown"
        reason = "as a rule it has not traded today"  # that its segment is back is noticed with the next round
        desk.wait("the reason", lambda: desk.why(min(silent)).endswith(reason))


def test_08_subscribe_that_the_exchange_ignored(desk: Desk, times: Times) -> None:
    asked = desk.metric("bt_feed_asked_again_total")
    times.injected()
    desk.fault(kind="ignored_subscribe", seconds=600)
    desk.added("INFY")
    desk.wait("sent", lambda: desk.states("INFY") == {"SENT": 50})
    times.noticed()
    assert "no packet yet though its segment is alive" in desk.why(min(desk.chain("INFY")["rows"]))
    desk.heal()
    times.over()
    desk.wait("asked again", lambda: desk.states("INFY") == {"LIVE": 50}, 40)
    times.recovered()
    assert desk.metric("bt_feed_asked_again_total") >= asked + 50


def test_09_ticks_of_what_was_dropped(desk: Desk, times: Times) -> None:
    """Dhan may go on sending what was unsubscribed, and a tick may cross an unsubscribe on its way."""
    desk.added("TCS")
    desk.wait("live", lambda: desk.states("TCS") == {"LIVE": 50})
    unwanted = desk.metric("bt_feed_unwanted_total")
    times.injected()
    desk.fault(kind="ghost", seconds=600)
    assert desk.remove("TCS").json()["unsubscribed"] == 50
    desk.wait("dropped here", lambda: desk.metric("bt_feed_unwanted_total") > unwanted + 50)
    times.noticed()
    assert desk.service.status()["tier_a_count"] == 0
    assert desk.states("TCS") == {"NOT_SUBSCRIBED": 50}
    assert {row["ltp"] for row in desk.chain("TCS")["rows"].values()} == {None}
    desk.heal()
    desk.added("TCS")
    desk.wait("live again", lambda: desk.states("TCS") == {"LIVE": 50})
    desk.clear()
    desk.fault(kind="cut")  # what the exchange still sends ends with its sockets
    times.over()
    desk.wait("no ghosts", desk.is_well)
    times.recovered()


def test_13_spot_zero_absent_or_stale(new_desk: NewDesk, times: Times) -> None:
    """Without a price there is no window: none is guessed, and nothing is kept of the request."""
    desk = new_desk()
    desk.fault({"kind": "zero", "seconds": 600}, {"kind": "mute", "segment": "IDX_I", "seconds": 600})
    with desk.service:
        desk.wait("zeros", lambda: desk.service.get("/api/v2/subscriptions/TCS_EQ")["details"]["state"] == "LIVE")
        for symbol, kind, expiry in (
            ("TCS", "STOCK_OPTION", LATER),
            ("NIFTY", "INDEX_OPTION", "24FEB2026"),
        ):  # zero, absent
            times.injected()
            refused = desk.add(symbol, expiry=expiry, instrument_type=kind)
            times.noticed()
            assert (refused.status_code, refused.json().get("code")) == (409, "SPOT_UNKNOWN")
        assert desk.listed() == []
        assert desk.service.status()["tier_a_count"] == 0
        assert desk.service.get("/api/v2/subscriptions/TCS_EQ")["details"]["ltp"] is None
        with Screen(desk.service, "quotes:TCS_EQ") as screen:
            row = desk.wait("its row", lambda: screen.rows("quotes:TCS_EQ").get("TCS_EQ"))
            assert (row["state"], row["ltp"]) == ("LIVE", None)
        assert desk.add("TCS", underlying_ltp=0).status_code == 422
        desk.heal()
        times.over()
        desk.wait("prices", lambda: desk.add("TCS").status_code == 200)
        times.recovered()
        desk.wait("live", lambda: desk.states("TCS")["LIVE"] == 50)
        known = desk.chain("TCS")
        assert known["underlying_source"] == "live"
        desk.fault({"kind": "refuse", "seconds": 600}, {"kind": "cut"})
        stale = desk.wait("the old spot called old", lambda: _last_known(desk, "TCS"))
        assert stale["underlying_ltp"] > 0
        desk.wait("its age", lambda: _last_known(desk, "TCS")["underlying_age_ms"] > stale["underlying_age_ms"])


def _last_known(desk: Desk, symbol: str) -> Any:
    chain = desk.chain(symbol)
    return chain if chain["underlying_source"] == "last" else None


def test_14_spot_jumps_by_five_percent(desk: Desk, times: Times) -> None:
    desk.added("TCS")
    desk.wait("live", lambda: desk.states("TCS") == {"LIVE": 50})
    before = set(desk.active(symbol="TCS", tier="TIER_A"))
    with Screen(desk.service, "events", f"chain:TCS:{desk.chain('TCS')['expiry']}") as screen:
        times.injected()
        desk.fault(kind="jump", symbol="TCS", value=0.05)
        desk.wait("the window", lambda: screen.told("window_moved", symbol="TCS"))
        times.noticed()
        desk.wait("the new legs live", lambda: desk.states("TCS") == {"LIVE": 50})
        times.recovered()
    chain, after = desk.chain("TCS"), set(desk.active(symbol="TCS", tier="TIER_A"))
    strikes = chain["strikes"]
    assert len(after) == 50
    assert 10 <= len(after - before) <= 30
    assert abs(strikes[len(strikes) // 2] - chain["underlying_ltp"]) <= 3 * chain["strike_step"]
    assert not screen.failed
    desk.fault(kind="jump", symbol="TCS", value=1 / 1.05 - 1)


def test_15_half_rupee_strikes(desk: Desk, times: Times) -> None:
    times.injected()
    desk.added("ONGC")
    desk.wait("live", lambda: desk.states("ONGC") == {"LIVE": 50})
    times.recovered()
    _, spot, step, count = STOCKS["ONGC"]
    lowest, first = Decimal(str(spot)) - Decimal(str(step)) * (count // 2), 44_001
    rows = desk.active(symbol="ONGC", tier="TIER_A")
    shown = desk.chain("ONGC")["rows"]
    halves = 0
    for token, row in rows.items():
        strike = Decimal(str(row["strike"]))
        assert token == f"ONGC_24FEB2026_{strike.normalize():f}{row['option_type']}"
        place = int((strike - lowest) / Decimal(str(step)))
        assert row["security_id"] == first + 2 * place + (row["option_type"] == "PE"), "another contract"
        assert Decimal(str(shown[token]["ltp"])) % Decimal("0.05") == 0
        halves += strike % 1 != 0
    assert halves > 20


def test_16_one_number_in_two_segments(desk: Desk, times: Times) -> None:
    topic = f"quotes:{TWIN}_EQ,NIFTY_IDX"
    times.injected()
    assert desk.add(TWIN, instrument_type="EQUITY").status_code == 200
    with Screen(desk.service, topic) as screen:
        desk.wait("both", lambda: {row["state"] for row in screen.rows(topic).values()} == {"LIVE"})
        times.recovered()
        _moves_on(desk, screen, topic, "NIFTY_IDX")
        _moves_on(desk, screen, topic, f"{TWIN}_EQ")
        packets = {key: last_told(desk, key).ltp for key in ("NSE_EQ:13", "IDX_I:13")}
        shown = {token: row["ltp"] for token, row in screen.rows(topic).items()}
        assert abs(shown[f"{TWIN}_EQ"] / packets["NSE_EQ:13"] - 1) < 0.02
        assert abs(shown["NIFTY_IDX"] / packets["IDX_I:13"] - 1) < 0.02
        assert abs(packets["NSE_EQ:13"] / packets["IDX_I:13"] - 1) > 0.1, "prices too near to be told apart"
        body = {"user_id": 1, "symbol": TWIN}
        assert desk.service.post("/api/v2/watchlist/remove", body).json()["unsubscribed"] == 1
        desk.wait("the share off the wire", lambda: desk.wire()["NSE_EQ:13"] == 0)
        assert desk.wire()["IDX_I:13"] == 1
        _moves_on(desk, screen, topic, "NIFTY_IDX")


def _moves_on(desk: Desk, screen: Screen, topic: str, token: str) -> None:
    """It has a price that it had not: a row whose packets go elsewhere looks live for a while."""
    before = screen.rows(topic)[token]["ltp"]
    desk.wait(f"another price of {token}", lambda: screen.rows(topic)[token]["ltp"] != before)
