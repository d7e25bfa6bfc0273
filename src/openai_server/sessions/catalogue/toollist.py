# -*- test-case-name: tests.sessions.catalogue.test_toollist -*-
"""
What is known here of a worker's list of tools, and which turns may start.

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
L{openai_server.sessions.catalogue.hiding}), it waits until the list is known.

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

from openai_server.sessions.catalogue.hiding import MAX_ARGUMENT, firstThatFit, sizeOf
from openai_server.sessions.contexts import ToolSet

#: Seconds after which a turn that showed no life is waited for no longer.
SILENCE: Final = 15.0


class ToolList:
    """
    The list of tools of one worker.

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
        self._last: ToolSet | None = None
        self._visible: frozenset[str] = frozenset()
        self._hidden: tuple[str, ...] = ()
        self._starting: dict[Hashable, float] = {}

    def isOpenFor(self, tools: ToolSet | None) -> bool:
        """
        Whether a prompt with these tools may go out now.
        """
        if tools is None:
            isHarmless = len(self._hidden) == len(self._visible)
        else:
            isHarmless = tools == self._last
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

    def started(self, turn: Hashable, tools: ToolSet | None) -> tuple[str, ...]:
        """
        A prompt goes out now.

        @return: names that its model must not see, sorted.
        """
        self._starting[turn] = self._clock.seconds()
        if tools is None:
            return self._hidden
        if tools != self._last:
            self._overwrite(tools)
        return ()

    def _overwrite(self, tools: ToolSet) -> None:
        visible = self._visible | tools.names
        if self._last is not None and sizeOf(visible) > self._room:
            # All that went out earlier has been overwritten twice, or is lost.
            visible = self._last.names | tools.names
        self._last = tools
        self._nowVisible(visible)

    def _nowVisible(self, names: frozenset[str]) -> None:
        self._visible = names
        # Those of the last list are the likeliest, and fit: see checkNames.
        last = self._last.names if self._last is not None else names
        likeliest = sorted(names, key=lambda name: (name not in last, name))
        self._hidden = tuple(sorted(firstThatFit(likeliest, self._room)))

    def showedLife(self, turn: Hashable, tools: ToolSet | None) -> None:
        """
        The process of this turn has read the list.
        """
        wasAwaited = self._starting.pop(turn, None) is not None
        if wasAwaited and tools is not None and tools == self._last:
            self._nowVisible(tools.names)

    def gone(self, turn: Hashable) -> None:
        """
        Nobody cares any more what this turn's model sees.
        """
        self._starting.pop(turn, None)

    def inherit(self, lists: Sequence[ToolList], turns: Container[Hashable]) -> None:
        """
        Go on where these lists were, as their workers are now taken for one.

        @param turns: those of their turns that are here now.
        """
        lasts = {each._last for each in lists}
        self._last = lasts.pop() if len(lasts) == 1 else None
        self._nowVisible(frozenset().union(*(each._visible for each in lists)))
        starting = [item for each in lists for item in each._starting.items() if item[0] in turns]
        self._starting = dict(sorted(starting, key=itemgetter(1)))
