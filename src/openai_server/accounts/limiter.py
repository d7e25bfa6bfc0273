# -*- test-case-name: tests.accounts.test_limiter -*-
"""
The limits of all accounts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from openai_server.accounts.account import NO_LIMITS, Account
from openai_server.accounts.meter import AccountMeter, Reservation, periodsAt
from openai_server.reports import TurnReport
from openai_server.store.savedkeys import AccountStore

#: Seconds for which what was read of other processes is good enough.
_FRESH: Final = 1.0


class Limiter:
    """
    Lets requests of accounts in as far as their limits allow, and hears what
    their turns cost.
    """

    _log = Logger()

    #: Called with the name of an account that has had something.
    onUse: Callable[[str], None] | None = None

    def __init__(self, seconds: Callable[[], float], now: Callable[[], float], store: AccountStore) -> None:
        """
        @param seconds: a clock that does not step.
        @param now: the wall clock, in seconds since 1970.
        @param store: keeps what is used of days and months.
        """
        self._seconds = seconds
        self._now = now
        self._store = store
        self._known: dict[str, _Known] = {}

    def letIn(
        self, account: Account, tokens: Callable[[], int]
    ) -> Reservation | Deferred[Reservation] | None:
        """
        Let a request in.

        @param tokens: estimates what it will cost.
        @return: what has to be told of its end; a Deferred where it has to be
            read first what was used; None where the account has no limits.
        @raise APIError: it is beyond a limit.
        """
        if account.limits is NO_LIMITS or account.limits == NO_LIMITS:
            return None
        known = self._knownOf(account.name)
        if known.isRead or not _hasBudget(account):
            self._refresh(account, known)
            return self._reserve(account, known, tokens())
        return Deferred.fromCoroutine(self._letInWhenRead(account, known, tokens()))

    async def _letInWhenRead(self, account: Account, known: _Known, tokens: int) -> Reservation:
        await self._read(account, known)
        return self._reserve(account, known, tokens)

    def _reserve(self, account: Account, known: _Known, tokens: int) -> Reservation:
        periods = periodsAt(self._now())
        reserved = known.meter.letIn(account.limits, self._seconds(), periods, tokens)
        if self.onUse is not None:
            self.onUse(account.name)
        return reserved

    def headers(self, account: Account) -> Iterable[tuple[bytes, bytes]]:
        """
        Return headers that say what is left of an account's limits.
        """
        if account.limits is NO_LIMITS or account.limits == NO_LIMITS:
            return ()
        return self.meterOf(account.name).headers(account.limits, self._seconds())

    def turnEnded(self, report: TurnReport) -> None:
        """
        Count what a turn has cost, of an account without limits too: it may be
        given some, and a turn may have been begun before a restart.
        """
        tokens = report.inputTokens + report.outputTokens
        periods = periodsAt(self._now())
        if tokens:
            self._store.use(report.account, periods, tokens)
        known = self._known.get(report.account)
        if known is not None:
            known.meter.settle(report.session, tokens, self._seconds())
            known.add(dict.fromkeys(periods, tokens))
            if self.onUse is not None:
                self.onUse(report.account)

    def turnLeft(self, account: str, session: str) -> None:
        """
        Hear that another process goes on with a turn, and counts all that it
        costs.
        """
        known = self._known.get(account)
        if known is not None:
            known.meter.settle(session, 0, self._seconds())
            if self.onUse is not None:
                self.onUse(account)

    def meterOf(self, name: str) -> AccountMeter:
        """
        Return what the account of this name has and has had.
        """
        return self._knownOf(name).meter

    def _knownOf(self, name: str) -> _Known:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = _Known()
        return known

    # What is used of days and months.

    def _refresh(self, account: Account, known: _Known) -> None:
        """
        Read once more what was used, now and then, where others use it too.
        """
        if self._store.isShared and _hasBudget(account) and self._seconds() - known.readAt >= _FRESH:
            reading = Deferred.fromCoroutine(self._read(account, known))
            reading.addErrback(lambda failure: self._log.failure("what is used could not be read", failure))

    async def _read(self, account: Account, known: _Known) -> None:
        known.readAt = self._seconds()
        reading = object()
        since = known.since[reading] = Counter()
        try:
            used = await self._store.used(account.name, periodsAt(self._now()))
        finally:
            del known.since[reading]
        if used is not None:
            known.take(used, since)


class _Known:
    """
    What is known of one account.

    @ivar isRead: whether it was read once what it has used.
    @ivar readAt: when that was asked for last, on the clock that does not step.
    @ivar since: what was used after each reading was begun that goes on.
    """

    def __init__(self) -> None:
        self.meter = AccountMeter()
        self.isRead = False
        self.readAt = 0.0
        self.since: dict[object, Counter[str]] = {}

    def add(self, used: Mapping[str, int]) -> None:
        """
        Add what a turn has used. Days and months that are over are forgotten.
        """
        for since in self.since.values():
            since.update(used)
        before = self.meter.used
        self.meter.used = {period: before.get(period, 0) + tokens for period, tokens in used.items()}

    def take(self, used: Mapping[str, int], since: Counter[str]) -> None:
        """
        Take what all processes have used, as it was when it was asked for.

        @param since: what was used here after that.
        """
        self.isRead = True
        self.meter.used = {period: tokens + since[period] for period, tokens in used.items()}


def _hasBudget(account: Account) -> bool:
    limits = account.limits
    return limits.tokensPerDay is not None or limits.tokensPerMonth is not None
