"""PURE: may this request come in without a token, judged by what the connection shows (``BT_AUTH``).

A browser on the same machine reaches the loopback address for any page it shows. What it cannot do is hide where the
page came from: a foreign ``Origin`` (cross-site request) or a foreign ``Host`` (DNS rebinding) gives it away.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

Headers = Iterable[tuple[bytes, bytes]]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_FORWARDING = frozenset({b"forwarded", b"via", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip"})
_FORWARDING_PREFIXES = (b"x-forwarded", b"cf-", b"x-envoy-", b"x-original-")
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def is_local(scope: Mapping[str, Any], own_hosts: Collection[str] = ()) -> bool:
    """True for plain loopback: both ends loopback, nothing forwarded, and no foreign page behind it."""
    return (
        is_loopback_end(scope.get("client"))
        and is_loopback_end(scope.get("server"))
        and not is_forwarded(scope["headers"])
        and is_same_site(scope, own_hosts)
    )


def is_loopback_end(end: object) -> bool:
    """An ASGI ``client`` or ``server`` pair on the loopback interface; a missing one is not."""
    if not isinstance(end, tuple | list) or not end or not isinstance(end[0], str):
        return False
    try:
        address = ipaddress.ip_address(end[0].partition("%")[0])
    except ValueError:
        return end[0] == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_forwarded(headers: Headers) -> bool:
    return any(name in _FORWARDING or name.startswith(_FORWARDING_PREFIXES) for name, _ in headers)


def is_same_site(scope: Mapping[str, Any], own_hosts: Collection[str] = ()) -> bool:
    """No sign of a foreign page: ``Host`` is ours, and ``Origin``, where there is one, is that host."""
    headers = scope["headers"]
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1:
        return False
    scheme = str(scope.get("scheme", "http"))
    here = _split(f"{scheme}://{hosts[0].decode('latin-1')}")
    if here is None or here[0] not in LOOPBACK_NAMES | frozenset(own_hosts):
        return False
    if _one(headers, b"sec-fetch-site") == b"cross-site":
        return False
    origins = [value for name, value in headers if name == b"origin"]
    return all(_split(origin.decode("latin-1")) == here for origin in origins)


def _one(headers: Headers, wanted: bytes) -> bytes | None:
    return next((value for name, value in headers if name == wanted), None)


def _split(url: str) -> tuple[str, int] | None:
    """Host and port of a URL; None for what is none, such as the opaque origin ``null``."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.hostname is None or parts.username is not None or parts.path or parts.query:
        return None
    default = _DEFAULT_PORTS.get(parts.scheme)
    if port is None and default is None:
        return None
    return parts.hostname.lower(), port if port is not None else int(default or 0)


def address_of(scope: Mapping[str, Any]) -> str:
    """The client's address as an attempt limiter counts it: IPv6 by its /64, which one household owns whole."""
    client = scope.get("client")
    if not client:
        return "unknown"
    text = str(client[0])
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False).network_address)
    return str(address)
