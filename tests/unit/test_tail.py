"""JournalTail: followers are woken by what happens here at once, and by what happens elsewhere within a poll."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from actors.tail import POLL_SECONDS, Follower, JournalTail
from orchestrator.errors import OutcomeUnknown, Unavailable
from tests.unit.api_world import virtual

LONG = 60.0


class Journals:
    """The first seqs of each session's entries. `asked`: what was polled for; `failing`: what the next polls raise."""

    def __init__(self, **firsts: list[int]) -> None:
        self.firsts = firsts
        self.asked: list[dict[str, int]] = []
        self.failing: list[Exception] = []

    async def grown(self, seqs: dict[str, int]) -> set[str]:
        self.asked.append(dict(seqs))
        if self.failing:
            raise self.failing.pop(0)
        return {session_id for session_id, seq in seqs.items() if seq + 1 in self.firsts.get(session_id, [])}


async def waited(follower: Follower, seconds: float = LONG) -> float:
    """For how long it was waited until something happened, or the time was over."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await follower.wait(seconds)
    return loop.time() - began


@virtual
async def test_a_nudge_wakes_all_who_follow_that_session_at_once() -> None:
    tail = JournalTail(Journals(s1=[1]))
    with tail.follow("s1", 1) as one, tail.follow("s1", 1) as two, tail.follow("s2", 1) as other:
        waits = [asyncio.create_task(waited(f, 0.2)) for f in (one, two, other)]
        await asyncio.sleep(0.1)
        tail.nudge("s1")
        tail.nudge("nobody follows it")
        assert await asyncio.gather(*waits) == pytest.approx([0.1, 0.1, 0.2])


@virtual
async def test_what_others_enter_is_found_within_a_poll() -> None:
    journals = Journals(s1=[1])
    tail = JournalTail(journals)
    with tail.follow("s1", 1) as one, tail.follow("s2", 1) as other:
        for next_seq in (2, 5, 6):
            waiting = asyncio.create_task(waited(one))
            await asyncio.sleep(1.1)
            assert not waiting.done()
            journals.firsts["s1"].append(next_seq)
            assert 1.1 < await waiting <= 1.1 + POLL_SECONDS
            assert not other.is_woken
            one.about_to_read()
            one.seq = {2: 4, 5: 5, 6: 6}[next_seq]  # entry 2 has three events


@virtual
async def test_without_news_the_wait_is_over_when_its_time_is() -> None:
    tail = JournalTail(Journals(s1=[1]))
    with tail.follow("s1", 1) as follower:
        assert await waited(follower, 7) == pytest.approx(7)
        assert not follower.is_woken


@pytest.mark.parametrize("nudged", [True, False])
@virtual
async def test_an_entry_that_comes_between_reading_and_waiting_is_not_missed(nudged: bool) -> None:
    journals = Journals(s1=[1])
    tail = JournalTail(journals)
    with tail.follow("s1", 1) as follower:
        follower.wake()
        follower.about_to_read()
        await asyncio.sleep(1)  # it is being read, and the entry is not yet there
        journals.firsts["s1"].append(2)
        if nudged:
            tail.nudge("s1")
        assert await waited(follower) <= (0 if nudged else POLL_SECONDS)


@virtual
async def test_a_nudge_while_it_is_being_read_is_kept_for_the_next_wait() -> None:
    tail = JournalTail(Journals(s1=[1]))
    with tail.follow("s1", 1) as follower:
        follower.about_to_read()
        tail.nudge("s1")
        assert await waited(follower) == 0
        assert await waited(follower) == 0, "until it is read again"
        follower.about_to_read()
        assert await waited(follower, 1) == pytest.approx(1)


@virtual
async def test_of_several_followers_the_one_that_is_furthest_behind_asks() -> None:
    journals = Journals(s1=[1, 2, 5])
    tail = JournalTail(journals)
    with contextlib.ExitStack() as stack:
        followers = [stack.enter_context(tail.follow("s1", seq)) for seq in (*range(5, 25), 4, *range(5, 25))]
        await asyncio.sleep(1.1 * POLL_SECONDS)
        assert journals.asked == [{"s1": 4}] and all(follower.is_woken for follower in followers)


@virtual
async def test_who_is_reading_already_has_not_to_be_told() -> None:
    journals = Journals(s1=[1, 2, 5])
    tail = JournalTail(journals)
    with tail.follow("s1", 6) as ahead, tail.follow("s1", 4) as behind:
        waits = [asyncio.create_task(waited(f)) for f in (ahead, behind)]
        assert await asyncio.gather(*waits) == pytest.approx([POLL_SECONDS] * 2)
        assert journals.asked == [{"s1": 4}]
        ahead.about_to_read()  # and finds nothing; the other one is still reading
        await asyncio.sleep(POLL_SECONDS)
        assert journals.asked[1:] == [{"s1": 6}]
        journals.firsts["s1"].append(7)
        assert await waited(ahead) <= POLL_SECONDS


@virtual
async def test_one_query_asks_for_all_sessions() -> None:
    journals = Journals(s1=[1], s2=[1, 2])
    tail = JournalTail(journals)
    with tail.follow("s1", 1) as one, tail.follow("s2", 1) as two:
        assert await waited(two) == pytest.approx(POLL_SECONDS)
        assert journals.asked == [{"s1": 1, "s2": 1}] and not one.is_woken


@pytest.mark.parametrize(
    "errors",
    [[Unavailable("away")] * 5, [OutcomeUnknown("?")], [RuntimeError("a fault of ours"), Unavailable("away")]],
    ids=["away", "unknown", "a fault"],
)
@virtual
async def test_a_storage_that_fails_is_asked_again(errors: list[Exception], caplog: pytest.LogCaptureFixture) -> None:
    journals = Journals(s1=[1, 2])
    journals.failing = list(errors)
    tail = JournalTail(journals)
    with tail.follow("s1", 1) as follower:
        assert await waited(follower) == pytest.approx(POLL_SECONDS * (len(errors) + 1))
    faults = [error for error in errors if isinstance(error, RuntimeError)]
    assert len(caplog.records) == len(faults), "an outage is no fault of ours"


@virtual
async def test_it_polls_only_while_somebody_follows() -> None:
    journals = Journals(s1=[1])
    tail = JournalTail(journals)
    for _ in range(2):
        journals.asked.clear()
        with tail.follow("s1", 1), tail.follow("s1", 1) as other:
            await asyncio.sleep(1.1)
            assert len(journals.asked) == 4
        asked = len(journals.asked)
        await asyncio.sleep(10)
        assert len(journals.asked) == asked
        assert asyncio.all_tasks() == {asyncio.current_task()}
        tail.nudge("s1")
        assert not other.is_woken, "it has gone"


@virtual
async def test_a_follower_that_comes_as_the_last_one_goes_is_polled_for() -> None:
    journals = Journals(s1=[1])
    tail = JournalTail(journals)
    with tail.follow("s1", 1):
        await asyncio.sleep(0.1)
    with tail.follow("s2", 1) as follower:
        await asyncio.sleep(0.1)
        journals.firsts["s2"] = [1, 2]
        assert await waited(follower) <= POLL_SECONDS
    assert {frozenset(asked) for asked in journals.asked} == {frozenset({"s2"})}


@virtual
async def test_one_of_several_followers_may_go() -> None:
    journals = Journals(s1=[1])
    tail = JournalTail(journals)
    with tail.follow("s1", 1) as stays:
        with tail.follow("s1", 0):
            pass
        journals.firsts["s1"].append(2)
        assert await waited(stays) == pytest.approx(POLL_SECONDS)
        assert journals.asked == [{"s1": 1}]


@pytest.mark.parametrize("turns", range(6))
@virtual
async def test_who_is_woken_and_cancelled_in_the_same_moment_ends(turns: int) -> None:
    """A channel that ends just as its journal grows waits for its reader to end."""
    tail = JournalTail(Journals(s1=[1]))

    async def follow(follower: Follower) -> None:
        while True:
            follower.about_to_read()
            await follower.wait(LONG)

    with tail.follow("s1", 1) as follower:
        task = asyncio.create_task(follow(follower))
        await asyncio.sleep(1)
        tail.nudge("s1")
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=2 * LONG)
        assert task.cancelled()
