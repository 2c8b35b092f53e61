"""Where the service can be reached, once it can: the server opens its port after our start is complete."""

from __future__ import annotations

import asyncio

LOOK_S = 0.1
LOOKS = 20


async def own_url(host: str, port: int) -> str | None:
    """The URL of the settings as soon as somebody listens there.

    None where nobody does for two seconds: the server was told another address on its own command line.
    """
    for _ in range(LOOKS):
        await asyncio.sleep(LOOK_S)
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            continue
        writer.close()
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return None
