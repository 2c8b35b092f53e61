"""``bt search``, ``chain`` and ``status``: tables of what a running service answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from app.cli.failure import CommandFailed, Exit
from app.cli.remote import Remote, in_path

DASH = "–"
UNBOUNDED = 1_000


def print_whole(console: Console, table: Table) -> None:
    """No number is cut for want of room: where the window is too narrow, lines wrap."""
    room = console.options.update(max_width=UNBOUNDED)
    console.width = max(console.width, console.measure(table, options=room).maximum)
    console.print(table)


def number(value: object, places: int = 2) -> str:
    """A number for people; a dash for what is not known."""
    if value is None:
        return DASH
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.{places}f}" if isinstance(value, float) else str(value)


def strike_text(value: float) -> str:
    return f"{value:,.4f}".rstrip("0").rstrip(".")


def search(remote: Remote, console: Console, text: str, limit: int) -> None:
    answer = remote.get("/api/v2/instruments/search", q=text, limit=limit)
    table = Table("symbol", "name", "contracts", "F&O", "match", title=f"{answer['count']} for {answer['query']!r}")
    for hit in answer["results"]:
        eligible = "yes" if hit["f_o_eligible"] else "no"
        table.add_row(hit.get("token") or hit["symbol"], hit["name"], number(hit["count"]), eligible, hit["match"])
    print_whole(console, table)


def viewers(remote: Remote, console: Console, since: str | None) -> None:
    answer = remote.get("/api/v2/admin/viewers", since=since)
    table = Table("day", "segment", "users", "addresses", title=f"since {answer['since']}")
    for line in answer["viewers"]:
        table.add_row(line["day"], line["segment"], number(line["users"]), number(line["addresses"]))
    print_whole(console, table)


def chain(remote: Remote, console: Console, symbol: str, expiry: str | None, exchange: str | None) -> None:
    """One option chain with live rows; without an expiry the nearest."""
    name = in_path(symbol)
    chosen = expiry or first_expiry(remote, symbol, exchange)
    answer = remote.get(f"/api/v2/option-chain/{name}", expiry=chosen, quotes="true", exchange=exchange)
    print_whole(console, chain_table(answer))
    console.print(summary_line(answer))


def first_expiry(remote: Remote, symbol: str, exchange: str | None = None) -> str:
    """The nearest one. Raises ``CommandFailed`` for a symbol without options."""
    expiries = remote.get(f"/api/v2/instruments/{in_path(symbol)}/expiries", exchange=exchange)["expiries"]
    if not expiries:
        raise CommandFailed(f"{symbol} has no option chain" + (f" on {exchange}" if exchange else ""), Exit.REFUSED)
    return str(expiries[0])


def chain_table(answer: Mapping[str, Any]) -> Table:
    """Calls left, puts right, the strike at the money marked."""
    title = f"{answer['symbol']} {answer['expiry']} ({answer['exchange']})"
    table = Table(title=title, caption=_caption(answer), box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for heading in ("OI", "IV", "LTP", "state"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("strike", justify="center", style="bold", no_wrap=True)
    for heading in ("state", "LTP", "IV", "OI"):
        table.add_column(heading, justify="left", no_wrap=True)
    rows = answer.get("rows") or {}
    for strike in answer["strikes"]:
        pair = answer["strikes_ce_pe"].get(strike_key(strike), {})
        call, put = (rows.get(pair.get(side), {}) for side in ("CE", "PE"))
        marked = f"▶ {strike_text(strike)}" if strike == answer["atm_strike"] else strike_text(strike)
        table.add_row(*_cells(call), marked, *reversed(_cells(put)))
    return table


def strike_key(strike: float) -> str:
    return f"{strike:.4f}".rstrip("0").rstrip(".")


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [
        number(row.get("oi")),
        number(row.get("iv")),
        number(row.get("ltp")),
        str(row.get("state") or DASH),
    ]


def _caption(answer: Mapping[str, Any]) -> str:
    source, age_ms = answer["underlying_source"], answer.get("underlying_age_ms")
    age = "" if age_ms is None else f", {age_ms / 1000:.1f} s old"
    return f"underlying {number(answer['underlying_ltp'])} ({source}{age})"


def summary_line(answer: Mapping[str, Any]) -> str:
    summary = answer.get("summary") or {}
    coverage = answer.get("coverage") or {}
    told = [f"PCR {number(summary.get('pcr'))}", f"max pain {number(summary.get('max_pain'))}"]
    told.append(f"straddle {number(summary.get('straddle'))}")
    told.extend(f"{name.replace('_', ' ')} {value}" for name, value in coverage.items())
    return " · ".join(told)


def status(remote: Remote, console: Console) -> None:
    health = remote.get("/health")
    console.print(f"{health['status']}" + "".join(f"\n  - {reason}" for reason in health["reasons"]))
    answer = remote.get("/api/v2/subscriptions/status")
    counts = answer["subscriptions"]
    console.print(
        f"{number(counts['total_subscriptions'])} of {number(counts['max_capacity'])} instruments"
        f" ({counts['utilization_percent']:.1f} %): {number(counts['tier_a_count'])} Tier A,"
        f" {number(counts['tier_b_count'])} Tier B"
    )
    console.print(", ".join(f"{state} {number(count)}" for state, count in counts["states"].items() if count))
    print_whole(console, connections_table(answer["websocket"]["per_connection"]))


def connections_table(connections: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("socket", "state", "instruments", "full %", "last data", "reconnects", "last error")
    for name, line in connections.items():
        age_ms = line["last_data_age_ms"]
        age = DASH if age_ms is None else f"{age_ms / 1000:.1f} s ago"
        full = number(float(line["utilization_percent"]), 1)
        again = str(line["reconnect_attempts"])
        table.add_row(name, line["state"], number(line["instruments"]), full, age, again, line["last_error"] or DASH)
    return table
