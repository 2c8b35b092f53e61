"""A gateway beside the process that owns the feed, over a real NATS server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.contract.servers import NatsServer
from tests.service import Service

NewService = Callable[..., Service]
KEY = "a key for tests only, shared by both processes"
RELIANCE = {"user_id": 1, "symbol": "RELIANCE", "expiry": "26FEB2026", "instrument_type": "STOCK_OPTION"}


@pytest.fixture
def pair(new_service: NewService, nats_server: NatsServer) -> Iterator[tuple[Service, Service]]:
    """The owner of the feed, live, and a gateway that shares nothing with it but the bus and the key."""
    shared = {"BT_NATS_URL": nats_server.url, "BT_SECRET_KEY": KEY}
    owner = new_service("owner", BT_ROLE="feed", **shared)
    gateway = new_service("gateway", BT_ROLE="gateway", BT_DATABASE_URL="", **shared)
    with owner, gateway:
        owner.wait_for("Tier B live", 60, lambda: owner.status()["states"].get("LIVE", 0) > 8_000)
        yield owner, gateway


def test_clients_of_a_gateway_get_what_those_of_the_owner_get(pair: tuple[Service, Service]) -> None:
    owner, gateway = pair
    _the_api_is_the_owners(owner, gateway)
    _the_stream_is_live_and_tells_errors(gateway)
    _an_unsealed_call_is_ignored(owner, gateway)
    _a_sign_out_ends_the_stream(owner, gateway)
    owner.kill()
    _an_absent_owner_is_told(gateway)
    owner.start()
    _all_is_back(gateway)


def _the_api_is_the_owners(owner: Service, gateway: Service) -> None:
    added = gateway.post("/api/v2/watchlist/add", RELIANCE)
    assert added.status_code == 200
    assert added.json()["strikes_subscribed"] == 50
    assert owner.status()["tier_a_count"] == 50
    assert owner.get("/api/v2/watchlist/1") == gateway.get("/api/v2/watchlist/1")
    again = gateway.post("/api/v2/watchlist/add", RELIANCE)
    assert (again.status_code, again.json()["code"]) == (409, "ALREADY_IN_WATCHLIST")
    assert again.headers["content-type"] == "application/problem+json"
    assert len(gateway.get("/api/v2/subscriptions/active")["subscriptions"]) > 8_000  # more than one message takes
    assert gateway.get("/health")["websocket_status"]["connected_connections"] == 5
    assert gateway.http.get(f"{gateway.url}/").text.startswith("<!doctype html")
    assert "bt_feed_process_up 1.0" in gateway.http.get(f"{gateway.url}/metrics").text
    foreign = gateway.http.get(f"{gateway.url}/api/v2/watchlist/1", headers={"Origin": "http://evil.example"})
    assert foreign.status_code == 401
    large = gateway.http.post(f"{gateway.url}/api/v2/watchlist/add", content=b"x" * 100_000)
    assert large.status_code == 413


def _the_stream_is_live_and_tells_errors(gateway: Service) -> None:
    with connect(gateway.stream_url, proxy=None) as stream:
        topics = ["chain:RELIANCE:26FEB2026", "quotes:NIFTY_IDX", "watchlist:1", "quotes:NOSUCH_EQ", "events"]
        stream.send(json.dumps({"op": "subscribe", "topics": topics}))
        seen: dict[str, int] = {}
        refused = []
        while len(seen) < 3 or min(seen.values()) < 3 or not refused:
            message = json.loads(stream.recv(timeout=10))
            if message["type"] == "error":
                refused.append(message)
            elif message["type"] in ("snapshot", "delta"):
                seen[message["topic"]] = seen.get(message["topic"], 0) + 1
        assert [(each["code"], each["topic"]) for each in refused] == [("INSTRUMENT_UNKNOWN", "quotes:NOSUCH_EQ")]
        gateway.post("/api/v2/watchlist/remove", {"user_id": 1, "symbol": "RELIANCE", "expiry": "26FEB2026"})


def _an_unsealed_call_is_ignored(owner: Service, gateway: Service) -> None:
    headers = {"Authorization": "Bearer forged"}
    assert gateway.http.get(f"{gateway.url}/api/v2/watchlist/1", headers=headers).status_code == 401


def _a_sign_out_ends_the_stream(owner: Service, gateway: Service) -> None:
    """Every process of the installation knows of it within seconds."""
    adding = [sys.executable, "-m", "app.cli", "user", "add", "asha", "--password-stdin"]
    subprocess.run(adding, input=b"a long password\n", env=owner.environment(), cwd=owner.directory, check=True)
    form = {"username": "asha", "password": "a long password"}
    token = gateway.http.post(f"{gateway.url}/api/v2/auth/token", data=form).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    with connect(gateway.stream_url, proxy=None, additional_headers=headers) as stream:
        stream.send(json.dumps({"op": "subscribe", "topics": ["status"]}))
        assert json.loads(stream.recv(timeout=10))["type"] == "snapshot"
        assert gateway.http.post(f"{gateway.url}/api/v2/auth/sign-out", headers=headers).json() == {"ended": 1}
        with pytest.raises(ConnectionClosed) as closed:
            _read_to_the_end(stream)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401
    assert gateway.http.get(f"{gateway.url}/api/v2/auth/me", headers=headers).status_code == 401


def _an_absent_owner_is_told(gateway: Service) -> None:
    with connect(gateway.stream_url, proxy=None) as stream, pytest.raises(ConnectionClosed) as closed:
        _read_to_the_end(stream)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013
    gateway.wait_for("not ready", 20, lambda: gateway.http.get(f"{gateway.url}/ready").status_code == 503)
    health = gateway.get("/health")
    assert health["status"] == "degraded"
    assert "owns the feed" in health["reasons"][0]
    refused = gateway.http.get(f"{gateway.url}/api/v2/subscriptions/status")
    assert (refused.status_code, refused.json()["code"]) == (503, "FEED_AWAY")
    assert refused.headers["retry-after"]


def _read_to_the_end(stream: ClientConnection) -> None:
    while True:
        stream.recv(timeout=30)


def _all_is_back(gateway: Service) -> None:
    gateway.wait_for("ready", 60, lambda: gateway.http.get(f"{gateway.url}/ready").status_code == 200)
    gateway.wait_for("Tier B", 60, lambda: gateway.status()["tier_b_count"] > 8_000)
    with connect(gateway.stream_url, proxy=None) as stream:
        stream.send(json.dumps({"op": "subscribe", "topics": ["status"]}))
        told: dict[str, Any] = json.loads(stream.recv(timeout=10))
        assert told["type"] == "snapshot"


def test_a_gateway_with_another_key_gets_no_answer(new_service: NewService, nats_server: NatsServer) -> None:
    owner = new_service("owner", BT_NATS_URL=nats_server.url, BT_ROLE="feed", BT_SECRET_KEY=KEY)
    stranger = new_service("stranger", BT_NATS_URL=nats_server.url, BT_ROLE="gateway", BT_SECRET_KEY=KEY + "?")
    with owner:
        stranger.launch()
        stranger.wait_for("listening", 30, lambda: _listens(stranger))
        answer = stranger.http.get(f"{stranger.url}/api/v2/watchlist/1", timeout=30)
        assert (answer.status_code, answer.json()["code"]) == (503, "FEED_AWAY")
        assert "the seal is not ours" in owner.log
        assert "BT_SECRET_KEY is another" in stranger.log
        stranger.stop()


def _listens(service: Service) -> bool:
    try:
        return service.http.get(f"{service.url}/health").status_code == 200
    except httpx.HTTPError:
        return False
