"""JSON as it comes, before anything is made of it: what would keep everybody waiting, or can be understood in two ways.

Reading JSON and refusing what is in it takes time that nobody else gets, and more for each list, object and name than
for text: a body within its limit of bytes could hold everybody up for seconds.
"""

from __future__ import annotations

import json
import re
from typing import Any

from orchestrator.errors import InvalidInput

MOST_PARTS, MOST_VALUES = 6_000, 20_000
"""Lists, objects and their names; and values in them. A hundred events with all that they can have are below it."""
BULK_PARTS, BULK_VALUES = 60_000, 250_000
"""A thousand sessions in one call, with everything that they can have, are below it."""

_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_JSON = "The body is not valid JSON."
_ENCODING = "The body must be JSON in UTF-8, without a byte order mark."


def check_json(body: bytes, *, bulk: bool = False) -> None:
    """Raises InvalidInput for what is no JSON or has a name twice, or more parts than such a call takes."""
    check_parts(body, bulk=bulk)
    if b"\0" in body[:4] or body.startswith((b"\xef\xbb\xbf", b"\xfe\xff", b"\xff\xfe")):
        raise InvalidInput(_ENCODING)  # Python would read UTF-16 and UTF-32 too
    try:
        json.loads(body, object_pairs_hook=_once, parse_constant=_not_json)
    except UnicodeDecodeError:
        raise InvalidInput(_ENCODING) from None
    except (ValueError, RecursionError):
        raise InvalidInput(_NOT_JSON) from None


def check_parts(body: bytes, *, bulk: bool = False) -> None:
    """Raises InvalidInput for more parts than such a call takes."""
    most_parts, most_values = (BULK_PARTS, BULK_VALUES) if bulk else (MOST_PARTS, MOST_VALUES)
    many = InvalidInput("The body has more lists, objects and values in it than the call takes.")
    if (body.count(b'"') - body.count(b'\\"')) // 2 > most_parts + most_values:  # texts
        raise many
    if _parts(body) > most_parts or body.count(b",") > most_values:  # or some of them are within texts
        bare = _TEXT.sub(b"", body)
        if _parts(bare) > most_parts or bare.count(b",") > most_values:
            raise many


def _parts(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{") + body.count(b":")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are all different: of two the first might have been meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))
        shown = name.encode("utf-8", "replace").decode()[:100]
        raise InvalidInput(f"{shown} is there more than once in one object.")
    return found


def _not_json(text: str) -> None:
    raise InvalidInput(f"{text} is not a number in JSON.")
