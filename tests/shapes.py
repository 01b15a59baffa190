"""Whether JSON is what a TypedDict says: every member that must be there, no other, each of its type."""

from __future__ import annotations

import types
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints, is_typeddict


def misfits(value: Any, kind: Any, where: str = "") -> list[str]:
    """What does not fit, a line each."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is object:
        return []
    if is_typeddict(kind):
        return _members(value, kind, where)
    if origin in (Union, types.UnionType):
        return [] if any(not misfits(value, one, where) for one in args) else [f"{where}: {value!r} is no {kind}"]
    if origin is Literal:
        return [] if value in args else [f"{where}: {value!r} is none of {args}"]
    if origin is list and isinstance(value, list):
        return [line for n, one in enumerate(value) for line in misfits(one, args[0], f"{where}/{n}")]
    if origin is dict and isinstance(value, dict):
        return [line for name, one in value.items() for line in misfits(one, args[1], f"{where}/{name}")]
    plain = {float: (int, float), None: type(None)}.get(kind, origin or kind)
    fits = isinstance(value, plain) and (not isinstance(value, bool) or plain is bool)
    return [] if fits else [f"{where}: {value!r} is no {kind}"]


def _members(value: Any, kind: Any, where: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where}: {value!r} is no {kind.__name__}"]
    hints = get_type_hints(kind, include_extras=True)
    total = kind.__total__
    needed = {name for name, hint in hints.items() if get_origin(hint) is Required or (total and _always(hint))}
    lines = [f"{where}/{name} is missing" for name in needed - value.keys()]
    lines += [f"{where}/{name} is not in {kind.__name__}" for name in value.keys() - hints.keys()]
    for name in value.keys() & hints.keys():
        hint = hints[name]
        bare = get_args(hint)[0] if get_origin(hint) in (Required, NotRequired) else hint
        lines += misfits(value[name], bare, f"{where}/{name}")
    return lines


def _always(hint: Any) -> bool:
    return get_origin(hint) is not NotRequired
