# -*- test-case-name: tests.embedded.test_worker -*-
"""
The embedded daemon's worker: behaves as humd's claude-cli worker does, with a
scripted model in place of the CLI.

What it is faithful in, all seen with humd 0.31.18: one process for a sid,
started by its first prompt and warm until it has been idle for long; a warm
process keeps its system prompt, model and tools; one list of tools for the
whole worker, overwritten by every prompt that brings some and read by each
process when it has started; prompts that vanish; C{cancel} that does nothing.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from openai_server.embedded.cell import Cell, vanishes
from openai_server.embedded.settings import Settings
from openai_server.embedded.stage import Result
from openai_server.embedded.turn import Turn
from openai_server.wire.ids import base36

#: Tones that all turns of a worker show before the reactor has its turn.
TURN_TONES: Final = 256

#: Bytes that do not fit into one argument of a command line.
ARGUMENT_LIMIT: Final = 131072

#: The tools of its own that a worker does without, by the capability that a bee provides.
CAPABILITIES: Final[Mapping[str, Sequence[str]]] = {
    "fs": ("Bash", "Edit", "Glob", "Grep", "MultiEdit", "Read", "Write"),
}

#: The sid becomes a path segment of a URL in the worker.
_GOOD_SID: Final = re.compile(r"[^/ %?#\x00-\x1f\x7f-\U0010ffff]+")


class Post(Protocol):
    """
    The daemon, as far as a worker is concerned.
    """

    def deliver(self, sid: str, lines: list[bytes]) -> None:
        """
        Lines for the owners of a session.
        """

    def isCrowded(self, sid: str) -> bool:
        """
        An owner of the session does not keep up.
        """

    def routeCall(self, tone: dict[str, Any], worker: Worker) -> None:
        """
        A tool-call for the bee that lists its name, or else the owners.
        """

    def forgetCall(self, sid: str, callId: str) -> None:
        """
        The worker no longer waits for the result of this call.
        """


class Worker:
    """
    A worker of the embedded daemon.

    @ivar name: the daemon's id for its connection.
    @ivar catalogue: names of the tools in the one list that it keeps.
    """

    def __init__(
        self, name: str, models: Sequence[str], settings: Settings, clock: IReactorTime, startTime: int
    ) -> None:
        self.name = name
        self.models = models
        self.settings = settings
        self.clock = clock
        self.catalogue: list[str] = []
        self._time = base36(startTime)
        self._calls = 0
        #: By sid, the longest unused first.
        self._cells: dict[str, Cell] = {}
        #: Those that are alive, listed above or not.
        self._alive: set[Cell] = set()
        #: Who waits for a result, by sid and call id.
        self._callers: dict[tuple[str, str], Turn] = {}
        self._ready: deque[Turn] = deque()
        self._run: IDelayedCall | None = None

    @property
    def processes(self) -> int:
        """
        How many processes are alive.
        """
        return len(self._alive)

    @property
    def isIdle(self) -> bool:
        """
        No turn is running or waiting in any process.
        """
        return not any(cell.isBusy for cell in self._alive)

    def manifest(self) -> dict[str, Any]:
        """
        What the registry file says about this worker.
        """
        return {
            "name": "claude-cli",
            "version": "0.31.18",
            "proto_version": "0.7.0",
            "bee": ["worker"],
            "models": list(self.models),
            "hid": "fbee_" + sha256(self.name.encode()).hexdigest(),
        }

    # From the daemon.

    def prompt(
        self,
        tone: Mapping[str, Any],
        offers: Sequence[Mapping[str, Any]],
        provided: Iterable[str],
        post: Post,
    ) -> None:
        """
        A prompt for one of this worker's models.

        @param tone: its members; C{tools} without what a capability took out.
        @param offers: what all bees list in their hellos (C{foragerTools}).
        @param provided: the capabilities that bees provide.
        @param post: where the answer goes: the daemon that asked, and no later one.
        """
        tools = definitions(tone.get("tools"))
        if offers or tools:
            self.catalogue = [tool["name"] for tool in (*offers, *tools)]
        hidden = sorted({name for each in provided for name in CAPABILITIES.get(each, ())})
        cell = self._cells.get(tone["sid"])
        if cell is None or not cell.isUp:
            cell = Cell(self, tone, hidden)
            if not canStart(cell.sid, cell.options):
                return
        steps = cell.stepsOf({**tone, "tools": cell.visible([*tools, *offers])})
        if vanishes(steps):
            return
        self._use(cell)
        cell.take(steps, post)

    def cancel(self, sid: str) -> None:
        """
        Does nothing, as in 0.31.18, unless the setting says that this worker kills.
        """
        if self.settings.kills:
            for cell in [cell for cell in self._alive if cell.sid == sid]:
                cell.kill()

    def answer(self, tone: Mapping[str, Any]) -> None:
        """
        A C{tool-result} for a call of this worker's.
        """
        turn = self._callers.get((tone["sid"], tone["callId"]))
        if turn is not None:
            turn.answer(tone["callId"], Result(outputOf(tone), tone.get("isError") is True))

    def stop(self) -> None:
        """
        The worker dies, and its processes with it, without a word.
        """
        for cell in list(self._alive):
            cell.die()
        self._cells.clear()
        self._ready.clear()
        self._callers.clear()
        if self._run is not None:
            self._run.cancel()
            self._run = None

    # From its processes.

    def wake(self, turn: Turn) -> None:
        """
        Let a turn go on when others have had theirs.
        """
        self._ready.append(turn)
        if self._run is None:
            self._run = self.clock.callLater(0, self._runReady)

    def newCallId(self) -> str:
        """
        A call id that this worker has not used.
        """
        self._calls += 1
        return f"call-{self._time}-{self._calls - 1}"

    def callOpen(self, sid: str, callId: str, turn: Turn) -> None:
        """
        A turn waits for the result of this call.
        """
        self._callers[sid, callId] = turn

    def callOver(self, sid: str, callId: str) -> None:
        """
        Nobody waits for the result of this call any more.
        """
        self._callers.pop((sid, callId), None)

    def unlist(self, cell: Cell) -> None:
        """
        The next prompt on the sid of this process starts another one.
        """
        if self._cells.get(cell.sid) is cell:
            del self._cells[cell.sid]

    def ended(self, cell: Cell) -> None:
        """
        A process is gone.
        """
        self.unlist(cell)
        self._alive.discard(cell)

    def isListed(self, cell: Cell) -> bool:
        """
        Whether prompts on its sid still go to this process.
        """
        return self._cells.get(cell.sid) is cell

    # Inside.

    def _use(self, cell: Cell) -> None:
        self._cells.pop(cell.sid, None)
        self._cells[cell.sid] = cell
        if cell not in self._alive:
            self._alive.add(cell)
            cell.start()
        if len(self._cells) > self.settings.maxCells:
            self._evict(next(iter(self._cells.values())))

    def _evict(self, cell: Cell) -> None:
        self.unlist(cell)
        if self.settings.kills:
            cell.kill()
        else:
            cell.endIfIdle()

    def _runReady(self) -> None:
        self._run = None
        left = TURN_TONES
        while self._ready and left > 0:
            turn = self._ready.popleft()
            if not turn.isOver:
                left -= turn.advance()
        if self._ready and self._run is None:
            self._run = self.clock.callLater(0, self._runReady)


def definitions(tools: Any) -> list[Mapping[str, Any]]:
    """
    The tool definitions in a member of a tone that should be a list of them.
    """
    if not isinstance(tools, list):
        return []
    return [tool for tool in tools if isinstance(tool, dict) and isinstance(tool.get("name"), str)]


def canStart(sid: str, options: Mapping[str, str | None]) -> bool:
    """
    Whether a process can be started for a prompt. When not, the worker logs it
    and nobody is told.
    """
    given = [value for value in options.values() if value is not None]
    fits = all(len(value.encode()) < ARGUMENT_LIMIT and "\0" not in value for value in given)
    return fits and _GOOD_SID.fullmatch(sid) is not None


def outputOf(tone: Mapping[str, Any]) -> str:
    """
    What the model reads of a C{tool-result}: the first member there counts,
    and only a string counts.
    """
    for name in ("output", "result", "content"):
        if name in tone:
            return tone[name] if isinstance(tone[name], str) else "(no output)"
    return "(no output)"
