"""Attacks on the whole: a real service, closed, with real actors and a real database."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.interview.presence import MAX_STOPS
from tests.attacks.closed_service import CREDIT_SECONDS, ClosedService
from tests.attacks.test_paths import TRICKS
from tests.attacks.world import UNKNOWN, bearer, calls
from tests.channel import Channel
from tests.chaos.conftest import until
from tests.cluster.candidate import checked
from tests.servers import command_of, descendants

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

LIMIT = 60
LISTENING = "0A"
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


class Interview:
    """A session, its candidate and its staff."""

    def __init__(self, http: httpx.AsyncClient, real: ClosedService, made: dict[str, Any]) -> None:
        self.http, self.real = http, real
        self.session_id, self.token = made["session_id"], made["candidate_token"]
        self.url = f"/session/{self.session_id}"
        self.seen: list[str] = []
        """What the candidate was told."""

    async def call(self, method: str, what: str, **more: Any) -> httpx.Response:
        """A call of the candidate's."""
        answer = await self.http.request(method, self.url + what, headers=bearer(self.token), **more)
        self.seen.append(answer.text)
        return answer

    async def start(self) -> dict[str, Any]:
        give_up = time.monotonic() + 60
        while (answer := await self.call("POST", "/start")).status_code == 503 and time.monotonic() < give_up:
            await asyncio.sleep(0.3)
        return checked(answer, 200)["session"]

    async def answer(self, index: int, text: str) -> httpx.Response:
        return await self.call("POST", "/answer", json={"question_index": index, "answer": text})

    async def session(self) -> dict[str, Any]:
        """As staff see it."""
        return checked(await self.http.get(self.url, headers=self.real.staff), 200)["session"]

    def channel(self, **more: Any) -> Channel:
        return Channel(self.real.serve.url, self.session_id, self.token, **more)


async def interview(http: httpx.AsyncClient, real: ClosedService, **changes: Any) -> Interview:
    asked = [f"Question {number}?" for number in range(3)]
    body = {
        "name": "Ada",
        "email": "ada@example.com",
        "questions": asked,
        "text_question_timer": LIMIT,
        **changes,
    }
    return Interview(http, real, checked(await http.post("/create", json=body, headers=real.staff), 200))


def ms(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() * 1000


def given(session: dict[str, Any], cause: str | None = None) -> float:
    """Seconds in the ledger."""
    return sum(line["seconds"] for line in session["clock"]["ledger"] if cause in (None, line["cause"]))


def check_time(session: dict[str, Any]) -> None:
    """The open question has its limit, and what the ledger says, and not a moment more."""
    question = session["current_question"]
    total = (ms(question["deadline"]) - ms(question["opened_at"])) / 1000
    assert abs(total - question["time_limit_seconds"] - given(session)) < 0.01


# The doors


def test_beyond_loopback_nothing_starts_without_a_key(real: ClosedService) -> None:
    assert real.refused == 2
    assert "keys create" in real.said and "INTERVIEW_API_KEY" in real.said and "ready" not in real.said


async def test_with_a_stored_key_it_starts_and_strangers_get_nothing(
    http: httpx.AsyncClient, real: ClosedService
) -> None:
    for call in calls():
        body = call.body(UNKNOWN)
        more: dict[str, Any] = {} if body is None else {"json": body}
        answer = await http.request(call.method, real.serve.url + call.url(UNKNOWN), **more)
        assert answer.status_code == 401, call.name
    assert (await http.get("/sessions", headers=real.staff)).status_code == 200


def test_nothing_but_the_front_end_listens_beyond_loopback(real: ClosedService) -> None:
    """The database, Ray, its workers and its dashboard are for this machine only."""
    assert real.serve.process is not None
    inodes: set[str] = set()
    for pid in (real.serve.process.pid, *descendants(real.serve.process.pid)):
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                found = re.match(r"socket:\[(\d+)\]", str(link.readlink()))
            except OSError:
                continue
            if found:
                inodes.add(found[1])
    listening: set[tuple[str, int]] = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in inodes:
                address, port = fields[1].split(":")
                listening.add((address, int(port, 16)))
    assert len(listening) > 5, "those of Ray and of the database are seen"
    assert {port for address, port in listening if address not in LOOPBACK} == {real.serve.port}


async def test_rays_dashboard_asks_for_its_token(real: ClosedService) -> None:
    note = real.serve.note
    async with httpx.AsyncClient(base_url=note["dashboard"], timeout=20) as dashboard:
        for headers in ({}, bearer("wrong"), bearer("0" * 64)):
            for path in ("/api/v0/actors", "/api/jobs/", "/nodes?view=summary"):
                assert (await dashboard.get(path, headers=headers)).status_code in (401, 403), path
            job = {"entrypoint": "touch /tmp/pwned"}
            assert (await dashboard.post("/api/jobs/", json=job, headers=headers)).status_code in (401, 403)
        token = Path(note["environment"]["RAY_AUTH_TOKEN_PATH"])
        assert (await dashboard.get("/api/v0/actors", headers=bearer(token.read_text()))).status_code == 200


def test_no_secret_is_on_a_command_line_or_in_a_file_for_others(real: ClosedService) -> None:
    serve = real.serve
    assert serve.process is not None
    secrets = [real.key, (serve.data_dir / "ray-token").read_text()]
    lines = [command_of(pid) for pid in (serve.process.pid, *descendants(serve.process.pid))]
    assert len(lines) > 5 and not any(secret in line for line in lines for secret in secrets)
    assert serve.data_dir.stat().st_mode & 0o077 == 0
    for name in ("ray-token", "serve.json"):
        assert (serve.data_dir / name).stat().st_mode & 0o077 == 0
    assert real.ray_folder.parent.stat().st_mode & 0o077 == 0, "no other user reaches Ray's sockets and logs"


# Words for the database


async def test_operators_are_refused_or_mean_themselves(http: httpx.AsyncClient, real: ClosedService) -> None:
    await interview(http, real, email="ada.one@example.com")
    whole = {"name": "A", "email": "a@example.com", "questions": ["q"]}
    for operator in ({"$gt": ""}, {"$ne": None}, {"$where": "1"}, ["$gt"], {"a.b": 1}):
        for field in ("name", "email", "phone", "job_id", "questions", "max_questions", "scheduled_at", "metadata"):
            answer = await http.post("/create", json={**whole, field: operator}, headers=real.staff)
            texts = isinstance(operator, dict) and all(isinstance(value, str) for value in operator.values())
            if (field == "metadata" and texts) or (field, operator) == ("questions", ["$gt"]):
                assert answer.status_code == 200, "it is text, and a name like others"
            else:
                assert answer.status_code == 400, (field, operator)
        answer = await http.post("/jobs", json={"job_id": operator, "title": "x", "questions": []}, headers=real.staff)
        assert answer.status_code == 400
    for query in ("email[$ne]=", "email[$gt]=", "status[$ne]=x", "$where=1", "limit[$gt]=1", "cursor[$ne]=x"):
        assert (await http.get(f"/sessions?{query}", headers=real.staff)).status_code == 400, query
    for name in ("email", "job_id"):
        for value in ('{"$ne": ""}', "$where", ".*", "*", "ada", "\0", "' || 1==1"):
            answer = checked(await http.get("/sessions", params={name: value}, headers=real.staff), 200)
            assert answer["sessions"] == [], (name, value)
    for value in ("WyQkZ3QiXQ", base64.urlsafe_b64encode(bytes(16) + b'[{"$gt": 0}, ""]').decode(), "\0", "a" * 200):
        assert (await http.get("/sessions", params={"cursor": value}, headers=real.staff)).status_code == 400
    for value in ('{"$ne": ""}', ".*@.*", "*@*", "%@%", "ada"):
        erased = checked(await http.delete("/candidates", params={"email": value}, headers=real.staff), 200)
        assert erased["erased_sessions"] == 0
    assert checked(await http.get("/sessions", params={"email": "ada.one@example.com"}, headers=real.staff), 200)[
        "count"
    ]


async def test_names_for_the_database_in_metadata_change_nothing(http: httpx.AsyncClient, real: ClosedService) -> None:
    odd = {"$set": "x", "$where": "sleep(1)", "a.b.c": "y", "_id": "z", "__proto__": "p", "constructor.prototype": "q"}
    one = await interview(http, real, metadata=odd, job_id="$ne")
    session = await one.session()
    assert session["metadata"] == odd and session["job_id"] == "$ne" and session["session_id"] == one.session_id
    found = checked(await http.get("/sessions", params={"job_id": "$ne"}, headers=real.staff), 200)
    assert [each["session_id"] for each in found["sessions"]] == [one.session_id]


async def test_a_trick_in_the_place_of_any_id_is_refused(http: httpx.AsyncClient, real: ClosedService) -> None:
    before = checked(await http.get("/stats", headers=real.staff), 200)["stats"]["total_sessions"]
    for call in calls():
        if "{" not in call.path or call.method == "GET":
            continue
        body = call.body("x")
        more: dict[str, Any] = {} if body is None else {"json": body}
        for trick in ("%2e%2e%2f", "%00", "%ff", "%7B%22$gt%22:%22%22%7D", "$where", "*", "a" * 2_000):
            path = re.sub(r"\{\w+\}", trick.replace("\\", ""), call.path)
            answer = await http.request(
                call.method, real.serve.url + path, headers={**real.staff, "Idempotency-Key": "k"}, **more
            )
            assert 400 <= answer.status_code < 500, (call.name, trick, answer.text[:200])
    for trick in TRICKS:
        for place in ("/session/{}", "/session/{}/journal", "/jobs/{}", "/session/x/proctoring/evidence/{}"):
            answer = await http.get(place.format(trick), headers=real.staff)
            assert answer.status_code in (400, 404) or ".." in trick or trick.startswith("/"), (place, trick)
    assert checked(await http.get("/stats", headers=real.staff), 200)["stats"]["total_sessions"] == before


async def test_ids_are_random(http: httpx.AsyncClient, real: ClosedService) -> None:
    ids = [(await interview(http, real)).session_id for _ in range(10)]
    assert len(set(ids)) == 10 and all(
        re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab].*", one) for one in ids
    )
    assert len({one[:6] for one in ids}) == 10, "nothing in them counts up"


# What a candidate gets to see, and what logs do


def marks(name: str, count: int) -> list[str]:
    return [f"{name}-mark-{number}-{'zyxwvu'[number]}" for number in range(count)]


async def look_everywhere(one: Interview, other: Interview) -> None:
    """Every call that a candidate can make, and some that they cannot."""
    await one.call("GET", "")
    await one.call("GET", "/proctoring")
    await one.call("GET", "/proctoring?policy=standard-1")
    await one.call("POST", "/token", json={})
    await one.call("POST", "/consent", json={"accepted": True})
    await one.call("POST", "/proctoring/events", json={"events": [{"type": "tab_hidden"}]})
    await one.call("POST", "/proctoring/frame", json={"image": "/9j/"})
    await one.call("POST", "/proctoring/events/1/dispute", json={"statement": "x"})
    await one.call("POST", "/answer", json={"question_index": 99, "answer": "x"})
    await one.call("PUT", "/draft", json={"question_index": 99, "draft": "x"})
    for path in ("/journal", "/journal/verify", "/link", "/extend", "/proctoring/reference"):
        await one.call("GET" if "j" in path or "ref" in path else "POST", path)
    for path in ("/jobs", "/jobs/default", "/sessions", "/sessions/export", f"/session/{other.session_id}", "/stats"):
        one.seen.append((await one.http.get(path, headers=bearer(one.token))).text)
    report = f"{one.real.serve.url}/api/reports/{one.session_id}"
    for accept in ("application/json", "text/html"):
        one.seen.append((await one.http.get(report, headers={**bearer(one.token), "Accept": accept})).text)


async def test_no_question_is_read_early_and_nothing_of_others(http: httpx.AsyncClient, real: ClosedService) -> None:
    asked, theirs = marks("asked", 4), marks("theirs", 2)
    other = await interview(http, real, name="Grace Hopper-Secret", email="grace.secret@example.com")
    await other.start()
    await other.answer(0, theirs[0])
    one = await interview(http, real, name="Ada-Personal", email="ada.personal@example.com", questions=asked)
    foreign = [*theirs, "Grace", "grace.secret", other.session_id, other.token]
    async with one.channel(after=0) as channel:

        def told() -> str:
            return "\n".join([*one.seen, *channel.raw])

        await look_everywhere(one, other)
        assert not any(mark in told() for mark in asked), "before the start none is known"
        await one.start()
        for number in range(len(asked)):
            await look_everywhere(one, other)
            async with one.channel(after=0) as second:
                await second.next("state")
                one.seen += second.raw
            said = told()
            assert asked[number] in said and not any(mark in said for mark in asked[number + 1 :]), number
            assert checked(await one.answer(number, f"answer-personal-{number}"), 200)
        await look_everywhere(one, other)
    assert [word for word in foreign if word in told()] == []
    logs = real.logs()
    personal = ["Ada-Personal", "ada.personal", "Grace Hopper", "grace.secret", "answer-personal", *asked, *theirs]
    assert len(logs) > 1_000
    assert [word for word in (*personal, one.token, other.token, real.key, real.key[17:]) if word in logs] == []


# What a candidate cannot have: more time


async def test_a_wrong_clock_gives_no_time(http: httpx.AsyncClient, real: ClosedService) -> None:
    one = await interview(http, real)
    before = (await one.start())["current_question"]["deadline"]
    for at in ("2000-01-01T00:00:00Z", "2199-12-31T23:59:59Z"):
        for sent_at in (None, "2000-01-01T00:00:00Z", "2199-12-31T23:59:59Z"):
            event = {"type": "network_lost", "at": at, "duration_seconds": 86_400}
            for kind in ("network_lost", "tab_hidden"):
                body = {"events": [{**event, "type": kind}], "sent_at": sent_at}
                await one.call("POST", "/proctoring/events", json={k: v for k, v in body.items() if v is not None})
        await one.http.get(one.url, headers={**bearer(one.token), "Date": "Thu, 01 Jan 2099 00:00:00 GMT"})
    await one.call("POST", "/proctoring/frame", json={"image": "/9j/", "at": "2199-12-31T23:59:59Z"})
    session = await one.session()
    assert session["current_question"]["deadline"] == before and session["clock"]["ledger"] == []
    check_time(session)


async def test_starting_again_and_racing_answers_give_no_time(http: httpx.AsyncClient, real: ClosedService) -> None:
    """By REST and by the live channel at once: one answer counts, and each question is opened once."""
    one = await interview(http, real)
    before = (await one.start())["current_question"]["deadline"]
    for _ in range(5):
        assert (await one.start())["current_question"]["deadline"] == before
    async with one.channel() as channel:
        await channel.next("state")
        by_rest = [one.answer(0, f"rest {number}") for number in range(8)]
        by_channel = [channel.call("answer", question_index=0, answer=f"channel {number}") for number in range(8)]
        drafts = [one.call("PUT", "/draft", json={"question_index": 0, "draft": "late", "revision": 2**53})] * 1
        replies = await asyncio.gather(*by_rest, *by_channel, *drafts)
        taken = [r for r in replies[:8] if isinstance(r, httpx.Response) and r.status_code == 200]
        taken += [r for r in replies[8:16] if isinstance(r, dict) and r["type"] == "ok"]
        assert len(taken) == 1
        assert (await channel.call("start"))["type"] == "ok"
    session = await one.session()
    assert len(session["answers"]) == 1 and session["current_question"]["index"] == 1
    check_time(session)
    events = checked(await http.get(f"{one.url}/journal", headers=real.staff), 200)["events"]
    assert [e["type"] for e in events].count("question_opened") == 2


async def test_an_older_link_gives_nothing_even_on_an_open_channel(
    http: httpx.AsyncClient, real: ClosedService
) -> None:
    one = await interview(http, real)
    before = (await one.start())["current_question"]["deadline"]
    async with one.channel() as channel:
        await channel.next("state")
        fresh = checked(await http.post(f"{one.url}/link", headers=real.staff), 200)["candidate_token"]
        assert await channel.wait_closed(10) == 4401
    assert (await one.answer(0, "late")).status_code == 401 and (await one.call("POST", "/start")).status_code == 401
    one.token = fresh
    session = checked(await one.call("GET", ""), 200)["session"]
    assert ms(session["current_question"]["deadline"]) <= ms(before) + given(session) * 1000 + 10
    check_time(await one.session())


async def test_going_and_coming_back_gives_no_more_than_the_cap(http: httpx.AsyncClient, real: ClosedService) -> None:
    """Cutting one's own connection is worth three seconds here, and every one of them is told to staff."""
    one = await interview(http, real)
    await one.start()
    for _ in range(MAX_STOPS + 2):
        channel = await one.channel().connect()
        await channel.next("state")
        await asyncio.sleep(0.3)
        await channel.abort()
        await asyncio.sleep(1.2)
    async with one.channel() as channel:
        await channel.next("state")

        async def runs() -> bool:
            return (await one.session())["current_question"]["deadline"] is not None

        await until(runs, 10, "the clock to go on")
        session = await one.session()
    network = [line["seconds"] for line in session["clock"]["ledger"] if line["cause"] == "network"]
    assert network and sum(network) <= CREDIT_SECONDS + 0.01 and len(network) <= MAX_STOPS
    check_time(session)
    for number in range(3):
        assert (await one.answer(number, "x")).status_code == 200
    ended = await one.session()
    used = sum(answer["elapsed_seconds"] for answer in ended["answers"])
    whole = (ms(ended["completed_at"]) - ms(ended["started_at"])) / 1000
    assert abs(whole - used - given(ended)) < 0.05, "every second is the candidate's or in the ledger"

    async def reported() -> bool:
        answer = await http.get(f"{real.serve.url}/api/reports/{one.session_id}", headers=real.staff)
        return answer.status_code == 200 and answer.json()["report"]["clock"]["ledger"] == ended["clock"]["ledger"]

    await until(reported, 30, "the report, with the same ledger")


async def test_keys_for_repeats_are_of_one_caller(http: httpx.AsyncClient, real: ClosedService) -> None:
    """The same Idempotency-Key by another principal is another command, and shows nothing of the first."""
    other = checked(await http.post("/keys", json={"name": "other", "scopes": ["manage"]}, headers=real.staff), 200)[
        "secret"
    ]
    once = {"Idempotency-Key": "once-and-for-all"}
    body = {"name": "Ada", "email": "ada@example.com", "questions": ["q"]}
    mine = await http.post("/create", json=body, headers=real.staff | once)
    theirs = await http.post("/create", json={**body, "name": "B"}, headers={"X-API-Key": other, **once})
    assert mine.json()["session_id"] != theirs.json()["session_id"]
    assert "idempotency-replayed" not in theirs.headers
    assert mine.json()["candidate_token"] not in theirs.text
