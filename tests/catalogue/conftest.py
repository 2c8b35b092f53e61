"""One service for the faults that leave it running; an exchange of its own for those that outlive the service."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.catalogue.desk import QUICK, TIMES_FILE, Desk, Exchange, Times, write_files
from tests.service import Service, link_masters

COMMAND = ("-m", "tests.catalogue.steered_service")
LIVE_S = 60.0


@pytest.fixture(scope="package")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The settings of a small service: its master and its universe."""
    return {**QUICK, **write_files(tmp_path_factory.mktemp("files"))}


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory, files: dict[str, str], masters: Path) -> Iterator[Desk]:
    """The service that the tests share; :func:`desk` sees to it that each finds it well and leaves it well."""
    service = Service(tmp_path_factory.mktemp("catalogue"), files, COMMAND)
    link_masters(service, masters)
    with service:
        desk = Desk(service)
        desk.wait("the first prices", desk.is_well, LIVE_S)
        yield desk
        desk.http.close()


@pytest.fixture
def desk(shared: Desk) -> Iterator[Desk]:
    """A service with nothing wrong and nothing added, which must come back to that by itself."""
    yield shared
    shared.heal()
    shared.clear()
    shared.wait("all well again", shared.is_well, LIVE_S)
    assert "a task failed" not in shared.service.log


NewDesk = Callable[..., Desk]


@pytest.fixture
def new_desk(tmp_path: Path, files: dict[str, str], masters: Path) -> Iterator[NewDesk]:
    """Make a service of the test's own, not started, on an exchange of its own, as on a broker's account."""
    closing: list[Callable[[], object]] = []

    def make(**settings: str) -> Desk:
        home = Service(tmp_path / "exchange", {**files, **settings, "BT_FEED": "simulator"})
        link_masters(home, masters)
        exchange = Exchange(home.environment())
        account = {
            "BT_FEED": "dhan",
            "DHAN_CLIENT_ID": "1000000001",
            "DHAN_ACCESS_TOKEN": "the first token",
            "DHAN_FEED_URL": exchange.feed_url,
            "DHAN_API_URL": f"{exchange.control_url}/v2",
        }
        service = Service(tmp_path / "service", {**files, **account, **settings}, COMMAND)
        link_masters(service, masters)
        desk = Desk(service, exchange.control_url)
        closing.extend((exchange.stop, desk.http.close, service.http.close, lambda: _end(service)))
        return desk

    yield make
    for close in reversed(closing):
        close()


def _end(service: Service) -> None:
    if service.process is not None and service.process.poll() is None:
        service.kill()


@pytest.fixture
def times(request: pytest.FixtureRequest) -> Iterator[Times]:
    """A stopwatch; where the report asks for it, what it showed is kept."""
    watch = Times()
    yield watch
    target = os.environ.get(TIMES_FILE)
    if target is not None and watch.recover_s is not None:
        with Path(target).open("a") as kept:
            kept.write(json.dumps({"test": request.node.name, **asdict(watch)}) + "\n")
