"""Why the database failed is in the log, and nothing of what was stored."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.storage import connection


@pytest.mark.parametrize(
    ("errmsg", "told"),
    [
        ("database or disk is full", "database or disk is full"),
        ("not authorized on interviews to execute command { insert: 'Ada' }", "not authorized on interviews"),
        ('value "Ada Lovelace" is too long', "value"),
    ],
)
def test_the_databases_words_are_told_up_to_what_it_quotes(
    errmsg: str, told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "_said_at", float("-inf"))
    with caplog.at_level("WARNING"):
        connection.say_why({"code": 13, "errmsg": errmsg}, "WriteError")
        connection.say_why({"code": 14, "errmsg": "another"}, "WriteError")
    [record] = caplog.records
    said: Any = record
    assert (said.kind, said.code) == ("WriteError", 13) and said.reason.startswith(told) and "Ada" not in said.reason
