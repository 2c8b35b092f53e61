"""Compiles the native decoder in place, where a compiler and Cython are at hand; says in one line why not otherwise.

``python -m app.dhan.native_build`` from a checkout, or :func:`build` from the wheel's build hook. The service runs
without it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
SOURCE: Final = HERE / "_native.pyx"
BUILD_REQUIREMENTS: Final = ("cython>=3.1,<4", "setuptools", "picows")
"""What :func:`build` imports; for the hook's build environment. picows must be the version that will run."""

SANITIZE: Final = ("-fsanitize=address,undefined", "-fno-sanitize-recover", "-fno-omit-frame-pointer", "-g", "-O1")
_FLAGS: Final = ("-O3", "-ffp-contract=off", "-fno-strict-aliasing", "-DNDEBUG")  # contraction would round differently


def target() -> Path:
    """Where the extension of this Python lies."""
    return HERE / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"


def build(wanted: str = "auto") -> str | None:
    """Compile if there is need to; ``wanted`` is ``BT_NATIVE``: ``auto``, ``0`` or ``1``.

    Returns:
        None when the extension is there and up to date, else one line for a person.

    Raises:
        RuntimeError: it was asked for with ``1`` and cannot be built.
    """
    if wanted == "0":
        return "native decoder: switched off by BT_NATIVE=0"
    if target().exists() and target().stat().st_mtime >= SOURCE.stat().st_mtime:
        return None
    problem = missing() or compile_to(target(), _FLAGS)
    if problem is None:
        return None
    if wanted == "1":
        raise RuntimeError(f"BT_NATIVE=1, but {problem}")
    return f"native decoder: not built, {problem}; the pure-Python decoder serves"


def missing() -> str | None:
    """What this machine lacks to compile, None if nothing."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if sys.byteorder != "little":
        return "the machine is not little-endian"
    if shutil.which(compiler) is None:
        return f"there is no compiler ({compiler})"
    if not headers.exists():
        return "the Python headers are missing"
    for module in ("Cython", "setuptools", "picows"):
        if find_spec(module) is None:
            return f"{module} is missing"
    return None


def compile_to(target: Path, flags: Sequence[str]) -> str | None:
    """Compile the extension with these flags; None, or why it failed."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-c", _BUILDER, scratch, str(SOURCE), *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
        made = next(Path(scratch).rglob("_native*.so"), None) or next(Path(scratch).rglob("_native*.pyd"), None)
        if done.returncode or made is None:
            lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            return f"the compiler failed: {lines[-1].strip() if lines else 'no word'}"
        part = target.with_suffix(".part")
        shutil.copyfile(made, part)
        part.replace(target)  # a running service keeps the old file
    return None


# A process of its own: setuptools changes global state when imported, and the sources stay free of generated C.
_BUILDER: Final = """
import sys
from pathlib import Path
from setuptools import Distribution, Extension
from Cython.Build import cythonize

scratch, source, *flags = sys.argv[1:]
link = [flag for flag in flags if flag.startswith("-fsanitize")]
extension = Extension("app.dhan._native", [source], extra_compile_args=flags, extra_link_args=link)
(made,) = cythonize([extension], build_dir=scratch, quiet=True, language_level=3)
distribution = Distribution({"name": "native", "ext_modules": [made], "packages": []})
command = distribution.get_command_obj("build_ext")
command.build_lib = command.build_temp = scratch
command.ensure_finalized()
command.run()
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Compile the native decoder in place.")
    parser.add_argument("--native", choices=("auto", "0", "1"), default="auto")
    given = parser.parse_args()
    try:
        problem = build(given.native)
    except RuntimeError as error:
        problem = str(error)
    print(problem or f"native decoder: {target().name}")  # noqa: T201 - a command
    return 1 if problem and given.native == "1" else 0


if __name__ == "__main__":
    sys.exit(main())
