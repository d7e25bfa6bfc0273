# -*- test-case-name: tests.flow.test_processes -*-
"""
Parked turns that pass from one process to another one.

The daemon gives a call to any bee that lists its name (humd 0.31.18). The
process that had a turn lists the names of its tools until it has heard that
another one goes on with it, and a call that reaches it and dies with it is lost:
the model waits in vain. So whoever takes a turn says nothing to its model
until the former process has said that it has let go, or long enough for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from openai_server.clock import Timeouts
from openai_server.store.interfaces import StateStore

#: Of what processes are told: which of them goes on with a turn, or has let go
#: of one, and its sid.
TAKEN: Final = "turn-taken"
LEFT: Final = "turn-left"
#: Seconds within which a process that lives lets go.
PATIENCE: Final = 1.0


class Handovers:
    """
    Says which turns this process takes and leaves, hears which ones the others
    take, and waits for them.

    @ivar onTaken: told the sid of each turn that another process takes; None
        where some may have been taken without a word of it.
    """

    def __init__(self, state: StateStore, owner: str, clock: IReactorTime) -> None:
        """
        @param owner: this process's name.
        """
        self.onTaken: Callable[[str | None], None] = lambda sid: None
        self._state = state
        self._owner = owner
        self._timeouts = Timeouts(clock, PATIENCE)
        self._waits: dict[str, Deferred[None]] = {}
        self._unhear: Sequence[Callable[[], None]] = ()

    def start(self) -> None:
        """
        Listen.
        """
        hear = self._state.hear
        self._unhear = [hear(TAKEN, self._heardOfTaking), hear(LEFT, self._heardOfLeaving)]

    def stop(self) -> None:
        """
        Wait for nobody: what is saved of turns that were waited for stays there
        for the next process.
        """
        for unhear in self._unhear:
            unhear()
        self._unhear = ()
        self._timeouts.stop()
        self._waits.clear()

    def taken(self, sid: str) -> None:
        """
        Tell the other processes that this one goes on with the turn of a sid.
        """
        wait = self._waits[sid] = Deferred()
        self._timeouts.begin(partial(self._over, sid, wait))
        self._state.tell(TAKEN, f"{self._owner} {sid}")

    def left(self, sid: str) -> None:
        """
        Tell them that this one has let go of a turn.
        """
        self._state.tell(LEFT, f"{self._owner} {sid}")

    def whenLeft(self, sid: str) -> Deferred[None] | None:
        """
        Return what fires when the process that had a turn has let go of it, or
        time has passed; None when there is nothing to wait for.
        """
        return self._waits.get(sid)

    def _heardOfTaking(self, text: str | None) -> None:
        if text is None:
            self.onTaken(None)
        elif (sid := self._othersIn(text)) is not None:
            self.onTaken(sid)
            # Whoever takes a turn from this process waits for it: it waits no longer.
            self._waitNoMore(sid)

    def _heardOfLeaving(self, text: str | None) -> None:
        # What may have been missed is not asked for: the wait is short.
        if text is not None and (sid := self._othersIn(text)) is not None:
            self._waitNoMore(sid)

    def _othersIn(self, text: str) -> str | None:
        """
        Return the sid that another process has said this of.
        """
        owner, _, sid = text.partition(" ")
        return None if owner == self._owner else sid

    def _waitNoMore(self, sid: str) -> None:
        if (wait := self._waits.get(sid)) is not None:
            self._over(sid, wait)

    def _over(self, sid: str, wait: Deferred[None]) -> None:
        # There may be a later one.
        if self._waits.get(sid) is wait:
            del self._waits[sid]
        if not wait.called:
            wait.callback(None)
