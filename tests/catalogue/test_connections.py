"""Faults of the connections to the exchange: mute, cut, displaced, refused."""

from __future__ import annotations

import json
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from websockets.sync.client import connect

from tests.catalogue.conftest import NewDesk
from tests.catalogue.desk import CONNECTIONS, QUICK, Desk, Screen, Times

RECOVERY_S = 30.0
NEXT_DAY = "2026-02-04"


def test_01_mute_socket_whose_pings_go_on(desk: Desk, times: Times) -> None:
    with Screen(desk.service, "events") as screen:
        before = desk.lines()
        times.injected()
        desk.fault(kind="mute", connection=before[0], seconds=600)
        event = desk.wait("the watchdog", lambda: screen.told("feed", state="down"))[0]
        times.noticed()
        assert event["data"]["reason"].startswith("no data for")
        ws = f"ws_{event['data']['ws_id']}"
        desk.wait("a fresh socket", lambda: screen.told("feed", ws_id=event["data"]["ws_id"], state="up"))
        assert before[0] not in desk.lines(), "the mute socket was kept"
        desk.wait("prices", desk.is_well)
        times.recovered()
        assert desk.connections()[ws]["last_error"].startswith("no data for")


def test_02_reset_without_a_close_frame(desk: Desk, times: Times) -> None:
    with Screen(desk.service, "events", "quotes:NIFTY_IDX,RELIANCE_EQ,TCS_EQ,INFY_EQ,ONGC_EQ,SBIN_EQ") as screen:
        times.injected()
        desk.fault({"kind": "refuse", "value": 503, "seconds": 600}, {"kind": "cut"})
        desk.wait("every connection down", lambda: len(_down(screen)) == CONNECTIONS)
        times.noticed()
        assert {each["data"]["reason"] for each in screen.told("feed", state="down")} == {"cut without a word"}
        assert desk.reasons() == [f"0 of {CONNECTIONS} feed connections are up"]
        assert desk.metric("bt_connection_up") == 0
        desk.wait("no old price shown as live", lambda: _states(screen) == {"GAP"})
        assert all(row["ltp"] for row in _quotes(screen).values()), "the last value is kept, and marked"
        assert "its feed was cut or mute since" in desk.why("RELIANCE_EQ")
        times.over()
        desk.heal()
        desk.wait("prices", desk.is_well)
        times.recovered()
        desk.wait("live again", lambda: _states(screen) == {"LIVE"})


def test_03_resets_that_repeat(desk: Desk, times: Times) -> None:
    opened = desk.stats("")["totals"]["opened"]
    with Screen(desk.service, "events") as screen:
        times.injected()
        for _ in range(4):
            oldest = desk.lines()[0]
            desk.fault(kind="cut", connection=oldest)
            desk.wait("its successor", lambda oldest=oldest: _has_successor(desk.lines(), oldest))
        times.noticed()
        desk.wait("prices", desk.is_well)
        times.recovered()
        lost, told = _down(screen), desk.connections()
    totals = desk.stats("")["totals"]
    assert totals["opened"] == opened + 4, "one new connection for each that was lost, no more"
    assert lost
    assert all(told[f"ws_{ws_id}"]["reconnect_attempts"] >= 1 for ws_id in lost)


def test_04_another_process_on_the_account(desk: Desk, times: Times) -> None:
    """Dhan drops the oldest connection for a sixth (805). Fighting back would take it from the other, for ever."""
    rival_url = f"{desk.service.simulator['feed_url']}/?version=2&token=x&clientId=simulated&authType=2"
    fewer = ["3 of 5 feed connections are up"]
    with Screen(desk.service, "events") as screen, ExitStack() as rivals:
        times.injected()
        for _ in range(2):
            rivals.enter_context(connect(rival_url, proxy=None, close_timeout=0))
        desk.wait("two sockets fewer", lambda: len(screen.told("feed", state="fewer_sockets")) >= 2)
        times.noticed()
        assert all("another process" in each["data"]["reason"] for each in screen.told("feed", state="fewer_sockets"))
        assert desk.reasons() == fewer
        desk.wait("their instruments on the others", lambda: desk.is_live() and desk.reasons() == fewer)
        rivals.close()
        times.over()
        desk.wait("all sockets", lambda: len(desk.lines()) == CONNECTIONS, RECOVERY_S)
        desk.wait("prices", desk.is_well, RECOVERY_S)
        times.recovered()
        assert min(_absences_ms(screen)) >= 1000 * float(QUICK["BT_CODE_805_DELAY_S"]), "a war over places"
        desk.wait("a share for each", lambda: all(line["instruments"] for line in desk.connections().values()))


class _Auth(BaseHTTPRequestHandler):
    """The broker's sign-in, which answers only when the test lets it."""

    may_answer = Event()

    def do_POST(self) -> None:
        self.may_answer.wait(30)
        body = json.dumps({"accessToken": "the second token", "expiryTime": "2026-02-05T08:00:00"}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def test_05_token_refused_until_there_is_a_new_one(new_desk: NewDesk, times: Times) -> None:
    _Auth.may_answer.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Auth) as auth:
        Thread(target=auth.serve_forever, daemon=True).start()
        desk = new_desk(
            DHAN_AUTH_URL=f"http://127.0.0.1:{auth.server_port}",
            DHAN_PIN="123456",
            DHAN_TOTP_SECRET="JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
        )
        with desk.service:
            desk.wait("prices", desk.is_live)
            with Screen(desk.service, "events") as screen:
                times.injected()
                desk.fault(kind="token_expiry")
                desk.wait("no usable token", lambda: len(screen.told("feed", state="waiting_for_token")) == 5)
                times.noticed()
                assert desk.reasons() == ["0 of 5 feed connections are up"]
                assert {line["last_error"] for line in desk.connections().values()} == {
                    "807: access token expired (807)"
                }
                refused = desk.stats("")["totals"]["refused"]
                _Auth.may_answer.set()
                times.over()
                desk.wait("prices", desk.is_well)
                times.recovered()
            assert desk.stats("")["totals"]["refused"] == refused, "it knocked with a dead token"
            assert "the second token" not in desk.service.log
        auth.shutdown()


def test_06_rate_limit_kept_over_a_restart(new_desk: NewDesk, times: Times) -> None:
    """A restart must not knock again: each knock makes the limit longer. A day later it is over."""
    desk = new_desk(BT_HTTP_429_DELAY_S="3600", BT_HTTP_429_DELAY_MAX_S="3600")
    desk.fault(kind="refuse", value=429, seconds=600)
    desk.service.start()
    times.injected()
    desk.wait("the limit", lambda: _all_are(desk, "rate_limited"))
    times.noticed()
    assert desk.reasons() == ["0 of 5 feed connections are up"]
    refused = desk.stats("")["totals"]["refused"]
    desk.service.kill()
    desk.heal()
    desk.service.start()
    desk.wait("it still waits", lambda: _all_are(desk, "rate_limited"))
    assert desk.add("TCS", underlying_ltp=3_100).status_code == 200, "lists do not wait for the feed"
    assert desk.stats("")["totals"]["refused"] == refused
    assert desk.lines() == []
    desk.service.kill()
    desk.service.settings["BT_SIM_DATE"] = NEXT_DAY
    desk.service.start()
    times.over()
    desk.wait("prices", desk.is_live)
    times.recovered()
    desk.service.stop()


def _all_are(desk: Desk, state: str) -> bool:
    return {line["state"] for line in desk.connections().values()} == {state}


def _has_successor(lines: list[int], gone: int) -> bool:
    return gone not in lines and len(lines) == CONNECTIONS


def _down(screen: Screen) -> set[int]:
    return {each["data"]["ws_id"] for each in screen.told("feed", state="down")}


def _absences_ms(screen: Screen) -> list[int]:
    """How long each connection that another took the place of stayed away."""
    feed = [(each["at_ms"], each["data"]) for each in screen.told("feed")]
    return [
        next(at_ms for at_ms, told in feed[place:] if told["ws_id"] == data["ws_id"] and told["state"] == "up")
        - since_ms
        for place, (since_ms, data) in enumerate(feed)
        if data["state"] == "fewer_sockets"
    ]


def _quotes(screen: Screen) -> dict[str, Any]:
    return next((screen.rows(topic) for topic in screen.mirrors if topic.startswith("quotes:")), {})


def _states(screen: Screen) -> set[str]:
    return {row["state"] for row in _quotes(screen).values()}
