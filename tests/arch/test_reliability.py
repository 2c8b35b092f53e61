"""docs/reliability.md: every fault has a test, every test of the catalogue has its line, nothing is lost."""

from __future__ import annotations

import pytest

from tests.arch.proofs import ROOT, named_tests, names_in, proved_lines

DOCUMENT = ROOT / "docs" / "reliability.md"
FAULTS = 22


@pytest.mark.parametrize("line", proved_lines(DOCUMENT), ids=lambda line: line[0][:50])
def test_every_fault_is_injected_by_a_test(line: list[str]) -> None:
    fault, injected, seen, noticed, well, lost, proofs = line
    assert fault
    assert injected
    assert seen
    assert noticed
    assert well
    assert lost == "0"
    assert named_tests(proofs)


def test_the_catalogue_is_whole_and_told() -> None:
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests" / "catalogue").glob("test_*.py")]
    there = {name for path in files for name in names_in(path)}
    told = {name for line in proved_lines(DOCUMENT) for _, name in named_tests(line[-1])}
    assert there <= told, f"not told in docs/reliability.md: {sorted(there - told)}"
    assert {int(name.split("_")[1]) for name in there} == set(range(1, FAULTS + 1))
