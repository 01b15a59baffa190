"""Makes Parallel_Interview_API.postman_collection.json: every call of the API, in an order that can be run.

    python docs/make_postman.py     writes the file beside this one; a test holds them equal

A request has a name, a call, and what is asked of the answer: its status and expectations in the words of Postman's
`pm.expect`, where `body` is the answer. `keep` puts parts of it into variables that later requests use.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

FILE = Path(__file__).with_name("Parallel_Interview_API.postman_collection.json")
PORTRAIT = Path(__file__).with_name("portrait.jpg")
"""NASA's portrait of Eileen Collins (in the public domain), cut and made small: a face that passes."""

BASE = "/api/parallel_interview"
SESSION = f"{BASE}/session/{{{{session_id}}}}"
PROCTORING = f"{SESSION}/proctoring"
HOOK = f"{BASE}/webhooks/{{{{webhook_id}}}}"
EMAIL = "postman-{{run}}@example.com"

DESCRIPTION = """\
Every call of the API, in an order that can be run from top to bottom, and again: what it makes it removes at the end.

Set `base_url`, and `api_key` if the service has one (it needs the scope admin). Without a key the requests that would
make the first one are skipped, since that would close the service to everybody else. Nothing here harms a service that
is in use: `drain` is sent for taking a node into use, `recover` only shows. `webhook_url` gets one message, a test.
"""
CANDIDATE = {"type": "bearer", "bearer": [{"key": "token", "value": "{{candidate_token}}", "type": "string"}]}
NEW_KEY = {"type": "bearer", "bearer": [{"key": "token", "value": "{{made_key}}", "type": "string"}]}
NOBODY = {"type": "noauth"}
SKIP_WITHOUT_KEY = ["if (!pm.variables.get('api_key')) pm.execution.skipRequest();"]
WAIT_A_MOMENT = ["setTimeout(() => {}, pm.collectionVariables.get('tries') ? 500 : 0);"]
MOST_TRIES = 60


def request(
    name: str,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    *,
    status: int | tuple[int, ...] = 200,
    expect: dict[str, str] | None = None,
    keep: dict[str, str] | None = None,
    auth: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    before: list[str] | None = None,
    until: str | None = None,
    is_json: bool = True,
    about: str = "",
) -> dict[str, Any]:
    """One request. `until`: it is sent again until this is true of the answer. `before`: lines to run before it."""
    given = dict(headers or {})
    if body is not None:
        given = {"Content-Type": "application/json", **given}
    asked: dict[str, Any] = {
        "method": method,
        "header": [{"key": key, "value": value} for key, value in given.items()],
        "url": _url(path),
        "description": about,
    }
    if body is not None:
        text = json.dumps(body, indent=2, ensure_ascii=False)
        asked["body"] = {"mode": "raw", "raw": text, "options": {"raw": {"language": "json"}}}
    if auth is not None:
        asked["auth"] = auth
    script = _script(status, expect or {}, keep or {}, until, is_json)
    events = [_event("test", script)]
    before = [*(before or []), *(WAIT_A_MOMENT if until is not None else [])]
    if before:
        events.insert(0, _event("prerequest", before))
    return {"name": name, "event": events, "request": asked}


def _url(path: str) -> dict[str, Any]:
    way, _, query = path.partition("?")
    url: dict[str, Any] = {
        "raw": f"{{{{base_url}}}}{path}",
        "host": ["{{base_url}}"],
        "path": way.strip("/").split("/"),
    }
    if query:
        url["query"] = [{"key": key, "value": value} for key, value in parse_qsl(query)]
    return url


def _event(listen: str, lines: list[str]) -> dict[str, Any]:
    return {"listen": listen, "script": {"type": "text/javascript", "exec": lines}}


def _script(
    status: int | tuple[int, ...], expect: dict[str, str], keep: dict[str, str], until: str | None, is_json: bool
) -> list[str]:
    codes = status if isinstance(status, tuple) else (status,)
    lines = ["const body = pm.response.json();"] if is_json else []
    if until is not None:
        lines += [
            "const tries = Number(pm.collectionVariables.get('tries') || 0);",
            f"if (!({until}) && tries < {MOST_TRIES}) {{",
            "  pm.collectionVariables.set('tries', tries + 1);",
            "  pm.execution.setNextRequest(pm.info.requestId);",
            "  return;",
            "}",
            "pm.collectionVariables.unset('tries');",
        ]
    names = " or ".join(map(str, codes))
    lines.append(f"pm.test('{names}', () => pm.expect(pm.response.code).to.be.oneOf({list(codes)}));")
    lines += [f"pm.test('{name}', () => {expectation});" for name, expectation in expect.items()]
    lines += [f"pm.collectionVariables.set('{name}', {value});" for name, value in keep.items()]
    return lines


def folder(name: str, *requests: dict[str, Any], about: str = "") -> dict[str, Any]:
    return {"name": name, "description": about, "item": list(requests)}


def is_(what: str, value: str) -> str:
    return f"pm.expect({what}).to.eql({value})"


SERVICE = folder(
    "The service",
    request(
        "It answers",
        "GET",
        "/healthz",
        auth=NOBODY,
        before=["pm.collectionVariables.set('run', Date.now().toString(36));"],
        expect={"it says so": is_("body.status", "'success'")},
        about="`run` makes the names of this run its own.",
    ),
    request(
        "It is ready",
        "GET",
        "/readyz",
        auth=NOBODY,
        expect={
            "the database answers": is_("body.mongodb", "true"),
            "Ray answers": is_("body.ray", "true"),
            "it says how it stands with LiveKit": "pm.expect(body.livekit).to.be.a('string')",
        },
    ),
    request(
        "Figures for Prometheus",
        "GET",
        "/metrics",
        is_json=False,
        expect={"it counts requests": "pm.expect(pm.response.text()).to.include('interview_http_requests_total')"},
    ),
    request(
        "Statistics",
        "GET",
        f"{BASE}/stats",
        expect={
            "it counts sessions": "pm.expect(body.stats).to.include.all.keys('total_sessions', 'initialized_sessions', "
            "'active_sessions', 'completed_sessions', 'average_duration_seconds', 'completion_rate', 'by_end_reason')",
            "it knows its room": "pm.expect(body.stats.capacity).to.be.a('number')",
        },
    ),
    request(
        "The cluster",
        "GET",
        f"{BASE}/cluster",
        expect={"there is a node": "pm.expect(body.cluster.nodes).to.not.be.empty"},
        keep={"node": "body.cluster.nodes.find((one) => one.alive).node"},
    ),
)

JOB = f"{BASE}/jobs/{{{{job_id}}}}"
BANKS = folder(
    "Question banks",
    request(
        "Create a bank",
        "POST",
        f"{BASE}/jobs",
        {
            "job_id": "postman-{{run}}",
            "title": "Backend engineers",
            "questions": [
                {"text": "What is an index?"},
                {"text": "Reverse a list.", "type": "coding", "time_limit_seconds": 600},
            ],
        },
        expect={"it is the first version": is_("body.job.version", "1")},
        keep={"job_id": "body.job.job_id"},
    ),
    request(
        "Create it again",
        "POST",
        f"{BASE}/jobs",
        {"job_id": "{{job_id}}", "title": "Another one", "questions": [{"text": "Q?"}]},
        status=409,
        expect={"the problem says what to do": "pm.expect(body.detail).to.include('PUT')"},
    ),
    request(
        "Replace it",
        "PUT",
        JOB,
        {
            "title": "Backend engineers",
            "pick": 2,
            "shuffle": True,
            "questions": [
                {"text": "What is an index?"},
                {"text": "What is a transaction?"},
                {"text": "Reverse a list.", "type": "coding", "time_limit_seconds": 600},
            ],
        },
        expect={"it is the second version": is_("body.job.version", "2")},
    ),
    request(
        "What it was",
        "GET",
        f"{JOB}?version=1",
        expect={"it had two questions": "pm.expect(body.job.questions).to.have.lengthOf(2)"},
    ),
    request(
        "All banks",
        "GET",
        f"{BASE}/jobs",
        expect={
            "ours and the default are there": "pm.expect(body.jobs.map((job) => job.job_id))"
            ".to.include.members(['default', pm.collectionVariables.get('job_id')])"
        },
    ),
)

CREATE = {
    "name": "Jane Doe",
    "email": EMAIL,
    "questions": ["Why do you want this job?", "Reverse a list."],
    "question_types": ["text", "coding"],
    "metadata": {"made_by": "Postman"},
}
BEFORE = folder(
    "Before the interview",
    request(
        "Create a session",
        "POST",
        f"{BASE}/create",
        CREATE,
        headers={"Idempotency-Key": "postman-{{run}}"},
        expect={
            "it waits": is_("body.session.status_detail", "'waiting'"),
            "it has two questions": is_("body.session.max_questions", "2"),
            "it has links": "pm.expect(body.links).to.have.all.keys('candidate', 'report', 'live')",
            "it says how video stands": "pm.expect(body.livekit.mode).to.be.oneOf(['live', 'fallback'])",
        },
        keep={"session_id": "body.session_id", "candidate_token": "body.candidate_token"},
    ),
    request(
        "Create it again",
        "POST",
        f"{BASE}/create",
        CREATE,
        headers={"Idempotency-Key": "postman-{{run}}"},
        expect={
            "it is the same one": is_("body.session_id", "pm.collectionVariables.get('session_id')"),
            "it says so": is_("pm.response.headers.get('Idempotency-Replayed')", "'true'"),
        },
    ),
    request(
        "Create one with a typing error",
        "POST",
        f"{BASE}/create",
        {"name": "Jane Doe", "email": EMAIL, "question": ["Q1"]},
        status=400,
        expect={
            "it is a problem document": "pm.expect(pm.response.headers.get('Content-Type'))"
            ".to.include('application/problem+json')",
            "it names the field": is_("body.errors[0].pointer", "'/question'"),
        },
    ),
    request(
        "One session",
        "GET",
        SESSION,
        expect={
            "staff see its questions": "pm.expect(body.session.questions).to.have.lengthOf(2)",
            "it has a version": "pm.expect(pm.response.headers.get('ETag')).to.eql(`\"${body.session.version}\"`)",
        },
        keep={"etag": "pm.response.headers.get('ETag')"},
    ),
    request("It has not changed", "GET", SESSION, headers={"If-None-Match": "{{etag}}"}, status=304, is_json=False),
    request(
        "As the candidate sees it",
        "GET",
        SESSION,
        auth=CANDIDATE,
        expect={"no question that is not open": "pm.expect(body.session).to.not.have.property('questions')"},
    ),
    request(
        "Change it",
        "PATCH",
        SESSION,
        {"phone": "+44 20 7946 0000"},
        headers={"If-Match": "{{etag}}"},
        expect={"it is changed": is_("body.session.candidate.phone", "'+44 20 7946 0000'")},
    ),
    request(
        "Change what has changed meanwhile",
        "PATCH",
        SESSION,
        {"phone": ""},
        headers={"If-Match": "{{etag}}"},
        status=412,
        expect={"it says so": is_("body.code", "'stale_version'")},
    ),
    request(
        "Sessions of this address",
        "GET",
        f"{BASE}/sessions?email={EMAIL}&limit=5&include=total",
        expect={
            "it is there, once": is_("[body.count, body.total, body.has_more]", "[1, 1, false]"),
            "it is ours": is_("body.sessions[0].session_id", "pm.collectionVariables.get('session_id')"),
        },
    ),
    request(
        "A new link",
        "POST",
        f"{SESSION}/link",
        expect={"the token is another one": "pm.expect(body.candidate_token).to.be.a('string')"},
        keep={"old_token": "pm.collectionVariables.get('candidate_token')", "candidate_token": "body.candidate_token"},
    ),
    request(
        "The old link is good no more",
        "GET",
        SESSION,
        auth={"type": "bearer", "bearer": [{"key": "token", "value": "{{old_token}}", "type": "string"}]},
        status=401,
        expect={"it says why": "pm.expect(body.detail).to.include('replaced')"},
    ),
    request(
        "The candidate agrees",
        "POST",
        f"{SESSION}/consent",
        {"accepted": True},
        auth=CANDIDATE,
        expect={"it is noted": "pm.expect(body.session.consent_at).to.be.a('string')"},
    ),
    request(
        "A token for the room",
        "POST",
        f"{SESSION}/token",
        auth=CANDIDATE,
        expect={
            "it is for this room": is_("body.livekit.room", "`interview-${pm.collectionVariables.get('session_id')}`"),
            "there is one if there is video": is_("Boolean(body.livekit.token)", "body.livekit.mode === 'live'"),
        },
    ),
    request(
        "The reference face",
        "POST",
        "/capture_reference_face",
        {"session_id": "{{session_id}}", "image": "{{portrait}}"},
        auth=CANDIDATE,
        expect={"it is kept": is_("body.captured", "true")},
    ),
)

INTERVIEW = folder(
    "The interview",
    request(
        "Start",
        "POST",
        f"{SESSION}/start",
        auth=CANDIDATE,
        expect={
            "it is in progress": is_("body.session.status", "'in_progress'"),
            "the first question is open": is_("body.session.current_question.index", "0"),
            "its clock runs": "pm.expect(body.session.current_question.deadline).to.be.a('string')",
        },
    ),
    request(
        "A still of the camera",
        "POST",
        f"{PROCTORING}/frame",
        {"image": "{{portrait}}"},
        auth=CANDIDATE,
        expect={"it has an id": "pm.expect(body.frame.id).to.be.a('string')"},
    ),
    request(
        "What the page has seen",
        "POST",
        f"{PROCTORING}/events",
        {
            "events": [
                {"type": "paste", "detail": {"size": 812}},
                {"type": "tab_hidden", "duration_seconds": 4},
            ]
        },
        auth=CANDIDATE,
        expect={"both are taken": is_("body.received", "2")},
    ),
    request(
        "A draft",
        "PUT",
        f"{SESSION}/draft",
        {"question_index": 0, "draft": "I like eng", "revision": 1},
        auth=CANDIDATE,
        expect={"it is saved": is_("body.saved", "true")},
    ),
    request(
        "Pause",
        "POST",
        f"{SESSION}/pause",
        {"reason": "fire alarm"},
        expect={
            "it is paused": is_("body.session.status_detail", "'paused'"),
            "the clock stands still": is_("body.session.current_question.deadline", "null"),
        },
    ),
    request(
        "An answer while it is paused",
        "POST",
        f"{SESSION}/answer",
        {"question_index": 0, "answer": "I like engines."},
        auth=CANDIDATE,
        status=409,
        expect={"it says what may be done": "pm.expect(body.allowed_actions).to.include('resume')"},
    ),
    request(
        "Resume",
        "POST",
        f"{SESSION}/resume",
        expect={"it goes on": is_("body.session.status_detail", "'question_open'")},
    ),
    request(
        "More time",
        "POST",
        f"{SESSION}/extend",
        {"seconds": 60, "reason": "fire alarm"},
        headers={"Idempotency-Key": "extend-{{run}}"},
        expect={
            "it is in the ledger": is_("body.session.clock.ledger.map((line) => line.cause)", "['extended']"),
            "there is more left": "pm.expect(body.session.current_question.remaining_seconds).to.be.above(120)",
        },
    ),
    request(
        "Answer",
        "POST",
        f"{SESSION}/answer",
        {"question_index": 0, "answer": "I like engines."},
        auth=CANDIDATE,
        expect={
            "it is kept": is_("body.session.answers[0].answer", "'I like engines.'"),
            "the next question is open": is_("body.session.current_question.index", "1"),
        },
    ),
    request(
        "A candidate may not stop the clock",
        "POST",
        f"{SESSION}/pause",
        auth=CANDIDATE,
        status=403,
        expect={"it is forbidden": is_("body.code", "'forbidden'")},
    ),
    request(
        "End",
        "POST",
        f"{SESSION}/end",
        {"reason": "enough was heard"},
        expect={
            "it is completed": is_("body.session.status", "'completed'"),
            "by staff": is_("body.session.end_reason", "'ended_by_staff'"),
        },
    ),
    request(
        "Start what has ended",
        "POST",
        f"{SESSION}/start",
        status=409,
        expect={"it says the state": is_("body.current_status", "'completed'")},
    ),
)

WATCHED = folder(
    "What was seen",
    request(
        "Timeline and score",
        "GET",
        PROCTORING,
        until="body.proctoring.evidence.some((still) => still.available)",
        expect={
            "what the page told is there": "pm.expect(body.proctoring.events.map((one) => one.type))"
            ".to.include.members(['paste', 'tab_hidden'])",
            "points add up": "pm.expect(body.proctoring.integrity.score).to.be.within(0, 100)",
            "it says how much was watched": "pm.expect(body.proctoring.coverage).to.have.property('confidence')",
            "the first still is kept": "pm.expect(body.proctoring.evidence).to.not.be.empty",
        },
        keep={
            "event_id": "body.proctoring.events.find((one) => one.type === 'paste').id",
            "still_id": "body.proctoring.evidence.find((still) => still.available)?.id",
        },
        about="Again and again, until somebody has looked at the still.",
    ),
    request(
        "A still",
        "GET",
        f"{PROCTORING}/evidence/{{{{still_id}}}}",
        is_json=False,
        expect={"it is a picture": is_("pm.response.headers.get('Content-Type')", "'image/jpeg'")},
    ),
    request(
        "The picture of the reference face",
        "GET",
        f"{PROCTORING}/reference",
        is_json=False,
        expect={"it is a picture": is_("pm.response.headers.get('Content-Type')", "'image/jpeg'")},
    ),
    request(
        "The candidate objects",
        "POST",
        f"{PROCTORING}/events/{{{{event_id}}}}/dispute",
        {"statement": "I pasted my own notes."},
        auth=CANDIDATE,
        expect={"the session is answered": is_("body.session.status", "'completed'")},
    ),
    request(
        "What a person makes of it",
        "POST",
        f"{PROCTORING}/verdict",
        {"verdict": "cleared", "reason": "Own notes were allowed."},
        expect={"it is noted": is_("body.session.proctoring.verdict", "'cleared'")},
    ),
)

AFTER = folder(
    "Journal and report",
    request(
        "The journal",
        "GET",
        f"{SESSION}/journal?after=0&limit=100",
        expect={
            "it begins with the beginning": is_("[body.events[0].seq, body.events[0].type]", "[1, 'created']"),
            "it has the end": "pm.expect(body.events.map((event) => event.type)).to.include('completed')",
            "it is in order": "pm.expect(body.events.map((event) => event.seq))"
            ".to.eql(body.events.map((_, index) => index + 1))",
        },
    ),
    request(
        "Its chain",
        "GET",
        f"{SESSION}/journal/verify",
        expect={"it is whole": is_("body.journal.ok", "true")},
    ),
    request(
        "The report",
        "GET",
        "/api/reports/{{session_id}}",
        until="pm.response.code === 200 && !body.report.outdated",
        expect={
            "it tells of the interview": is_("body.report.candidate.name", "'Jane Doe'"),
            "it has the answer": is_("body.report.questions[0].answer", "'I like engines.'"),
            "the journal behind it verifies": is_("body.report.journal.verified", "true"),
        },
        about="202 while it is being made: asked for again.",
    ),
    request(
        "The report as a page",
        "GET",
        "/api/reports/{{session_id}}?format=html",
        is_json=False,
        expect={"it is HTML": "pm.expect(pm.response.headers.get('Content-Type')).to.include('text/html')"},
    ),
    request(
        "What a person decides",
        "POST",
        "/api/reports/{{session_id}}/review",
        {"verdict": "advance", "note": "Clear and to the point."},
        expect={"it is noted": is_("body.review.verdict", "'advance'")},
    ),
)

MANY = folder(
    "Many sessions",
    request(
        "Create several",
        "POST",
        f"{BASE}/sessions/bulk",
        {
            "sessions": [
                {"name": "John Doe", "email": EMAIL, "job_id": "{{job_id}}", "idempotency_key": "{{run}}-1"},
                {"name": "Jim Doe", "email": EMAIL, "job_id": "{{job_id}}", "idempotency_key": "{{run}}-2"},
                {"name": "", "email": "nowhere"},
            ]
        },
        expect={
            "two are made": is_("body.created", "2"),
            "one is not": is_("[body.failed, body.results[2].http_status]", "[1, 400]"),
        },
    ),
    request(
        "Export",
        "GET",
        f"{BASE}/sessions/export?email={EMAIL}&format=csv",
        is_json=False,
        expect={"there is a line for each": "pm.expect(pm.response.text().trim().split('\\n')).to.have.lengthOf(4)"},
    ),
)

WEBHOOKS = folder(
    "Webhooks",
    request(
        "Add one",
        "POST",
        f"{BASE}/webhooks",
        {"url": "{{webhook_url}}", "events": ["review.decided"], "description": "made by Postman"},
        expect={"it has a secret": "pm.expect(body.webhook.secret).to.match(/^whsec_/)"},
        keep={"webhook_id": "body.webhook.webhook_id", "secret": "body.webhook.secret"},
    ),
    request(
        "All of them",
        "GET",
        f"{BASE}/webhooks",
        expect={
            "it is there": "pm.expect(body.webhooks.map((one) => one.webhook_id))"
            ".to.include(pm.collectionVariables.get('webhook_id'))",
            "it says what there is to be told": "pm.expect(body.event_types).to.include('interview.completed')",
        },
    ),
    request(
        "One of them",
        "GET",
        HOOK,
        expect={"its secret is not shown": "pm.expect(body.webhook).to.not.have.property('secret')"},
    ),
    request(
        "Change it",
        "PATCH",
        HOOK,
        {"description": "for the applicant tracking system"},
        expect={"it is changed": is_("body.webhook.description", "'for the applicant tracking system'")},
    ),
    request(
        "Its secret",
        "GET",
        f"{HOOK}/secret",
        expect={"it is the one": is_("body.secret", "pm.collectionVariables.get('secret')")},
    ),
    request(
        "A new secret",
        "POST",
        f"{HOOK}/rotate",
        expect={"it is another one": "pm.expect(body.webhook.secret).to.not.eql(pm.collectionVariables.get('secret'))"},
    ),
    request(
        "Try it",
        "POST",
        f"{HOOK}/test",
        expect={"a test is on its way": is_("body.delivery.type", "'webhook.test'")},
    ),
    request(
        "What was sent",
        "GET",
        f"{HOOK}/deliveries?limit=10",
        expect={"the test is there": "pm.expect(body.deliveries).to.have.lengthOf(1)"},
        keep={"delivery_id": "body.deliveries[0].delivery_id"},
    ),
    request(
        "Send one again",
        "POST",
        f"{HOOK}/deliveries/{{{{delivery_id}}}}/replay",
        status=(200, 409),
        expect={"unless it is being sent just now": "pm.expect(body).to.have.any.keys('delivery', 'detail')"},
    ),
    request(
        "Send what was given up again",
        "POST",
        f"{HOOK}/replay",
        {"since": "2026-01-01T00:00:00Z"},
        expect={"there was nothing": is_("[body.replayed, body.next_since]", "[0, null]")},
    ),
)

KEYS = folder(
    "Staff keys",
    request(
        "All keys",
        "GET",
        f"{BASE}/keys",
        expect={"no secrets": "body.keys.forEach((key) => pm.expect(key).to.not.have.any.keys('secret', 'digest'))"},
    ),
    request(
        "Make one",
        "POST",
        f"{BASE}/keys",
        {"name": "postman", "scopes": ["read"]},
        before=SKIP_WITHOUT_KEY,
        expect={"it is shown, this one time": "pm.expect(body.secret).to.match(/^pik_/)"},
        keep={"key_id": "body.key.key_id", "made_key": "body.secret"},
    ),
    request(
        "It reads",
        "GET",
        f"{BASE}/stats",
        auth=NEW_KEY,
        before=SKIP_WITHOUT_KEY,
        expect={"it says what is left of its rate": "pm.expect(pm.response.headers.has('RateLimit')).to.be.true"},
    ),
    request(
        "It changes nothing",
        "POST",
        f"{BASE}/create",
        CREATE,
        auth=NEW_KEY,
        before=SKIP_WITHOUT_KEY,
        status=403,
        expect={"it says which scope it takes": "pm.expect(body.detail).to.include('manage')"},
    ),
    request(
        "Revoke it",
        "DELETE",
        f"{BASE}/keys/{{{{key_id}}}}",
        before=SKIP_WITHOUT_KEY,
        expect={"it is revoked": is_("body.key.state", "'revoked'")},
    ),
    request(
        "It opens nothing any more",
        "GET",
        f"{BASE}/stats",
        auth=NEW_KEY,
        before=SKIP_WITHOUT_KEY,
        status=401,
        expect={"it says why": "pm.expect(body.detail).to.include('revoked')"},
    ),
    about="Skipped without a key, but for the first: the first key that is made closes the service.",
)

OPERATIONS = folder(
    "Nodes and LiveKit",
    request(
        "Take a node into use",
        "POST",
        f"{BASE}/cluster/drain",
        {"node": "{{node}}", "draining": False},
        expect={"it is in use": is_("[body.draining, body.live_interviews]", "[false, 0]")},
        about="`draining: true` hands its live interviews over and places none there until this is sent.",
    ),
    request(
        "Interviews that nobody holds",
        "POST",
        f"{BASE}/cluster/recover",
        {"dry_run": True},
        expect={"they are only shown": "pm.expect(body.sessions).to.be.an('array')"},
    ),
    request(
        "A webhook that LiveKit did not sign",
        "POST",
        f"{BASE}/livekit/webhook",
        {"event": "participant_joined"},
        auth=NOBODY,
        status=401,
        expect={"it is refused": is_("body.code", "'unauthorized'")},
    ),
)

CLEANING = folder(
    "Cleaning up",
    request(
        "Everything about the candidate",
        "GET",
        f"{BASE}/candidates/export?email={EMAIL}",
        is_json=False,
        expect={"it is an archive": is_("pm.response.headers.get('Content-Type')", "'application/zip'")},
    ),
    request(
        "Consent is withdrawn",
        "DELETE",
        f"{PROCTORING}/pictures",
        auth=CANDIDATE,
        expect={"pictures are erased": is_("body.erased", "true")},
    ),
    request("No picture is left", "GET", f"{PROCTORING}/reference", status=404),
    request(
        "Remove the webhook",
        "DELETE",
        HOOK,
        expect={"it is removed": is_("body.deleted", "true")},
    ),
    request(
        "Remove the bank",
        "DELETE",
        JOB,
        expect={"it is removed": is_("body.deleted", "true")},
    ),
    request(
        "Delete the session",
        "DELETE",
        SESSION,
        expect={"it is deleted": is_("body.deleted", "true")},
    ),
    request("It is gone", "GET", SESSION, status=404, expect={"it says so": is_("body.code", "'not_found'")}),
    request(
        "Erase the candidate",
        "DELETE",
        f"{BASE}/candidates?email={EMAIL}",
        expect={"the other two sessions went": is_("body.erased_sessions", "2")},
    ),
    request(
        "That it was done",
        "GET",
        f"{BASE}/candidates/erasures",
        expect={
            "how many, and not who": "pm.expect(body.erasures.some((one) => one.sessions === 2)).to.be.true",
        },
    ),
)

VARIABLES = {
    "base_url": "http://localhost:8005",
    "api_key": "",
    "webhook_url": "https://example.com/interviews",
    **dict.fromkeys(("run", "session_id", "candidate_token", "job_id", "webhook_id", "delivery_id", "node"), ""),
}


def collection() -> dict[str, Any]:
    """The collection, in Postman's format 2.1."""
    portrait = base64.b64encode(PORTRAIT.read_bytes()).decode()
    return {
        "info": {
            "name": "Parallel Interview API",
            "description": DESCRIPTION,
            "schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json",
        },
        "auth": {
            "type": "apikey",
            "apikey": [
                {"key": "key", "value": "X-API-Key", "type": "string"},
                {"key": "value", "value": "{{api_key}}", "type": "string"},
                {"key": "in", "value": "header", "type": "string"},
            ],
        },
        "item": [
            SERVICE,
            BANKS,
            BEFORE,
            INTERVIEW,
            WATCHED,
            AFTER,
            MANY,
            WEBHOOKS,
            KEYS,
            OPERATIONS,
            CLEANING,
        ],
        "variable": [{"key": key, "value": value} for key, value in {**VARIABLES, "portrait": portrait}.items()],
    }


def text() -> str:
    return json.dumps(collection(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
