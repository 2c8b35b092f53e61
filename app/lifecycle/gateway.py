"""Start and stop around a gateway, and around the answering of gateways in the process that owns the feed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from starlette.types import ASGIApp

from app.lifecycle.listening import own_url
from app.lifecycle.logs import set_up_logs
from app.lifecycle.start import Supervisor
from app.rest.call_desk import CallDesk
from app.rest.calls import Seal
from app.runtime.build import Runtime
from app.runtime.gateway import GatewayRuntime
from app.runtime.places import secret_key_of


@asynccontextmanager
async def running_gateway(runtime: GatewayRuntime) -> AsyncIterator[GatewayRuntime]:
    """The gateway, started; everything is undone in reverse when the block ends."""
    settings = runtime.settings
    key = settings.bt_secret_key
    set_up_logs([*([key.get_secret_value()] if key else []), *settings.url_passwords])
    async with AsyncExitStack() as stack:
        await runtime.bus.start()
        stack.push_async_callback(runtime.bus.stop)
        runtime.link.start()
        stack.callback(runtime.link.stop)
        runtime.hub.start()
        stack.callback(runtime.hub.stop)
        tasks = Supervisor()
        stack.push_async_callback(tasks.stop)
        tasks.start([runtime.hub.run(), runtime.link.run(), runtime.stream.watch_sessions(), _announce(runtime)])
        yield runtime


async def _announce(runtime: GatewayRuntime) -> None:
    log = structlog.get_logger("gateway")
    log.info("listening", url=await own_url(runtime.settings.bt_host, runtime.settings.bt_port), role="gateway")
    await runtime.link.up.wait()
    log.info("Backend ready!")


@asynccontextmanager
async def answering_gateways(runtime: Runtime, api: ASGIApp) -> AsyncIterator[None]:
    """Where there is a bus between processes, the API answers what gateways send over it."""
    settings = runtime.settings
    if settings.bt_nats_url is None:
        yield
        return
    desk = CallDesk(
        api,
        runtime.services.authenticator.live,
        runtime.outbound.bus,
        Seal(secret_key_of(settings)),
        runtime.clock.machine_ms,
    )
    tasks = Supervisor()
    desk.start()
    tasks.start([desk.run()])
    try:
        yield
    finally:
        desk.stop()
        await tasks.stop()
