"""docs/SECURITY.md names the test of every claim: each of them is there, and none that attacks is left out."""

from __future__ import annotations

import ast
import re

from tests.servers import ROOT

DOCUMENT = (ROOT / "docs" / "SECURITY.md").read_text()
NAMED = set(re.findall(r"tests/attacks/(test_\w+)\.py::(test_\w+)", DOCUMENT))


def attacks() -> set[tuple[str, str]]:
    """(file, test) of all attacks."""
    return {
        (file.stem, node.name)
        for file in (ROOT / "tests" / "attacks").glob("test_*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_test_that_is_named_is_there() -> None:
    assert NAMED - attacks() == set()


def test_every_attack_is_named() -> None:
    assert len(NAMED) > 100 and attacks() - NAMED == set()


def test_every_kind_of_attacker_has_what_is_left() -> None:
    sections = DOCUMENT.split("\n## ")[1:]
    about = [s for s in sections if "tests/attacks/" in s and not s.startswith(("Tokens", "What an operator"))]
    assert len(about) >= 8 and [s.splitlines()[0] for s in about if "**Left" not in s] == []
