"""Where the page's Node comes from, and that one is asked for only where the page has to be built."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.service import ROOT


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The build steps on a machine without Node, the page not yet built."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "PAGE", tmp_path / "web" / "index.html")
    return module


def test_without_node_the_build_asks_for_the_wheel_of_it(build: ModuleType) -> None:
    assert build.system_npm() is None
    assert build.page_wanted()
    assert build.CustomBuildHook.dependencies(_Target()) == [build.NODE_WHEEL]


def test_a_page_that_is_there_needs_no_node(build: ModuleType) -> None:
    build.PAGE.parent.mkdir()
    build.PAGE.write_text("<!doctype html>")
    assert build.CustomBuildHook.dependencies(_Target()) == []


def test_node_too_old_counts_as_none(build: ModuleType, tmp_path: Path) -> None:
    for name, says in (("node", "v20.18.3"), ("npm", "10")):
        program = tmp_path / name
        program.write_text(f"#!{sys.executable}\nprint({says!r})\n")
        program.chmod(0o755)
    assert build.system_npm() is None
    (tmp_path / "node").write_text(f"#!{sys.executable}\nprint('v20.19.0')\n")
    assert build.system_npm() == str(tmp_path / "npm")


class _Target:
    target_name = "sdist"
