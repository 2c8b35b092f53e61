"""One service on the day of the user's document, shared by the lines that only look or clean up after themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service import Service, link_masters


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, masters: Path) -> Iterator[Service]:
    """The service with nothing set but the document's day."""
    one = Service(tmp_path_factory.mktemp("acceptance"))
    link_masters(one, masters)
    with one:
        one.wait_for("Tier B live", 60, lambda: one.status()["states"].get("LIVE", 0) > 8_000)
        yield one
