# -*- test-case-name: tests.embedded.test_script -*-
"""
The steps that a scripted model does.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from openai_server.embedded.stage import Result, Stage, Wait

#: Deltas that a step shows before it lets others have their turn.
SLICE: Final = 128

#: The worker's own words when its process says nothing about a failure.
NO_DETAIL: Final = "claude returned an error result with no detail (check auth / model / credit)"


def sliced(stage: Stage, texts: Iterator[str]) -> Iterator[Wait]:
    """
    Show deltas at the stage's pace: one at a time, or in slices between which
    others have their turn.
    """
    size = 1 if stage.pace else SLICE
    batch = list(islice(texts, size))
    while batch:
        stage.deltas(batch)
        following = list(islice(texts, size))
        if following or stage.pace:
            yield stage.pace
        batch = following


def cut(text: str, parts: int) -> Iterator[str]:
    """
    A text in so many pieces of equal length; the last may be shorter.
    """
    size = max(1, -(-len(text) // max(1, parts)))
    return (text[start : start + size] for start in range(0, len(text), size))


def words(text: str) -> Iterator[str]:
    """
    A text word by word, each with the space that follows it.
    """
    start = 0
    for place, character in enumerate(text):
        if character.isspace() and not text[place + 1 : place + 2].isspace():
            yield text[start : place + 1]
            start = place + 1
    if start < len(text):
        yield text[start:]


@dataclass(frozen=True)
class Say:
    """
    A block of text, or of reasoning.
    """

    text: str
    parts: int = 2
    kind: str = "text"

    def play(self, stage: Stage) -> Iterator[Wait]:
        stage.openBlock(self.kind)
        yield from sliced(stage, cut(self.text, self.parts))
        stage.closeBlock()


@dataclass(frozen=True)
class Words:
    """
    A block of text, a delta a word.

    @ivar pace: seconds after each word; None: as the stage has it.
    """

    text: str
    pace: float | None = None

    def play(self, stage: Stage) -> Iterator[Wait]:
        before = stage.pace
        stage.pace = (before or stage.wordPace) if self.pace is None else self.pace
        stage.openBlock("text")
        yield from sliced(stage, words(self.text))
        stage.closeBlock()
        stage.pace = before


@dataclass(frozen=True)
class Flood:
    """
    So many deltas, each with its number: C{000000 }, C{000001 }, ...
    """

    count: int

    def play(self, stage: Stage) -> Iterator[Wait]:
        stage.openBlock("text")
        yield from sliced(stage, (f"{number:06d} " for number in range(self.count)))
        stage.closeBlock()


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

    def play(self, stage: Stage) -> Iterator[Wait]:
        ids: list[str] = []
        for call in self.calls:
            if ids and self.gap:
                yield self.gap
            ids.append(self._send(stage, call))
        while any(callId not in stage.results for callId in ids):
            yield None
        for call, callId in zip(self.calls, ids, strict=True):
            yield from Say(self._said(call, stage.results[callId])).play(stage)

    def _send(self, stage: Stage, call: Call) -> str:
        callId = stage.call(call.tone, True)
        if call.again is not None:
            stage.call({**call.again, "callId": callId}, False)
        return callId

    def _said(self, call: Call, result: Result) -> str:
        form = self.failing if result.isError else self.saying
        return form.replace("{name}", call.name).replace("{result}", result.text)


@dataclass(frozen=True)
class OwnTool:
    """
    A tool that the worker runs itself: nothing of it shows.
    """

    name: str

    def play(self, stage: Stage) -> Iterator[Wait]:
        yield from ()


@dataclass(frozen=True)
class Sleep:
    """
    Silence for some seconds.
    """

    seconds: float

    def play(self, stage: Stage) -> Iterator[Wait]:
        yield self.seconds


@dataclass(frozen=True)
class Silence:
    """
    Silence for ever.
    """

    def play(self, stage: Stage) -> Iterator[Wait]:
        while True:
            yield None


@dataclass(frozen=True)
class Vanish:
    """
    The prompt never reaches a process. The worker looks for this step before
    it starts one.
    """

    def play(self, stage: Stage) -> Iterator[Wait]:
        yield from Silence().play(stage)


@dataclass(frozen=True)
class ListStartup:
    """
    Says the names of the tools that the process was given.
    """

    def play(self, stage: Stage) -> Iterator[Wait]:
        yield from Say(json.dumps(list(stage.offered))).play(stage)


@dataclass(frozen=True)
class Options:
    """
    Says what the worker passed to the process.
    """

    def play(self, stage: Stage) -> Iterator[Wait]:
        yield from Say(json.dumps(dict(stage.options))).play(stage)


@dataclass(frozen=True)
class Style:
    """
    Changes how what follows is shown: C{pace} or C{dialect}.
    """

    pace: float | None = None
    dialect: str | None = None

    def play(self, stage: Stage) -> Iterator[Wait]:
        stage.pace = stage.pace if self.pace is None else self.pace
        stage.dialect = self.dialect or stage.dialect
        yield from ()


@dataclass(frozen=True)
class Finish:
    """
    Members of the C{finish} to come, and those that it shall not have.
    """

    members: Mapping[str, Any]
    without: Collection[str] = ()

    def play(self, stage: Stage) -> Iterator[Wait]:
        both = {**stage.ending, **self.members}
        stage.ending = {name: value for name, value in both.items() if name not in self.without}
        yield from ()


@dataclass(frozen=True)
class Fail:
    """
    The turn ends in an C{error} tone.
    """

    message: str
    subtype: str = "success"

    def play(self, stage: Stage) -> Iterator[Wait]:
        usage = stage.ending.get("usage")
        members = {"chi": "error", "code": "worker_error", "message": self.message}
        stage.show({**members, "subtype": self.subtype, "usage": usage})
        stage.end()
        yield from ()


@dataclass(frozen=True)
class Exit:
    """
    The process ends without a result.
    """

    code: int

    def play(self, stage: Stage) -> Iterator[Wait]:
        stage.exit(self.code)
        yield from ()


@dataclass(frozen=True)
class End:
    """
    The turn ends without a tone.
    """

    def play(self, stage: Stage) -> Iterator[Wait]:
        stage.end()
        yield from ()


@dataclass(frozen=True)
class Raw:
    """
    Any tone to the owners of this session.
    """

    tone: Mapping[str, Any] = field(default_factory=dict)

    def play(self, stage: Stage) -> Iterator[Wait]:
        if "sid" not in self.tone:
            stage.show(self.tone)
        else:
            bare = {name: value for name, value in self.tone.items() if (name, value) != ("sid", None)}
            stage.showLine(json.dumps(bare).encode() + b"\n")
        yield from ()


@dataclass(frozen=True)
class Line:
    """
    Any line to the owners of this session.
    """

    line: bytes

    def play(self, stage: Stage) -> Iterator[Wait]:
        stage.showLine(self.line)
        yield from ()
