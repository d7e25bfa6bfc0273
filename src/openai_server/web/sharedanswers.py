# -*- test-case-name: tests.flow.test_sharedkept -*-
"""
Answers that are made in the background, as the other processes that share the
store know them.

As long as one is made there is a record of it beside those of answers that
have ended, and a lease that its process holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from twisted.internet.interfaces import IReactorTime

from openai_server.sessions.digests import digestOf
from openai_server.store.interfaces import Store
from openai_server.store.membership import BEAT, TTL, Membership
from openai_server.store.topicwait import TopicWait

#: Seconds for which the process that makes an answer is waited for.
PATIENCE: Final = 10.0

# What a process is told: whether an answer that is to end is to be kept, whose
# it is, and its id.
_wishFrom: Final = msgspec.json.Decoder(tuple[bool, str, str]).decode


class SharedAnswers:
    """
    The answers that any process makes in the background.
    """

    def __init__(
        self,
        store: Store,
        membership: Membership,
        clock: IReactorTime,
        interrupted: Callable[[bytes], bytes],
    ) -> None:
        """
        @param interrupted: returns the record of an answer whose process is
            gone, of the one that there was.
        """
        self._records = store.records
        self._state = store.state
        self._owner = membership.owner
        self._clock = clock
        self._interrupted = interrupted
        #: Hears of nothing any more.
        self.stop: Callable[[], None] = lambda: None

    # Of this process's own.

    def begun(self, account: str, id: str, record: bytes) -> None:
        """
        Let others know of an answer that this process makes, as far as it has
        come.
        """
        self._records.put(_placeOf(account), id, record)
        self._state.acquire(_leaseOf(account, id), self._owner, TTL)

    def ended(self, account: str, id: str) -> None:
        """
        Let others look for what has become of an answer.
        """
        lease = _leaseOf(account, id)
        self._records.remove(_placeOf(account), id)
        self._state.release(lease, self._owner)
        self._state.tell(lease, "")

    def hear(self, wished: Callable[[bool, str, str], None]) -> None:
        """
        Call this when others want one of this process's answers to end: with
        whether it is to be kept, the account and the id.
        """

        def heard(text: str | None) -> None:
            if text is not None:
                wished(*_wishFrom(text))

        self.stop = self._state.hear(f"answers:{self._owner}", heard)

    # Of others.

    async def isMade(self, account: str, id: str) -> bool:
        """
        Return whether a process makes this answer now.
        """
        return await self._state.holder(_leaseOf(account, id)) is not None

    async def found(self, account: str, id: str) -> bytes | None:
        """
        Return the record of an answer that a process makes.
        """
        isMade = await self.isMade(account, id)
        return await self._records.get(_placeOf(account), id) if isMade else None

    async def left(self, account: str, id: str) -> bytes | None:
        """
        Return the record of an answer that has failed, since the process that
        made it is gone.
        """
        record = await self._records.get(_placeOf(account), id)
        return None if record is None else self._interrupted(record)

    async def cancel(self, account: str, id: str) -> None:
        """
        Let the process that makes an answer, if one does, cancel it.
        """
        await self._end(True, account, id)

    async def forget(self, account: str, id: str) -> bool:
        """
        Let nothing be kept of an answer that has not ended.

        @return: whether there was one.
        """
        wasMade = await self._end(False, account, id)
        return await self._records.remove(_placeOf(account), id) or wasMade

    async def _end(self, isToBeKept: bool, account: str, id: str) -> bool:
        """
        Tell the process that makes an answer, and wait until it has ended; for
        a few seconds at most.

        @return: whether there was one.
        """
        lease = _leaseOf(account, id)
        wait = TopicWait(self._clock, self._state, lease)
        until = self._clock.seconds() + PATIENCE
        try:
            first = holder = await self._state.holder(lease)
            while holder is not None and self._clock.seconds() < until:
                text = msgspec.json.encode((isToBeKept, account, id)).decode()
                self._state.tell(f"answers:{holder}", text)
                await wait.wait(BEAT)
                holder = await self._state.holder(lease)
        finally:
            wait.stop()
        return first is not None


def sharedAnswersOver(
    store: Store, membership: Membership, clock: IReactorTime, interrupted: Callable[[bytes], bytes]
) -> SharedAnswers | None:
    """
    Return what processes tell each other of answers; None where there is one
    process alone.
    """
    return SharedAnswers(store, membership, clock, interrupted) if store.state.isShared else None


def _placeOf(account: str) -> str:
    # Nothing goes on from an answer that has not ended.
    return f"{account}/unfinished"


def _leaseOf(account: str, id: str) -> str:
    return f"answer:{digestOf([account]).hex()}:{id}"
