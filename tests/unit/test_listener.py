"""What one connection writes."""

from __future__ import annotations

import h11
import pytest

from app.rest.listener import StrictConnection

BODILESS = [(b"content-length", b"0")]


@pytest.fixture
def asked() -> StrictConnection:
    connection = StrictConnection(h11.SERVER, 1_024)
    connection.receive_data(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    assert isinstance(connection.next_event(), h11.Request)
    assert isinstance(connection.next_event(), h11.EndOfMessage)
    return connection


def test_head_and_body_are_one_write(asked: StrictConnection) -> None:
    headers = [(b"content-length", b"5")]
    written = [
        asked.send(h11.Response(status_code=200, headers=headers)),
        asked.send(h11.Data(data=b"short")),
        asked.send(h11.EndOfMessage()),
    ]
    assert written == [b"", b"HTTP/1.1 200 \r\ncontent-length: 5\r\n\r\nshort", b""]


def test_an_answer_without_a_body_ends_with_its_head(asked: StrictConnection) -> None:
    assert asked.send(h11.Response(status_code=200, headers=BODILESS)) == b""
    assert asked.send(h11.EndOfMessage()) == b"HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n"


def test_the_head_is_not_written_again_with_later_parts(asked: StrictConnection) -> None:
    asked.send(h11.Response(status_code=200, headers=[(b"transfer-encoding", b"chunked")]))
    assert (asked.send(h11.Data(data=b"one")) or b"").endswith(b"\r\n\r\n3\r\none\r\n")
    assert asked.send(h11.Data(data=b"two")) == b"3\r\ntwo\r\n"
    asked.send(h11.EndOfMessage())
    asked.start_next_cycle()
