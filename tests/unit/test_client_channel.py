"""The client's live channel with connections that do what they are told, on a virtual clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError

from parallel_interview_client import AsyncChannel, ChannelClosed, Conflict, Ended, channel
from parallel_interview_client.channel import Channel
from tests.unit.virtual import run_virtual

Act = Callable[["Line", dict[str, Any]], None]
"""What the server does with a frame that has come in."""


class Line:
    """One connection: what was sent over it, and what comes."""

    def __init__(self, address: str, act: Act) -> None:
        self.address = address
        self.sent: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self._act = act
        self._coming: asyncio.Queue[str | None] = asyncio.Queue()

    def say(self, **frame: Any) -> None:
        self._coming.put_nowait(json.dumps(frame))

    def end(self, code: int | None, reason: str = "") -> None:
        if self.close_code is None:
            self.close_code, self.close_reason = code, reason
            self._coming.put_nowait(None)

    async def recv(self) -> str:
        text = await self._coming.get()
        if text is None:
            raise ConnectionClosedError(None, None)
        return text

    async def send(self, message: str) -> None:
        frame = json.loads(message)
        self.sent.append(frame)
        self._act(self, frame)

    async def close(self, code: int = 1000) -> None:
        self.end(code)


class Server:
    """`acts`: what each connection does in turn; an exception: there is none."""

    def __init__(self, *acts: Act | Exception) -> None:
        self.lines: list[Line] = []
        self._acts = list(acts)

    async def open(self, address: str) -> Line:
        act = self._acts.pop(0)
        if isinstance(act, Exception):
            raise act
        self.lines.append(Line(address, act))
        return self.lines[-1]


def greets(line: Line, frame: dict[str, Any]) -> None:
    if frame["type"] == "auth":
        line.say(type="state", as_of=5)


def loses_answers(line: Line, frame: dict[str, Any]) -> None:
    greets(line, frame)
    if frame["type"] == "answer":
        line.say(type="answer_saved", seq=6)
        line.end(1006)


def answers(line: Line, frame: dict[str, Any]) -> None:
    greets(line, frame)
    if frame["type"] == "answer":
        line.say(type="answer_saved", seq=6)
        line.say(type="completed", seq=7)
        line.say(type="ok", command_id=frame["command_id"], replayed=True)
        line.end(1000)


def refuses(line: Line, frame: dict[str, Any]) -> None:
    greets(line, frame)
    if frame["type"] == "answer":
        line.say(type="error", command_id=frame["command_id"], status=409, code="state_conflict", detail="No.")


def closes(code: int) -> Act:
    return lambda line, frame: line.end(code, "because")


def talk(server: Server, what: Callable[[AsyncChannel], Awaitable[None]], **options: Any) -> None:
    async def scenario(_: Callable[[], int]) -> None:
        async with AsyncChannel("http://a", "s1", "t", opening=server.open, **options) as live:
            await what(live)

    run_virtual(scenario)


def test_what_was_lost_with_a_connection_comes_with_the_next_one() -> None:
    server = Server(OSError("refused"), loses_answers, TimeoutError(), answers)

    async def what(live: AsyncChannel) -> None:
        reply = await live.answer(0, "x", command_id="c1")
        assert reply.get("replayed")
        assert [frame.get("seq") async for frame in live] == [None, 6, None, 7]
        assert live.ended is not None and live.ended.why is Ended.COMPLETED

    talk(server, what)
    assert [line.address.partition("after=")[2] for line in server.lines] == ["", "6"]
    assert [line.sent[-1] for line in server.lines] == [
        {"type": "answer", "question_index": 0, "answer": "x", "command_id": "c1"}
    ] * 2


def test_a_refused_command_raises_what_the_rest_call_raises() -> None:
    async def what(live: AsyncChannel) -> None:
        with pytest.raises(Conflict, match="No"):
            await live.answer(0, "x")

    talk(Server(refuses), what)


@pytest.mark.parametrize("code", [4400, 4401, 4404, 4409])
def test_an_end_that_is_no_completion_is_raised_where_it_is_iterated(code: int) -> None:
    async def what(live: AsyncChannel) -> None:
        with pytest.raises(ChannelClosed, match="because") as closed:
            async for _ in live:
                pass
        assert closed.value.why.value == closed.value.code == code
        with pytest.raises(ChannelClosed):
            await live.answer(0, "x")

    talk(Server(closes(code)), what)


def test_a_front_end_that_does_not_come_back_is_given_up() -> None:
    async def what(live: AsyncChannel) -> None:
        began = asyncio.get_running_loop().time()
        with pytest.raises(ChannelClosed) as closed:
            await live.receive()
        assert (closed.value.why, closed.value.reason) == (Ended.UNREACHABLE, "OSError refused")
        assert asyncio.get_running_loop().time() - began == pytest.approx(30, abs=0.1)

    talk(Server(*[OSError("refused")] * 50), what, limit_seconds=30)


def test_waiting_for_a_frame_may_have_an_end_and_loses_none() -> None:
    server = Server(greets)

    async def what(live: AsyncChannel) -> None:
        assert (await live.receive())["type"] == "state"
        with pytest.raises(TimeoutError):
            await live.receive(timeout=1)
        server.lines[0].say(type="paused", seq=6)
        assert (await live.receive(timeout=1))["type"] == "paused"

    talk(server, what)


def test_a_connection_without_a_sign_is_dropped_and_replaced() -> None:
    server = Server(greets, greets)

    async def what(live: AsyncChannel) -> None:
        await live.receive()
        await live.receive()

    talk(server, what)
    assert [line.close_code for line in server.lines] == [4408, 1000]


def test_leaving_closes_the_connection_and_settles_what_waits() -> None:
    server = Server(greets)
    waiting: list[asyncio.Task[Any]] = []

    async def what(live: AsyncChannel) -> None:
        await live.receive()
        waiting.append(asyncio.create_task(live.answer(0, "x")))
        await asyncio.sleep(1)

    async def scenario(_: Callable[[], int]) -> None:
        async with AsyncChannel("http://a", "s1", "t", opening=server.open) as live:
            await what(live)
        with pytest.raises(ChannelClosed) as closed:
            await waiting[0]
        assert closed.value.why is Ended.BY_US
        with pytest.raises(ChannelClosed):
            await live.receive()

    run_virtual(scenario)
    assert server.lines[0].close_code == 1000


def test_a_command_whose_caller_has_gone_disturbs_nobody() -> None:
    server = Server(answers)

    async def what(live: AsyncChannel) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(live.draft(0, "x"), 1)
        server.lines[0].say(type="draft_saved", command_id=server.lines[0].sent[-1]["command_id"])
        await live.answer(0, "x")

    talk(server, what)


def test_the_blocking_channel_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(loses_answers, answers)
    options = {"elsewhere": (), "limit_seconds": 30.0, "opening": server.open}
    monkeypatch.setattr(channel.AsyncChannel.__init__, "__kwdefaults__", options)
    with Channel("http://a", "s1", "t") as live:
        assert live.receive(timeout=5)["type"] == "state"
        assert live.answer(0, "x").get("replayed")
        assert [frame.get("seq") for frame in live] == [6, None, 7]
        with pytest.raises(ChannelClosed):
            live.end()
