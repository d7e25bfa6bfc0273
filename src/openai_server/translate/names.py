# -*- test-case-name: tests.translate.test_names -*-
"""
Names of tools, the client's and the daemon's.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from openai_server.api.inquiry import Tool, ToolKind

#: The worker puts C{mcp__hum__} before a name, and its model takes 64 characters.
_plain = re.compile(r"[A-Za-z0-9_-]{1,54}")
_odd = re.compile(r"[^A-Za-z0-9_-]+")
#: What the daemon takes out of a prompt, whatever its case, where a bee
#: provides the capability (seen with humd 0.31.18).
_CAPABILITIES: Final[Mapping[str, Container[str]]] = {
    "fs": {"read", "write", "edit", "multiedit", "glob", "grep", "bash"},
}


@dataclass(frozen=True)
class TakenNames:
    """
    Names that no tool of a client's can have at the daemon now.

    @ivar listed: what other bees list.
    @ivar provided: the capabilities that connected bees provide.
    """

    listed: frozenset[str] = frozenset()
    provided: frozenset[str] = frozenset()

    def __contains__(self, name: object) -> bool:
        """
        Whether a name is taken.
        """
        folded = str(name).lower()
        return name in self.listed or any(folded in _CAPABILITIES.get(each, ()) for each in self.provided)


class ToolNames:
    """
    Which name each tool has at the daemon. A name that the daemon can carry
    is kept; any other is replaced, always in the same way, by one that no
    other tool has.
    """

    def __init__(
        self, tools: Iterable[Tool], taken: Container[str], renamed: Mapping[str, str] | None = None
    ) -> None:
        """
        @param tools: names are distinct.
        @param taken: names that they cannot have.
        @param renamed: names to have in place of those that they would have here.
        """
        self._kinds: dict[str, ToolKind] = {tool.name: tool.kind for tool in tools}
        self._wire = {name: name for name in self._kinds if _isFree(name, taken)}
        used = set(self._wire)
        for name in self._kinds:
            if name not in self._wire:
                made = _madeFrom(name, used, taken)
                used.add(made)
                self._wire[name] = made
        if renamed:
            self._wire = {name: renamed.get(wire, wire) for name, wire in self._wire.items()}
        self._client = {wire: name for name, wire in self._wire.items()}

    def wireName(self, name: str) -> str:
        """
        The daemon's name of a tool of the client's.

        @raise KeyError: the client declared no such tool.
        """
        return self._wire[name]

    def clientName(self, name: str) -> str | None:
        """
        The client's name of a tool, None when it declared no such tool.
        """
        return self._client.get(name)

    def kind(self, name: str) -> ToolKind | None:
        """
        What the tool with this name of the daemon's is to its client.
        """
        own = self._client.get(name)
        return None if own is None else self._kinds[own]


def _isFree(name: str, taken: Container[str]) -> bool:
    return bool(_plain.fullmatch(name)) and name not in taken


def _madeFrom(name: str, used: Container[str], taken: Container[str]) -> str:
    stem = _odd.sub("_", name)[:40]
    salt = 0
    while True:
        # Names can hold what UTF-8 cannot.
        digest = sha256(f"{salt}:{name}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
        made = f"{stem}_{digest}"
        if made not in used and made not in taken:
            return made
        salt += 1
