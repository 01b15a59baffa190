"""Reports: what they say of an interview, to whom, and when a new one is wanted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from orchestrator.errors import StateConflict
from orchestrator.evaluators import installed, scores_of
from orchestrator.interview import commands as c
from orchestrator.interview.entry import Entry
from orchestrator.interview.evaluation import Completeness, Evaluator, Score
from orchestrator.interview.fold import fold_all
from orchestrator.interview.integrity import timeline
from orchestrator.interview.proctoring_view import proctoring_of
from orchestrator.interview.report import Extras, for_candidate, report_of, without_details
from orchestrator.interview.sightings import Sighting
from orchestrator.interview.state import ClosedAnswer, State, dump_state, load_state, snapshot_of
from orchestrator.policies import policy
from tests.unit.test_frames import BOSS, CANDIDATE, Story, everything
from tests.unit.test_imports import ROOT
from tests.unit.test_interview_rules import draft
from tests.unit.world import T0

CHAIN = {"ok": True, "entries": 3, "head": "abc", "broken_at": None}
SYSTEM = c.SYSTEM


def entries_of(story: Story) -> list[Entry]:
    """Without a delete."""
    return [entry for entry, state in story.journal if state.status != "deleted"]


def report(story: Story, **extras: Any) -> dict[str, Any]:
    entries = entries_of(story)
    made = report_of(entries, Extras(CHAIN, "1.0", policy(), **extras), entries[-1].at + 60_000)
    return json.loads(json.dumps(made, allow_nan=False))


def finished() -> Story:
    """Two questions: one answered after a pause and more time, one that ran out with a draft."""
    story = Story(questions=2).started()
    story.do(c.Pause("break"), 10, BOSS)
    story.do(c.Resume(), 40, BOSS)
    story.do(c.Extend(30, "slow start"), 41, BOSS)
    story.do(c.Answer(0, "first " * 50), 100, CANDIDATE)
    due_at = story.state.due_at
    assert due_at is not None
    story.do(c.Expire(), (due_at + 1 - T0) / 1000, SYSTEM, draft("half an answer", 1))
    assert story.state.status == "completed"
    return story


def at(text: str) -> float:
    """Seconds since the start."""
    return datetime.fromisoformat(text).timestamp() - T0 / 1000


def test_a_report_says_what_became_of_each_question() -> None:
    made = report(finished(), job_title="Engineers")
    first, second = made["questions"]
    assert (first["status"], first["source"], first["elapsed_seconds"]) == ("answered", "submitted", 70)
    assert (second["status"], second["source"], second["answer"]) == ("draft", "draft", "half an answer")
    assert made["interview"]["answered"] == 1 and made["interview"]["max_questions"] == 2
    assert (made["partial"], made["interview"]["end_reason"]) == (False, "finished")
    assert made["job"]["title"] == "Engineers" and made["journal"]["verified"] is True
    assert made["clock"]["paused_seconds"] == 30 and made["clock"]["credited_seconds"] == 30


def test_an_interview_that_was_ended_early_has_a_report_too() -> None:
    story = Story(questions=3).started()
    story.do(c.Answer(0, "first"), 10, CANDIDATE)
    story.do(c.End("fire alarm"), 20, BOSS)
    made = report(story)
    assert (
        made["partial"]
        and made["interview"]["end_note"] == "fire alarm"
        and made["interview"]["ended_by"] == BOSS.principal
    )
    assert [q["status"] for q in made["questions"]] == ["answered", "left_open", "not_reached"]


def test_the_timeline_has_questions_pauses_and_time_that_was_given() -> None:
    made = report(finished())
    found = {(s["lane"], s["kind"], s["label"]): (at(s["from"]), at(s["until"])) for s in made["timeline"]}
    assert found["questions", "question", "1"] == (0, 100)
    assert found["clock", "paused", "paused"] == (10, 40)
    assert found["clock", "extended", "+30 s"] == (41, 41)
    assert found["questions", "question", "2"][0] == 100


def test_everything_in_the_timeline_is_within_the_interview() -> None:
    made = report(everything())
    first, last = made["interview"]["started_at"], made["interview"]["completed_at"]
    assert made["timeline"] and all(first <= s["from"] <= s["until"] <= last for s in made["timeline"])
    assert {s["lane"] for s in made["timeline"]} >= {
        "questions",
        "clock",
        "connection",
        "video",
        "machine",
        "proctoring",
    }


def test_candidates_read_nothing_of_staff_machines_and_scores() -> None:
    story = everything()
    made = report(story, scores=[score(0)])
    shown = for_candidate(made)
    text = json.dumps(shown | {"proctoring": shown["proctoring"] | {"evidence": []}})  # their own view has that
    assert "hidden-" not in text and "placements" not in text and '"scores"' not in text
    assert "integrity" not in for_candidate(made)["proctoring"]
    assert '"answer": "first"' in text and "ledger" in text


def test_staff_read_all_of_it() -> None:
    made = report(everything(), scores=[score(0)])
    assert made["proctoring"]["integrity"]["score"] <= 100
    assert made["proctoring"]["verdict"]["verdict"] == "cleared"
    assert made["questions"][0]["scores"][0]["value"] == 50
    assert made["evaluation"]["evaluators"] == [{"evaluator": "e", "version": "1", "mean": 50, "scored": 1}]
    assert made["evaluation"]["scored_by_a_person"] is False and made["placements"]


def test_a_report_can_be_made_again_from_the_journal() -> None:
    story = everything()
    assert report(story) == report(story)


def score(index: int, value: float | None = 50.0) -> dict[str, Any]:
    return {"question_index": index, "evaluator": "e", "version": "1", "value": value, "reason": "because"}


def test_candidates_read_no_question_that_was_never_opened() -> None:
    story = Story(questions=3).started()
    story.do(c.End(), 20, CANDIDATE)
    shown = for_candidate(report(story))
    assert [q["index"] for q in shown["questions"]] == [0] and shown["interview"]["max_questions"] == 3
    assert "questions_drawn" not in shown["job"] and "sensitivity" not in shown["interview"]["accommodations"]


def test_what_candidates_see_of_proctoring_is_what_its_call_shows_them() -> None:
    entries = entries_of(everything())
    line = timeline(entries, entries[-1].at + 60_000)
    shown = for_candidate(report(everything()))["proctoring"]
    assert shown == json.loads(json.dumps(proctoring_of(line, None, {}, "candidate")))


def test_a_report_that_is_too_large_leaves_details_out() -> None:
    story = Story(questions=1).started()
    story.do(c.NoteSightings((Sighting("paste", "page", T0 + 1_000, detail={"size": 3}),)), 2, CANDIDATE)
    story.do(c.Answer(0, "x"), 5, CANDIDATE)
    whole = report(story)
    assert whole["proctoring"]["events"][0]["detail"] == {"size": 3}
    smaller = without_details(whole)
    assert smaller["proctoring"]["events"][0]["detail"] == {"left_out": True}
    assert smaller["questions"] == whole["questions"]


# When one is wanted


def test_a_report_is_wanted_from_the_end_on_until_one_was_made() -> None:
    story = Story(questions=1).started()
    assert story.state.report_work is None
    story.do(c.Answer(0, "x"), 5, CANDIDATE)
    assert story.state.report_work == snapshot_of(story.state).report == "wanted"
    assert story.do(c.NoteReport(story.state.seq, "00"), 6, SYSTEM) == ["report_made"]
    assert story.state.report_work is snapshot_of(story.state).report is None
    assert load_state(dump_state(story.state)) == story.state


@pytest.mark.parametrize("more", [c.Review("advance", "good"), c.GiveVerdict("cleared", "x")])
def test_what_changes_a_report_makes_it_wanted_again(more: c.Command) -> None:
    story = Story(questions=1).started()
    story.do(c.Answer(0, "x"), 5, CANDIDATE)
    made_of = story.state.seq
    story.do(more, 6, BOSS)
    story.do(c.NoteReport(made_of, "00"), 7, SYSTEM)
    assert story.state.report_work == "wanted", "it does not tell of what came while it was made"
    story.do(c.NoteReport(story.state.seq, "00"), 8, SYSTEM)
    assert story.state.report_work is None
    assert story.do(c.NoteReport(story.state.seq - 1, "00"), 9, SYSTEM) == [], "an older one is no news"


def test_who_never_started_has_no_report() -> None:
    story = Story(questions=1)
    story.do(c.End(), 5, BOSS)
    assert story.state.report_work is None
    with pytest.raises(StateConflict):
        story.do(c.Review("hold", "x"), 6, BOSS)


def test_a_review_comes_after_the_interview() -> None:
    story = Story(questions=1).started()
    with pytest.raises(StateConflict):
        story.do(c.Review("advance", "x"), 1, BOSS)
    story.do(c.Answer(0, "x"), 5, CANDIDATE)
    story.do(c.Review("hold", "unsure"), 6, BOSS)
    story.do(c.Review("advance", "sure now"), 7, BOSS)
    made = report(story)
    assert [(r["verdict"], r["note"], r["by"]) for r in made["reviews"]] == [
        ("hold", "unsure", BOSS.principal),
        ("advance", "sure now", BOSS.principal),
    ]
    assert made["evaluation"]["reviewed"] is True


# Evaluators


class Broken(Evaluator):
    name = "broken"

    def evaluate(self, state: State, answer: ClosedAnswer) -> Score | None:
        raise RuntimeError("no")


class Odd(Evaluator):
    name = "odd \ud800"
    version = 2  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]

    def evaluate(self, state: State, answer: ClosedAnswer) -> Score | None:
        return Score(float("nan") if answer.question_index else 5, "\ud800")


class Wild(Evaluator):
    name = "wild"

    def evaluate(self, state: State, answer: ClosedAnswer) -> Score | None:
        return Score(1e9, "x" * 9_999) if answer.question_index else None


def state_of(entries: Sequence[Entry]) -> State:
    state = fold_all(None, entries)
    assert state is not None
    return state


def test_an_evaluator_that_fails_spoils_no_other() -> None:
    found = scores_of(state_of(entries_of(finished())), [Broken(), Wild(), Completeness()])
    by_name = {name: [s for s in found if s["evaluator"] == name] for name in ("broken", "wild", "completeness")}
    assert [s["value"] for s in by_name["broken"]] == [None, None] and "RuntimeError" in by_name["broken"][0]["reason"]
    assert [s["value"] for s in by_name["wild"]] == [100.0] and len(by_name["wild"][0]["reason"]) == 2_000
    assert by_name["completeness"][0]["value"] == 100.0


def test_what_an_evaluator_says_can_always_be_kept() -> None:
    found = scores_of(state_of(entries_of(finished())), [Odd()])
    assert [s["value"] for s in found] == [5, None] and (found[0]["evaluator"], found[0]["version"]) == ("odd ?", "2")
    json.dumps(report(finished(), scores=found), ensure_ascii=False).encode()


def test_the_evaluator_that_ships_looks_at_length_and_time_alone() -> None:
    state = state_of(entries_of(finished()))
    whole, half = (Completeness().evaluate(state, answer) for answer in state.answers)
    assert whole is not None and half is not None and half.value is not None
    assert whole.value == 100 and 0 < half.value < 20 and "not sent" in half.reason
    empty = ClosedAnswer(0, " \n ", None, T0, 1, "timeout")
    assert Completeness().evaluate(state, empty) == Score(0.0, "there is no answer")


@pytest.mark.parametrize(
    ("names", "found"), [(None, ["completeness"]), ("none", []), ("completeness", ["completeness"]), ("x", [])]
)
def test_the_setting_says_which_evaluators_run(names: str | None, found: list[str]) -> None:
    assert [evaluator.name for evaluator in installed(names)] == found


def test_the_evaluator_of_the_documentation_works() -> None:
    example = (ROOT / "docs/reports.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(example, names)
    state = state_of(entries_of(finished()))
    coding = replace(
        state, questions=(replace(state.questions[0], type="coding"), replace(state.questions[1], type="text"))
    )
    found = scores_of(coding, [names["MentionsTests"]()])
    assert [(s["question_index"], s["value"]) for s in found] == [(0, 0.0)]
