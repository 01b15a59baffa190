"""Every call of the service, as a value: method, path, body, and what is read from its answer. Nothing is sent here.

A function here is a method of `Client` and `AsyncClient`, with the same parameters. `key` is the Idempotency-Key of a
POST; without one each call gets a fresh one. `if_match` is the version of the session that the caller has seen.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar, Unpack, cast
from urllib.parse import quote

from parallel_interview_client import types as t
from parallel_interview_client.errors import UnexpectedAnswer

T = TypeVar("T")

BASE = "/api/parallel_interview"
MOST_AT_ONCE = 1_000
"""Sessions that one `create_many` takes."""
REPORT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """`waits_seconds`: for how long 202 means "ask again". `removes`: a repeat that finds nothing any more has
    succeeded."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    read: Callable[[t.Json], T]
    body: Mapping[str, object] | None = None
    key: str | None = None
    if_match: int | None = None
    if_none_match: int | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    waits_seconds: float | None = None
    removes: bool = False

    @property
    def content(self) -> bytes | None:
        """The body as it is sent."""
        if self.body is None:
            return None
        return json.dumps(self.body, default=_moment, ensure_ascii=False, allow_nan=False).encode()

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice can do no harm and tell no untruth."""
        return self.method != "PATCH" or self.if_match is None


# --- sessions


def create(name: str, email: str, *, key: str | None = None, **details: Unpack[t.Details]) -> Call[t.Created]:
    """Make a session. Neither `questions` nor `job_id`: those of the job `default` are asked."""
    return Call("POST", f"{BASE}/create", _whole, {"name": name, "email": email, **details}, key)


def create_many(sessions: Sequence[t.NewSession], *, dry_run: bool = False, key: str | None = None) -> Call[t.Outcomes]:
    """Make up to 1,000 sessions, each with its own outcome, in order. `dry_run`: only say what is wrong with them."""
    body: t.Json = {"sessions": list(sessions), "dry_run": dry_run}
    return Call("POST", f"{BASE}/sessions/bulk", _whole, body, key)


def session_page(
    *, limit: int = 50, cursor: str | None = None, total: bool = False, **filters: Unpack[t.Filters]
) -> Call[t.Page]:
    """One page of sessions, newest first; `next_cursor` leads to the next one. `sessions` goes through all of them."""
    asked = {"limit": limit, "cursor": cursor, "include": "total" if total else None, **filters}
    return Call("GET", f"{BASE}/sessions", _whole, params=_query(asked))


def session(session_id: str) -> Call[t.Session]:
    """One session. `send(...)` of this call gives its version with it."""
    return Call("GET", _session(session_id), _member("session"))


def session_if_changed(session_id: str, version: int) -> Call[t.Session | None]:
    """The session, or None while it has this version still."""
    return Call("GET", _session(session_id), _member("session"), if_none_match=version)


def update(session_id: str, *, if_match: int | None = None, **changes: Unpack[t.Changes]) -> Call[t.Session]:
    """Change a session that has not started."""
    return Call("PATCH", _session(session_id), _member("session"), dict(changes), if_match=if_match)


def start(session_id: str, *, key: str | None = None, if_match: int | None = None) -> Call[t.Session]:
    """Open the first question; again: nothing changes."""
    return _command(session_id, "start", {}, key, if_match)


def answer(
    session_id: str,
    question_index: int,
    answer: str,
    language: str | None = None,
    *,
    key: str | None = None,
    if_match: int | None = None,
) -> Call[t.Session]:
    """Answer the open question: the next one opens, and the last answer completes the session."""
    body: t.Json = {"question_index": question_index, "answer": answer}
    return _command(session_id, "answer", body | _given(language=language), key, if_match)


def draft(session_id: str, question_index: int, draft: str, revision: int | None = None) -> Call[t.Draft]:
    """Keep the text in progress; it becomes the answer when time runs out. A lower revision changes nothing."""
    body: t.Json = {"question_index": question_index, "draft": draft}
    return Call("PUT", f"{_session(session_id)}/draft", _whole, body | _given(revision=revision))


def end(
    session_id: str, reason: str | None = None, *, key: str | None = None, if_match: int | None = None
) -> Call[t.Session]:
    """End a session, whatever its state."""
    return _command(session_id, "end", _given(reason=reason), key, if_match)


def pause(
    session_id: str, reason: str | None = None, *, key: str | None = None, if_match: int | None = None
) -> Call[t.Session]:
    """Staff: stop the clock."""
    return _command(session_id, "pause", _given(reason=reason), key, if_match)


def resume(session_id: str, *, key: str | None = None, if_match: int | None = None) -> Call[t.Session]:
    """Staff: let the clock go on."""
    return _command(session_id, "resume", {}, key, if_match)


def extend(
    session_id: str, seconds: float, reason: str, *, key: str | None = None, if_match: int | None = None
) -> Call[t.Session]:
    """Staff: more time for the open question."""
    return _command(session_id, "extend", {"seconds": seconds, "reason": reason}, key, if_match)


def link(session_id: str, *, key: str | None = None, if_match: int | None = None) -> Call[t.Link]:
    """Staff: a new candidate link; older ones stop working."""
    return Call("POST", f"{_session(session_id)}/link", _whole, {}, key, if_match)


def token(
    session_id: str, role: Literal["candidate", "observer"] = "candidate", *, key: str | None = None
) -> Call[t.Ticket]:
    """A fresh token for the LiveKit room. `observer` (staff with the scope proctor) is hidden, and only looks and
    listens."""
    return Call("POST", f"{_session(session_id)}/token", _member("livekit"), {"role": role}, key)


def consent(session_id: str, policy: str | None = None, *, key: str | None = None) -> Call[t.Session]:
    """The candidate agrees to the privacy policy."""
    return _command(session_id, "consent", {"accepted": True} | _given(policy=policy), key, None)


def delete(session_id: str, *, if_match: int | None = None) -> Call[None]:
    """Remove a session for good, ending it first if it is live."""
    return Call("DELETE", _session(session_id), _nothing, if_match=if_match, removes=True)


def journal(session_id: str, after: int = 0, limit: int = 500) -> Call[list[t.Event]]:
    """The session's events after `after`, in order, at most `limit`."""
    asked = _query({"after": after, "limit": limit})
    return Call("GET", f"{_session(session_id)}/journal", _member("events"), params=asked)


def verify(session_id: str) -> Call[t.Verified]:
    """Whether the chain over the session's journal is whole."""
    return Call("GET", f"{_session(session_id)}/journal/verify", _member("journal"))


def stats() -> Call[t.Stats]:
    """Sessions by state and end reason, and what the cluster holds."""
    return Call("GET", f"{BASE}/stats", _member("stats"))


# --- question banks


def jobs() -> Call[list[t.Job]]:
    """All question banks."""
    return Call("GET", f"{BASE}/jobs", _member("jobs"))


def job(job_id: str, version: int | None = None) -> Call[t.Job]:
    """One question bank, as it is or as it was in an older version."""
    return Call("GET", _job(job_id), _member("job"), params=_query({"version": version}))


def create_job(
    job_id: str,
    title: str,
    questions: Sequence[t.JobQuestion],
    *,
    key: str | None = None,
    **options: Unpack[t.JobOptions],
) -> Call[t.Job]:
    """A new question bank."""
    body: t.Json = {"job_id": job_id, "title": title, "questions": list(questions), **options}
    return Call("POST", f"{BASE}/jobs", _member("job"), body, key)


def replace_job(
    job_id: str, title: str, questions: Sequence[t.JobQuestion], **options: Unpack[t.JobOptions]
) -> Call[t.Job]:
    """A new version of a question bank; sessions keep the questions that they have."""
    body: t.Json = {"title": title, "questions": list(questions), **options}
    return Call("PUT", _job(job_id), _member("job"), body)


def delete_job(job_id: str) -> Call[None]:
    """Remove a question bank."""
    return Call("DELETE", _job(job_id), _nothing, removes=True)


# --- reports and proctoring


def report(session_id: str, wait_seconds: float = REPORT_SECONDS) -> Call[t.Report]:
    """The report of a completed interview; while it is being made it is asked for again, for `wait_seconds` at most.

    Raises NotReady if it is not there then.
    """
    return Call("GET", f"/api/reports/{quote(session_id, safe='')}", _member("report"), waits_seconds=wait_seconds)


def review(session_id: str, verdict: t.Decision, note: str, *, key: str | None = None) -> Call[t.Reviewed]:
    """Staff: what a person decides, having read the report."""
    body: t.Json = {"verdict": verdict, "note": note}
    return Call("POST", f"/api/reports/{quote(session_id, safe='')}/review", _whole, body, key)


def capture_reference_face(session_id: str, image: bytes, *, key: str | None = None) -> Call[t.Captured]:
    """Keep the face that stills are compared with. `image`: a JPEG, PNG or WebP with one face.

    Raises BadRequest that says what is wrong with the picture.
    """
    body: t.Json = {"session_id": session_id, "image": base64.b64encode(image).decode()}
    return Call("POST", "/capture_reference_face", _whole, body, key)


def proctoring_events(
    session_id: str, events: Iterable[t.Sighting], *, sent_at: str | datetime | None = None, key: str | None = None
) -> Call[t.Received]:
    """What a page has seen, at most 100 events. `sent_at`: the sender's clock now, so that one that is wrong is put
    right."""
    body: t.Json = {"events": list(events)} | _given(sent_at=sent_at)
    return Call("POST", f"{_session(session_id)}/proctoring/events", _whole, body, key)


def proctoring(session_id: str, policy: str | None = None) -> Call[t.Timeline]:
    """The timeline, evidence and coverage, and for staff the score, by another policy if one is named."""
    asked = _query({"policy": policy})
    return Call("GET", f"{_session(session_id)}/proctoring", _member("proctoring"), params=asked)


# --- webhooks and keys


def webhooks() -> Call[list[t.Webhook]]:
    """Who is told of what happens."""
    return Call("GET", f"{BASE}/webhooks", _member("webhooks"))


def add_webhook(
    url: str, events: Sequence[str] = (), description: str = "", secret: str | None = None, *, key: str | None = None
) -> Call[t.Webhook]:
    """Tell an address of what happens from now on; its `secret` signs the messages. `events`: none are all."""
    body: t.Json = {"url": url, "events": list(events), "description": description}
    return Call("POST", f"{BASE}/webhooks", _member("webhook"), body | _given(secret=secret), key)


def delete_webhook(webhook_id: str) -> Call[None]:
    """Tell an address no more."""
    return Call("DELETE", f"{BASE}/webhooks/{quote(webhook_id, safe='')}", _nothing, removes=True)


def keys() -> Call[list[t.StaffKey]]:
    """All staff keys that were ever made, without their secrets."""
    return Call("GET", f"{BASE}/keys", _member("keys"))


def create_key(
    name: str, scopes: Sequence[t.Scope], expires_at: str | datetime | None = None, *, key: str | None = None
) -> Call[t.NewKey]:
    """A new staff key. `secret` is shown this once, and is None if a repeat has found the key made already."""
    body: t.Json = {"name": name, "scopes": list(scopes)}
    return Call("POST", f"{BASE}/keys", _whole, body | _given(expires_at=expires_at), key)


def revoke_key(key_id: str) -> Call[t.StaffKey]:
    """From now on this key opens nothing; again: nothing changes."""
    return Call("DELETE", f"{BASE}/keys/{quote(key_id, safe='')}", _member("key"))


# --- the parts of them


def _command(session_id: str, what: str, body: t.Json, key: str | None, if_match: int | None) -> Call[t.Session]:
    return Call("POST", f"{_session(session_id)}/{what}", _member("session"), body, key, if_match)


def _session(session_id: str) -> str:
    return f"{BASE}/session/{quote(session_id, safe='')}"


def _job(job_id: str) -> str:
    return f"{BASE}/jobs/{quote(job_id, safe='')}"


def _given(**members: object) -> t.Json:
    return {name: value for name, value in members.items() if value is not None}


def _query(asked: Mapping[str, object]) -> dict[str, str]:
    told = _given(**asked)
    return {name: _moment(one) if isinstance(one, datetime) else str(one) for name, one in told.items()}


def _moment(value: object) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"{type(value).__name__} is not JSON")
    return value.isoformat()


def _whole(body: t.Json) -> Any:
    return body


def _nothing(body: t.Json) -> None:
    return None


def _member(name: str) -> Callable[[t.Json], Any]:
    def read(body: t.Json) -> Any:
        if name not in body:
            raise UnexpectedAnswer(f"The answer has no member {name!r}; what answers there is not this service.")
        return cast(Any, body[name])

    return read
