"""The session's minutes come from the running service, over a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.durability.small_service import UNIVERSE
from tests.service import Service


def test_the_minutes_of_a_session_survive_a_restart(new_service: Callable[..., Service], tmp_path: Any) -> None:
    universe = tmp_path / "universe.toml"
    universe.write_text(UNIVERSE)
    service = new_service(BT_TIER_B=str(universe))
    with service:
        expiry = service.get("/api/v2/instruments/NIFTY/expiries")["expiries"][0]
        first = service.wait_for("a price", 60, lambda: _bars(service, expiry, lambda told: told["count"] > 0))
        assert first["underlying"] == "NIFTY_IDX"
        assert first["low"][0] <= first["open"][0] <= first["high"][0]
        assert first["partial"] is True
        assert service.get("/api/v2/bars/NIFTY")["chain"] is None
        unknown = service.http.get(f"{service.url}/api/v2/bars/NOSUCH")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "INSTRUMENT_UNKNOWN")
    with service:
        again = service.wait_for("bars", 30, lambda: _bars(service, expiry, lambda told: told["count"] > 0))
        assert again["start_ms"] == first["start_ms"]
        assert again["open"][0] == first["open"][0]


def _bars(service: Service, expiry: str, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    told: dict[str, Any] = service.get("/api/v2/bars/NIFTY", expiry=expiry)
    return told if good(told) else None
