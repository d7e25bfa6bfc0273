"""
The steps that a scripted model does.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from openai_server.embedded.lines import TurnLines
from openai_server.embedded.models import speak, words
from openai_server.embedded.playback import PlayedTurn, Step, ToolResult, Wait

#: The worker's own words when its process says nothing about a failure.
NO_DETAIL: Final = "claude returned an error result with no detail (check auth / model / credit)"


class PartLines(TurnLines):
    """
    Lines in the dialect of thrum's wire specification: a block has neither
    start nor stop.
    """

    def opening(self, kind: str, block: int) -> list[bytes]:
        return []

    def deltas(self, kind: str, block: int, texts: Iterable[str]) -> list[bytes]:
        head = b'{"chi":"chunk","index":%d,"part":{"type":"%s","text":' % (block, kind.encode())
        return [head + msgspec.json.encode(text) + b"}" + self.tail for text in texts]

    def closing(self, block: int) -> list[bytes]:
        return []


def cut(text: str, parts: int) -> Iterator[str]:
    """
    A text in so many pieces of equal length; the last may be shorter.
    """
    size = max(1, -(-len(text) // max(1, parts)))
    return (text[start : start + size] for start in range(0, len(text), size))


@dataclass(frozen=True)
class Say:
    """
    A block of text, or of reasoning.
    """

    text: str
    parts: int = 2
    kind: str = "text"

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        yield from speak(turn, cut(self.text, self.parts), self.kind)


@dataclass(frozen=True)
class Words:
    """
    A block of text, a delta a word.

    @ivar pace: seconds after each word; None: as the turn has it.
    """

    text: str
    pace: float | None = None

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        before = turn.pace
        turn.pace = before if self.pace is None else self.pace
        yield from speak(turn, words(self.text))
        turn.pace = before


@dataclass(frozen=True)
class Flood:
    """
    So many deltas, each with its number: C{000000 }, C{000001 }, ...
    """

    count: int

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        yield from speak(turn, (f"{number:06d} " for number in range(self.count)))


@dataclass(frozen=True)
class Call:
    """
    One tool-call; the members are those of its tone.

    @ivar again: members with which the tone is sent a second time, or None.
    """

    name: str
    tone: Mapping[str, Any]
    again: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class CallTools:
    """
    Calls tools, all open at once, waits for the results and says each.

    @ivar gap: seconds between two calls.
    @ivar saying: what is said of a result.
    @ivar failing: what is said of a failure.
    """

    calls: Sequence[Call]
    gap: float = 0.0
    saying: str = "[{result}]"
    failing: str = "[error {result}]"

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        ids: list[str] = []
        for call in self.calls:
            if ids and self.gap:
                yield self.gap
            ids.append(self._send(turn, call))
        while any(callId not in turn.results for callId in ids):
            yield None
        for call, callId in zip(self.calls, ids, strict=True):
            yield from Say(self._said(call, turn.results[callId])).play(turn)

    def _send(self, turn: PlayedTurn, call: Call) -> str:
        callId = turn.call(call.tone, True)
        if call.again is not None:
            turn.call({**call.again, "callId": callId}, False)
        return callId

    def _said(self, call: Call, result: ToolResult) -> str:
        form = self.failing if result.isError else self.saying
        return form.replace("{name}", call.name).replace("{result}", result.text)


@dataclass(frozen=True)
class OwnTool:
    """
    A tool that the worker runs itself: nothing of it shows.
    """

    name: str

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        yield from ()


@dataclass(frozen=True)
class Sleep:
    """
    Silence for some seconds.
    """

    seconds: float

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        yield self.seconds


@dataclass(frozen=True)
class Silence:
    """
    Silence for ever.
    """

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        while True:
            yield None


class Vanish(Silence):
    """
    The prompt never reaches a process: L{reaching} looks for this step.
    """


def reaching(steps: Sequence[Step]) -> Sequence[Step] | None:
    """
    Return what a model makes of these steps: None when the prompt vanishes.
    """
    return None if any(isinstance(step, Vanish) for step in steps) else steps


@dataclass(frozen=True)
class ListStartup:
    """
    Says the names of the tools that the process was given.
    """

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        yield from Say(json.dumps(turn.host.offered)).play(turn)


@dataclass(frozen=True)
class Options:
    """
    Says what the worker passed to the process.
    """

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        yield from Say(json.dumps(turn.host.options)).play(turn)


@dataclass(frozen=True)
class Style:
    """
    Changes how what follows is shown: C{pace} or C{dialect}.
    """

    pace: float | None = None
    dialect: str | None = None

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        turn.pace = turn.pace if self.pace is None else self.pace
        if self.dialect is not None:
            turn.lines = PartLines(turn.sid) if self.dialect == "part" else TurnLines(turn.sid)
        yield from ()


@dataclass(frozen=True)
class Finish:
    """
    Members of the C{finish} to come, and those that it shall not have.
    """

    members: Mapping[str, Any]
    without: Collection[str] = ()

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        both = {**turn.ending, **self.members}
        turn.ending = {name: value for name, value in both.items() if name not in self.without}
        yield from ()


@dataclass(frozen=True)
class Fail:
    """
    The turn ends in an C{error} tone.
    """

    message: str
    subtype: str = "success"

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        usage = turn.ending.get("usage")
        members = {"chi": "error", "code": "worker_error", "message": self.message}
        turn.show({**members, "subtype": self.subtype, "usage": usage})
        turn.end()
        yield from ()


@dataclass(frozen=True)
class Exit:
    """
    The process ends without a result.
    """

    code: int

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        turn.exit(self.code)
        yield from ()


@dataclass(frozen=True)
class End:
    """
    The turn ends without a tone.
    """

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        turn.end()
        yield from ()


@dataclass(frozen=True)
class Raw:
    """
    Any tone to the owners of this session.
    """

    tone: Mapping[str, Any] = field(default_factory=dict)

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        if "sid" not in self.tone:
            turn.show(self.tone)
        else:
            bare = {name: value for name, value in self.tone.items() if (name, value) != ("sid", None)}
            turn.showLine(json.dumps(bare).encode() + b"\n")
        yield from ()


@dataclass(frozen=True)
class Line:
    """
    Any line to the owners of this session.
    """

    line: bytes

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        turn.showLine(self.line)
        yield from ()
