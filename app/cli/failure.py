"""How a command fails: one line, and an exit code that scripts can tell apart."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """2 is click's own, for a command line that cannot be read."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4


class CommandFailed(Exception):
    """Ends a command with one line on stderr."""

    def __init__(self, line: str, exit_code: Exit = Exit.FAILED) -> None:
        super().__init__(line)
        self.line = " ".join(line.split())
        self.exit_code = exit_code
