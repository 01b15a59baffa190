"""One simulated candidate, with the staff who look after it: creates, starts, drafts, answers, lets clocks run out."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from typing import TypeVar

import httpx

from parallel_interview_client import Answer, ApiError, Call, Conflict, calls
from parallel_interview_client.types import Session
from tests.chaos.caller import Caller, GaveUp, is_parked
from tests.chaos.record import Interview, Record

T = TypeVar("T")

LONG_SECONDS = 120
"""The time for questions that are answered: longer than a command is repeated."""
WAIT_SECONDS = 100.0
"""How long a clock that was let run out may take, with all extensions and credits."""
REPEAT_SHARE = 0.1
SHORT_SHARE = 0.3
ANSWERED_SHORT_SHARE = 0.35
STAFF_SHARE = 0.12


class Candidate:
    """Runs interviews one after the other. `interview` is the one in progress."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        record: Record,
        stopping: asyncio.Event,
        number: int,
        seed: int,
        pace_seconds: float,
    ) -> None:
        self.interview: Interview | None = None
        self._record = record
        self._stopping = stopping
        self._number = number
        self._pace = pace_seconds
        self._rng = random.Random(f"{seed}:{number}")
        self._caller = Caller(http, record, number, self._rng)
        self._now = asyncio.Event()
        self._said = 0

    async def run(self) -> None:
        """Interview after interview until the load is stopped. What goes wrong is in the record."""
        while not self._stopping.is_set():
            try:
                await self._interview()
            except GaveUp:
                if self.interview:
                    self.interview.uncertain = True
            except ApiError as error:
                self._record.error(self.interview, f"refused: {error}")
            self.interview = None

    def hurry(self) -> None:
        """Do not think any longer."""
        self._now.set()

    async def _interview(self) -> None:
        await self._think()
        interview = await self._create()
        await self._command(interview, "start", calls.start(interview.session_id, key=_new_key()))
        interview.started = True
        for index, kind in enumerate(interview.kinds):
            if self._stopping.is_set():
                return await self._leave(interview)
            await self._question(interview, index, kind)

    async def _create(self) -> Interview:
        kinds = ["short" if self._rng.random() < SHORT_SHARE else "long" for _ in range(self._rng.randint(6, 12))]
        create = calls.create(
            f"Candidate {self._number}",
            f"candidate.{self._number}@example.com",
            key=_new_key(),
            questions=[f"Question {index}?" for index in range(len(kinds))],
            question_types=["coding" if kind == "short" else "text" for kind in kinds],
            text_question_timer=LONG_SECONDS,
            coding_question_timer=self._rng.randint(5, 8),
        )
        made = await self._caller.command("create", create)
        interview = Interview(made.value["session_id"], self._number, kinds)
        self._record.interviews.append(interview)
        self.interview = interview
        return interview

    async def _question(self, interview: Interview, index: int, kind: str) -> None:
        if self._rng.random() < STAFF_SHARE:
            await self._staff(interview)
        for _ in range(self._rng.choice((0, 1, 1, 2))):
            await self._think(0.5)
            await self._draft(interview, index, kind)
        answered = kind == "long" or self._rng.random() < ANSWERED_SHORT_SHARE
        if not answered or not await self._answer(interview, index, kind):
            await self._until_closed(interview, index)

    async def _answer(self, interview: Interview, index: int, kind: str) -> bool:
        """Answer; False if the clock of a short question was faster, which may happen when a call was delayed."""
        await self._think()
        text = self._words(interview, index, "answer")
        call = calls.answer(interview.session_id, index, text, key=_new_key())
        interview.sent[index] = text
        interview.sent_at[index] = time.time_ns() // 1_000_000
        try:
            await self._command(interview, "answer", call)
        except ApiError as error:
            interview.refused[index] = text
            if isinstance(error, Conflict) and kind == "short":
                return False
            raise
        interview.acknowledged[index] = text
        interview.completed = index == len(interview.kinds) - 1
        if self._rng.random() < REPEAT_SHARE:
            await self._repeat(interview, index, text, call)
        return True

    async def _repeat(self, interview: Interview, index: int, text: str, call: Call[Session]) -> None:
        """Send an acknowledged answer again: it must be recognised, and be there once."""
        try:
            answer = await self._command(interview, "repeat", call)
        except ApiError as error:
            self._record.error(interview, f"a repeat of question {index} was refused: {error}")
            return
        kept = [a for a in answer.value["answers"] if a["question_index"] == index]
        if not answer.replayed:
            self._record.error(interview, f"a repeat of question {index} was not recognised")
        if [a["answer"] for a in kept] != [text]:
            self._record.error(interview, f"after a repeat, question {index} has {kept}")

    async def _draft(self, interview: Interview, index: int, kind: str) -> None:
        texts = interview.drafts.setdefault(index, [])
        text = self._words(interview, index, "draft")
        texts.append(text)
        try:
            answer = await self._command(
                interview, "draft", calls.draft(interview.session_id, index, text, revision=len(texts))
            )
        except Conflict:
            if kind != "short":
                raise
            return
        if answer.value["saved"]:
            interview.drafts_acknowledged[index] = len(texts)
        else:
            self._record.error(interview, f"draft {len(texts)} of question {index} was not saved: {answer.value}")

    async def _staff(self, interview: Interview) -> None:
        """More time, or a pause."""
        session_id = interview.session_id
        reason = f"{session_id} {_new_key()}"
        if self._rng.random() < 0.5:
            seconds = float(self._rng.randint(2, 10))
            await self._command(interview, "extend", calls.extend(session_id, seconds, reason, key=_new_key()))
            interview.extended.append(reason)
            return
        await self._command(interview, "pause", calls.pause(session_id, reason, key=_new_key()))
        interview.paused.append(reason)
        await asyncio.sleep(self._rng.uniform(0.5, 3.0))
        await self._command(interview, "resume", calls.resume(session_id, key=_new_key()))
        interview.resumed += 1

    async def _until_closed(self, interview: Interview, index: int) -> None:
        """Let the clock run out, and look until the service has closed the question."""
        give_up = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < give_up and not self._stopping.is_set():
            session = await self._look(interview)
            if session and (session["current_question_count"] > index or session["status"] == "completed"):
                interview.completed = session["status"] == "completed"
                return
            if session and session["status_detail"] == "parked":
                await self._revive(interview)
            await asyncio.sleep(0.5)
        if not self._stopping.is_set():
            self._record.error(interview, f"question {index} was not closed within {WAIT_SECONDS:.0f} s")
            raise GaveUp("wait")

    async def _look(self, interview: Interview) -> Session | None:
        """The session, if it can be read now; a version that was acknowledged must be in it."""
        known = interview.version
        answer = await self._caller.once(calls.session(interview.session_id))
        if answer is None:
            return None
        version = answer.version or 0
        if version < known:
            self._record.error(interview, f"version {version} was read after {known} had been acknowledged")
        interview.version = max(known, version)
        return answer.value

    async def _leave(self, interview: Interview) -> None:
        if self._rng.random() < 0.5:
            call = calls.end(interview.session_id, "the load stops", key=_new_key())
            await self._command(interview, "end", call)
            interview.ended = interview.completed = True

    async def _command(self, interview: Interview, name: str, call: Call[T]) -> Answer[T]:
        """Make a command; if the session is parked, have staff start it again first."""
        try:
            return await self._caller.command(name, call, interview)
        except ApiError as error:
            if not is_parked(error):
                raise
        await self._revive(interview)
        return await self._caller.command(name, call, interview)

    async def _revive(self, interview: Interview) -> None:
        self._record.counts["parked"] += 1
        await self._caller.command("start", calls.start(interview.session_id, key=_new_key()), interview)

    async def _think(self, share: float = 1.0) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._now.wait(), self._pace * share * self._rng.uniform(0.4, 1.6))
        self._now.clear()

    def _words(self, interview: Interview, index: int, what: str) -> str:
        """A text that is never sent twice, so that whatever is stored can be told apart."""
        self._said += 1
        return f"{what} {self._said} of candidate {self._number} to question {index} in {interview.session_id} ✓"


def _new_key() -> str:
    return uuid.uuid4().hex
