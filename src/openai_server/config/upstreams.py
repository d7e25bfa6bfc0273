# -*- test-case-name: tests.test_config -*-
"""
Several daemons, as the configuration file names them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from openai_server.config.folders import absolutePath

_Path: TypeAlias = Annotated[str, Meta(pattern=r"\A(/|~/)[^\x00-\x1f\x7f]*\Z")]


class UpstreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """
    One daemon.

    @ivar name: what it is called in logs and in what is saved; empty for one
        that is the only one, and that the file does not name.
    @ivar socket: its socket's path.
    @ivar weight: its share of new sessions.
    @ivar registry: its registry file; None where that cannot be read.
    """

    name: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
    socket: _Path
    weight: Annotated[float, Meta(gt=0, le=1_000_000)] = 1.0
    registry: _Path | None = None

    def settled(self, environ: Mapping[str, str]) -> UpstreamSettings:
        """
        Return the same with C{~} as the user's home.
        """
        registry = None if self.registry is None else absolutePath(self.registry, environ)
        return replace(self, socket=absolutePath(self.socket, environ), registry=registry)


_FIELDS: Final = {field.name: field for field in msgspec.structs.fields(UpstreamSettings)}
_PATH: Final = "a path that begins with / or ~/"
_WANTED: Final = {
    "name": "1 to 64 letters, digits, dots, hyphens and underscores, the first a letter or a digit",
    "socket": _PATH,
    "weight": "a number above 0 and up to a million",
    "registry": _PATH,
}


def upstreamsFrom(value: object) -> tuple[UpstreamSettings, ...]:
    """
    Return what stands in the file.

    @raise ValueError: it is wrong: where and why, to follow the setting's name.
    """
    if not isinstance(value, (list, tuple)):
        raise ValueError(" is not a list of objects, each with a name and a socket")
    found = tuple(_upstreamFrom(f"[{at}]", each) for at, each in enumerate(value))
    for name in ("name", "socket"):
        before: dict[str, int] = {}
        for at, each in enumerate(found):
            first = before.setdefault(getattr(each, name), at)
            if first != at:
                raise ValueError(f"[{at}].{name} is that of [{first}]")
    return found


def _upstreamFrom(where: str, value: object) -> UpstreamSettings:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not an object with a name and a socket")
    for key in value:
        if key not in _FIELDS:
            known = ", ".join(_FIELDS)
            raise ValueError(f"{where} has the unknown key {json.dumps(key)[:60]} (known are {known})")
    said: dict[str, Any] = {}
    for name, field in _FIELDS.items():
        if name in value:
            try:
                said[name] = msgspec.convert(value[name], field.type)
            except msgspec.ValidationError:
                raise ValueError(f"{where}.{name} is not {_WANTED[name]}") from None
        elif field.required:
            raise ValueError(f"{where} has no {name}")
    return UpstreamSettings(**said)
