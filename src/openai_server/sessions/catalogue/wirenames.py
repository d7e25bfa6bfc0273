# -*- test-case-name: tests.sessions.catalogue.test_wirenames -*-
"""
What tools are called on the wire while other turns live.

The names of all live turns are in this bee's hello, each once, and every prompt
that passes is shown them (seen with humd 0.31.18). So a tool whose name a live
turn has for another one goes out under a name of its own, C{common_2}.

A session keeps the names that it has while nobody else has them. A process
that is warm knows no later ones, so a name that a tool had before in its
session still means it.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Final, TypeAlias

import msgspec

from openai_server.wire.tones import ToolDefinition

#: Characters of a name: the worker puts its prefix before it, and its model takes 64.
_LONGEST: Final = 54

#: Definitions by their names on the wire.
Tools: TypeAlias = Mapping[str, ToolDefinition]


class WireNames:
    """
    What the tools of one session have been called so far.

    @ivar had: by their usual names those that were ever called otherwise,
        with all their names, the latest last. None before the first prompt.
    """

    __slots__ = ("had",)

    def __init__(self) -> None:
        self.had: Mapping[str, Sequence[str]] | None = None

    def of(self, usual: str) -> Sequence[str]:
        """
        Return the names that this tool has had, the latest last.
        """
        return () if self.had is None else self.had.get(usual, (usual,))

    def all(self) -> Iterator[str]:
        """
        Return all names that any tool has had otherwise than usual.
        """
        return (name for names in (self.had or {}).values() for name in names)

    def use(self, current: Mapping[str, str]) -> None:
        """
        Note what the tools are called from now on.

        @param current: the name of each tool by its usual one.
        """
        had = {usual: [each for each in self.of(usual) if each != name] for usual, name in current.items()}
        self.had = {
            usual: (*had[usual], name) for usual, name in current.items() if had[usual] or name != usual
        }


class NamedTools(msgspec.Struct, frozen=True):
    """
    The tools of one prompt as they go out.

    @ivar own: the definitions that the prompt offers.
    @ivar former: definitions under all names that they have had before, which
        a warm process may know.
    @ivar usual: the usual name of each tool by all of these.
    """

    own: Tools
    former: Tools
    usual: Mapping[str, str]

    @property
    def renamed(self) -> Mapping[str, str]:
        """
        What those of L{own} are called that have not their usual names, by these.
        """
        return {self.usual[name]: name for name in self.own if self.usual[name] != name}


class PromptTools:
    """
    The tools of one prompt that is to go out in some session.
    """

    __slots__ = ("_definitions", "_names", "_taken")

    def __init__(
        self, definitions: Sequence[ToolDefinition], names: WireNames, taken: Container[str] = ()
    ) -> None:
        """
        @param definitions: under their usual names, at least one.
        @param names: what they have been called in the session.
        @param taken: names that no tool can have.
        """
        self._definitions = definitions
        self._names = names
        self._taken = taken

    def among(self, live: Tools) -> NamedTools:
        """
        Return these tools as they are called while others live.

        @param live: what live turns have; an equal definition serves both.
        """
        own: dict[str, ToolDefinition] = {}
        former: dict[str, ToolDefinition] = {}
        usual: dict[str, str] = {}
        spoken = {*(tool.name for tool in self._definitions), *self._names.all()}
        for tool in self._definitions:
            before = self._names.of(tool.name)
            current = next(
                name
                for name in chain(before[-1:], (tool.name,), _others(tool.name, spoken))
                if name not in own and name not in self._taken and _isFree(name, tool, live)
            )
            own[current] = live.get(current) or _named(tool, current)
            former.update((name, _named(tool, name)) for name in before)
            usual.update((name, tool.name) for name in (*before, current))
        return NamedTools(own, former, usual)

    def use(self, named: NamedTools) -> None:
        """
        Note that these tools go out so.
        """
        self._names.use({named.usual[name]: name for name in named.own})


def _others(usual: str, spoken: Container[str]) -> Iterator[str]:
    """
    Other names for a tool, without end.

    @param spoken: names that mean some tool of its session.
    """
    for number in count(2):
        ending = f"_{number}"
        name = usual[: _LONGEST - len(ending)] + ending
        if name not in spoken:
            yield name


def _isFree(name: str, tool: ToolDefinition, live: Tools) -> bool:
    other = live.get(name)
    return other is None or (other.description == tool.description and other.inputSchema == tool.inputSchema)


def _named(tool: ToolDefinition, name: str) -> ToolDefinition:
    if name == tool.name:
        return tool
    return ToolDefinition(name=name, description=tool.description, inputSchema=tool.inputSchema)
