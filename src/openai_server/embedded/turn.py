# -*- test-case-name: tests.embedded.test_worker -*-
"""
One prompt being answered by a process of the embedded worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from openai_server.embedded.lines import TurnLines, nestId
from openai_server.embedded.stage import Result, Step, Wait

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

#: Seconds between two looks at a client that does not keep up.
_CROWD_WAIT: Final = 0.001


class Household(Protocol):
    """
    What a turn needs of the process and the worker that it runs in.
    """

    clock: IReactorTime
    toolPatience: float
    waitsForClients: bool

    @property
    def offered(self) -> Sequence[str]:
        """
        Names of the tools that the process was given, its own left out.
        """

    @property
    def options(self) -> Mapping[str, str | None]:
        """
        What the worker passed to the process.
        """

    def sessionReady(self) -> Mapping[str, Any]:
        """
        What C{session-ready} says about the process.
        """

    def wake(self, turn: Turn) -> None:
        """
        Let the turn go on when others have had theirs.
        """

    def deliver(self, lines: list[bytes]) -> None:
        """
        Lines for the owners of the session.
        """

    def isCrowded(self) -> bool:
        """
        An owner of the session does not keep up.
        """

    def newCallId(self) -> str:
        """
        A call id that this worker has not used.
        """

    def routeCall(self, tone: dict[str, Any], turn: Turn) -> None:
        """
        A tool-call for whoever answers to its name.
        """

    def callOver(self, callId: str) -> None:
        """
        Nobody waits for the result of this call any more.
        """

    def turnOver(self, exitCode: int | None) -> None:
        """
        The turn has ended, and with an exit code the process too.
        """


class Turn:
    """
    Plays the steps of one prompt: the L{openai_server.embedded.stage.Stage}.
    """

    def __init__(self, sid: str, steps: Sequence[Step], house: Household, wordPace: float) -> None:
        self.sid = sid
        self.pace = 0.0
        self.wordPace = wordPace
        self.dialect = "chunkType"
        self.ending: dict[str, Any] = {"chi": "finish", "finishReason": "success", "usage": USAGE}
        self.results: dict[str, Result] = {}
        self.isOver = False
        self._lines = TurnLines(sid)
        self._house = house
        self._shown: list[bytes] = []
        self._block = -1
        self._kind = "text"
        self._exitCode: int | None = None
        self._open: dict[str, tuple[Mapping[str, Any], IDelayedCall]] = {}
        self._timer: IDelayedCall | None = None
        self._waitsForResult = False
        self._play: Iterator[Wait] = self._playAll(steps)

    @property
    def offered(self) -> Sequence[str]:
        """
        See L{openai_server.embedded.stage.Stage}.
        """
        return self._house.offered

    @property
    def options(self) -> Mapping[str, str | None]:
        """
        See L{openai_server.embedded.stage.Stage}.
        """
        return self._house.options

    def advance(self) -> int:
        """
        Go on to the next wait.

        @return: how many tones were shown.
        """
        self._timer = None
        if self._house.waitsForClients and self._house.isCrowded():
            self._timer = self._house.clock.callLater(_CROWD_WAIT, self._house.wake, self)
            return 0
        self._waitsForResult = False
        try:
            wait = next(self._play)
        except StopIteration:
            return self._finished()
        shown = self._flush()
        if not self.isOver:
            self._pause(wait)
        return shown

    def answer(self, callId: str, result: Result) -> None:
        """
        The result of a call has come. Ignored when the call is not open.
        """
        found = self._open.pop(callId, None)
        if found is None:
            return
        call, timer = found
        if timer.active():
            timer.cancel()
        self._show(
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
        self._take(callId, result)

    def kill(self, exitCode: int) -> None:
        """
        The process was killed: the turn says so and is over.
        """
        self.exit(exitCode)
        self._finished()

    def drop(self) -> None:
        """
        The turn is over without a word.
        """
        self.isOver = True
        self._play = iter(())
        for callId, (_, timer) in self._open.items():
            if timer.active():
                timer.cancel()
            self._house.callOver(callId)
        self._open.clear()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    # The stage.

    def openBlock(self, kind: str) -> None:
        """
        See L{openai_server.embedded.stage.Stage.openBlock}.
        """
        self._block += 1
        self._kind = kind
        if self.dialect != "part":
            self.show({"chi": "chunk", "chunkType": f"{kind}_start", "blockIdx": self._block})

    def deltas(self, texts: Sequence[str]) -> None:
        """
        See L{openai_server.embedded.stage.Stage.deltas}.
        """
        make = self._lines.parts if self.dialect == "part" else self._lines.deltas
        self._shown += make(self._kind, self._block, texts)

    def closeBlock(self) -> None:
        """
        See L{openai_server.embedded.stage.Stage.closeBlock}.
        """
        if self.dialect != "part":
            self.show({"chi": "chunk", "chunkType": "content_block_stop", "blockIdx": self._block})

    def show(self, members: Mapping[str, Any]) -> None:
        """
        See L{openai_server.embedded.stage.Stage.show}.
        """
        self._shown.append(self._lines.stamped(members))

    def showLine(self, line: bytes) -> None:
        """
        See L{openai_server.embedded.stage.Stage.showLine}.
        """
        self._shown.append(line)

    def call(self, tone: Mapping[str, Any], patience: bool) -> str:
        """
        See L{openai_server.embedded.stage.Stage.call}.
        """
        self._flush()
        callId: str = tone["callId"] if "callId" in tone else self._house.newCallId()
        self._block = -1
        if patience:
            timer = self._house.clock.callLater(self._house.toolPatience, self._timedOut, callId)
            self._open[callId] = (tone, timer)
        self._house.routeCall({**tone, "sid": self.sid, "callId": callId}, self)
        return callId

    def end(self) -> None:
        """
        See L{openai_server.embedded.stage.Stage.end}.
        """
        self.isOver = True

    def exit(self, code: int) -> None:
        """
        See L{openai_server.embedded.stage.Stage.exit}.
        """
        reason = "error" if code else "stop"
        self.show({"chi": "finish", "exitCode": code, "finishReason": reason})
        self._exitCode = code
        self.isOver = True

    # Inside.

    def _playAll(self, steps: Sequence[Step]) -> Iterator[Wait]:
        self.show({"chi": "session-ready", "nestId": nestId(self.sid), **self._house.sessionReady()})
        for step in steps:
            yield from step.play(self)
            if self.isOver:
                return
        self.show(self.ending)

    def _pause(self, wait: Wait) -> None:
        if wait is None:
            self._waitsForResult = True
        elif wait:
            self._timer = self._house.clock.callLater(wait, self._house.wake, self)
        else:
            self._house.wake(self)

    def _finished(self) -> int:
        shown = self._flush()
        self.drop()
        self._house.turnOver(self._exitCode)
        return shown

    def _flush(self) -> int:
        shown, self._shown = self._shown, []
        if shown:
            self._house.deliver(shown)
        return len(shown)

    def _show(self, members: Mapping[str, Any]) -> None:
        self.show(members)
        self._flush()

    def _timedOut(self, callId: str) -> None:
        del self._open[callId]
        self._take(callId, Result(TIMED_OUT, True))

    def _take(self, callId: str, result: Result) -> None:
        self._house.callOver(callId)
        self.results[callId] = result
        if self._waitsForResult:
            self._waitsForResult = False
            self._house.wake(self)
