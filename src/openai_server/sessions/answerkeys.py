# -*- test-case-name: tests.flow.test_keys -*-
"""
Idempotency keys that outlast the process, and hold in all processes that share
the store.

A key is claimed before anything is asked under it; that its question goes out
is noted before it does; and the answer is kept when it ends. So whoever brings
the key again is given the answer, waits for the process that makes it, or is
told that the one that made it is gone and that nobody knows what it has done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from openai_server.errors import APIError, shuttingDown
from openai_server.sessions.retries import WINDOW, Attempt, keyReused
from openai_server.store.interfaces import StateStore
from openai_server.store.membership import BEAT, Membership
from openai_server.store.saved import Field, SavedAnswer
from openai_server.store.topicwait import TopicWait

#: Seconds for which a key whose answer never came is known.
CLAIMED: Final = 86_400.0
#: Seconds that a request waits for another process.
PATIENCE: Final = 3600.0
#: Bytes of an answer that is kept.
LONGEST: Final = 8 * 2**20
#: Seconds after which one that has waited in vain may come again.
_RETRY_AFTER: Final = 5


class RunningKey(msgspec.Struct, frozen=True, array_like=True, tag="running"):
    """
    What is kept of a key until its answer ends.

    @ivar run: which run of which process claimed it.
    @ivar isSent: whether its question may have gone out.
    """

    run: str
    isSent: bool


class KeptReply(msgspec.Struct, frozen=True, array_like=True, tag="reply"):
    """
    An answer that has ended.

    @ivar output: all of it, as L{openai_server.api.output.rowJSON} has it;
        None where that was too much.
    @ivar session: what its session was to the client.
    @ivar names: see L{openai_server.api.inquiry.NamedAnswer}.
    @ivar verdict: what became of the check against a schema.
    """

    output: bytes | None
    session: str
    names: tuple[str, int] | None
    verdict: bytes | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RunningKey | KeptReply).decode


class AnswerKeys:
    """
    The keys of all processes, as this one knows and claims them.
    """

    def __init__(
        self, state: StateStore, membership: Membership, clock: IReactorTime, now: Callable[[], float]
    ) -> None:
        """
        @param now: the wall clock, in seconds since 1970.
        """
        self._state = state
        self._membership = membership
        self._clock = clock
        self._now = now
        self._waits: set[TopicWait] = set()
        self._isStopping = False

    async def claim(self, attempt: Attempt[Any]) -> KeptReply | None:
        """
        Claim the key of an attempt that is this process's first one.

        @return: the answer that there is already; None for one to be made.
        @raise APIError: 409, the key was another request's, or the process
            that made the answer is gone, or takes too long.
        """
        assert attempt.key is not None
        wait = TopicWait(self._clock, self._state, _topicOf(attempt.key))
        until = self._clock.seconds() + PATIENCE
        self._waits.add(wait)
        try:
            while (found := await self._state.claim(self._rowOf(attempt, isSent=False))) is not None:
                if found.request != attempt.request:
                    raise keyReused()
                known = _decode(found.data or b"")
                if isinstance(known, KeptReply):
                    return known
                if await self._lives(known.run):
                    if self._isStopping:
                        raise shuttingDown()
                    if self._clock.seconds() >= until:
                        raise keyInUse()
                    await wait.wait(BEAT)
                elif known.isSent:
                    raise _lost()
                else:
                    await self._state.takeAll(SavedAnswer, [attempt.key], data=found.data)
        finally:
            self._waits.discard(wait)
            wait.stop()
        attempt.isClaimed = True
        return None

    async def _lives(self, run: str) -> bool:
        # What this one makes itself is joined without asking the store.
        return run != self._membership.run and await self._membership.isAlive(run)

    def sending(self, attempt: Attempt[Any]) -> Deferred[bool]:
        """
        Note that the question of an attempt goes out next, if it is claimed.

        @return: fires when that outlasts the process, or cannot be had; fails
            with an L{APIError}, 409, where this process was thought to be gone
            and another one has claimed the key.
        """
        if not attempt.isClaimed or attempt.isSent:
            return succeed(True)
        attempt.isSent = True
        if self._state.isShared:
            return Deferred.fromCoroutine(self._noteSent(attempt))
        self._state.save(self._rowOf(attempt, isSent=True))
        return self._state.durable()

    async def _noteSent(self, attempt: Attempt[Any]) -> bool:
        sent = {"data": self._rowOf(attempt, isSent=True).data}
        isOurs = await self._state.change(SavedAnswer, sent, **self._asClaimed(attempt, isSent=False))
        if isOurs is False:
            attempt.isClaimed = attempt.isSent = False
            raise keyInUse()
        return isOurs is not None

    def answered(self, attempt: Attempt[Any], reply: KeptReply) -> Deferred[bool] | None:
        """
        Keep the answer to an attempt that has ended, if it is claimed.

        @return: fires when it outlasts the process, or that cannot be had.
        """
        if not attempt.isClaimed or attempt.key is None:
            return None
        if reply.output is not None and len(reply.output) > LONGEST:
            reply = msgspec.structs.replace(reply, output=None)
        until = self._now() + WINDOW
        self._state.save(
            SavedAnswer(attempt.key, attempt.account, attempt.request, _encode(reply), until)
        )
        written = self._state.durable()
        self._tell(attempt.key)
        return written

    def cut(self, attempt: Attempt[Any]) -> None:
        """
        Leave an attempt as it is: its answer does not end in good order, and
        the next request with its key is told so.
        """
        if attempt.isSent:
            attempt.isClaimed = False

    def forget(self, attempt: Attempt[Any]) -> None:
        """
        Give the key of an attempt back, if it is claimed: the next request
        with it is a new one.
        """
        if not attempt.isClaimed or attempt.key is None:
            return
        if attempt.isFinished or not self._state.isShared:
            self._state.forget(SavedAnswer, attempt.key)
        else:
            # Another process may have claimed it while this one was thought to be gone.
            for isSent in {False, attempt.isSent}:
                self._state.takeAll(SavedAnswer, [attempt.key], **self._asClaimed(attempt, isSent=isSent))
        attempt.isClaimed = attempt.isSent = False
        self._tell(attempt.key)

    def stop(self) -> None:
        """
        Turn away everybody who waits, and whoever would have to.
        """
        self._isStopping = True
        for wait in list(self._waits):
            wait.fail(shuttingDown())

    def _rowOf(self, attempt: Attempt[Any], *, isSent: bool) -> SavedAnswer:
        assert attempt.key is not None
        data = _encode(RunningKey(self._membership.run, isSent))
        return SavedAnswer(attempt.key, attempt.account, attempt.request, data, self._now() + CLAIMED)

    def _asClaimed(self, attempt: Attempt[Any], *, isSent: bool) -> dict[str, Field]:
        """
        Return what the key's row has while it is this process's.
        """
        row = self._rowOf(attempt, isSent=isSent)
        return {"key": row.key, "data": row.data}

    def _tell(self, key: bytes) -> None:
        if self._state.isShared:
            self._state.tell(_topicOf(key), "")


def _topicOf(key: bytes) -> str:
    return f"answer:{key.hex()}"


def _lost() -> APIError:
    said = (
        "The server process that was answering under this Idempotency-Key is gone, and its agent may have"
        " done what was asked. To ask again nevertheless, use another key."
    )
    return APIError("idempotency_attempt_lost", said, mayRetry=False)


def keyInUse() -> APIError:
    """
    Return what is said where another process goes on answering.
    """
    said = "Another server process still answers under this Idempotency-Key."
    return APIError("idempotency_key_in_use", said, retryAfter=_RETRY_AFTER)
