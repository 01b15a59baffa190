"""Values that processes of two versions exchange while the service is upgraded, node by node.

A class that goes from one process to another may get new fields; they come last and have a default. Whoever has
the older class takes no notice of what it does not know, and whoever has the newer one uses the default. Ray passes
values by pickle, which on its own would leave new fields unset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


class Wire:
    """Base of a dataclass that is pickled by the names of its fields."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return known_of, (type(self), values)


def known_of(cls: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass from values by their names, those that this version of it does not have left out."""
    known: Mapping[str, Any] = cls.__dataclass_fields__  # type: ignore[attr-defined]
    return cls(**{name: value for name, value in values.items() if name in known})
