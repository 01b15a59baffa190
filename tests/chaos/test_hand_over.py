"""An actor hands its session over at any moment, on real Ray, and the candidate goes on as if nothing had been."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.conftest import until
from tests.chaos.driver import Driver
from tests.chaos.steps import Do, arm, taken
from tests.cluster.candidate import Candidate
from tests.servers import Serve

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]


class HandedOver(Candidate):
    """A candidate whose session can be handed over."""

    driver: Driver
    faults_folder: Path

    async def hand_over(self) -> None:
        before = (await self.session())["placement"]
        assert await asyncio.to_thread(self.driver.ask, "release", self.session_id, "test") is None
        after = await until(self.placement, 20, "another actor has it")
        assert after["actor"] != before["actor"] and after["epoch"] == before["epoch"] + 1

    async def placement(self) -> dict[str, Any] | None:
        return (await self.session())["placement"]

    async def release(self) -> str | None:
        return await asyncio.to_thread(self.driver.ask, "release", self.session_id, "test")

    async def left(self) -> float:
        return (await self.session())["current_question"]["remaining_seconds"]


@pytest.fixture
async def one(http: httpx.AsyncClient, driver: Driver, faults_folder: Path) -> HandedOver:
    candidate = HandedOver(http)
    candidate.driver, candidate.faults_folder = driver, faults_folder
    return candidate


async def before_the_first_answer(one: HandedOver) -> None:
    await one.hand_over()
    await one.answer(0, "answer 0")


async def after_every_answer(one: HandedOver) -> None:
    for index in range(3):
        await one.answer(index, f"answer {index}")
        await one.hand_over()


async def while_paused(one: HandedOver) -> None:
    await one.post("pause")
    left = await one.left()
    await one.hand_over()
    session = await one.session()
    assert session["status_detail"] == "paused" and session["current_question"]["remaining_seconds"] == left
    await one.post("resume")
    await one.answer(0, "answer 0")


async def after_an_extension(one: HandedOver) -> None:
    await one.post("extend", {"seconds": 500, "reason": "test"}, headers={"Idempotency-Key": "e"})
    left = await one.left()
    await one.hand_over()
    assert left - 3 < await one.left() <= left
    replayed = await one.request(
        "POST", "/extend", json={"seconds": 500, "reason": "test"}, headers={"Idempotency-Key": "e"}
    )
    assert replayed.headers["idempotency-replayed"] == "true" and await one.left() <= left


async def with_a_draft_that_becomes_the_answer(one: HandedOver) -> None:
    await one.answer(0, "answer 0")  # the second question has five seconds
    draft = {"question_index": 1, "draft": "half an answer", "revision": 7}
    await one.call("PUT", f"/session/{one.session_id}/draft", json=draft)
    await one.hand_over()
    late = {"question_index": 1, "draft": "older", "revision": 6}
    assert (await one.call("PUT", f"/session/{one.session_id}/draft", json=late))["saved"] is False

    async def ran_out() -> Any:
        answers = (await one.session())["answers"]
        return answers[1] if len(answers) > 1 else None

    closed = await until(ran_out, 15, "time runs out")
    assert (closed["source"], closed["answer"]) == ("draft", "half an answer")


async def with_answers_under_way(one: HandedOver) -> None:
    async def answer_all() -> None:
        for index in range(3):
            response = await one.request("POST", "/answer", json={"question_index": index, "answer": "x"})
            assert response.status_code == 200, response.text
            one.acknowledged[index] = "x"

    await asyncio.gather(answer_all(), one.release())


async def an_answer_is_repeated_after_it(one: HandedOver) -> None:
    await one.answer(0, "answer 0", headers={"Idempotency-Key": "a0"})
    await one.hand_over()
    body = {"question_index": 0, "answer": "answer 0"}
    again = await one.request("POST", "/answer", json=body, headers={"Idempotency-Key": "a0"})
    assert again.status_code == 200 and again.headers["idempotency-replayed"] == "true"


async def three_times_in_a_row(one: HandedOver) -> None:
    left = await one.left()
    for _ in range(2):
        await one.hand_over()
    await one.answer(0, "answer 0")
    await one.hand_over()
    assert left > 0


async def on_the_last_question(one: HandedOver) -> None:
    for index in range(4):
        await one.answer(index, f"answer {index}")
        if index == 2:
            await one.hand_over()
    assert (await one.session())["end_reason"] == "finished"


async def dies_before_it_lets_go(one: HandedOver) -> None:
    await _fails_at(one, "release.before", "kill")


async def dies_after_it_let_go(one: HandedOver) -> None:
    await _fails_at(one, "release.after", "kill")


async def hangs_before_it_lets_go(one: HandedOver) -> None:
    await _fails_at(one, "release.before", "hang")


async def _fails_at(one: HandedOver, step: str, do: Do) -> None:
    await one.answer(0, "answer 0")
    arm(one.faults_folder, step, do, seconds=20, session=one.session_id)
    releasing = asyncio.create_task(one.release())
    began = time.monotonic()
    await one.answer_at_last(1, "answer 1", "a1")
    assert time.monotonic() - began < 15
    await releasing
    assert taken(one.faults_folder, step)


SCENARIOS: list[Callable[[HandedOver], Awaitable[None]]] = [
    before_the_first_answer,
    after_every_answer,
    while_paused,
    after_an_extension,
    with_a_draft_that_becomes_the_answer,
    with_answers_under_way,
    an_answer_is_repeated_after_it,
    three_times_in_a_row,
    on_the_last_question,
    dies_before_it_lets_go,
    dies_after_it_let_go,
    hangs_before_it_lets_go,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_hand_over(service: Serve, one: HandedOver, scenario: Callable[[HandedOver], Awaitable[None]]) -> None:
    kinds = ["text", "coding", "text", "text"]
    await one.create(4, question_types=kinds, text_question_timer=300, coding_question_timer=5)
    await one.start()
    await scenario(one)
    session = await one.check_nothing_lost()
    given = [line["seconds"] for line in session["clock"]["ledger"] if line["cause"] == "released"]
    assert sum(given) < 5 * (len(given) + 1), "a hand-over takes a moment"
    await one.post("end")
