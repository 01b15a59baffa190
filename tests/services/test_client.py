"""The Python client against the real service: whole interviews, its types, and what it makes of a dying front end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import parallel_interview_client as pic
from parallel_interview_client import AsyncClient, Client, Ended, calls
from parallel_interview_client import types as t
from tests.chaos.processes import front_ends
from tests.servers import ROOT, Serve, serving
from tests.shapes import misfits

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]

KEY = "a-staff-key-of-this-test"
ADA = ("Ada Lovelace", "ada@example.com")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with serving(
        tmp_path_factory.mktemp("client"),
        INTERVIEW_API_KEY=KEY,
        INTERVIEW_WARM_ACTORS="3",
        INTERVIEW_WEBHOOK_PRIVATE_ADDRESSES="true",
    ) as service:
        yield service


@pytest.fixture
def client(service: Serve) -> Iterator[Client]:
    with Client(service.url, KEY) as client:
        yield client


@pytest.fixture
async def aio(service: Serve) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(service.url, KEY) as client:
        yield client


def fits(value: Any, kind: Any) -> None:
    lines = misfits(value, kind)
    assert not lines, "\n".join(lines)


# --- whole lives


def test_a_whole_interview_and_every_type_that_it_shows(client: Client) -> None:
    made = client.create(*ADA, questions=["Q1", "Q2"], question_types=["text", "coding"], metadata={"a": "b"})
    fits(without_status(made), t.Created)
    session_id = made["session_id"]
    ada = client.candidate(session_id, made["candidate_token"])
    assert client.update(session_id, phone="+44 1")["candidate"]["phone"] == "+44 1"
    fits(ada.consent(), t.Session)
    fits(ada.start(), t.Session)
    assert client.start(session_id)["status"] == "in_progress"
    fits(client.session(session_id), t.Session)
    fits(without_status(ada.draft(0, "Bec", revision=1)), t.Draft)
    assert client.pause(session_id, "fire alarm")["status_detail"] == "paused"
    client.resume(session_id)
    longer = client.extend(session_id, 60, "the alarm")["current_question"]
    assert longer is not None and longer["time_limit_seconds"] == 120
    fits(without_status(ada.proctoring_events([{"type": "tab_hidden", "phase": "began"}])), t.Received)
    fits(ada.token(), t.Ticket)
    ada.answer(0, "Because.", key="k0")
    again = ada.client.send(calls.answer(session_id, 0, "Because.", key="k0"))
    assert again.replayed and again.version
    assert client.session_if_changed(session_id, again.version) is None
    done = ada.answer(1, "items[::-1]", "python")
    assert (done["status"], done["end_reason"]) == ("completed", "finished")
    report = client.report(session_id)
    fits(report, t.Report)
    fits(without_status(client.review(session_id, "advance", "Good.")), t.Reviewed)
    fits(client.proctoring(session_id), t.Timeline)
    fits(ada.proctoring(), t.Timeline)
    fits(client.stats(), t.Stats)
    events = client.journal(session_id)
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
    fits(client.verify(session_id), t.Verified)
    link = client.link(session_id)
    fits(without_status(link), t.Link)
    with pytest.raises(pic.Unauthorized):
        ada.session()
    assert client.delete(session_id) is None
    with pytest.raises(pic.NotFound):
        client.session(session_id)


def without_status(body: Any) -> Any:
    """Of an answer that is returned whole, what is not in every one."""
    return {name: value for name, value in body.items() if name != "status"}


def test_many_sessions_and_going_through_them(client: Client) -> None:
    label = f"many-{time.time_ns()}"
    people: list[t.NewSession] = [
        {"name": f"N{n}", "email": f"n{n}@example.com", "job_id": label, "questions": ["Q"]} for n in range(5)
    ]
    tried = client.create_many([*people, {"name": "", "email": "x"}], dry_run=True)
    fits(without_status(tried), t.Outcomes)
    assert (tried["created"], tried["failed"]) == (0, 1)
    made = client.create_many(people)
    fits(without_status(made), t.Outcomes)
    ids = [one.get("session_id") for one in made["results"]]
    assert [one["session_id"] for one in client.sessions(limit=2, job_id=label)] == sorted_newest(client, ids)
    page = client.session_page(limit=2, total=True, job_id=label)
    fits(without_status(page), t.Page)
    assert page.get("total") == 5 and page["has_more"]
    for session_id in ids:
        client.delete(str(session_id))


def sorted_newest(client: Client, ids: list[Any]) -> list[str]:
    found = [client.session(session_id) for session_id in ids]
    return [s["session_id"] for s in sorted(found, key=lambda s: (s["created_at"], s["session_id"]), reverse=True)]


def test_banks_webhooks_and_keys(client: Client) -> None:
    job = client.create_job("client-test", "A bank", [{"text": "Q1"}, {"text": "Q2", "type": "coding"}], pick=1)
    fits(job, t.Job)
    assert client.replace_job("client-test", "A bank", [{"text": "Q1"}]).get("version") == 2
    assert client.job("client-test", version=1)["questions"] == job["questions"]
    fits(client.jobs(), list[t.Job])
    client.delete_job("client-test")
    hook = client.add_webhook("http://127.0.0.1:9/x", description="nobody")
    fits(hook, t.Webhook)
    fits(client.webhooks(), list[t.Webhook])
    client.delete_webhook(hook["webhook_id"])
    made = client.create_key("reader", ["read"])
    fits(without_status(made), t.NewKey)
    with Client(client.url, made["secret"]) as reader:
        fits(reader.stats(), t.Stats)
        with pytest.raises(pic.Forbidden, match="manage"):
            reader.create(*ADA)
    fits(client.keys(), list[t.StaffKey])
    assert client.revoke_key(made["key"]["key_id"])["state"] == "revoked"


def test_what_is_wrong_is_said_as_it_was(client: Client) -> None:
    with pytest.raises(pic.BadRequest) as bad:
        client.create(name="", email="nobody")
    assert {error["pointer"] for error in bad.value.errors} == {"/name", "/email"} and bad.value.request_id
    made = client.create(*ADA, questions=["Q"])
    with pytest.raises(pic.Conflict) as conflict:
        client.answer(made["session_id"], 0, "x")
    assert conflict.value.current_status == "initialized" and "start" in conflict.value.allowed_actions
    with pytest.raises(pic.StaleVersion):
        client.update(made["session_id"], if_match=99, name="B")
    client.create(*ADA, questions=["Q"], key="twice")
    with pytest.raises(pic.KeyReused):
        client.create(name="Bob", email="bob@example.com", questions=["Q"], key="twice")
    with pytest.raises(pic.NotAnImage):
        client.capture_reference_face(made["session_id"], b"no picture")
    with Client(client.url, "wrong") as wrong, pytest.raises(pic.Unauthorized):
        wrong.stats()


# --- the live channel


async def test_an_interview_over_the_live_channel_and_who_looks_on(aio: AsyncClient) -> None:
    made = await aio.create(*ADA, questions=["Q1", "Q2"])
    session_id = made["session_id"]
    ada = aio.candidate(session_id, made["candidate_token"])
    async with aio.channel(session_id) as observer, ada.channel() as live:
        await live.start()
        await live.proctoring_event({"type": "tab_hidden", "phase": "began"})
        async for frame in live:
            fits(frame, t.Frame)
            if frame["type"] == "question":
                index = frame["question"]["index"]
                await live.draft(index, "A")
                assert (await live.answer(index, "An answer."))["type"] == "ok"
        assert live.ended is not None and live.ended.why is Ended.COMPLETED
        seen = [frame async for frame in observer]
    for frame in seen:
        fits(frame, t.Frame)
    assert [frame["seq"] for frame in seen if "seq" in frame] == [
        event["seq"] for event in await aio.journal(session_id) if event["seq"] > seen[0].get("as_of", 0)
    ]


def test_the_blocking_channel_and_its_ends(client: Client) -> None:
    made = client.create(*ADA, questions=["Q1", "Q2"])
    session_id = made["session_id"]
    ada = client.candidate(session_id, made["candidate_token"])
    with ada.channel() as live:
        live.start()
        live.answer(0, "a text")
        with ada.channel() as newer:
            assert newer.receive(timeout=10)["type"] == "state"
            with pytest.raises(pic.ChannelClosed) as replaced:
                list(live)
            assert replaced.value.why is Ended.REPLACED
            with pytest.raises(pic.Conflict):
                newer.answer(0, "another text")
            newer.end()
            assert [frame["type"] for frame in newer][-1] == "completed"
    for token, session, why in (
        ("wrong", session_id, Ended.UNAUTHORIZED),
        (made["candidate_token"], "nothing", Ended.UNAUTHORIZED),
    ):
        with client.candidate(session, token).channel() as refused, pytest.raises(pic.ChannelClosed) as closed:
            refused.receive(timeout=10)
        assert closed.value.why is why
    with client.channel("nothing") as nobody, pytest.raises(pic.ChannelClosed) as unknown:
        nobody.receive(timeout=10)
    assert unknown.value.why is Ended.UNKNOWN_SESSION


async def test_the_front_end_is_killed_and_nothing_is_missed_or_doubled(service: Serve, aio: AsyncClient) -> None:
    """Three times, at different moments: while the candidate waits, and while answers are on their way."""
    questions = [f"Q{n}" for n in range(12)]
    made = await aio.create(*ADA, questions=questions)
    session_id = made["session_id"]
    ada = aio.candidate(session_id, made["candidate_token"])
    seen: dict[str, list[t.Frame]] = {"candidate": [], "observer": []}

    async def look_on() -> None:
        async for frame in observer:
            seen["observer"].append(frame)

    async with aio.channel(session_id) as observer, ada.channel() as live:
        looking = asyncio.create_task(look_on())
        await live.start()
        async for frame in live:
            seen["candidate"].append(frame)
            if frame["type"] == "question" and frame["question"].get("deadline"):
                index = frame["question"]["index"]
                answering = asyncio.create_task(live.answer(index, f"Answer {index}"))
                if index in (3, 6, 9):
                    await asyncio.sleep(0.002 * (index - 3))
                    kill_front_end(service)
                await answering
        await asyncio.wait_for(looking, 30)
    session = await aio.session(session_id)
    assert [a["answer"] for a in session["answers"]] == [f"Answer {n}" for n in range(12)]
    assert all(a["source"] == "submitted" for a in session["answers"])
    journal = await aio.journal(session_id)
    for who, frames in seen.items():
        seqs = [frame["seq"] for frame in frames if "seq" in frame]
        assert seqs == sorted(set(seqs)), f"{who} was shown an event twice, or out of order"
        answered = [frame["question_index"] for frame in frames if frame["type"] == "answer_saved"]
        assert answered == list(range(12)), who
        assert sum(frame["type"] == "state" and "seq" not in frame for frame in frames) >= 2, "it never came back"
    expected = [event["seq"] for event in journal if event["seq"] > seen["observer"][0].get("as_of", 0)]
    assert [frame["seq"] for frame in seen["observer"] if "seq" in frame] == expected


async def test_calls_go_on_over_a_front_end_that_is_killed(service: Serve, aio: AsyncClient) -> None:
    failed: list[pic.Failure] = []
    made: list[str] = []
    for number in range(40):
        if number in (10, 25):
            kill_front_end(service)
        call = calls.create(*ADA, questions=["Q"], job_id="killed")
        made.append((await aio.send(call, failed=failed.append)).value["session_id"])
    assert failed, "no call met the kill"
    assert {one["session_id"] async for one in aio.sessions(job_id="killed")} == set(made)
    for session_id in made:
        await aio.delete(session_id)


def kill_front_end(service: Serve) -> None:
    """Kill -9 the front end, as soon as there is one; the supervisor starts another."""
    give_up = time.monotonic() + 60
    while not (pids := front_ends(service)) and time.monotonic() < give_up:
        time.sleep(0.1)
    os.kill(pids[0], signal.SIGKILL)


# --- the README


def examples() -> list[tuple[str, str]]:
    text = (ROOT / "client" / "README.md").read_text()
    return re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize(("name", "code"), examples(), ids=lambda part: part if len(part) < 20 else "")
def test_the_readme_says_what_works(service: Serve, tmp_path: Path, name: str, code: str) -> None:
    assert len(code.splitlines()) <= 14, "an example that is read at a glance"
    script = tmp_path / f"example_{name}.py"
    script.write_text(code.replace("http://localhost:8005", service.url).replace("the staff key", KEY))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "finished" in done.stdout


def test_the_readme_has_an_example_of_each_kind() -> None:
    assert [name for name, _ in examples()] == ["blocking", "asyncio", "live", "watching"]
