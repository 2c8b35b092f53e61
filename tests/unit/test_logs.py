"""No secret reaches a log line, whatever part of the event holds it; a log that cannot be written costs its lines."""

from __future__ import annotations

import io
import sys

import pytest
import structlog

from app.lifecycle.logs import set_up_logs


def test_secrets_are_taken_out_of_every_value(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs(["very-secret-token", "1234"])
    try:
        log = structlog.get_logger("test")
        log.info("connecting to wss://x?token=very-secret-token", pin="1234", url="https://x/?pin=1234")
        try:
            raise RuntimeError("refused: very-secret-token")
        except RuntimeError:
            log.exception("failed")
    finally:
        structlog.reset_defaults()
    shown = capsys.readouterr().out
    assert "very-secret-token" not in shown
    assert "1234" not in shown
    assert "refused: ***" in shown


class FullDisk(io.StringIO):
    """An output with no room left."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_costs_lines_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", FullDisk())
    set_up_logs([])
    try:
        structlog.get_logger("test").info("is not written")
    finally:
        structlog.reset_defaults()
