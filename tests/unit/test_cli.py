"""The command line: exit codes, one-line failures, tables, accounts."""

from __future__ import annotations

import io
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from app.cli import show, users
from app.cli.failure import CommandFailed, Exit
from app.cli.program import own_url, run
from app.cli.remote import Remote, in_path
from app.cli.watch import View, stream_url, topic_of
from app.ports.store import Role
from app.rest.auth import Authenticator
from app.rest.passwords import NO_LOGIN
from app.settings import Settings
from app.storage.memory_store import MemoryStore
from tests.api.support import HandClock, cheap_passwords

ROOT = Path(__file__).resolve().parents[2]
Handler = Callable[[httpx.Request], httpx.Response]


def bt(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def remote_of(handler: Handler, token: str | None = None) -> Remote:
    return Remote("http://127.0.0.1:8000", token, httpx.MockTransport(handler))


def text_of(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# -- command lines


def test_help_names_every_command(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = bt(capsys, "--help")
    assert code == 0
    for name in ("serve", "sim", "doctor", "search", "chain", "watch", "status", "migrate", "backup", "restore"):
        assert f"  {name} " in out
    assert "  bench " in out
    assert "  user " in out


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["search", "x", "--limit", "0"], ["chain"], ["sim", "--port", "x"]]
)
def test_bad_command_lines_are_one_line(place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, _, err = bt(capsys, *arguments)
    assert code == Exit.USAGE
    assert err.startswith("bt: ")
    assert err.count("\n") == 1


def test_a_bad_setting_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BT_PORT", "seventy")
    code, _, err = bt(capsys, "status")
    assert code == Exit.FAILED
    assert err.startswith("bt: BT_PORT was 'seventy'")
    assert err.count("\n") == 1


def test_no_service_is_one_line_and_its_own_code(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = bt(capsys, "status", "--url", "http://127.0.0.1:9")
    assert code == Exit.UNREACHABLE
    assert "bt serve" in err
    assert err.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = bt(capsys, "serve", "--port", str(port))
    assert (code, out) == (Exit.FAILED, "")
    assert f"BT_PORT {port}" in err
    assert err.count("\n") == 1


def test_a_start_that_fails_has_the_code_of_a_failure(place: Path) -> None:
    (place / "universe.toml").write_text("[[chain]]\nsymbol = 'NIFTY'\nweekly = 'two'\n")
    told = {"BT_TIER_B": "universe.toml", "BT_FEED": "off", "BT_PORT": "0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "app.cli", "serve"]
    done = subprocess.run(command, cwd=place, env=os.environ | told, capture_output=True, text=True, timeout=60)
    assert done.returncode == Exit.FAILED
    assert "weekly is 'two'" in done.stderr


def test_a_database_that_is_away_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BT_DATABASE_URL", "postgresql+asyncpg://bt:hushed@127.0.0.1:1/bt")
    for arguments in (["migrate"], ["user", "list"]):
        code, out, err = bt(capsys, *arguments)
        assert (code, out, err) == (Exit.FAILED, "", "bt: the database cannot be reached\n")


def test_bench_says_where_benchmarks_are(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.program.__file__", str(place / "app" / "cli" / "program.py"))
    code, _, err = bt(capsys, "bench")
    assert code == Exit.FAILED
    assert "source checkout" in err


def test_the_module_runs_as_a_program(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "migrate"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("schema ")
    with sqlite3.connect(place / "app.db") as opened:
        tables = {row[0] for row in opened.execute("SELECT name FROM sqlite_master")}
    opened.close()
    assert {"watchlist", "subscriptions", "atm_cache", "subscription_log", "users"} <= tables


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("desk.example", "http://desk.example:8000"),
    ],
)
def test_where_the_service_is_reached(place: Path, host: str, url: str) -> None:
    assert own_url(Settings(bt_host=host)) == url


# -- talking to a service


def test_problems_become_one_line() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        return httpx.Response(404, json={"code": "EXPIRY_UNKNOWN", "detail": "no such day", "valid": ["26FEB2026"]})

    with remote_of(refuse) as remote, pytest.raises(CommandFailed) as caught:
        remote.get("/x")
    assert caught.value.line == "EXPIRY_UNKNOWN: no such day; valid: 26FEB2026"
    assert caught.value.exit_code is Exit.REFUSED


def test_an_answer_that_is_no_json_is_a_failure() -> None:
    with remote_of(lambda _: httpx.Response(502, text="<html>")) as remote, pytest.raises(CommandFailed, match="502"):
        remote.get("/x")


def test_the_token_goes_into_the_header_and_nowhere_else() -> None:
    seen: list[httpx.Request] = []

    def note(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    with remote_of(note, "secret-token") as remote:
        remote.get("/x", q="y", none=None)
    assert seen[0].headers["authorization"] == "Bearer secret-token"
    assert str(seen[0].url) == "http://127.0.0.1:8000/x?q=y"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("--url", "http://127.0.0.1:port"), "--url was 'http://127.0.0.1:port'"),
        (("--url", "http://[::1"), "--url was 'http://[::1'"),
        (("--token", "é"), "characters that no token has"),
        (("--token", "a.b.c\n"), "characters that no token has"),
    ],
)
def test_what_cannot_be_an_address_or_a_token_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], asked: tuple[str, str], told: str
) -> None:
    code, _, said = bt(capsys, "status", *asked)
    assert code == Exit.FAILED
    assert told in said
    assert len(said.splitlines()) == 1
    assert "a.b.c" not in said


def test_symbols_are_quoted_in_paths() -> None:
    assert in_path("M&M") == "M%26M"
    assert in_path("NIFTY 50") == "NIFTY%2050"


CHAIN: dict[str, Any] = {
    "symbol": "NIFTY",
    "expiry": "26FEB2026",
    "exchange": "NSE",
    "underlying_ltp": 25012.3,
    "underlying_source": "live",
    "underlying_age_ms": 1_500,
    "atm_strike": 25000.0,
    "strikes": [24950.0, 25000.0, 25050.5],
    "strikes_ce_pe": {"24950": {"CE": "a", "PE": "b"}, "25000": {"CE": "c", "PE": None}, "25050.5": {}},
    "rows": {"c": {"ltp": 101.5, "oi": 1_234_567, "iv": 12.5, "state": "LIVE"}},
    "summary": {"pcr": 0.91, "max_pain": None},
    "coverage": {"live": 1, "never_traded": 4},
}


def test_a_chain_shows_dashes_for_what_is_unknown() -> None:
    shown = text_of(show.chain_table(CHAIN))
    assert "▶ 25,000" in shown
    assert "25,050.5" in shown
    assert "1,234,567" in shown
    assert show.DASH in shown
    assert "25,012.30 (live, 1.5 s old)" in shown
    assert (
        show.summary_line(CHAIN) == f"PCR 0.91 · max pain {show.DASH} · straddle {show.DASH} · live 1 · never traded 4"
    )


def test_without_an_expiry_the_nearest_is_shown() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json={"expiries": ["26FEB2026"]} if "expiries" in request.url.path else CHAIN)

    with remote_of(answer) as remote:
        show.chain(remote, Console(file=io.StringIO()), "M&M", None, None)
    assert asked[0].endswith("/api/v2/instruments/M%26M/expiries")
    assert "expiry=26FEB2026" in asked[1]
    assert "/option-chain/M%26M" in asked[1]


# -- the stream


def test_a_view_takes_snapshots_deltas_and_notices() -> None:
    view = View("chain:NIFTY:26FEB2026")
    view.take({"type": "snapshot", "seq": 4, "data": {"rows": {"a": {"ltp": 1.0}, "b": {"ltp": 2.0}}}})
    view.take({"type": "delta", "seq": 5, "data": {"rows": {"a": {"ltp": 1.5}, "b": None}, "summary": {"pcr": 1.2}}})
    view.take({"type": "event", "kind": "evicted", "data": {"symbol": "TCS"}})
    assert view.rows == {"a": {"ltp": 1.5}}
    assert view.seq == 5
    shown = text_of(view.table())
    assert "1.50" in shown
    assert "pcr 1.20" in shown
    assert "evicted: symbol TCS" in shown
    view.take({"type": "snapshot", "seq": 9, "data": {"rows": {"c": {}}}})
    assert list(view.rows) == ["c"]


def test_a_topic_without_rows_is_shown_member_by_member() -> None:
    view = View("depth:RELIANCE_EQ")
    book = {"bids": [{"price": 2640.5, "qty": 26}, {"price": 2640.0, "qty": 3}], "asks": [], "state": "LIVE"}
    view.take({"type": "snapshot", "seq": 1, "data": book})
    view.take({"type": "delta", "seq": 2, "data": {"bids": [{"price": 2641.0, "qty": 9}]}})
    assert [line.split() for line in text_of(view.table()).splitlines()[4:7]] == [
        ["bids", "1", "price", "2,641.00"],
        ["bids", "1", "qty", "9"],
        ["state", "LIVE"],
    ]
    view = View("status")
    view.take({"type": "snapshot", "seq": 1, "data": {"websocket": {"ws_1": {"state": "up", "instruments": 5}}}})
    view.take({"type": "delta", "seq": 2, "data": {"websocket": {"ws_1": {"instruments": 6}}}})
    assert view.members == {"websocket": {"ws_1": {"state": "up", "instruments": 6}}}


@pytest.mark.parametrize("width", [40, 80])
def test_no_number_of_a_table_is_cut_in_a_narrow_window(width: int) -> None:
    row = {"oi": 12_345_678, "iv": 123.45, "ltp": 12_345.65, "state": "NOT_SUBSCRIBED"}
    answer = {
        "symbol": "NIFTY", "expiry": "26FEB2026", "exchange": "NSE", "underlying_ltp": 25_012.3,
        "underlying_source": "live", "atm_strike": 25_000.0, "strikes": [25_000.0], "rows": {"c": row, "p": row},
        "strikes_ce_pe": {"25000": {"CE": "c", "PE": "p"}},
    }  # fmt: skip
    console = Console(file=io.StringIO(), width=width)
    show.print_whole(console, show.chain_table(answer))
    assert isinstance(console.file, io.StringIO)
    assert "…" not in console.file.getvalue()
    assert console.file.getvalue().count("12,345,678") == 2


def test_a_long_chain_is_shown_around_the_money() -> None:
    view = View("chain:NIFTY:26FEB2026")
    rows = {f"NIFTY_26FEB2026_{strike}{side}": {} for strike in range(20_000, 30_100, 100) for side in ("CE", "PE")}
    view.take({"type": "snapshot", "seq": 1, "data": {"rows": rows, "summary": {"atm_strike": 25_000.0}}})
    shown = text_of(view.table())
    assert "NIFTY_26FEB2026_25000CE" in shown
    assert "NIFTY_26FEB2026_20000CE" not in shown
    assert f"{len(rows) - 40} more rows" in shown
    view.summary["atm_strike"] = 30_000.0
    assert "NIFTY_26FEB2026_30000PE" in text_of(view.table())


def test_a_refused_topic_ends_the_watch() -> None:
    with pytest.raises(CommandFailed, match="TOPIC_UNKNOWN"):
        View("x").take({"type": "error", "code": "TOPIC_UNKNOWN", "detail": "no"})


def test_the_nearest_expiry_is_that_of_the_exchange_asked_for() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        days = {"BSE": ["05FEB2026"], "MCX": []}.get(request.url.params.get("exchange", ""), ["03FEB2026"])
        return httpx.Response(200, json={"symbol": "SENSEX", "expiries": days})

    with remote_of(answer) as remote:
        assert show.first_expiry(remote, "SENSEX") == "03FEB2026"
        assert show.first_expiry(remote, "SENSEX", "BSE") == "05FEB2026"
        with pytest.raises(CommandFailed, match="SENSEX has no option chain on MCX"):
            show.first_expiry(remote, "SENSEX", "MCX")


@pytest.mark.parametrize(
    ("words", "topic"),
    [
        (["chain:NIFTY:26FEB2026"], "chain:NIFTY:26FEB2026"),
        (["status"], "status"),
        (["NIFTY_IDX", "RELIANCE_EQ"], "quotes:NIFTY_IDX,RELIANCE_EQ"),
        (["NIFTY_IDX,RELIANCE_EQ"], "quotes:NIFTY_IDX,RELIANCE_EQ"),
        (["nifty 50", "26FEB2026"], "chain:NIFTY:26FEB2026"),
        (["nifty 50"], "chain:NIFTY:03FEB2026"),
    ],
)
def test_what_a_person_means_by_a_topic(words: list[str], topic: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        expiries = {"expiries": ["03FEB2026", "10FEB2026"]}
        return httpx.Response(200, json=expiries if request.url.path.endswith("expiries") else {"symbol": "NIFTY"})

    with remote_of(answer) as remote:
        assert topic_of(remote, words) == topic


def test_the_stream_has_the_services_scheme() -> None:
    assert stream_url("https://desk.example") == "wss://desk.example/api/v2/stream"


# -- accounts


def test_accounts_from_the_command_line(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = bt(capsys, "user", "add", "root", "--admin")
    assert code == 0
    assert "(admin), password " in out
    monkeypatch.setattr(sys, "stdin", io.StringIO("a long password\n"))
    assert bt(capsys, "user", "add", "asha", "--password-stdin")[1] == "user 2: asha (user)\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert bt(capsys, "user", "add", "ravi", "--password-stdin")[0] == Exit.FAILED
    assert "is the last admin" in bt(capsys, "user", "disable", "root")[2]
    assert bt(capsys, "user", "disable", "asha")[0] == 0
    shown = bt(capsys, "user", "list")[1]
    assert "disabled" in shown
    assert "argon2" not in shown
    assert "there is a user" in bt(capsys, "user", "add", "asha")[2]
    assert "there is no user" in bt(capsys, "user", "passwd", "nobody")[2]


async def test_a_new_password_and_a_lockout_end_tokens() -> None:
    clock = HandClock()
    store = MemoryStore(clock)
    await store.start()
    passwords = cheap_passwords()
    auth = Authenticator(store, clock, "secret", passwords=passwords)
    _, made_up = await users.add(store, passwords, clock, "asha", Role.USER, None)
    scope = {"client": ("127.0.0.1", 1), "headers": []}
    before = (await auth.sign_in("asha", made_up, scope)).access_token
    assert await users.set_password(store, passwords, clock, "asha", "another password") == "another password"
    for token in (before,):
        with pytest.raises(Exception, match="revoked"):
            await auth.authenticate(token)
    after = (await auth.sign_in("asha", "another password", scope)).access_token
    await users.disable(store, clock, "asha")
    with pytest.raises(Exception, match="revoked"):
        await auth.authenticate(after)
    user = await store.user_by_name("asha")
    assert user is not None
    assert users.sign_in_of(user) == "disabled"
    assert user.password_hash == NO_LOGIN


# -- backups


def test_backups_from_the_command_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bt(capsys, "backup", "one.db")[2] == "bt: there is no database app.db\n"
    bt(capsys, "user", "add", "asha")
    code, out, _ = bt(capsys, "backup", "one.db")
    assert code == 0
    assert "users 1" in out
    assert bt(capsys, "restore", "one.db")[0] == Exit.FAILED
    assert bt(capsys, "restore", "one.db", "--overwrite")[1] == "restored: users 1, access_log 1\n"
