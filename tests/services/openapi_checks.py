"""What schemathesis is told of this service: times that it takes, and rules of which JSON Schema knows nothing."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import CheckContext
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.openapi.checks import IgnoredAuth
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

FIRST, LAST = datetime(2050, 1, 1), datetime(2199, 12, 31)
"""From 2000 on times are taken, but the end of a key has to be to come."""

BEYOND_SCHEMA = (
    r"^cursor is not one|^This cursor is not one",  # those that were given out are signed
    r"question_types has \d+ entries and questions has \d+",  # equally long lists
    r"pick is \d+, and there are \d+ questions",  # as many as there are
    r"^question_index is \d+; it must be from 0 to \d+",  # depends on the session
    r"happens at one time; it has neither phase nor duration",  # depends on the type
    r"^q has no letters or digits in it",
    r"^detail is over \d+ characters of JSON",
    r"The image is not valid base64|The data URL of the image is not in base64",
    r"job_id must be the one in the address",  # body and path
    r"^There is no event \d+",  # depends on the session
    r"^expires_at is in the past",
    r"input should be a valid integer",  # 1.0 is an integer for JSON Schema; here nothing is converted
    r"^The image is (empty|smaller|larger)",
    r"is not a name for a key",  # names that stand for something else
    r"resolve|address|host|port|URL",  # where webhooks may go
)
"""What a value that fits its schema may still be refused for with 400."""
BEYOND = re.compile("|".join(BEYOND_SCHEMA))

schemathesis.openapi.format(
    "date-time", st.datetimes(FIRST, LAST, timezones=st.just(UTC)).map(lambda at: at.isoformat())
)


@schemathesis.check
def valid_data_accepted(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """As positive_data_acceptance, but for rules that a schema cannot express."""
    if response.status_code == 400 and BEYOND.search(_detail(response)):
        return None
    return positive_data_acceptance(ctx, response, case)


@schemathesis.check
def auth_enforced(ctx: CheckContext, response: Response, case: Case) -> bool | None:
    """As ignored_auth, which does not know that too many wrong keys from one address are answered with 429."""
    try:
        return ignored_auth(ctx, response, case)
    except IgnoredAuth as failure:
        if "got `429 " in failure.message:
            return None
        raise


def _detail(response: Response) -> str:
    body: Any = response.json()
    return body["detail"]
