"""A chain asked for as the service comes up waits for the first price of its underlying, and for nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.test_endpoints import ADD
from tests.api.test_errors import problem
from tests.api.world import World, running_world

CHAIN = {"symbol": "TCS", "expiry": "24FEB2026"}
ASKED: list[tuple[str, str, Any]] = [
    ("POST", "/watchlist/add", {**ADD, **CHAIN, "underlying_ltp": None}),
    ("POST", "/option-chain/subscribe", CHAIN),
    ("GET", "/option-chain/TCS?expiry=24FEB2026", None),
]


@dataclass
class Asked:
    """A request that waits, and whether it may."""

    world: World
    answer: asyncio.Task[httpx.Response]
    due: bool = True


@pytest.fixture(params=ASKED, ids=lambda asked: asked[1])
async def asked(request: pytest.FixtureRequest, snapshot: Path) -> AsyncIterator[Asked]:
    method, path, body = request.param
    async with running_world(snapshot, first_prices_due=lambda: made.due) as world, world.client() as client:
        asking = asyncio.create_task(client.request(method, f"/api/v2{path}", json=body))
        made = Asked(world, asking)
        await asyncio.sleep(0.1)
        yield made


async def test_the_answer_waits_for_the_price(asked: Asked) -> None:
    assert not asked.answer.done()
    asked.world.bring_price("TCS", 3_100.0)
    answer = await asked.answer
    assert answer.status_code == 200
    chain = answer.json().get("option_chain", answer.json())
    assert (chain["underlying_ltp"], chain["underlying_source"], chain["atm_strike"]) == (3_100.0, "live", 3_100.0)


async def test_it_is_refused_once_none_is_about_to_come(asked: Asked) -> None:
    asked.due = False
    problem(await asked.answer, 409, "SPOT_UNKNOWN")
    assert asked.world.services.watchlists.entries(1, None) == []
