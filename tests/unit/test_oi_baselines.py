"""Which chains the broker is asked for, and when again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import date
from importlib.resources import files
from pathlib import Path

from app.core.ids import OptionType
from app.core.instruments import Instrument
from app.core.sessions import Calendar, parse_exchange_days
from app.market.live_prices import LivePrices
from app.market.oi_baselines import OiBaselines
from app.market.wishes import Wish
from app.sim.loop import SimLoop
from tests.masters import small_registry
from tests.tiny_market import IST
from tests.unit.venue import LoopClock, virtually

EXPIRY = date(2026, 2, 24)


class Desk:
    """Some legs of a chain wished, and a broker that tells of all of it and counts the questions."""

    def __init__(self, loop: SimLoop, directory: Path) -> None:
        registry = small_registry(directory)
        self.chain = registry.get_option_chain("RELIANCE", EXPIRY)
        self.board, self.clock = LivePrices(), LoopClock(loop)
        self.wished: list[Instrument] = []
        self.asked = 0
        days = parse_exchange_days((files("app.core") / "calendars" / "nse.toml").read_text())
        calendar = Calendar([days], IST)
        self.baselines = OiBaselines(self.board, registry, self._wishes, calendar, self.clock, self._ask, (), 3.1)

    def _wishes(self) -> Iterable[Wish]:
        return [Wish(each, 0, self.clock.now()) for each in self.wished]

    async def _ask(self, underlying: Instrument, expiry: date) -> Mapping[tuple[float, OptionType], int]:
        self.asked += 1
        return {(each.strike, each.option_type): 100 for each in self.chain if each.strike and each.option_type}

    def lacking(self) -> list[Instrument]:
        return [each for each in self.wished if self.board.lacks_baseline(each)]

    def new_session(self) -> None:
        self.board.new_session(self.chain[0].key.segment, None)


def test_legs_that_a_window_takes_in_later_were_told_with_the_chain(tmp_path: Path) -> None:
    async def body(loop: SimLoop) -> None:
        desk = Desk(loop, tmp_path)
        task = loop.create_task(desk.baselines.run())
        desk.wished = desk.chain[:4]
        await asyncio.sleep(60)
        assert (desk.asked, desk.lacking()) == (1, [])
        desk.wished = desk.chain[2:8]
        await asyncio.sleep(120)
        assert (desk.asked, desk.lacking()) == (1, [])
        task.cancel()

    virtually(body)


def test_what_was_told_before_a_session_is_asked_for_again_in_it(tmp_path: Path) -> None:
    async def body(loop: SimLoop) -> None:
        desk = Desk(loop, tmp_path)
        task = loop.create_task(desk.baselines.run())
        await asyncio.sleep(22 * 3_600 + 50 * 60)  # from ten in the morning to ten before nine
        desk.wished = desk.chain[:4]
        await asyncio.sleep(900)
        assert desk.asked == 1, "nothing is lacking"
        desk.new_session()
        await asyncio.sleep(60)
        assert (desk.asked, desk.lacking()) == (2, [])
        task.cancel()

    virtually(body)
