# -*- test-case-name: tests.accounts.test_meter -*-
"""
What one account has and has had, and whether it may have more.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from math import ceil, inf
from typing import Final

from openai_server.accounts.account import AccountLimits
from openai_server.accounts.window import Counted, SlidingMinute
from openai_server.errors import APIError

#: Seconds after which a turn that has told no end counts no more as one that
#: goes on: another process may have gone on with it.
MAX_OPEN: Final = 7200.0
#: Seconds after which somebody whose other requests take up all places may ask
#: again. Nobody knows when one of them ends.
_SOON: Final = 1


class Reservation:
    """
    One request that was let in, until what it costs is known.

    It takes one of the account's places until L{leave}; and tokens, by an
    estimate, until it is L{settled<AccountMeter.settle>} with those of its
    turn, or L{dropped<drop>} since it got none.
    """

    __slots__ = ("_counted", "_hasLeft", "_meter", "began", "session", "tokens")

    def __init__(self, meter: AccountMeter, began: float, tokens: int, counted: Counted) -> None:
        self.began = began
        self.tokens = tokens
        self.session: str | None = None
        self._meter = meter
        self._counted = counted
        self._hasLeft = False

    def leave(self) -> None:
        """
        Give the place back. The first time counts.
        """
        if not self._hasLeft:
            self._hasLeft = True
            self._meter.running -= 1

    def bind(self, session: str) -> None:
        """
        Note in which session the turn is that will tell what it cost.
        """
        if self in self._meter.unbound:
            del self._meter.unbound[self]
            self.session = session
            self._meter.bySession.setdefault(session, []).append(self)

    def drop(self) -> None:
        """
        Give place and tokens back, since no turn of its own has begun. Only
        the place, once it is known to have one.
        """
        self.leave()
        if self in self._meter.unbound:
            del self._meter.unbound[self]
            self.giveBack(self.tokens)
            self._meter.reserved -= self.tokens

    def giveBack(self, tokens: int) -> None:
        """
        Let some of the tokens not count for the minute.
        """
        self._meter.cost -= tokens
        self._meter.tokens.takeBack(self._counted, tokens)


class AccountMeter:
    """
    What an account has and has had.

    @ivar begun: requests that were let in here, from the beginning.
    @ivar cost: their tokens, as far as they are known or estimated.
    @ivar running: requests that are being answered here.
    @ivar others: how many are elsewhere, by process, and until when that is
        believed.
    @ivar reserved: tokens of those whose cost is not known.
    @ivar requests: those of the last minute.
    @ivar tokens: those of the last minute.
    @ivar used: tokens by day and month, as far as they are of now.
    @ivar unbound: what was reserved for no known turn.
    @ivar bySession: what was reserved for turns, by their sessions.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.cost = 0
        self.running = 0
        self.others: dict[str, tuple[int, float]] = {}
        self.reserved = 0
        self.requests = SlidingMinute()
        self.tokens = SlidingMinute()
        self.used: dict[str, int] = {}
        self.unbound: dict[Reservation, None] = {}
        self.bySession: dict[str, list[Reservation]] = {}
        self._heard: Counted | None = None

    def letIn(self, limits: AccountLimits, now: float, periods: tuple[str, str], tokens: int) -> Reservation:
        """
        Let a request in.

        @param now: in seconds, on a clock that does not step.
        @param periods: the names of the day and the month.
        @param tokens: what it will cost, by an estimate.
        @raise APIError: it is beyond a limit, and nothing has changed.
        """
        self._closeOld(now)
        self._checkBudgets(limits, periods, tokens)
        self._checkLimits(limits, now, tokens)
        self.requests.add(now, 1)
        self.begun += 1
        self.cost += tokens
        self.running += 1
        self.reserved += tokens
        made = Reservation(self, now, tokens, self.tokens.add(now, tokens))
        self.unbound[made] = None
        return made

    def settle(self, session: str, tokens: int, now: float) -> None:
        """
        Note what a turn has cost, whether or not something was reserved for it.

        @param session: the turn's.
        """
        over = tokens
        for reserved in self.bySession.pop(session, ()):
            reserved.leave()
            self.reserved -= reserved.tokens
            cost = min(over, reserved.tokens)
            reserved.giveBack(reserved.tokens - cost)
            over -= cost
        if over:
            self.cost += over
            self.tokens.add(now, over)

    def countOthers(self, begun: int, cost: int, now: float) -> None:
        """
        Count what other processes have let in, or what it has cost less than
        they had thought.
        """
        if begun > 0:
            self.requests.add(now, begun)
        if cost > 0:
            self._heard = self.tokens.add(now, cost)
        elif self._heard is not None:
            self.tokens.takeBack(self._heard, -cost)

    def _runningAnywhere(self, now: float) -> int:
        self.others = {name: each for name, each in self.others.items() if each[0] and each[1] > now}
        return self.running + sum([running for running, _ in self.others.values()])

    def _checkBudgets(self, limits: AccountLimits, periods: tuple[str, str], tokens: int) -> None:
        budgets = (limits.tokensPerDay, limits.tokensPerMonth)
        for period, budget, name in zip(periods, budgets, ("day", "month"), strict=True):
            used = self.used.get(period, 0)
            if budget is not None and used + self.reserved + tokens > budget:
                raise APIError(
                    "budget_spent",
                    f"The budget of {budget} tokens for this {name} (UTC) is used up: {used} are used,"
                    f" {self.reserved} are reserved for requests that go on, this one needs about {tokens}.",
                    mayRetry=False,
                )

    def _closeOld(self, now: float) -> None:
        # Turns begin in order, and the first of a session is its oldest.
        while self.bySession:
            session, reserved = next(iter(self.bySession.items()))
            if now - reserved[0].began < MAX_OPEN:
                return
            del self.bySession[session]
            for each in reserved:
                each.leave()
                self.reserved -= each.tokens

    def _checkLimits(self, limits: AccountLimits, now: float, tokens: int) -> None:
        # Of several limits the one counts that is to be waited for longest.
        waits: list[tuple[float, str]] = []
        if limits.concurrent is not None and self._runningAnywhere(now) >= limits.concurrent:
            said = f"requests at a time: {limits.concurrent}, all of which are being answered"
            waits.append((_SOON, said))
        if limits.rpm is not None:
            waits += _waits(self.requests, now, 1, limits.rpm, "requests per minute (RPM)")
        if limits.tpm is not None:
            waits += _waits(self.tokens, now, tokens, limits.tpm, "tokens per minute (TPM)")
        if waits:
            wait, said = max(waits)
            raise _limited(f"limit of {said}", wait)

    def headers(self, limits: AccountLimits, now: float) -> Iterator[tuple[bytes, bytes]]:
        """
        Yield headers that say what is left of the limits of a minute, as
        OpenAI has them.
        """
        for name, limit, window in (
            (b"requests", limits.rpm, self.requests),
            (b"tokens", limits.tpm, self.tokens),
        ):
            if limit is not None:
                reset = durationFrom(window.reset(now))
                yield b"x-ratelimit-limit-" + name, b"%d" % limit
                yield b"x-ratelimit-remaining-" + name, b"%d" % max(limit - window.used, 0)
                yield b"x-ratelimit-reset-" + name, reset.encode()


def _waits(
    window: SlidingMinute, now: float, amount: int, limit: int, what: str
) -> Iterator[tuple[float, str]]:
    wait = window.wait(now, amount, limit)
    if wait == inf:
        raise APIError(
            "account_limited",
            f"The request is too large: limit of {what}: {limit}, requested about {amount}.",
            mayRetry=False,
        )
    if wait:
        yield wait, f"{what}: {limit}, used: {window.used}, requested: {amount}"


def _limited(said: str, wait: float) -> APIError:
    # In milliseconds, rounded up: a moment earlier would be too early.
    milliseconds = ceil(wait * 1000)
    return APIError(
        "account_limited",
        f"Rate limit reached: {said}. Please try again in {durationFrom(milliseconds / 1000)}.",
        retryAfter=ceil(milliseconds / 1000),
        headers={"retry-after-ms": str(milliseconds)},
    )


def durationFrom(seconds: float) -> str:
    """
    Return a duration as OpenAI's headers have it: C{120ms}, C{1.5s}, C{6m0s}.
    """
    milliseconds = ceil(seconds * 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    whole = f"{rest / 1000:.3f}".rstrip("0").rstrip(".")
    return f"{minutes}m{whole}s" if minutes else f"{whole}s"


_DAY: Final = 86_400


def periodsAt(now: float) -> tuple[str, str]:
    """
    Return the names of the day and the month.

    @param now: in seconds since 1970.
    """
    return _periodsOf(int(now // _DAY))


@lru_cache(maxsize=2)
def _periodsOf(number: int) -> tuple[str, str]:
    day = datetime.fromtimestamp(number * _DAY, UTC).date().isoformat()
    return day, day[:7]
