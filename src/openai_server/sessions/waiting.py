# -*- test-case-name: tests.sessions.test_waiting -*-
"""
Waiting in line: one request that waits, and lines of them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from openai_server.clock import Timeout, Timeouts
from openai_server.errors import APIError

#: Seconds after which a request that was turned away may ask again.
RETRY_AFTER: Final = 5

#: What is waited for.
T = TypeVar("T")
#: What decides whether it can be given.
W = TypeVar("W")
#: Who stands in a line.
A = TypeVar("A", bound="Waiter[Any, Any]")


class Waiter(Generic[T, W]):
    """
    One request that waits for something.

    It ends in exactly one of five ways: it is given what it waits for, its
    time is up, it is turned away, something goes wrong while it is served, or
    whoever waits cancels the Deferred. In all but the first C{leave} is called
    before the Deferred fires.

    @ivar account: who asks.
    @ivar wanted: what was asked for.
    @ivar deferred: fires with what was waited for.
    """

    __slots__ = ("_late", "_leave", "_timeout", "account", "deferred", "wanted")

    def __init__(self, account: str, wanted: W, leave: Callable[[Any], None]) -> None:
        """
        @param leave: called with this waiter when it waits no longer.
        """
        self.account = account
        self.wanted = wanted
        self.deferred: Deferred[T] = Deferred(self._cancelled)
        self._leave = leave
        self._timeout: Timeout | None = None

    def limit(self, timeouts: Timeouts, late: Callable[[], APIError]) -> None:
        """
        Wait that long from now, in place of any limit before.

        @param late: makes the failure when the time is over.
        """
        self._stop()
        self._late = late
        self._timeout = timeouts.begin(self._passed)

    def give(self, value: T) -> bool:
        """
        End the wait, which was not in vain.

        @return: False when nobody waits here any more; the value is not given.
        """
        self._stop()
        if self.deferred.called:
            return False
        self.deferred.callback(value)
        return True

    def turnAway(self, failure: APIError | Failure) -> None:
        """
        End the wait, in vain.
        """
        self._stop()
        self._leave(self)
        if not self.deferred.called:
            self.deferred.errback(failure)

    def _passed(self) -> None:
        self.turnAway(self._late())

    def _cancelled(self, _: Deferred[T]) -> None:
        self._stop()
        self._leave(self)

    def _stop(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()


class FairLine(Generic[A]):
    """
    A line in which accounts take turns, and within an account who came first
    is first.
    """

    def __init__(self) -> None:
        self._byAccount: OrderedDict[str, deque[A]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def join(self, waiter: A) -> None:
        """
        Stand at the end of the account's own line.
        """
        self._byAccount.setdefault(waiter.account, deque()).append(waiter)
        self._length += 1

    def leave(self, waiter: A) -> bool:
        """
        Step out of the line.

        @return: whether it stood there.
        """
        own = self._byAccount.get(waiter.account, ())
        if waiter not in own:
            return False
        self._byAccount[waiter.account].remove(waiter)
        self._left(waiter.account)
        return True

    def next(self) -> A | None:
        """
        Take out whose turn it is; None when the line is empty.
        """
        if not self._byAccount:
            return None
        account, own = next(iter(self._byAccount.items()))
        waiter = own.popleft()
        self._byAccount.move_to_end(account)
        self._left(account)
        return waiter

    def emptied(self) -> Iterator[A]:
        """
        Take out everybody, in turn.
        """
        while (waiter := self.next()) is not None:
            yield waiter

    def lastOfLongest(self, account: str) -> A | None:
        """
        Who has to make place for another one of this account in a full line:
        the last of the account with most waiting, None when this account
        itself would have as many.
        """
        longest = max(self._byAccount.values(), key=len, default=deque[A]())
        own = self._byAccount.get(account, ())
        return longest[-1] if len(longest) > len(own) + 1 else None

    def _left(self, account: str) -> None:
        self._length -= 1
        if not self._byAccount[account]:
            del self._byAccount[account]


def lineFull() -> APIError:
    """
    Return the failure of a request that finds too many before it.
    """
    return APIError("line_full", "Too many requests are waiting for this model.", retryAfter=RETRY_AFTER)


def waitedTooLong() -> APIError:
    """
    Return the failure of a request that has waited for its place in vain.
    """
    return APIError("line_full", "The model had no free place in time.", retryAfter=RETRY_AFTER)
