"""A chain asked for as the service comes up waits for the first price of its underlying, and for nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.api.test_endpoints import ADD
from tests.api.test_errors import problem
from tests.api.world import running_world

CHAIN = {"symbol": "TCS", "expiry": "24FEB2026"}
ASKED: list[tuple[str, str, Any]] = [
    ("POST", "/watchlist/add", {**ADD, **CHAIN, "underlying_ltp": None}),
    ("POST", "/option-chain/subscribe", CHAIN),
    ("GET", "/option-chain/TCS?expiry=24FEB2026", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ASKED)
async def test_the_answer_waits_for_the_price(method: str, path: str, body: Any, snapshot: Path) -> None:
    due = True
    async with running_world(snapshot, first_prices_due=lambda: due) as world, world.client() as client:
        asking = asyncio.create_task(client.request(method, f"/api/v2{path}", json=body))
        await asyncio.sleep(0.1)
        assert not asking.done()
        world.bring_price("TCS", 3_100.0)
        answer = await asking
        assert answer.status_code == 200
        chain = answer.json().get("option_chain", answer.json())
        assert (chain["underlying_ltp"], chain["underlying_source"], chain["atm_strike"]) == (3_100.0, "live", 3_100.0)


@pytest.mark.parametrize(("method", "path", "body"), ASKED)
async def test_it_is_refused_once_none_is_about_to_come(method: str, path: str, body: Any, snapshot: Path) -> None:
    due = True
    async with running_world(snapshot, first_prices_due=lambda: due) as world, world.client() as client:
        asking = asyncio.create_task(client.request(method, f"/api/v2{path}", json=body))
        await asyncio.sleep(0.1)
        due = False
        problem(await asking, 409, "SPOT_UNKNOWN")
        assert world.services.watchlists.entries(1, None) == []
