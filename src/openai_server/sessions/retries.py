# -*- test-case-name: tests.sessions.test_retries -*-
"""
Requests that are asked again, so that no agent runs twice for one of them.

OpenAI's SDKs POST again on their own when a connection was lost or timed out,
and count it in C{x-stainless-retry-count}. Such a retry joins what runs for
the same request, or is given the answer that nobody is known to have received:
an attempt whose client is gone, or one of a lower count whose client only
looks as if it were still there.

Requests with one C{Idempotency-Key} are one question whatever their counts:
all of them join the same answer, while it runs and for L{WINDOW} after it.

Two requests are the same only if account, path, body, named session and folder
are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Final, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from openai_server.clock import Timeout, Timeouts
from openai_server.errors import APIError
from openai_server.sessions.digests import digestOf

#: Seconds for which an answer is kept for a retry.
WINDOW: Final = 300.0
#: Finished answers that are kept, and the bytes of all of them.
MAX_ANSWERS: Final = 10_000
MAX_BYTES: Final = 64 * 2**20

#: What is being answered, or was.
R = TypeVar("R")


class Attempt(Generic[R]):
    """
    One request that may come again, and what answers it.

    @ivar request: what is equal for a request and its retry.
    @ivar key: stands for the C{Idempotency-Key}; None without one.
    @ivar count: how often the client says it had sent the request before.
    @ivar response: what answers it, once there is something.
    @ivar isKnown: whether a retry can find it.
    @ivar waiting: who wants the same answer before there is any.
    @ivar isLost: whether its client left before it had the whole answer.
    @ivar size: bytes that its finished answer takes up here.
    @ivar isClaimed: whether the store knows its key to be this one's; see
        L{openai_server.sessions.answerkeys}.
    @ivar isSent: whether the store knows that its question may have gone out.
    """

    __slots__ = (
        "account",
        "count",
        "isClaimed",
        "isKnown",
        "isLost",
        "isSent",
        "key",
        "request",
        "response",
        "size",
        "wait",
        "waiting",
    )

    def __init__(
        self,
        account: str,
        body: bytes,
        session: bytes | None,
        count: int,
        idempotencyKey: bytes | None,
        cwd: bytes | None = None,
        path: bytes = b"",
    ) -> None:
        """
        @param session: the session that the request names, if it names one.
        @param cwd: the same for the folder that its worker is to work in.
        @param path: where it was sent.
        """
        self.request = digestOf([account, session or b"", cwd or b"", path]) + sha256(body).digest()
        self.account = account
        self.key = None if idempotencyKey is None else digestOf([account, idempotencyKey])
        self.count = count
        self.response: R | None = None
        self.isKnown = False
        self.isLost = False
        self.isClaimed = False
        self.isSent = False
        self.size = 0
        self.wait: Timeout | None = None
        self.waiting: list[Deferred[R | None]] = []

    @property
    def isFinished(self) -> bool:
        """
        Whether its answer is complete, and kept.
        """
        return self.wait is not None


class Retries(Generic[R]):
    """
    The attempts that a retry may join.

    @ivar bytesKept: of finished answers.
    @ivar onForgotten: called with each attempt whose key is free again.
    @ivar _byRequest: attempts without a key, the oldest first.
    @ivar _byKey: attempts with one.
    @ivar _finished: those whose answer is complete, the oldest first.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.bytesKept = 0
        self.onForgotten: Callable[[Attempt[R]], None] = lambda attempt: None
        self._windows = Timeouts(clock, WINDOW)
        self._byRequest: dict[bytes, list[Attempt[R]]] = {}
        self._byKey: dict[bytes, Attempt[R]] = {}
        self._finished: OrderedDict[Attempt[R], None] = OrderedDict()

    def __len__(self) -> int:
        """
        Return how many attempts are known.
        """
        return len(self._byKey) + sum(map(len, self._byRequest.values()))

    def join(self, attempt: Attempt[R]) -> R | Deferred[R | None] | None:
        """
        Find what answers this request already. When nothing does, the
        attempt is known from now on, until L{forget}.

        @return: what answers it; a Deferred where somebody is still about to
            ask the same, which fires with what answers that, or with None
            when it came to nothing: join again then; None for a new request.
        @raise APIError: C{idempotency_key_reused}: the key was another
            request's.
        """
        found = self._byCount(attempt) if attempt.key is None else self._byKey.get(attempt.key)
        if found is None:
            self._know(attempt)
            return None
        if found.request != attempt.request:
            raise keyReused()
        found.count = max(found.count, attempt.count)
        found.isLost = False
        if found.response is not None:
            return found.response
        waiting: Deferred[R | None] = Deferred(found.waiting.remove)
        found.waiting.append(waiting)
        return waiting

    def _byCount(self, attempt: Attempt[R]) -> Attempt[R] | None:
        if attempt.count < 1:
            return None
        same = self._byRequest.get(attempt.request, ())
        lost = next((each for each in same if each.isLost), None)
        return lost or next((each for each in same if each.count < attempt.count), None)

    def _know(self, attempt: Attempt[R]) -> None:
        attempt.isKnown = True
        if attempt.key is not None:
            self._byKey[attempt.key] = attempt
        else:
            self._byRequest.setdefault(attempt.request, []).append(attempt)

    def begin(self, attempt: Attempt[R], response: R) -> None:
        """
        Something answers this request from now on.
        """
        attempt.response = response
        waiting, attempt.waiting = attempt.waiting, []
        for each in waiting:
            each.callback(response)

    def clientLeft(self, attempt: Attempt[R]) -> None:
        """
        The client is gone and may not have received the whole answer.
        """
        attempt.isLost = True

    def finished(self, attempt: Attempt[R], size: int) -> None:
        """
        The answer is complete, be there a client or not. It is kept until it
        is known to be delivered, or for L{WINDOW} under a key.

        @param size: bytes that it takes up.
        """
        if not attempt.isKnown or attempt in self._finished:
            return
        attempt.size = size
        attempt.wait = self._windows.begin(lambda: self._forget(attempt))
        self._finished[attempt] = None
        self.bytesKept += size
        while self.bytesKept > MAX_BYTES or len(self._finished) > MAX_ANSWERS:
            self.forget(next(iter(self._finished)))

    def delivered(self, attempt: Attempt[R]) -> None:
        """
        The client has the whole answer. Only under a key it may ask for it
        once more.
        """
        if attempt.key is None:
            self.forget(attempt)

    def forget(self, attempt: Attempt[R]) -> None:
        """
        The next request of this kind is a new one. Does nothing the second
        time.
        """
        if attempt.isKnown:
            self.onForgotten(attempt)
            self._forget(attempt)

    def _forget(self, attempt: Attempt[R]) -> None:
        """
        Know an attempt no longer; whatever else knows it knows how long.
        """
        attempt.isKnown = False
        attempt.response = None
        if attempt.key is not None:
            del self._byKey[attempt.key]
        else:
            same = self._byRequest[attempt.request]
            same.remove(attempt)
            if not same:
                del self._byRequest[attempt.request]
        if attempt.wait is not None:
            attempt.wait.cancel()
            del self._finished[attempt]
            self.bytesKept -= attempt.size
        waiting, attempt.waiting = attempt.waiting, []
        for each in waiting:
            each.callback(None)

    def stop(self) -> None:
        """
        Forget everything.
        """
        for attempt in [*self._byKey.values(), *(each for same in self._byRequest.values() for each in same)]:
            self._forget(attempt)
        self._windows.stop()


def keyReused() -> APIError:
    """
    Return what is said where a key comes with another request.
    """
    said = "This Idempotency-Key was used for another request."
    return APIError("idempotency_key_reused", said, mayRetry=False)
