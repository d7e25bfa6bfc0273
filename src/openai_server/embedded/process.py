# -*- test-case-name: tests.embedded.test_worker -*-
"""
One process of the embedded worker: it takes the prompts of its sid one after
the other.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from openai_server.embedded.models import ModelPrompt, RunCommand, isCommand
from openai_server.embedded.playback import Audience, PlayedTurn, Step
from openai_server.embedded.runqueue import RunQueue
from openai_server.embedded.settings import WorkerSettings

#: The exit code of a process that was killed.
KILLED: Final = 143

_OUR_PREFIX: Final = "mcp__hum__"


class ProcessHost(Protocol):
    """
    What a process needs of its worker.

    @ivar settings: how the worker behaves.
    @ivar clock: what it waits with.
    @ivar queue: the worker's turns that go on next.
    @ivar catalogue: names of the tools in the one list that the worker keeps.
    """

    settings: WorkerSettings
    clock: IReactorTime
    queue: RunQueue
    catalogue: list[str]

    def newCallId(self) -> str:
        """
        Return a call id that the worker has not used.
        """

    def isListed(self, process: WorkerProcess) -> bool:
        """
        Whether prompts on its sid still go to this process.
        """

    def ended(self, process: WorkerProcess) -> None:
        """
        Forget a process that is gone.
        """


class WorkerProcess:
    """
    A process: what its first prompt said it keeps.

    @ivar isUp: it has started and has read its list of tools.
    @ivar options: what the worker passed to it.
    @ivar offered: names of the tools that it read, those left out that its
        C{disallowed} takes out of the model's sight.
    """

    def __init__(self, host: ProcessHost, prompt: Mapping[str, Any], hidden: Sequence[str]) -> None:
        self.sid: str = prompt["sid"]
        self.isUp = False
        self.offered: list[str] = []
        self.options: dict[str, str | None] = {
            "system": systemOf(prompt),
            "allowed": argument(prompt.get("allowedTools"), ()),
            "disallowed": argument(prompt.get("disallowedTools"), hidden),
        }
        self.clock = host.clock
        self.queue = host.queue
        self.pace = host.settings.pace
        self.toolPatience = host.settings.toolPatience
        self.newCallId = host.newCallId
        self._shown: Mapping[str, Mapping[str, Any]] = {}
        self._disallowed = frozenset((self.options["disallowed"] or "").split(" "))
        self._host = host
        self._modelId: str = prompt.get("modelId") or "sonnet"
        self._waiting: deque[tuple[Sequence[Step], Audience]] = deque()
        self._turn: PlayedTurn | None = None
        self._timer: IDelayedCall | None = None

    @property
    def isBusy(self) -> bool:
        """
        Whether a turn is running, or will as soon as the process is up.
        """
        return self._turn is not None or bool(self._waiting)

    def stepsOf(self, prompt: Mapping[str, Any], tools: Iterable[Mapping[str, Any]]) -> Sequence[Step] | None:
        """
        Return what the model makes of a prompt, or None when that vanishes.

        @param tools: the definitions that came with it; the model is shown
            each name of the first prompt's once, and none that is disallowed.
        """
        given = prompt.get("content", prompt.get("text"))
        content = given if isinstance(given, str) else ""
        if not self.isUp:
            self._shown = {tool["name"]: tool for tool in tools if not self._isHidden(tool["name"])}
        if isCommand(content):
            return [RunCommand()]
        model = self._host.settings.models[self._modelId]
        return model(ModelPrompt(content, list(self._shown.values())))

    def start(self) -> None:
        """
        Begin to start.
        """
        self._timer = self.clock.callLater(self._host.settings.startUp, self._started)

    def take(self, steps: Sequence[Step], audience: Audience) -> None:
        """
        Answer a prompt when those before it have been answered.

        @param steps: what the model makes of it.
        @param audience: where the answer goes.
        """
        self._waiting.append((steps, audience))
        if self.isUp and self._turn is None:
            self._next()

    def kill(self) -> None:
        """
        End now; a running turn says so.
        """
        self._waiting.clear()
        if self._turn is None:
            self.die()
        else:
            self._turn.kill(KILLED)

    def die(self) -> None:
        """
        End now, without a word.
        """
        self._waiting.clear()
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.drop()
        self._stopTimer()
        self._host.ended(self)

    # From its turn.

    def sessionReady(self) -> Mapping[str, Any]:
        """
        Return what C{session-ready} says about the process.
        """
        ours = [_OUR_PREFIX + modelName(name) for name in self.offered]
        return {"model": self._modelId, "tools": [*self._host.settings.ownTools, *ours]}

    def turnOver(self, exitCode: int | None) -> None:
        """
        Go on with the next prompt, or wait for one; with an exit code, end.
        """
        self._turn = None
        if exitCode is None and self._waiting:
            self._next()
        elif exitCode is None and self._host.isListed(self):
            self._timer = self.clock.callLater(self._host.settings.idleTime, self.die)
        else:
            self.die()

    # Inside.

    def _started(self) -> None:
        self._timer = None
        self.isUp = True
        self.offered = [name for name in self._host.catalogue if not self._isHidden(name)]
        self._next()

    def _isHidden(self, name: str) -> bool:
        return _OUR_PREFIX + modelName(name) in self._disallowed

    def _next(self) -> None:
        self._stopTimer()
        steps, audience = self._waiting.popleft()
        self._turn = PlayedTurn(steps, self, audience)
        self.queue.wake(self._turn)

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


def systemOf(prompt: Mapping[str, Any]) -> str | None:
    """
    Return the system prompt that the process is given.
    """
    system = prompt.get("systemPrompt")
    return system if isinstance(system, str) and system else None


def argument(names: Any, more: Sequence[str]) -> str | None:
    """
    Return names of tools as the one argument that they are passed in.
    """
    given = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return " ".join([*given, *more]) or None


def modelName(name: str) -> str:
    """
    Return the name under which a model is shown a tool.
    """
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)
