"""Which proctoring hooks are installed: entry points of the group `parallel_interview.proctoring_hooks`."""

from __future__ import annotations

from importlib.metadata import entry_points

GROUP = "parallel_interview.proctoring_hooks"


def installed(names: str | None = None) -> dict[str, str]:
    """Hooks by name, as `module:class`. `names`: only those, with commas between, or `none`; None: all."""
    found = {point.name: point.value for point in entry_points(group=GROUP)}
    if names is None:
        return found
    return {name: found[name] for name in _wanted(names) if name in found}


def missing(names: str | None) -> list[str]:
    """Names that were asked for and are not installed."""
    found = installed()
    return [name for name in _wanted(names or "none") if name not in found]


def _wanted(names: str) -> list[str]:
    return [] if names.strip() == "none" else [name.strip() for name in names.split(",") if name.strip()]
