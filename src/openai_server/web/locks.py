# -*- test-case-name: tests.web.test_locks -*-
"""
One response at a time in a conversation.
"""

from __future__ import annotations

from collections import deque
from typing import Final, TypeAlias

from twisted.internet.interfaces import IReactorTime

from openai_server.clock import Timeouts
from openai_server.errors import APIError, shuttingDown
from openai_server.sessions.waiting import Waiter

#: Seconds that a response waits for those before it.
PATIENCE: Final = 30.0
#: Responses that may wait in one conversation.
LINE: Final = 16
#: Seconds after which one that was turned away may come again.
_RETRY_AFTER: Final = 5

#: The account of a conversation, and its id.
Place: TypeAlias = "tuple[str, str]"


class ConversationLocks:
    """
    Who answers in which conversation, and who waits for that: who came first
    is first.

    @ivar _lines: of each conversation in which somebody answers, who waits.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._patience = Timeouts(clock, PATIENCE)
        self._lines: dict[Place, deque[Waiter[None, Place]]] = {}
        self._isStopping = False

    def __len__(self) -> int:
        """
        Return in how many conversations somebody answers.
        """
        return len(self._lines)

    def isWaitedFor(self, place: Place) -> bool:
        """
        Return whether somebody waits for a conversation.
        """
        return bool(self._lines.get(place))

    async def acquire(self, place: Place) -> None:
        """
        Wait until nobody else answers in a conversation. Cancelling it leaves
        the line.

        @raise APIError: 409, others took too long or are too many; 503, the
            server is stopping.
        """
        if self._isStopping:
            raise shuttingDown()
        line = self._lines.get(place)
        if line is None:
            self._lines[place] = deque()
            return
        if len(line) == LINE:
            raise _locked()
        waiter: Waiter[None, Place] = Waiter(place[0], place, self._leave)
        waiter.limit(self._patience, _locked)
        line.append(waiter)
        await waiter.deferred

    def release(self, place: Place) -> None:
        """
        Let the next one answer.
        """
        line = self._lines[place]
        if line:
            line.popleft().give(None)
        else:
            del self._lines[place]

    def _leave(self, waiter: Waiter[None, Place]) -> None:
        self._lines[waiter.wanted].remove(waiter)

    def stop(self) -> None:
        """
        Turn away everybody who waits, and whoever comes later.
        """
        self._isStopping = True
        for line in list(self._lines.values()):
            for waiter in list(line):
                waiter.turnAway(shuttingDown())
        self._patience.stop()


def _locked() -> APIError:
    # In OpenAI's words, whose status for it is 400.
    said = "Another process is currently operating on this conversation. Please retry in a few seconds."
    return APIError("conversation_locked", said, param="conversation", retryAfter=_RETRY_AFTER)
