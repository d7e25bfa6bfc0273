# -*- test-case-name: tests.web.test_locks -*-
"""
One response at a time in a conversation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from twisted.internet.interfaces import IReactorTime

from openai_server.clock import Timeouts
from openai_server.errors import APIError, shuttingDown
from openai_server.sessions.digests import digestOf
from openai_server.sessions.waiting import Waiter
from openai_server.store.interfaces import StateStore
from openai_server.store.membership import BEAT, TTL, Membership
from openai_server.store.topicwait import TopicWait

#: The account of a conversation, and its id.
Place: TypeAlias = "tuple[str, str]"

#: Seconds that a response waits for those before it.
PATIENCE: Final = 30.0
#: Responses that may wait in one conversation.
LINE: Final = 16
#: Seconds after which one that was turned away may come again.
_RETRY_AFTER: Final = 5
#: How the topic begins by which a process is told that others wait.
_WANTED: Final = "wanted:"


def locked() -> APIError:
    """
    Return what is said where others take too long in a conversation.
    """
    # In OpenAI's words, whose status for it is 400.
    said = "Another process is currently operating on this conversation. Please retry in a few seconds."
    return APIError("conversation_locked", said, param="conversation", retryAfter=_RETRY_AFTER)


class ConversationLeases:
    """
    In which conversations this process may answer, of all that share the
    store.

    @ivar onWanted: called with a conversation of this process's that somebody
        in another one waits for.
    """

    def __init__(self, state: StateStore, membership: Membership, clock: IReactorTime) -> None:
        self.onWanted: Callable[[Place], None] = lambda place: None
        self._state = state
        self._owner = membership.owner
        self._clock = clock
        self._waits: set[TopicWait] = set()
        self._held: dict[Place, Callable[[], None]] = {}
        self._wanted: set[Place] = set()

    async def acquire(self, place: Place) -> None:
        """
        Wait until no other process answers in a conversation.

        @raise APIError: 409, it takes too long.
        """
        name = _leaseOf(place)
        wait = TopicWait(self._clock, self._state, name)
        self._waits.add(wait)
        until = self._clock.seconds() + PATIENCE
        try:
            while not await self._state.acquire(name, self._owner, TTL):
                left = until - self._clock.seconds()
                if left <= 0:
                    raise locked()
                self._state.tell(_WANTED + name, "")
                await wait.wait(min(left, BEAT))
        except BaseException:
            # It may be this one's all the same, when whoever wanted it has left.
            self._giveBack(place)
            raise
        finally:
            self._waits.discard(wait)
            wait.stop()
        self._held[place] = self._state.hear(_WANTED + name, lambda _: self._isWantedNow(place))

    def _isWantedNow(self, place: Place) -> None:
        self._wanted.add(place)
        self.onWanted(place)

    def isWanted(self, place: Place) -> bool:
        """
        Return whether another process waits for this one's conversation.
        """
        return place in self._wanted

    def release(self, place: Place) -> None:
        """
        Let any process answer.
        """
        self._held.pop(place)()
        self._wanted.discard(place)
        self._giveBack(place)

    def _giveBack(self, place: Place) -> None:
        self._state.release(_leaseOf(place), self._owner)
        self._state.tell(_leaseOf(place), "")

    def stop(self) -> None:
        """
        Turn away everybody who waits.
        """
        for wait in list(self._waits):
            wait.fail(shuttingDown())


def leasesOver(
    state: StateStore, membership: Membership, clock: IReactorTime
) -> ConversationLeases | None:
    """
    Return the rights of this process; None where it is alone.
    """
    return ConversationLeases(state, membership, clock) if state.isShared else None


def _leaseOf(place: Place) -> str:
    account, id = place
    return f"conversation:{digestOf([account]).hex()}:{id}"


class ConversationLocks:
    """
    Who answers in which conversation, and who waits for that: who came first
    is first.

    @ivar _lines: of each conversation in which somebody answers, who waits.
    """

    def __init__(self, clock: IReactorTime, leases: ConversationLeases | None = None) -> None:
        """
        @param leases: the rights of this process to answer in conversations
            that others share; None where nobody does.
        """
        self._leases = leases
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
        return bool(self._lines.get(place)) or (self._leases is not None and self._leases.isWanted(place))

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
        elif len(line) == LINE:
            raise locked()
        else:
            waiter: Waiter[None, Place] = Waiter(place[0], place, self._leave)
            waiter.limit(self._patience, locked)
            line.append(waiter)
            await waiter.deferred
        if self._leases is not None:
            try:
                await self._leases.acquire(place)
            except BaseException:
                self._pass(place)
                raise

    def release(self, place: Place) -> None:
        """
        Let the next one answer.
        """
        if self._leases is not None:
            self._leases.release(place)
        self._pass(place)

    def _pass(self, place: Place) -> None:
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
        if self._leases is not None:
            self._leases.stop()
        for line in list(self._lines.values()):
            for waiter in list(line):
                waiter.turnAway(shuttingDown())
        self._patience.stop()
