"""Webhooks: endpoints, messages, and when a message is sent again. Signed as Standard Webhooks say.

    an entry of the journal ──notices──> messages, one for each endpoint that wants to know ──> its URL

Messages of one session go to one endpoint in order: the first that is open holds up the others. One that is not taken
is tried again after 5 s, 15 s, 45 s, ... up to an hour, for three days. An endpoint that takes nothing at all is tried
with one message at a time until it takes one, and gets the others then.
"""

from __future__ import annotations

import base64
import json
import random
import re
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self

from standardwebhooks import Webhook

from orchestrator.errors import InvalidInput
from orchestrator.interview.entry import Entry
from orchestrator.interview.outbox import EVENT_TYPES
from orchestrator.interview.view import iso

State = Literal["waiting", "delivered", "failed"]

HOUR_MS = 3_600_000
GIVE_UP_MS = 72 * HOUR_MS
"""How long a message is tried."""
KEEP_MS = 7 * 24 * HOUR_MS
"""How long what became of it can be looked up."""
FIRST_PAUSE_MS, LONGEST_PAUSE_MS = 5_000, HOUR_MS
LONGEST_PROBE_MS = 300_000
JITTER = 0.2
OLD_SECRET_MS = 24 * HOUR_MS
"""For how long messages are signed with the secret before a rotation, too."""
CLOCKS_MS = 2_000
"""How much the clocks of our machines may differ."""
KEPT_ATTEMPTS = 20
EXCERPT = 200
MAX_ENDPOINTS = 20
TEST = "webhook.test"
ENVIRONMENT = "environment"
"""The endpoint that the settings name."""

_SECRET = re.compile(r"whsec_[A-Za-z0-9+/]+=*\Z")
SECRET_BYTES = 24, 64


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where messages go. `events`: which types; empty: all. Times in ms.

    `failing_since`: nothing was taken since. `disabled_because`: why it is not enabled, if it was not by staff.
    """

    id: str
    url: str
    secret: str
    created_at: int
    events: tuple[str, ...] = ()
    description: str = ""
    enabled: bool = True
    old_secret: str | None = None
    rotated_at: int = 0
    failing_since: int | None = None
    disabled_because: str | None = None

    def wants(self, type: str, at: int) -> bool:
        """Whether it is to be told of an event of this type that happened at `at`."""
        return self.enabled and at >= self.created_at - CLOCKS_MS and (not self.events or type in self.events)

    def rotated(self, now: int, secret: str | None = None) -> Endpoint:
        """With a new secret; the old one stays good for a day. Doing it again (the answer was lost) takes nothing away
        from the one that the receiver has."""
        still_good = self.old_secret is not None and now < self.rotated_at + OLD_SECRET_MS
        old = self.old_secret if still_good else self.secret
        return replace(self, secret=secret or new_secret(), old_secret=old, rotated_at=now)

    def failing(self, now: int) -> Endpoint:
        return self if self.failing_since is not None else replace(self, failing_since=now)

    def working(self) -> Endpoint:
        return replace(self, failing_since=None)

    def disabled(self, because: str) -> Endpoint:
        return replace(self, enabled=False, disabled_because=because)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        return cls(**{**content, "events": tuple(content["events"])})


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: when (ms), the status or what went wrong, how long it took (ms), and the beginning of the answer."""

    at: int
    status: int | None
    problem: str | None
    ms: int
    answer: str = ""

    @property
    def succeeded(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """The receiver says that it will never want messages again."""
        return self.status == 410


@dataclass(frozen=True, slots=True)
class Message:
    """What one endpoint is told of one event. `due_at` (ms): when it is tried next; None: others come first, or it is
    over. `since` (ms): since when it is tried. `key`: the same for each try, and for each endpoint."""

    endpoint_id: str
    session_id: str
    seq: int
    type: str
    at: int
    body: str
    since: int
    state: State = "waiting"
    due_at: int | None = None
    tries: int = 0
    attempts: tuple[Attempt, ...] = field(default=())
    ended_at: int | None = None

    @property
    def key(self) -> str:
        """The `webhook-id`."""
        return f"{self.session_id}:{self.seq}"

    @property
    def id(self) -> str:
        return f"{self.lane}:{self.seq}"

    @property
    def lane(self) -> str:
        return f"{self.endpoint_id}:{self.session_id}"

    @property
    def position(self) -> str:
        """Where it stands among those of its endpoint, by time."""
        return f"{self.endpoint_id}:{self.at:013d}:{self.session_id}:{self.seq:08d}"

    @property
    def is_open(self) -> bool:
        return self.state == "waiting"

    @property
    def expires_at(self) -> int:
        """When it is given up, or forgotten."""
        return self.since + GIVE_UP_MS if self.ended_at is None else self.ended_at + KEEP_MS

    def due(self, at: int | None) -> Message:
        return replace(self, due_at=at)

    def again(self, now: int) -> Message:
        """To be sent once more, as if it were new."""
        return replace(self, state="waiting", due_at=now, since=now, tries=0, ended_at=None)

    def tried(self, attempt: Attempt, pause_ms: int) -> Message:
        """After a try: delivered, given up, or due again after `pause_ms`."""
        now = attempt.at + attempt.ms
        tried = replace(self, tries=self.tries + 1, attempts=(*self.attempts, attempt)[-KEPT_ATTEMPTS:])
        if attempt.succeeded:
            return tried.ended("delivered", now)
        if now + pause_ms > self.since + GIVE_UP_MS:
            return tried.ended("failed", now)
        return replace(tried, due_at=now + pause_ms)

    def ended(self, state: State, now: int) -> Message:
        return replace(self, state=state, due_at=None, ended_at=now)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        attempts = tuple(Attempt(**attempt) for attempt in content["attempts"])
        return cls(**{**content, "attempts": attempts})


def messages_of(entry: Entry, endpoints: Iterable[Endpoint], now: int) -> list[Message]:
    """What is to be sent of an entry, to whom."""
    notices = json.loads(entry.deliver)
    found: list[Message] = []
    for endpoint in endpoints:
        for notice in notices:
            if not endpoint.wants(notice["type"], entry.at):
                continue
            body = body_of(
                notice["type"], entry.at, {"session_id": entry.session_id, "seq": notice["seq"]} | notice["data"]
            )
            found.append(
                Message(endpoint.id, entry.session_id, notice["seq"], notice["type"], entry.at, body, since=now)
            )
    return found


def test_message(endpoint: Endpoint, now: int) -> Message:
    """Something to try an endpoint with."""
    body = body_of(TEST, now, {"webhook_id": endpoint.id})
    return Message(endpoint.id, f"test-{secrets.token_hex(8)}", 1, TEST, now, body, since=now, due_at=now)


def body_of(type: str, at: int, data: dict[str, Any]) -> str:
    content = {"type": type, "timestamp": iso(at), "data": data}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def headers_of(endpoint: Endpoint, message: Message, now: int) -> dict[str, str]:
    """Standard Webhooks' headers for a try at `now` (ms)."""
    moment = datetime.fromtimestamp(now // 1000, UTC)
    secrets_ = [endpoint.secret]
    if endpoint.old_secret is not None and now < endpoint.rotated_at + OLD_SECRET_MS:
        secrets_.append(endpoint.old_secret)
    return {
        "webhook-id": message.key,
        "webhook-timestamp": str(now // 1000),
        "webhook-signature": " ".join(Webhook(one).sign(message.key, moment, message.body) for one in secrets_),
    }


def pause_ms(failures: int, longest: int = LONGEST_PAUSE_MS) -> int:
    """How long to wait after so many failures in a row (1 or more), with jitter."""
    pause = min(longest, FIRST_PAUSE_MS * 3 ** min(failures - 1, 20))
    return round(pause * random.uniform(1 - JITTER, 1 + JITTER))  # nosec B311 # no secret


def new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def check_secret(secret: str, pointer: str = "/secret") -> str:
    """Raises InvalidInput for anything but `whsec_` and base64 of 24 to 64 bytes."""
    least, most = SECRET_BYTES
    try:
        size = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) if _SECRET.match(secret) else 0
    except ValueError:
        size = 0
    if not least <= size <= most:
        raise InvalidInput.at(pointer, f"A secret is whsec_ and then {least} to {most} random bytes as base64.")
    return secret


def check_events(events: Iterable[str]) -> tuple[str, ...]:
    """Raises InvalidInput for a type that there is not."""
    wanted = tuple(dict.fromkeys(events))
    for type in wanted:
        if type not in EVENT_TYPES:
            raise InvalidInput.at("/events", f"{type[:64]!r} is no type of event; there are {', '.join(EVENT_TYPES)}.")
    return wanted
