"""The report of an interview: what people need to judge it, made from its journal and nothing else.

    (journal, Extras) ──report_of──> JSON values; staff's, of which candidates get a part

Pure, so whoever has the journal can make it again. What changes a report after the end (a verdict, a dispute, pictures
that were erased, a review) makes it wanted again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.interview.entry import Entry
from orchestrator.interview.integrity import Policy, judged, timeline
from orchestrator.interview.presence import JOINED, LEFT, LOST
from orchestrator.interview.proctoring_view import KeptStill, proctoring_of
from orchestrator.interview.sightings import NETWORK_LOST, Seen
from orchestrator.interview.state import ClosedAnswer, State
from orchestrator.interview.view import answer_view, iso, seconds

FORMAT = 1
NOT_SCORED = "No person has scored this interview."


@dataclass(frozen=True, slots=True)
class Extras:
    """What a report has that is not in the journal.

    `chain`: what became of the verification {ok, entries, head, broken_at}. `job_title`: as it is now; None: there is
    no such job any more. `stills`: those that are kept now, by id. `scores`: {question_index, evaluator, version,
    value, reason} of each.
    """

    chain: Mapping[str, Any]
    software: str
    policy: Policy | None = None
    job_title: str | None = None
    stills: Mapping[str, KeptStill] = field(default_factory=dict)
    scores: Sequence[Mapping[str, Any]] = ()


def report_of(entries: Sequence[Entry], extras: Extras, now: int) -> dict[str, Any]:
    """The report of a completed interview that was started, at `now` (ms)."""
    line = timeline(entries, now)
    state = line.state
    assert state.started_at is not None and state.completed_at is not None
    told = [
        {"seq": entry.seq + offset, "by": content["by"], **event, "at": entry.at}
        for entry in entries
        for content in (entry.content(),)
        for offset, event in enumerate(content["events"])
    ]
    integrity = judged(line, extras.policy) if extras.policy is not None else None
    return {
        "session_id": state.session_id,
        "made_at": iso(now),
        "as_of": state.seq,
        "partial": state.end_reason != "finished",
        "candidate": {
            "name": state.candidate.name,
            "email": state.candidate.email,
            "phone": state.candidate.phone,
        },
        "job": {"job_id": state.job_id, "title": extras.job_title, "questions_drawn": state.drawn},
        "interview": _interview(state, told),
        "questions": _questions(state, told, extras.scores),
        "clock": {
            "credited_seconds": seconds(sum(line.ms for line in state.ledger)),
            "paused_seconds": seconds(state.paused_total_ms),
            "ledger": [{"seconds": seconds(line.ms), "cause": line.cause, "at": iso(line.at)} for line in state.ledger],
        },
        "timeline": [span.view() for span in spans(state, told, line.seen)],
        "proctoring": proctoring_of(line, integrity, extras.stills, "staff"),
        "recording": {"status": state.recording.status, "files": list(state.recording.files)},
        "evaluation": _evaluation(extras.scores, told),
        "reviews": reviews_of(told),
        "placements": _placements(told),
        "journal": {
            "entries": extras.chain["entries"],
            "head": extras.chain["head"],
            "verified": extras.chain["ok"],
            "broken_at": extras.chain["broken_at"],
        },
        "versions": {
            "report": FORMAT,
            "software": extras.software,
            "policy": state.proctoring.policy,
            "evaluators": sorted({f"{s['evaluator']} {s['version']}" for s in extras.scores}),
        },
    }


def without_details(report: dict[str, Any]) -> dict[str, Any]:
    """A report that is too large to be kept, without what was told of each event beside its kind and time."""
    events = [event | {"detail": {"left_out": True}} for event in report["proctoring"]["events"]]
    return report | {"proctoring": report["proctoring"] | {"events": events}}


def without_answers(report: dict[str, Any]) -> dict[str, Any]:
    """A report whose answers are not kept for longer, nor what evaluators say of them beside the score."""

    def blank(question: dict[str, Any]) -> dict[str, Any]:
        scores = [score | {"reason": "the answer was erased"} for score in question["scores"]]
        return question | {"answer": None, "scores": scores}

    return report | {"questions": [blank(question) for question in report["questions"]]}


def scores_in(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The scores that a report has, as they are given for a new one."""
    return [{"question_index": q["index"], **score} for q in report["questions"] for score in q["scores"]]


def for_candidate(report: dict[str, Any]) -> dict[str, Any]:
    """What the candidate gets: their answers, the clock and what was seen. Neither scores, reviews and machines, nor
    questions that were never opened."""
    reached = [question for question in report["questions"] if question["status"] != "not_reached"]
    return {
        **_some(report, "session_id", "made_at", "as_of", "partial", "candidate", "clock", "journal"),
        "job": _some(report["job"], "job_id", "title"),
        "interview": _some(report["interview"], *OF_THE_INTERVIEW)
        | {"accommodations": _some(report["interview"]["accommodations"], "time_multiplier", "camera_exempt")},
        "questions": [{name: part for name, part in question.items() if name != "scores"} for question in reached],
        "timeline": [span for span in report["timeline"] if span["lane"] != "machine"],
        "proctoring": _proctoring_for_candidate(report["proctoring"]),
        "versions": report["versions"] | {"evaluators": []},
    }


OF_THE_INTERVIEW = (
    "created_at",
    "scheduled_at",
    "started_at",
    "completed_at",
    "duration_seconds",
    "end_reason",
    "max_questions",
    "answered",
    "answers_erased_at",
    "consent_at",
    "consent_policy",
)


def _proctoring_for_candidate(proctoring: dict[str, Any]) -> dict[str, Any]:
    """As the proctoring call shows it to them."""
    points, addresses = ("severity", "points", "because"), ("bytes", "url")
    return {name: part for name, part in proctoring.items() if name not in ("integrity", "verdict", "notes")} | {
        "events": [{n: part for n, part in event.items() if n not in points} for event in proctoring["events"]],
        "evidence": [{n: part for n, part in still.items() if n not in addresses} for still in proctoring["evidence"]],
    }


def _some(whole: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: whole[name] for name in names}


def reviews_of(told: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What people have decided, newest last. The last one counts."""
    return [
        {"verdict": e["verdict"], "note": e["note"], "by": e["by"], "at": iso(e["at"])}
        for e in told
        if e["type"] == "review_decided"
    ]


def _interview(state: State, told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    end = next(e for e in reversed(told) if e["type"] == "completed")
    given = state.accommodations
    return {
        "created_at": iso(state.created_at),
        "scheduled_at": iso(state.scheduled_at),
        "started_at": iso(state.started_at),
        "completed_at": iso(state.completed_at),
        "duration_seconds": seconds(state.duration_ms or 0),
        "end_reason": state.end_reason,
        "end_note": end.get("note"),
        "ended_by": end["by"],
        "max_questions": state.max_questions,
        "answered": sum(answer.source == "submitted" for answer in state.answers),
        "answers_erased_at": iso(state.answers_erased_at),
        "consent_at": iso(state.consent_at),
        "consent_policy": state.consent_policy,
        "accommodations": {
            "time_multiplier": given.time_multiplier,
            "camera_exempt": given.camera_exempt,
            "sensitivity": given.sensitivity,
        },
        "metadata": dict(state.metadata),
    }


def _questions(
    state: State, told: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Each question that the interview was to have, whether or not it was reached."""
    answers = {answer.question_index: answer for answer in state.answers}
    opened = {e["index"]: e["at"] for e in told if e["type"] == "question_opened"}
    closed = {e["index"]: e for e in told if e["type"] == "question_closed"}
    views: list[dict[str, Any]] = []
    for index in range(state.max_questions):
        question, answer = state.questions[index], answers.get(index)
        view = answer_view(answer) if answer else _unanswered(index)
        if state.answers_erased_at is not None:
            view["answer"] = None
        views.append(
            {
                "index": index,
                "text": question.text,
                "type": question.type,
                "time_limit_seconds": seconds(state.limit_ms(index)),
                "opened_at": iso(opened.get(index)),
                **{name: value for name, value in view.items() if name != "question_index"},
                "status": _status(answer, index in opened),
                "late_by_seconds": seconds(closed[index].get("late_by", 0)) if index in closed else None,
                "scores": [
                    {name: score[name] for name in ("evaluator", "version", "value", "reason")}
                    for score in scores
                    if score["question_index"] == index
                ],
            }
        )
    return views


def _unanswered(index: int) -> dict[str, Any]:
    return {
        "question_index": index,
        "answer": None,
        "language": None,
        "submitted_at": None,
        "elapsed_seconds": None,
        "source": None,
    }


def _status(answer: ClosedAnswer | None, was_opened: bool) -> str:
    if answer is None:
        return "left_open" if was_opened else "not_reached"
    return {"submitted": "answered", "draft": "draft", "timeout": "no_answer"}[answer.source]


def _evaluation(scores: Sequence[Mapping[str, Any]], told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means by evaluator. An evaluator's score is not a person's."""
    means: list[dict[str, Any]] = []
    for evaluator, version in sorted({(s["evaluator"], s["version"]) for s in scores}):
        values = [s["value"] for s in scores if s["evaluator"] == evaluator and s["value"] is not None]
        mean = round(sum(values) / len(values), 1) if values else None
        means.append({"evaluator": evaluator, "version": version, "mean": mean, "scored": len(values)})
    reviewed = any(e["type"] == "review_decided" for e in told)
    return {"scored_by_a_person": False, "reviewed": reviewed, "note": NOT_SCORED, "evaluators": means}


def _placements(told: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The actors that held the interview, one after another, and why each took it."""
    names = ("epoch", "actor", "node", "cause")
    return [{**{name: e[name] for name in names}, "at": iso(e["at"])} for e in told if e["type"] == "activated"]


# --- the timeline as a picture has it ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """Something that lasted from `begin` to `end` (ms), or happened at once. `lane`: what it is drawn beside."""

    lane: str
    kind: str
    label: str
    begin: int
    end: int

    def view(self) -> dict[str, Any]:
        return {
            "lane": self.lane,
            "kind": self.kind,
            "label": self.label,
            "from": iso(self.begin),
            "until": iso(self.end),
            "seconds": seconds(self.end - self.begin),
        }


def spans(state: State, told: Sequence[Mapping[str, Any]], seen: Iterable[Seen]) -> list[Span]:
    """What happened between start and end: questions, the clock, connections, machines, and what was seen."""
    assert state.started_at is not None and state.completed_at is not None
    first, last = state.started_at, state.completed_at
    found = [
        *_between(told, last, "questions", "question_opened", ("question_closed",), "question", _number),
        *_between(told, last, "clock", "paused", ("resumed", "question_closed"), "paused", lambda e: "paused"),
        *(
            Span("clock", "credited", e["cause"], e.get("until", e["at"]) - e["ms"], e.get("until", e["at"]))
            for e in told
            if e["type"] == "clock_credited" and e["ms"] > 0
        ),
        *(_moment("clock", "extended", f"+{e['ms'] / 1000:g} s", e) for e in told if e["type"] == "extended"),
        *_connections(told, last),
        *(
            _moment("machine", "started" if e["cause"] == "start" else "moved", e["cause"], e)
            for e in told
            if e["type"] == "activated"
        ),
        *(_sighting(one, last) for one in seen if one.kind != NETWORK_LOST),
    ]
    clipped = [Span(s.lane, s.kind, s.label, max(first, s.begin), min(last, s.end)) for s in found]
    return sorted((s for s in clipped if s.begin <= s.end), key=lambda s: (LANES.index(s.lane), s.begin))


LANES = ("questions", "clock", "connection", "video", "machine", "proctoring")


def _moment(lane: str, kind: str, label: str, event: Mapping[str, Any]) -> Span:
    return Span(lane, kind, label, event["at"], event["at"])


def _number(event: Mapping[str, Any]) -> str:
    return str(event["index"] + 1)


def _sighting(one: Seen, last: int) -> Span:
    until = one.until if one.until is not None else last if one.lasts else one.at
    return Span("proctoring", one.kind, one.kind, one.at, until)


def _between(
    told: Iterable[Mapping[str, Any]], last: int, lane: str, first: str, ends: tuple[str, ...], kind: str, label: Any
) -> Iterable[Span]:
    """From each event `first` to the next of `ends`, or the end of the interview."""
    begun: Mapping[str, Any] | None = None
    for event in told:
        if event["type"] == first:
            begun = event
        elif begun is not None and event["type"] in (*ends, "completed"):
            yield Span(lane, kind, label(begun), begun["at"], event["at"])
            begun = None
    if begun is not None:
        yield Span(lane, kind, label(begun), begun["at"], last)


def _connections(told: Iterable[Mapping[str, Any]], last: int) -> Iterable[Span]:
    """When the page was connected, and when there was video. The newest connection of a kind counts."""
    since: dict[str, tuple[str, int]] = {}
    for event in told:
        if event["type"] in JOINED | LEFT | LOST:
            lane = "connection" if event["type"].startswith("channel") else "video"
            if event["type"] in JOINED:
                since.setdefault(lane, (event["connection"], event["at"]))
                since[lane] = (event["connection"], since[lane][1])
            elif lane in since and since[lane][0] == event["connection"]:
                yield Span(lane, "connected", "connected", since.pop(lane)[1], event["at"])
    for lane, (_, at) in since.items():
        yield Span(lane, "connected", "connected", at, last)
