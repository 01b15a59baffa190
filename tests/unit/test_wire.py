"""Values between processes of two versions: new fields get their default, unknown ones are left out."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, make_dataclass
from typing import Any

import pytest

from actors import interview, supervisor
from orchestrator import journal, session
from orchestrator.interview import commands, entry, sightings, snapshot
from orchestrator.interview.state import dump_state, load_state
from orchestrator.interview.wire import Wire, known_of
from tests.unit.world import T0, first_entry

EXCHANGED = [
    *(value for value in vars(commands).values() if isinstance(value, type) and hasattr(value, "__dataclass_fields__")),
    *(journal.Appended, journal.Collision, journal.Loaded, journal.Outage),
    *(session.Request, session.Reply, session.DraftSaved, entry.Entry, snapshot.Snapshot, snapshot.Draft),
    *(sightings.Sighting, interview.Holding, interview.Activation, supervisor.Placement),
]


@dataclass(frozen=True, slots=True)
class Newer(Wire):
    name: str
    size: int = 7


def pickled_by(values: dict[str, Any]) -> Any:
    """What comes out of a pickle that a process made whose class had these fields."""
    rebuild, (cls, _) = Newer("x").__reduce__()
    return rebuild(cls, values)


def test_what_an_older_process_sends_gets_defaults() -> None:
    assert pickled_by({"name": "a"}) == Newer("a", 7)


def test_what_a_newer_process_sends_loses_what_is_unknown() -> None:
    assert pickled_by({"name": "a", "size": 1, "colour": "red"}) == Newer("a", 1)


def test_it_comes_out_as_it_went_in() -> None:
    request = session.Request(commands.Answer(0, "é", "python"), commands.SYSTEM, 5, "id")
    assert pickle.loads(pickle.dumps(request)) == request
    assert pickle.loads(pickle.dumps(Newer("a", 3))) == Newer("a", 3)


@pytest.mark.parametrize("kind", EXCHANGED, ids=lambda kind: kind.__name__)
def test_everything_that_is_exchanged_is_pickled_so(kind: type) -> None:
    assert issubclass(kind, Wire)


def test_a_newer_state_can_be_read() -> None:
    """A snapshot of a newer version, with fields that this one does not know at every level."""
    from orchestrator.interview.fold import fold

    state = fold(None, first_entry("s1", T0))

    def grown(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: grown(part) for name, part in value.items()} | {"unheard_of": 1}
        return [grown(part) for part in value] if isinstance(value, list) else value

    newer = grown(json.loads(dump_state(state)))
    for free in ("metadata",):
        newer[free].pop("unheard_of", None)
    assert load_state(json.dumps(newer)) == state


def test_fields_without_a_class_of_ours_are_no_matter() -> None:
    other = make_dataclass("Other", ["a"])
    assert known_of(other, {"a": 1, "b": 2}).a == 1
