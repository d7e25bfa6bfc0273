# -*- test-case-name: tests.daemon.test_registration -*-
"""
Which tool names this bee answers for, and the hellos that say so.

humd 0.31.18 routes a tool-call, and the way back of its result, only by the
names in our latest hello; and it shows every name in any hello to each prompt
that passes. So the names of all turns that are not over stay in the hello
while a prompt passes: it declares only its own that are not among them, and
hides the others from its model by C{disallowedTools}. What it declares, a hello
behind it registers, and one before it what its process may know from earlier
prompts and call at once. Only what cannot be hidden, because the argument of
the worker's process would be too long, or because the prompt has another tool
of that name, is withdrawn for the moment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from openai_server.wire.hiding import OUR_PREFIX, firstThatFit, roomBeside
from openai_server.wire.tones import FromBee, Hello, Prompt, ToolDefinition

Tools: TypeAlias = Sequence[ToolDefinition]


class Registration:
    """
    The tools of all turns that are not over.

    @ivar _hello: makes a hello with these tools.
    @ivar _bySid: the names of what each turn has declared.
    @ivar _byName: what each name means to the turns that have declared it, by
        their sids, the first one first.
    @ivar _live: each name with its first definition; None when that is to be
        worked out.
    @ivar _registered: what our latest hello on this connection said.
    """

    def __init__(self, hello: Callable[[Tools], Hello], isEnabled: bool) -> None:
        self._hello = hello
        self._isEnabled = isEnabled
        self._bySid: dict[str, Collection[str]] = {}
        self._byName: dict[str, dict[str, ToolDefinition]] = {}
        self._live: Mapping[str, ToolDefinition] | None = None
        self._registered: Mapping[str, ToolDefinition] = {}

    @property
    def live(self) -> Mapping[str, ToolDefinition]:
        """
        The tools of all turns that are not over, by name.
        """
        if self._live is None:
            self._live = {name: next(iter(turns.values())) for name, turns in self._byName.items()}
        return self._live

    def opening(self) -> Hello:
        """
        The hello of a new connection: with all names from the start.
        """
        self._registered = self.live
        return self._hello(list(self._registered.values()))

    def around(self, prompt: Prompt, former: Tools = ()) -> list[FromBee]:
        """
        The prompt with the hellos that it needs before and behind it, to be
        written together. Nothing is changed yet.

        @param former: what the session's process may know its tools as.
        """
        if not self.concerns(prompt.tools):
            return [prompt]
        own = {tool.name: tool for tool in prompt.tools or ()}
        others = _byName([self._others(prompt.sid).values(), former])
        said = prompt.disallowedTools or []
        hidden = firstThatFit(
            [name for name in others if name not in own and OUR_PREFIX + name not in said], roomBeside(said)
        )
        known = {*own, *hidden, *(name.removeprefix(OUR_PREFIX) for name in said)}
        kept = {
            name: tool for name, tool in others.items() if name in known and own.get(name, tool) == tool
        }
        passing = msgspec.structs.replace(
            prompt,
            tools=[tool for name, tool in own.items() if name not in kept] or None,
            disallowedTools=[*said, *(OUR_PREFIX + name for name in hidden)] or None,
        )
        after = _byName([others.values(), own.values()])
        tones: list[FromBee] = [passing]
        if kept != self._registered:
            tones.insert(0, self._hello(list(kept.values())))
        if kept != after:
            tones.append(self._hello(list(after.values())))
        return tones

    def declare(self, prompt: Prompt, former: Tools = ()) -> None:
        """
        What L{around} gave for this prompt has been written.
        """
        if self.concerns(prompt.tools):
            if prompt.tools:
                self._add(prompt.sid, [*prompt.tools, *former])
            self._registered = self.live

    def adopt(self, sid: str, tools: Tools) -> None:
        """
        A turn of an earlier process has declared these.
        """
        if self.concerns(tools):
            self._add(sid, tools)

    def _add(self, sid: str, tools: Tools) -> None:
        self.withdraw(sid)
        own = _byName([tools])
        self._bySid[sid] = tuple(own)
        for name, tool in own.items():
            self._byName.setdefault(name, {})[sid] = tool
        self._live = None

    def withdraw(self, sid: str) -> None:
        """
        The turn is over.
        """
        for name in self._bySid.pop(sid, ()):
            turns = self._byName[name]
            del turns[sid]
            if not turns:
                del self._byName[name]
        self._live = None

    @property
    def isStale(self) -> bool:
        """
        The latest hello says something else than would be said now.
        """
        return self.concerns(()) and self._registered != self.live

    def concerns(self, tools: Tools | None) -> bool:
        """
        Whether a prompt with these tools needs anything but to be sent. Most
        often nobody has tools, and there is nothing to work out.
        """
        return self._isEnabled and bool(tools or self._bySid or self._registered)

    def _others(self, sid: str) -> Mapping[str, ToolDefinition]:
        if sid not in self._bySid:
            return self.live
        others = [
            next((tool for other, tool in turns.items() if other != sid), None)
            for turns in self._byName.values()
        ]
        return _byName([[tool for tool in others if tool is not None]])


def _byName(tools: Iterable[Iterable[ToolDefinition]]) -> dict[str, ToolDefinition]:
    first: dict[str, ToolDefinition] = {}
    for each in tools:
        for tool in each:
            first.setdefault(tool.name, tool)
    return first
