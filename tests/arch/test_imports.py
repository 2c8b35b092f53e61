"""What the service must not load: packages that only the child processes need."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.service import ROOT


@pytest.mark.parametrize("package", ["polars", "pandas", "dhanhq", "exchange_calendars", "playwright"])
def test_the_service_does_not_load(package: str) -> None:
    code = f"import sys, app.main; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60).returncode == 0
