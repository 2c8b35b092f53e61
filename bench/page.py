"""What the page costs its browser's main thread: 101 strikes, every row changing, against a bare windowed grid.

Both read the same packed frames from the same little server, in turns within one run, so that a noisy neighbour hurts
both alike. ``python -m bench.page [--seconds 8] [--rounds 5]`` prints a table and writes ``bench/results/page.json``.
``--minutes 30`` watches the page's JavaScript heap instead, with the charts and a row's details open, and writes
``bench/results/page_heap.json``. A minute at 25 Hz goes before it, as many frames as five minutes have otherwise: the
engine compiles what is called often, and what the page keeps on purpose fills up. Nothing that grows with every frame,
every minute or every request can hide in it, since the half hour that is judged has six times as many of each.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse
from playwright.async_api import Browser, CDPSession, Page, async_playwright

from app.rest.pages import create_pages_router
from app.stream.fields import FIELD_INDEX, ROW_FIELDS
from app.stream.frames import Labels, dictionary, to_binary
from app.stream.sequence import Picture, Sequence

HERE = Path(__file__).resolve().parent
TOPIC = "chain:NIFTY:26FEB2026"
STRIKES = [22_500 + 50 * step for step in range(101)]
TOKENS = tuple(f"NIFTY_26FEB2026_{strike}{side}" for strike in STRIKES for side in ("CE", "PE"))
RATES_HZ = (5, 10)
LIMIT_RATIO = 1.3
LONG_FRAME_MS = 50.0
HEAP_HZ = 5
WARM_UP_HZ, WARM_UP_MS = 25, 180_000  # the charts, drawn every two seconds, take longest to be compiled
LIVE_CODE = 9
START_MS = 1_770_000_000_000
CHANGING = ("ltp", "change", "change_pct", "bid", "ask", "volume", "iv")


class Market:
    """Rows of one chain; every row changes with every step, open interest on 3 % of them."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.values = np.full((len(TOKENS), len(ROW_FIELDS)), np.nan)
        self.values[:, :] = self._random.integers(1, 4_000_000, self.values.shape)
        for name in ("ltp", "change", "bid", "ask", "change_pct", "iv", "delta"):
            self.values[:, FIELD_INDEX[name]] = np.round(self._random.uniform(5, 900, len(TOKENS)), 2)
        self.values[:, FIELD_INDEX["state"]] = LIVE_CODE
        self.values[:, FIELD_INDEX["oi_basis"]] = 1
        self.values[:, FIELD_INDEX["age_ms"]] = 50

    def step(self) -> None:
        for name in CHANGING:
            column = self.values[:, FIELD_INDEX[name]]
            moved = self._random.choice((-0.15, -0.1, -0.05, 0.05, 0.1, 0.15), len(column))
            self.values[:, FIELD_INDEX[name]] = np.round(np.abs(column + (75 if name == "volume" else moved)), 2)
        some = self._random.random(len(TOKENS)) < 0.03
        self.values[some, FIELD_INDEX["oi"]] += 75

    def quote(self, token: str) -> dict[str, Any]:
        """The instrument's row as a message of its own tells it."""
        row = self.values[TOKENS.index(token)]
        told = {name: row[FIELD_INDEX[name]] for name in (*CHANGING, "oi", "oi_change", "ltt_ms", "delta")}
        return {"rows": {token: {**told, "state": "LIVE", "age_ms": 50}}}

    def depth(self, token: str) -> dict[str, Any]:
        price = self.values[TOKENS.index(token), FIELD_INDEX["bid"]]
        levels = [{"price": round(price + 0.05 * n, 2), "qty": 75 * (n + 1), "orders": n + 1} for n in range(5)]
        return {"bids": levels, "asks": levels}

    def picture(self) -> Picture:
        summary = {"underlying_ltp": 25_003.15, "underlying_source": "live", "atm_strike": 25_000.0, "pcr": 1.08}
        return Picture({"summary": summary, "coverage": {"legs": 202, "live": 202}}, self.values.copy())


def _bars() -> dict[str, Any]:
    """A whole session of minutes, as the charts ask for them."""
    column = [25_000 + minute % 40 for minute in range(375)]
    chain = dict.fromkeys(("straddle", "atm_iv", "ce_oi", "pe_oi", "pcr"), column)
    prices = dict.fromkeys(("open", "high", "low", "close"), column)
    day = {"day": "2026-02-03", "interval_ms": 60_000, "start_ms": START_MS - 375 * 60_000, "count": len(column)}
    return {"symbol": "NIFTY", "underlying": "NIFTY_IDX", "expiry": "26FEB2026", **day, **prices, "chain": chain}


def make_app() -> FastAPI:
    """The few answers that the page asks for at its start, and the stream."""
    app = FastAPI()
    sockets = {
        f"ws_{n}": {"active": True, "state": "up", "instruments": 1_700, "last_data_age_ms": 40} for n in range(5)
    }
    told = {
        "/health": {"status": "healthy", "reasons": [], "feed": {"source": "simulator"}, "market": {}},
        "/api/v2/watchlist/1": {"user_id": 1, "count": 0, "watchlist": []},
        "/api/v2/watchlists/1": {"lists": [{"name": "default", "count": 0, "evicted": 0, "is_default": True}]},
        "/api/v2/bars/NIFTY": _bars(),
        f"/api/v2/subscriptions/{TOKENS[100]}": {"token": TOKENS[100], "details": {}, "why": "measured"},
        "/api/v2/instruments/NIFTY/expiries": {"symbol": "NIFTY", "expiries": ["26FEB2026"], "count": 1},
        "/api/v2/instruments/NIFTY": {"symbol": "NIFTY", "lot_size": 75, "tick": 0.05, "segments": ["IDX_I"]},
    }
    for path, answer in told.items():
        app.add_api_route(path, lambda answer=answer: answer)

    @app.get("/bare")
    def bare() -> HTMLResponse:
        return HTMLResponse((HERE / "page_bare.html").read_text())

    @app.websocket("/api/v2/stream")
    async def stream(socket: WebSocket) -> None:
        await socket.accept(subprotocol="bt.binary.v1")
        try:
            await Visit(socket, {"subscriptions": {}, "websocket": {"per_connection": sockets}}).serve(app)
        except* (WebSocketDisconnect, RuntimeError):
            pass  # the page has left

    app.include_router(create_pages_router())
    return app


class Visit:
    """One page on the stream: the chain in packed frames, its status each second, what its open details ask for."""

    def __init__(self, socket: WebSocket, status: dict[str, Any]) -> None:
        self._socket = socket
        self._status = status
        self._seqs: dict[str, int] = {}  # of each topic that was asked for
        self._at_ms = START_MS

    async def serve(self, app: FastAPI) -> None:
        """Send at ``app.state.hz`` until the page leaves."""
        while TOPIC not in self._seqs:
            await self._read()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read_on())
            group.create_task(self._send(app))

    async def _read(self) -> None:
        asked = json.loads(await self._socket.receive_text())
        for topic in asked.get("topics", [asked.get("topic")]):
            if asked["op"] in ("subscribe", "resume"):
                self._seqs[topic] = 0
            else:
                self._seqs.pop(topic, None)

    async def _read_on(self) -> None:
        while True:
            await self._read()

    async def _send(self, app: FastAPI) -> None:
        market, sequence, labels = Market(1), Sequence(1), Labels(TOPIC, 1, 0, TOKENS)
        while True:
            update = sequence.advance(market.picture(), self._at_ms)
            assert update is not None
            if update.is_snapshot:
                await self._socket.send_text(dictionary(labels).decode())
            await self._socket.send_bytes(to_binary(labels, update))
            await self._tell_the_rest(market)
            market.step()
            self._at_ms += int(1_000 / app.state.hz)
            await asyncio.sleep(1 / app.state.hz)

    async def _tell_the_rest(self, market: Market) -> None:
        told: dict[str, object] = {"status": self._status} if self._at_ms % 1_000 == 0 else {}
        for topic in self._seqs:
            kind, _, token = topic.partition(":")
            if token in TOKENS:
                told[topic] = market.depth(token) if kind == "depth" else market.quote(token)
        for topic, data in told.items():
            if topic not in self._seqs:
                continue
            self._seqs[topic] += 1
            head = {"type": "delta" if self._seqs[topic] > 1 else "snapshot", "topic": topic, "seq": self._seqs[topic]}
            await self._socket.send_text(json.dumps({**head, "at_ms": self._at_ms, "data": data}))


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of one wall second, and the frames of the window."""

    task: float
    script: float
    layout: float
    style: float
    longest_frame: float
    long_frames: int


async def measure(page: Page, seconds: float) -> Cost:
    """Thread time of the page's main thread over a window, by the browser's own counters."""
    session = await page.context.new_cdp_session(page)
    await session.send("Performance.enable", {"timeDomain": "threadTicks"})
    await page.evaluate("""() => { window.__frames = []; let last = performance.now();
        const tick = now => { window.__frames.push(now - last); last = now; window.__id = requestAnimationFrame(tick) };
        window.__id = requestAnimationFrame(tick) }""")
    before = await _counters(session)
    await page.wait_for_timeout(seconds * 1000)
    after = await _counters(session)
    frames: list[float] = await page.evaluate("() => { cancelAnimationFrame(window.__id); return window.__frames }")
    per = {name: (after[name] - before[name]) * 1000 / seconds for name in before}
    return Cost(
        task=per["TaskDuration"],
        script=per["ScriptDuration"],
        layout=per["LayoutDuration"],
        style=per["RecalcStyleDuration"],
        longest_frame=max(frames[1:]),
        long_frames=sum(frame > LONG_FRAME_MS for frame in frames[1:]),
    )


async def _counters(session: CDPSession) -> dict[str, float]:
    names = ("TaskDuration", "ScriptDuration", "LayoutDuration", "RecalcStyleDuration")
    told = {one["name"]: one["value"] for one in (await session.send("Performance.getMetrics"))["metrics"]}
    return {name: told[name] for name in names}


@contextlib.asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws_per_message_deflate=False)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it by this flag only
        await asyncio.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await running


async def _window(browser: Browser, url: str, path: str, seconds: float) -> Cost:
    page = await browser.new_page(viewport={"width": 1600, "height": 950})
    await page.goto(url + path)
    await page.wait_for_timeout(2_500)
    cost = await measure(page, seconds)
    await page.close()
    return cost


async def compare(seconds: float, rounds: int) -> dict[str, Any]:
    """Bare and page in turns at each rate."""
    app = make_app()
    found: dict[str, Any] = {}
    async with serving(app) as url, _chromium() as browser:
        for hz in RATES_HZ:
            app.state.hz = hz
            costs: dict[str, list[Cost]] = {"bare": [], "page": []}
            for _ in range(rounds):
                costs["bare"].append(await _window(browser, url, "/bare", seconds))
                costs["page"].append(await _window(browser, url, "/#/chain/NIFTY/26FEB2026", seconds))
            found[f"{hz} Hz"] = _verdict(costs)
    return found


def _verdict(costs: dict[str, list[Cost]]) -> dict[str, Any]:
    def middle(which: str, name: str) -> float:
        return round(statistics.median(getattr(cost, name) for cost in costs[which]), 1)

    names = ("task", "script", "layout", "style", "longest_frame")
    rows = {which: {name: middle(which, name) for name in names} for which in costs}
    for which in costs:
        rows[which]["long_frames"] = sum(cost.long_frames for cost in costs[which])
    ratio = statistics.median(page.task / bare.task for bare, page in zip(costs["bare"], costs["page"], strict=True))
    return {**rows, "ratio": round(ratio, 2), "within": ratio <= LIMIT_RATIO}


async def watch_heap(minutes: float) -> dict[str, Any]:
    """What the heap holds, each minute at 5 Hz, after a warm-up."""
    app = make_app()
    app.state.hz = HEAP_HZ
    async with serving(app) as url, _chromium() as browser:
        page = await browser.new_page(viewport={"width": 1600, "height": 950})
        await page.goto(url + "/#/chain/NIFTY/26FEB2026")
        await page.get_by_test_id("charts").click()
        await page.locator(".row.atm .c-ltp.ce").click()
        await page.get_by_test_id("detail").wait_for()
        app.state.hz = WARM_UP_HZ
        await page.wait_for_timeout(WARM_UP_MS)
        app.state.hz = HEAP_HZ
        session = await page.context.new_cdp_session(page)
        looks, warmed = [await _heap(session)], await _painted(page)
        for _ in range(round(minutes)):
            await page.wait_for_timeout(60_000)
            looks.append(await _heap(session))
            print(looks[-1], flush=True)
        painted = await _painted(page) - warmed
    totals = [round(look["code"] + look["data"], 3) for look in looks]
    return {
        "minutes": minutes,
        "frames": painted,
        "first_mb": totals[0],
        "last_mb": totals[-1],
        "highest_mb": max(totals),
        "growth_percent": round((totals[-1] / totals[0] - 1) * 100, 2),
        "samples_mb": looks,
    }


async def _painted(page: Page) -> int:
    return int(await page.get_by_test_id("chain").get_attribute("data-seq") or 0)


async def _heap(session: CDPSession) -> dict[str, float]:
    """Megabytes that are reachable: the engine's code, with what it learned for it, and all other JavaScript objects.

    From a heap snapshot, which collects first: the engine's own counter has what came in since its last collection.
    """
    chunks: list[str] = []

    def take(event: dict[str, str]) -> None:
        chunks.append(event["chunk"])

    session.on("HeapProfiler.addHeapSnapshotChunk", take)
    await session.send("HeapProfiler.takeHeapSnapshot", {"reportProgress": False})
    session.remove_listener("HeapProfiler.addHeapSnapshotChunk", take)
    taken = json.loads("".join(chunks))
    meta = taken["snapshot"]["meta"]
    nodes = np.array(taken["nodes"]).reshape(-1, len(meta["node_fields"]))
    kinds = np.array(meta["node_types"][0])[nodes[:, meta["node_fields"].index("type")]]
    sizes = nodes[:, meta["node_fields"].index("self_size")] / 2**20
    is_code, is_browsers = np.isin(kinds, ("code", "object shape")), kinds == "native"
    return {
        "code": round(float(sizes[is_code].sum()), 3),
        "data": round(float(sizes[~is_code & ~is_browsers].sum()), 3),
    }


@contextlib.asynccontextmanager
async def _chromium() -> AsyncIterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        await browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=0.0, help="watch the heap for so long")
    asked = parser.parse_args()
    found = asyncio.run(watch_heap(asked.minutes) if asked.minutes else compare(asked.seconds, asked.rounds))
    print(json.dumps(found, indent=2))
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / ("page_heap.json" if asked.minutes else "page.json")).write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
