"""Reads every session of a load back from the service and has it checked."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx

from tests.chaos.checks import Findings, Stored, check
from tests.chaos.load import Load
from tests.chaos.record import Interview

AT_ONCE = 4
READ_SECONDS = 60.0
ANSWER_SECONDS = 30.0
PAGE = 1000


class Unreadable(Exception):
    """The service does not show a session that it must have."""


async def audit(http: httpx.AsyncClient, load: Load) -> Findings:
    """Check every session of the load, and that the interviews in progress are held by an actor that answers."""
    findings = Findings()
    findings.stuck += load.record.errors
    places = asyncio.Semaphore(AT_ONCE)

    async def one(told: Interview) -> None:
        async with places:
            await _audit_one(http, told, findings)

    in_progress_first = sorted(load.record.interviews, key=lambda told: told.completed)
    await asyncio.gather(*map(one, in_progress_first))
    return findings


async def _audit_one(http: httpx.AsyncClient, told: Interview, findings: Findings) -> None:
    try:
        if told.started and not told.completed:
            await _see_that_it_answers(http, told, findings)
        stored = await _read(http, told.session_id)
    except Unreadable as error:
        findings.lost.append(f"{told.session_id}: cannot be read: {error}")
        return
    check(told, stored, findings)


async def _read(http: httpx.AsyncClient, session_id: str) -> Stored:
    """The session and its journal, of one moment: read again if something happened in between."""
    path = f"/session/{session_id}"
    session = (await _get(http, path))["session"]
    for _ in range(5):
        now = time.time_ns() // 1_000_000
        events = await _events(http, path)
        verified = (await _get(http, f"{path}/journal/verify"))["journal"]
        before, session = session, (await _get(http, path))["session"]
        if before["version"] == session["version"]:
            return Stored(session, events, verified, now)
    raise Unreadable("it changes all the time")


async def _see_that_it_answers(http: httpx.AsyncClient, told: Interview, findings: Findings) -> None:
    """Have the actor of an interview in progress save a draft, which changes nothing that is checked."""
    give_up = time.monotonic() + ANSWER_SECONDS
    answer = "nothing"
    while time.monotonic() < give_up:
        session = (await _get(http, f"/session/{told.session_id}"))["session"]
        question = session["current_question"]
        if session["status"] == "completed" or question is None:
            return
        drafts = told.drafts.setdefault(question["index"], [])
        drafts.append(f"The auditor was here: {told.session_id} {len(drafts)}")
        body = {"question_index": question["index"], "draft": drafts[-1], "revision": len(drafts)}
        try:
            response = await http.put(f"/session/{told.session_id}/draft", json=body)
        except httpx.TransportError as error:
            answer = type(error).__name__
        else:
            if response.is_success:
                told.drafts_acknowledged[question["index"]] = len(drafts)
                return
            answer = f"{response.status_code} {response.text[:200]}"
        await asyncio.sleep(0.5)
    findings.stuck.append(f"{told.session_id}: is in progress, and nothing takes its drafts: {answer}")


async def _events(http: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    while True:
        after = events[-1]["seq"] if events else 0
        page = (await _get(http, f"{path}/journal?after={after}&limit={PAGE}"))["events"]
        events += page
        if len(page) < PAGE:
            return events


async def _get(http: httpx.AsyncClient, path: str) -> dict[str, Any]:
    give_up = time.monotonic() + READ_SECONDS
    while True:
        try:
            response = await http.get(path)
            if response.is_success:
                return response.json()
            problem = f"{response.status_code} {response.text[:200]}"
            if response.status_code < 429:
                raise Unreadable(problem)
        except httpx.TransportError as error:
            problem = type(error).__name__
        if time.monotonic() > give_up:
            raise Unreadable(problem)
        await asyncio.sleep(0.3)
