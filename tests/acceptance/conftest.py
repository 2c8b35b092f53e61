"""One service on the day of the user's document, shared by the lines that only look or clean up after themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.service import Service


@pytest.fixture(scope="session")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated masters and their snapshots, made once for all services of this run."""
    return tmp_path_factory.mktemp("masters")


@pytest.fixture
def new_service(tmp_path: Path, masters: Path) -> Iterator[Callable[..., Service]]:
    """Make a service of the test's own; all end with the test."""
    made: list[Service] = []

    def make(name: str = "service", command: tuple[str, ...] | None = None, **settings: str) -> Service:
        service = Service(tmp_path / name, settings)
        if command is not None:
            service.command = command
        link_masters(service, masters)
        made.append(service)
        return service

    yield make
    for service in made:
        if service.process is not None and service.process.poll() is None:
            service.kill()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, masters: Path) -> Iterator[Service]:
    """``uvicorn app.main:app`` with nothing set but the document's day."""
    one = Service(tmp_path_factory.mktemp("acceptance"))
    link_masters(one, masters)
    with one:
        one.wait_for("Tier B live", 30, lambda: one.status()["states"].get("LIVE", 0) > 8_000)
        yield one


def link_masters(service: Service, masters: Path) -> None:
    """Share the folder of masters: what one service built, the next one finds."""
    data = service.directory / "data"
    data.mkdir(parents=True, exist_ok=True)
    (data / "master").symlink_to(masters, target_is_directory=True)
