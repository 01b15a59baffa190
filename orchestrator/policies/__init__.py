"""The proctoring policies that ship, by version. A version never changes: what is changed gets a new one."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from orchestrator.errors import NotFound
from orchestrator.interview.proctoring import Policy, read_policy

DEFAULT = "standard-1"


def versions() -> list[str]:
    """The versions that there are."""
    return sorted(
        entry.name.removesuffix(".json") for entry in files(__name__).iterdir() if entry.name.endswith(".json")
    )


@lru_cache
def policy(version: str = DEFAULT) -> Policy:
    """One policy. Raises NotFound."""
    if version not in versions():
        raise NotFound(f"There is no proctoring policy {version[:64]!r}; there are {', '.join(versions())}.")
    return read_policy((files(__name__) / f"{version}.json").read_text(encoding="utf-8"))
