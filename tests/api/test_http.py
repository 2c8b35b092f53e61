"""What surrounds the endpoints: headers, sizes, unknown routes, failures, health, metrics, pages and the documents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Mount
from starlette.types import Message

from app.cli.reference import openapi_document
from app.main import Terminal
from app.rest import limits, schemas
from app.rest.answers import encode, join_objects
from app.rest.cursors import read_cursor, write_cursor
from app.rest.market_api_v2 import create_api, operations_of
from app.rest.middleware import PROTECTIVE
from app.rest.operations import API
from app.rest.services import Gauges, Readiness
from docs.generate import DOCS, generated
from tests.api.support import client_of
from tests.api.test_endpoints import ADD, add, get
from tests.api.test_errors import problem
from tests.api.world import World, running_world

JSON = {"Content-Type": "application/json"}


# -- around every request


async def test_every_answer_carries_the_security_headers(client: httpx.AsyncClient) -> None:
    for path in ("/health", "/api/v2/subscriptions/status", "/api/v2/nothing", "/docs", "/"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers
    assert (await client.get("/health")).headers["content-security-policy"].startswith("default-src 'none'")
    assert (await client.get("/health")).headers["cache-control"] == "no-store"


async def test_unknown_routes_and_methods_are_problems(client: httpx.AsyncClient) -> None:
    problem(await client.get("/api/v2/nothing"), 404, "NOT_FOUND")
    problem(await client.get("/no/such/page"), 404, "NOT_FOUND")
    problem(await client.get("/nosuchfile"), 404, "NOT_FOUND")
    for method, path in (
        ("GET", "/api/v2/watchlist/add/"),
        ("DELETE", "/api/v2/watchlist/1"),
        ("GET", "/api/v2/admin/rebalance-ws"),
        ("PUT", "/api/v2/watchlist/add"),
        ("POST", "/health"),
        ("POST", "/"),
    ):
        answer = await client.request(method, path)
        code = 404 if path.endswith("add/") else 405
        problem(answer, code, "NOT_FOUND" if code == 404 else "METHOD_NOT_ALLOWED")
        if code == 405:
            assert answer.headers["allow"]


async def test_a_large_body_is_413(client: httpx.AsyncClient) -> None:
    large = b"x" * (limits.BODY_BYTES_MAX + 1)
    problem(await client.post("/api/v2/watchlist/add", content=large, headers=JSON), 413, "PAYLOAD_TOO_LARGE")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(70):
            yield b"x" * 1024

    problem(await client.post("/api/v2/watchlist/add", content=pieces(), headers=JSON), 413, "PAYLOAD_TOO_LARGE")
    fits = b" " * (limits.BODY_BYTES_MAX - 200) + encode(ADD)
    assert (await client.post("/api/v2/watchlist/add", content=fits, headers=JSON)).status_code == 200


async def test_a_body_in_pieces_is_read_whole(client: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for byte in encode(ADD):
            yield bytes([byte])

    answer = await client.post("/api/v2/watchlist/add", content=pieces(), headers=JSON)
    assert answer.status_code == 200


async def test_a_failure_of_ours_is_a_problem_that_tells_nothing(world: World) -> None:
    def break_it() -> Any:
        raise RuntimeError("secret inside")

    app = create_api(replace(world.services, registry_admin=break_it))
    async with client_of(app) as client:
        answer = await client.get("/api/v2/admin/registry")
    problem(answer, 500, "INTERNAL")
    assert "secret" not in answer.text
    assert PROTECTIVE.items() <= dict(answer.headers).items()


async def test_a_client_that_leaves_mid_body_does_no_harm(world: World) -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b'{"user_id"', "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/api/v2/watchlist/add", "raw_path": b"", "query_string": b"",
        "root_path": "", "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "headers": [(b"host", b"127.0.0.1:8000"), (b"content-type", b"application/json")],
    }  # fmt: skip
    await world.app(scope, receive, send)
    assert sent[0]["status"] == 422
    assert world.services.watchlists.entries(1) == []


async def test_a_caller_that_hangs_up_still_gets_its_entry_whole(world: World) -> None:
    async with world.client() as client:
        pending = asyncio.ensure_future(client.post("/api/v2/watchlist/add", json=ADD))
        await asyncio.sleep(0)
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending
        await asyncio.sleep(0.05)
        entries = world.services.watchlists.entries(1)
        assert world.services.subscriptions.tier_a_count == 50 * len(entries)


# -- health


async def test_health_is_healthy(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health")
    assert answer.status_code == 200
    told = answer.json()
    schemas.Health.model_validate(told)
    assert (told["status"], told["reasons"]) == ("healthy", [])
    assert told["subscriptions"]["tier_b_count"] > 0
    assert told["websocket_status"]["connected_connections"] == 5


async def test_health_is_degraded_with_reasons_and_still_200(world: World) -> None:
    world.store.is_down = True
    services = replace(world.services, concerns=lambda: ["another process owns the feed"], connections=6)
    async with client_of(create_api(services)) as client:
        answer = await client.get("/health")
        assert answer.status_code == 200
        told = answer.json()
        assert told["status"] == "degraded"
        assert told["reasons"] == [
            "another process owns the feed",
            "5 of 6 feed connections are up",
            "store: the database cannot be reached",
        ]
        assert (await client.get("/ready")).status_code == 200
    world.store.is_down = False


async def test_ready_says_what_it_waits_for(world: World) -> None:
    services = replace(world.services, readiness=lambda: Readiness(False, ("store", "registry")))
    async with client_of(create_api(services)) as client:
        answer = await client.get("/ready")
        told = problem(answer, 503, "NOT_READY")
        assert told["waiting_for"] == ["store", "registry"]
        assert answer.headers["retry-after"] == "2"


async def test_health_and_status_tell_the_same(client: httpx.AsyncClient) -> None:
    await add(client)
    health = (await client.get("/health")).json()
    status = await get(client, "/subscriptions/status")
    assert health["subscriptions"] == status["subscriptions"]
    assert health["websocket_status"] == status["websocket"]
    assert sum(status["subscriptions"]["states"].values()) == status["subscriptions"]["total_subscriptions"]


# -- metrics


async def test_metrics_are_what_the_owners_count(world: World) -> None:
    services = replace(world.services, gauges=lambda: Gauges(stream_clients=3, bus_dropped=7, loop_lag_ms=1.5))
    async with client_of(create_api(services)) as client:
        await add(client)
        await world.settle()
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }
    assert samples["bt_subscriptions", (("tier", "TIER_A"),)] == 50
    assert samples["bt_capacity", ()] == 25_000
    assert samples["bt_stream_clients", ()] == 3
    assert samples["bt_bus_dropped_total", ()] == 7
    assert samples["bt_loop_lag_ms", ()] == 1.5
    up = [value for (name, _), value in samples.items() if name == "bt_connection_up"]
    assert up == [1.0] * 5
    assert [value for (name, _), value in samples.items() if name == "bt_connection_packets_per_s"] == [0.0] * 5
    applied = sum(value for (name, _), value in samples.items() if name == "bt_feed_applied_total")
    assert applied == sum(counter.applied for counter in world.services.board.buffers.counters) > 0
    states = {dict(labels)["state"]: value for (name, labels), value in samples.items() if name == "bt_instruments"}
    assert states == world.services.status.states()


async def test_two_services_scrape_side_by_side(world: World) -> None:
    for _ in range(2):
        async with client_of(create_api(world.services)) as client:
            assert (await client.get("/metrics")).status_code == 200


# -- pages


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """A built page."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><title>Broking Terminal</title>")
    (tmp_path / "favicon.svg").write_text("<svg/>")
    (tmp_path / "assets" / "main-abc123.js").write_text("console.log(1);" * 200)
    (tmp_path.parent / "outside.txt").write_text("not yours")
    return tmp_path


@pytest.fixture
async def page(snapshot: Path, web: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with running_world(snapshot, web_dir=web) as world, world.client() as client:
        yield client


async def test_the_page_is_served_with_its_headers(page: httpx.AsyncClient) -> None:
    index = await page.get("/")
    assert index.status_code == 200
    assert index.headers["content-type"].startswith("text/html")
    assert index.headers["cache-control"] == "no-cache"
    policy = index.headers["content-security-policy"]
    for part in (
        "default-src 'self'",
        "connect-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
    ):
        assert part in policy
    script = await page.get("/assets/main-abc123.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert "immutable" in script.headers["cache-control"]
    assert (await page.get("/favicon.svg")).headers["content-type"].startswith("image/svg+xml")
    assert (await page.head("/")).status_code == 200


async def test_assets_travel_compressed_and_are_not_sent_again(page: httpx.AsyncClient) -> None:
    script = await page.get("/assets/main-abc123.js", headers={"Accept-Encoding": "gzip"})
    assert script.headers["content-encoding"] == "gzip"
    assert script.text == "console.log(1);" * 200
    plain = await page.get("/assets/main-abc123.js", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.text == script.text
    again = await page.get("/assets/main-abc123.js", headers={"If-None-Match": script.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    ["/assets/%2e%2e/index.html", "/assets/..%2f..%2foutside.txt", "/..%2foutside.txt",
     "/assets/nothing.js", "/%2e%2e/outside.txt", "/assets/", "/assets", "/assets/%00", "/docs/%00", "/a%00",
     "/" + "a" * 300, "/assets/" + "a/" * 3000],
)  # fmt: skip
async def test_nothing_outside_the_page_is_served(page: httpx.AsyncClient, path: str) -> None:
    answer = await page.send(
        page.build_request("GET", httpx.URL("http://127.0.0.1:8000").copy_with(raw_path=path.encode()))
    )
    assert "not yours" not in answer.text
    assert answer.status_code == 404


async def test_a_rebuilt_page_is_served_without_a_restart(page: httpx.AsyncClient, web: Path) -> None:
    await page.get("/")
    (web / "index.html").write_text("<!doctype html><title>another and longer</title>")
    assert "another" in (await page.get("/")).text


async def test_without_a_page_the_root_says_what_to_run(snapshot: Path, tmp_path: Path) -> None:
    async with running_world(snapshot, web_dir=tmp_path / "none") as world, world.client() as client:
        told = problem(await client.get("/"), 503, "PAGE_NOT_BUILT")
        assert "make web" in told["detail"]
        assert (await client.get("/health")).status_code == 200


async def test_the_documentation_needs_no_other_server(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assert "http" not in page.text.replace("http-equiv", "")
    assert "script-src" not in page.headers["content-security-policy"]
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js"):
        assert f"/docs/{name}" in page.text
        assert (await client.get(f"/docs/{name}")).status_code == 200
    assert "<script>" not in page.text


# -- documents


async def test_openapi_has_examples_for_everything(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    numbers = []
    for path, methods in document["paths"].items():
        for operation in methods.values():
            (content,) = operation["responses"]["200"]["content"].values()
            assert "example" in content, path
            number = operation.get("x-number")
            if number:
                numbers.append(number)
                problems = [each for status, each in operation["responses"].items() if status != "200"]
                assert problems, path
                for each in problems:
                    assert each["content"]["application/problem+json"]["examples"], path
    assert sorted(numbers) == list(range(1, 17))


async def test_examples_fit_their_models(world: World) -> None:
    for _, operations in operations_of(world.services):
        for operation in operations:
            if operation.model is not None:
                operation.model.model_validate(operation.answer)


async def test_example_requests_are_understood(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    for methods in document["paths"].values():
        for method, operation in methods.items():
            if operation.get("x-number") and not operation["x-example-path"].startswith("/api/v2/admin"):
                body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
                answer = await client.request(method.upper(), operation["x-example-path"], json=body)
                assert answer.status_code in (200, 404, 409), (operation["x-example-path"], answer.text)


def test_the_generated_documents_are_in_step() -> None:
    for name, text in generated().items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, f"docs/{name} is out of step: run make docs"


async def test_the_document_is_the_same_without_a_service(client: httpx.AsyncClient) -> None:
    assert (await client.get("/openapi.json")).json() == openapi_document()


# -- small parts


def test_numbers_that_are_none_become_null() -> None:
    assert encode({"a": float("nan"), "b": float("inf"), "c": 2641.5, "d": (1, {2})}) == (
        b'{"a":null,"b":null,"c":2641.5,"d":[1,[2]]}'
    )


@pytest.mark.parametrize(("head", "text"), [({}, b'{"rows":[1,2]}'), ({"n": 2}, b'{"n":2,"rows":[1,2]}')])
def test_rows_join_an_object(head: dict[str, object], text: bytes) -> None:
    assert join_objects(head, "rows", [b"1", b"2"]) == text


def test_cursors_come_back() -> None:
    assert read_cursor("log", write_cursor("log", "17")) == "17"


async def test_a_path_with_a_line_break_is_refused_in_full_form(world: World) -> None:
    terminal = Terminal(docs_url=None, redoc_url=None, openapi_url=None)
    terminal.router.routes.append(Mount("", app=world.app))
    async with client_of(terminal) as client:
        for path in ("/api/v2/instruments/a%0Ab", "/api/v2/nothing%0A"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_every_answer_with_a_model_is_described_by_it(world: World) -> None:
    document = world.app.openapi()
    for _, operations in operations_of(world.services):
        for operation in operations:
            if operation.model is not None:
                told = document["paths"][API + operation.path][operation.method.lower()]["responses"]["200"]
                schema = told["content"]["application/json"]["schema"]
                assert schema == {"$ref": f"#/components/schemas/{operation.model.__name__}"}, operation.path
