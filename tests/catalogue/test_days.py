"""Faults of time and of the day's files: days off, a host that was off, bad masters, clocks that step."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import datetime, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.catalogue.desk import ALWAYS_ON, DAY, QUICK, Desk, Screen, Times, write_files
from tests.service import Service

NewService = Callable[..., Service]
SMALL = ("-m", "tests.durability.small_service")
SATURDAY, HOLIDAY, DAY_BEFORE, TRADING_DAY = "2026-01-24", "2026-01-26", "2026-01-27", "2026-01-28"
END_OF_DAY = time(15, 30)
BEFORE_MUHURAT, MUHURAT_ENDS = "2026-11-07", "2026-11-08T19:00"
EVENING_ONLY, DAY_AFTER = "2026-03-03", "2026-03-04"
IST_IN_S = 19_800


@pytest.fixture
def own(new_service: NewService, tmp_path: Path) -> Service:
    """A small service on the exchanges' own calendar, not started; its master is its own."""
    files = write_files(tmp_path / "files")
    return new_service(command=SMALL, **{**QUICK, **files, "BT_SIM_HOURS": "market"})


def on(service: Service, day: str) -> Desk:
    service.settings["BT_SIM_DATE"] = day
    return Desk(service.start())


def test_19_end_of_day_while_the_host_was_off(own: Service, times: Times) -> None:
    """A weekend and a holiday end nothing; the first trading day that ended unseen is made up for, once."""
    saturday = on(own, SATURDAY)
    assert saturday.add("TCS", underlying_ltp=3_100).status_code == 200
    assert own.get("/health")["eod"]["next"].startswith("2026-01-27")
    own.stop()
    assert len(on(own, HOLIDAY).listed()) == 1
    own.kill()
    times.injected()
    is_evening = datetime.now(ZoneInfo("Asia/Kolkata")).time() >= END_OF_DAY  # the clock keeps the time of day
    late = on(own, TRADING_DAY)
    times.noticed()
    assert late.listed() == []
    assert own.status()["tier_a_count"] == 0
    times.recovered()
    told = [line["reason"] for line in own.get("/api/v2/subscriptions/log", action="EOD_CLEANUP")["log"]]
    assert [line for line in told if " entries cleared" in line and ": 0 entries" not in line] == [
        f"EOD:ALL:{TRADING_DAY if is_evening else DAY_BEFORE}: 1 entries cleared, 0 kept, 50 instruments released"
    ]
    own.stop()


def test_19_muhurat_and_the_commodity_evening(own: Service, times: Times) -> None:
    """The page's badge says when the lists go: after Muhurat's hour, and not on a day that only MCX trades."""
    master = Path(own.settings["BT_INSTRUMENT_MASTER"])
    text = master.read_text()
    own.settings["BT_EOD_TIME"] = "NSE=15:40,BSE=15:40,MCX=23:55"
    times.injected()
    on(own, EVENING_ONLY)
    holi = own.get("/health")["eod"]
    own.stop()
    master.write_text(text.replace("2026-02-", "2026-11-").replace("2026-03-", "2026-12-"))
    on(own, BEFORE_MUHURAT)
    muhurat = own.get("/health")["eod"]
    times.recovered()
    own.stop()
    assert holi["exchanges"] == ["MCX"] or holi["next"].startswith(DAY_AFTER)
    assert muhurat["next"].startswith(MUHURAT_ENDS)
    assert set(muhurat["exchanges"]) <= {"NSE", "BSE"}


class _Download(BaseHTTPRequestHandler):
    """Where the master is fetched from each day; a test says what lies there."""

    text = ""

    def do_GET(self) -> None:
        body = self.text.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def short(text: str) -> str:
    """Whole lines, but few of them."""
    return "\n".join(text.splitlines()[:40]) + "\n"


def cut(text: str) -> str:
    return text[: len(text) * 2 // 3]


def doubled(text: str) -> str:
    """The same contract twice."""
    return text + text.splitlines()[100] + "\n"


SPOILT = ((short, "far fewer than the"), (cut, "cut short"), (doubled, "share a key"))


def test_20_bad_master_files(own: Service, times: Times) -> None:
    """Refused by name, and yesterday's serves on."""
    good = Path(own.settings["BT_INSTRUMENT_MASTER"]).read_text()
    _Download.text = good
    with ThreadingHTTPServer(("127.0.0.1", 0), _Download) as far:
        Thread(target=far.serve_forever, daemon=True).start()
        own.settings |= {
            "BT_SIM_HOURS": "always",
            "BT_INSTRUMENT_MASTER": f"http://127.0.0.1:{far.server_port}/master.csv",
        }
        desk = on(own, DAY)
        rows = own.get("/api/v2/admin/registry")["rows"]
        desk.wait("prices", desk.is_live)
        desk.added("TCS")
        own.stop()
        for spoil, said in SPOILT:
            _Download.text = spoil(good)
            times.injected()
            own.start()
            (reason,) = desk.wait(f"the {spoil.__name__} file refused", lambda: _about_the_master(desk))
            times.noticed()
            assert "an earlier one is in use" in reason
            assert said in reason
            report = own.get("/api/v2/admin/registry")
            assert (report["rows"], said in report["last_refused"]) == (rows, True)
            desk.wait("prices", lambda: desk.states("TCS")["LIVE"] == 50)
            times.recovered()
            own.stop()
        far.shutdown()


def _about_the_master(desk: Desk) -> list[str]:
    return [reason for reason in desk.reasons() if "master" in reason]


def test_22_exchange_time_an_hour_zone_or_a_day_off(desk: Desk, times: Times) -> None:
    """UTC for IST is what is most often wrong. Future times are not believed, past ones overwrite nothing."""
    for shift, counter in (
        (-IST_IN_S, "bt_feed_superseded_total"),
        (IST_IN_S, "bt_feed_bad_time_total"),
        (86_400, "bt_feed_bad_time_total"),
    ):
        before = desk.metric(counter)
        times.injected()
        desk.fault(kind="time_shift", value=shift, seconds=600)
        desk.wait(counter, lambda counter=counter, before=before: desk.metric(counter) > before + ALWAYS_ON)
        times.noticed()
        desk.heal()
        times.over()
        applied = desk.metric("bt_feed_applied_total")
        superseded = desk.metric("bt_feed_superseded_total")
        desk.wait("prices", lambda applied=applied: desk.metric("bt_feed_applied_total") > applied + 4 * ALWAYS_ON)
        times.recovered()
        assert desk.metric("bt_feed_superseded_total") - superseded <= ALWAYS_ON, "prices stand still"
        assert desk.is_live()


AHEAD, BACK = signal.SIGUSR1, signal.SIGUSR2


@pytest.mark.parametrize(("way", "home"), [(AHEAD, BACK), (BACK, AHEAD)])
def test_22_the_hosts_clock_is_set_by_less_than_an_hour(desk: Desk, times: Times, way: int, home: int) -> None:
    """It is followed without a jump: nothing looks silent that is not, and what is mute does not look alive."""
    assert desk.service.process is not None
    desk.added("TCS")
    desk.wait("live", lambda: desk.states("TCS") == {"LIVE": 50})
    opened = desk.stats("")["totals"]["opened"]
    with Screen(desk.service, "events") as screen:
        times.injected()
        desk.service.process.send_signal(way)
        applied = _applied(desk)
        desk.wait("new prices", lambda: _applied(desk) > applied + 10 * ALWAYS_ON)
        assert desk.is_well()
        times.recovered()
        assert screen.told("feed") == []
        assert desk.stats("")["totals"]["opened"] == opened
        desk.fault(kind="mute", connection=desk.lines()[0], seconds=600)
        desk.wait("the watchdog", lambda: screen.told("feed", state="down"))
        times.noticed()
    desk.service.process.send_signal(home)


def _applied(desk: Desk) -> float:
    return desk.metric("bt_feed_applied_total")
