"""Where settings come from, and what the log shows of a line's fields."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from pydantic import ValidationError

from orchestrator.logs import FieldsFormatter
from orchestrator.settings import Settings


def test_names_and_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MONGODB_URL", "RAY_ADDRESS", "INTERVIEW_API_KEY", "INTERVIEW_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    plain = Settings()  # pyright: ignore[reportCallIssue]
    assert (plain.mongodb_url, plain.ray_address, plain.api_key, plain.data_dir) == (None, None, None, Path("data"))
    monkeypatch.setenv("MONGODB_URL", "mongodb://db")
    monkeypatch.setenv("INTERVIEW_WARM_ACTORS", "9")
    monkeypatch.setenv("INTERVIEW_API_KEY", "")
    (tmp_path / ".env").write_text("INTERVIEW_SECRET=from-file\nINTERVIEW_WARM_ACTORS=1\nSOMETHING_ELSE=1\n")
    given = Settings()  # pyright: ignore[reportCallIssue]
    assert (given.mongodb_url, given.warm_actors, given.api_key) == ("mongodb://db", 9, None)
    assert given.secret is not None and given.secret.get_secret_value() == "from-file"
    assert "from-file" not in repr(given), "secrets are not shown"


def test_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERVIEW_ACTOR_CPUS", "-1")
    with pytest.raises(ValidationError):
        Settings()  # pyright: ignore[reportCallIssue]


def test_a_log_line_shows_its_fields() -> None:
    record = logging.makeLogRecord({"name": "actors.x", "levelname": "INFO", "msg": "ended", "reason": "crash"})
    assert FieldsFormatter().format(record).endswith("INFO actors.x: ended reason=crash")
