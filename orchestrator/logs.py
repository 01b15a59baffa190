"""Log lines: time, level, module, message, and the `extra` fields behind it. Never tokens or personal data."""

from __future__ import annotations

import logging
import sys

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127, 0x85)} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
"""So that no value can begin a line of its own, or tell a terminal what to do."""
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


class FieldsFormatter(logging.Formatter):
    """A line with its extra fields as `name=value`, in the order they were given."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = [f"{name}={value}" for name, value in record.__dict__.items() if name not in _STANDARD]
        return " ".join([super().formatMessage(record), *fields]).translate(_CONTROLS)


def configure() -> None:
    """Log to standard error, ours from INFO and others' from WARNING. Repeating it changes nothing."""
    root = logging.getLogger()
    if any(isinstance(handler.formatter, FieldsFormatter) for handler in root.handlers):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FieldsFormatter())
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in ("actors", "api", "orchestrator"):
        logging.getLogger(name).setLevel(logging.INFO)
