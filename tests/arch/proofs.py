"""Documents that claim something and name the tests that prove it, line by line of their tables."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROOF = re.compile(r"`(tests/[\w/.]+\.py)::(\w+)`")


def proved_lines(document: Path) -> list[list[str]]:
    """The cells of every line of those tables whose last column is headed ``proved by``."""
    found = []
    has_proofs = False
    for line in document.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            has_proofs = False
        elif cells[-1] == "proved by":
            has_proofs = True
        elif has_proofs and not set(line) <= set("|- "):
            found.append(cells)
    return found


def named_tests(proofs: str) -> list[tuple[str, str]]:
    """Path and name of each test in a cell; nothing else may stand there in backticks."""
    named = PROOF.findall(proofs)
    assert named, f"no test is named: {proofs}"
    assert len(named) == proofs.count("`") // 2, f"not every name is that of a test: {proofs}"
    for path, name in named:
        assert name in names_in(path), f"{path} has no {name}"
    return named


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of a file's tests, those in classes too."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds) and node.name.startswith("test_"))
