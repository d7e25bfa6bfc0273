# -*- test-case-name: tests.embedded.test_worker -*-
"""
One process of the embedded worker: it takes the prompts of its sid one after
the other.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IDelayedCall

from openai_server.embedded.models import Question
from openai_server.embedded.stage import Step
from openai_server.embedded.steps import Vanish
from openai_server.embedded.turn import Turn

if TYPE_CHECKING:
    from openai_server.embedded.worker import Post, Worker

#: The exit code of a process that was killed.
KILLED: Final = 143

_OUR_PREFIX: Final = "mcp__hum__"


class Cell:
    """
    A process: what its first prompt said it keeps.

    @ivar isUp: it has started and has read its list of tools.
    @ivar options: what the worker passed to it.
    @ivar offered: names of the tools that it read, those left out that its
        C{disallowed} takes out of the model's sight.
    """

    def __init__(self, worker: Worker, prompt: Mapping[str, Any], hidden: Sequence[str]) -> None:
        self.sid: str = prompt["sid"]
        self.isUp = False
        self.offered: list[str] = []
        self.options: dict[str, str | None] = {
            "system": systemOf(prompt),
            "allowed": argument(prompt.get("allowedTools"), ()),
            "disallowed": argument(prompt.get("disallowedTools"), hidden),
        }
        self._disallowed = frozenset((self.options["disallowed"] or "").split(" "))
        self.clock = worker.clock
        self.toolPatience = worker.settings.toolPatience
        self.waitsForClients = worker.settings.waitsForClients
        self._worker = worker
        self._modelId: str = prompt.get("modelId") or "sonnet"
        self._waiting: deque[tuple[Sequence[Step], Post]] = deque()
        self._turn: Turn | None = None
        self._post: Post | None = None
        self._timer: IDelayedCall | None = None

    @property
    def isBusy(self) -> bool:
        """
        A turn is running, or will as soon as the process is up.
        """
        return self._turn is not None or bool(self._waiting)

    def stepsOf(self, prompt: Mapping[str, Any]) -> Sequence[Step]:
        """
        What the model makes of a prompt.
        """
        content = prompt.get("content", prompt.get("text"))
        tools = prompt.get("tools")
        question = Question(content if isinstance(content, str) else "", tools if tools else ())
        return self._worker.settings.models[self._modelId](question)

    def visible(self, tools: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """
        The definitions that a model is shown of those that came with its
        prompt, each name once.
        """
        byName = {tool["name"]: tool for tool in tools if not self._isHidden(tool["name"])}
        return list(byName.values())

    def start(self) -> None:
        """
        Begin to start.
        """
        self._timer = self.clock.callLater(self._worker.settings.startUp, self._started)

    def take(self, steps: Sequence[Step], post: Post) -> None:
        """
        Answer a prompt when those before it have been answered.

        @param steps: what the model makes of it.
        @param post: where the answer goes.
        """
        self._waiting.append((steps, post))
        if self.isUp and self._turn is None:
            self._next()

    def kill(self) -> None:
        """
        End now; a running turn says so.
        """
        turn = self._turn
        self._waiting.clear()
        if turn is None:
            self.die()
        else:
            turn.kill(KILLED)

    def die(self) -> None:
        """
        End now, without a word.
        """
        self._waiting.clear()
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.drop()
        self._stopTimer()
        self._worker.ended(self)

    def endIfIdle(self) -> None:
        """
        End, unless there is something to do.
        """
        if not self.isBusy:
            self.die()

    # What a turn needs.

    def sessionReady(self) -> Mapping[str, Any]:
        """
        See L{openai_server.embedded.turn.Household.sessionReady}.
        """
        ours = [_OUR_PREFIX + modelName(name) for name in self.offered]
        return {"model": self._modelId, "tools": [*self._worker.settings.ownTools, *ours]}

    def wake(self, turn: Turn) -> None:
        """
        See L{openai_server.embedded.turn.Household.wake}.
        """
        self._worker.wake(turn)

    def deliver(self, lines: list[bytes]) -> None:
        """
        See L{openai_server.embedded.turn.Household.deliver}.
        """
        if self._post is not None:
            self._post.deliver(self.sid, lines)

    def isCrowded(self) -> bool:
        """
        See L{openai_server.embedded.turn.Household.isCrowded}.
        """
        return self._post is not None and self._post.isCrowded(self.sid)

    def newCallId(self) -> str:
        """
        See L{openai_server.embedded.turn.Household.newCallId}.
        """
        return self._worker.newCallId()

    def routeCall(self, tone: dict[str, Any], turn: Turn) -> None:
        """
        See L{openai_server.embedded.turn.Household.routeCall}.
        """
        self._worker.callOpen(self.sid, tone["callId"], turn)
        if self._post is not None:
            self._post.routeCall(tone, self._worker)

    def callOver(self, callId: str) -> None:
        """
        See L{openai_server.embedded.turn.Household.callOver}.
        """
        self._worker.callOver(self.sid, callId)
        if self._post is not None:
            self._post.forgetCall(self.sid, callId)

    def turnOver(self, exitCode: int | None) -> None:
        """
        See L{openai_server.embedded.turn.Household.turnOver}.
        """
        self._turn = None
        if exitCode is not None:
            self.die()
        elif self._waiting:
            self._next()
        elif self._worker.isListed(self):
            self._timer = self.clock.callLater(self._worker.settings.idleTime, self.die)
        else:
            self.die()

    # Inside.

    def _started(self) -> None:
        self._timer = None
        self.isUp = True
        self.offered = [name for name in self._worker.catalogue if not self._isHidden(name)]
        self._next()

    def _isHidden(self, name: str) -> bool:
        return _OUR_PREFIX + modelName(name) in self._disallowed

    def _next(self) -> None:
        self._stopTimer()
        steps, self._post = self._waiting.popleft()
        self._turn = Turn(self.sid, steps, self, self._worker.settings.pace)
        self._worker.wake(self._turn)

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


def vanishes(steps: Sequence[Step]) -> bool:
    """
    Whether a prompt with these steps never reaches a process.
    """
    return any(isinstance(step, Vanish) for step in steps)


def systemOf(prompt: Mapping[str, Any]) -> str | None:
    """
    The system prompt that the process is given.
    """
    system = prompt.get("systemPrompt")
    return system if isinstance(system, str) and system else None


def argument(names: Any, more: Sequence[str]) -> str | None:
    """
    Names of tools as the one argument that they are passed in.
    """
    given = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return " ".join([*given, *more]) or None


def modelName(name: str) -> str:
    """
    The name under which a model is shown a tool.
    """
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)
