"""/api/reports: who reads a report, as what, and when there is none."""

from __future__ import annotations

import ctypes.util
import html
import json
import re
import sys
import time
from typing import Any

import httpx
import pytest

from api.report_page import HIGHLIGHTED, LANGUAGES, code, duration, render
from orchestrator.evaluators import scores_of
from orchestrator.interview import commands as c
from orchestrator.interview.evaluation import Completeness
from orchestrator.interview.report import Extras, report_of
from orchestrator.policies import policy
from orchestrator.storage.reports import StoredReport
from tests.servers import ROOT
from tests.unit.api_world import BASE, BODY, MemoryClient, api

KEY = "a staff key"
STAFF = {"X-API-Key": KEY}
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
NASTY = "<script>alert(1)</script>\"'&{{7*7}}"


async def interviewed(http: httpx.AsyncClient, client: MemoryClient, **changes: Any) -> dict[str, Any]:
    """A session whose questions were answered; what create answered."""
    made = (await http.post(f"{BASE}/create", json=BODY | changes, headers=STAFF)).json()
    session_id = made["session_id"]
    for path, body in (("start", {}), *(("answer", {"question_index": i, "answer": f"{NASTY} {i}"}) for i in range(2))):
        answer = await http.post(f"{BASE}/session/{session_id}/{path}", json=body, headers=STAFF)
        assert answer.status_code == 200, answer.text
    return made


async def make_report(client: MemoryClient, session_id: str, *, noted: bool = True) -> None:
    """As the task does it."""
    entries = client.store.journal[session_id]
    state = client.states[session_id]
    chain = await client.store.verify(session_id)
    extras = Extras(chain, "1.0", policy(), "Engineers", scores=scores_of(state, [Completeness()]))
    text = json.dumps(report_of(entries, extras, entries[-1].at))
    await client.store.save_report(StoredReport(session_id, state.seq, text))
    if noted:
        await client.elsewhere(session_id, c.NoteReport(state.seq, "00"))


def url(made: dict[str, Any]) -> str:
    return f"/api/reports/{made['session_id']}"


@pytest.mark.parametrize("accept", [{}, HTML])
async def test_there_is_a_report_after_an_interview_and_not_before(accept: dict[str, str]) -> None:
    async with api(key=KEY) as (http, client):
        made = (await http.post(f"{BASE}/create", json=BODY, headers=STAFF)).json()
        headers = STAFF | accept
        assert (await http.get("/api/reports/unknown", headers=headers)).status_code == 404
        assert (await http.get(url(made), headers=headers)).status_code == 409, "it has not begun"
        await http.post(f"{BASE}/session/{made['session_id']}/end", headers=STAFF)
        assert (await http.get(url(made), headers=headers)).status_code == 409, "it never began"
        made = await interviewed(http, client)
        pending = await http.get(url(made), headers=headers)
        assert (pending.status_code, pending.headers["Retry-After"]) == (202, "2")
        assert ("http-equiv" in pending.text) == bool(accept)
        await make_report(client, made["session_id"])
        assert (await http.get(url(made), headers=headers)).status_code == 200


async def test_programs_get_json() -> None:
    async with api(key=KEY) as (http, client):
        made = await interviewed(http, client)
        await make_report(client, made["session_id"])
        for path, headers in ((url(made), {}), (url(made) + "?format=json", HTML)):
            answer = await http.get(path, headers=STAFF | headers)
            body = answer.json()
            assert body["status"] == "success" and body["report"]["outdated"] is False
            assert "Accept" in answer.headers["Vary"] and answer.headers["Cache-Control"] == "private, no-store"
        assert (await http.get(url(made) + "?format=doc", headers=STAFF)).status_code == 400


async def test_people_get_a_page_in_which_nothing_runs() -> None:
    async with api(key=KEY) as (http, client):
        made = await interviewed(http, client, name=NASTY, questions=[NASTY, "Q2"], question_types=["text", "coding"])
        await make_report(client, made["session_id"])
        for path, headers in ((url(made), HTML), (url(made) + "?format=html", {})):
            page = await http.get(path, headers=STAFF | headers)
            assert page.status_code == 200 and page.headers["Content-Type"].startswith("text/html")
            assert "default-src 'none'" in page.headers["Content-Security-Policy"]
            assert "<script" not in page.text and "49" not in re.sub(r"\d{3,}", "", page.text.split("timeline")[0])
            assert "&lt;script&gt;alert(1)" in page.text and "Engineers" in page.text


async def test_who_has_no_key_is_asked_for_it() -> None:
    async with api(key=KEY) as (http, client):
        made = await interviewed(http, client)
        assert (await http.get(url(made))).json()["code"] == "unauthorized"
        page = await http.get(url(made), headers=HTML)
        assert page.status_code == 401 and "/assets/signin.js" in page.text and "Ada" not in page.text
        assert (await http.get("/api/reports/unknown", headers=HTML)).status_code == 401, "as any other"


async def test_candidates_read_their_own_if_that_is_allowed() -> None:
    async with api(MemoryClient(), key=KEY) as (http, client):
        made = await interviewed(http, client)
        other = await interviewed(http, client)
        await make_report(client, made["session_id"])
        own = {"Authorization": f"Bearer {made['candidate_token']}"}
        assert (await http.get(url(made), headers=own)).status_code == 403
        client.settings.candidate_reports = True
        report = (await http.get(url(made), headers=own)).json()["report"]
        assert "reviews" not in report and "evaluation" not in report and "integrity" not in report["proctoring"]
        page = await http.get(url(made), headers=own | HTML)
        assert page.status_code == 200 and "completeness" not in page.text.lower() and "Integrity" not in page.text
        assert (await http.get(url(other), headers=own)).status_code == 403
        answer = await http.post(url(made) + "/review", json={"verdict": "advance", "note": "me!"}, headers=own)
        assert answer.status_code == 403


async def test_a_review_is_in_the_next_report() -> None:
    async with api(key=KEY) as (http, client):
        made = await interviewed(http, client)
        session_id = made["session_id"]
        await make_report(client, session_id)
        review = {"verdict": "advance", "note": "clear and kind"}
        headers = STAFF | {"Idempotency-Key": "once"}
        for replayed in (None, "true"):
            answer = await http.post(url(made) + "/review", json=review, headers=headers)
            assert (answer.status_code, answer.headers.get("Idempotency-Replayed")) == (200, replayed)
        shown = (await http.get(url(made), headers=STAFF)).json()["report"]
        assert shown["outdated"] is True and shown["reviews"] == []
        await make_report(client, session_id)
        shown = (await http.get(url(made), headers=STAFF)).json()["report"]
        assert shown["outdated"] is False and [r["note"] for r in shown["reviews"]] == ["clear and kind"]
        assert "clear and kind" in (await http.get(url(made), headers=STAFF | HTML)).text


@pytest.mark.parametrize(
    "body", [{}, {"verdict": "hire", "note": "x"}, {"verdict": "hold"}, {"verdict": "hold", "note": " "}]
)
async def test_a_review_that_is_none(body: dict[str, str]) -> None:
    async with api() as (http, client):
        made = await interviewed(http, client)
        assert (await http.post(url(made) + "/review", json=body)).status_code == 400


async def test_of_an_interview_that_never_was_nobody_decides() -> None:
    async with api() as (http, _):
        made = (await http.post(f"{BASE}/create", json=BODY)).json()
        review = {"verdict": "advance", "note": "x"}
        assert (await http.post(url(made) + "/review", json=review)).status_code == 409
        assert (await http.post("/api/reports/unknown/review", json=review)).status_code == 404


# The page


def test_code_is_highlighted_and_stays_what_it_was() -> None:
    text = 'def f(x):\n    return "<b>" if x < 1 else None\n'
    shown = code(text, "Python")
    assert '<span class="hl-k">def</span>' in shown
    assert plain(shown) == text
    for length in (900, 1_100, 9_999, 10_001):
        long = (text * 300)[:length]
        assert plain(code(long, "python")) == long
    for language in (None, "", "klingon", "\ud800", "x" * 50):
        assert "&lt;b&gt;" in code("<b>", language)


def plain(shown: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", shown))


@pytest.mark.parametrize("text", ["a\n", "\n", " \n", '\\"', "(", "<", "/*", "'"])
@pytest.mark.parametrize("language", ["csharp", "java", "cpp", "perl", "javascript", "python"])
def test_no_answer_takes_long_to_be_shown(language: str, text: str) -> None:
    answer = (text * HIGHLIGHTED)[:HIGHLIGHTED]
    began = time.monotonic()
    assert plain(code(answer, language)) == answer
    assert time.monotonic() - began < 15, "on a busy machine; it takes a second"


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_every_language_that_is_highlighted_is_known(language: str) -> None:
    assert re.sub("<[^>]*>", "", code("one two", language)).strip() == "one two"


def test_the_candidates_page_knows_no_other_languages() -> None:
    source = (ROOT / "api/web/src/candidate/languages.ts").read_text().split("as const")[0]
    assert set(re.findall(r"^  (\w+):", source, re.MULTILINE)) - {"text"} <= LANGUAGES


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0, "0 s"), (14.24, "14.2 s"), (60, "1 min"), (125, "2 min 5 s"), (7_260, "2 h 1 min")],
)
def test_durations_are_written_as_people_write_them(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_stills_are_in_the_page_itself() -> None:
    from tests.unit.test_frames import everything
    from tests.unit.test_report import entries_of

    entries = entries_of(everything())
    chain = {"ok": False, "entries": 3, "head": "abc", "broken_at": 2}
    report = report_of(entries, Extras(chain, "1.0", policy()), entries[-1].at) | {"outdated": True}
    page = render(report, [("hidden-still", b"jpeg", "image/jpeg")])
    assert 'src="data:image/jpeg;base64,' in page and "not intact from event 2 on" in page
    assert "newer one is on its way" in page


def has_pango() -> bool:
    """Asked without WeasyPrint, which changes how Pillow reads damaged pictures in the process that imports it."""
    return ctypes.util.find_library("pango-1.0") is not None


@pytest.mark.skipif(not has_pango(), reason="Pango is not on this machine")
@pytest.mark.parametrize("how", [{"params": {"format": "pdf"}}, {"headers": {"Accept": "application/pdf"}}])
async def test_a_report_is_also_a_pdf(how: dict[str, Any]) -> None:
    async with api() as (http, client):
        made = await interviewed(http, client)
        await make_report(client, made["session_id"])
        answer = await http.get(url(made), **how)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"] == "application/pdf" and answer.content.startswith(b"%PDF-")
        assert f'filename="interview-{made["session_id"]}.pdf"' in answer.headers["Content-Disposition"]
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert b"alert(1)" not in answer.content


async def test_without_what_it_needs_a_pdf_is_refused_and_the_page_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with api() as (http, client):
        made = await interviewed(http, client)
        await make_report(client, made["session_id"])
        monkeypatch.setattr("api.report_pdf.COMMAND", (sys.executable, "-c", "raise SystemExit(3)"))
        answer = await http.get(url(made), params={"format": "pdf"})
        assert answer.status_code == 501 and "Pango" in answer.json()["detail"]
        monkeypatch.setattr("api.report_pdf.COMMAND", (sys.executable, "-c", "raise SystemExit(1)"))
        assert (await http.get(url(made), params={"format": "pdf"})).status_code == 503
        monkeypatch.setattr("api.report_pdf.COMMAND", (sys.executable, "-c", "import time; time.sleep(30)"))
        monkeypatch.setattr("api.report_pdf.SECONDS", 0.5)
        assert (await http.get(url(made), params={"format": "pdf"})).status_code == 503


async def test_candidates_and_strangers_get_no_pdf_of_what_is_for_staff() -> None:
    async with api(key=KEY) as (http, client):
        made = await interviewed(http, client)
        await make_report(client, made["session_id"])
        assert (await http.get(url(made), params={"format": "pdf"})).status_code == 401
        token = {"Authorization": f"Bearer {made['candidate_token']}"}
        assert (await http.get(url(made), params={"format": "pdf"}, headers=token)).status_code == 403
