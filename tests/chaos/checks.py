"""What is asked of one session: pure functions over what the load was told and what the service has stored."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

from tests.chaos import journal
from tests.chaos.journal import Closing, Event, Reading, ms
from tests.chaos.record import Interview

LATE_MS = 15_000
MAX_CREDIT_MS = 120_000


@dataclass
class Findings:
    """Sentences about what is wrong, by kind, and how much was checked. WARNINGS are no failures."""

    sessions: int = 0
    checked: int = 0
    """Acknowledged answers, extends, pauses and drafts that were held against the journal."""
    timers: int = 0
    """Questions that were closed because their time was over."""
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    """Stored, but never sent, or refused."""
    timers_lost: list[str] = field(default_factory=list)
    timers_doubled: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    chain_broken: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    unfair: list[str] = field(default_factory=list)
    """Answers sent in time, and repeated as they should be, but refused: their time ran out on our account."""
    odd: list[str] = field(default_factory=list)

    FAILURES: ClassVar = (
        "lost",
        "doubled",
        "invented",
        "timers_lost",
        "timers_doubled",
        "early",
        "chain_broken",
        "stuck",
    )
    WARNINGS: ClassVar = ("late", "unfair", "odd")

    @property
    def problems(self) -> list[str]:
        """All failures, each with its kind."""
        return [f"{name}: {sentence}" for name in self.FAILURES for sentence in getattr(self, name)]

    @property
    def failed(self) -> bool:
        return bool(self.problems)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the service has of one session."""

    session: dict[str, Any]
    events: list[Event]
    verified: dict[str, Any]
    now: int
    """When the session was read, in ms."""


def check(told: Interview, stored: Stored, findings: Findings) -> None:
    """All checks of one session, into `findings`."""
    findings.sessions += 1
    reading = journal.read(stored.events)
    check_order(told, stored.events, stored.verified, findings)
    check_answers(told, stored.session["answers"], findings)
    check_closings(told, reading.closings, findings)
    check_drafts(told, reading.closings, findings)
    check_staff(told, stored.events, findings)
    check_credits(told, stored.events, findings)
    check_end(told, stored, reading, findings)


def check_order(told: Interview, events: list[Event], verified: dict[str, Any], findings: Findings) -> None:
    """Events are 1, 2, 3, ...; neither epochs nor times go back; the chain over them is whole."""
    sequence = [e["seq"] for e in events]
    if sequence != list(range(1, len(events) + 1)):
        at = next((i for i, seq in enumerate(sequence, 1) if seq != i), len(sequence) + 1)
        findings.chain_broken.append(f"{told.session_id}: event {at} is missing or comes twice: {sequence[:at][-5:]}")
    for before, after in pairwise(events):
        if after["epoch"] < before["epoch"]:
            findings.chain_broken.append(f"{told.session_id}: the epoch goes back at event {after['seq']}")
        if ms(after["at"]) < ms(before["at"]):
            findings.chain_broken.append(f"{told.session_id}: time goes back at event {after['seq']}")
    if not verified.get("ok"):
        findings.chain_broken.append(f"{told.session_id}: the chain does not verify: {verified}")


def check_answers(told: Interview, answers: list[dict[str, Any]], findings: Findings) -> None:
    """Acknowledged answers are there, once and unchanged; nothing is there that was not sent."""
    for index, text in told.acknowledged.items():
        findings.checked += 1
        kept = [a for a in answers if a["question_index"] == index]
        if not any(a["answer"] == text and a["source"] == "submitted" for a in kept):
            findings.lost.append(f"{told.session_id}: the acknowledged answer to question {index} is not kept: {kept}")
    for index, count in Counter(a["question_index"] for a in answers).items():
        if count > 1:
            findings.doubled.append(f"{told.session_id}: question {index} has {count} answers")
    for answer in answers:
        problem = _unsent(told, answer)
        if problem:
            findings.invented.append(f"{told.session_id}: {problem}: {answer}")


def _unsent(told: Interview, answer: dict[str, Any]) -> str | None:
    index, text = answer["question_index"], answer["answer"]
    if answer["source"] == "timeout":
        return "a question that ran out has an answer" if text else None
    if answer["source"] == "draft":
        return None if text in told.drafts.get(index, []) else "a draft is stored that was never sent"
    if told.refused.get(index) == text:
        return "an answer is stored that was refused"
    return None if told.sent.get(index) == text else "an answer is stored that was never sent"


def check_closings(told: Interview, closings: list[Closing], findings: Findings) -> None:
    """Each question closes once; one whose time is over neither before it was due nor long after."""
    for index, times in _by_index(closings).items():
        if len(times) > 1:
            by_timer = sum(c.by_timer for c in times)
            into = findings.timers_doubled if by_timer > 1 else findings.doubled
            into.append(f"{told.session_id}: question {index} was closed {len(times)} times ({by_timer} by its timer)")
    for closing in closings:
        if not closing.by_timer:
            continue
        findings.timers += 1
        where = f"{told.session_id}: question {closing.index}"
        if closing.late_ms < 0 or closing.paused:
            paused = ", while it was paused" if closing.paused else ""
            findings.early.append(f"{where} was closed {-closing.late_ms} ms before it was due{paused}")
        if closing.late_ms > LATE_MS and not closing.explained:
            findings.late.append(f"{where} was closed {closing.late_ms} ms after it was due")
        in_hand = closing.due - journal.GRACE_MS - told.sent_at.get(closing.index, closing.due)
        if closing.index in told.refused and in_hand > 0:
            findings.unfair.append(f"{where} was answered {in_hand} ms before its deadline, and then refused")


def _by_index(closings: list[Closing]) -> dict[int, list[Closing]]:
    found: dict[int, list[Closing]] = {}
    for closing in closings:
        found.setdefault(closing.index, []).append(closing)
    return found


def check_drafts(told: Interview, closings: list[Closing], findings: Findings) -> None:
    """The last acknowledged draft, or one that was sent after it, is the answer of a question that ran out."""
    for closing in closings:
        revision = told.drafts_acknowledged.get(closing.index)
        if closing.source == "submitted" or revision is None:
            continue
        findings.checked += 1
        if closing.answer not in told.drafts[closing.index][revision - 1 :]:
            findings.lost.append(
                f"{told.session_id}: draft {revision} of question {closing.index} was acknowledged, but when it closed "
                f"({closing.source}) its answer became {closing.answer!r}"
            )


def check_staff(told: Interview, events: list[Event], findings: Findings) -> None:
    """Acknowledged extends and pauses (each has a reason of its own) are there once, and each pause ended once."""
    for kind, reasons in (("extended", told.extended), ("paused", told.paused)):
        times = Counter(e["reason"] for e in events if e["type"] == kind)
        for reason in reasons:
            findings.checked += 1
            if not times[reason]:
                findings.lost.append(f"{told.session_id}: acknowledged, but not in the journal: {kind} {reason}")
        for reason, count in times.items():
            if count > 1:
                findings.doubled.append(f"{told.session_id}: {count} times in the journal: {kind} {reason}")
    resumed = sum(e["type"] == "resumed" for e in events)
    findings.checked += told.resumed
    if resumed < told.resumed and not _closed_while_paused(events):
        findings.lost.append(f"{told.session_id}: {told.resumed} acknowledged resumes, {resumed} in the journal")
    if resumed > sum(e["type"] == "paused" for e in events):
        findings.doubled.append(f"{told.session_id}: more resumes than pauses in the journal")


def _closed_while_paused(events: list[Event]) -> bool:
    return any(c.paused for c in journal.read(events).closings)


def check_credits(told: Interview, events: list[Event], findings: Findings) -> None:
    """Credits are of a plausible length, and a holder that crashed while the clock ran cost the candidate nothing."""
    for event in events:
        if event["type"] == "clock_credited" and not 0 < event["ms"] < MAX_CREDIT_MS:
            findings.odd.append(f"{told.session_id}: event {event['seq']} credits {event['ms']} ms")
    for position, event in enumerate(events):
        if event["type"] != "activated" or event["cause"] in ("start", "released", "retry"):
            continue
        clock = journal.read(events[:position]).open
        following = events[position + 1] if position + 1 < len(events) else None
        credited = following is not None and following["type"] == "clock_credited" and following["at"] == event["at"]
        if clock is not None and clock.runs and ms(event["at"]) <= clock.due and not credited:
            findings.odd.append(
                f"{told.session_id}: epoch {event['epoch']} ({event['cause']}) began at event {event['seq']} without "
                "giving time back"
            )


def check_end(told: Interview, stored: Stored, reading: Reading, findings: Findings) -> None:
    """It is completed exactly if the journal says how, and the timer of an open question has not been lost."""
    session, clock = stored.session, reading.open
    ends = [e for e in stored.events if e["type"] == "completed"]
    started = sum(e["type"] == "started" for e in stored.events)
    if told.started and not started:
        findings.lost.append(f"{told.session_id}: its start was acknowledged, but is not in the journal")
    if started > 1:
        findings.doubled.append(f"{told.session_id}: was started {started} times")
    if told.completed and not ends:
        findings.lost.append(f"{told.session_id}: was said to be completed, and is {session['status']}")
    if len(ends) > 1:
        findings.doubled.append(f"{told.session_id}: was completed {len(ends)} times")
    if (session["status"] == "completed") != bool(ends):
        findings.stuck.append(f"{told.session_id}: is {session['status']}, but its journal says otherwise")
    if told.started and not ends and session["status_detail"] not in ("question_open", "paused"):
        findings.stuck.append(f"{told.session_id}: is in progress, but {session['status_detail']}")
    if told.started and not ends and clock is None:
        findings.stuck.append(f"{told.session_id}: is in progress without an open question")
    if clock is not None and clock.runs and stored.now > clock.due + LATE_MS:
        findings.timers_lost.append(
            f"{told.session_id}: question {clock.index} was due {stored.now - clock.due} ms ago and is open"
        )
