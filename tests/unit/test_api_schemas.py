"""What bodies are taken and refused, and what becomes of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError

from api.client_frames import ProctoringFrame
from api.schemas import Body, JobBody, SightingsBody
from tests.unit.api_world import BASE, BODY, api, make

BAD: list[tuple[str, dict[str, Any], str]] = [
    ("number as text", {"max_questions": "5"}, "/max_questions"),
    ("number for text", {"name": 1}, "/name"),
    ("boolean as number", {"max_questions": True}, "/max_questions"),
    ("unknown field", {"nmae": "x"}, "/nmae"),
    ("blank name", {"name": "  "}, "/name"),
    ("long name", {"name": "x" * 201}, "/name"),
    ("NUL", {"name": "a\0b"}, "/name"),
    ("no address", {"email": "nobody"}, "/email"),
    ("no questions", {"questions": []}, "/questions"),
    ("many questions", {"questions": ["q"] * 201}, "/questions"),
    ("long question", {"questions": ["x" * 10_001]}, "/questions/0"),
    ("unknown type", {"question_types": ["text", "video"]}, "/question_types/1"),
    ("short timer", {"text_question_timer": 4}, "/text_question_timer"),
    ("long timer", {"coding_question_timer": 7201}, "/coding_question_timer"),
    ("no zone", {"scheduled_at": "2030-01-01T10:00:00"}, "/scheduled_at"),
    ("time as number", {"scheduled_at": 1_900_000_000}, "/scheduled_at"),
    ("time as digits", {"scheduled_at": "1900000000"}, "/scheduled_at"),
    ("multiplier", {"accommodations": {"time_multiplier": 5}}, "/accommodations/time_multiplier"),
    ("metadata", {"metadata": {"a": 1}}, "/metadata/a"),
    ("much metadata", {"metadata": {str(i): "x" for i in range(17)}}, "/metadata"),
]


@pytest.mark.parametrize(("change", "pointer"), [(c, p) for _, c, p in BAD], ids=[name for name, _, _ in BAD])
async def test_a_wrong_value_is_400_and_named(change: dict[str, Any], pointer: str) -> None:
    async with api() as (http, _):
        answer = await http.post(f"{BASE}/create", json=BODY | change)
    assert answer.status_code == 400, answer.text
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]


WRONG_DETAIL = {"type": "tab_hidden", "detail": {str(i): [] for i in range(16)}}
MANY_WRONG: list[tuple[type[Body], dict[str, Any]]] = [
    (SightingsBody, {"events": [WRONG_DETAIL] * 100}),
    (ProctoringFrame, {"type": "proctoring_event", "events": [WRONG_DETAIL] * 100}),
    (JobBody, {"job_id": "1", "title": "x", "questions": [{str(i): [] for i in range(64)}] * 200}),
]


@pytest.mark.parametrize(("model", "body"), MANY_WRONG, ids=[model.__name__ for model, _ in MANY_WRONG])
def test_of_very_many_wrong_things_few_are_told(model: type[Body], body: dict[str, Any]) -> None:
    """To make a sentence of each takes time that nobody else gets."""
    with pytest.raises(ValidationError) as raised:
        model.model_validate(body)
    assert 0 < raised.value.error_count() <= 100


async def test_what_is_told_names_members_and_nothing_of_ours() -> None:
    async with api() as (http, _):
        url = f"{BASE}/session/{(await make(http))['session_id']}/proctoring/events"
        answer = await http.post(url, json={"events": [WRONG_DETAIL] * 100})
    assert answer.status_code == 400 and len(answer.content) < 20_000
    pointers = {error["pointer"] for error in answer.json()["errors"]}
    assert "/events/0/detail" in pointers and "/events/0/detail/15" in pointers
    assert "0x" not in answer.text and "function" not in answer.text


@pytest.mark.parametrize("members", [17, 64])
def test_a_detail_with_too_many_members_is_not_looked_into(members: int) -> None:
    detail = {str(i): [] for i in range(members)}
    with pytest.raises(ValidationError, match=f"it has {members} members") as raised:
        SightingsBody.model_validate({"events": [{"type": "tab_hidden", "detail": detail}]})
    assert raised.value.error_count() <= 2


async def test_types_must_be_as_many_as_questions() -> None:
    async with api() as (http, _):
        for change in ({"question_types": ["text"]}, {"questions": None, "question_types": ["text"]}):
            assert (await http.post(f"{BASE}/create", json=BODY | change)).status_code == 400


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{", "application/json"),
        (b'{"name": "\xff"}', "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"name": "\\ud800", "email": "a@example.com"}', "application/json"),
        (b'{"\\ud800": 1}', "application/json"),
        (b'{"max_questions": NaN}', "application/json"),
        (b'{"max_questions": ' + b"9" * 5000 + b"}", "application/json"),
        (b"[]", "application/json"),
        (b"null", "application/json"),
        (b"", "application/json"),
        (b"{}", "text/plain"),
        (b"name=x", "application/x-www-form-urlencoded"),
    ],
)
async def test_what_is_no_json_object_is_a_plain_400(body: bytes, content_type: str) -> None:
    async with api() as (http, _):
        answer = await http.post(f"{BASE}/create", content=body, headers={"Content-Type": content_type})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


async def test_an_international_address_comes_back_as_sent() -> None:
    async with api() as (http, _):
        for email in ("Jörg@Exämple.com", "用户@例子.广告", "A.B+c@Example.COM"):
            answer = await http.post(f"{BASE}/create", json=BODY | {"email": email})
            assert answer.json()["session"]["candidate"]["email"] == email


async def test_times_are_kept_to_the_millisecond_in_utc() -> None:
    async with api() as (http, _):
        answer = await http.post(f"{BASE}/create", json=BODY | {"scheduled_at": "2030-01-01T02:00:00.123+02:00"})
        assert answer.json()["session"]["scheduled_at"] == "2030-01-01T00:00:00.123Z"


async def test_more_questions_than_there_are_means_all() -> None:
    async with api() as (http, _):
        answer = await http.post(f"{BASE}/create", json=BODY | {"max_questions": 1000})
        assert answer.json()["session"]["max_questions"] == 2


async def test_bodies_over_their_limit_are_413_however_they_are_sent() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 2**20

    async with api() as (http, _):
        session_id = (await make(http))["session_id"]
        big = {"question_index": 0, "answer": "é" * 32_769}
        answers = [
            await http.post(f"{BASE}/create", content=b"x" * (4 * 2**20 + 1)),
            await http.post(f"{BASE}/create", content=chunks(), headers={"Transfer-Encoding": "chunked"}),
            await http.post(f"{BASE}/session/{session_id}/answer", json=big),
            await http.post(f"{BASE}/session/{session_id}/end", content=b"x" * (2**20 + 1)),
        ]
    assert [answer.status_code for answer in answers] == [413] * 4
    assert {answer.json()["code"] for answer in answers} == {"too_large"}


async def test_an_answer_of_64_kb_may_be_longer_as_json() -> None:
    body = b'{"question_index": 0, "answer": "' + b"\\u0041" * 65_536 + b'"}'
    async with api() as (http, _):
        session_id = (await make(http))["session_id"]
        url = f"{BASE}/session/{session_id}"
        assert (await http.post(f"{url}/start")).status_code == 200
        headers = {"Content-Type": "application/json"}
        assert (await http.post(f"{url}/answer", content=body, headers=headers)).status_code == 200
