"""The client's calls: repeats on a clock that is only told, errors, and both clients the same."""

from __future__ import annotations

import asyncio
import inspect
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

import parallel_interview_client as pic
from parallel_interview_client import AsyncCandidate, AsyncClient, Candidate, Client, Retry, calls
from parallel_interview_client.errors import BY_STATUS, ChannelClosed, ClientError, Ended, error_of

URL = "http://service"
SESSION = {"session_id": "s1", "version": 3, "answers": []}
OK = httpx.Response(200, json={"status": "success", "session": SESSION}, headers={"ETag": '"3"'})
Step = httpx.Response | Exception


class World:
    """A service that answers as it is told, and time that passes only while somebody sleeps (or calls)."""

    def __init__(self, *steps: Step, call_seconds: float = 0.0) -> None:
        self.now = 100.0
        self.pauses: list[float] = []
        self.requests: list[httpx.Request] = []
        self._steps = list(steps)
        self._call_seconds = call_seconds

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.now += self._call_seconds
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        if isinstance(step, Exception):
            raise step
        return httpx.Response(step.status_code, headers=step.headers, content=step.content)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)

    def client(self, **options: Any) -> Client:
        options = {"chance": lambda: 1.0, **options}
        http = httpx.Client(transport=httpx.MockTransport(self.answer))
        return Client(URL, http=http, clock=lambda: self.now, sleep=self.sleep, **options)

    def aio(self, **options: Any) -> AsyncClient:
        options = {"chance": lambda: 1.0, **options}
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        return AsyncClient(URL, http=http, clock=lambda: self.now, sleep=self.sleep_async, **options)

    @property
    def keys(self) -> list[str | None]:
        return [request.headers.get("Idempotency-Key") for request in self.requests]


def blocking(world: World, call: calls.Call[Any], **options: Any) -> Any:
    return world.client(**options).send(call)


def with_asyncio(world: World, call: calls.Call[Any], **options: Any) -> Any:
    async def run() -> Any:
        return await world.aio(**options).send(call)

    return asyncio.run(run())


Send = Callable[..., Any]
both = pytest.mark.parametrize("send", [blocking, with_asyncio])


def busy(status: int = 503, after: str | None = None) -> httpx.Response:
    problem = {"status": status, "code": "unavailable", "detail": "Later."}
    return httpx.Response(status, json=problem, headers={} if after is None else {"Retry-After": after})


# --- repeats


@both
def test_a_post_is_repeated_under_one_key_until_it_is_answered(send: Send) -> None:
    world = World(busy(), httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), busy(429), OK)
    answer = send(world, calls.start("s1"))
    assert answer.value == SESSION and answer.version == 3
    assert [one.status for one in answer.failures] == [503, None, None, 429]
    assert len(set(world.keys)) == 1 and world.keys[0]
    assert world.pauses == [0.2, 0.4, 0.8, 1.6]


@both
def test_two_calls_have_two_keys_and_a_key_that_is_given_is_used(send: Send) -> None:
    world = World(OK)
    for key in (None, None, "mine"):
        send(world, calls.answer("s1", 0, "x", key=key))
    assert len(set(world.keys)) == 3 and world.keys[2] == "mine"


@both
def test_retry_after_is_honoured_and_bounded(send: Send) -> None:
    world = World(busy(after="3"), busy(after="9999"), busy(after="Wed, 21 Oct 2026 07:28:00 GMT"), OK)
    send(world, calls.start("s1"))
    assert world.pauses == [3.75, 10.0, 0.8]


def test_pauses_are_spread_by_chance_but_never_shorter_than_asked() -> None:
    retry = Retry()
    assert [retry.pause(1, 2.0, chance) for chance in (0.0, 1.0)] == [2.0, 2.5]
    assert [retry.pause(3, None, chance) for chance in (0.0, 1.0)] == [0.4, 0.8]
    assert retry.pause(1000, None, 1.0) == retry.longest_pause_seconds


@both
def test_the_limit_holds_for_all_attempts_together(send: Send) -> None:
    world = World(busy(after="4"), call_seconds=1.0)
    with pytest.raises(pic.Unreachable) as error:
        send(world, calls.start("s1", key="k"), retry=Retry(limit_seconds=20))
    assert world.now - 100 <= 20
    assert error.value.attempts == len(world.requests) == 4
    assert error.value.key == "k"
    assert isinstance(error.value.last, pic.Unavailable) and error.value.last.retry_after == 4


def test_a_late_attempt_is_given_no_more_time_than_is_left() -> None:
    world = World(httpx.ReadTimeout("slow"), httpx.ReadTimeout("slow"), OK, call_seconds=25.0)
    world.client().start("s1")
    timeouts = [request.extensions["timeout"]["read"] for request in world.requests]
    assert timeouts == [30.0, 30.0, pytest.approx(60 - 50.6)]


@both
def test_without_a_limit_there_is_one_attempt(send: Send) -> None:
    world = World(httpx.ConnectError("refused"))
    with pytest.raises(pic.Unreachable, match=r"refused \(1 attempt in 0.0 s\)"):
        send(world, calls.stats(), retry=Retry(limit_seconds=0))
    assert world.pauses == []


@both
@pytest.mark.parametrize("status", sorted({*BY_STATUS, 418, 500, 502} - {202, 429, 503}))
def test_other_errors_are_raised_at_once(send: Send, status: int) -> None:
    world = World(httpx.Response(status, json={"code": "c", "detail": "No."}))
    with pytest.raises(pic.ApiError) as error:
        send(world, calls.start("s1"))
    assert len(world.requests) == 1
    assert (error.value.status, error.value.code, error.value.detail) == (status, "c", "No.")
    assert type(error.value) is BY_STATUS.get(status, pic.ServerError if status >= 500 else pic.ApiError)


@pytest.mark.parametrize(
    "call", [calls.session("s"), calls.draft("s", 0, "x"), calls.delete("s"), calls.update("s", name="A")]
)
def test_what_does_no_harm_twice_is_repeated_too(call: calls.Call[Any]) -> None:
    world = World(busy(), OK)
    blocking(world, call)
    assert len(world.requests) == 2 and world.keys == [None, None]


def test_a_change_under_if_match_is_not_repeated() -> None:
    world = World(httpx.ReadTimeout("slow"))
    with pytest.raises(pic.Unreachable):
        world.client().update("s1", if_match=3, name="Ada")
    assert len(world.requests) == 1 and world.requests[0].headers["If-Match"] == '"3"'


def test_a_delete_that_was_done_at_the_first_attempt_has_succeeded() -> None:
    gone = httpx.Response(404, json={"code": "not_found", "detail": "Gone."})
    assert World(httpx.ReadError("broke"), gone).client().delete("s1") is None
    for world in (World(gone), World(busy(429), gone)):
        with pytest.raises(pic.NotFound):
            world.client().delete("s1")


def test_each_failed_attempt_is_told_as_it_happens() -> None:
    world, told = World(busy(), httpx.ReadError("broke"), OK), []
    world.client().send(calls.start("s1"), failed=told.append)
    assert [(one.at, one.status) for one in told] == [(100.0, 503), (100.2, None)]


def test_what_is_wrong_with_the_client_is_not_tried_again() -> None:
    world = World(httpx.LocalProtocolError("illegal header value"))
    with pytest.raises(pic.UnexpectedAnswer, match="illegal header"):
        world.client().stats()
    assert len(world.requests) == 1


# --- answers


def test_a_report_is_asked_for_until_it_is_there() -> None:
    pending = httpx.Response(202, json={"status": "pending", "detail": "Being made."}, headers={"Retry-After": "2"})
    world = World(pending, pending, httpx.Response(200, json={"report": {"session_id": "s1"}}))
    assert world.client().report("s1")["session_id"] == "s1"
    assert world.pauses == [2.5, 2.5]
    with pytest.raises(pic.NotReady, match="Being made"):
        World(pending).client().report("s1", wait_seconds=10)


def test_an_unchanged_session_is_none() -> None:
    world = World(httpx.Response(304))
    assert world.client().session_if_changed("s1", 3) is None
    assert world.requests[0].headers["If-None-Match"] == '"3"'


@pytest.mark.parametrize("answer", [httpx.Response(200, text="hello"), httpx.Response(200, json={"other": 1})])
def test_an_answer_of_something_else_is_told_apart(answer: httpx.Response) -> None:
    with pytest.raises(pic.UnexpectedAnswer, match="not this service"):
        World(answer).client().stats()


@pytest.mark.parametrize("body", ["no json", "[1]", '{"errors": 3, "allowed_actions": "x", "current_status": 7}'])
def test_an_error_without_a_problem_document_is_an_error_all_the_same(body: str) -> None:
    with pytest.raises(pic.Conflict) as error:
        World(httpx.Response(409, text=body)).client().start("s1")
    assert error.value.allowed_actions == () and "409" in str(error.value)


def test_the_key_or_the_token_goes_with_every_call() -> None:
    world = World(OK)
    world.client(api_key="k").start("s1")
    world.client(api_key="k").candidate("s1", "t").answer(0, "x")
    staff, candidate = (request.headers for request in world.requests)
    assert staff["X-API-Key"] == "k" and "Authorization" not in staff
    assert candidate["Authorization"] == "Bearer t" and "X-API-Key" not in candidate
    assert json.loads(world.requests[1].content) == {"question_index": 0, "answer": "x"}
    with pytest.raises(ValueError, match="not both"):
        Client(URL, "k", token="t")


def test_bodies_and_queries_are_as_the_service_has_them() -> None:
    at = datetime(2026, 5, 1, 9, tzinfo=UTC)
    world = World(httpx.Response(200, json={"sessions": [], "next_cursor": None}))
    world.client().create("Añ", "a@example.com", questions=["Q"], scheduled_at=at)
    assert list(world.client().sessions(status="completed", created_from=at)) == []
    created, listed = world.requests
    assert json.loads(created.content)["scheduled_at"] == "2026-05-01T09:00:00+00:00"
    assert "Añ".encode() in created.content
    assert dict(listed.url.params) == {"limit": "200", "status": "completed", "created_from": at.isoformat()}
    assert calls.session("a/b c").path.endswith("/session/a%2Fb%20c")
    with pytest.raises(TypeError):
        world.client().update("s1", metadata={"x": b"y"})  # type: ignore[dict-item]


def test_listing_goes_through_all_pages() -> None:
    pages = [{"sessions": [{"session_id": n}], "next_cursor": f"c{n}" if n < 2 else None} for n in range(3)]
    world = World(*(httpx.Response(200, json=page) for page in pages))
    assert [one["session_id"] for one in world.client().sessions(limit=1)] == [0, 1, 2]
    assert [request.url.params.get("cursor") for request in world.requests] == [None, "c0", "c1"]


@pytest.mark.parametrize("url", ["localhost:8005", "ftp://x", "http://", "", "http://a:b"])
def test_what_is_no_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        Client(url)


def test_an_address_may_have_the_path_of_the_api() -> None:
    assert Client("http://host:1/api/parallel_interview/").url == "http://host:1"


def test_a_client_of_httpx_that_was_given_is_left_open() -> None:
    world = World(OK)
    with world.client() as client:
        client.start("s1")
    client.start("s1")


# --- shapes


@pytest.mark.parametrize(("one", "other"), [(Client, AsyncClient), (Candidate, AsyncCandidate)])
def test_both_clients_have_the_same_methods(one: type, other: type) -> None:
    def methods(of: type) -> dict[str, list[str]]:
        found = inspect.getmembers(of, lambda member: inspect.isfunction(member))
        shown = {name: list(inspect.signature(member).parameters) for name, member in found if name[0] != "_"}
        return shown

    assert methods(one) == methods(other)


def test_every_call_is_a_method_with_its_parameters() -> None:
    for name, call in inspect.getmembers(calls, inspect.isfunction):
        if name[0] != "_" and call.__module__ == calls.__name__:
            method = inspect.signature(getattr(Client, name))
            assert list(method.parameters) == ["self", *inspect.signature(call).parameters]
            assert f"Call[{method.return_annotation}]" == inspect.signature(call).return_annotation


def _all_errors() -> list[ClientError]:
    problem = {
        "code": "c",
        "detail": "No.",
        "errors": [{"pointer": "/a", "detail": "b"}],
        "request_id": "r",
        "current_status": "completed",
        "allowed_actions": ["delete"],
    }
    refused = [error_of(status, problem, 2.0) for status in (*BY_STATUS, 500, 418)]
    closed = [ChannelClosed(why, why.value, "because") for why in Ended]
    return [*refused, *closed, pic.Unreachable("p", 3, 1.5, "k", refused[0]), pic.UnexpectedAnswer("d", 200)]


@pytest.mark.parametrize("error", _all_errors(), ids=lambda error: type(error).__name__)
def test_errors_survive_pickling(error: ClientError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error)
    told = {name: value for name, value in vars(error).items() if name != "last"}
    assert told == {name: value for name, value in vars(again).items() if name != "last"}


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    from parallel_interview_client import errors

    drawn = [line.split("── ")[1].split()[0] for line in str(errors.__doc__).splitlines() if "── " in line]
    kinds = [k for k in vars(errors).values() if inspect.isclass(k) and issubclass(k, ClientError)]
    assert set(drawn) == {kind.__name__ for kind in kinds} - {"ClientError"}
    assert {kind.__name__ for kind in kinds} <= set(pic.__all__)
