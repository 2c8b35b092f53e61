"""``oi_change`` on a first day: against the broker's previous OI, asked for over REST, and said to be so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.service import Service

RELIANCE = {"user_id": 1, "symbol": "RELIANCE", "expiry": "26FEB2026", "instrument_type": "STOCK_OPTION"}
UNIVERSE = """
[[chain]]
symbol = "NIFTY"
nearest = 1
strikes = 21

[drivers]
fo_stocks = true
"""


def test_oi_change_is_against_the_brokers_figure_where_no_session_was_kept(
    new_service: Callable[..., Service], tmp_path: Any
) -> None:
    universe = tmp_path / "universe.toml"
    universe.write_text(UNIVERSE)
    with new_service(BT_TIER_B=str(universe)) as service:
        service.wait_for("spots", 60, lambda: service.post("/api/v2/watchlist/add", RELIANCE).status_code == 200)
        rows: dict[str, Any] = service.wait_for("a baseline", 60, lambda: _with_change(service))
        underlying = service.get("/api/v2/subscriptions/RELIANCE_EQ")["details"]["key"]
        segment, security_id = underlying.split(":")
        asked = {"UnderlyingScrip": int(security_id), "UnderlyingSeg": segment, "Expiry": "2026-02-26"}
        url = f"{service.simulator['control_url']}/v2/optionchain"
        refusals: list[Any] = []

        def ask() -> Any:
            answer = service.http.post(url, json=asked)
            if answer.status_code == 200:
                return answer.json()
            refusals.append((answer.status_code, answer.json()["errorCode"]))
            return None

        chain = service.wait_for("the exchange's turn", 10, ask)
        for token, row in rows.items():
            side, strike = token[-2:].lower(), float(token.rpartition("_")[2][:-2])
            before = chain["data"]["oc"][f"{strike:.6f}"][side]["previous_oi"]
            assert row["oi_basis"] == "rest"
            assert row["oi_change"] == row["oi"] - before
        assert ask() is None
        assert set(refusals) == {(429, "DH-904")}


def _with_change(service: Service) -> dict[str, Any]:
    rows = service.get("/api/v2/option-chain/RELIANCE", expiry="26FEB2026", quotes="true")["rows"]
    return {token: row for token, row in rows.items() if row["oi_change"] is not None}
