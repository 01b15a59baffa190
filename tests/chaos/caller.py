"""One simulated candidate's calls: repeated with the same key until they are acknowledged, as a good client does."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import httpx

from tests.chaos.record import Call, Interview, Record

GIVE_UP_SECONDS = 60.0
MAX_PAUSE_SECONDS = 1.0
REPEATED = (429, 503)


class Refused(Exception):
    """The service said no: its status and the document that came with it."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"{response.status_code} {response.text[:300]}")
        self.status = response.status_code
        self.problem = _document(response)

    @property
    def is_parked(self) -> bool:
        """Activation was given up: staff have to start the session again."""
        return self.problem.get("current_status") == "in_progress" and "start" in self.problem["allowed_actions"]


class GaveUp(Exception):
    """No answer that settles the matter within a minute."""


class Caller:
    """Makes calls and writes down what became of them."""

    def __init__(self, http: httpx.AsyncClient, record: Record, candidate: int, rng: random.Random) -> None:
        self._http = http
        self._record = record
        self._candidate = candidate
        self._rng = rng

    async def command(
        self,
        name: str,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        key: str | None,
        interview: Interview | None = None,
    ) -> httpx.Response:
        """The answer that acknowledged the command. Raises Refused, or GaveUp (which is recorded as an error)."""
        session_id = interview.session_id if interview else ""
        call = Call(self._candidate, session_id, name, key, time.monotonic())
        self._record.calls.append(call)
        response = await self._until_settled(call, method, path, body)
        call.done = time.monotonic()
        if response is None:
            self._record.error(interview, f"{name} was given up after {GIVE_UP_SECONDS:.0f} s: {call.failures[-3:]}")
            raise GaveUp(name)
        if not response.is_success:
            raise Refused(response)
        call.acknowledged = True
        self._record.counts[name] += 1
        if interview:
            interview.version = max(interview.version, version_of(response))
        return response

    async def _until_settled(
        self, call: Call, method: str, path: str, body: dict[str, Any] | None
    ) -> httpx.Response | None:
        headers = {"Idempotency-Key": call.key} if call.key else {}
        while time.monotonic() - call.began < GIVE_UP_SECONDS:
            response = await self.once(method, path, body, headers)
            if response is not None and response.status_code not in REPEATED and response.status_code < 500:
                return response
            if response is not None and response.status_code not in REPEATED:
                self._record.errors.append(f"{call.session_id}: {call.command}: {Refused(response)}")
            call.failures.append((response.status_code if response is not None else 0, time.monotonic()))
            await asyncio.sleep(self._pause(response, len(call.failures)))
        return None

    async def once(
        self, method: str, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response | None:
        """One attempt; None if the connection could not be made, broke or timed out."""
        try:
            return await self._http.request(method, path, json=body, headers=headers)
        except httpx.TransportError:
            return None

    def _pause(self, response: httpx.Response | None, failed: int) -> float:
        """What the service asked for, otherwise doubling; never more than a second."""
        try:
            asked = float(response.headers["Retry-After"]) if response is not None else 0.0
        except (KeyError, ValueError):
            asked = 0.0
        return min(asked or 0.1 * 2 ** min(failed, 4), MAX_PAUSE_SECONDS) * self._rng.uniform(0.9, 1.0)


def version_of(response: httpx.Response) -> int:
    """The session's version, from the ETag; 0 if there is none."""
    etag = response.headers.get("ETag", "").strip('"')
    return int(etag) if etag.isdigit() else 0


def _document(response: httpx.Response) -> dict[str, Any]:
    try:
        return {"allowed_actions": [], **response.json()}
    except (ValueError, TypeError):
        return {"allowed_actions": []}
