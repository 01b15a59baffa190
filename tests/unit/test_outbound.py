"""The guard for requests to addresses that others have named."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

import pytest

from orchestrator.errors import InvalidInput
from orchestrator.outbound import Caller, Refused, check_resolved, check_url, is_public, resolved


@pytest.mark.parametrize(
    ("url", "because"),
    [
        ("", "begins with nothing"),
        ("file:///etc/passwd", "begins with file:"),
        ("gopher://example.com/", "begins with gopher:"),
        ("javascript:alert(1)", "begins with javascript:"),
        ("//example.com/hook", "begins with nothing"),
        ("https://", "names no host"),
        ("https:///hook", "names no host"),
        ("https://example.com:0/", "names no host"),
        ("https://example.com:99999/", "cannot be read"),
        ("https://[::1/", "cannot be read"),
        ("https://user:word@example.com/", "no name or password"),
        ("https://example.com/#part", "no fragment"),
        ("https://example.com/a b", "percent-encoded"),
        ("https://example.com\\@127.0.0.1/", "percent-encoded"),
        ("https://exämple.com/", "percent-encoded"),
        ("https://example.com/" + "x" * 2000, "2000 are the most"),
        ("http://example.com/", "must begin with https://"),
        ("https://localhost/", "this machine or network"),
        ("https://LOCALHOST./", "this machine or network"),
        ("https://db.internal/", "this machine or network"),
        ("https://127.0.0.1/", "not a public address"),
        ("https://127.1/", "not a public address"),
        ("https://0x7f000001/", "not a public address"),
        ("https://2130706433/", "not a public address"),
        ("https://017700000001/", "not a public address"),
        ("https://0/", "not a public address"),
        ("https://10.0.0.8/", "not a public address"),
        ("https://169.254.169.254/latest/meta-data/", "not a public address"),
        ("https://[::1]/", "not a public address"),
        ("https://[::ffff:10.0.0.1]/", "not a public address"),
        ("https://[fd00:ec2::254]/", "not a public address"),
        ("https://[64:ff9b::a9fe:a9fe]/", "not a public address"),
        ("https://[2002:7f00:0001::1]/", "not a public address"),
        ("https://224.0.0.1/", "not a public address"),
        ("https://100.64.0.1/", "not a public address"),
        ("https://168.63.129.16/", "not a public address"),
        ("https://192.0.0.192/", "not a public address"),
        ("https://[fec0::1]/", "not a public address"),
        ("https://a..b/", "names no host"),
        ("https://.example.com/", "names no host"),
        (f"https://{'x' * 64}.example.com/", "names no host"),
    ],
)
def test_what_must_not_be_called_is_refused_with_the_reason(url: str, because: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_url(url, private=False)
    assert because in refused.value.detail


@pytest.mark.parametrize(
    "url", ["https://example.com/hook?x=1", "https://93.184.215.14:8443/", "https://xn--exmple-cua.com/"]
)
def test_public_addresses_are_taken(url: str) -> None:
    assert check_url(url, private=False) == url


def test_for_development_private_addresses_are_taken_and_files_are_not() -> None:
    assert check_url("http://127.0.0.1:9000/hook", private=True)
    with pytest.raises(InvalidInput):
        check_url("file:///etc/passwd", private=True)


def test_public_is_what_is_reachable_from_everywhere() -> None:
    assert is_public(ipaddress.ip_address("1.1.1.1")) and is_public(ipaddress.ip_address("2606:4700::1111"))
    for private in ("0.0.0.0", "255.255.255.255", "192.0.2.1", "198.18.0.1", "fe80::1", "ff02::1", "::", "2001:db8::1"):
        assert not is_public(ipaddress.ip_address(private)), private


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
    """What names resolve to, one answer after another."""
    left = list(answers)

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


async def test_a_name_with_a_private_address_among_others_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["1.1.1.1", "10.0.0.1"])
    with pytest.raises(Refused, match=r"resolves to 10\.0\.0\.1"):
        await resolved("example.com", 443, private=False)
    with pytest.raises(InvalidInput) as refused:
        await check_resolved("https://example.com/", private=False)
    assert refused.value.detail.startswith("example.com resolves to 10.0.0.1")


async def test_a_name_that_changes_its_mind_is_judged_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["1.1.1.1"], ["127.0.0.1"])
    await check_resolved("https://example.com/", private=False)
    caller = Caller()
    with pytest.raises(Refused, match=r"resolves to 127\.0\.0\.1"):
        await caller.post("https://example.com/", "{}", {})
    await caller.close()


async def test_a_name_that_does_not_resolve_is_left_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror("no such name")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    await check_resolved("https://example.com/", private=False)
    caller = Caller()
    with pytest.raises(OSError, match="no such name"):
        await caller.post("https://example.com/", "{}", {})
    await caller.close()


async def test_what_was_stored_before_the_rules_is_refused_when_it_is_called() -> None:
    caller = Caller()
    for url in ("http://127.0.0.1:1/", "https://169.254.169.254/latest", "file:///etc/passwd"):
        with pytest.raises(Refused):
            await caller.post(url, "{}", {})
    await caller.close()
