"""How encoded updates travel from the publisher to the hubs. Adapters: in-process, NATS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Deliver = Callable[[str, bytes], None]


class BusSubscription(Protocol):
    def close(self) -> None:
        """Stop delivery; safe to repeat."""
        ...


class Bus(Protocol):
    """Best-effort, ordered per subject. Payloads are opaque bytes."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def publish(self, subject: str, payload: bytes) -> None:
        """Hand over one message. Never blocks, never raises for a slow or absent reader; drops are counted."""
        ...

    def subscribe(self, subject: str, deliver: Deliver) -> BusSubscription:
        """Call ``deliver(subject, payload)`` for each message; it is synchronous and must not raise.

        ``subject`` may end in ``.>`` to mean everything below.
        """
        ...

    @property
    def dropped(self) -> int:
        """Messages given up because a bound was reached."""
        ...
