# -*- test-case-name: tests.api.test_unread -*-
"""
The members of a request that nobody reads, at any depth: what is left when
they are taken out, and their names, fit for a header.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

from msgspec import inspect

#: Names that are kept at most, characters of each member's, and of all with
#: their paths: proxies allow all headers together 4 kB.
MAX_NAMES: Final = 32
MAX_NAME: Final = 64
MAX_CHARACTERS: Final = 2048

#: The members that are read, by name, with those that each may have itself;
#: None where these are the client's own.
Shape: TypeAlias = "dict[str, Shape | None]"

_unsafe = re.compile(r"[^A-Za-z0-9_.-]")


def shapeOf(struct: type) -> Shape:
    """
    Return the members that a struct reads.
    """
    return _shapeFrom(inspect.type_info(struct)) or {}


def _shapeFrom(found: inspect.Type) -> Shape | None:
    match found:
        case inspect.StructType():
            return {field.encode_name: _shapeFrom(field.type) for field in found.fields}
        case inspect.VarTupleType():
            return _shapeFrom(found.item_type)
        case inspect.UnionType():
            return next(filter(None, map(_shapeFrom, found.types)), None)
    return None


class UnreadNames:
    """
    Collects names: the first few, each once.
    """

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self._left = MAX_CHARACTERS

    @property
    def all(self) -> tuple[str, ...]:
        """
        All that are kept, in order.
        """
        return tuple(self._names)

    def add(self, name: str, value: object, path: str = "") -> None:
        """
        Note a member that nobody reads. An empty or false one asks for
        nothing, so nothing is missed.

        @param path: of what it is a member; empty for the body itself.
        """
        if len(self._names) == MAX_NAMES or value is None or value in (False, {}, []):
            return
        whole = f"{path}.{safeName(name)}" if path else safeName(name)
        if whole not in self._names and len(whole) <= self._left:
            self._names[whole] = None
            self._left -= len(whole)

    def removeFrom(self, value: Any, shape: Shape | None, path: str) -> Any:
        """
        Return a value without the members that nobody reads, and note these.

        @param value: as it was decoded; it is not changed.
        @param shape: of the value, or of each one in a list.
        @param path: where it stands in the body.
        """
        if shape is None:
            return value
        if type(value) is list:
            return [self.removeFrom(each, shape, f"{path}[{index}]") for index, each in enumerate(value)]
        if type(value) is not dict:
            return value
        read: dict[str, Any] = {}
        for name, member in value.items():
            if name not in shape:
                self.add(name, member, path)
            elif shape[name] is None:
                read[name] = member
            else:
                read[name] = self.removeFrom(member, shape[name], f"{path}.{name}")
        return read


def safeName(name: str) -> str:
    """
    Return a client's name for something, fit for a header.
    """
    return _unsafe.sub("_", name[:MAX_NAME])
