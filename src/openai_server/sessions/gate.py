# -*- test-case-name: tests.sessions.test_gate -*-
"""
The gate that keeps the tool lists of starting turns apart.

A worker keeps one list of tools. Every prompt that brings tools overwrites
it, and each starting process reads it once, a second or more after its
prompt; C{session-ready} or a chunk shows that it has (seen with humd 0.31.18).
So a prompt with other tools than the last one's waits until all turns that
were started before it have shown life. A prompt with the same tools does no
harm to them. A prompt without tools cannot empty the list: it starts at once,
and must be told which names to hide from its model; but its process reads the
list too, so later prompts with other tools wait for it as for any other. Until
a turn shows that the last list has reached the worker, those before are hidden
too; where all these names are too many for one prompt (see
L{openai_server.sessions.hiding}), it waits until the list is known.

What a worker's list holds since before this server was started is not known,
and not hidden.

A turn that shows nothing for L{SILENCE} no longer counts: it may have
vanished, or may start for minutes.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Sequence
from operator import itemgetter
from typing import Final

from twisted.internet.interfaces import IReactorTime

from openai_server.sessions.contexts import Catalogue
from openai_server.sessions.hiding import MAX_ARGUMENT, firstThatFit, sizeOf

#: Seconds after which a turn that showed no life is waited for no longer.
SILENCE: Final = 15.0


class Gate:
    """
    The gate of one worker.

    @ivar _last: the list that the worker has when the last prompt reached it.
    @ivar _visible: all names that the worker's list may hold now: more than
        the last one's until one of its turns shows that it reached the worker.
    @ivar _hidden: as many of them as can be hidden from one model, sorted.
    @ivar _starting: turns that have shown no life, and when each began; the
        oldest first.
    """

    def __init__(self, clock: IReactorTime, room: int = MAX_ARGUMENT) -> None:
        """
        @param room: for the names that are hidden from one model, in bytes.
        """
        self._clock = clock
        self._room = room
        self._last: Catalogue | None = None
        self._visible: frozenset[str] = frozenset()
        self._hidden: tuple[str, ...] = ()
        self._starting: dict[Hashable, float] = {}

    def isOpenFor(self, catalogue: Catalogue | None) -> bool:
        """
        Whether a prompt with these tools may go out now.
        """
        if catalogue is None:
            isHarmless = len(self._hidden) == len(self._visible)
        else:
            isHarmless = catalogue == self._last
        return isHarmless or self.secondsShut() <= 0

    def secondsShut(self) -> float:
        """
        Seconds until the oldest turn that is waited for counts no longer; 0
        when there is none.
        """
        now = self._clock.seconds()
        for turn, began in list(self._starting.items()):
            if began + SILENCE > now:
                return began + SILENCE - now
            del self._starting[turn]
        return 0

    def started(self, turn: Hashable, catalogue: Catalogue | None) -> tuple[str, ...]:
        """
        A prompt goes out now.

        @return: names that its model must not see, sorted.
        """
        self._starting[turn] = self._clock.seconds()
        if catalogue is None:
            return self._hidden
        if catalogue != self._last:
            self._overwrite(catalogue)
        return ()

    def _overwrite(self, catalogue: Catalogue) -> None:
        visible = self._visible | catalogue.names
        if self._last is not None and sizeOf(visible) > self._room:
            # All that went out earlier has been overwritten twice, or is lost.
            visible = self._last.names | catalogue.names
        self._last = catalogue
        self._nowVisible(visible)

    def _nowVisible(self, names: frozenset[str]) -> None:
        self._visible = names
        # Those of the last list are the likeliest, and fit: see checkNames.
        last = self._last.names if self._last is not None else names
        likeliest = sorted(names, key=lambda name: (name not in last, name))
        self._hidden = tuple(sorted(firstThatFit(likeliest, self._room)))

    def showedLife(self, turn: Hashable, catalogue: Catalogue | None) -> None:
        """
        The process of this turn has read the list.
        """
        wasAwaited = self._starting.pop(turn, None) is not None
        if wasAwaited and catalogue is not None and catalogue == self._last:
            self._nowVisible(catalogue.names)

    def gone(self, turn: Hashable) -> None:
        """
        Nobody cares any more what this turn's model sees.
        """
        self._starting.pop(turn, None)

    def inherit(self, gates: Sequence[Gate], turns: Container[Hashable]) -> None:
        """
        Go on where these gates were, as their workers are now taken for one.

        @param turns: those of their turns that are here now.
        """
        lasts = {gate._last for gate in gates}
        self._last = lasts.pop() if len(lasts) == 1 else None
        self._nowVisible(frozenset().union(*(gate._visible for gate in gates)))
        starting = [item for gate in gates for item in gate._starting.items() if item[0] in turns]
        self._starting = dict(sorted(starting, key=itemgetter(1)))
