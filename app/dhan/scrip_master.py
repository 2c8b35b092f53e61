"""Download of the instrument file (protocol notes, 4.1): only when it changed, bounded, and never half a file.

What was fetched before stays in use when a download fails. Whether the content is any good is for the registry to say;
:meth:`MasterDownload.forget` makes the next download start anew after it said no.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final
from urllib.parse import urlsplit

import httpx

DETAILED_URL: Final = "https://images.dhan.co/api-data/api-scrip-master-detailed.csv"
BYTES_MAX: Final = 512 << 20
BYTES_MIN: Final = 16  # an empty answer is no file

_SUFFIXES: Final = (".csv", ".gz", ".zst", ".zip")

Progress = Callable[[int, int | None], None]
"""Called with bytes so far and bytes in all, None where the server does not say."""


class MasterUnavailable(Exception):
    """Nothing could be downloaded and nothing is kept from before."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """``problem`` says why the file is the one from before, None if it is as the server has it now."""

    path: Path
    is_new: bool
    problem: str | None = None


class MasterDownload:
    """One URL and its kept file in ``folder``."""

    def __init__(self, client: httpx.AsyncClient, url: str, folder: Path, *, bytes_max: int = BYTES_MAX) -> None:
        name = PurePosixPath(urlsplit(url).path).name or "master"
        suffix = "".join(part for part in PurePosixPath(name).suffixes if part in _SUFFIXES) or ".csv"
        # One name for each URL: another source must not be taken for today's.
        self.path = folder / f"master-{sha256(url.encode()).hexdigest()[:12]}{suffix}"
        self._client = client
        self._url = url
        self._marks = self.path.with_name(self.path.name + ".json")
        self._part = self.path.with_name(self.path.name + ".part")
        self._bytes_max = bytes_max

    async def fetch(self, progress: Progress = lambda _done, _total: None) -> Fetched:
        """Bring the file up to date.

        Raises:
            MasterUnavailable: it failed and there is no file from before.
        """
        try:
            is_new = await self._download(progress)
        except (httpx.HTTPError, OSError, _Refused) as error:
            problem = f"{type(error).__name__.lstrip('_')}: {error}"
            if not self.path.exists():
                raise MasterUnavailable(f"{self._url}: {problem}") from error
            return Fetched(self.path, is_new=False, problem=problem)
        finally:
            self._part.unlink(missing_ok=True)
        return Fetched(self.path, is_new)

    def forget(self) -> None:
        """Ask for the whole file next time, whatever the server says of changes."""
        self._marks.unlink(missing_ok=True)

    async def _download(self, progress: Progress) -> bool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        async with self._client.stream("GET", self._url, headers=self._conditions(), follow_redirects=True) as response:
            if response.status_code == httpx.codes.NOT_MODIFIED:
                return False
            if response.status_code != httpx.codes.OK:
                raise _Refused(f"HTTP {response.status_code}")
            with _open(self._part) as part:
                await self._save(response, part, progress)
            self._part.replace(self.path)
            self._note(response)
        return True

    async def _save(self, response: httpx.Response, part: BinaryIO, progress: Progress) -> None:
        length = response.headers.get("content-length", "")
        total = int(length) if length.isdecimal() and "content-encoding" not in response.headers else None
        if total is not None and total > self._bytes_max:
            raise _Refused(f"{total} bytes, at most {self._bytes_max} are taken")
        done = 0
        async for chunk in response.aiter_bytes(1 << 16):
            done += len(chunk)
            if done > self._bytes_max:
                raise _Refused(f"more than {self._bytes_max} bytes")
            part.write(chunk)
            progress(done, total)
        if done < BYTES_MIN:
            raise _Refused(f"only {done} bytes")

    def _conditions(self) -> dict[str, str]:
        if not self.path.exists():
            return {}
        try:
            marks = json.loads(self._marks.read_bytes())
            return {name: value for name, value in marks.items() if isinstance(value, str)}
        except (OSError, ValueError, AttributeError):
            return {}

    def _note(self, response: httpx.Response) -> None:
        told = {
            "If-None-Match": response.headers.get("etag"),
            "If-Modified-Since": response.headers.get("last-modified"),
        }
        self._marks.write_text(json.dumps({name: value for name, value in told.items() if value}))


class _Refused(Exception):
    """The answer is not a file that we take."""


def _open(path: Path) -> BinaryIO:
    return path.open("wb")
