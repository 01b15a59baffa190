"""Links between calls in /openapi.json: whose answer has what the path of another one needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

BODY, PATH = "$response.body#", "$request.path."
SESSION = {"session_id": f"{BODY}/session/session_id"}
ANSWERED = {"question_index": f"{BODY}/session/current_question/index"}
LEADS_TO: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "create_session": ({"session_id": f"{BODY}/session_id"}, ()),
    "list_sessions": ({"session_id": f"{BODY}/sessions/0/session_id"}, ("get_session", "get_journal")),
    "start_session": (SESSION, ("save_draft", "answer_question", "pause_session", "extend_question", "end_session")),
    "answer_question": (SESSION, ("answer_question", "get_proctoring", "get_report")),
    "pause_session": (SESSION, ("resume_session", "extend_question", "end_session")),
    "end_session": (SESSION, ("get_report", "review_report", "verify_journal", "delete_session")),
    "add_frame": ({"session_id": f"{PATH}session_id", "still_id": f"{BODY}/frame/id"}, ("get_evidence",)),
    "get_proctoring": (
        {"session_id": f"{PATH}session_id", "event_id": f"{BODY}/proctoring/events/0/id"},
        ("dispute_event",),
    ),
    "create_job": ({"job_id": f"{BODY}/job/job_id"}, ()),
    "list_jobs": ({"job_id": f"{BODY}/jobs/0/job_id"}, ("get_job",)),
    "add_webhook": ({"webhook_id": f"{BODY}/webhook/webhook_id"}, ()),
    "list_webhooks": ({"webhook_id": f"{BODY}/webhooks/0/webhook_id"}, ("get_webhook",)),
    "send_test_message": (
        {"webhook_id": f"{PATH}webhook_id", "delivery_id": f"{BODY}/delivery/delivery_id"},
        ("replay_delivery",),
    ),
    "list_deliveries": (
        {"webhook_id": f"{PATH}webhook_id", "delivery_id": f"{BODY}/deliveries/0/delivery_id"},
        ("replay_delivery",),
    ),
    "create_key": ({"key_id": f"{BODY}/key/key_id"}, ()),
}
"""What an answer gives to which calls; to none by name: to all whose path needs that and nothing else."""
FIELDS = {("start_session", "answer_question"): ANSWERED, ("start_session", "save_draft"): ANSWERED}
"""Fields of a body that an answer gives, too."""


def add(document: dict[str, Any]) -> None:
    """Put the links of each call into its 200 answer."""
    operations = {operation["operationId"]: (path, operation) for path, operation in _operations(document)}
    for source, (given, named) in LEADS_TO.items():
        targets = named or [
            name for name, (path, _) in operations.items() if set(re.findall(r"{(\w+)}", path)) == set(given)
        ]
        found = operations[source][1]["responses"]["200"].setdefault("links", {})
        for target in targets:
            path = operations[target][0]
            needed = {name: given[name] for name in re.findall(r"{(\w+)}", path)}
            found[target] = {"operationId": target, "parameters": needed}
            if fields := FIELDS.get((source, target)):
                found[target]["requestBody"] = fields


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation
