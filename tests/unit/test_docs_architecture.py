"""The architecture's files exist, and its states are called what they are called in the code."""

from __future__ import annotations

import re
from typing import get_args

from actors.interview import DeactivationReason
from orchestrator import webhooks
from orchestrator.interview.state import EndReason
from tests.documents import DOCUMENTS, ROOT, blocks

PAGE = ROOT / "docs" / "PARALLEL_INTERVIEW_ARCHITECTURE.md"
DETAILS = {"waiting", "question_open", "paused", "connection_lost", "recovering", "parked", "ended"}


def diagrams() -> list[str]:
    """The state diagrams: of a session, of an actor, of a message."""
    return [b.code for b in blocks(PAGE) if b.language == "mermaid" and b.code.startswith("stateDiagram")]


def states(diagram: str) -> set[str]:
    ends = re.findall(r"^\s*(\S+) --> ([\w*\[\]]+)", diagram, re.MULTILINE)
    return {state for pair in ends for state in pair} - {"[*]"}


def test_the_states_of_a_session() -> None:
    session = diagrams()[0]
    assert states(session) - {"in_progress"} == DETAILS
    assert re.findall(r"state (\w+) {", session) == ["in_progress"]
    code = (ROOT / "orchestrator" / "interview" / "state.py").read_text()
    body = code[code.index("def status_detail") : code.index("def room_work")]
    assert set(re.findall(r'"(\w+)"', body)) - {"initialized", "in_progress"} == DETAILS
    told = re.findall(r"\w+", " ".join(re.findall(r"--> ended: (.*)", session)))
    assert all(reason.startswith("ended_by") or reason in told for reason in get_args(EndReason))


def test_the_states_of_an_actor() -> None:
    actor = diagrams()[1]
    assert states(actor) == {"warm", "activating", "holding", "done"}
    told = {word for line in re.findall(r"--> done: (.*)", actor) for word in re.findall(r"\w+", line)}
    assert told == {reason.value for reason in DeactivationReason}


def test_the_states_of_a_message() -> None:
    assert states(diagrams()[2]) == set(get_args(webhooks.State))


def test_files_that_documents_name_exist() -> None:
    named = r"`((?:api|actors|orchestrator|tests|benchmarks|docs)/[\w/.-]+\.(?:py|json|md|ts))`"
    found = {(page.name, name) for page in DOCUMENTS for name in re.findall(named, page.read_text())}
    assert len(found) > 40
    assert [one for one in sorted(found) if not (ROOT / one[1]).exists()] == []
