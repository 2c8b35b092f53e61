"""A process that commits until it is killed: ``python -m tests.contract.committer URL ROUND``.

After each commit that was answered it prints the symbol it stored, and nothing before.
"""

from __future__ import annotations

import asyncio
import sys

from app.ports.store import Changes
from app.storage.sql_store import SqlStore
from tests.contract.fakes import SetClock, entry, leg, line

LEGS = 10


def changes(symbol: str) -> Changes:
    """One entry, its legs and their audit lines, as one add writes them."""
    tokens = [f"{symbol}_{number}" for number in range(LEGS)]
    return Changes(
        entries_added=[entry(symbol)],
        legs=[leg(token=token, symbol=symbol) for token in tokens],
        audit=[line(token) for token in tokens],
    )


async def run(url: str, round_: int) -> None:
    store = SqlStore(url, SetClock())
    await store.start()
    print("ready", flush=True)
    number = 0
    while True:
        symbol = f"R{round_}N{number}"
        await store.commit(changes(symbol))
        print(symbol, flush=True)
        number += 1


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
