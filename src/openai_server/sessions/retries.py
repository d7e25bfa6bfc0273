# -*- test-case-name: tests.sessions.test_retries -*-
"""
Requests that are asked again, so that no agent runs twice for one of them.

OpenAI's SDKs POST again on their own when a connection was lost, and say so in
C{x-stainless-retry-count}. Such a retry joins the running attempt whose
client is gone, or is given the finished answer that nobody received. A request
with an C{Idempotency-Key} is treated so whatever its count.

Two requests are the same only if account, body and hints are: the hints, which
may stand in headers, say to which session a body is put.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from itertools import count
from typing import Final, Generic, TypeVar

from twisted.internet.interfaces import IReactorTime

from openai_server.clock import Deadline
from openai_server.errors import APIError
from openai_server.sessions.digests import digestOf
from openai_server.sessions.hints import Hint

#: Attempts that are remembered at most.
MAX_ATTEMPTS: Final = 10_000

#: What runs for a request.
R = TypeVar("R")
#: What came of it.
A = TypeVar("A")


def fingerprint(body: bytes, hints: Sequence[Hint]) -> bytes:
    """
    What is equal for a request and its retry.
    """
    return digestOf([part for hint in hints for part in (hint.kind, hint.value)]) + sha256(body).digest()


class Attempt(Generic[R, A]):
    """
    A request and what is being done for it.

    @ivar running: what runs for it.
    @ivar isAttended: a client is there to receive the answer.
    @ivar answer: what came of it, once it has come and until it is delivered.
    @ivar size: of the answer, in bytes.
    @ivar number: counts attempts.
    @ivar goneAt: when its client was lost, on the monotonic clock.
    """

    def __init__(self, request: tuple[str, bytes], key: bytes | None, running: R, number: int) -> None:
        self.request = request
        self.key = key
        self.running = running
        self.number = number
        self.isAttended = True
        self.answer: A | None = None
        self.size = 0
        self.goneAt = 0.0


class Retries(Generic[R, A]):
    """
    The attempts that a retry may ask for: those whose client is gone.

    @ivar _window: seconds after which such an attempt, and an idempotency
        key, is forgotten.
    @ivar _limit: bytes of finished answers that are kept.
    @ivar _lost: attempts whose client is gone, the longest gone first.
    @ivar _byRequest: the same by account and fingerprint.
    @ivar _keys: the fingerprint of each idempotency key's request, and when it
        was begun; the oldest first.
    """

    def __init__(self, clock: IReactorTime, *, window: float = 300.0, bytesLimit: int = 64 * 2**20) -> None:
        self._clock = clock
        self._window = window
        self._limit = bytesLimit
        self._numbers = count()
        self._lost: OrderedDict[Attempt[R, A], None] = OrderedDict()
        self._byRequest: dict[tuple[str, bytes], list[Attempt[R, A]]] = {}
        self._keys: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self._timer: Deadline | None = None
        self.bytesKept = 0

    def find(
        self, account: str, fingerprint: bytes, retryCount: int, idempotencyKey: str | None
    ) -> Attempt[R, A] | None:
        """
        What is there already for this request, running ones and older ones
        first; from now on it is attended. None when the request is no retry,
        or nothing waits for it.

        @param retryCount: as the client says; 0 when it says nothing.
        @raise APIError: C{idempotency_key_reuse}: the key was another
            request's.
        """
        key = _keyFrom(account, idempotencyKey)
        if key is not None:
            self._checkKey(key, fingerprint)
        if retryCount < 1 and key is None:
            return None
        same = self._byRequest.get((account, fingerprint), ())
        candidates = [attempt for attempt in same if attempt.key == key]
        if not candidates:
            return None
        found = min(candidates, key=lambda attempt: (attempt.answer is not None, attempt.number))
        self._attended(found)
        return found

    def begin(
        self, account: str, fingerprint: bytes, idempotencyKey: str | None, running: R
    ) -> Attempt[R, A]:
        """
        Something begins to run for a request whose client is there.
        """
        key = _keyFrom(account, idempotencyKey)
        if key is not None:
            self._keys[key] = (fingerprint, self._clock.seconds())
            self._keys.move_to_end(key)
            self._forgetKeys()
        return Attempt((account, fingerprint), key, running, next(self._numbers))

    def clientGone(self, attempt: Attempt[R, A]) -> None:
        """
        The client was lost before it received the whole answer.
        """
        if not attempt.isAttended:
            return
        attempt.isAttended = False
        attempt.goneAt = self._clock.seconds()
        self._lost[attempt] = None
        self._byRequest.setdefault(attempt.request, []).append(attempt)
        self.bytesKept += attempt.size
        self._keepWithinLimits(attempt)
        self._watch()

    def finished(self, attempt: Attempt[R, A], answer: A, size: int) -> None:
        """
        The answer is complete, be there a client or not.

        @param size: of the answer, in bytes.
        """
        attempt.answer = answer
        attempt.size = size
        if attempt in self._lost:
            self.bytesKept += size
            self._keepWithinLimits(attempt)
            self._watch()

    def delivered(self, attempt: Attempt[R, A]) -> None:
        """
        The client has received the whole answer, or nobody ever will: a retry
        finds nothing here.
        """
        if attempt in self._lost:
            self._remove(attempt)
            self._watch()
        attempt.isAttended = False
        attempt.answer = None

    def stop(self) -> None:
        """
        Forget everything.
        """
        for attempt in list(self._lost):
            self._remove(attempt)
        self._keys.clear()
        self._watch()

    def _attended(self, attempt: Attempt[R, A]) -> None:
        self._remove(attempt)
        attempt.isAttended = True
        self._watch()

    def _remove(self, attempt: Attempt[R, A]) -> None:
        del self._lost[attempt]
        same = self._byRequest[attempt.request]
        same.remove(attempt)
        if not same:
            del self._byRequest[attempt.request]
        self.bytesKept -= attempt.size

    def _keepWithinLimits(self, newest: Attempt[R, A]) -> None:
        if newest.size > self._limit:
            self._remove(newest)
        while self.bytesKept > self._limit:
            self._remove(next(attempt for attempt in self._lost if attempt.size))
        if len(self._lost) > MAX_ATTEMPTS:
            self._remove(next(iter(self._lost)))

    def _watch(self) -> None:
        oldest = next(iter(self._lost), None)
        if oldest is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None or not self._timer.isActive:
            left = oldest.goneAt + self._window - self._clock.seconds()
            self._timer = Deadline(self._clock, left, self._forgetOld)

    def _forgetOld(self) -> None:
        horizon = self._clock.seconds() - self._window
        for attempt in list(self._lost):
            if attempt.goneAt > horizon + 0.001:
                break
            self._remove(attempt)
        self._watch()

    def _checkKey(self, key: bytes, fingerprint: bytes) -> None:
        self._forgetKeys()
        known = self._keys.get(key)
        if known is not None and known[0] != fingerprint:
            raise APIError(
                "idempotency_key_reuse", "This Idempotency-Key was used for another request.", mayRetry=False
            )

    def _forgetKeys(self) -> None:
        horizon = self._clock.seconds() - self._window
        while self._keys:
            key, (_, since) = next(iter(self._keys.items()))
            if since > horizon and len(self._keys) <= MAX_ATTEMPTS:
                return
            del self._keys[key]


def _keyFrom(account: str, idempotencyKey: str | None) -> bytes | None:
    if idempotencyKey is None:
        return None
    return digestOf([account, idempotencyKey])
