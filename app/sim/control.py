"""The HTTP port of the simulator: the exchange's REST, and ``GET /stats?keys=…``, ``POST /faults``, ``DELETE /faults``.

One request per connection, HTTP by h11; every request is answered at once, so no task is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import h11
import orjson

from app.core.ids import parse_key
from app.sim.exchange import Exchange
from app.sim.faults import BadFault, parse_fault
from app.sim.rest import CHAIN_PATH

BODY_BYTES_MAX = 65_536


class ControlSocket(asyncio.Protocol):
    """One HTTP connection."""

    def __init__(self, exchange: Exchange, now_s: Callable[[], float]) -> None:
        self._exchange = exchange
        self._now_s = now_s
        self._http = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            while (event := self._http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                self._take(event)
        except h11.RemoteProtocolError:
            self._close()

    def _take(self, event: object) -> None:
        match event:
            case h11.Request():
                self._request = event
            case h11.Data():
                self._body += event.data
                if len(self._body) > BODY_BYTES_MAX:
                    self._close()
            case h11.EndOfMessage():
                assert self._request is not None
                self._answer(*self._handle(self._request.method.decode(), self._request.target.decode()))
            case _:
                pass

    def _handle(self, method: str, target: str) -> tuple[int, object]:
        parts = urlsplit(target)
        try:
            match method, parts.path:
                case "GET", "/stats":
                    return 200, self._stats(parse_qs(parts.query).get("keys", [""])[0])
                case "POST", "/faults":
                    return self._inject(orjson.loads(bytes(self._body)))
                case "POST", path if path == CHAIN_PATH:
                    return self._exchange.chains.answer(orjson.loads(bytes(self._body)), self._now_s())
                case "DELETE", "/faults":
                    self._exchange.heal()
                    return 200, {"healed": True}
                case _:
                    return 404, {"error": "GET /stats, POST /faults or DELETE /faults"}
        except (BadFault, ValueError) as error:
            return 422, {"error": str(error)}

    def _stats(self, wanted: str) -> dict[str, object]:
        stats = self._exchange.stats()
        if wanted:
            keys = self._exchange.known_keys() if wanted == "*" else map(parse_key, wanted.split(","))
            stats["keys"] = {str(key): self._exchange.key_stats(key) for key in keys}
        return stats

    def _inject(self, described: object) -> tuple[int, object]:
        listed = described if isinstance(described, list) else [described]
        faults = [parse_fault(one) for one in listed if isinstance(one, dict)]
        if len(faults) != len(listed):
            raise BadFault("a fault is an object, or a list of them")
        for fault in faults:
            self._exchange.inject(fault, self._now_s())
        return 200, {"injected": len(faults)}

    def _answer(self, status: int, body: object) -> None:
        payload = orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(payload))),
            ("connection", "close"),
        ]
        assert self._transport is not None
        for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=payload), h11.EndOfMessage()):
            self._transport.write(self._http.send(event) or b"")
        self._close()

    def _close(self) -> None:
        assert self._transport is not None
        self._transport.close()
