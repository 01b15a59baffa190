"""Candidates' tokens: forged, changed, of another time, use, key or service; and staff keys that are nearly right."""

from __future__ import annotations

import ast
import base64
import hashlib
import hmac
import inspect
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import jwt
import pytest

from api import keyring, security
from api.security import candidate_token, token_key
from orchestrator import keys, livekit
from orchestrator.keys import StaffKey, new_key, proves, same_secret
from tests.attacks.world import KEY, STAFF, bearer, closed
from tests.unit.api_world import BASE, SECRET, make

Claims = dict[str, Any]
OURS = token_key(SECRET)
STAFFS_CLAIMS: Claims = {"use": "staff", "scopes": ["admin"], "role": "staff", "sub": "key:environment"}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def with_header(header: dict[str, Any], claims: Claims, key: bytes = b"") -> str:
    """A token with any header, signed by HMAC-SHA256 if there is a key."""
    text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{text}.{b64(hmac.digest(key, text.encode(), hashlib.sha256)) if key else ''}"


def own_key(header: dict[str, Any]) -> Callable[[Claims], str]:
    """A token that says by which key it is to be checked, and is signed with that."""
    mine = b"k" * 32
    jwk = {"kty": "oct", "k": b64(mine), "alg": "HS256", "kid": "mine"}
    filled = {name: jwk if value is ... else value for name, value in header.items()}
    return lambda claims: with_header({"alg": "HS256", "typ": "JWT", **filled}, claims, mine)


FORGED: dict[str, Callable[[Claims], str]] = {
    "alg none": lambda claims: with_header({"alg": "none"}, claims),
    "alg None": lambda claims: with_header({"alg": "None", "typ": "JWT"}, claims),
    "alg missing": lambda claims: with_header({"typ": "JWT"}, claims, OURS),
    "alg HS256, no signature": lambda claims: with_header({"alg": "HS256"}, claims),
    "alg HS512 with our key": lambda claims: jwt.encode(claims, OURS * 2, "HS512"),
    "alg RS256": lambda claims: with_header({"alg": "RS256"}, claims, OURS),
    "another key": lambda claims: jwt.encode(claims, b"x" * 32, "HS256"),
    "an empty key": lambda claims: with_header({"alg": "HS256"}, claims, b"\0"),
    "the secret itself": lambda claims: jwt.encode(claims, SECRET, "HS256"),
    "the staff key": lambda claims: jwt.encode(claims, KEY, "HS256"),
    "a key of another purpose": lambda claims: jwt.encode(claims, hmac.digest(SECRET, b"cursor", "sha256"), "HS256"),
    "jwk in the header": own_key({"jwk": ...}),
    "jku in the header": own_key({"jku": "https://evil.example/jwks.json"}),
    "x5u in the header": own_key({"x5u": "https://evil.example/cert.pem"}),
    "kid is a file": own_key({"kid": "../../../../dev/null"}),
    "kid is a query": own_key({"kid": "x' UNION SELECT 'k"}),
    "kid is an operator": own_key({"kid": {"$ne": ""}}),
    "crit": lambda claims: with_header({"alg": "HS256", "crit": ["exp"], "exp": 0}, claims, b"x" * 32),
    "expired": lambda claims: jwt.encode({**claims, "exp": int(time.time()) - 1}, OURS, "HS256"),
    "never expires": lambda claims: jwt.encode({k: v for k, v in claims.items() if k != "exp"}, OURS, "HS256"),
    "expires at infinity": lambda claims: with_header({"alg": "HS256"}, {**claims, "exp": float("inf")}, OURS),
    "not yet": lambda claims: jwt.encode({**claims, "nbf": int(time.time()) + 600}, OURS, "HS256"),
    "use of staff": lambda claims: jwt.encode({**claims, **STAFFS_CLAIMS}, OURS, "HS256"),
    "no use": lambda claims: jwt.encode({k: v for k, v in claims.items() if k != "use"}, OURS, "HS256"),
    "use is a list": lambda claims: jwt.encode({**claims, "use": ["candidate"]}, OURS, "HS256"),
    "no session": lambda claims: jwt.encode({k: v for k, v in claims.items() if k != "sub"}, OURS, "HS256"),
    "no generation": lambda claims: jwt.encode({k: v for k, v in claims.items() if k != "gen"}, OURS, "HS256"),
    "a later generation": lambda claims: jwt.encode({**claims, "gen": 2}, OURS, "HS256"),
    "generation is an operator": lambda claims: jwt.encode({**claims, "gen": {"$gt": 0}}, OURS, "HS256"),
}


@pytest.mark.parametrize("how", FORGED)
@pytest.mark.filterwarnings("ignore:The HMAC key")
async def test_a_token_that_is_not_ours_or_not_for_this_opens_nothing(how: str) -> None:
    async with closed() as world:
        claims = jwt.decode(world.mine["candidate_token"], OURS, algorithms=["HS256"])
        forged = bearer(FORGED[how](claims))
        for session, refused in ((world.mine, (401,)), (world.other, (401, 403))):
            answer = await world.http.get(f"{BASE}/session/{session['session_id']}", headers=forged)
            assert answer.status_code in refused, answer.text
        assert (await world.http.get(f"{BASE}/sessions", headers=forged)).status_code in (401, 403)
        assert world.untouched


async def test_a_token_for_another_session_by_its_claims_needs_our_key() -> None:
    async with closed() as world:
        token = world.mine["candidate_token"]
        head, _, signature = token.split(".")
        claims = jwt.decode(token, OURS, algorithms=["HS256"]) | {"sub": world.other["session_id"]}
        swapped = f"{head}.{b64(json.dumps(claims).encode())}.{signature}"
        url = f"{BASE}/session/{world.other['session_id']}"
        assert (await world.http.get(url, headers=bearer(swapped))).status_code == 401


async def test_no_part_of_a_token_can_be_left_out_or_changed() -> None:
    async with closed() as world:
        token, url = world.mine["candidate_token"], f"{BASE}/session/{world.mine['session_id']}"
        parts = token.split(".")
        swap = {"A": "B"}
        changed = [
            token[:-1],
            token[: len(token) // 2],
            token + "A",
            f"{token}.",
            f".{token}",
            token.replace(".", ""),
            "a.b.c",
        ]
        changed += [".".join(("", *parts[1:])), ".".join((*parts[:2], "")), ".".join((parts[0], "", parts[2]))]
        middle = len(parts[2]) // 2  # the last character of a signature has bits that nobody reads
        signature = parts[2][:middle] + swap.get(parts[2][middle], "A") + parts[2][middle + 1 :]
        changed += [f"{parts[0]}.{parts[1]}.{signature}", f"{token} {token}", token.lower()]
        for one in changed:
            world.client.store.keys_read = 0
            answer = await world.http.get(url, headers={**bearer(one), "X-Forwarded-For": "1.2.3.4"})
            assert answer.status_code == 401, one
        assert (await world.http.get(url, headers=world.token)).status_code == 200


async def test_a_token_of_an_older_link_opens_nothing_and_gives_no_time() -> None:
    async with closed() as world:
        url = f"{BASE}/session/{world.mine['session_id']}"
        assert (await world.http.post(f"{url}/start", headers=world.token)).status_code == 200
        before = (await world.http.get(url, headers=STAFF)).json()["session"]["current_question"]["deadline"]
        fresh = (await world.http.post(f"{url}/link", headers=STAFF)).json()["candidate_token"]
        for method, what in (("POST", "/start"), ("POST", "/answer"), ("PUT", "/draft"), ("POST", "/end"), ("GET", "")):
            body = {"question_index": 0, "answer": "x"} if what == "/answer" else {"question_index": 0, "draft": "x"}
            more: dict[str, Any] = {"json": body} if what in ("/answer", "/draft") else {}
            answer = await world.http.request(method, url + what, headers=world.token, **more)
            assert answer.status_code == 401, what
        after = (await world.http.get(url, headers=bearer(fresh))).json()["session"]
        assert after["current_question"]["deadline"] == before and after["answers"] == []


async def test_a_token_of_a_deleted_session_opens_nothing() -> None:
    async with closed() as world:
        url = f"{BASE}/session/{world.mine['session_id']}"
        assert (await world.http.delete(url, headers=STAFF)).status_code == 200
        for method, what in (("GET", ""), ("POST", "/start"), ("GET", "/proctoring")):
            assert (await world.http.request(method, url + what, headers=world.token)).status_code == 404


async def test_a_token_for_the_room_opens_no_call() -> None:
    """LiveKit's tokens are signed with its secret, ours with a key derived from our own."""
    assert livekit.participant_name("x") == "candidate-x"
    async with closed() as world:
        session_id = world.mine["session_id"]
        claims = {"sub": f"candidate-{session_id}", "video": {"room": f"interview-{session_id}"}, "exp": 4e9}
        for key in (b"livekit-secret-of-32-bytes-012345", OURS):
            answer = await world.http.get(
                f"{BASE}/session/{session_id}", headers=bearer(jwt.encode(claims, key, "HS256"))
            )
            assert answer.status_code == 401


async def test_a_long_credential_is_not_even_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_called(*_: object, **__: object) -> None:
        raise AssertionError("it was looked at")

    async with closed() as world:
        monkeypatch.setattr(jwt, "decode", not_called)
        monkeypatch.setattr(security, "same_secret", not_called)
        for credential in ("a." * 2 + "x" * 60_000, "pik_" + "0" * 60_000):
            assert (await world.http.get(f"{BASE}/jobs", headers={"X-API-Key": credential})).status_code == 401


# Keys of staff


def test_only_digests_are_compared() -> None:
    """What a caller has shown meets what we know in two functions, and both compare digests, by `compare_digest`."""
    for module in (security, keys, keyring):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "hmac.compare_digest":
                assert all("digest" in ast.unparse(argument) for argument in node.args), ast.unparse(node)
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.In | ast.NotEq):
                words = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} & {"credential", "secret", "given"}
                assert not words or "count" in ast.unparse(node), ast.unparse(node)
    assert "compare_digest" in inspect.getsource(proves) and "compare_digest" in inspect.getsource(same_secret)


def _seconds(call: Callable[[], object]) -> float:
    times: list[float] = []
    for _ in range(400):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return median(times)


def test_comparing_keys_takes_as_long_for_nearly_right_ones() -> None:
    key, text = new_key("x", ("admin",), 0, "open")
    secret = text[17:]
    other: StaffKey | None = None
    guesses = {"none of it": "A" * 43, "all but the end": secret[:-1] + ("A" if secret[-1] != "A" else "B")}
    took = {name: _seconds(lambda guess=guess: proves(guess, key)) for name, guess in guesses.items()}
    took["no such key"] = _seconds(lambda: proves(secret, other))
    took["all"] = _seconds(lambda: proves(secret, key))
    assert max(took.values()) < 2 * min(took.values()), took
    nearly = KEY[:-1] + "x"
    took = {one: _seconds(lambda one=one: same_secret(one, KEY)) for one in ("x" * len(KEY), nearly, KEY)}
    assert max(took.values()) < 2 * min(took.values()), took


async def test_tokens_of_two_deployments_are_not_each_others() -> None:
    async with closed() as world:
        made = await make(world.http, **STAFF)
        foreign = candidate_token(b"another deployment's secret 0123", made["session_id"], 1)
        assert (
            await world.http.get(f"{BASE}/session/{made['session_id']}", headers=bearer(foreign))
        ).status_code == 401
