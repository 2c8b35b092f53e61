"""One feed owner per data directory, and the second is told who holds it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from app.lifecycle.feed_lock import FeedLock

HOLD = """
import sys
from pathlib import Path
from app.lifecycle.feed_lock import FeedLock
lock = FeedLock(Path(sys.argv[1]))
assert lock.acquire() is None
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_learns_who_holds_it_and_gets_it_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "feed.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        lock = FeedLock(path)
        assert f"process {holder.pid} " in (lock.acquire() or "")
        holder.kill()
        holder.wait()
        assert lock.acquire() is None
        assert f"process {os.getpid()} " in path.read_text()
        lock.release()
