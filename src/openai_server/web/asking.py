# -*- test-case-name: tests.test_world -*-
"""
What it takes to ask the daemons, joined: their turns, the sessions, and what an
earlier process has left of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.interfaces import IReactorTime

from openai_server.config import Configuration
from openai_server.daemon.interfaces import Bee
from openai_server.metrics import Counters
from openai_server.sessions.adoption import Adoption, Surroundings
from openai_server.sessions.calls import CallTable
from openai_server.sessions.hints import SessionKeys
from openai_server.sessions.lasting import LastingSessions
from openai_server.sessions.memory import Memory, SessionMemory
from openai_server.sessions.owntools import OwnTools
from openai_server.sessions.parkedturns import LastingTurns
from openai_server.sessions.plans import UserHint
from openai_server.sessions.pool import Limits
from openai_server.sessions.restoring import Restoration
from openai_server.sessions.sharedturns import SharedTurns
from openai_server.sessions.sharing import SharedSessions
from openai_server.sessions.turncontext import TurnContext
from openai_server.sessions.upstreams import NamedDaemon, Upstream, Upstreams
from openai_server.store.interfaces import StateStore
from openai_server.translate.names import TakenNames
from openai_server.web.attachments import AttachmentFolder
from openai_server.web.submission import Submitter
from openai_server.web.turnreports import TurnReporter


@dataclass
class Told:
    """
    Who hears of turns.

    @ivar reporter: of each that is over.
    @ivar onLeft: of each that another process goes on with, and tells of.
    @ivar onBroughtBack: called when some more is there again, for long, of what
        an earlier process had.
    """

    reporter: TurnReporter
    onLeft: Callable[[TurnContext], None]
    onBroughtBack: Callable[[], object]


class Asking:
    """
    Everything from a question to the daemon's seam.

    @ivar upstreams: the daemons.
    @ivar submitter: what all questions share.
    @ivar restoration: brings back what an earlier process has left; None where
        nothing lasts.
    """

    def __init__(
        self,
        clock: IReactorTime,
        configuration: Configuration,
        daemons: Sequence[NamedDaemon],
        state: StateStore,
        told: Told,
        counters: Counters,
        *,
        hid: str,
        runtimeDirectory: Path,
        now: Callable[[], float],
    ) -> None:
        """
        @param hid: this bee's own, by which it owns what it saves.
        @param runtimeDirectory: where the folder for attachments is made.
        @param now: the wall clock, in seconds since 1970.
        """
        ownTools = OwnTools(configuration.ownTools, configuration.allowedTools, configuration.disallowedTools)
        limits, room = _limitsFrom(configuration), ownTools.roomBeside
        upstreams = self.upstreams = Upstreams([Upstream(each, clock, limits, room) for each in daemons])
        lasting, turns = None, None
        if state.lasts:
            lasting = LastingSessions(state, now)
            turns = LastingTurns(state, lasting, upstreams, clock, now, hid)
        memory = SessionMemory(
            clock,
            SessionKeys(state.secret("hints")),
            _memoryFrom(configuration),
            lasting,
            upstreams.canGoOn,
        )
        self.submitter = Submitter(
            clock=clock,
            configuration=configuration,
            upstreams=upstreams,
            memory=memory,
            ownTools=ownTools,
            calls=CallTable(clock, turns),
            folder=AttachmentFolder(clock, runtimeDirectory),
            counters=counters,
            reporter=told.reporter,
            turns=turns,
            sharing=SharedSessions(memory, lasting) if lasting is not None and lasting.isShared else None,
        )
        self.restoration: Restoration | None = None
        if lasting is not None and turns is not None:
            self.restoration = self._restorationOf(state, lasting, turns, ownTools, told)
        self._hid = hid
        self._bees: Sequence[Bee] = ()
        self._taken = TakenNames()

    def _restorationOf(
        self,
        state: StateStore,
        lasting: LastingSessions,
        turns: LastingTurns,
        ownTools: OwnTools,
        told: Told,
    ) -> Restoration:
        submitter = self.submitter
        around = Surroundings(
            submitter.clock,
            submitter.upstreams,
            submitter.memory,
            submitter.calls,
            submitter.counters,
            ownTools.learn,
            told.reporter.turnOver,
            told.onLeft,
            told.onBroughtBack,
        )
        adoption = Adoption(turns, around)
        shared = SharedTurns(state, turns, around, adoption) if turns.isShared else None
        return Restoration(lasting, turns, around, adoption, shared)

    def start(self) -> None:
        """
        Remove the files that dead processes left, and bring back what can be.
        """
        self.submitter.folder.start()
        if self.restoration is not None:
            self.restoration.start()

    def stop(self) -> None:
        """
        Leave what is parked to the next process, and remove all files.
        """
        if self.restoration is not None:
            self.restoration.stop()
        self.submitter.folder.stop()

    def change(self, configuration: Configuration) -> None:
        """
        Let other settings hold from now on: those that can change.
        """
        self.submitter.configuration = configuration
        self.upstreams.change(_limitsFrom(configuration))

    def takenNames(self) -> TakenNames:
        """
        Return the names that no tool can have at the daemons now.
        """
        bees = self.upstreams.registry.bees()
        if bees is not self._bees:
            self._bees = bees
            others = [bee for bee in bees if bee.hid != self._hid]
            self._taken = TakenNames(
                frozenset(name for bee in others for name in bee.tools),
                frozenset(each for bee in others for each in bee.provides),
            )
        return self._taken


def _memoryFrom(configuration: Configuration) -> Memory:
    return Memory(continuation=configuration.continuation, userHint=UserHint(configuration.userHint))


def _limitsFrom(configuration: Configuration) -> Limits:
    return Limits(
        maxTurns=configuration.maxTurns,
        queueLength=configuration.queueLength,
        queueTimeout=configuration.queueTimeout,
    )
