"""docs/security.md: no line without a proof, no proof that does not exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "docs" / "security.md"
PROOF = re.compile(r"`(tests/[\w/.]+\.py)::(\w+)`")


def lines() -> list[tuple[str, str, str]]:
    """Threat, what stops it and its proofs, of every line of the tables that have proofs."""
    found = []
    has_proofs = False
    for line in MODEL.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            has_proofs = False
        elif cells[-1] == "proved by":
            has_proofs = True
        elif has_proofs and not set(line) <= set("|- "):
            threat, stopped_by, proofs = cells
            found.append((threat, stopped_by, proofs))
    return found


@cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds) and node.name.startswith("test_"))


@pytest.mark.parametrize("line", lines(), ids=lambda line: line[0][:50])
def test_every_threat_is_stopped_by_something_that_a_test_proves(line: tuple[str, str, str]) -> None:
    threat, stopped_by, proofs = line
    assert stopped_by
    named = PROOF.findall(proofs)
    assert named, f"no test proves that this is stopped: {threat}"
    assert len(named) == proofs.count("`") // 2
    for path, name in named:
        assert name in names_in(path), f"{path} has no {name}"


def test_the_model_is_read() -> None:
    assert len(lines()) > 30
