# -*- test-case-name: tests.daemon.test_router -*-
"""
What is remembered of turns that are over, for tones that come late.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable
from typing import Final

from openai_server.wire.tones import ToolCall

#: How many finished sids and answered calls are remembered.
_MEMORY: Final = 4096


class Recent:
    """
    The latest few keys that were added.
    """

    def __init__(self, limit: int = _MEMORY) -> None:
        self._limit = limit
        self._keys: OrderedDict[Hashable, None] = OrderedDict()

    def add(self, key: Hashable) -> None:
        """
        Remember a key, and forget the oldest one when there are too many.
        """
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > self._limit:
            self._keys.popitem(last=False)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)


class LateTones:
    """
    Tones and calls that belong to no turn.
    """

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._finished = Recent()
        self._answered = Recent()

    def turnOver(self, sid: str, calls: Iterable[str]) -> None:
        """
        Remember a turn and that nobody is to answer its calls any more.
        """
        self._finished.add(sid)
        for callId in calls:
            self._answered.add((sid, callId))

    def isFinished(self, sid: str) -> bool:
        """
        A turn on this sid has ended, not too long ago.
        """
        return sid in self._finished

    def drop(self, sid: str | None, number: int, isDraining: bool) -> None:
        """
        Count tones that reach nobody.
        """
        isLate = isDraining or sid in self._finished
        self._counts["late_tones" if isLate else "foreign_tones"] += number

    def mayRefuse(self, call: ToolCall) -> bool:
        """
        Whether a call can be answered, and was not.
        """
        return call.sigil is None and (call.sid, call.callId) not in self._answered

    def shouldRefuse(self, call: ToolCall) -> bool:
        """
        Whether a call is to be answered with an error: once, and not when
        its result would be dropped.
        """
        if not self.mayRefuse(call):
            return False
        self._answered.add((call.sid, call.callId))
        self._counts["refused_calls"] += 1
        return True
