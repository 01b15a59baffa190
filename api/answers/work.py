"""Jobs, webhooks, keys, and what operators look at."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.answers.common import Answer, Count, Deleted, Seconds, SessionId, Success, Time, sometimes, text
from orchestrator.interview.outbox import EVENT_TYPES
from orchestrator.keys import Scope

WebhookEvent = Annotated[str, text(enum=list(EVENT_TYPES))]
JobId = Annotated[str, text(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
WebhookId = Annotated[str, text(pattern="^(wh_[0-9a-f]{16}|environment)$")]
SigningSecret = Annotated[str, text(pattern="^whsec_[A-Za-z0-9+/]+=*$")]


class Drawn(Answer):
    """How questions were taken from a job: anybody can draw them again."""

    version: Annotated[int, Field(ge=1)]
    pick: Annotated[int, Field(ge=1)] | None
    shuffle: bool
    seed: Count


class BankQuestion(Answer):
    text: str
    type: Literal["text", "coding"]
    time_limit_seconds: Annotated[float, Field(ge=5, le=7_200)] = sometimes()


class Job(Answer):
    job_id: JobId
    title: str
    questions: Annotated[list[BankQuestion], Field(min_length=1, max_length=200)]
    pick: Annotated[int, Field(ge=1, le=200)] | None
    shuffle: bool
    version: Annotated[int, Field(ge=1)]
    created_at: Time | None
    updated_at: Time | None


class JobAnswer(Success):
    job: Job


class JobList(Success):
    jobs: list[Job]
    count: Count


class JobDeleted(Deleted):
    job_id: JobId


class Webhook(Answer):
    """`failing_since`: nothing was taken since. `disabled_because`: why it is not enabled, if it was not by staff."""

    webhook_id: WebhookId
    url: str
    events: list[WebhookEvent]
    description: str
    enabled: bool
    disabled_because: str | None
    failing_since: Time | None
    created_at: Time


class WebhookWithSecret(Webhook):
    secret: SigningSecret


class WebhookAnswer(Success):
    webhook: Webhook


class WebhookMade(Success):
    webhook: WebhookWithSecret


class WebhookList(Success):
    webhooks: list[Webhook]
    count: Count
    event_types: list[WebhookEvent]


class WebhookDeleted(Deleted):
    webhook_id: WebhookId


class SecretAnswer(Success):
    webhook_id: WebhookId
    secret: SigningSecret


class Attempt(Answer):
    """One try: the status, or what went wrong; how long it took; the beginning of the answer."""

    at: Time
    status: Annotated[int, Field(ge=100, le=999)] | None
    problem: str | None
    ms: Count
    answer: str


class Delivery(Answer):
    """What one endpoint is told of one event. `message_id` is the `webhook-id`; `body` is sent as it is."""

    delivery_id: str
    message_id: str
    session_id: str
    type: str
    state: Literal["waiting", "delivered", "failed"]
    at: Time
    next_try_at: Time | None
    tries: Count
    ended_at: Time | None
    attempts: Annotated[list[Attempt], Field(max_length=20)]
    body: str


class DeliveryAnswer(Success):
    delivery: Delivery


class DeliveryList(Success):
    deliveries: list[Delivery]
    count: Count
    has_more: bool
    next_cursor: str | None


class ReplayAnswer(Success):
    """`next_since`: where to go on; null when that was all."""

    replayed: Count
    next_since: Time | None


class Key(Answer):
    key_id: Annotated[str, text(pattern="^[0-9a-f]{12}$")]
    name: str
    scopes: list[Scope]
    state: Literal["good", "revoked", "expired"]
    created_at: Time
    created_by: str
    expires_at: Time | None
    revoked_at: Time | None
    revoked_by: str | None


class KeyMade(Success):
    """`secret` is the whole key, and null in the answer to a repeated call."""

    key: Key
    secret: Annotated[str, text(pattern="^pik_[0-9a-f]{12}_[A-Za-z0-9_-]{43}$")] | None


class KeyAnswer(Success):
    key: Key


class KeyList(Success):
    keys: list[Key]
    count: Count


class Stats(Answer):
    """The last three are null while the Registry is away."""

    total_sessions: Count
    initialized_sessions: Count
    active_sessions: Count
    completed_sessions: Count
    average_duration_seconds: Seconds
    completion_rate: Annotated[float, Field(ge=0, le=1)]
    parked_sessions: Count
    by_end_reason: dict[str, Count]
    live_actors: Count | None
    warm_actors: Count | None
    capacity: Count | None


class StatsAnswer(Success):
    stats: Stats


class ParkedSession(Answer):
    session_id: SessionId
    reason: str | None
    since: Time | None


class Node(Answer):
    node: Annotated[str, text(pattern="^[0-9a-f]+$")]
    address: str
    alive: bool
    cpu: float
    memory_bytes: Annotated[float, Field(ge=0)]
    draining: bool
    live_on_draining: Count | None
    live_interviews: Count
    warm_actors: Count


class Cluster(Answer):
    live_actors: Count
    warm_actors: Count
    starting_actors: Count
    capacity: Count
    sessions_held: Count
    parked: list[ParkedSession]
    nodes: list[Node]


class ClusterAnswer(Success):
    cluster: Cluster


class DrainAnswer(Success):
    """`live_interviews`: how many are still there."""

    node: Annotated[str, text(pattern="^[0-9a-f]{4,100}$")]
    draining: bool
    live_interviews: Count


class RecoveredSession(Answer):
    """`outcome`: `held now`, `held`, `held by nobody` (dry run), or the code of what went wrong."""

    session_id: SessionId
    outcome: str


class RecoverAnswer(Success):
    sessions: list[RecoveredSession]


class Noted(Success):
    """`noted`: it meant something."""

    noted: bool


class Alive(Success):
    pass


class Ready(Success):
    """`livekit`: how it stands with LiveKit, without which interviews run without video."""

    mongodb: Literal[True]
    ray: Literal[True]
    livekit: str


class NotReady(Answer):
    status: Literal["unavailable"]
    mongodb: bool
    ray: bool
    livekit: str
    draining: Literal[True] = sometimes()
