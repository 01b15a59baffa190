"""The README names every setting, and its example is a whole interview. (Its examples run with the others.)"""

from __future__ import annotations

import re

from pydantic import AliasChoices

from orchestrator.settings import Settings
from tests.documents import ROOT, blocks, commands

README = ROOT / "README.md"


def test_the_interview_in_five_calls() -> None:
    [block] = [block for block in blocks(README) if block.language == "console"]
    calls = [command for command, _ in commands(block.code) if command.startswith("curl")]
    assert block.runs and len(calls) == 5


def test_every_setting_is_in_the_table() -> None:
    """Names that later versions use may be there first, never the other way round."""
    listed = set(re.findall(r"^\| `([A-Z_]+)`", README.read_text(), re.MULTILINE))
    for name, setting in Settings.model_fields.items():
        alias = setting.validation_alias
        env = str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"INTERVIEW_{name.upper()}"
        if not env.startswith("LIVEKIT_"):
            assert env in listed, env
