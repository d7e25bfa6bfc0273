# -*- test-case-name: tests.web.test_page -*-
"""
What has happened lately: the last requests, the tokens of the last hour, and
what each account has used since the start.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from openai_server.reports import RequestReport, TurnReport

#: Requests that are remembered.
REQUESTS: Final = 200
#: Minutes whose tokens are.
MINUTES: Final = 60
#: Accounts whose use is, those that used something last.
ACCOUNTS: Final = 200
#: Characters of the name of a model, which a client may choose as it likes.
MODEL: Final = 100

#: What the page and probes ask all the time says nothing about the server.
_UNTOLD: Final = ("/page/", "/healthz", "/readyz", "/metrics")

#: What is told of a request.
_TOLD: Final = (
    *("requestId", "method", "route", "status", "end"),
    *("account", "seconds", "firstTokenSeconds", "outputTokens"),
)


class Minute(msgspec.Struct, gc=False):
    """
    The turns that ended in one minute.

    @ivar at: its beginning, in seconds since 1970.
    """

    at: int
    turns: int = 0
    inputTokens: int = 0
    outputTokens: int = 0


class AccountUse(msgspec.Struct, gc=False):
    """
    What an account's turns have cost since the start of the server.

    @ivar lastAt: when the last one ended, in seconds since 1970.
    """

    account: str
    turns: int = 0
    inputTokens: int = 0
    outputTokens: int = 0
    lastAt: int = 0


class Activity:
    """
    Hears of turns and requests, and remembers the latest.

    @ivar count: how many requests it has remembered since the start.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        """
        @param now: the wall clock, in seconds since 1970.
        """
        self.count = 0
        self._now = now
        self._requests: deque[tuple[float, RequestReport]] = deque(maxlen=REQUESTS)
        self._minutes: deque[Minute] = deque(maxlen=MINUTES)
        self._uses: OrderedDict[str, AccountUse] = OrderedDict()

    def requestEnded(self, report: RequestReport) -> None:
        """
        A request has ended.
        """
        if report.route != "/" and not report.route.startswith(_UNTOLD):
            self.count += 1
            # What a client says of its trace may be long, and is not told.
            kept = report if report.traceparent is None else replace(report, traceparent=None)
            self._requests.append((self._now(), kept))

    def turnEnded(self, report: TurnReport) -> None:
        """
        A turn has ended.
        """
        now = int(self._now())
        use = self._useOf(report.account)
        use.lastAt = now
        for each in (self._minuteAt(now - now % 60), use):
            each.turns += 1
            each.inputTokens += report.inputTokens
            each.outputTokens += report.outputTokens

    def _minuteAt(self, at: int) -> Minute:
        # The wall clock may step back: then the last minute goes on.
        if not self._minutes or self._minutes[-1].at < at:
            self._minutes.append(Minute(at))
        return self._minutes[-1]

    def _useOf(self, account: str) -> AccountUse:
        use = self._uses.get(account)
        if use is None:
            use = self._uses[account] = AccountUse(account)
            if len(self._uses) > ACCOUNTS:
                self._uses.popitem(last=False)
        self._uses.move_to_end(account)
        return use

    def uses(self) -> Sequence[AccountUse]:
        """
        Return what each account has used, the last one first.
        """
        return list(reversed(self._uses.values()))

    def requests(self, start: int, end: int) -> Sequence[dict[str, Any]]:
        """
        Return what is remembered of the requests from one number to another,
        counted from the start of the server, the oldest first.
        """
        oldest = self.count - len(self._requests)
        found = islice(self._requests, max(0, start - oldest), max(0, end - oldest))
        return [_toldOf(at, report) for at, report in found]

    def minutes(self) -> Sequence[Minute]:
        """
        Return the minutes in which turns ended, the oldest first, of the last
        hour.
        """
        oldest = self._now() - MINUTES * 60
        return [minute for minute in self._minutes if minute.at > oldest]


def _toldOf(at: float, report: RequestReport) -> dict[str, Any]:
    told = {name: getattr(report, name) for name in _TOLD}
    told["at"] = round(at, 3)
    told["model"] = report.model and report.model[:MODEL]
    return told
