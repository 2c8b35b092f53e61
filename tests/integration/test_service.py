"""The whole service from outside: a second process, bad settings, PostgreSQL, a real master."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.contract.servers import NatsServer
from tests.service import Service

NewService = Callable[..., Service]


def test_a_second_process_says_who_holds_the_feed_and_opens_no_socket(new_service: NewService) -> None:
    first = new_service("first").start()
    assert first.process is not None
    second = new_service("second", BT_DATA_DIR=str(first.directory / "data"))
    second.launch()
    assert second.process is not None
    assert second.process.wait(60) == 1
    assert f"process {first.process.pid} on " in second.log
    assert len(second.log.strip().splitlines()) == 1
    first.wait_for("the feed", 30, lambda: first.get("/api/v2/admin/ws-status")["connected_connections"] == 5)
    stats = first.http.get(first.simulator["control_url"] + "/stats").json()
    assert len(stats["connections"]) == 5


def test_a_second_worker_waits_and_takes_over_after_a_kill(new_service: NewService) -> None:
    first = new_service("first").start()
    second = new_service("second", BT_DATA_DIR=str(first.directory / "data"))
    second.command = ("-m", "uvicorn", "app.main:app", "--port", str(second.port))
    second.launch()
    second.wait_for("its word", 60, lambda: "owns the feed" in second.log)
    with pytest.raises(httpx.ConnectError):
        second.http.get(f"{second.url}/health")
    first.kill()
    second.wait_ready()
    second.wait_for("its own feed", 30, lambda: second.status()["states"].get("LIVE", 0) > 8_000)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"BT_PORT": "eighty"}, "BT_PORT was 'eighty'"),
        ({"BT_AUTH": "off", "BT_HOST": "0.0.0.0"}, "BT_AUTH=off is refused"),
        ({"BT_INSTRUMENT_MASTER": "/no/such/master.csv"}, "BT_INSTRUMENT_MASTER was '/no/such/master.csv'"),
        ({"BT_TIER_B": "/no/such.toml"}, "BT_TIER_B was '/no/such.toml'"),
    ],
)
@pytest.mark.parametrize("command", [("-m", "app.cli", "serve"), ("-m", "uvicorn", "app.main:app")])
def test_what_cannot_start_says_why_in_one_line(
    new_service: NewService, tmp_path: Path, settings: dict[str, str], said: str, command: tuple[str, ...]
) -> None:
    # A folder of its own: a master that was kept would do instead of the missing one.
    service = new_service(command=command, **settings, BT_DATA_DIR=str(tmp_path / "nothing kept"))
    service.launch()
    assert service.process is not None
    assert service.process.wait(60) != 0
    assert said in service.log
    assert "Traceback" not in service.log


def test_the_stream_travels_over_nats(new_service: NewService, nats_server: NatsServer) -> None:
    with new_service(BT_NATS_URL=nats_server.url, BT_ROLE="feed") as service:
        service.wait_for("Tier B live", 60, lambda: service.status()["states"].get("LIVE", 0) > 8_000)
        with connect(service.stream_url, proxy=None) as stream:
            stream.send(json.dumps({"op": "subscribe", "topics": ["quotes:NIFTY_IDX,RELIANCE_EQ", "status"]}))
            seen: dict[str, int] = {}
            for _ in range(40):
                message = json.loads(stream.recv(timeout=10))
                topic, seq = message["topic"], message["seq"]
                assert message["type"] == ("delta" if topic in seen else "snapshot")
                assert seq == seen.get(topic, seq - 1) + 1
                seen[topic] = seq
            assert len(seen) == 2


def test_a_real_master_runs_whole(new_service: NewService, shared_data: Path) -> None:
    master = shared_data / "api-scrip-master-detailed.2026-03-23.csv.zst"
    with new_service(BT_INSTRUMENT_MASTER=str(master), BT_SIM_DATE="2026-03-23") as service:
        report = service.get("/api/v2/admin/registry")
        assert report["rows"] == 279_014
        tier_b: dict[str, Any] = service.wait_for(
            "Tier B", 60, lambda: (found := service.get("/api/v2/admin/tier-b"))["waiting"] == [] and found
        )
        assert tier_b["listed"] == tier_b["subscribed"] < tier_b["asked"]
        assert any("NIFTY" in name for name in tier_b["missing"])
        service.wait_for(
            "all live", 60, lambda: service.status()["states"].get("LIVE", 0) >= 0.99 * tier_b["subscribed"]
        )
        add = {"user_id": 1, "symbol": "ONGC", "expiry": "30MAR2026", "instrument_type": "STOCK_OPTION"}
        answer = service.post("/api/v2/watchlist/add", add).json()
        assert answer["strikes_subscribed"] + len(answer["missing"]) == 50
        assert service.status()["tier_a_count"] == answer["strikes_subscribed"]
        chain = service.get("/api/v2/option-chain/NIFTY", expiry="24MAR2026", quotes="true")
        assert chain["coverage"]["live"] > 190


def test_help_names_every_command_and_touches_nothing(tmp_path: Path) -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "app.cli", "--help"],
        cwd=tmp_path,
        env=Service(tmp_path).environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    commands = ["serve", "sim", "doctor", "search", "chain", "watch", "status", "migrate", "backup", "restore", "bench"]
    for command in [*commands, "user"]:
        assert command in help_text
    assert list(tmp_path.iterdir()) == []
