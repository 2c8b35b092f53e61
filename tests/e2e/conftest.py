"""The page in Debian's Chromium against the real service with its simulator.

Whatever the page writes to its console as a warning or an error, and every exception it lets out, fails the test that
caused it. ``BT_E2E_URL`` runs the tests that share a service against one that is running already.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from tests.e2e.desk import Desk
from tests.service import ROOT, Service, link_masters

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"


@pytest.fixture(scope="session")
def built_page() -> Path:
    page = ROOT / "app" / "web" / "index.html"
    if not page.is_file():
        pytest.skip("the page is not built: make web")
    return page


@pytest.fixture(scope="session")
def service(built_page: Path, tmp_path_factory: pytest.TempPathFactory, masters: Path) -> Iterator[Service]:
    """One service for the tests that leave it as they found it."""
    running = os.environ.get("BT_E2E_URL")
    shared = Service(tmp_path_factory.mktemp("service"))
    if running:
        shared.port = int(running.rstrip("/").rpartition(":")[2])
        yield shared
        return
    link_masters(shared, masters)
    with shared:
        yield shared


@pytest.fixture(scope="session")
def chromium_path() -> str:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no Chromium at {CHROMIUM}; CHROMIUM names another")
    return CHROMIUM


@pytest.fixture
async def browser(chromium_path: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        yield chromium
        await chromium.close()


@pytest.fixture
async def desk(browser: Browser, service: Service) -> AsyncIterator[Desk]:
    """The page of the shared service on a desktop screen, its chain live."""
    async with Desk.at(browser, service.url) as opened:
        yield opened
