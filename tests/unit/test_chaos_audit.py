"""The audit of the fault-injection suite must be able to fail: each thing that can go wrong is made up, and found."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from parallel_interview_client import Conflict, calls
from tests.chaos import journal, steps
from tests.chaos.audit import audit
from tests.chaos.caller import Caller, is_parked
from tests.chaos.checks import Findings, Stored, check
from tests.chaos.load import Load
from tests.chaos.record import Call, Interview, Record

BASE_MS = 1_800_000_000_000
Event = dict[str, Any]


def iso(at: int) -> str:
    """`at` ms after the beginning of these tests, as the service writes times."""
    return datetime.fromtimestamp((BASE_MS + at) / 1000, UTC).isoformat("T", "milliseconds").replace("+00:00", "Z")


class Made:
    """A fabricated session: two questions answered in time, a third that ran out and took its draft."""

    def __init__(self) -> None:
        self.told = Interview(
            "s1",
            0,
            ["long", "long", "short"],
            sent={0: "first", 1: "second"},
            acknowledged={0: "first", 1: "second"},
            drafts={2: ["dra", "draft"]},
            drafts_acknowledged={2: 1},
            extended=["more"],
            paused=["alarm"],
            resumed=1,
            started=True,
            completed=True,
        )
        self.events: list[Event] = []
        self.answers = [
            _answer(0, "first", "submitted"),
            _answer(1, "second", "submitted"),
            _answer(2, "draft", "draft"),
        ]
        self.verified: dict[str, Any] = {"ok": True}
        self.status: tuple[str, str] = ("completed", "ended")
        self.now = 60_000
        self.add(0, 0, type="created")
        self.add(1, 0, type="activated", epoch=1, cause="start")
        self.add(1, 1, type="started")
        self.add(1, 1, type="question_opened", index=0, limit_ms=60_000)
        self.closed(2_000, 0, "first", "submitted")
        self.add(2_000, 1, type="question_opened", index=1, limit_ms=60_000)
        self.add(3_000, 1, type="paused", reason="alarm")
        self.add(4_000, 1, type="resumed")
        self.closed(5_000, 1, "second", "submitted")
        self.add(5_000, 1, type="question_opened", index=2, limit_ms=5_000)
        self.add(6_000, 1, type="extended", ms=3_000, reason="more")
        self.add(9_000, 1, type="activated", epoch=2, cause="crash")
        self.add(9_000, 2, type="clock_credited", ms=1_000, cause="crash")
        self.closed(16_001, 2, "draft", "draft", epoch=2)
        self.add(16_001, 2, type="completed", reason="finished")

    def add(self, at: int, holder: int, **event: Any) -> None:
        self.events.append({"seq": len(self.events) + 1, "at": iso(at), "epoch": holder, **event})

    def closed(self, at: int, index: int, answer: str, source: str, epoch: int = 1) -> None:
        self.add(at, epoch, type="question_closed", index=index, answer=answer, source=source)

    def event(self, kind: str, position: int = -1) -> Event:
        return [e for e in self.events if e["type"] == kind][position]

    def remove(self, kind: str) -> None:
        """Take the last event of a kind away, with no gap in the numbers."""
        self.events.remove(self.event(kind))
        self.number()

    def repeat(self, kind: str, at: int | None = None) -> None:
        """Have the last event of a kind happen again behind itself."""
        event = self.event(kind)
        again = dict(event) if at is None else {**event, "at": iso(at)}
        self.events.insert(self.events.index(event) + 1, again)
        self.number()

    def number(self) -> None:
        for seq, event in enumerate(self.events, 1):
            event["seq"] = seq

    @property
    def session(self) -> dict[str, Any]:
        return {
            "session_id": "s1",
            "status": self.status[0],
            "status_detail": self.status[1],
            "version": 7,
            "answers": self.answers,
            "current_question_count": len(self.answers),
            "current_question": None,
        }

    def findings(self) -> Findings:
        findings = Findings()
        check(self.told, Stored(self.session, self.events, self.verified, BASE_MS + self.now), findings)
        return findings


def _answer(index: int, text: str, source: str) -> dict[str, Any]:
    return {"question_index": index, "answer": text, "source": source}


def _found(findings: Findings) -> set[str]:
    return {name for name in (*Findings.FAILURES, *Findings.WARNINGS) if getattr(findings, name)}


def test_a_good_session_passes() -> None:
    findings = Made().findings()
    assert not _found(findings) and not findings.failed
    assert (findings.sessions, findings.checked, findings.timers) == (1, 6, 1)


def _lose_answer(made: Made) -> None:
    del made.answers[0]


def _change_answer(made: Made) -> None:
    made.answers[1]["answer"] = "first"
    made.told.sent[1] = "first"


def _double_answer(made: Made) -> None:
    made.answers.append(_answer(1, "second", "submitted"))


def _close_twice(made: Made) -> None:
    made.repeat("question_closed")
    made.event("question_closed").update(source="submitted")


def _fire_twice(made: Made) -> None:
    made.repeat("question_closed")


def _fire_early(made: Made) -> None:
    for event in made.events[-2:]:
        event["at"] = iso(15_999)


def _fire_without_credit(made: Made) -> None:
    """The close is due only with the credit; one that is bigger than the service counted makes it early."""
    made.event("clock_credited")["ms"] = 2_000


def _fire_in_a_pause(made: Made) -> None:
    made.events.insert(-2, {**made.event("paused"), "at": iso(10_000), "epoch": 2, "reason": "another"})
    made.number()


def _fire_late(made: Made) -> None:
    for event in made.events[-2:]:
        event["at"] = iso(31_002)


def _lose_timer(made: Made) -> None:
    del made.events[-2:], made.answers[-1]
    made.told.completed, made.status = False, ("in_progress", "question_open")


def _gap(made: Made) -> None:
    del made.events[7]


def _twice_the_same_seq(made: Made) -> None:
    made.events[7]["seq"] = 7


def _epoch_back(made: Made) -> None:
    made.events[-1]["epoch"] = 1


def _time_back(made: Made) -> None:
    made.event("resumed")["at"] = iso(2_999)


def _break_chain(made: Made) -> None:
    made.verified = {"ok": False, "broken_at": 4}


def _lose_draft(made: Made) -> None:
    made.event("question_closed").update(source="timeout", answer="")
    made.answers[-1].update(source="timeout", answer="")


def _older_draft(made: Made) -> None:
    made.told.drafts_acknowledged[2] = 2
    made.event("question_closed")["answer"] = made.answers[-1]["answer"] = "dra"


def _invent_answer(made: Made) -> None:
    made.told.acknowledged.clear()
    made.answers[0]["answer"] = "never said"


def _keep_refused(made: Made) -> None:
    del made.told.acknowledged[1]
    made.told.refused[1] = "second"


def _refuse_what_was_in_time(made: Made) -> None:
    made.told.sent[2] = made.told.refused[2] = "third"
    made.told.sent_at[2] = BASE_MS + 13_000


def _lose_start(made: Made) -> None:
    made.remove("started")


def _lose_end(made: Made) -> None:
    made.remove("completed")


def _park(made: Made) -> None:
    _lose_timer(made)
    made.status, made.now = ("in_progress", "parked"), 12_000


BAD: dict[Callable[[Made], None], set[str]] = {
    _lose_answer: {"lost"},
    _change_answer: {"lost"},
    _double_answer: {"doubled"},
    _close_twice: {"doubled"},
    _fire_twice: {"timers_doubled"},
    _fire_early: {"early"},
    _fire_without_credit: {"early"},
    _fire_in_a_pause: {"early"},
    _fire_late: {"late"},
    _lose_timer: {"timers_lost"},
    _gap: {"chain_broken"},
    _twice_the_same_seq: {"chain_broken"},
    _epoch_back: {"chain_broken"},
    _time_back: {"chain_broken"},
    _break_chain: {"chain_broken"},
    _lose_draft: {"lost"},
    _older_draft: {"lost"},
    _invent_answer: {"invented"},
    _keep_refused: {"invented"},
    _refuse_what_was_in_time: {"unfair"},
    _lose_start: {"lost"},
    _lose_end: {"lost", "stuck"},
    _park: {"stuck"},
    lambda made: made.remove("extended"): {"lost"},
    lambda made: made.repeat("extended"): {"doubled"},
    lambda made: made.remove("paused"): {"lost", "doubled"},
    lambda made: made.remove("clock_credited"): {"odd"},
    lambda made: made.event("clock_credited").update(ms=130_000): {"early", "odd"},
}


@pytest.mark.parametrize("spoil", list(BAD), ids=lambda spoil: spoil.__name__)
def test_what_is_wrong_is_found(spoil: Callable[[Made], None]) -> None:
    made = Made()
    spoil(made)
    findings = made.findings()
    assert BAD[spoil] <= _found(findings), findings
    assert findings.failed == bool(BAD[spoil] - {*Findings.WARNINGS})


def test_a_timer_that_is_late_for_a_reason_is_not_late() -> None:
    made = Made()
    for kind in ("activated", "clock_credited"):
        made.event(kind)["at"] = iso(40_000)
    for event in made.events[-2:]:
        event["at"] = iso(40_000)
    assert not _found(made.findings())


def test_a_draft_that_staff_ended_on_is_not_a_timer() -> None:
    made = Made()
    made.event("completed")["reason"] = "ended_by_staff"
    for event in made.events[-2:]:
        event["at"] = iso(10_000)
    findings = made.findings()
    assert not _found(findings) and findings.timers == 0


def test_the_deadline_counts_everything_that_was_given() -> None:
    made = Made()
    reading = journal.read(made.events[:-2])
    assert reading.open is not None and reading.open.due == BASE_MS + 5_000 + 5_000 + 3_000 + 1_000 + 2_000
    assert journal.read(made.events[:7]).open is not None and not _runs(made.events[:7])


def _runs(events: list[Event]) -> bool:
    clock = journal.read(events).open
    return clock is not None and clock.runs


class FakeService:
    """Shows one fabricated session over HTTP, its journal in pages."""

    def __init__(self, made: Made, page: int = 1000) -> None:
        self.made = made
        self.page = page
        self.drafts = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            self.drafts += 1
            return httpx.Response(503, json={"detail": "nobody holds it"})
        match request.url.path.split("/")[3:]:
            case ["journal"]:
                after = int(request.url.params["after"])
                return httpx.Response(200, json={"events": [e for e in self.made.events if e["seq"] > after][:1000]})
            case ["journal", "verify"]:
                return httpx.Response(200, json={"journal": self.made.verified})
            case []:
                return httpx.Response(200, json={"session": self.made.session})
        return httpx.Response(404)


async def _audited(service: Callable[[httpx.Request], httpx.Response], told: Interview) -> Findings:
    async with httpx.AsyncClient(transport=httpx.MockTransport(service), base_url="http://service") as http:
        load = Load(http, 0, 1)
        load.record.interviews.append(told)
        return await audit(http, load)


async def test_the_audit_reads_long_journals_to_their_end() -> None:
    made = Made()
    tail = made.events[-2:]
    del made.events[-2:]
    for _ in range(1_200):
        made.add(9_500, 2, type="link_renewed", generation=1)
    made.events += tail
    made.number()
    findings = await _audited(FakeService(made), made.told)
    assert not _found(findings) and findings.sessions == 1


async def test_a_session_that_cannot_be_read_is_lost() -> None:
    findings = await _audited(lambda _: httpx.Response(404, json={}), Made().told)
    assert len(findings.lost) == 1


async def test_an_interview_that_nobody_holds_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.chaos.audit.ANSWER_SECONDS", 0.01)
    made = Made()
    _lose_timer(made)
    made.now = 12_000

    def service(request: httpx.Request) -> httpx.Response:
        response = FakeService(made)(request)
        if request.method == "GET" and request.url.path.endswith("/s1"):
            session = {**made.session, "current_question": {"index": 2}}
            return httpx.Response(200, json={"session": session})
        return response

    findings = await _audited(service, made.told)
    assert any("nothing takes its drafts" in sentence for sentence in findings.stuck)


async def test_a_command_is_repeated_with_its_key_until_it_is_acknowledged() -> None:
    keys: list[str] = []

    def service(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise httpx.ConnectError("away")
        if len(keys) == 2:
            return httpx.Response(503, headers={"Retry-After": "0"}, json={})
        return httpx.Response(200, headers={"ETag": '"4"'}, json={"session": {}})

    record, told = Record(), Made().told
    async with httpx.AsyncClient(transport=httpx.MockTransport(service), base_url="http://service") as http:
        await _caller(http, record).command("answer", calls.answer("s1", 0, "x", key="k"), told)
    assert keys == ["k", "k", "k"] and told.version == 4
    [call] = record.calls
    assert call.acknowledged and [status for status, _ in call.failures] == [0, 503]


async def test_a_parked_session_is_recognised() -> None:
    problem = {"current_status": "in_progress", "allowed_actions": ["start", "end"]}
    transport = httpx.MockTransport(lambda _: httpx.Response(409, json=problem))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
        with pytest.raises(Conflict) as refused:
            await _caller(http, Record()).command("answer", calls.answer("s1", 0, "x", key="k"))
    assert is_parked(refused.value)


def _caller(http: httpx.AsyncClient, record: Record) -> Caller:
    return Caller(http, record, 0, random.Random(1))


def test_recovery_is_the_time_until_each_who_felt_it_was_served() -> None:
    def call(candidate: int, began: float, done: float, *failed: float) -> Call:
        return Call(candidate, f"s{candidate}", "answer", "k", began, done, True, [(503, at) for at in failed])

    record = Record()
    record.calls = [
        call(0, 9.0, 9.9),  # before the fault
        call(0, 9.95, 10.5),  # under way
        call(1, 10.2, 13.0, 10.4, 12.0),  # failed
        call(2, 11.0, 11.1),  # felt nothing
        call(3, 12.0, 12.8),  # slow
        call(4, 20.5, 23.0, 21.0),  # another fault's
        call(6, 19.8, 24.0, 20.1),  # another fault's too
        call(5, 10.1, 10.2),  # the victim's, as fast as ever
    ]
    assert sorted(record.recovery_after(10.0, 20.0)) == pytest.approx([0.5, 2.8, 3.0])
    assert sorted(record.recovery_after(10.0, 20.0, "s5")) == pytest.approx([0.2, 0.5, 2.8, 3.0])
    assert record.succeeded_after(20.0) and not record.succeeded_after(20.0, "s1")


def test_arming_a_step(tmp_path: Path) -> None:
    steps.arm(tmp_path, "append.after", "kill", session="s1")
    armed = tmp_path / "append.after"
    assert json.loads(armed.read_text()) == {"do": "kill", "seconds": 5.0, "times": 1, "session": "s1"}
    assert steps.taken(tmp_path, "append.after") is None
    armed.rename(tmp_path / "append.after.taken-17")
    assert steps.taken(tmp_path, "append.after") == 17
    assert steps.taken(tmp_path, "append.before") is None
    steps.arm(tmp_path, "append.after", "hang", 2)
    assert steps.taken(tmp_path, "append.after") is None
    steps.disarm(tmp_path, "append.after")
    assert not list(tmp_path.iterdir())


async def test_a_load_that_is_stopped_comes_to_an_end() -> None:
    """Against a service that is always full: nobody waits for more than the command that it has begun."""
    transport = httpx.MockTransport(lambda _: httpx.Response(400, json={}))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as http:
        load = Load(http, 3, seed=1, pace_seconds=0.01)
        running = asyncio.create_task(load.run())
        await asyncio.sleep(0.1)
        load.stop()
        await asyncio.wait_for(running, 5)
    assert load.record.errors and not load.live
