"""Requests to addresses that others have named: never to private ones, never redirected, bounded in time and size.

A name is resolved here, each of its addresses is judged, and the connection goes to the very address that was judged;
so a name that resolves to something else a moment later changes nothing. Proxies of the environment are not used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpcore

from orchestrator.errors import InvalidInput

MAX_URL = 2_000
TOTAL_SECONDS = 15.0
CONNECT_SECONDS = 5.0
RESOLVE_SECONDS = 5.0
ANSWER_BYTES = 4_096
"""So much of an answer is read; then the connection is closed."""
REFUSED = tuple(
    map(
        ipaddress.ip_network,
        ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "fec0::/10", "3fff::/20", "100::/64", "2001::/23"),
    )
)
"""Special ranges that not every version of the standard library knows, and a cloud's own service."""
NAT64 = ipaddress.ip_network("64:ff9b::/96")
LOCAL_NAMES = ("localhost", ".localhost", ".local", ".internal", ".home.arpa")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Refused(Exception):
    """The request was not made, for a reason that can be shown."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The beginning of an answer, and how long to wait if it says so (seconds)."""

    status: int
    text: str
    retry_after: float | None


def check_url(url: str, *, private: bool, pointer: str = "/url") -> str:
    """What can be said of an address before it is used. `private`: private addresses and plain HTTP are allowed.

    Raises InvalidInput.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidInput.at(pointer, "The URL cannot be read.") from None
    because = _what_is_wrong(url, parts, host, port, private)
    if because is not None:
        raise InvalidInput.at(pointer, because)
    return url


def _what_is_wrong(url: str, parts: SplitResult, host: str | None, port: int | None, private: bool) -> str | None:
    if len(url) > MAX_URL:
        return f"The URL has {len(url)} characters; {MAX_URL} are the most."
    if any(c <= " " or c == "\x7f" or c == "\\" for c in url) or not url.isascii():
        return "The URL has characters in it that must be percent-encoded (or, in a name, be written as xn--)."
    if parts.scheme not in ("https", "http"):
        return f"The URL begins with {parts.scheme[:20] or 'nothing'}:; it must begin with https://."
    labels = (host or "").rstrip(".").split(".")
    if not host or port == 0 or (":" not in host and not all(0 < len(label) < 64 for label in labels)):
        return "The URL names no host."
    if parts.username is not None or parts.password is not None:
        return "The URL must hold no name or password; messages are signed."
    if parts.fragment:
        return "The URL must have no fragment (#...)."
    if private:
        return None
    if parts.scheme != "https":
        return "The URL must begin with https://, since messages go over the internet."
    address = _literal(host.rstrip("."))
    name = host.rstrip(".").lower()
    if address is None and (name == "localhost" or name.endswith(LOCAL_NAMES)):
        return f"{name[:100]} is a name of this machine or network; only public addresses are called."
    if address is not None and not is_public(address):
        return f"{address} is not a public address; only public addresses are called."
    return None


async def check_resolved(url: str, *, private: bool, pointer: str = "/url") -> None:
    """Whether the name resolves to public addresses only. One that does not resolve now is judged when it is called.

    Raises InvalidInput.
    """
    host = urlsplit(url).hostname or ""
    try:
        await resolved(host, 443, private=private)
    except Refused as error:
        raise InvalidInput.at(pointer, f"{error}.") from None
    except OSError:
        return


def is_public(address: Address) -> bool:
    """Whether an address is one of the internet at large, whatever it is wrapped in."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None and not is_public(inner):
            return False
    if any(address in network for network in REFUSED):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


async def resolved(host: str, port: int, *, private: bool) -> list[str]:
    """The addresses of a host. Raises Refused if one of them is private, OSError if there is none."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(RESOLVE_SECONDS):
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:
            raise Refused(f"{host[:100]!r} is no name of a host") from None
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    for text in addresses:
        address = _literal(text.partition("%")[0])
        if not private and (address is None or not is_public(address)):
            raise Refused(f"{host[:100]} resolves to {text}, which is not a public address")
    return addresses


def _literal(host: str) -> Address | None:
    """The address that a host is, in any notation that the system would take for one."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))  # 127.1, 0x7f000001, 2130706433
    except (OSError, UnicodeError):
        return None


class _Judged(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were judged."""

    def __init__(self, private: bool) -> None:
        self._private = private
        self._plain: Any = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        problem: Exception | None = None
        for address in await resolved(host, port, private=self._private):
            try:
                return await self._plain.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
        raise problem or httpcore.ConnectError(f"{host} has no address")

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise Refused("sockets of this machine are not called")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Caller:
    """Posts to addresses that others have named. `private`: private addresses are allowed, for development."""

    def __init__(self, *, private: bool = False, ssl_context: ssl.SSLContext | None = None) -> None:
        self._private = private
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context or ssl.create_default_context(),
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=10.0,
            network_backend=_Judged(private),
        )

    async def close(self) -> None:
        await self._pool.aclose()

    async def post(self, url: str, body: str, headers: Mapping[str, str], seconds: float = TOTAL_SECONDS) -> Answered:
        """Raises Refused, TimeoutError, or an OSError or httpcore error for what did not work."""
        try:
            check_url(url, private=self._private)
        except InvalidInput as error:
            raise Refused(error.detail.rstrip(".")) from None
        async with asyncio.timeout(seconds):
            extensions = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), CONNECT_SECONDS * 2)}
            async with self._pool.stream(
                "POST", url, headers=list(headers.items()), content=body.encode(), extensions=extensions
            ) as response:
                text = await _beginning(response)
        return Answered(response.status, text, _retry_after(response.headers))


async def _beginning(response: httpcore.Response) -> str:
    read = b""
    async for part in response.aiter_stream():
        read += part
        if len(read) >= ANSWER_BYTES:
            break
    return read[:ANSWER_BYTES].decode("utf-8", "replace")


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    value = next((value for name, value in headers if name.lower() == b"retry-after"), b"")
    return float(value) if value.isdigit() and len(value) < 8 else None
