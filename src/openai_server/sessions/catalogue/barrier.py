# -*- test-case-name: tests.sessions.catalogue.test_barrier -*-
"""
The barrier of one worker: its turns start in the order in which they came, each
when the worker's list of tools allows it.

Nobody overtakes, or a stream of prompts with the same tools would hold up one
with other tools for ever. Only turns that have started are waited for, never
one that waits, so nothing here can wait in a circle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Hashable, Sequence
from typing import Any, Generic, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from openai_server.clock import Deadline, Timeouts
from openai_server.sessions.catalogue.toollist import LiveTools, Passage, ToolList
from openai_server.sessions.catalogue.wirenames import PromptTools
from openai_server.sessions.waiting import Waiter, waitedTooLong

#: Who waits at a barrier.
R = TypeVar("R", bound=Waiter[Any, "PromptTools | None"])


class Barrier(Generic[R]):
    """
    The list of tools of one worker, and who waits for it.

    @ivar waiting: who waits, in order.
    @ivar isMoving: whether somebody is being let through now.
    """

    __slots__ = ("_clock", "_list", "_patience", "_start", "_watch", "isMoving", "waiting")

    def __init__(
        self,
        clock: IReactorTime,
        live: LiveTools,
        room: int,
        patience: Timeouts,
        start: Callable[[R], None],
    ) -> None:
        """
        @param room: for the names that are hidden from one model, in bytes.
        @param start: starts the turn of a request that may pass now.
        """
        self._clock = clock
        self._list = ToolList(clock, live, room)
        self._patience = patience
        self._start = start
        self._watch: Deadline | None = None
        self.waiting: deque[R] = deque()
        self.isMoving = False

    def isOpenFor(self, tools: PromptTools | None) -> bool:
        """
        Whether a turn with these tools may start now, without overtaking
        anybody.
        """
        return not self.waiting and self._list.isOpenFor(tools)

    def started(self, turn: Hashable, tools: PromptTools | None) -> Passage:
        """
        Note that a prompt goes out now, and return how.
        """
        return self._list.started(turn, tools)

    def showedLife(self, turn: Hashable) -> None:
        """
        Note that the process of this turn has read its worker's list.
        """
        self._list.showedLife(turn)
        if self.waiting:
            self.move()

    def sawOthers(self, names: Sequence[str]) -> None:
        """
        Note tools that somebody else has put into the worker's list.
        """
        self._list.sawOthers(names)

    def gone(self, turn: Hashable) -> None:
        """
        Note that nobody cares any more what this turn's model sees. Who waits
        passes with the next L{move}.
        """
        self._list.gone(turn)

    def wait(self, request: R) -> None:
        """
        Start the turn of this request as soon as the list allows it.
        """
        self.waiting.append(request)
        self.move()
        if request in self.waiting:
            request.limit(self._patience, waitedTooLong)

    def leave(self, request: R) -> bool:
        """
        Wait no longer. Who stood behind passes with the next L{move}.

        @return: whether it waited here.
        """
        if request not in self.waiting:
            return False
        self.waiting.remove(request)
        return True

    def move(self) -> None:
        """
        Let through whom the list allows now.
        """
        # Whoever is let through may end its turn, or ask for another, at once.
        if self.isMoving:
            return
        self.isMoving = True
        try:
            while self.waiting and self._list.isOpenFor(self.waiting[0].wanted):
                self._let(self.waiting.popleft())
        finally:
            self.isMoving = False
        self._stopWatching()
        if self.waiting:
            self._watch = Deadline(self._clock, self._list.secondsShut(), self.move)

    def _let(self, request: R) -> None:
        try:
            self._start(request)
        except Exception:
            # A mistake with one request must not hold up the others.
            request.turnAway(Failure())

    def _stopWatching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def emptied(self) -> Sequence[R]:
        """
        Take out everybody, in order.
        """
        self._stopWatching()
        waiting, self.waiting = self.waiting, deque()
        return waiting

    def inherit(self, barriers: Sequence[Barrier[R]], turns: Container[Hashable]) -> None:
        """
        Go on where these were, as their workers are now taken for one.

        @param turns: those of their turns that are here now.
        """
        self._list.inherit([barrier._list for barrier in barriers], turns)
