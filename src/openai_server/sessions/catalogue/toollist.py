# -*- test-case-name: tests.sessions.catalogue.test_toollist -*-
"""
What is known here of a worker's list of tools, and which turns may start.

A worker keeps one list of tools. Every prompt that brings tools overwrites it
with its own, those that its session had before, and those of all live turns,
wherever these run. Each starting process reads it once, a second or more after
its prompt; C{session-ready} or a chunk shows that it has (seen with humd
0.31.18). What a process must not see of the list, its prompt hides by name. So
a prompt that would put names into the list which a starting process does not
hide, or take its own out, waits until that one has shown life.

A prompt without tools cannot empty the list, and must hide all of it. Until a
turn shows that the last list has reached the worker, the names of those before
are hidden too; where all these names are too many for one prompt (see
L{openai_server.wire.hiding}), it waits until the list is known.

What a worker's list holds since before this server was started, or has from
another one, is hidden as soon as one model has shown that it sees it.

A turn that shows nothing for L{SILENCE} no longer counts: it may have
vanished, or may start for minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Sequence, Set
from typing import Final, NamedTuple, TypeAlias

from twisted.internet.interfaces import IReactorTime

from openai_server.sessions.catalogue.wirenames import NamedTools, PromptTools, Tools
from openai_server.wire.hiding import MAX_ARGUMENT, firstThatFit, sizeOf

#: Seconds after which a turn that showed no life is waited for no longer.
SILENCE: Final = 15.0

#: Gives what is live now, in whatever worker.
LiveTools: TypeAlias = Callable[[], Tools]

_NONE: Final = NamedTools({}, {}, {})


class Passage(NamedTuple):
    """
    How a prompt goes out.

    @ivar tools: what it offers; None for nothing.
    @ivar hidden: names that its model must not see besides the live ones, sorted.
    """

    tools: NamedTools | None = None
    hidden: Sequence[str] = ()


class Start(NamedTuple):
    """
    A turn that has shown no life.

    @ivar began: when its prompt went out.
    @ivar own: what its process must find in the list.
    @ivar known: names that its process may find there: its own and the hidden ones.
    """

    began: float
    own: Tools
    known: Set[str]


class ToolList:
    """
    The list of tools of one worker.

    @ivar _last: the names in the list that the last prompt has made.
    @ivar _visible: all names that the worker's list may hold now: more than
        the last one's until one of its turns shows that it reached the worker.
    @ivar _hidden: as many of them as can be hidden from one model, sorted.
    @ivar _starting: turns that have shown no life, the oldest first.
    """

    def __init__(self, clock: IReactorTime, live: LiveTools, room: int = MAX_ARGUMENT) -> None:
        """
        @param room: for the names that are hidden from one model, in bytes.
        """
        self._clock = clock
        self._live = live
        self._room = room
        self._last: Set[str] | None = None
        self._visible: Set[str] = frozenset()
        self._hidden: Sequence[str] = ()
        self._starting: dict[Hashable, Start] = {}

    def isOpenFor(self, tools: PromptTools | None) -> bool:
        """
        Whether a prompt with these tools may go out now.
        """
        if tools is None and not self._visible and not self._live():
            # Most often nobody has any.
            return True
        return self.secondsShut() <= 0 or self._isHarmless(tools)

    def _isHarmless(self, tools: PromptTools | None) -> bool:
        live = self._live()
        named = _NONE if tools is None else tools.among(live)
        listed = {**named.former, **live, **named.own}
        hidden = self._visible | live.keys() if tools is None else listed.keys() - named.own.keys()
        if sizeOf(hidden) > self._room:
            return False
        # Without any tools the list stays as it is.
        return not listed or all(
            start.own.items() <= listed.items() and listed.keys() <= start.known
            for start in self._starting.values()
        )

    def secondsShut(self) -> float:
        """
        Seconds until the oldest turn that is waited for counts no longer; 0
        when there is none.
        """
        now = self._clock.seconds()
        while self._starting:
            turn, start = next(iter(self._starting.items()))
            if start.began + SILENCE > now:
                return start.began + SILENCE - now
            del self._starting[turn]
        return 0

    def started(self, turn: Hashable, tools: PromptTools | None) -> Passage:
        """
        A prompt goes out now.
        """
        live = self._live()
        now = self._clock.seconds()
        if tools is None:
            if live:
                self._maybeOverwritten(live.keys())
            self._starting[turn] = Start(now, {}, frozenset(self._hidden))
            return Passage(None, self._hidden)
        named = tools.among(live)
        tools.use(named)
        listed = frozenset({*named.former, *live, *named.own})
        self._starting[turn] = Start(now, named.own, listed)
        if listed != self._last:
            self._overwrite(listed)
        return Passage(named)

    def _maybeOverwritten(self, live: Set[str]) -> None:
        # The list is what it was, or has these names alone.
        self._last = live | (self._last or frozenset())
        self._nowVisible(self._visible | live, live)

    def _overwrite(self, listed: Set[str]) -> None:
        visible = self._visible | listed
        if self._last is not None and sizeOf(visible) > self._room:
            # All that went out earlier has been overwritten twice, or is lost.
            visible = self._last | listed
        self._last = listed
        self._nowVisible(visible, listed)

    def _nowVisible(self, names: Set[str], likeliest: Set[str]) -> None:
        self._visible = names
        last = self._last or names
        byChance = sorted(names, key=lambda name: (name not in likeliest, name not in last, name))
        self._hidden = tuple(sorted(firstThatFit(byChance, self._room)))

    def showedLife(self, turn: Hashable) -> None:
        """
        The process of this turn has read the list.
        """
        start = self._starting.pop(turn, None)
        if start is not None and start.own and start.known == self._last:
            self._nowVisible(start.known, start.known)

    def sawOthers(self, names: Sequence[str]) -> None:
        """
        Hide names that somebody else has put into the list, from now on and as
        long as there is room for all.
        """
        visible = self._visible | frozenset(names)
        if sizeOf(visible) <= self._room:
            self._nowVisible(visible, visible)

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
        lasts = {each._last and frozenset(each._last) for each in lists}
        self._last = lasts.pop() if len(lasts) == 1 else None
        visible = frozenset().union(*(each._visible for each in lists))
        self._nowVisible(visible, visible)
        starting = [item for each in lists for item in each._starting.items() if item[0] in turns]
        self._starting = dict(sorted(starting, key=lambda item: item[1].began))
