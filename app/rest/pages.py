"""The page at ``/``, and ``/docs`` without a CDN: files from disk, with the headers that each kind needs."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.rest.answers import problem

WEB_DIR = Path(__file__).resolve().parents[1] / "web"
PAGE_CSP = (
    "default-src 'self'; connect-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HOW_TO_BUILD = "the page is not built; run: make web"
IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
_COMPRESS_FROM_BYTES = 1_024
_COMPRESSED_TYPES = ("text/", "application/javascript", "application/json", "image/svg+xml", "application/wasm")
_FILES_MAX = 256
# Some systems' tables are empty or odd; a module script of another type is refused by browsers.
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

_DOCS_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Broking Terminal API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body></html>
"""
_DOCS_START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null, docExpansion: "list",
  defaultModelsExpandDepth: 0, presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout"
});
"""


class _Stamp(NamedTuple):
    modified_ns: int
    size: int


@dataclass(frozen=True, slots=True)
class _Loaded:
    stamp: _Stamp
    body: bytes
    compressed: bytes | None
    media_type: str
    etag: str


class FileShelf:
    """Small files of one folder, kept in memory once asked for and read again when they change on disk."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._loaded: dict[str, _Loaded] = {}

    def answer(self, request: Request, name: str, cache: str) -> Response:
        """The file, or 304 where the client has it. Raises HTTP 404 for anything outside the folder or not there."""
        loaded = self._load(name)
        headers = {
            "Cache-Control": cache,
            "ETag": loaded.etag,
            "Content-Security-Policy": PAGE_CSP,
            "Vary": "Accept-Encoding",
        }
        if request.headers.get("if-none-match") == loaded.etag:
            return Response(status_code=304, headers=headers)
        body = loaded.body
        if loaded.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            body = loaded.compressed
            headers["Content-Encoding"] = "gzip"
        return Response(body, headers=headers, media_type=loaded.media_type)

    def has(self, name: str) -> bool:
        return (self._root / name).is_file()

    def _load(self, name: str) -> _Loaded:
        try:
            path = (self._root / name).resolve()
            found = path.is_relative_to(self._root.resolve()) and path.is_file()
        except (ValueError, OSError):  # a NUL in it, or longer than the name of any file
            found = False
        if not found:
            raise HTTPException(404)
        status = path.stat()
        stamp = _Stamp(status.st_mtime_ns, status.st_size)
        known = self._loaded.get(name)
        if known is None or known.stamp != stamp:
            if len(self._loaded) >= _FILES_MAX:
                self._loaded.clear()
            known = self._loaded[name] = _read(path, stamp)
        return known


def _read(path: Path, stamp: _Stamp) -> _Loaded:
    body = path.read_bytes()
    media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    compresses = len(body) >= _COMPRESS_FROM_BYTES and media_type.startswith(_COMPRESSED_TYPES)
    compressed = gzip.compress(body, 6, mtime=0) if compresses else None
    return _Loaded(stamp, body, compressed, media_type, f'"{hashlib.sha256(body).hexdigest()[:24]}"')


def create_pages_router(web_dir: Path = WEB_DIR) -> APIRouter:
    """Routes of the page and the documentation. Include it last: ``/{name}`` takes what is left of the root."""
    router = APIRouter(include_in_schema=False)
    page = FileShelf(web_dir)
    assets = FileShelf(web_dir / "assets")
    docs = FileShelf(Path(str(files("fastapi_offline"))) / "static")

    async def index(request: Request) -> Response:
        if not page.has("index.html"):
            return problem(503, "PAGE_NOT_BUILT", HOW_TO_BUILD, "/")
        return page.answer(request, "index.html", REVALIDATE)

    async def asset(request: Request, path: str) -> Response:
        return assets.answer(request, path, IMMUTABLE)

    async def other(request: Request, name: str) -> Response:
        return page.answer(request, name, REVALIDATE)

    async def docs_page() -> Response:
        return _text(_DOCS_PAGE, "text/html")

    async def docs_start() -> Response:
        return _text(_DOCS_START, "text/javascript")

    async def docs_file(request: Request, name: str) -> Response:
        return docs.answer(request, name, REVALIDATE)

    for path, endpoint in (
        ("/", index),
        ("/docs", docs_page),
        ("/docs/start.js", docs_start),
        ("/docs/{name}", docs_file),
        ("/assets/{path:path}", asset),
        ("/{name}", other),
    ):
        router.add_api_route(path, endpoint, methods=["GET", "HEAD"])
    return router


def _text(content: str, media_type: str) -> Response:
    return Response(
        content, headers={"Content-Security-Policy": PAGE_CSP, "Cache-Control": REVALIDATE}, media_type=media_type
    )
