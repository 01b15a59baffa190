"""Proctoring over HTTP: pictures and events that anybody may send, and who sees what of them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import resource
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import httpx
import PIL.Image
import pytest
from skimage import data as photographs

from actors.clock import wall_ms
from actors.still_checker import DAY_MS
from orchestrator.errors import Unavailable
from orchestrator.interview.allowed import ALLOWED_ACTIONS as ALLOWED
from orchestrator.interview.commands import Caller, Consent
from orchestrator.interview.integrity import judged, timeline
from orchestrator.policies import policy
from orchestrator.settings import Settings
from tests.unit.api_world import BASE, MemoryClient, api, make
from tests.unit.test_pictures import animated, file, png_of_size, scene

KEY = {"X-API-Key": "k3y"}
FRAME, REFERENCE = "frame", "reference"
BOTH = pytest.mark.parametrize("call", [FRAME, REFERENCE])


@cache
def face(kind: str = "JPEG", orientation: int = 1) -> bytes:
    """A picture that may serve as reference; one that lies on its side says so in its EXIF."""
    picture = PIL.Image.fromarray(photographs.astronaut()).crop((130, 0, 330, 230))
    if orientation == 6:
        picture = picture.transpose(PIL.Image.Transpose.ROTATE_90)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return file(picture, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))


@cache
def crowd() -> bytes:
    """Two faces."""
    one = PIL.Image.fromarray(photographs.astronaut()).crop((130, 0, 330, 230))
    both = PIL.Image.new("RGB", (400, 230))
    both.paste(one, (0, 0))
    both.paste(one, (200, 0))
    return file(both)


def b64(image: bytes) -> str:
    return base64.b64encode(image).decode()


class World:
    """One session, and the candidate's token for it."""

    def __init__(self, http: httpx.AsyncClient, client: MemoryClient, made: dict[str, Any], key: bool) -> None:
        self.http = http
        self.client = client
        self.session_id: str = made["session_id"]
        self.token = {"Authorization": f"Bearer {made['candidate_token']}"}
        self.staff = KEY if key else {}
        self.url = f"{BASE}/session/{self.session_id}/proctoring"

    async def upload(self, call: str, headers: dict[str, str] | None = None, **how: Any) -> httpx.Response:
        """Send a body as it is to one of the two calls that take pictures."""
        url = "/capture_reference_face" if call == REFERENCE else f"{self.url}/frame"
        return await self.http.post(url, headers={**self.token, **(headers or {})}, **how)

    async def picture(self, call: str, image: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
        return await self.upload(call, headers, json=self.body(call, image=b64(image)))

    def body(self, call: str, **fields: Any) -> dict[str, Any]:
        return ({"session_id": self.session_id} if call == REFERENCE else {}) | fields

    async def send(self, *events: Any, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        content = json.dumps({"events": list(events), **more}).encode()
        kind = {"Content-Type": "application/json"}
        return await self.http.post(
            f"{self.url}/events", content=content, headers={**self.token, **kind, **(headers or {})}
        )

    async def see(self, headers: dict[str, str] | None = None, **query: str) -> dict[str, Any]:
        answer = await self.http.get(self.url, params=query, headers=self.staff if headers is None else headers)
        assert answer.status_code == 200, answer.text
        return answer.json()["proctoring"]

    async def session(self) -> dict[str, Any]:
        return (await self.http.get(f"{BASE}/session/{self.session_id}", headers=self.staff)).json()["session"]

    async def withdraw(self, headers: dict[str, str] | None = None) -> httpx.Response:
        return await self.http.delete(f"{self.url}/pictures", headers=self.token if headers is None else headers)

    async def do(self, what: str, body: Any = None) -> None:
        answer = await self.http.post(f"{BASE}/session/{self.session_id}/{what}", json=body, headers=self.staff)
        assert answer.status_code == 200, answer.text

    def events(self) -> list[dict[str, Any]]:
        journal = self.client.store.journal[self.session_id]
        return [event for entry in journal for event in entry.content()["events"]]

    def sightings(self) -> list[dict[str, Any]]:
        return [event for event in self.events() if event["type"] == "proctoring_event"]


@asynccontextmanager
async def proctored(key: bool = True, start: bool = True, **settings: Any) -> AsyncIterator[World]:
    given = Settings(_env_file=None, **settings)  # pyright: ignore[reportCallIssue]
    async with api(MemoryClient(settings=given, clock=wall_ms), key="k3y" if key else None) as (http, client):
        world = World(http, client, await make(http, **(KEY if key else {})), key)
        if start:
            await world.do("start")
        yield world


def problem(answer: httpx.Response, status: int, *, pointer: str | None = None) -> dict[str, Any]:
    """The problem document; the answer is one, with this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status and body["detail"]
    if pointer is not None:
        assert pointer in [error["pointer"] for error in body["errors"]], body
    return body


def iso(moment: datetime) -> str:
    return moment.isoformat()


# Pictures that are taken


async def test_a_reference_face_and_stills_are_taken() -> None:
    async with proctored() as world:
        answer = await world.picture(REFERENCE, face())
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert told["captured"] is True and told["session_id"] == world.session_id
        assert told["quality"]["faces"] == 1 and told["quality"]["problems"] == []
        assert answer.headers["etag"]
        still = (await world.picture(FRAME, face())).json()
        assert (still["frame"]["verdict"], still["frame"]["faces"], still["frame"]["checked"]) == ("ok", 1, True)
        assert still["next_in_seconds"] == 15.0
        crowded = (await world.picture(FRAME, crowd())).json()
        assert (crowded["frame"]["verdict"], crowded["next_in_seconds"]) == ("multiple_faces", 5.0)


@BOTH
async def test_a_picture_may_come_in_several_ways(call: str) -> None:
    async with proctored(start=call == FRAME) as world:  # later on a candidate's reference face cannot be replaced
        image, fields = face(), world.body(call)
        ways: list[dict[str, Any]] = [
            {"json": world.body(call, image=b64(image))},
            {"json": world.body(call, image=f"data:image/jpeg;base64,{b64(image)}")},
            {"data": fields, "files": {"image": ("face.jpg", image, "image/jpeg")}},
            {"data": {**fields, "image": b64(image)}, "files": {"at": (None, iso(datetime.now(UTC)))}},
        ]
        for way in ways[: 4 if call == FRAME else 3]:
            answer = await world.upload(call, **way)
            assert answer.status_code == 200, answer.text
        if call == FRAME:
            for kind in ("image/jpeg", "application/octet-stream"):
                answer = await world.upload(call, {"Content-Type": kind}, content=image)
                assert answer.status_code == 200, answer.text


async def test_a_picture_on_its_side_gives_what_the_upright_one_does() -> None:
    async with proctored(start=False) as world:
        answers = [(await world.picture(REFERENCE, face("PNG", n))).json() for n in (1, 6)]
        assert answers[0]["quality"] == answers[1]["quality"] and answers[0]["captured"]
        assert (await world.picture(REFERENCE, face("JPEG", 6))).status_code == 200
        await world.do("start")
        frames = [(await world.picture(FRAME, face("PNG", n))).json()["frame"] for n in (1, 6)]
        assert [frame["verdict"] for frame in frames] == ["ok", "ok"]


async def test_a_reference_that_cannot_serve_says_what_to_change() -> None:
    async with proctored() as world:
        for image, code in ((crowd(), "several_faces"), (file(scene(320, 240)), "no_face")):
            body = problem(await world.picture(REFERENCE, image), 400, pointer="/image")
            assert [p["code"] for p in body["quality"]["problems"]] == [code]
            assert "tell the people who invited you" in body["detail"]
        assert world.client.store.faces == {} and [e["type"] for e in world.events()][-1] == "question_opened"


async def test_while_nobody_looks_at_pictures_stills_are_taken_and_references_are_not() -> None:
    async with proctored() as world:
        world.client.pictures.away = Unavailable("away", retry_after=5)
        still = (await world.picture(FRAME, face())).json()
        assert (still["frame"]["checked"], still["frame"]["verdict"]) == (False, None)
        answer = await world.picture(REFERENCE, face())
        assert problem(answer, 503)["code"] == "unavailable" and answer.headers["retry-after"] == "5"


async def test_a_stills_time_is_in_iso_8601_with_its_zone() -> None:
    async with proctored() as world:
        image = b64(face())
        taken = datetime.now(UTC) - timedelta(seconds=20)
        at = (await world.upload(FRAME, json={"image": image, "at": iso(taken)})).json()["frame"]["at"]
        assert abs(datetime.fromisoformat(at) - taken) < timedelta(milliseconds=2)
        for wrong in ("", "yesterday", "2026-05-01T10:00:00", "1900-01-01T00:00:00Z", "1777777777", "x" * 5000):
            problem(await world.upload(FRAME, json={"image": image, "at": wrong}), 400, pointer="/at")
        for wrong in (5, None, ["x"]):
            problem(await world.upload(FRAME, json={"image": image, "at": wrong}), 400, pointer="/at")


async def test_a_still_sent_again_with_its_key_is_taken_once() -> None:
    async with proctored() as world:
        headers = {"Idempotency-Key": "k1"}
        first = await world.picture(FRAME, crowd(), headers)
        again = await world.picture(FRAME, crowd(), headers)
        assert again.json()["frame"]["id"] == first.json()["frame"]["id"]
        assert again.headers["idempotency-replayed"] == "true" and "idempotency-replayed" not in first.headers
        assert problem(await world.picture(FRAME, face(), headers), 422)["code"] == "idempotency_key_reused"


async def test_too_many_stills_are_429() -> None:
    async with proctored() as world:
        assert (await world.picture(FRAME, file(scene()))).status_code == 200
        world.client.pictures._stills._levels[world.session_id] = (0.0, asyncio.get_running_loop().time())
        answer = await world.picture(FRAME, file(scene()))
        problem(answer, 429)
        assert answer.headers["retry-after"] == "2"


# Pictures that are not

BAD: dict[str, tuple[bytes, int]] = {
    "not an image": (b"some text that is long enough to be taken for a file", 415),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'/>", 415),
    "GIF": (file(scene(), "GIF"), 415),
    "empty": (b"", 400),
    "truncated JPEG": (file(scene(640, 480))[:2000], 400),
    "40 megapixel PNG": (png_of_size(8000, 5000), 400),
    "1x1": (file(scene(1, 1), "PNG"), 400),
    "animated WebP": (animated("WEBP"), 400),
    "animated PNG": (animated("PNG"), 400),
    "magic bytes only": (b"\xff\xd8\xff", 400),
    "over 5 MB": (file(scene()) + bytes(5_000_000), 413),
}


@BOTH
@pytest.mark.parametrize(("image", "status"), BAD.values(), ids=BAD.keys())
async def test_a_bad_picture_is_refused_and_nothing_of_it_is_left(call: str, image: bytes, status: int) -> None:
    async with proctored() as world:
        body = problem(await world.picture(call, image), status, pointer="/image" if status == 400 else None)
        assert "Traceback" not in body["detail"]
        assert world.client.store.rows == {} and world.client.store.faces == {}
        told = [event["type"] for event in world.events()]
        assert "reference_captured" not in told
        taken_in = call == FRAME and status == 400 and image != b""  # it was sent, and only its pixels are no good
        assert told.count("consent_given") == taken_in
        assert (await world.picture(call, face())).status_code == 200, "the next one is taken"


@BOTH
async def test_a_large_picture_in_a_small_file_takes_no_memory(call: str) -> None:
    image = png_of_size(8000, 5000)
    assert len(image) < 100_000
    async with proctored(start=call == FRAME) as world:
        assert (await world.picture(call, face())).status_code == 200
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        tracemalloc.start()
        try:
            problem(await world.picture(call, image), 400, pointer="/image")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()  # else it would count for the tests after this one
        assert peak < 10_000_000
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


BODIES: list[tuple[str, Any, int, str | None]] = [
    ("bad base64", {"image": "§§§§"}, 400, "/image"),
    ("base64 with a hole", {"image": "ab cd"}, 400, "/image"),
    ("base64 cut off", {"image": "abcde"}, 400, "/image"),
    ("data URL not in base64", {"image": "data:image/png,abcd"}, 400, "/image"),
    ("data URL without data", {"image": "data:image/png;base64"}, 400, "/image"),
    ("data URL that is empty", {"image": "data:image/png;base64,"}, 400, "/image"),
    ("image missing", {}, 400, "/image"),
    ("image null", {"image": None}, 400, "/image"),
    ("image a number", {"image": 5}, 400, "/image"),
    ("image a list", {"image": ["x"]}, 400, "/image"),
    ("wrong field", {"picture": "abcd", "image": "abcd"}, 400, "/picture"),
    ("field that is no text", {"\ud800": "x", "image": "abcd"}, 400, None),
    ("a list", [], 400, None),
    ("null", None, 400, None),
    ("too large as base64", {"image": "A" * 6_700_000}, 413, None),
]


@BOTH
@pytest.mark.parametrize(
    ("content", "status", "pointer"), [body[1:] for body in BODIES], ids=[body[0] for body in BODIES]
)
async def test_a_bad_body_is_refused(call: str, content: Any, status: int, pointer: str | None) -> None:
    async with proctored() as world:
        sent = world.body(call, **content) if isinstance(content, dict) else content
        headers = {"Content-Type": "application/json"}
        problem(await world.upload(call, headers, content=json.dumps(sent).encode()), status, pointer=pointer)


@BOTH
@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000, b"", b'{"image": ' + b"9" * 5000 + b"}"])
async def test_what_is_no_json_is_400(call: str, content: bytes) -> None:
    async with proctored() as world:
        problem(await world.upload(call, {"Content-Type": "application/json"}, content=content), 400)


@BOTH
async def test_a_body_over_the_limit_is_413_however_it_is_sent(call: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield b"x" * 2**20

    async with proctored() as world:
        for content in (b"x" * (8 * 2**20), chunks()):
            assert problem(await world.upload(call, content=content), 413)["code"] == "too_large"


@BOTH
async def test_bad_multipart_forms_are_400(call: str) -> None:
    async with proctored() as world:
        image, fields = face(), world.body(call)
        problem(await world.upload(call, data=fields, files=[("image", image), ("image", image)]), 400)
        problem(await world.upload(call, data={**fields, "image": "abcd"}, files={"image": image}), 400)
        problem(await world.upload(call, data={**fields, "x": "1"}, files={"image": image}), 400, pointer="/x")
        problem(await world.upload(call, data={**fields, "at": ["1", "2"]}, files={"image": image}), 400)
        problem(await world.upload(call, data=fields, files={"other": image}), 400)
        problem(await world.upload(call, data={f"f{n}": "1" for n in range(9)}, files={"image": image}), 400)
        for kind in ("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=b"):
            for content in (
                b"",
                b"junk",
                b"--b\r\njunk\r\n--b--",
                b'--b\r\nContent-Disposition: form-data; name="image"',
            ):
                problem(await world.upload(call, {"Content-Type": kind}, content=content), 400)


@BOTH
@pytest.mark.parametrize("kind", ["text/plain", "image/gif", "image/svg+xml", "application/x-www-form-urlencoded"])
async def test_another_content_type_is_415(call: str, kind: str) -> None:
    async with proctored() as world:
        problem(await world.upload(call, {"Content-Type": kind}, content=face()), 415)


async def test_a_reference_needs_its_session() -> None:
    async with proctored() as world:
        for body in ({}, {"session_id": ""}, {"session_id": 5}, {"session_id": None}):
            problem(await world.upload(REFERENCE, json={**body, "image": b64(face())}), 400, pointer="/session_id")
        problem(await world.upload(REFERENCE, {"Content-Type": "image/jpeg"}, content=face()), 400)


# Who may send them


@BOTH
async def test_pictures_of_sessions_that_are_not_there_or_have_ended(call: str) -> None:
    async with proctored() as world:
        await world.do("end")
        body = problem(await world.picture(call, face()), 409)
        assert (body["current_status"], body["allowed_actions"]) == ("completed", [*ALLOWED["completed"]])
        world.session_id, world.token = "nobody", KEY
        world.url = f"{BASE}/session/nobody/proctoring"
        problem(await world.picture(call, face()), 404)
        assert world.client.store.rows == {} and world.client.store.faces == {}


@BOTH
async def test_tokens_of_others_and_old_links_are_refused(call: str) -> None:
    async with proctored() as world:
        other = await make(world.http, **KEY)
        headers = {"Authorization": f"Bearer {other['candidate_token']}"}
        problem(await world.picture(call, face(), headers), 403)
        await world.do("link")
        problem(await world.picture(call, face()), 401)
        assert (await world.picture(call, face(), {"Authorization": "", **KEY})).status_code == 200


async def read_of_body(world: World, call: str, headers: dict[str, str]) -> tuple[httpx.Response, int]:
    """The answer to a stranger's 7 MB, and how much of them was read before it."""
    read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(70):
            read += 100_000
            yield b"x" * 100_000

    world.token = {}
    return await world.upload(call, headers, content=chunks()), read


@BOTH
async def test_a_strangers_body_is_not_read(call: str) -> None:
    async with proctored() as world:
        for key in ({}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer a.b.c"}):
            headers = {"Content-Length": "7000000", "Content-Type": "application/json", **key}
            answer, read = await read_of_body(world, call, headers)
            problem(answer, 401)
            assert read <= 100_000, "the transport reads ahead by one"


async def test_a_strangers_body_is_not_read_if_it_is_chunked_either() -> None:
    async with proctored() as world:
        answer, read = await read_of_body(world, FRAME, {"Content-Type": "application/json"})
        problem(answer, 401)
        assert read <= 100_000


@BOTH
async def test_where_consent_is_asked_for_pictures_wait_for_it(call: str) -> None:
    async with proctored(privacy_policy="privacy-3") as world:
        body = problem(await world.picture(call, face()), 409)
        assert (body["current_status"], body["allowed_actions"]) == (
            "in_progress",
            [*ALLOWED["in_progress"]],
        )
        assert world.client.store.rows == {} and world.client.store.faces == {}
        await world.do("consent", {"accepted": True, "policy": "privacy-3"})
        assert (await world.picture(call, face())).status_code == 200


async def test_consent_to_another_policy_is_none() -> None:
    async with proctored(privacy_policy="privacy-3") as world:
        candidate = Caller(f"candidate:{world.session_id}", "candidate")
        await world.client.send(world.session_id, Consent("privacy-2"), candidate)  # the one that was in force then
        for call in (FRAME, REFERENCE):
            assert problem(await world.picture(call, face()), 409)["allowed_actions"] == [*ALLOWED["in_progress"]]
        await world.do("consent", {"accepted": True, "policy": "privacy-3"})
        assert (await world.picture(FRAME, face())).status_code == 200


async def test_where_none_is_asked_for_a_still_is_consent() -> None:
    async with proctored() as world:
        for _ in range(2):
            assert (await world.picture(FRAME, face())).status_code == 200
        assert [event["policy"] for event in world.events() if event["type"] == "consent_given"] == [None]
        last = [e for e in world.client.store.journal[world.session_id] if "consent_given" in str(e.content())][-1]
        assert last.content()["by"].startswith("candidate")


async def test_once_started_only_staff_replace_a_reference() -> None:
    async with proctored(start=False) as world:
        for kind in ("JPEG", "PNG"):
            assert (await world.picture(REFERENCE, face(kind))).status_code == 200, "before the start it is theirs"
        await world.do("start")
        body = problem(await world.picture(REFERENCE, face()), 409)
        assert (body["current_status"], body["allowed_actions"]) == (
            "in_progress",
            [*ALLOWED["in_progress"]],
        )
        assert world.client.store.faces[world.session_id].image == face("PNG")
        assert (await world.picture(REFERENCE, face(), {"Authorization": "", **KEY})).status_code == 200
        assert world.client.store.faces[world.session_id].image == face()


async def test_the_first_reference_may_come_after_the_start() -> None:
    async with proctored() as world:
        assert (await world.picture(REFERENCE, face())).status_code == 200
        problem(await world.picture(REFERENCE, face("PNG")), 409)


# Consent withdrawn


@pytest.mark.parametrize("ended", [False, True])
async def test_whoever_withdraws_consent_has_every_picture_erased(ended: bool) -> None:
    async with proctored() as world:
        await world.picture(REFERENCE, face())
        for _ in range(2):
            await world.picture(FRAME, crowd())
        await asyncio.sleep(0.05)
        kept = [one["id"] for one in (await world.see())["evidence"]]
        if ended:
            await world.do("end")
        answer = await world.withdraw()
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"status": "success", "session_id": world.session_id, "erased": True}
        assert world.client.store.rows == {} and world.client.store.faces == {}
        erased = [event for event in world.events() if event["type"] == "erased"]
        assert [(one["what"], one["because"]) for one in erased] == [
            ("reference", "consent withdrawn"),
            ("stills", "consent withdrawn"),
        ]
        assert len(kept) == 2 and erased[1]["stills"] == kept
        shown = (await world.see())["evidence"]
        assert [(one["available"], one["gone"], one["url"]) for one in shown] == [
            (False, "consent withdrawn", None)
        ] * 2
        problem(await world.http.get(f"{world.url}/reference", headers=KEY), 404)
        state = world.client.states[world.session_id]
        assert state.consent_at is None and state.proctoring.reference_sha256 is None
        assert (await world.withdraw()).status_code == 200, "it can be repeated"
        assert [event for event in world.events() if event["type"] == "erased"] == erased


async def test_consent_that_was_withdrawn_is_asked_for_again() -> None:
    async with proctored(privacy_policy="privacy-3") as world:
        await world.do("consent", {"accepted": True, "policy": "privacy-3"})
        await world.picture(FRAME, face())
        assert (await world.withdraw()).status_code == 200
        for call in (FRAME, REFERENCE):
            assert problem(await world.picture(call, face()), 409)["allowed_actions"] == [*ALLOWED["in_progress"]]
        assert world.client.store.rows == {} and world.client.store.faces == {}
        await world.do("consent", {"accepted": True, "policy": "privacy-3"})
        assert (await world.picture(REFERENCE, face())).status_code == 200, "the one before is gone: it replaces none"


async def test_pictures_are_withdrawn_by_who_takes_part() -> None:
    async with proctored() as world:
        await world.picture(FRAME, face())
        other = await make(world.http, **KEY)
        problem(await world.withdraw({"Authorization": f"Bearer {other['candidate_token']}"}), 403)
        problem(await world.withdraw({}), 401)
        assert len(world.client.store.rows) == 1
        assert (await world.withdraw(KEY)).status_code == 200
        assert world.client.store.rows == {}
        world.url = f"{BASE}/session/nobody/proctoring"
        problem(await world.withdraw(KEY), 404)


async def test_who_is_exempt_from_the_camera_is_not_photographed() -> None:
    async with proctored(start=False) as world:
        url = f"{BASE}/session/{world.session_id}"
        exempt = {"accommodations": {"camera_exempt": True}}
        assert (await world.http.patch(url, json=exempt, headers=KEY)).status_code == 200
        for call in (FRAME, REFERENCE):
            problem(await world.picture(call, face()), 409)
        assert (await world.see())["exemptions"] == ["camera"]


# Events


async def test_events_are_noted_with_who_has_seen_them() -> None:
    async with proctored() as world:
        assert (await world.send({"type": "paste", "detail": "40 characters"})).json()["received"] == 1
        before = world.client.states[world.session_id]
        assert (await world.send()).json()["received"] == 0
        assert (await world.send(headers={"Idempotency-Key": "k0"})).json()["received"] == 0
        assert world.client.states[world.session_id] is before, "an empty list notes nothing"
        await world.send({"type": "tab_hidden", "phase": "began"}, {"type": "custom:phone_rang"}, source="staff")
        headers = {"Authorization": "", **KEY}
        await world.send({"type": "noise", "duration_seconds": 2}, headers=headers, source="staff")
        await world.send({"type": "copy"}, headers=headers)
        noted = [(event["event"], event["source"]) for event in world.sightings()]
        pages = [("paste", "page"), ("custom:phone_rang", "page"), ("tab_hidden", "page")]
        assert noted == [*pages, ("noise", "staff"), ("copy", "page")], "a candidate is not believed to be staff"
        assert world.sightings()[0]["detail"] == {"text": "40 characters"}


SURROGATE = "\ud800"
BAD_EVENTS: list[tuple[str, dict[str, Any], str | None]] = [
    ("unknown type", {"type": "sneezed"}, "/events/0/type"),
    ("type missing", {}, "/events/0/type"),
    ("type with a surrogate", {"type": f"custom:{SURROGATE}"}, "/events/0/type"),
    ("long type", {"type": "custom:" + "x" * 60}, "/events/0/type"),
    ("custom without a name", {"type": "custom:"}, "/events/0/type"),
    ("naive time", {"type": "paste", "at": "2026-05-01T10:00:00"}, "/events/0/at"),
    ("time as number", {"type": "paste", "at": 1_777_000_000}, "/events/0/at"),
    ("time that is none", {"type": "paste", "at": "2026-13-01T10:00:00Z"}, "/events/0/at"),
    ("phase of a moment", {"type": "paste", "phase": "began"}, None),
    ("duration of a moment", {"type": "copy", "duration_seconds": 5}, None),
    ("phase and duration", {"type": "noise", "phase": "began", "duration_seconds": 5}, None),
    ("unknown phase", {"type": "noise", "phase": "middle"}, "/events/0/phase"),
    ("negative duration", {"type": "noise", "duration_seconds": -1}, "/events/0/duration_seconds"),
    ("long duration", {"type": "noise", "duration_seconds": 86_401}, "/events/0/duration_seconds"),
    ("endless duration", {"type": "noise", "duration_seconds": float("inf")}, None),
    ("nested detail", {"type": "paste", "detail": {"a": {"b": 1}}}, None),
    ("list in detail", {"type": "paste", "detail": {"a": [1]}}, None),
    ("NUL in detail", {"type": "paste", "detail": "a\0b"}, None),
    ("NUL in a value", {"type": "paste", "detail": {"a": "\0"}}, None),
    ("NUL in a name", {"type": "paste", "detail": {"\0": "a"}}, None),
    ("surrogate in detail", {"type": "paste", "detail": SURROGATE}, None),
    ("surrogate in a value", {"type": "paste", "detail": {"a": SURROGATE}}, None),
    ("surrogate in a name", {"type": "paste", "detail": {SURROGATE: "a"}}, None),
    ("not a number", {"type": "paste", "detail": {"a": float("nan")}}, None),
    ("long text", {"type": "paste", "detail": "x" * 501}, None),
    ("many details", {"type": "paste", "detail": {str(n): 1 for n in range(17)}}, None),
    ("huge detail", {"type": "paste", "detail": {str(n): "x" * 400 for n in range(6)}}, "/events/0/detail"),
    ("huge number", {"type": "paste", "detail": {"size": 10**3000}}, "/events/0/detail"),
    ("unknown field", {"type": "paste", "severity": "high"}, "/events/0/severity"),
    ("no object", "paste", "/events/0"),  # pyright: ignore[reportAssignmentType]
]


@pytest.mark.parametrize(("event", "pointer"), [e[1:] for e in BAD_EVENTS], ids=[e[0] for e in BAD_EVENTS])
async def test_a_bad_event_is_400_and_none_of_its_call_is_noted(event: Any, pointer: str | None) -> None:
    async with proctored() as world:
        problem(await world.send(event, {"type": "paste"}), 400, pointer=pointer)
        assert world.sightings() == []


async def test_bad_calls_with_events_are_400() -> None:
    async with proctored() as world:
        problem(await world.send(*[{"type": "paste"}] * 101), 400, pointer="/events")
        problem(await world.send(sent_at="2026-05-01T10:00:00"), 400, pointer="/sent_at")
        problem(await world.send(source="frames"), 400, pointer="/source")
        problem(await world.send(more=1), 400, pointer="/more")
        assert (await world.send(*[{"type": "paste"}] * 100)).status_code == 200
        assert [event["count"] for event in world.sightings()] == [100]


async def test_a_wrong_clock_is_put_right_by_when_it_was_sent() -> None:
    async with proctored() as world:
        await asyncio.sleep(0.2)
        wrong = datetime.now(UTC) - timedelta(days=400)
        before = wall_ms()
        await world.send({"type": "paste", "at": iso(wrong - timedelta(seconds=0.1))}, sent_at=iso(wrong))
        [event] = world.sightings()
        assert before - 110 <= event["at"] <= wall_ms() - 90
        created = world.client.states[world.session_id].created_at
        await world.send({"type": "copy", "at": iso(wrong)})
        assert world.sightings()[1]["at"] == created, "without it the time is one that can be"
        await world.send({"type": "copy", "at": "2150-01-01T00:00:00Z"})
        assert world.sightings()[2]["at"] <= wall_ms()


async def test_a_key_sent_again_notes_events_once() -> None:
    async with proctored() as world:
        headers = {"Idempotency-Key": "k1"}
        first = await world.send({"type": "paste"}, headers=headers)
        again = await world.send({"type": "paste"}, headers=headers)
        assert (first.status_code, again.status_code) == (200, 200)
        assert again.headers["idempotency-replayed"] == "true"
        problem(await world.send({"type": "copy"}, headers=headers), 422)
        assert [event["event"] for event in world.sightings()] == ["paste"]
        assert (await world.send({"type": "copy"}, headers={**headers, "Authorization": "", **KEY})).status_code == 200


async def test_events_come_from_who_may_send_them_while_it_runs() -> None:
    async with proctored() as world:
        other = await make(world.http, **KEY)
        problem(await world.send(headers={"Authorization": f"Bearer {other['candidate_token']}"}), 403)
        problem(await world.send(headers={"Authorization": ""}), 401)
        await world.do("end")
        await asyncio.sleep(0.002)  # in the very millisecond of the end they would still be of the interview
        for events in ([{"type": "paste"}], []):
            for headers in ({}, {"Idempotency-Key": f"k{len(events)}"}, {"Authorization": "", **KEY}):
                body = problem(await world.send(*events, headers=headers), 409)
                assert (body["current_status"], body["allowed_actions"]) == (
                    "completed",
                    [*ALLOWED["completed"]],
                )
        assert world.sightings() == []
        world.url = f"{BASE}/session/nobody/proctoring"
        problem(await world.send(headers={"Authorization": "", **KEY}), 404)


# What is seen of it

TEN: list[dict[str, Any]] = [
    {"type": "tab_hidden", "phase": "began"},
    {"type": "focus_lost", "duration_seconds": 0.05},
    {"type": "fullscreen_left", "duration_seconds": 0},
    {"type": "paste", "detail": {"size": 400}},
    {"type": "paste", "detail": {"size": 4000}},
    {"type": "copy"},
    {"type": "second_device"},
    {"type": "noise"},
    {"type": "mic_muted", "phase": "began"},
    {"type": "custom:phone_rang", "detail": "twice"},
    {"type": "second_display", "phase": "began"},
]


async def test_whoever_has_the_journal_can_make_the_figures_again() -> None:
    async with proctored() as world:
        await world.send(*TEN)
        await world.send({"type": "tab_hidden", "phase": "ended"}, {"type": "mic_muted", "phase": "ended"})
        await world.send({"type": "second_display", "phase": "ended"})
        shown = await world.see()
        assert len(shown["events"]) == 10 and shown["integrity"]["score"] < 100
        entries = await world.client.store.entries(world.session_id, 0, 0)
        line = timeline(entries, round(datetime.fromisoformat(shown["as_of"]).timestamp() * 1000))
        again = judged(line, policy("standard-1"))
        assert shown["integrity"] == {
            "score": again.score,
            "label": again.label,
            "policy": "standard-1",
            "confidence": again.confidence,
            "points": {p.kind: p.points for p in again.points},
        }
        assert [(e["id"], e["points"], e["severity"], e["because"]) for e in shown["events"]] == [
            (p.id, p.points, p.severity, p.because) for p in again.points
        ]
        assert round(100 - sum(event["points"] for event in shown["events"]), 2) == again.score
        assert shown["coverage"]["confidence"] == line.coverage.confidence
        assert (await world.session())["proctoring"]["integrity"] is None, "it comes with the end"
        await world.do("end")
        integrity = (await world.session())["proctoring"]["integrity"]
        assert integrity == {"score": again.score, "label": again.label, "policy": "standard-1"}
        assert (await world.see())["integrity"]["score"] == again.score


async def test_candidates_see_their_timeline_without_points() -> None:
    async with proctored() as world:
        await world.send({"type": "paste"})
        staff, candidate = await world.see(), await world.see(world.token)
        assert candidate["events"] and not {"points", "severity", "because"} & set(candidate["events"][0])
        assert {"points", "severity", "because"} < set(staff["events"][0])
        assert not {"integrity", "verdict", "notes"} & set(candidate) and {"integrity", "verdict", "notes"} < set(staff)
        text = json.dumps(candidate)
        assert "score" not in text and "integrity" not in text


async def test_another_policy_is_for_staff() -> None:
    async with proctored() as world:
        assert (await world.see(policy="standard-1"))["integrity"]["policy"] == "standard-1"
        for version, headers, status in (
            ("nothing-9", KEY, 404),
            ("../standard-1", KEY, 404),
            ("x" * 101, KEY, 400),
            ("standard-1", world.token, 403),
            ("nothing-9", world.token, 403),
        ):
            problem(await world.http.get(world.url, params={"policy": version}, headers=headers), status)
        problem(await world.http.get(world.url), 401)
        problem(await world.http.get(f"{BASE}/session/nobody/proctoring", headers=KEY), 404)


async def test_a_candidate_sees_the_timeline_although_the_policy_is_not_here() -> None:
    async with proctored(proctoring_policy="our-own-1") as world:
        assert (await world.http.get(world.url, headers=world.token)).status_code == 200


async def test_pictures_kept_as_evidence_are_for_staff() -> None:
    async with proctored() as world:
        await world.picture(REFERENCE, face())
        for _ in range(2):
            await world.picture(FRAME, crowd())
        await asyncio.sleep(0.05)
        shown = await world.see()
        assert [event["type"] for event in shown["events"]] == ["multiple_faces"]
        assert [one["because"] for one in shown["evidence"]] == ["it shows multiple_faces"] * 2
        one = shown["evidence"][0]
        assert one["available"] and one["bytes"] == len(crowd())
        for url, image in ((one["url"], crowd()), (f"{world.url}/reference", face())):
            answer = await world.http.get(url, headers=KEY)
            assert answer.content == image and answer.headers["content-type"] == "image/jpeg"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert (
                "no-store" in answer.headers["cache-control"] and "sandbox" in answer.headers["content-security-policy"]
            )
            problem(await world.http.get(url, headers=world.token), 403)
            problem(await world.http.get(url), 401)
        assert not {"url", "bytes"} & set((await world.see(world.token))["evidence"][0])
        other = (await make(world.http, **KEY))["session_id"]
        for url in (one["url"].replace(world.session_id, other), f"{world.url}/evidence/nothing"):
            problem(await world.http.get(url, headers=KEY), 404)
        problem(await world.http.get(f"{BASE}/session/{other}/proctoring/reference", headers=KEY), 404)
        await world.client.store.drop_stills([one["id"]])
        gone = (await world.see())["evidence"][0]
        assert (gone["available"], gone["gone"], gone["url"], gone["expires_at"]) == (False, "erased", None, None)


async def test_how_long_evidence_is_kept_is_shown() -> None:
    async with proctored() as world:
        await world.picture(FRAME, face())
        [row] = world.client.store.rows.values()
        assert row.kept == "the first one" and row.expires_at is not None
        assert abs(row.expires_at - wall_ms() - 30 * DAY_MS) < 60_000


# What people make of it


async def test_a_verdict_is_given_by_staff() -> None:
    async with proctored() as world:
        await world.do("end")
        url, body = f"{world.url}/verdict", {"verdict": "cleared", "reason": "It was the cat."}
        problem(await world.http.post(url, json=body, headers=world.token), 403)
        problem(await world.http.post(url, json=body | {"verdict": "guilty"}, headers=KEY), 400, pointer="/verdict")
        problem(await world.http.post(url, json=body | {"reason": "  "}, headers=KEY), 400, pointer="/reason")
        problem(await world.http.post(url, json={"verdict": "cleared"}, headers=KEY), 400, pointer="/reason")
        assert (await world.http.post(url, json=body, headers=KEY)).status_code == 200
        told = (await world.see())["verdict"]
        assert (told["verdict"], told["reason"]) == ("cleared", "It was the cat.") and told["by"]


async def test_a_candidate_objects_also_after_the_end() -> None:
    async with proctored() as world:
        await world.send({"type": "paste"})
        event_id = (await world.see())["events"][0]["id"]
        url, body = f"{world.url}/events/{event_id}/dispute", {"statement": "That was my own text."}
        assert (await world.http.post(url, json=body, headers=world.token)).status_code == 200
        await world.do("end")
        answer = await world.http.post(url, json=body | {"statement": "Again."}, headers=world.token)
        assert answer.status_code == 200, answer.text
        disputes = (await world.see(world.token))["events"][0]["disputes"]
        assert [one["statement"] for one in disputes] == ["That was my own text.", "Again."]
        assert (await world.see())["events"][0]["points"] == 3, "it changes no points"
        for unknown in ("1", "2", str(event_id + 100), str(2**53)):
            problem(await world.http.post(f"{world.url}/events/{unknown}/dispute", json=body, headers=world.token), 404)
        for wrong in ("0", "-1", "x", str(2**53 + 1)):
            problem(await world.http.post(f"{world.url}/events/{wrong}/dispute", json=body, headers=world.token), 400)
        problem(await world.http.post(url, json={"statement": ""}, headers=world.token), 400, pointer="/statement")
        other = await make(world.http, **KEY)
        headers = {"Authorization": f"Bearer {other['candidate_token']}"}
        problem(await world.http.post(url, json=body, headers=headers), 403)


async def test_create_tells_how_the_session_is_proctored() -> None:
    async with proctored(frame_seconds=20) as world:
        told = (await make(world.http, **KEY))["proctoring"]
        assert set(told) == {"session_id", "status", "policy", "watches", "exemptions", "frame_seconds"}
        assert told["session_id"].startswith("proctoring-") and told["status"] == "initialized"
        assert (told["policy"], told["watches"], told["exemptions"]) == ("standard-1", ["camera", "page"], [])
        assert told["frame_seconds"] == 20


async def test_the_docs_describe_the_bodies_with_pictures() -> None:
    async with proctored() as world:
        schema = (await world.http.get("/openapi.json")).json()

        def described(path: str) -> dict[str, Any]:
            return schema["paths"][path]["post"]["requestBody"]["content"]

        frame = described(BASE + "/session/{session_id}/proctoring/frame")
        assert {"application/json", "multipart/form-data", "image/jpeg", "image/png", "image/webp"} <= set(frame)
        assert frame["application/json"]["schema"]["required"] == ["image"]
        reference = described("/capture_reference_face")
        assert set(reference) == {"application/json", "multipart/form-data"}
        assert reference["application/json"]["schema"]["required"] == ["session_id", "image"]
        assert reference["multipart/form-data"]["schema"]["properties"]["image"]["format"] == "binary"


def test_the_pictures_of_these_tests_are_what_they_say() -> None:
    with PIL.Image.open(io.BytesIO(face("PNG", 6))) as picture:
        assert picture.size == (230, 200) and picture.getexif()[0x0112] == 6
