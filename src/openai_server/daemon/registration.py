# -*- test-case-name: tests.daemon.test_registration -*-
"""
Which tool names this bee answers for, and the hellos that say so.

humd 0.31.18 routes a tool-call, and the way back of its result, only by the
names in our latest hello; and it shows every name in any hello to each prompt
that passes. So a prompt goes out between two hellos: the first leaves
registered only what the prompt would declare itself, the prompt declares the
rest, and the second registers the names of all turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from openai_server.wire.tones import FromBee, Hello, Prompt, ToolDefinition

Tools: TypeAlias = Sequence[ToolDefinition]


class Registration:
    """
    The tool names of all turns that are not over.

    @ivar _hello: makes a hello with these tools.
    @ivar _bySid: what each turn has declared.
    @ivar _registered: what our latest hello on this connection said.
    """

    def __init__(self, hello: Callable[[Tools], Hello], isEnabled: bool) -> None:
        self._hello = hello
        self._isEnabled = isEnabled
        self._bySid: dict[str, Tools] = {}
        self._registered: Tools = ()

    def opening(self) -> Hello:
        """
        The hello of a new connection: with all names from the start.
        """
        self._registered = self._live()
        return self._hello(self._registered)

    def around(self, prompt: Prompt) -> list[FromBee]:
        """
        The prompt with the hellos that it needs before and behind it, to be
        written together. Nothing is changed yet.
        """
        if not self.concerns(prompt.tools):
            return [prompt]
        own = prompt.tools or ()
        others = self._live(without=prompt.sid)
        shared, rest = _divided(own, others)
        after = _eachOnce([*others, *own])
        tones: list[FromBee] = [msgspec.structs.replace(prompt, tools=rest or None)]
        if not _same(shared, self._registered):
            tones.insert(0, self._hello(shared))
        if not _same(shared, after):
            tones.append(self._hello(after))
        return tones

    def declare(self, sid: str, tools: Tools) -> None:
        """
        What L{around} gave for this turn's prompt has been written.
        """
        if self.concerns(tools):
            others = self._live(without=sid)
            if tools:
                self._bySid[sid] = tools
            self._registered = _eachOnce([*others, *tools])

    def withdraw(self, sid: str) -> None:
        """
        The turn is over.
        """
        self._bySid.pop(sid, None)

    @property
    def isStale(self) -> bool:
        """
        The latest hello says something else than would be said now.
        """
        return self.concerns(()) and not _same(self._registered, self._live())

    def concerns(self, tools: Tools | None) -> bool:
        """
        Whether a prompt with these tools needs anything but to be sent. Most
        often nobody has tools, and there is nothing to work out.
        """
        return self._isEnabled and bool(tools or self._bySid or self._registered)

    def _live(self, without: str | None = None) -> Tools:
        return _eachOnce([tool for sid, tools in self._bySid.items() if sid != without for tool in tools])


def _byName(tools: Tools) -> dict[str, ToolDefinition]:
    first: dict[str, ToolDefinition] = {}
    for tool in tools:
        first.setdefault(tool.name, tool)
    return first


def _eachOnce(tools: Tools) -> Tools:
    """
    Each name once, with its first definition.
    """
    return list(_byName(tools).values())


def _same(some: Tools, others: Tools) -> bool:
    return _byName(some) == _byName(others)


def _divided(own: Tools, others: Tools) -> tuple[list[ToolDefinition], list[ToolDefinition]]:
    """
    Of a prompt's own tools, those that others have with an equal definition,
    and the rest.
    """
    theirs = _byName(others)
    shared = [tool for tool in own if theirs.get(tool.name) == tool]
    return shared, [tool for tool in own if theirs.get(tool.name) != tool]
