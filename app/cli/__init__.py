"""The command line, ``bt``. Talks HTTP like any client, except where it starts something or opens the database."""

from __future__ import annotations


def main() -> None:
    """Run ``bt``; every failure is one line on stderr and an exit code."""
    from app.cli.program import run

    raise SystemExit(run())
