# -*- test-case-name: tests.sessions.test_waiting -*-
"""
Waiting in line: one request that waits, and lines of them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from openai_server.clock import Deadline
from openai_server.errors import APIError

#: What is waited for.
T = TypeVar("T")
#: What decides whether it can be given.
W = TypeVar("W")
#: Who stands in a line.
A = TypeVar("A", bound="Waiter[Any, Any]")


class Waiter(Generic[T, W]):
    """
    One request that waits for something.

    It ends in exactly one of four ways: it is given what it waits for, its
    time is up, it is turned away, or whoever waits cancels the Deferred. In
    all but the first C{leave} is called before the Deferred fires.

    @ivar account: who asks.
    @ivar wanted: what was asked for.
    @ivar deferred: fires with what was waited for.
    """

    def __init__(
        self, clock: IReactorTime, account: str, wanted: W, leave: Callable[[Waiter[T, W]], None]
    ) -> None:
        self.account = account
        self.wanted = wanted
        self.deferred: Deferred[T] = Deferred(self._cancelled)
        self._clock = clock
        self._leave = leave
        self._deadline: Deadline | None = None

    def limit(self, seconds: float, late: Callable[[], APIError]) -> None:
        """
        Wait this many seconds from now, in place of any limit before.

        @param late: makes the failure when they are over.
        """
        self._stop()
        self._deadline = Deadline(self._clock, seconds, lambda: self.turnAway(late()))

    def give(self, value: T) -> bool:
        """
        The wait is over, and was not in vain.

        @return: False when nobody waits here any more; the value is not given.
        """
        self._stop()
        if self.deferred.called:
            return False
        self.deferred.callback(value)
        return True

    def turnAway(self, failure: APIError) -> None:
        """
        The wait is over, in vain.
        """
        self._stop()
        self._leave(self)
        self.deferred.errback(failure)

    def _cancelled(self, _: Deferred[T]) -> None:
        self._stop()
        self._leave(self)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()


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
