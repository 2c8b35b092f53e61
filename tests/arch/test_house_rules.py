"""House rules that no linter expresses, over every module of the service."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "app"
FUNCTION_LINES_MAX, MODULE_LINES_MAX = 70, 500
CLOCKS = {
    ("time", "time"),
    ("time", "monotonic"),
    ("time", "perf_counter"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("date", "today"),
}
# Where the outside world enters: the adapter of the clock, and programs of their own.
CLOCK_OWNERS = {"app/runtime/clock.py"}
PROGRAMS = ("app/cli/", "app/sim/child.py")
# Types whose module-level instances hold no state of the service.
STATELESS = {
    "APIRouter",
    "TypeVar",
    "Struct",
    "TypeAdapter",
    "ZoneInfo",
    "FeedLimits",
    "MetaData",
    "Table",
    "Typer",
    "Console",
}


def modules() -> list[Path]:
    return sorted(path for path in APP.rglob("*.py") if "web" not in path.relative_to(APP).parts[:1])


def problems(source: str, name: str) -> Iterator[str]:
    tree = ast.parse(source)
    if source.count("\n") > MODULE_LINES_MAX:
        yield f"longer than {MODULE_LINES_MAX} lines"
    for node in ast.walk(tree):
        yield from _node_problems(node, name)
    yield from _singletons(tree)


def _node_problems(node: ast.AST, name: str) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > FUNCTION_LINES_MAX:
            yield f"{node.name} has {lines} lines"
    if isinstance(node, ast.ExceptHandler) and node.type is None:
        yield f"line {node.lineno}: bare except"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
        yield from _call_problems(node, (node.func.value.id, node.func.attr), name)


def _call_problems(node: ast.Call, call: tuple[str, str], name: str) -> Iterator[str]:
    where = f"line {node.lineno}: {'.'.join(call)}"
    is_program = name.startswith(PROGRAMS)
    if call in CLOCKS and name not in CLOCK_OWNERS and not is_program:
        yield f"{where} reads an ambient clock; take a Clock"
    if call[0] == "random" and call[1] != "Random":
        yield f"{where}: ambient randomness; take a random.Random"
    if call == ("asyncio", "create_task"):
        yield f"{where}: unowned task; use a TaskGroup"
    if call == ("asyncio", "Queue") and not (node.args or node.keywords):
        yield f"{where}: unbounded queue"
    if call == ("os", "getenv"):
        yield f"{where}: only app/settings.py reads the environment"


def _singletons(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
            function = node.value.func
            made = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
            if made[:1].isupper() and made not in STATELESS:
                yield f"line {node.lineno}: module-level instance of {made}; build it in app/runtime.py"


def test_no_module_of_tests_and_benchmarks_is_longer_either() -> None:
    paths = [path for folder in ("tests", "bench") for path in (ROOT / folder).rglob("*.py")]
    lengths = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8").count("\n") for path in paths}
    assert {name: length for name, length in lengths.items() if length > MODULE_LINES_MAX} == {}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_house_rules_hold(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    assert list(problems(path.read_text(encoding="utf-8"), name)) == []


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("import time\nx = time.time()\n", "ambient clock"),
        ("import random\nrandom.random()\n", "ambient randomness"),
        ("import asyncio\ndef f():\n    asyncio.create_task(g())\n", "unowned task"),
        ("import asyncio\ndef f():\n    return asyncio.Queue()\n", "unbounded queue"),
        ("import os\nos.getenv('X')\n", "environment"),
        ("try:\n    x = 1\nexcept:\n    x = 2\n", "bare except"),
        ("board = Board()\n", "module-level instance"),
        ("def f():\n" + "    x = 1\n" * 71, "lines"),
        ("x = 1\n" * 501, "longer than"),
    ],
)
def test_each_rule_is_awake(source: str, rule: str) -> None:
    assert any(rule in problem for problem in problems(source, "app/market/x.py"))
