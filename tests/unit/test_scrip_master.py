"""Download of the instrument file from a real HTTP server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from app.dhan.scrip_master import MasterDownload, MasterUnavailable
from tests.fixtures.http_server import Answer, Request, serving

FILE = b"EXCH_ID,SEGMENT,SECURITY_ID\n" * 5000


@dataclass
class Site:
    reply: Answer = field(default_factory=lambda: Answer(body=FILE, headers={"ETag": '"one"', "Last-Modified": "Mon"}))
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        if request.headers.get("if-none-match") == self.reply.headers.get("ETag", "none"):
            return Answer(304)
        return self.reply


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    async with serving(site.answer) as url:
        site.url = f"{url}/api-data/api-scrip-master-detailed.csv"
        yield site


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
def download(site: Site, client: httpx.AsyncClient, tmp_path: Path) -> MasterDownload:
    return MasterDownload(client, site.url, tmp_path / "cache", bytes_max=1_000_000)


async def test_the_file_is_fetched_whole_and_its_progress_told(download: MasterDownload) -> None:
    told: list[tuple[int, int | None]] = []
    fetched = await download.fetch(lambda done, total: told.append((done, total)))
    assert (fetched.is_new, fetched.problem, fetched.path.read_bytes()) == (True, None, FILE)
    assert told[-1] == (len(FILE), len(FILE))
    assert sorted(done for done, _ in told) == [done for done, _ in told]
    assert fetched.path.suffix == ".csv"


async def test_an_unchanged_file_is_not_fetched_again(download: MasterDownload, site: Site) -> None:
    await download.fetch()
    fetched = await download.fetch()
    assert (fetched.is_new, fetched.problem) == (False, None)
    assert site.requests[1].headers["if-none-match"] == '"one"'
    assert site.requests[1].headers["if-modified-since"] == "Mon"


async def test_a_changed_file_replaces_the_old_one(download: MasterDownload, site: Site) -> None:
    await download.fetch()
    site.reply = Answer(body=FILE + b"more", headers={"ETag": '"two"'})
    fetched = await download.fetch()
    assert (fetched.is_new, fetched.path.read_bytes()) == (True, FILE + b"more")


async def test_a_file_that_was_refused_is_fetched_anew(download: MasterDownload) -> None:
    await download.fetch()
    download.forget()
    assert (await download.fetch()).is_new


async def test_a_lost_file_is_fetched_anew(download: MasterDownload) -> None:
    (await download.fetch()).path.unlink()
    assert (await download.fetch()).is_new


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Answer(503), "HTTP 503"),
        (Answer(404, b"<html>"), "HTTP 404"),
        (Answer(200, b""), "only 0 bytes"),
        (Answer(200, FILE[:1000], declared_length=len(FILE)), "RemoteProtocolError"),
        (Answer(200, b"", declared_length=1_000_001), "1000001 bytes, at most 1000000"),
    ],
)
async def test_yesterdays_file_stays_when_todays_fails(
    download: MasterDownload, site: Site, bad: Answer, why: str
) -> None:
    site.reply = bad
    with pytest.raises(MasterUnavailable, match=why):
        await download.fetch()
    assert list(download.path.parent.iterdir()) == []

    site.reply = Answer(body=FILE)
    await download.fetch()
    site.reply = bad
    fetched = await download.fetch()
    assert (fetched.is_new, fetched.path.read_bytes()) == (False, FILE)
    assert why in str(fetched.problem)


async def test_an_endless_file_is_cut_off(site: Site, client: httpx.AsyncClient, tmp_path: Path) -> None:
    download = MasterDownload(client, site.url, tmp_path, bytes_max=70_000)
    site.reply = Answer(body=FILE, headers={"Content-Encoding": "identity"})
    with pytest.raises(MasterUnavailable, match="more than 70000 bytes"):
        await download.fetch()


async def test_each_url_has_its_own_file(client: httpx.AsyncClient, tmp_path: Path) -> None:
    names = {
        MasterDownload(client, url, tmp_path).path.name
        for url in ("http://x/a.csv", "http://x/b.csv", "http://x/a.csv.gz", "http://x/", "http://x/a.csv?day=1")
    }
    assert len(names) == 5
    assert sum(name.endswith(".csv.gz") for name in names) == 1
