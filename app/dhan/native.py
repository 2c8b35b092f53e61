"""Whether the native decoder serves, and why not otherwise."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Literal, Protocol, cast

from picows import WSListener

from app.ports.feed import TickBuffers

Wanted = Literal["auto", "0", "1"]
"""``BT_NATIVE``."""


class NativeBoard(Protocol):
    """The native side of one set of buffers; making one puts its slot table and its counters in place there."""

    def write_frame(self, connection: int, frame: bytes, received_ms: int) -> bool:
        """As :func:`app.dhan.decoder.write_frame`."""
        ...


class NativeDecoder(Protocol):
    """The compiled module."""

    def board_of(self, buffers: TickBuffers) -> NativeBoard:
        """The board of these buffers, made on first use."""
        ...

    def Listener(
        self, board: NativeBoard, connection: int, now_ms: Callable[[], int], other: WSListener
    ) -> WSListener: ...


def load_native(wanted: Wanted) -> tuple[NativeDecoder | None, str | None]:
    """The compiled decoder, or None and one line that says why.

    Raises:
        RuntimeError: ``1`` asks for it and it is not there.
    """
    if wanted == "0":
        return None, "native decoder: switched off by BT_NATIVE=0"
    try:
        return cast("NativeDecoder", importlib.import_module("app.dhan._native")), None
    except (ImportError, ValueError) as error:  # ValueError: compiled against another picows
        if wanted == "1":
            raise RuntimeError(f"BT_NATIVE=1, but the native decoder does not load: {error}") from None
        return None, f"native decoder: not built ({error}); the pure-Python decoder serves"
