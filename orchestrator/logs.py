"""Log lines: time, level, module, message, and the `extra` fields behind it. Never tokens or personal data.

At a terminal they are lines for people. Actors write JSON, an object a line, into Ray's log files, which its dashboard
shows on the actor's page; each object says which actor it is of, and for an interview which session and epoch.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127, 0x85)} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
"""So that no value can begin a line of its own, or tell a terminal what to do."""
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}

Fields = Callable[[], Mapping[str, object]]


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


class FieldsFormatter(logging.Formatter):
    """A line with its extra fields as `name=value`, in the order they were given."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = [f"{name}={value}" for name, value in _extra(record).items()]
        return " ".join([super().formatMessage(record), *fields]).translate(_CONTROLS)


class JsonFormatter(logging.Formatter):
    """A line as a JSON object, in ASCII. `fields`: what every line carries beside its own, as it is then."""

    def __init__(self, fields: Fields) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": f"{moment:%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._fields(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str).replace("\x7f", "\\u007f")


def configure(fields: Fields | None = None) -> None:
    """Log to standard error, ours from INFO and others' from WARNING. Repeating it changes nothing.

    `fields`: of an actor, which logs JSON.
    """
    root = logging.getLogger()
    if any(isinstance(handler.formatter, FieldsFormatter | JsonFormatter) for handler in root.handlers):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FieldsFormatter() if fields is None else JsonFormatter(fields))
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in ("actors", "api", "orchestrator"):
        logging.getLogger(name).setLevel(logging.INFO)
