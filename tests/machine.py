"""What the tests need from the machine: Chromium and Node. PostgreSQL and NATS come as wheels with the tools.

``python -m tests.machine prepare`` installs what is missing where it may (root with apt-get) and names what it could
not; in CI anything missing is a failure. ``python -m tests.machine vitest`` runs the page's own tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}
CHROMIUM_PACKAGES = ("chromium", "fonts-inter", "fonts-noto-core")


def chromium() -> str | None:
    """Path of a Chromium, or of what ``CHROMIUM`` names."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def prepare() -> int:
    if chromium() is None and os.geteuid() == 0 and shutil.which("apt-get"):
        print("Installing Chromium for the page's tests")
        quiet = {"stdout": subprocess.DEVNULL, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet)
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *CHROMIUM_PACKAGES], check=False, **quiet
        )
    if chromium() is None:
        print("Chromium is missing: the tests of the page in a browser are skipped (apt-get install chromium)")
        return 1 if IN_CI else 0
    return 0


def vitest() -> int:
    sys.path.insert(0, str(ROOT))
    from hatch_build import npm_command

    npm = npm_command()
    environment = os.environ | {"PATH": str(Path(npm[0]).parent) + os.pathsep + os.environ.get("PATH", "")}
    if not (ROOT / "web" / "node_modules").exists():
        subprocess.run(
            [*npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=ROOT / "web", check=True, env=environment
        )
    for script in ("check", "test"):
        code = subprocess.run(
            [*npm, "run", "--silent", script], cwd=ROOT / "web", check=False, env=environment
        ).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit({"prepare": prepare, "vitest": vitest}[sys.argv[1]]())
