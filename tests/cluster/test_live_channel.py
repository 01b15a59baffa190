"""The live channel of a real service: interviews, what was missed and comes later, bad clients, lost connections."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import re
import secrets
import signal
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidHandshake, InvalidStatus

from tests.channel import Channel, Gone
from tests.chaos.conftest import until
from tests.cluster.candidate import Candidate, actor_pids, checked
from tests.servers import Serve, command_of, descendants

pytestmark = pytest.mark.cluster

GRACE_SECONDS = 2.0
CAP_SECONDS = 180.0
"""For how long in all a clock stands still for lost connections, as the service is set up by default."""
TAKEN_FOR_LOST = 4408
"""With this code a client closes a connection that it takes for lost."""
OWN_FRAMES = (
    *("state", "question", "answer_saved", "question_expired", "clock_credited", "extended", "paused", "resumed"),
    *("connection", "livekit", "proctoring", "completed"),
)
"""Types that stand for events and that a candidate gets too."""
SHOWN_AS_STATE = ("started", "updated", "consent_given")
"""Events that come to observers as `journal`, and to candidates as the whole state."""


FOR_STAFF = {"questions", "placement", "integrity", "metadata", "verdict", "by", "actor", "epoch", "sensitivity"}
"""Members that no frame of a candidate has."""


@dataclass
class Live(Candidate):
    """One interview and the channels to it."""

    url: str = ""
    token: str = ""
    channels: list[Channel] = field(default_factory=list)

    @property
    def mine(self) -> dict[str, str]:
        """The headers of the candidate's own calls."""
        return {"Authorization": f"Bearer {self.token}"}

    async def make(self, questions: int = 3, **changes: Any) -> dict[str, Any]:
        made = await self.create(questions, **{"text_question_timer": 600, **changes})
        self.token = made["candidate_token"]
        return made

    def channel(self, token: str | None = None, role: str = "", **more: Any) -> Channel:
        """One that is not yet connected, and closed at the end of the test."""
        channel = Channel(self.url, self.session_id, token, role, **more)
        self.channels.append(channel)
        return channel

    async def join(self, **more: Any) -> Channel:
        """As the candidate, with the token, and with the first state seen."""
        channel = await self.channel(self.token, "candidate", **more).connect()
        await channel.next("state")
        return channel

    async def watch(self, **more: Any) -> Channel:
        """As an observer, with the first state seen."""
        channel = await self.channel(role="observer", **more).connect()
        await channel.next("state")
        return channel

    async def begin(self, channel: Channel) -> dict[str, Any]:
        """Start over the channel, however long the pool takes on a busy machine. Returns the first question."""
        await insist(channel, "start", 60)
        return (await channel.next("question"))["question"]

    async def say(self, channel: Channel, index: int, text: str, **more: Any) -> dict[str, Any]:
        """Answer as a good client does. Returns `answer_saved`."""
        reply = await insist(channel, "answer", 20, question_index=index, answer=text, **more)
        self.acknowledged[index] = text
        [saved] = [f for f in channel.of("answer_saved") if f.get("command_id") == reply["command_id"]]
        return saved

    async def events_of(self, *types: str) -> list[dict[str, Any]]:
        return [event for event in await self.events() if event["type"] in types]

    async def leave(self) -> None:
        for channel in self.channels:
            channel.thaw()
        await asyncio.gather(*(channel.close() for channel in self.channels))
        if self.session_id:
            with contextlib.suppress(httpx.TransportError):
                await self.request("DELETE", "")


@pytest.fixture
async def live(service: Serve, http: httpx.AsyncClient) -> AsyncIterator[Live]:
    service.wait_ready()
    live = Live(http, url=service.url)
    yield live
    await live.leave()


async def insist(channel: Channel, what: str, seconds: float, **members: Any) -> dict[str, Any]:
    """Send a command, again with the same id while it is told to, until it is `ok`."""
    give_up = time.monotonic() + seconds
    members.setdefault("command_id", str(uuid.uuid4()))
    while True:
        reply = await channel.call(what, seconds=seconds, **members)
        if "retry_after" not in reply or time.monotonic() > give_up:
            assert reply["type"] == "ok", reply
            return reply
        await asyncio.sleep(min(reply["retry_after"], 1.0))


def increasing(seqs: list[int]) -> bool:
    return all(a < b for a, b in itertools.pairwise(seqs))


def keys_of(value: Any) -> set[str]:
    """Every member's name, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


def wall(text: str) -> float:
    """A time in ISO 8601 as seconds."""
    return datetime.fromisoformat(text).timestamp()


def front_end(service: Serve) -> int:
    assert service.process is not None
    [pid] = [pid for pid in descendants(service.process.pid) if command_of(pid).endswith("-m api")]
    return pid


# -- interviews


async def test_a_whole_interview(live: Live) -> None:
    await live.make(3, question_types=["text", "coding", "text"], text_question_timer=60)
    channel = await live.join()
    first = channel.frames[0]
    assert first["type"] == "state" and "seq" not in first and first["as_of"] >= 1
    assert first["session"]["status"] == "initialized" and first["session"]["session_id"] == live.session_id
    assert first["network_credit_left_seconds"] == CAP_SECONDS

    question = await live.begin(channel)
    assert (question["index"], question["text"], question["type"]) == (0, "Question 0?", "text")
    assert question["time_limit_seconds"] == 60 and 55 < question["remaining_seconds"] <= 60
    assert question["deadline"] is not None and question["opened_at"] is not None
    assert any(f["session"]["status"] == "in_progress" for f in channel.of("state") if "seq" in f)

    saved = await channel.call("draft", question_index=0, draft="half", revision=2)
    assert (saved["type"], saved["saved"], saved["revision"], saved["question_index"]) == ("draft_saved", True, 2, 0)
    older = await channel.call("draft", question_index=0, draft="hal", revision=1)
    assert (older["type"], older["saved"], older["revision"]) == ("draft_saved", False, 2)
    reply = await channel.call("ping")
    assert reply["type"] == "pong"

    for index, language in enumerate((None, "python", None)):
        more: dict[str, Any] = {"language": language} if language else {}
        reply = await channel.call("answer", question_index=index, answer=f"answer {index} ✓", **more)
        live.acknowledged[index] = f"answer {index} ✓"
        assert (reply["type"], reply["command"], reply["replayed"]) == ("ok", "answer", False), reply
        [saved] = [f for f in channel.of("answer_saved") if f["question_index"] == index]
        assert saved["command_id"] == reply["command_id"] and saved["seq"] > 0 and wall(saved["at"])
        assert channel.frames.index(saved) < channel.frames.index(reply)
        assert saved["current_question_count"] == index + 1
        assert saved["answer"]["answer"] == f"answer {index} ✓" and saved["answer"]["language"] == language
        assert (saved["answer"]["source"], saved["answer"]["question_index"]) == ("submitted", index)
        if index < 2:
            assert (await channel.next("question"))["question"]["index"] == index + 1

    done = await channel.next("completed")
    assert done["end_reason"] == "finished" and done["session"]["status"] == "completed"
    assert await channel.wait_closed(5) == 1000
    assert channel.frames.index(done) < channel.frames.index(reply), "events come before the reply"
    assert increasing(channel.seqs) and all(wall(frame["server_time"]) for frame in channel.frames)
    session = await live.check_nothing_lost()
    assert session["version"] == reply["version"] and session["answers"][1]["language"] == "python"
    closed = await live.events_of("question_closed")
    assert [event["seq"] for event in closed] == [frame["seq"] for frame in channel.of("answer_saved")]

    late = await live.channel(live.token, "candidate").connect()
    assert (await late.next("state"))["session"]["status"] == "completed"
    assert await late.wait_closed(5) == 1000, "nothing more comes"


async def test_the_candidate_ends_it(live: Live) -> None:
    await live.make(2)
    channel = await live.join()
    await live.begin(channel)
    assert (await channel.call("end"))["type"] == "ok"
    assert (await channel.next("completed"))["end_reason"] == "ended_by_candidate"
    assert await channel.wait_closed(5) == 1000


async def test_the_candidate_sees_nothing_that_is_for_staff(live: Live) -> None:
    asked = [f"secret-{number}-{secrets.token_hex(8)}" for number in range(4)]
    await live.make(1, metadata={"hook": "watch", "note": "meta-secret"})
    checked(await live.request("PATCH", "", json={"questions": asked}), 200)
    observer = await live.watch()
    channel = await live.join()
    seen = [channel]
    await live.begin(channel)
    await observer.until(lambda: [t for t in observer.raw if "custom:was_here" in t], 15, "what the hook has found")
    await live.post("extend", {"seconds": 5, "reason": "staff-reason-1"}, headers={"Idempotency-Key": "e"})
    await live.post("pause", {"reason": "staff-reason-2"})
    await live.post("resume")
    told = {"events": [{"type": "noise", "detail": "staff-saw"}], "source": "staff"}
    await live.post("proctoring/events", told)
    await live.post("proctoring/events", {"events": [{"type": "paste", "detail": "page-saw"}]}, headers=live.mine)
    await channel.until(lambda: [t for t in channel.raw if "page-saw" in t], 5, "what the own page told")
    await observer.until(lambda: [t for t in observer.raw if "staff-saw" in t], 5, "what staff told")
    for index in range(2):
        await live.say(channel, index, f"answer {index}")
        await channel.next("question", question=channel.of("question")[-1]["question"])
        check_nothing_leaked(seen, asked[index + 2 :])
    for after, role in ((0, "candidate"), (None, ""), (channel.last_seq, "candidate")):
        again = await live.channel(live.token, role, after=after).connect()
        seen.append(again)
        await again.next("state")
        assert (await again.call("ping"))["type"] == "pong"
        check_nothing_leaked(seen, asked[3:])
    await live.say(seen[-1], 2, "answer 2")
    await live.say(seen[-1], 3, "answer 3")
    assert await seen[-1].wait_closed(5) == 1000
    check_nothing_leaked(seen, [])
    text = "".join(channel.raw + seen[-1].raw)
    assert all(secret in text for secret in asked), "once it is open, a question is shown"

    everything = "".join(observer.raw)
    assert all(word in everything for word in ("staff-reason-1", "meta-secret", "custom:was_here", *asked))
    assert all("event" in f and "by" in f for f in observer.frames if "seq" in f and f["type"] != "state")


def check_nothing_leaked(channels: Iterable[Channel], not_yet_open: list[str]) -> None:
    """By the raw text of everything that came."""
    for channel in channels:
        text = "".join(channel.raw)
        assert not [secret for secret in not_yet_open if secret in text]
        for word in ("meta-secret", "staff-saw", "staff-reason", "was_here", '"activated"', '"created"', '"journal"'):
            assert word not in text, word
        for_staff = {
            "questions",
            "placement",
            "integrity",
            "metadata",
            "verdict",
            "by",
            "actor",
            "epoch",
            "sensitivity",
        }
        assert not keys_of(channel.frames) & for_staff


async def test_what_was_missed_comes_once_and_in_order(live: Live) -> None:
    rng = random.Random(41)
    await live.make(150)
    observer = await live.watch()
    parts = [await live.join()]
    began = parts[0].frames[0]["as_of"]
    await live.begin(parts[0])
    staff = asyncio.create_task(keep_busy(live, random.Random(42)))
    missed = 0
    for _ in range(20):
        channel, more = parts[-1], rng.randint(0, 6)
        have = len(channel.frames)
        await channel.until(lambda c=channel, n=have + more: len(c.frames) >= n, 10, f"{more} more frames")
        await (channel.abort() if rng.random() < 0.2 else channel.close())
        seen, away = len(observer.frames), rng.randint(0, 12)
        await observer.until(lambda n=seen + away: len(observer.frames) >= n, 15, f"{away} frames elsewhere")
        missed += away
        if staff.done():
            await staff
        parts.append(await live.join(after=channel.last_seq))
    assert missed > 60
    staff.cancel()
    await asyncio.wait([staff])
    await live.post("end")
    await parts[-1].wait_closed(5)
    await observer.wait_closed(5)

    got = [frame for part in parts for frame in part.frames if "seq" in frame]
    expected = [f for f in observer.frames if f.get("seq", 0) > began and is_for_candidates(f)]
    assert increasing([frame["seq"] for frame in got]), [frame["seq"] for frame in got]
    assert [essence(frame) for frame in got] == [essence(frame) for frame in expected]
    assert increasing(observer.seqs)
    assert {"answer_saved", "paused", "resumed", "extended", "connection", "completed"} <= {f["type"] for f in got}
    whole = await live.channel(live.token, "candidate", after=began).connect()
    await whole.wait_closed(5)
    assert [essence(f) for f in whole.frames if "seq" in f] == [essence(frame) for frame in got]


def is_for_candidates(frame: dict[str, Any]) -> bool:
    """Whether a frame of an observer is one that the candidate gets too."""
    if frame["type"] == "proctoring":
        return frame["event"].get("source") == "page"
    return frame["type"] in OWN_FRAMES or frame["event"]["type"] in SHOWN_AS_STATE


def essence(frame: dict[str, Any]) -> tuple[Any, ...]:
    """What of an event's frame is the same for whoever gets it, whenever."""
    same = ("seq", "at", "question_index", "answer", "seconds", "cause", "source", "state", "end_reason")
    question = frame.get("question") if frame["type"] == "question" else None
    asked = question and (question["index"], question["text"], question["opened_at"])
    kind = "state" if frame["type"] == "journal" else frame["type"]
    return (kind, *(json.dumps(frame.get(name)) for name in same), asked)


async def keep_busy(live: Live, rng: random.Random) -> None:
    """Staff and the candidate's other calls, one after another, until cancelled."""
    index = 0
    for number in range(149):
        for what in rng.sample(("answer", "pause", "extend", "page"), 2):
            if what == "answer":
                await live.answer(index, f"answer {index}", headers=live.mine)
                index += 1
            elif what == "pause":
                await live.post("pause")
                await live.post("resume")
            elif what == "extend":
                more = {"seconds": 1 + number, "reason": "busy"}
                await live.post("extend", more, headers={"Idempotency-Key": f"e{number}"})
            else:
                await live.post("proctoring/events", {"events": [{"type": "paste"}]}, headers=live.mine)
            await asyncio.sleep(rng.uniform(0, 0.08))


async def test_a_command_has_one_outcome(live: Live) -> None:
    await live.make(3)
    channel = await live.join()
    await live.begin(channel)
    key, other = str(uuid.uuid4()), str(uuid.uuid4())
    body = {"question_index": 0, "answer": "once"}
    first = await channel.call("answer", command_id=key, **body)
    assert first["type"] == "ok" and first["replayed"] is False
    before = await live.events_of("question_closed", "question_opened")

    again = await channel.call("answer", command_id=key, **body)
    assert (again["type"], again["replayed"], again["version"]) == ("ok", True, first["version"])
    await channel.close()
    channel = await live.join()
    again = await channel.call("answer", command_id=key, **body)
    assert (again["type"], again["replayed"]) == ("ok", True)
    by_rest = await live.request("POST", "/answer", json=body, headers={**live.mine, "Idempotency-Key": key})
    assert checked(by_rest, 200) and by_rest.headers["idempotency-replayed"] == "true"
    changed = await channel.call("answer", command_id=key, question_index=0, answer="twice")
    assert (changed["type"], changed["code"]) == ("error", "idempotency_key_reused")
    assert not channel.of("answer_saved"), "nothing new was saved"
    assert await live.events_of("question_closed", "question_opened") == before

    body = {"question_index": 1, "answer": "by rest"}
    checked(await live.request("POST", "/answer", json=body, headers={**live.mine, "Idempotency-Key": other}), 200)
    saved = await channel.next("answer_saved")
    assert saved.get("command_id") is None, "this connection did not send it"
    again = await channel.call("answer", command_id=other, **body)
    assert (again["type"], again["replayed"]) == ("ok", True)
    live.acknowledged |= {0: "once", 1: "by rest"}
    await live.check_nothing_lost()

    start = await channel.call("start")
    assert start["type"] == "ok", "a start while it is in progress changes nothing"
    await live.check_nothing_lost()


async def test_two_answers_race_to_one_question(live: Live) -> None:
    await live.make(7)
    channel = await live.join()
    await live.begin(channel)
    for index in range(6):
        older, channel = channel, live.channel(live.token, "candidate", auth_frame=False)

        tries = (try_over(older, index), try_over(channel, index), try_by_rest(live, index))
        outcomes = await asyncio.gather(*tries)
        won = [name for name, ok in zip(("older", "newer", "rest"), outcomes, strict=True) if ok]
        kept = [a["answer"] for a in (await live.session())["answers"] if a["question_index"] == index]
        assert len(kept) == 1 and set(won) <= set(kept), (won, kept)
        live.acknowledged[index] = kept[0]
        assert await older.wait_closed(5) == 4409
    await live.check_nothing_lost()
    assert len(await live.events_of("question_closed")) == 6


async def try_over(channel: Channel, index: int) -> bool:
    """Answer, over a connection that may have to be made first, or that may be taken away meanwhile."""
    newer = not channel.frames
    try:
        if newer:
            await asyncio.sleep(0.004 * index)
            await channel.connect()
        text = "newer" if newer else "older"
        return (await channel.call("answer", question_index=index, answer=text))["type"] == "ok"
    except Gone:
        assert not newer
        return False


async def try_by_rest(live: Live, index: int) -> bool:
    body = {"question_index": index, "answer": "rest"}
    return (await live.request("POST", "/answer", json=body, headers=live.mine)).status_code == 200


# -- who may come in


async def test_who_may_say_what(live: Live) -> None:
    await live.make(2)
    observer = await live.watch()
    older = await live.join()
    await live.begin(older)
    newer = await live.join()
    assert await older.wait_closed(5) == 4409
    opened: dict[str, Any] = {"source": "channel", "state": "opened"}
    await observer.next("connection", **opened)
    await observer.next("connection", **opened)
    session = await live.session()
    assert session["status_detail"] == "question_open", "being replaced is no loss"
    events = await live.events()
    commands: dict[str, dict[str, Any]] = {
        "answer": {"question_index": 0, "answer": "x"},
        "draft": {"question_index": 0, "draft": "x"},
        "proctoring_event": {"event": {"type": "paste"}},
        "start": {},
        "end": {},
    }
    for what, members in commands.items():
        refused = await observer.call(what, **members)
        assert (refused["type"], refused["code"]) == ("error", "forbidden"), (what, refused)
    assert (await observer.call("ping"))["type"] == "pong"
    assert await live.events() == events
    second = await live.watch()
    saved = await live.say(newer, 0, "from the newer one")
    for channel in (observer, second):
        seen = await channel.next("answer_saved")
        assert seen["seq"] == saved["seq"] and "question_closed" in json.dumps(seen["event"])
        assert seen["by"] and channel.closed is None
    intruder = await live.channel(live.token, "observer", auth_frame=False).connect()
    assert await intruder.wait_closed(5) == 4401 and not intruder.frames
    assert newer.closed is None


async def test_tokens(live: Live) -> None:
    await live.make(1)
    other = Live(live.http, url=live.url)
    await other.make(1)
    bearer = {"Authorization": f"Bearer {live.token}"}
    for way in ({"auth_frame": True}, {"auth_frame": False}):
        assert (await live.channel(live.token, "candidate", **way).connect()) and await live.channels[-1].next("state")
    by_header = await live.channel(None, "candidate", headers=bearer).connect()
    await by_header.next("state")
    assert [await c.wait_closed(5) for c in live.channels[:-1]] == [4409, 4409]

    async def refused(channel: Channel, seconds: float = 5) -> tuple[int, int]:
        await channel.connect()
        return await channel.wait_closed(seconds), len(channel.of("state"))

    wrong = live.token[:-4] + ("AAAA" if not live.token.endswith("AAAA") else "BBBB")
    tries = [
        *(refused(live.channel(token, "candidate", auth_frame=way)) for way in (True, False) for token in (wrong, "x")),
        *(refused(live.channel(other.token, "candidate", auth_frame=way)) for way in (True, False)),
        refused(live.channel(None, "candidate", headers={"Authorization": f"Bearer {wrong}"})),
        refused(live.channel(None, "candidate"), seconds=13),
    ]
    silent = time.monotonic()
    assert await asyncio.gather(*tries) == [(4401, 0)] * len(tries)
    assert time.monotonic() - silent > 8, "there is time to send a token"
    assert by_header.closed is None and (await by_header.call("ping"))["type"] == "pong"
    await other.leave()


async def test_sessions_that_are_not_there(live: Live) -> None:
    for session_id in (str(uuid.uuid4()), "nobody", "x" * 300):
        for role in ("", "observer"):
            channel = await Channel(live.url, session_id, role=role).connect()
            assert await channel.wait_closed(5) == 4404 and not channel.of("state")
    await live.make(1)
    asked: tuple[dict[str, Any], ...] = ({"role": "boss"}, {"after": -1})
    for wrong in asked:
        channel = await live.channel(live.token, **wrong).connect()
        assert await channel.wait_closed(5) == 4400 and not channel.frames
    observer, channel = await live.watch(), await live.join()
    await live.begin(channel)
    checked(await live.request("DELETE", ""), 200)
    assert [await c.wait_closed(5) for c in (observer, channel)] == [4404, 4404]
    again = await live.channel(live.token, "candidate").connect()
    assert await again.wait_closed(5) in (4401, 4404)


async def test_a_link_that_is_replaced(live: Live) -> None:
    await live.make(2)
    observer, channel = await live.watch(), await live.join()
    await live.begin(channel)
    renewed = (await live.post("link"))["candidate_token"]
    assert await channel.wait_closed(5) == 4401
    old = await live.channel(live.token, "candidate").connect()
    assert await old.wait_closed(5) == 4401 and not old.of("state")
    live.token = renewed
    channel = await live.join()
    await live.say(channel, 0, "by the new link")
    assert observer.closed is None


async def test_browsers_on_other_sites_are_refused(live: Live) -> None:
    await live.make(1)
    port = live.url.rsplit(":", 1)[1]
    for origin in ("https://evil.example", "http://127.0.0.1:1", "null", f"http://127.0.0.1:{port}.evil.example"):
        with pytest.raises(InvalidStatus) as refused:
            await live.channel(origin=origin).connect()
        assert refused.value.response.status_code == 403, origin
    own = await live.channel(origin=live.url).connect()
    await own.next("state")


# -- bad input


ANSWER = '"type": "answer", "question_index": 0'
BAD_FRAMES: dict[str, str | bytes] = {
    "empty": "",
    "not JSON": "answer!",
    "half": '{"type": "answer", ',
    "array": '[{"type": "ping"}]',
    "null": "null",
    "a number": "5",
    "no type": "{}",
    "type is no text": '{"type": 5}',
    "type is an object": '{"type": {"a": ["b"]}}',
    "unknown type": '{"type": "pause"}',
    "missing members": '{"type": "answer"}',
    "missing text": "{" + ANSWER + "}",
    "index is text": '{"type": "answer", "question_index": "0", "answer": "x"}',
    "answer is a number": "{" + ANSWER + ', "answer": 5}',
    "negative index": '{"type": "answer", "question_index": -1, "answer": "x"}',
    "a fraction": '{"type": "answer", "question_index": 0.5, "answer": "x"}',
    "index out of range": '{"type": "answer", "question_index": 77, "answer": "x"}',
    "unknown member": "{" + ANSWER + ', "answer": "x", "extra": 1}',
    "NaN": '{"type": "answer", "question_index": NaN, "answer": "x"}',
    "infinite": '{"type": "draft", "question_index": 0, "draft": "x", "revision": 1e400}',
    "lone surrogate": "{" + ANSWER + ', "answer": "\\ud800"}',
    "NUL": "{" + ANSWER + ', "answer": "a\\u0000b"}',
    "draft without text": '{"type": "draft", "question_index": 0}',
    "no event": '{"type": "proctoring_event"}',
    "unknown kind": '{"type": "proctoring_event", "event": {"type": "mood"}}',
    "too many events": json.dumps({"type": "proctoring_event", "events": [{"type": "paste"}] * 101}),
    "command_id is a number": '{"type": "ping", "command_id": 5}',
    "command_id is long": json.dumps({"type": "ping", "command_id": "x" * 5_000}),
    "surrogate in command_id": "{" + ANSWER + ', "answer": "x", "command_id": "\\ud800"}',
    "deep": "[" * 50_000,
    "deep in a member": '{"type": ' + '{"a":' * 50_000,
    "a long number": '{"type": "answer", "question_index": ' + "9" * 6_000 + ', "answer": "x"}',
    "long answer": json.dumps({"type": "answer", "question_index": 0, "answer": "x" * 65_537}),
    "300 KB": json.dumps({"type": "answer", "question_index": 0, "answer": "x" * 300_000}),
    "binary": b"{" + ANSWER.encode() + b', "answer": "x"}',
    "binary nonsense": b"\xff\x00\xfe",
}


async def test_bad_frames_are_refused_one_by_one(live: Live) -> None:
    await live.make(2)
    channel = await live.join()
    await live.begin(channel)
    events = await live.events()
    for name, frame in BAD_FRAMES.items():
        have = len(channel.of("error"))
        await (channel.send_bytes(frame) if isinstance(frame, bytes) else channel.send_text(frame))
        pong = await channel.call("ping")
        assert pong["type"] == "pong", (name, pong)
        await channel.until(lambda n=have: len(channel.of("error")) > n, 5, f"an error for {name}")
        errors = channel.of("error")[have:]
        assert len(errors) == 1, (name, errors)
        [error] = errors
        assert error["detail"].strip() and re.fullmatch("[a-z_]+", error["code"]), (name, error)
        assert error["code"] not in ("internal_error", "error", "unavailable", "too_many_requests"), (name, error)
        await asyncio.sleep(0.15)  # 10 frames a second are taken for ever
    echoed = await channel.call("answer", question_index="0", answer="x")
    assert echoed["code"] == "invalid_input" and echoed["errors"][0]["pointer"].endswith("/question_index"), echoed
    large = await channel.call("answer", question_index=0, answer="x" * 65_537)
    assert large["code"] == "too_large"
    assert await live.events() == events
    await live.say(channel, 0, "it works on")
    await live.check_nothing_lost()


async def test_who_sends_nothing_but_nonsense_is_put_out(live: Live) -> None:
    await live.make(2)
    channel = await live.join()
    await live.begin(channel)
    with contextlib.suppress(Gone):
        for _ in range(30):
            await channel.send_text("nonsense")
            await asyncio.sleep(0.05)
    assert await channel.wait_closed(5) == 4400
    assert 15 <= len(channel.of("error")) <= 25
    assert (await live.session())["status_detail"] in ("question_open", "connection_lost")
    channel = await live.join()
    await live.say(channel, 0, "it works")


async def test_a_flood_is_cut_off_and_harms_nothing(live: Live, service: Serve) -> None:
    await live.make(2)
    channel = await live.join()
    await live.begin(channel)
    await asyncio.gather(*(channel.send("ping") for _ in range(48)))
    await channel.until(lambda: len(channel.of("pong", "error")) >= 48, 10, "a reply to each")
    first = channel.of("error")
    assert 1 <= len(first) <= 12 and all(e["code"] == "too_many_requests" and e["retry_after"] > 0 for e in first)
    assert channel.closed is None
    with contextlib.suppress(Gone):
        for _ in range(200):
            await channel.send("ping")
    assert await channel.wait_closed(10) == 1008
    errors = channel.of("error")
    assert all(error["code"] == "too_many_requests" and error["command_id"] for error in errors)
    assert 20 <= len(errors) <= 60
    channel = await live.join()
    await live.say(channel, 0, "unharmed")
    await live.check_nothing_lost()


# -- what others do


async def test_an_answer_while_it_is_paused(live: Live) -> None:
    await live.make(2)
    channel = await live.join()
    await live.begin(channel)
    await live.post("pause")
    paused = await channel.next("paused")
    assert paused["question"]["deadline"] is None and paused["question"]["remaining_seconds"] > 590
    refused = await channel.call("answer", question_index=0, answer="x")
    assert (refused["type"], refused["code"], refused["current_status"]) == ("error", "state_conflict", "in_progress")
    assert "draft" in refused["allowed_actions"] and "answer" not in refused["allowed_actions"]
    assert (await channel.call("draft", question_index=0, draft="x"))["saved"] is True
    await live.post("resume")
    assert (await channel.next("resumed"))["question"]["deadline"] is not None
    await live.say(channel, 0, "now")


async def test_what_happens_is_told_within_a_second(live: Live) -> None:
    await live.make(3, text_question_timer=5)
    observer = await live.watch()
    channel = await live.join()
    await live.begin(channel)
    await channel.call("draft", question_index=0, draft="half an ans", revision=1)
    for what, body, type in (
        ("pause", None, "paused"),
        ("resume", None, "resumed"),
        ("extend", {"seconds": 1.5, "reason": "x"}, "extended"),
    ):
        began = time.monotonic()
        await live.post(what, body, headers={"Idempotency-Key": what})
        for one in (channel, observer):
            frame = await one.next(type, 3)
            assert one.came_at[one.frames.index(frame)] - began < 1, type
    assert frame["seconds"] == 1.5
    deadline = wall((await live.session())["current_question"]["deadline"])
    expired = await channel.next("question_expired", 15)
    late = time.time() - (deadline + GRACE_SECONDS)
    assert -0.1 < late < 1, late
    assert (expired["answer"]["answer"], expired["answer"]["source"]) == ("half an ans", "draft")
    assert expired["current_question_count"] == 1 and "seq" in expired
    assert (await channel.next("question", 3))["question"]["index"] == 1
    assert (await observer.next("question_expired", 3))["seq"] == expired["seq"]


# -- lost connections


@pytest.mark.parametrize("peer", ["deaf", "frozen"])
async def test_a_peer_that_answers_no_pings_is_lost(live: Live, peer: str) -> None:
    await live.make(2)
    observer, channel = await live.watch(), await live.join()
    question = await live.begin(channel)
    assert (await channel.call("ping"))["type"] == "pong"
    silent = time.time()
    if peer == "deaf":
        channel.deafen()
    else:
        channel.freeze()
    await observer.next("connection", 20, source="channel", state="lost")
    assert time.time() - silent < 20
    stopped = await observer.next("connection", 2, state="clock_stopped")
    assert stopped["question"]["deadline"] is None
    noted = {event["type"]: event for event in await live.events_of("channel_lost", "clock_stopped")}
    since = noted["clock_stopped"]["since"] / 1000
    assert noted["channel_lost"] and noted["clock_stopped"]["cause"] == "network"
    # Whether a pong was sent after the last frame is the only thing that we do not know.
    assert silent - 1 < since < silent + 1, since - silent
    lost = await live.session()
    assert lost["status_detail"] == "connection_lost" and lost["current_question"]["deadline"] is None
    channel.thaw()
    assert await channel.wait_closed(10) in (1011, 1006)

    back = time.time()
    channel = await live.join(after=channel.last_seq)
    credited = await observer.next("clock_credited", 5, cause="network")
    assert abs(credited["seconds"] - (back - since)) < 1, (credited["seconds"], back - since)
    assert await channel.next("clock_credited", 5, cause="network")
    session = await live.session()
    used = (since - wall(question["opened_at"])) + (time.time() - back)
    assert abs(session["current_question"]["remaining_seconds"] - (600 - used)) < 1
    assert session["status_detail"] == "question_open"
    assert [line["cause"] for line in session["clock"]["ledger"]] == ["network"]
    later = (await live.watch()).frames[0]
    assert abs(later["network_credit_left_seconds"] - (CAP_SECONDS - credited["seconds"])) < 0.01
    await live.say(channel, 0, "back")


async def test_who_breaks_off_is_lost_at_once_and_who_says_goodbye_is_not(live: Live) -> None:
    await live.make(2)
    observer, channel = await live.watch(), await live.join()
    await live.begin(channel)
    for code in (1000, 1001):
        await channel.close(code)
        await observer.next("connection", 2, source="channel", state="closed")
        session = await live.session()
        assert session["status_detail"] == "question_open" and session["current_question"]["deadline"] is not None
        channel = await live.join(after=channel.last_seq)
        await observer.next("connection", 2, source="channel", state="opened")
    for code in (None, TAKEN_FOR_LOST):
        began = time.monotonic()
        await (channel.abort() if code is None else channel.close(code))
        await observer.next("connection", 5, source="channel", state="lost")
        assert time.monotonic() - began < 1.5
        await observer.next("connection", 2, state="clock_stopped")
        assert (await live.session())["status_detail"] == "connection_lost"
        channel = await live.join(after=channel.last_seq)
        await channel.next("clock_credited", 5, cause="network")
    types = [event["type"] for event in await live.events()]
    assert (types.count("channel_closed"), types.count("channel_lost"), types.count("clock_stopped")) == (2, 2, 2)
    await live.say(channel, 0, "back")


# -- slow readers


async def test_readers_that_do_not_read_cost_no_memory(live: Live, service: Serve) -> None:
    await live.make(LARGE_ANSWERS + 1)
    await live.start()
    for index in range(LARGE_ANSWERS):
        await live.answer(index, f"{index} {secrets.token_urlsafe(44_000)}")
    observer = await live.watch()
    slow = [await live.join(receive_buffer=4096), *[await live.watch(receive_buffer=4096) for _ in range(6)]]
    grown = await consent_often(live, front_end(service), slow)
    assert grown < 25, f"the front end took {grown:.0f} MB more"
    consents = await live.events_of("consent_given")
    assert len(consents) == 2 * MANY_STATES
    await observer.until(lambda: observer.last_seq >= consents[-1]["seq"], 10, "the last event")
    await until(lambda: not any(established(*one.ports) for one in slow), 20, "slow readers put out")
    for one in slow:
        one.thaw()
        assert await one.wait_closed(10) in (1011, 1012, 1006)
    assert slow[0].last_seq < consents[-MANY_STATES // 2]["seq"], "the kernel's buffers took it all: nothing was tested"

    more = {"seconds": 1, "reason": "x"}
    await live.post("extend", more, headers={"Idempotency-Key": "e"})
    again = await live.watch(after=slow[1].last_seq)
    every = [event["seq"] for event in await live.events()]
    for one in (observer, again):
        await one.until(lambda o=one: o.last_seq >= every[-1], 10, "the last event")
    assert observer.closed is None, "who reads is not disturbed"
    assert observer.seqs == [seq for seq in every if seq > observer.frames[0]["as_of"]]
    assert slow[1].seqs + again.seqs == [seq for seq in every if seq > slow[1].frames[0]["as_of"]]
    channel = await live.join()
    await live.say(channel, LARGE_ANSWERS, "unharmed")
    await live.check_nothing_lost()


LARGE_ANSWERS, MANY_STATES = 16, 50


async def consent_often(live: Live, pid: int, slow: list[Channel]) -> float:
    """Change the session a hundred times, each a frame of 1 MB for the candidate, and have them all freeze halfway.

    Returns by how many MB the front end grew from then on.
    """
    before = peak = 0.0
    for number in range(2 * MANY_STATES):
        if number == MANY_STATES:
            for one in slow:
                one.freeze()
            before = resident_mb(pid)
        await live.post("consent", {"accepted": True, "policy": f"p{number}"}, headers=live.mine)
        peak = max(peak, resident_mb(pid))
    return peak - before


def resident_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"^VmRSS:\s+(\d+) kB", text, re.MULTILINE)[0]) / 1000


def established(server: int, client: int) -> bool:
    """Whether the server's end of a connection over loopback is still open, as the kernel sees it."""
    wanted = (f":{server:04X}", f":{client:04X}")
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if (local[-5:], remote[-5:]) == wanted:
            return state == "01"
    return False


# -- processes that die


async def test_the_actor_is_killed_and_the_channel_stays(live: Live, service: Serve) -> None:
    await live.make(3)
    observer, channel = await live.watch(), await live.join()
    await live.begin(channel)
    await live.say(channel, 0, "before")
    actor = (await live.session())["placement"]["actor"]
    os.kill((await actor_pids(service))[actor], signal.SIGKILL)
    await live.say(channel, 1, "after")
    credited = await channel.next("clock_credited", 10)
    assert credited["cause"] == "crash" and credited["seconds"] > 0
    assert channel.closed is None and observer.closed is None
    session = await live.check_nothing_lost()
    assert session["placement"]["epoch"] == 2 and {e["cause"] for e in session["clock"]["ledger"]} == {"crash"}
    await live.say(channel, 2, "and on")
    assert [await c.wait_closed(5) for c in (channel, observer)] == [1000, 1000]
    assert increasing(channel.seqs) and increasing(observer.seqs)
    assert [f["question_index"] for f in channel.of("answer_saved")] == [0, 1, 2]


async def test_the_front_end_is_killed(live: Live, service: Serve) -> None:
    await live.make(4)
    observer, channel = await live.watch(), await live.join()
    question = await live.begin(channel)
    await live.say(channel, 0, "before")
    key = await channel.send("answer", question_index=1, answer="under way")
    os.kill(front_end(service), signal.SIGKILL)
    killed = time.time()
    assert await channel.wait_closed(5) == 1006 and await observer.wait_closed(5) == 1006

    watching = await come_back(lambda: live.watch(after=observer.last_seq), 40)
    await asyncio.sleep(max(0.0, killed + 4 - time.time()))  # how long the candidate is away
    more = {"seconds": 30, "reason": "the outage"}
    await live.post("extend", more, headers={"Idempotency-Key": "e"})
    back = time.time()
    again = await come_back(lambda: live.join(after=channel.last_seq), 20)
    assert (await again.next("extended"))["seconds"] == 30, "what was missed"
    reply = await insist(again, "answer", 20, command_id=key, question_index=1, answer="under way")
    live.acknowledged[1] = "under way"
    await live.say(again, 2, "after")
    session = await live.check_nothing_lost()

    async def ledger() -> list[dict[str, Any]]:
        return [e for e in (await live.session())["clock"]["ledger"] if e["cause"] == "network"]

    [line] = await until(ledger, 30, "the outage in the ledger")
    outage = back - killed
    assert outage - 1 < line["seconds"] < outage + 5, (line, outage)
    assert reply["type"] == "ok" and session["placement"]["epoch"] == 1
    used = sum(a["elapsed_seconds"] for a in session["answers"])
    passed = time.time() - wall(question["opened_at"]) - line["seconds"]
    assert used < passed + 1, "what was credited counts in no answer"
    seqs = [f["seq"] for part in (channel, again) for f in part.frames if "seq" in f]
    assert increasing(seqs)
    saved = [f["question_index"] for part in (channel, again) for f in part.of("answer_saved")]
    assert saved == [0, 1, 2], "each once"
    every = [event["seq"] for event in await live.events() if event["seq"] > observer.frames[0]["as_of"]]
    await watching.until(lambda: watching.last_seq >= every[-1], 5, "the last event")
    assert observer.seqs + watching.seqs == every


async def test_who_is_back_at_once_is_credited_when_the_front_end_dies(live: Live, service: Serve) -> None:
    await live.make(2)
    channel = await live.join()
    question = await live.begin(channel)
    os.kill(front_end(service), signal.SIGKILL)
    killed = time.time()
    await channel.wait_closed(5)
    again = await come_back(lambda: live.join(after=channel.last_seq), 40)
    back = time.time()
    credited = await again.next("clock_credited", 30, cause="network")
    assert back - killed - 1 < credited["seconds"] < back - killed + 5, (credited, back - killed)
    left = (await live.session())["current_question"]["remaining_seconds"]
    used = time.time() - wall(question["opened_at"]) - credited["seconds"]
    assert abs(left - (600 - used)) < 1
    await live.say(again, 0, "back")


async def come_back(join: Callable[[], Awaitable[Channel]], seconds: float) -> Channel:
    """Connect again and again, as a client does whose channel broke."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            return await join()
        except (OSError, InvalidHandshake, TimeoutError, AssertionError):
            if time.monotonic() > give_up:
                raise
            await asyncio.sleep(0.1)
