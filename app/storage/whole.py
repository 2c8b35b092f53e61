"""Work that a cancelled caller may not cut in two."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


async def whole(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run work to its end even if the caller is cancelled meanwhile; the cancellation is raised afterwards.

    The database driver leaves connections and locks behind when it is cut short. The task is owned here: this never
    returns before it is done.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        # The work's own outcome has nobody left to hear it; reading it keeps the loop from reporting it.
        task.exception()
        raise cancelled
    return task.result()
