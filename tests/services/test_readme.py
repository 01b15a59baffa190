"""The README's examples give what the README says they give."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from pydantic import AliasChoices

from orchestrator.settings import Settings
from tests.servers import ROOT, serving

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]

README = (ROOT / "README.md").read_text()
CHANGING = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
    (r'"(elapsed|remaining)_seconds":[\d.]+', r'"\1_seconds":SECONDS'),
    (r"InterviewActor-[0-9a-f]{8}", "ACTOR"),
]


def example() -> list[tuple[str, str]]:
    """Pairs of a command and the output shown under it."""
    block = re.search(r"<!-- example -->\n```console\n(.*?)```", README, re.DOTALL)
    assert block is not None
    pairs: list[tuple[str, str]] = []
    for line in block[1].splitlines():
        if line.startswith("$ "):
            pairs.append((line[2:], ""))
        else:
            pairs[-1] = (pairs[-1][0], pairs[-1][1] + line)
    return pairs


def comparable(text: str) -> str:
    for pattern, name in CHANGING:
        text = re.sub(pattern, name, text)
    return text


def test_the_interview_in_five_calls(tmp_path: Path) -> None:
    with serving(tmp_path, INTERVIEW_WARM_ACTORS="1") as service:
        variables, calls, last = "", 0, ""
        for command, shown in example():
            command = command.replace("http://localhost:8005", service.url)
            if command.startswith("ID="):
                command = f"ID={json.loads(last)['session_id']}"
            if not command.startswith("curl"):
                variables += command + "\n"
                continue
            calls += 1
            done = subprocess.run(["bash", "-c", variables + command], capture_output=True, text=True, timeout=30)
            last = done.stdout
            got, at = comparable(last.strip()), 0
            for piece in comparable(shown).split("…"):
                found = got.find(piece, at)
                assert found >= 0, f"{command}\nshows {piece!r}\nbut gave {got}"
                at = found + len(piece)
    assert calls == 5


def test_every_setting_is_in_the_table() -> None:
    """Names that later versions use may be there first, never the other way round."""
    listed = set(re.findall(r"^\| `([A-Z_]+)`", README, re.MULTILINE))
    for name, setting in Settings.model_fields.items():
        alias = setting.validation_alias
        env = str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"INTERVIEW_{name.upper()}"
        if not env.startswith("LIVEKIT_"):
            assert env in listed, env


def test_files_that_are_named_exist() -> None:
    for name in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / name).exists(), name
