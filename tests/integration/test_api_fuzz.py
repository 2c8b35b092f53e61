"""A short run of the API fuzzer with a fixed seed; ``make fuzz-api N=300`` runs a long one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests import api_fuzz
from tests.service import Service

EXAMPLES, SEED = 8, 1


def test_every_answer_is_as_the_document_describes(new_service: Callable[..., Service], tmp_path: Path) -> None:
    with new_service(**api_fuzz.settings_in(tmp_path)) as service:
        statuses = api_fuzz.fuzz(service.url, EXAMPLES, SEED)
        assert statuses.keys() >= {"200", "404", "422"}
        assert not any(status.startswith("5") for status in statuses)
        assert service.get("/health")["status"] == "healthy"
