"""Webhooks of a running service: from the call that adds one to what its receiver has got."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.cluster.candidate import Candidate
from tests.receiver import Receiver, receiving

pytestmark = pytest.mark.cluster

PATIENCE = 30.0


@pytest.fixture
async def receiver(candidate: Candidate) -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        made = await candidate.http.post("/webhooks", json={"url": f"{receiver.url}/hook"})
        assert made.status_code == 200, made.text
        webhook = made.json()["webhook"]
        receiver.secrets.append(webhook["secret"])
        receiver.path = f"/webhooks/{webhook['webhook_id']}"  # type: ignore[attr-defined]
        yield receiver
        assert (await candidate.http.delete(receiver.path)).status_code == 200  # type: ignore[attr-defined]


async def until_told(receiver: Receiver, session_id: str, last: str) -> list[dict[str, Any]]:
    give_up = time.monotonic() + PATIENCE
    while not (told := receiver.of(session_id)) or told[-1]["type"] != last:
        assert time.monotonic() < give_up, [one["type"] for one in told]
        await asyncio.sleep(0.1)
    return told


async def test_a_whole_interview_is_told_from_its_creation_to_its_end(candidate: Candidate, receiver: Receiver) -> None:
    await candidate.create(questions=2)
    await candidate.start()
    await candidate.answer(0, "one")
    await candidate.post("pause")
    await candidate.post("resume")
    await candidate.answer(1, "two")
    told = await until_told(receiver, candidate.session_id, "report.ready")
    assert [one["type"] for one in told] == [
        "interview.created",
        "interview.started",
        "interview.question_closed",
        "interview.paused",
        "interview.resumed",
        "interview.question_closed",
        "interview.completed",
        "report.ready",
    ]
    seqs = [one["data"]["seq"] for one in told]
    assert seqs == sorted(seqs) and receiver.forged == 0
    events = {event["seq"]: event for event in await candidate.events()}
    assert events[seqs[6]]["type"] == "completed" and told[6]["timestamp"] == events[seqs[6]]["at"]
    assert all("deliver" not in event for event in events.values())
    await candidate.request("DELETE", "")
    await until_told(receiver, candidate.session_id, "interview.deleted")


async def test_deliveries_can_be_looked_up_and_sent_again(candidate: Candidate, receiver: Receiver) -> None:
    path: str = receiver.path  # type: ignore[attr-defined]
    assert (await candidate.http.post(f"{path}/test")).status_code == 200
    give_up = time.monotonic() + PATIENCE
    while not receiver.taken:
        assert time.monotonic() < give_up
        await asyncio.sleep(0.1)
    [first] = receiver.taken
    assert first["type"] == "webhook.test"
    while True:
        [delivery] = (await candidate.http.get(f"{path}/deliveries")).json()["deliveries"]
        if delivery["state"] == "delivered":
            break
        assert time.monotonic() < give_up
    assert delivery["attempts"][0]["status"] == 200 and delivery["message_id"] == first["id"]
    again = await candidate.http.post(f"{path}/deliveries/{delivery['delivery_id']}/replay")
    assert again.status_code == 200
    while len(receiver.taken) < 2:
        assert time.monotonic() < give_up
        await asyncio.sleep(0.1)
    assert receiver.taken[1]["id"] == first["id"]
