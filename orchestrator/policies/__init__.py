"""Proctoring policies by version: those that ship, and those in the folder that INTERVIEW_POLICIES_DIR names.

A version never changes: what is changed gets a new one. Read from the environment itself, since actors that must stay
small look here too.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from orchestrator.errors import InvalidInput, NotFound
from orchestrator.interview.integrity import Policy, read_policy
from orchestrator.interview.state import State

DEFAULT = "standard-1"
FOLDER = "INTERVIEW_POLICIES_DIR"


def versions() -> list[str]:
    """The versions that there are."""
    shipped = {entry.name for entry in files(__name__).iterdir()}
    folder = _folder()
    own = {path.name for path in folder.iterdir()} if folder is not None else set[str]()
    return sorted(name.removesuffix(".json") for name in shipped | own if name.endswith(".json"))


def _folder() -> Path | None:
    folder = Path(os.environ.get(FOLDER) or "/nowhere")
    return folder if folder.is_dir() else None


def _text(version: str) -> str | None:
    """The file of a version. What ships cannot be replaced."""
    name, folder = f"{version}.json", _folder()
    for place in (files(__name__), folder):
        if place is not None and name in {entry.name for entry in place.iterdir()}:
            try:
                return (place / name).read_text(encoding="utf-8")
            except (OSError, ValueError):
                raise InvalidInput(f"The policy file {name} cannot be read.") from None
    return None


@lru_cache
def policy(version: str = DEFAULT) -> Policy:
    """One policy. Raises NotFound, or InvalidInput for a file that is none or has another version in it."""
    text = _text(version)
    if text is None:
        raise NotFound(f"There is no proctoring policy {version[:64]!r}; there are {', '.join(versions())}.")
    read = read_policy(text)
    if read.version != version:
        raise InvalidInput(f"The policy file {version}.json says that it is version {read.version[:64]!r}.")
    return read


def policy_of(state: State) -> Policy | None:
    """The policy that a session was created with; None if this process does not have it."""
    return _policy_or_none(state.proctoring.policy or DEFAULT)


@lru_cache
def _policy_or_none(version: str) -> Policy | None:
    try:
        return policy(version)
    except (NotFound, InvalidInput):
        return None
