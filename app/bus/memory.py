"""The bus of a single process: a message is delivered before ``publish`` returns."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from app.bus.subjects import covers
from app.ports.bus import Deliver

WAITING_MAX = 10_000  # messages published by readers while another is being delivered


@dataclass(slots=True)
class _Reader:
    pattern: str
    deliver: Deliver
    open: bool = True

    def close(self) -> None:
        self.open = False


class MemoryBus:
    """Implements ``ports.bus.Bus`` without a task; a reader that publishes does not disturb the order of others."""

    def __init__(self, waiting_max: int = WAITING_MAX) -> None:
        self._waiting_max = waiting_max
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._readers: list[_Reader] = []
        self._started = False
        self._delivering = False
        self._dropped = 0

    async def start(self) -> None:
        self._started = True

    async def stop(self) -> None:
        self._started = False

    def publish(self, subject: str, payload: bytes) -> None:
        if not self._started or len(self._waiting) >= self._waiting_max:
            self._dropped += 1
            return
        self._waiting.append((subject, payload))
        if not self._delivering:
            self._deliver_all()

    def subscribe(self, subject: str, deliver: Deliver) -> _Reader:
        reader = _Reader(subject, deliver)
        self._readers = [*(known for known in self._readers if known.open), reader]
        return reader

    @property
    def dropped(self) -> int:
        return self._dropped

    def _deliver_all(self) -> None:
        self._delivering = True
        try:
            while self._waiting:
                subject, payload = self._waiting.popleft()
                for reader in self._readers:  # subscribing replaces the list, it never changes one
                    if reader.open and covers(reader.pattern, subject):
                        reader.deliver(subject, payload)
        finally:
            self._delivering = False
