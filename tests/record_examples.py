"""Record the examples of /openapi.json from a running service: `python -m tests.record_examples`.

Writes `api/examples.json`: the first good call of each operation, and one problem document of each status. Tokens and
secrets are replaced by others that look like them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from livekit.api import AccessToken

from api.app import create_app
from api.openapi import EXAMPLES
from benchmarks.faces import astronaut, jpeg, photograph
from orchestrator.settings import Settings
from tests.documented import Documented
from tests.servers import serving

KEY = "recording-examples"
API = "/api/parallel_interview"
PUBLIC_URL = "http://localhost:8005"
DASHBOARD_URL = "http://localhost:8265"
WAIT_SECONDS = 30.0
HOOKS_URL = "https://hooks.example.com/interviews"
MADE_UP = {
    r"eyJ[\w-]+\.[\w-]+\.[\w-]+": "eyJhbGciOiJIUzI1NiJ9.eyJ1c2UiOiJjYW5kaWRhdGUifQ.c2lnbmF0dXJl",
    r"whsec_[A-Za-z0-9+/]+=*": "whsec_QW4gZXhhbXBsZSBvZiBhIHNlY3JldCwgbm90IG9uZS4=",
    r"pik_[0-9a-f]{12}_[\w-]{43}": "pik_0123456789ab_" + "An-example-of-a-key-and-not-one".ljust(43, "_"),
}
LIVEKIT = {
    "LIVEKIT_URL": "ws://127.0.0.1:9",
    "LIVEKIT_API_KEY": "recording",
    "LIVEKIT_API_SECRET": "a-secret-of-nobody-and-for-nothing",
}
"""There is no LiveKit there; its webhooks are signed here."""
PICTURE = "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAEBAQ=="
"""In the place of pictures in bodies, which are long."""


class Recorder:
    """Keeps the first answers that it hears."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._documented = Documented(document)
        self.found: dict[str, Any] = {"problems": {}}

    def hear(self, response: httpx.Response) -> None:
        response.read()
        self._documented.check(response)
        name = self._documented.name_of(response.request.method, response.request.url.path)
        kind = response.headers.get("content-type", "")
        if name is None or "json" not in kind or "jsonl" in kind:
            return
        if response.is_error:
            self.found["problems"].setdefault(str(response.status_code), response.json())
        elif response.status_code == 200 and name not in self.found:
            self.found[name] = _request(response.request) | {"response": response.json()}


def _request(request: httpx.Request) -> dict[str, Any]:
    if not request.headers.get("content-type", "").endswith("json") or not request.content:
        return {}
    body: Any = json.loads(request.content)
    return {"request": body | {"image": PICTURE} if "image" in body else body}


def main() -> None:
    recorder = Recorder(create_app(Settings(_env_file=None)).openapi())  # pyright: ignore[reportCallIssue]
    for drive, settings in ((_drive, {}), (_livekit, LIVEKIT)):
        settings = settings | {
            "INTERVIEW_API_KEY": KEY,
            "INTERVIEW_PUBLIC_URL": PUBLIC_URL,
            "INTERVIEW_RAY_DASHBOARD_URL": DASHBOARD_URL,
        }
        with tempfile.TemporaryDirectory() as folder, serving(Path(folder), None, **settings) as service:
            hooks: dict[str, list[Callable[..., Any]]] = {"response": [recorder.hear]}
            with httpx.Client(base_url=service.url, headers={"X-API-Key": KEY}, event_hooks=hooks, timeout=30) as http:
                drive(http)
    text = json.dumps(dict(sorted(recorder.found.items())), ensure_ascii=False, indent=1)
    for pattern, instead in MADE_UP.items():
        text = re.sub(pattern, instead, text)
    EXAMPLES.write_text(text + "\n")


def _drive(http: httpx.Client) -> None:
    _operations(http)
    _jobs(http)
    _interview(http)
    _webhooks(http)
    _keys(http)
    _people(http)
    _problems(http)


def _key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


def _operations(http: httpx.Client) -> None:
    for path in ("/healthz", "/readyz", f"{API}/stats"):
        http.get(path)
    node = http.get(f"{API}/cluster").json()["cluster"]["nodes"][0]["node"]
    http.post(f"{API}/cluster/drain", json={"node": node, "draining": False})
    http.post(f"{API}/cluster/recover", json={"dry_run": True})


def _jobs(http: httpx.Client) -> None:
    questions = [
        {"text": "What is an index?"},
        {"text": "Reverse a list.", "type": "coding", "time_limit_seconds": 600},
    ]
    job = {"job_id": "backend", "title": "Backend engineers", "questions": questions, "pick": 2, "shuffle": True}
    http.post(f"{API}/jobs", json=job, headers=_key())
    http.get(f"{API}/jobs")
    http.get(f"{API}/jobs/backend")
    http.put(f"{API}/jobs/backend", json={**job, "title": "Backend engineers, 2026"})


def _interview(http: httpx.Client) -> None:
    body = {
        "name": "Ada Lovelace",
        "email": "ada@example.com",
        "questions": ["What is an index?", "Reverse a list.", "Tell us about an outage."],
        "question_types": ["text", "coding", "text"],
        "metadata": {"recruiter": "Grace"},
    }
    made = http.post(f"{API}/create", json=body, headers=_key()).json()
    session_id = made["session_id"]
    session = f"{API}/session/{session_id}"
    http.patch(session, json={"phone": "+44 20 7946 0000", "accommodations": {"time_multiplier": 1.5}})
    http.post(f"{session}/consent", json={"accepted": True}, headers=_key())
    http.post(f"{session}/token", json={"role": "candidate"})
    face = jpeg(astronaut())
    _until(lambda: http.post("/capture_reference_face", files={"image": face}, data={"session_id": session_id}), 200)
    http.post(f"{session}/start", json={}, headers=_key())
    http.get(session)
    http.put(f"{session}/draft", json={"question_index": 0, "draft": "A structure that", "revision": 1})
    answer = {"question_index": 0, "answer": "A structure that finds rows without reading all of them."}
    http.post(f"{session}/answer", json=answer, headers=_key())
    http.post(f"{session}/extend", json={"seconds": 60, "reason": "The network was slow."}, headers=_key())
    http.post(f"{session}/pause", json={"reason": "A short break."}, headers=_key())
    http.post(f"{session}/resume", json={}, headers=_key())
    _proctoring(http, session, face)
    code = {"question_index": 1, "answer": "items[::-1]", "language": "python"}
    http.post(f"{session}/answer", json=code, headers=_key())
    http.get(f"{API}/sessions", params={"limit": 1})
    http.get(f"{API}/sessions/export")
    http.post(f"{session}/end", json={"reason": "Time is up."}, headers=_key())
    _until(lambda: http.get(f"/api/reports/{session_id}"), 200)
    http.post(
        f"/api/reports/{session_id}/review", json={"verdict": "advance", "note": "Clear answers."}, headers=_key()
    )
    http.get(f"{session}/journal")
    http.get(f"{session}/journal/verify")
    http.post(f"{session}/link", json={}, headers=_key())
    http.request("DELETE", f"{session}/proctoring/pictures")


def _proctoring(http: httpx.Client, session: str, face: bytes) -> None:
    seen = {"events": [{"type": "tab_hidden", "duration_seconds": 12.5}, {"type": "paste", "detail": {"size": 240}}]}
    http.post(f"{session}/proctoring/events", json=seen, headers=_key())
    for picture in (face, jpeg(photograph("coffee"))):
        _until(lambda picture=picture: http.post(f"{session}/proctoring/frame", content=picture, headers=_jpeg()), 200)
    _until(lambda: http.get(f"{session}/proctoring"), 200, lambda body: bool(body["proctoring"]["evidence"]))
    event = http.get(f"{session}/proctoring").json()["proctoring"]["events"][0]["id"]
    statement = {"statement": "A notification took the focus."}
    http.post(f"{session}/proctoring/events/{event}/dispute", json=statement, headers=_key())
    verdict = {"verdict": "cleared", "reason": "Looked at; nothing to see."}
    http.post(f"{session}/proctoring/verdict", json=verdict, headers=_key())


def _jpeg() -> dict[str, str]:
    return {"Content-Type": "image/jpeg", **_key()}


def _webhooks(http: httpx.Client) -> None:
    hooks = f"{API}/webhooks"
    body = {"url": HOOKS_URL, "events": ["interview.completed"], "description": "The tracker"}
    name = http.post(hooks, json=body, headers=_key()).json()["webhook"]["webhook_id"]
    http.get(hooks)
    http.get(f"{hooks}/{name}")
    http.get(f"{hooks}/{name}/secret")
    http.post(f"{hooks}/{name}/test")
    deliveries = http.get(f"{hooks}/{name}/deliveries").json()["deliveries"]
    http.patch(f"{hooks}/{name}", json={"enabled": False})
    http.post(f"{hooks}/{name}/rotate", json={})
    http.post(f"{hooks}/{name}/replay", json={"since": "2026-05-01T09:00:00Z"})
    _until(lambda: http.post(f"{hooks}/{name}/deliveries/{deliveries[0]['delivery_id']}/replay"), 200)
    http.delete(f"{hooks}/{name}")


def _keys(http: httpx.Client) -> None:
    body = {"name": "the tracker", "scopes": ["manage"], "expires_at": "2099-12-31T00:00:00Z"}
    key = http.post(f"{API}/keys", json=body, headers=_key()).json()["key"]["key_id"]
    http.get(f"{API}/keys")
    http.delete(f"{API}/keys/{key}")


def _people(http: httpx.Client) -> None:
    many = [{"name": "Grace", "email": "grace@example.com"}, {"name": "", "email": "nobody"}]
    made = http.post(f"{API}/sessions/bulk", json={"sessions": many}, headers=_key()).json()
    http.delete(f"{API}/session/{made['results'][0]['session_id']}")
    http.delete(f"{API}/candidates", params={"email": "ada@example.com"})
    http.get(f"{API}/candidates/erasures")
    http.delete(f"{API}/jobs/backend")


def _problems(http: httpx.Client) -> None:
    body: dict[str, Any] = {"name": "Ada", "email": "ada@example.com", "questions": ["Why?"]}
    key = _key()
    made = http.post(f"{API}/create", json=body, headers=key).json()
    session = f"{API}/session/{made['session_id']}"
    http.post(f"{API}/create", json={**body, "emial": "ada@example.com"})
    http.post(f"{API}/create", json={**body, "name": "Grace"}, headers=key)
    http.get(session, headers={"X-API-Key": "wrong"})
    bearer = {"Authorization": f"Bearer {made['candidate_token']}", "X-API-Key": ""}
    http.get(f"{session}/journal", headers=bearer)
    http.get(f"{API}/session/{uuid.uuid4()}")
    http.post(f"{session}/answer", json={"question_index": 0, "answer": "Because."})
    http.patch(session, json={"phone": "1"}, headers={"If-Match": '"77"'})
    http.put(f"{session}/draft", json={"question_index": 0, "draft": "x" * 70_000})
    http.post(f"{session}/proctoring/frame", content=b"no picture", headers=_jpeg())
    _until(lambda: http.get(session, headers={"X-API-Key": "wrong"}), 429)


def _livekit(http: httpx.Client) -> None:
    made = http.post(f"{API}/create", json={"name": "Ada", "email": "ada@example.com"}).json()["livekit"]
    event = {
        "event": "participant_joined",
        "id": "EV_example",
        "createdAt": "1767225600",
        "room": {"name": made["room"]},
        "participant": {"sid": "PA_example", "identity": made["participant"]},
    }
    body = json.dumps(event).encode()
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    signed = AccessToken(LIVEKIT["LIVEKIT_API_KEY"], LIVEKIT["LIVEKIT_API_SECRET"]).with_sha256(digest).to_jwt()
    headers = {"Authorization": signed, "Content-Type": "application/webhook+json"}
    http.post(f"{API}/livekit/webhook", content=body, headers=headers)


def _until(
    call: Callable[[], httpx.Response], status: int, done: Callable[[dict[str, Any]], bool] = lambda body: True
) -> None:
    give_up = time.monotonic() + WAIT_SECONDS
    while (answer := call()).status_code != status or not done(answer.json()):
        assert time.monotonic() < give_up, answer.text
        time.sleep(0.2 if status != 429 else 0)


if __name__ == "__main__":
    main()
