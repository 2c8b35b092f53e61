"""docs/security.md: no line without a proof, no proof that does not exist."""

from __future__ import annotations

import pytest

from tests.arch.proofs import ROOT, named_tests, proved_lines

MODEL = ROOT / "docs" / "security.md"


@pytest.mark.parametrize("line", proved_lines(MODEL), ids=lambda line: line[0][:50])
def test_every_threat_is_stopped_by_something_that_a_test_proves(line: list[str]) -> None:
    _, stopped_by, proofs = line
    assert stopped_by
    assert named_tests(proofs)


def test_the_model_is_read() -> None:
    assert len(proved_lines(MODEL)) > 30
