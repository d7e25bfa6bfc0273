# -*- test-case-name: tests.embedded.test_worker -*-
"""
One prompt being answered: the turn, and what the steps of a model do to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from openai_server.embedded.lines import TurnLines, nestId
from openai_server.embedded.runqueue import RunQueue

#: What the model reads when a result has not come in time.
TIMED_OUT: Final = "The operation timed out."

#: The usage of a turn that says nothing else about it.
USAGE: Final[Mapping[str, Any]] = {
    "input_tokens": 10,
    "cache_read_input_tokens": 30,
    "cache_creation_input_tokens": 20,
    "output_tokens": 42,
    "server_tool_use": {"web_search_requests": 0},
    "service_tier": "standard",
}

#: What a step waits for: seconds (0: the others' turn), or None: a result.
Wait: TypeAlias = float | None


class ToolResult(NamedTuple):
    """
    What a tool-call came back with.
    """

    text: str
    isError: bool


class Step(Protocol):
    """
    One thing that a model does.
    """

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        """
        Do it, yielding whenever there is something to wait for.
        """


class Audience(Protocol):
    """
    The daemon, as far as a turn is concerned.
    """

    def deliver(self, sid: str, lines: list[bytes]) -> None:
        """
        Give lines to the owners of a session.
        """

    def routeCall(self, tone: dict[str, Any], turn: PlayedTurn) -> None:
        """
        Give a tool-call to the bee that lists its name, or else to the owners.
        """

    def forgetCall(self, sid: str, callId: str) -> None:
        """
        Route no result of this call any more.
        """


class TurnHost(Protocol):
    """
    What a turn needs of the process that it runs in.

    @ivar sid: the session.
    @ivar clock: what it waits with.
    @ivar queue: the turns of the worker that go on next.
    @ivar pace: seconds after each delta.
    @ivar toolPatience: seconds that the model waits for a result.
    @ivar offered: names of the tools that the process was given, its own left out.
    @ivar options: what the worker passed to the process: C{system},
        C{allowed}, C{disallowed}.
    """

    sid: str
    clock: IReactorTime
    queue: RunQueue
    pace: float
    toolPatience: float
    offered: list[str]
    options: dict[str, str | None]

    def sessionReady(self) -> Mapping[str, Any]:
        """
        Return what C{session-ready} says about the process.
        """

    def newCallId(self) -> str:
        """
        Return a call id that the worker has not used.
        """

    def turnOver(self, exitCode: int | None) -> None:
        """
        Take the turn's end, and with an exit code that of the process too.
        """


class PlayedTurn:
    """
    Plays the steps of one prompt.

    @ivar host: the process that it runs in.
    @ivar pace: seconds after each delta.
    @ivar lines: the form of the tones.
    @ivar ending: members of the C{finish} to come.
    @ivar results: results of tool-calls by call id.
    @ivar isOver: nothing more is shown.
    """

    def __init__(self, steps: Sequence[Step], host: TurnHost, audience: Audience) -> None:
        self.host = host
        self.sid = host.sid
        self.pace = host.pace
        self.lines = TurnLines(host.sid)
        self.ending: dict[str, Any] = {"chi": "finish", "finishReason": "success", "usage": USAGE}
        self.results: dict[str, ToolResult] = {}
        self.isOver = False
        self._audience = audience
        self._shown: list[bytes] = []
        self._block = -1
        self._kind = "text"
        self._exitCode: int | None = None
        self._open: dict[str, tuple[Mapping[str, Any], IDelayedCall]] = {}
        self._timer: IDelayedCall | None = None
        self._waitsForResult = False
        self._play: Iterator[Wait] = self._playAll(steps)

    def advance(self) -> int:
        """
        Go on to the next wait.

        @return: how many tones were shown.
        """
        self._timer = None
        self._waitsForResult = False
        try:
            wait = next(self._play)
        except StopIteration:
            return self._finished()
        shown = self._flush()
        if not self.isOver:
            self._pause(wait)
        return shown

    def answer(self, tone: Mapping[str, Any]) -> None:
        """
        Take a C{tool-result}. It is ignored when its call is not open.
        """
        callId = tone["callId"]
        found = self._open.pop(callId, None)
        if found is None:
            return
        call, timer = found
        timer.cancel()
        result = ToolResult(outputOf(tone), tone.get("isError") is True)
        self.show(
            {
                "chi": "chunk",
                "chunkType": "tool_executed",
                "callId": callId,
                "toolName": call.get("toolName", call.get("name")),
                "arguments": call.get("args"),
                "output": result.text,
                "isError": result.isError,
            }
        )
        self._flush()
        self._take(callId, result)

    def kill(self, exitCode: int) -> None:
        """
        End as a turn whose process was killed: it says so.
        """
        self.exit(exitCode)
        self._finished()

    def drop(self) -> None:
        """
        End without a word.
        """
        self.isOver = True
        self._play = iter(())
        for callId, (_, timer) in self._open.items():
            timer.cancel()
            self._audience.forgetCall(self.sid, callId)
        self._open.clear()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    # For the steps.

    def openBlock(self, kind: str) -> None:
        """
        Begin a block: C{text} or C{reasoning}.
        """
        self._block += 1
        self._kind = kind
        self._shown += self.lines.opening(kind, self._block)

    def deltas(self, texts: Sequence[str]) -> None:
        """
        Show deltas of the open block.
        """
        self._shown += self.lines.deltas(self._kind, self._block, texts)

    def closeBlock(self) -> None:
        """
        End the open block.
        """
        self._shown += self.lines.closing(self._block)

    def show(self, members: Mapping[str, Any]) -> None:
        """
        Show a tone of this session.
        """
        self._shown.append(self.lines.stamped(members))

    def showLine(self, line: bytes) -> None:
        """
        Show a line as it is.
        """
        self._shown.append(line)

    def call(self, tone: Mapping[str, Any], isAwaited: bool = True) -> str:
        """
        Send a tool-call.

        @param tone: its members; a C{callId} among them is kept.
        @param isAwaited: whether the model waits for a result of its own.
        @return: the call's id.
        """
        self._flush()
        callId: str = tone["callId"] if "callId" in tone else self.host.newCallId()
        self._block = -1
        if isAwaited:
            timer = self.host.clock.callLater(self.host.toolPatience, self._timedOut, callId)
            self._open[callId] = (tone, timer)
        self._audience.routeCall({**tone, "sid": self.sid, "callId": callId}, self)
        return callId

    def end(self) -> None:
        """
        End the turn without another tone.
        """
        self.isOver = True

    def exit(self, code: int) -> None:
        """
        End the process.
        """
        reason = "error" if code else "stop"
        self.show({"chi": "finish", "exitCode": code, "finishReason": reason})
        self._exitCode = code
        self.isOver = True

    # Inside.

    def _playAll(self, steps: Sequence[Step]) -> Iterator[Wait]:
        self.show({"chi": "session-ready", "nestId": nestId(self.sid), **self.host.sessionReady()})
        for step in steps:
            yield from step.play(self)
            if self.isOver:
                return
        self.show(self.ending)

    def _pause(self, wait: Wait) -> None:
        if wait is None:
            self._waitsForResult = True
        elif wait:
            self._timer = self.host.clock.callLater(wait, self.host.queue.wake, self)
        else:
            self.host.queue.wake(self)

    def _finished(self) -> int:
        shown = self._flush()
        self.drop()
        self.host.turnOver(self._exitCode)
        return shown

    def _flush(self) -> int:
        shown, self._shown = self._shown, []
        if shown:
            self._audience.deliver(self.sid, shown)
        return len(shown)

    def _timedOut(self, callId: str) -> None:
        del self._open[callId]
        self._take(callId, ToolResult(TIMED_OUT, True))

    def _take(self, callId: str, result: ToolResult) -> None:
        self._audience.forgetCall(self.sid, callId)
        self.results[callId] = result
        if self._waitsForResult:
            self._waitsForResult = False
            self.host.queue.wake(self)


def outputOf(tone: Mapping[str, Any]) -> str:
    """
    Return what the model reads of a C{tool-result}: the first of these members
    counts, and only a string counts.
    """
    for name in ("output", "result", "content"):
        if name in tone:
            return tone[name] if isinstance(tone[name], str) else "(no output)"
    return "(no output)"
