"""A candidate's (and the staff's) calls over HTTP, with the checks that every answer must pass."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.servers import Serve


@dataclass
class Candidate:
    """One interview. Calls raise for any status but the one that is expected."""

    http: httpx.AsyncClient
    session_id: str = ""
    acknowledged: dict[int, str] = field(default_factory=dict)

    async def create(self, questions: int | list[str] = 3, **changes: Any) -> dict[str, Any]:
        """`questions`: what is asked, or how much."""
        body: dict[str, Any] = {"name": "Ada Lovelace", "email": "ada@example.com", **changes}
        if questions:
            numbered = isinstance(questions, int)
            body["questions"] = [f"Question {i}?" for i in range(questions)] if numbered else questions
        answer = await self.call("POST", "/create", json=body)
        self.session_id = answer["session_id"]
        return answer

    async def start(self, **more: Any) -> dict[str, Any]:
        """Start, however long the pool takes on a busy machine."""
        give_up = time.monotonic() + 60
        while True:
            response = await self.request("POST", "/start", **more)
            if response.status_code != 503 or time.monotonic() > give_up:
                return checked(response, 200)["session"]

    async def answer(self, index: int, text: str, status: int = 200, **more: Any) -> dict[str, Any]:
        response = await self.request("POST", "/answer", json={"question_index": index, "answer": text}, **more)
        body = checked(response, status)
        if status == 200:
            self.acknowledged[index] = text
        return body

    async def answer_at_last(self, index: int, text: str, key: str) -> dict[str, Any]:
        """Answer as a good client does: the same key again after a 503, for 20 s at most."""
        give_up = time.monotonic() + 20
        while True:
            response = await self.request(
                "POST", "/answer", json={"question_index": index, "answer": text}, headers={"Idempotency-Key": key}
            )
            if response.status_code != 503 or time.monotonic() > give_up:
                break
        self.acknowledged[index] = text
        return checked(response, 200)

    async def post(self, what: str, body: Any = None, status: int = 200, **more: Any) -> dict[str, Any]:
        return checked(await self.request("POST", f"/{what}", json=body, **more), status)

    async def session(self) -> dict[str, Any]:
        return checked(await self.request("GET", ""), 200)["session"]

    async def events(self) -> list[dict[str, Any]]:
        return checked(await self.request("GET", "/journal?limit=1000"), 200)["events"]

    async def request(self, method: str, what: str, **more: Any) -> httpx.Response:
        return await self.http.request(method, f"/session/{self.session_id}{what}", **more)

    async def call(self, method: str, path: str, status: int = 200, **more: Any) -> dict[str, Any]:
        return checked(await self.http.request(method, path, **more), status)

    async def check_nothing_lost(self) -> dict[str, Any]:
        """Every acknowledged answer is there once, and the chain is whole."""
        session = await self.session()
        kept = {a["question_index"]: a["answer"] for a in session["answers"] if a["source"] == "submitted"}
        assert kept == self.acknowledged
        assert len({a["question_index"] for a in session["answers"]}) == len(session["answers"])
        verified = checked(await self.request("GET", "/journal/verify"), 200)["journal"]
        assert verified["ok"], verified
        return session


def checked(response: httpx.Response, status: int) -> dict[str, Any]:
    """The body, if the status is right and an error looks as errors do."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:500]}"
    body = response.json()
    if status >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert {"type", "title", "status", "detail", "code", "request_id"} <= body.keys()
        assert body["status"] == status
    else:
        assert body["status"] == "success"
    return body


async def actor_pids(service: Serve) -> dict[str, int]:
    """Names and pids of the live actors, as the Ray dashboard shows them."""
    note = service.note
    token = Path(note["environment"]["RAY_AUTH_TOKEN_PATH"]).read_text()
    async with httpx.AsyncClient(base_url=note["dashboard"], timeout=20) as dashboard:
        response = await dashboard.get(
            "/api/v0/actors", params={"limit": 10_000}, headers={"Authorization": f"Bearer {token}"}
        )
    response.raise_for_status()
    actors = response.json()["data"]["result"]["result"]
    return {a["name"]: a["pid"] for a in actors if a["state"] == "ALIVE"}
