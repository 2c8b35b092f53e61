"""What runs the service is in ``requirements.txt``: the tests' own packages must not stand in for a missing one."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.service import ROOT

_IMPORT_ALL = """
import sys
from importlib.metadata import packages_distributions

pinned = set(sys.argv[1].split())
unpinned = {
    module
    for module, names in packages_distributions().items()
    if not any(name.lower().replace("_", "-").replace(".", "-") in pinned for name in names)
}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in unpinned - {"app"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import app.main, app.cli.program, app.runtime.build, app.runtime.gateway, app.lifecycle.start, app.sim.server
import app.storage.engine, app.storage.migrate, app.bus.nats, app.dhan.live_feed, app.rest.stream_ws
import app.market.instrument_master.scrip_csv
"""


def test_the_service_imports_with_nothing_but_its_pinned_packages() -> None:
    text = (ROOT / "requirements.txt").read_text()
    pinned = [name.lower() for name in re.findall(r"^([A-Za-z0-9_.-]+)==", text, re.MULTILINE)]
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL, " ".join(pinned)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
