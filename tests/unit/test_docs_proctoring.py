"""The hook in docs/proctoring.md works as it stands there, and is as short as it is said to be."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.interview.fold import fold
from orchestrator.interview.sightings import Seen, Tally
from orchestrator.interview.state import ClosedAnswer
from orchestrator.policies import policy
from tests.unit.world import first_entry

DOCS = Path(__file__).resolve().parents[2] / "docs" / "proctoring.md"


def test_the_documented_hook_works() -> None:
    [code] = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    names: dict[str, Any] = {}
    exec(compile(code, str(DOCS), "exec"), names)
    hook = names["CopiedQuestion"]()
    state = fold(None, first_entry())
    paste = Seen(7, "paste", "page", 0, detail={"size": 300})
    assert list(hook.on_event(state, paste)) == []
    copied = replace(state, proctoring=replace(state.proctoring, tallies=(Tally("copy", 1),)))
    [found] = hook.on_event(copied, paste)
    assert (found.kind, found.detail) == ("custom:copy_then_paste", {"size": 300})
    assert list(hook.on_answer(state, ClosedAnswer(0, "x" * 5_001, None, 0, 0, "submitted")))
    assert not list(hook.on_answer(state, ClosedAnswer(0, "x", None, 0, 0, "submitted")))


def test_the_documents_name_every_kind_of_the_catalogue() -> None:
    told = set(re.findall(r"`([a-z_]+)`", DOCS.read_text()))
    assert policy().weights.keys() <= told
