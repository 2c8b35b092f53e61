"""The simulated exchange on a bench: its clock by hand, its bytes caught."""

from __future__ import annotations

from collections.abc import Iterable

from app.core.ids import InstrumentKey
from app.core.packets import (
    Disconnect,
    Packet,
    Unknown,
)
from app.sim.exchange import STEP_S, Exchange, ExchangeConfig
from app.sim.faults import FaultKind, make_fault
from app.sim.line import Delivery, End
from app.sim.prices import MarketShape
from tests.sim.world import (
    NOW_S,
    TARGET,
    World,
    packets_of,
    small_world,
)


class Bench:
    """An exchange, its clock, and what every connection received."""

    def __init__(self, world: World | None = None, config: ExchangeConfig | None = None, **market: float) -> None:
        shape = MarketShape(**market)  # type: ignore[arg-type]
        self.world = world or small_world()
        self.now_s = NOW_S
        self.is_open = True
        self.exchange = Exchange(config or ExchangeConfig(shape), self.world, lambda _segment, _now_s: self.is_open)
        self.got: dict[int, list[bytes]] = {}
        self.ended: dict[int, End] = {}

    def connect(self, target: str = TARGET) -> int:
        admission = self.exchange.admit(target)
        assert admission.status == 101
        number = self.exchange.open(admission, self.now_s)
        self.got[number] = []
        return number

    def say(self, number: int, *texts: str) -> None:
        for text in texts:
            self.exchange.receive(number, text, self.now_s)

    def run(self, seconds: float = STEP_S, blocked: Iterable[int] = ()) -> list[Delivery]:
        deliveries: list[Delivery] = []
        for _ in range(max(1, round(seconds / STEP_S))):
            self.now_s += STEP_S
            for delivery in self.exchange.step(self.now_s, frozenset(blocked)):
                self.got[delivery.connection] += delivery.frames
                if delivery.end is not None:
                    self.ended[delivery.connection] = delivery.end
                deliveries.append(delivery)
        return deliveries

    def packets(self, number: int) -> list[Packet]:
        return packets_of(self.got[number])

    def keys(self, number: int) -> set[InstrumentKey]:
        return {packet.key for packet in self.packets(number) if not isinstance(packet, Disconnect | Unknown)}

    def inject(self, kind: FaultKind, **given: object) -> None:
        self.exchange.inject(make_fault(kind, **given), self.now_s)

    def instruments(self, number: int) -> int:
        connections = self.exchange.stats()["connections"]
        assert isinstance(connections, list)
        return next(line["instruments"] for line in connections if line["number"] == number)
