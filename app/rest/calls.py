"""HTTP requests over the bus: what a gateway sends to the process that owns the feed, and what comes back. Pure.

Every message is sealed with a key that both processes derive from ``BT_SECRET_KEY``. A call says from which address its
client came, and the answer depends on that: whoever can merely publish on the bus must not be able to claim loopback.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

CALL_SUBJECT = "call.http"
REFUSED_SUBJECT = "call.refused"  # the owner's word, sealed too, on why it hears no calls: it cannot know of whom
LIVE_SESSIONS = "sessions/live"  # a path of calls only, never of HTTP: which of the sessions in the body still hold
ANSWER_SUBJECT = "answer.http"  # below it, the name of the gateway
NOT_OURS = "the seal is not ours"
PART_BYTES_MAX = 256 * 1024  # a NATS server takes messages up to 1 MiB by default
_SEAL_BYTES = 32
_LENGTH = struct.Struct("<I")
_PART = struct.Struct("<QI?")
_PASSED_ON = ("type", "method", "path", "scheme", "client", "server", "http_version")
_TEXTS = ("query_string", "raw_path")


class Seal:
    """Signs and checks messages between the processes of one installation."""

    def __init__(self, secret_key: str) -> None:
        self._key = hmac.new(secret_key.encode(), b"broking-terminal gateway calls v1", hashlib.sha256).digest()

    def close(self, message: bytes) -> bytes:
        return self._digest(message) + message

    def open(self, sealed: bytes) -> bytes:
        """Raises ``ValueError`` for a message of somebody without the key."""
        message = sealed[_SEAL_BYTES:]
        if not hmac.compare_digest(sealed[:_SEAL_BYTES], self._digest(message)):
            raise ValueError(NOT_OURS)
        return message

    def _digest(self, message: bytes) -> bytes:
        return hmac.new(self._key, message, hashlib.sha256).digest()


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``at_ms`` is the machine's epoch ms when it was sent; ``scope`` is what ASGI tells of it."""

    id: int
    gateway: str
    at_ms: int
    scope: Mapping[str, Any]
    body: bytes = b""

    def pack(self) -> bytes:
        told: dict[str, Any] = {name: self.scope.get(name) for name in _PASSED_ON}
        told |= {name: self.scope.get(name, b"").decode("latin-1") for name in _TEXTS}
        told["headers"] = _as_texts(self.scope["headers"])
        head = orjson.dumps({"id": self.id, "gateway": self.gateway, "at_ms": self.at_ms, "scope": told})
        return b"".join((_LENGTH.pack(len(head)), head, self.body))


def unpack_call(message: bytes) -> Call:
    """Raises ``ValueError`` for bytes that are no call."""
    try:
        start = _LENGTH.size + _LENGTH.unpack_from(message)[0]
        head = orjson.loads(message[_LENGTH.size : start])
        scope = {name: head["scope"][name] for name in _PASSED_ON}
        scope |= {name: head["scope"][name].encode("latin-1") for name in _TEXTS}
        scope["headers"] = _as_bytes(head["scope"]["headers"])
        call_id, at_ms = int(head["id"]), int(head["at_ms"])
    except (struct.error, KeyError, TypeError, AttributeError) as bad:
        raise ValueError(f"not a call: {bad}") from bad
    # 2.4: there is no client to listen to while an answer is streamed.
    scope |= {"asgi": {"version": "3.0", "spec_version": "2.4"}, "root_path": ""}
    return Call(call_id, str(head["gateway"]), at_ms, scope, message[start:])


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call came to; header names in lower case."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)

    def parts(self, call_id: int) -> Iterator[bytes]:
        """The answer as messages of the bus: the first has status and headers, the last is marked."""
        head = orjson.dumps({"status": self.status, "headers": _as_texts(self.headers)})
        pieces = [head]
        pieces += [self.body[at : at + PART_BYTES_MAX] for at in range(0, len(self.body), PART_BYTES_MAX)]
        for number, piece in enumerate(pieces):
            yield _PART.pack(call_id, number, number == len(pieces) - 1) + piece


@dataclass(slots=True)
class Assembly:
    """The parts of one answer as they come in."""

    pieces: list[bytes]

    def take(self, number: int, piece: bytes) -> None:
        """Raises ``ValueError`` where a part was lost on the way."""
        if number != len(self.pieces):
            raise ValueError(f"part {number} of an answer came in place of {len(self.pieces)}")
        self.pieces.append(piece)

    def answer(self) -> Answer:
        head = orjson.loads(self.pieces[0])
        return Answer(int(head["status"]), _as_bytes(head["headers"]), b"".join(self.pieces[1:]))


def unpack_part(message: bytes) -> tuple[int, int, bool, bytes]:
    """The id of the call, the number of the part, whether it is the last, and its bytes.

    Raises ``ValueError`` for bytes that are no part of an answer.
    """
    if len(message) < _PART.size:
        raise ValueError("too short for a part of an answer")
    call_id, number, is_last = _PART.unpack_from(message)
    return call_id, number, is_last, message[_PART.size :]


def _as_texts(headers: Any) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _as_bytes(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
