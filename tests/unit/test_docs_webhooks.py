"""What docs/webhooks.md shows a receiver to do verifies a real message, and not a forged one."""

from __future__ import annotations

import time
from typing import Any

import pytest
from standardwebhooks import WebhookVerificationError

from orchestrator.interview.outbox import EVENT_TYPES
from orchestrator.webhooks import Endpoint, headers_of, new_secret
from orchestrator.webhooks import test_message as message_to_try
from tests.documents import ROOT, blocks

PAGE = ROOT / "docs" / "webhooks.md"


def received(body: str, headers: dict[str, str], secret: str) -> Any:
    """What the document's code makes of a message."""
    [block] = [block for block in blocks(PAGE) if block.language == "python"]
    names: dict[str, Any] = {"secret": secret, "request_body": body, "request_headers": headers}
    exec(compile(block.code, str(PAGE), "exec"), names)
    return names["content"]


def test_the_documented_receiver() -> None:
    now = round(time.time() * 1000)
    endpoint = Endpoint("wh_1", "https://example.com", new_secret(), now)
    message = message_to_try(endpoint, now)
    headers = headers_of(endpoint, message, now)
    assert received(message.body, headers, endpoint.secret)["type"] == "webhook.test"
    with pytest.raises(WebhookVerificationError):
        received(message.body.replace("test", "best"), headers, endpoint.secret)


def test_every_type_is_in_the_document() -> None:
    assert all(f"`{name}`" in PAGE.read_text() for name in EVENT_TYPES)
