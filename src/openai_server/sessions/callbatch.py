# -*- test-case-name: tests.sessions.test_conversation -*-
"""
The calls of one turn on their way to the client.

Calls that come within a window after the latest join it. Text before a call is
delivered before it: while a block is being streamed the calls wait for its
end, but not for long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from twisted.internet.interfaces import IReactorTime

from openai_server.clock import Deadline
from openai_server.sessions.calls import ParkedCall
from openai_server.wire.tones import Chunk, Shown

#: Seconds that a call waits for the block that is being streamed to end.
BLOCK_PATIENCE: Final = 1.0

#: Whether a block is open behind a chunk; others do not say.
_IN_BLOCK: Final[Mapping[str | None, bool]] = {
    "text_start": True,
    "text_delta": True,
    "reasoning_start": True,
    "reasoning_delta": True,
    "reasoning_end": False,
    "content_block_stop": False,
}

class CallBatch:
    """
    Which calls are open, and when those that are new may be handed out.

    @ivar open: calls by their ids until each is answered.
    @ivar new: those of them that no answer has handed out.
    """

    __slots__ = (
        "_clock",
        "_inBlock",
        "_isParallel",
        "_ready",
        "_seconds",
        "_waitsForBlock",
        "_window",
        "new",
        "open",
    )

    def __init__(self, clock: IReactorTime, window: float, isParallel: bool) -> None:
        """
        @param window: seconds that calls wait for others after the latest.
        @param isParallel: whether several may be handed out at once.
        """
        self.open: dict[str, ParkedCall] = {}
        self.new: list[ParkedCall] = []
        self._clock = clock
        self._seconds = window
        self._isParallel = isParallel
        self._ready: Callable[[], None] | None = None
        self._inBlock = False
        self._waitsForBlock = False
        self._window: Deadline | None = None

    def watch(self, tones: Sequence[Shown]) -> None:
        """
        Note whether a block is open after these tones.
        """
        for tone in reversed(tones):
            if type(tone) is Chunk and tone.chunkType in _IN_BLOCK:
                self._inBlock = _IN_BLOCK[tone.chunkType]
                break

    @property
    def isDue(self) -> bool:
        """
        Only the end of a block was waited for, and it has come.
        """
        return self._waitsForBlock and not self._inBlock

    def add(self, call: ParkedCall) -> None:
        """
        A call has arrived.
        """
        self.open[call.callId] = call
        self.new.append(call)

    def collect(self, ready: Callable[[], None]) -> None:
        """
        Somebody is there to take the new calls: let the window run anew.

        @param ready: called when it is time to hand out, unless L{stop} comes
            first.
        """
        self._ready = ready
        if self._window is None or not self._window.isActive:
            self._window = Deadline(self._clock, self._seconds, self._windowPassed)
        else:
            self._window.extend(self._seconds)

    def _windowPassed(self) -> None:
        ready = self._ready
        assert ready is not None, "the window runs for somebody"
        if self._inBlock:
            self._waitsForBlock = True
            self._window = Deadline(self._clock, BLOCK_PATIENCE, ready)
        else:
            ready()

    def take(self) -> list[ParkedCall]:
        """
        The calls to hand out now.
        """
        count = len(self.new) if self._isParallel else 1
        handed, self.new = self.new[:count], self.new[count:]
        return handed

    def drop(self, callId: str) -> ParkedCall | None:
        """
        A call is answered, or will not be: the call, if it was open.
        """
        call = self.open.pop(callId, None)
        if call in self.new:
            self.new.remove(call)
        return call

    @property
    def firstArrival(self) -> float:
        """
        When the oldest open call arrived, on the monotonic clock.
        """
        return min(call.arrivedAt for call in self.open.values())

    def stop(self) -> None:
        """
        Wait for nothing more.
        """
        self._waitsForBlock = False
        # Whoever waits holds this object.
        self._ready = None
        if self._window is not None:
            self._window.cancel()
            self._window = None

    def clear(self) -> Iterable[ParkedCall]:
        """
        Forget all open calls, and give them once more.
        """
        calls = list(self.open.values())
        self.open.clear()
        self.new.clear()
        return calls
