# -*- test-case-name: tests.sessions.catalogue -*-
"""
All that keeps the tools of one turn out of the sight of others.

A worker keeps one list of tools for all its turns (seen with humd 0.31.18). So
turns with other tools wait until those before them have read the list
(L{barrier<openai_server.sessions.catalogue.barrier>}), tools of one name get
names of their own (L{openai_server.sessions.catalogue.wirenames}), and names
that the list still holds are hidden from turns without tools
(L{openai_server.wire.hiding}). With a daemon that keeps a list for each session
this folder can go: what the rest sees of it is L{Catalogue}, L{Barrier},
L{PromptTools} and L{WireNames}. Which names are live, and hidden while a prompt
passes, is a matter of the connection: see L{openai_server.daemon.registration}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from openai_server.clock import Timeouts
from openai_server.sessions.catalogue.barrier import Barrier, R
from openai_server.sessions.catalogue.toollist import LiveTools
from openai_server.sessions.contexts import ToolSet
from openai_server.wire.hiding import MAX_ARGUMENT, checkNames

#: Seconds that a request with its slot waits for turns with other tools.
PATIENCE: Final = 120.0


class Catalogue:
    """
    The tool lists of all workers.
    """

    def __init__(
        self,
        clock: IReactorTime,
        room: int = MAX_ARGUMENT,
        live: LiveTools = dict,
        patience: float = PATIENCE,
    ) -> None:
        """
        @param room: for the names that are hidden from one model, in bytes.
        @param live: gives the tools of all turns that are not over.
        @param patience: seconds that a request waits at a barrier.
        """
        self._clock = clock
        self._live = live
        self._room = room
        self._patience = Timeouts(clock, patience)

    def check(self, tools: ToolSet, param: str) -> None:
        """
        Check that the tools of one request can be hidden from all others.

        @raise APIError: 400 with this C{param}.
        """
        checkNames(tools.names, self._room, param)

    def barrier(self, start: Callable[[R], None]) -> Barrier[R]:
        """
        Return the barrier of one more worker.

        @param start: starts the turn of a request that may pass now.
        """
        return Barrier(self._clock, self._live, self._room, self._patience, start)

    def stop(self) -> None:
        """
        Drop the timer; nobody may wait any more.
        """
        self._patience.stop()
