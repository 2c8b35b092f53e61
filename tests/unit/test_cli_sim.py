"""The simulator as the command line starts it: reference prices, who follows whom, where it listens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from app.cli.sim import RegistryDirectory
from app.core.ids import Exchange, InstrumentKind
from app.market.instrument_master.registry import InstrumentRegistry
from app.market.instrument_master.scrip_csv import build_snapshot
from tests.masters import SMALL, small_registry
from tests.service import Service


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> InstrumentRegistry:
    return small_registry(tmp_path_factory.mktemp("master"))


def test_reference_prices_come_from_listed_strikes(registry: InstrumentRegistry) -> None:
    directory = RegistryDirectory(registry, seed=1)
    index = registry.index("NIFTY")
    assert index is not None
    strikes = registry.ladder("NIFTY", registry.expiries("NIFTY")[0]).strikes
    assert directory.reference_price(index) in strikes
    assert strikes[0] <= directory.reference_price(index) <= strikes[-1]


def test_prices_of_plain_shares_are_seeded(registry: InstrumentRegistry) -> None:
    plain = next(
        line
        for symbol in registry.symbols()
        if (line := registry.cash(symbol)) is not None and not registry.is_f_o_eligible(symbol)
    )
    first, again, other = (RegistryDirectory(registry, seed).reference_price(plain) for seed in (1, 1, 2))
    assert first == again != other
    assert 90 <= first <= 4_500


def test_options_follow_their_spot_and_spots_themselves(registry: InstrumentRegistry) -> None:
    directory = RegistryDirectory(registry, seed=1)
    option = next(each for each in registry.get_by_symbol("NIFTY") if each.kind is InstrumentKind.OPTION)
    index = registry.index("NIFTY")
    assert index is not None
    assert directory.underlying_of(option) == index
    assert directory.underlying_of(index) is None
    assert directory.instrument(option.key) == option


def test_commodity_futures_lead_themselves(registry: InstrumentRegistry) -> None:
    directory = RegistryDirectory(registry, seed=1)
    for symbol in registry.symbols():
        for future in registry.futures(symbol):
            if future.exchange is Exchange.MCX:
                assert directory.underlying_of(future) is None
                return
    pytest.fail("the fixture has no commodity future")


def test_the_simulator_says_where_it_listens(tmp_path: Path) -> None:
    build_snapshot(SMALL, tmp_path / "small.snapshot")
    child = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "sim", "--json", "--snapshot", str(tmp_path / "small.snapshot")],
        cwd=tmp_path,
        env=Service(tmp_path).environment(),
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        said = json.loads(child.stdout.readline())
        assert said["feed_url"].endswith(f":{said['port']}")
        assert httpx.get(said["control_url"] + "/stats", timeout=5).status_code == 200
    finally:
        child.terminate()
        assert child.wait(10) == 0
        assert child.stdout is not None
        child.stdout.close()
