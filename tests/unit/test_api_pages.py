"""The pages for browsers: what they may load, what is written into them, and the files that go with them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from api.routes import pages
from tests.unit.api_world import api, make

SESSION = "3f0c0db6-eac0-40bf-8656-a21b9709cb5c"
OF_A_SESSION = ["/interview/{}", "/sessions/{}/live"]
PAGES = [*OF_A_SESSION, "/"]
LIVEKIT: dict[str, Any] = {"livekit_url": None, "livekit_public_url": None}


class Page(HTMLParser):
    """What a browser makes of a page: its elements, and the text of its config."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._in_config = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_config = dict(attrs).get("id") == "config"

    def handle_endtag(self, tag: str) -> None:
        self._in_config = False

    def handle_data(self, data: str) -> None:
        self.text += data if self._in_config else ""

    @property
    def config(self) -> dict[str, Any]:
        return json.loads(self.text)


async def got(path: str, **changes: Any) -> httpx.Response:
    async with api(key="k3y", **{**LIVEKIT, **changes}) as (http, _):
        return await http.get(path)


async def page(path: str, **changes: Any) -> tuple[Page, httpx.Response]:
    answer = await got(path, **changes)
    assert answer.status_code == 200, answer.text
    return Page(answer.text), answer


def policy_of(answer: httpx.Response) -> dict[str, list[str]]:
    """The Content-Security-Policy, by directive."""
    directives = [directive.split() for directive in answer.headers["content-security-policy"].split(";")]
    policy = {name: sources for name, *sources in directives}
    assert len(policy) == len(directives), "of two directives of one name browsers forget the second"
    return policy


# What a page may do


@pytest.mark.parametrize("path", PAGES)
async def test_only_our_own_scripts_run(path: str) -> None:
    _, answer = await page(path.format(SESSION))
    policy = policy_of(answer)
    assert policy["default-src"] == ["'none'"] and policy["script-src"] == ["'self'"]
    everything = answer.headers["content-security-policy"]
    for never in ("unsafe-inline", "unsafe-eval", "unsafe-hashes", "strict-dynamic", "*", "http:", "https:"):
        assert never not in everything
    for closed in ("base-uri", "form-action", "frame-ancestors"):
        assert policy[closed] == ["'none'"]
    assert "object-src" not in policy and "frame-src" not in policy, "default-src holds for them"


@pytest.mark.parametrize("path", PAGES)
async def test_what_the_code_editor_brings_along_has_a_nonce_that_is_used_once(path: str) -> None:
    seen = set()
    async with api(**LIVEKIT) as (http, _):
        for _ in range(3):
            answer = await http.get(path.format(SESSION))
            nonce = Page(answer.text).config["nonce"]
            assert policy_of(answer)["style-src"] == ["'self'", f"'nonce-{nonce}'"]
            assert answer.text.count(nonce) == 1 and re.fullmatch(r"[\w-]{20,}", nonce)
            seen.add(nonce)
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        ({"livekit_url": "ws://livekit.test:7880"}, ["ws://livekit.test:7880", "http://livekit.test:7880"]),
        ({"livekit_url": "wss://livekit.test"}, ["wss://livekit.test", "https://livekit.test"]),
        ({"livekit_url": "https://livekit.test/x?y"}, ["wss://livekit.test", "https://livekit.test"]),
        (
            {"livekit_url": "ws://10.0.0.1:7880", "livekit_public_url": "wss://video.example"},
            ["wss://video.example", "https://video.example"],
        ),
        ({"livekit_url": "no address"}, []),
    ],
)
@pytest.mark.parametrize("path", PAGES)
async def test_a_page_talks_to_us_and_to_livekit(path: str, settings: dict[str, str], expected: list[str]) -> None:
    _, answer = await page(path.format(SESSION), **settings)
    assert policy_of(answer)["connect-src"] == ["'self'", *expected]


@pytest.mark.parametrize("path", PAGES)
async def test_pages_are_not_kept_and_tell_no_other_site_of_themselves(path: str) -> None:
    _, answer = await page(path.format(SESSION))
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert "etag" not in answer.headers and "set-cookie" not in answer.headers
    allowed = answer.headers["permissions-policy"]
    assert "camera=(self)" in allowed and "microphone=(self)" in allowed and "*" not in allowed


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_holds_nothing_that_its_policy_forbids(path: str) -> None:
    shown, _ = await page(path.format(SESSION))
    for tag, attributes in shown.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        assert tag not in ("style", "base", "iframe", "object", "form")
        if tag == "script" and attributes.get("id") != "config":
            assert str(attributes["src"]).startswith("/assets/")
    [config] = [attributes for tag, attributes in shown.elements if attributes.get("id") == "config"]
    assert config["type"] == "application/json", "a browser does not run it"


@pytest.mark.parametrize("path", PAGES)
async def test_the_files_that_a_page_asks_for_are_there(path: str) -> None:
    shown, _ = await page(path.format(SESSION))
    asked = [str(a.get("src") or a.get("href")) for tag, a in shown.elements if tag in ("script", "link")]
    files = [name for name in asked if name.startswith("/assets/")]
    assert len(files) >= 2
    async with api() as (http, _):
        for name in files:
            assert (await http.get(name)).status_code == 200, name


# What is written into it


async def test_the_candidates_page_knows_its_session_and_the_privacy_policy() -> None:
    shown, _ = await page(f"/interview/{SESSION}", privacy_policy="https://example.com/privacy?v=2&x")
    config = shown.config
    del config["nonce"]
    assert config == {"session_id": SESSION, "privacy_policy": "https://example.com/privacy?v=2&x"}
    assert (await page(f"/interview/{SESSION}"))[0].config["privacy_policy"] is None


async def test_staffs_page_knows_its_session() -> None:
    shown, _ = await page(f"/sessions/{SESSION}/live", privacy_policy="v1")
    assert shown.config["session_id"] == SESSION and shown.config["privacy_policy"] is None


async def test_a_page_needs_no_key_and_says_nothing_of_a_session() -> None:
    async with api(key="k3y", **LIVEKIT) as (http, _):
        made = await make(http, **{"X-API-Key": "k3y"})
        for path in PAGES:
            texts = set()
            for session_id in (made["session_id"], SESSION):
                answer = await http.get(path.format(session_id))
                nonce = Page(answer.text).config["nonce"]
                texts.add(answer.text.replace(session_id, "").replace(nonce, ""))
                assert answer.status_code == 200
            assert len(texts) == 1, "whether there is one or not"
            assert "Ada" not in texts.pop()


NASTY = [
    "<script>alert(1)<script>",
    "<!--<script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "</script",
    "\\",
    '\\"',
    "{{config}}",
    "{{config",
    "\u2028\u2029",
    "ä 😀\x00\x1f",
    "&lt;&quot;",
    "x" * 5_000,
    "\r\nSet-Cookie: a=b",
]


@pytest.mark.parametrize("session_id", NASTY, ids=lambda text: repr(text[:20]))
@pytest.mark.parametrize("path", OF_A_SESSION)
async def test_no_session_id_breaks_out_of_the_page(path: str, session_id: str) -> None:
    if "/" in session_id:
        assert (await got(path.format(quote(session_id, safe="")))).status_code == 404
        return
    plain, _ = await page(path.format("plain"))
    shown, answer = await page(path.format(quote(session_id, safe="")))
    assert shown.config["session_id"] == session_id
    assert shown.elements == plain.elements, "the page is the same but for its config"
    assert "<" not in shown.text and "{{config}}" not in answer.text.replace(shown.text, "")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("text", [*NASTY, "</script><script>alert(1)</script>"], ids=lambda text: repr(text[:20]))
async def test_no_privacy_policy_breaks_out_of_the_page(text: str) -> None:
    plain, _ = await page("/interview/x")
    shown, _ = await page("/interview/x", privacy_policy=text)
    assert shown.config["privacy_policy"] == text and shown.elements == plain.elements and "<" not in shown.text


@pytest.mark.parametrize("path", ["/interview", "/interview/", "/interview/a/b", "/interview/a%2Fb", "/sessions/a"])
async def test_other_addresses_are_no_pages(path: str) -> None:
    answer = await got(path)
    assert answer.status_code == 404 and answer.headers["content-type"] == "application/problem+json"


# Files


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with built files in the place of the real one, and a file beside it that is nobody's business."""
    folder = tmp_path / "dist"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.js").write_text("secret")
    (folder / "sub" / "inner.js").write_text("inner")
    for name in ("page.js", "page.css", "chunk-ABC123.js", "chunk-ABC123.css", "licenses.txt", "a.unheard-of"):
        (folder / name).write_text(f"/* {name} ä */")
    monkeypatch.setattr(pages, "BUILT", folder)
    pages._assets.cache_clear()
    yield folder
    pages._assets.cache_clear()


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("page.js", ["text/javascript", "application/javascript"]),
        ("chunk-ABC123.js", ["text/javascript", "application/javascript"]),
        ("page.css", ["text/css"]),
        ("chunk-ABC123.css", ["text/css"]),
        ("licenses.txt", ["text/plain"]),
        ("a.unheard-of", ["application/octet-stream"]),
    ],
)
@pytest.mark.usefixtures("built")
async def test_a_file_comes_as_what_it_is(name: str, types: list[str]) -> None:
    answer = await got(f"/assets/{name}")
    assert answer.status_code == 200 and answer.content.decode() == f"/* {name} ä */"
    assert answer.headers["content-type"].split(";")[0] in types
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("name", "caching"),
    [
        ("chunk-ABC123.js", "public, max-age=31536000, immutable"),
        ("chunk-ABC123.css", "public, max-age=31536000, immutable"),
        ("page.js", "no-cache"),
        ("page.css", "no-cache"),
        ("licenses.txt", "no-cache"),
    ],
)
@pytest.mark.usefixtures("built")
async def test_only_what_is_named_by_its_content_is_kept(name: str, caching: str) -> None:
    assert (await got(f"/assets/{name}")).headers["cache-control"] == caching


@pytest.mark.parametrize(
    "name",
    [
        *("unknown.js", "chunk-OLD.js", "PAGE.JS", "page", "page.js%00", "page.js%20", ".", "..%2F", "", "sub"),
        *("sub/inner.js", "sub%2Finner.js", "..%2Fsecret.js", "..%2fsecret.js", "%2e%2e%2fsecret.js"),
        *("..%5Csecret.js", "../secret.js", "%2e%2e/secret.js", "..%252Fsecret.js", "%2Fetc%2Fpasswd", "page.js/"),
        *("sub%2F..%2Fpage.js", ".%2Fpage.js", "ä", "x" * 5_000),
    ],
    ids=lambda name: name[:24],
)
@pytest.mark.usefixtures("built")
async def test_nothing_else_is_given_out(name: str) -> None:
    answer = await got(f"/assets/{name}")
    assert answer.status_code == 404 and answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text.replace(name, "") and answer.json()["code"] == "not_found"
    assert answer.headers["cache-control"] == "no-store"
