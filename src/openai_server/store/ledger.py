# -*- test-case-name: tests.store.test_ledger -*-
"""
What turns have cost, one row a turn, and sums of that.

A row is what L{TurnReport} says, with the time at which it was told: no text of
a prompt or an answer, and no key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec
from twisted.internet.defer import Deferred

from openai_server.reports import TurnReport

#: The fields of a report by which sums can be told apart.
DIMENSIONS: Final = ("account", "api", "model", "end")


class UsageWanted(msgspec.Struct, frozen=True, kw_only=True):
    """
    Which sums are wanted.

    @ivar since: of turns that ended then or later, in whole seconds since 1970.
    @ivar until: and before then.
    @ivar width: the seconds of each bucket, which begin at multiples of it;
        None for one that holds all.
    @ivar by: for each value of these fields apart; some of L{DIMENSIONS}.
    @ivar only: of turns whose fields have one of these values.
    @ivar most: how many sums, at most.
    """

    since: int
    until: int
    width: int | None = None
    by: Sequence[str] = ()
    only: Mapping[str, Sequence[str]] = {}
    most: int = 20_000

    def startOf(self, time: int) -> int:
        """
        Return when the bucket of a turn begins.
        """
        return self.since if self.width is None else time - time % self.width


class UsageSum(msgspec.Struct, frozen=True, order=True):
    """
    What some turns have cost together.

    @ivar start: when their bucket begins, in seconds since 1970.
    @ivar values: what they have in common, in the order in which it was asked for.
    @ivar seconds: of all turns together.
    """

    start: int
    values: tuple[str, ...]
    turns: int
    inputTokens: int
    cachedTokens: int
    outputTokens: int
    calls: int
    seconds: float


class Ledger(Protocol):
    """
    Keeps what turns have cost, for as many days as the settings say.
    """

    def turnEnded(self, report: TurnReport) -> None:
        """
        Keep this. It is written a little later.
        """

    def usage(self, wanted: UsageWanted) -> Deferred[Sequence[UsageSum] | None]:
        """
        Return sums in the order of their buckets and values, those without a
        turn left out; None where they cannot be known for now.
        """


def sumsOf(turns: Iterable[tuple[int, TurnReport]], wanted: UsageWanted) -> Sequence[UsageSum]:
    """
    Return the sums of these turns, each with its time.
    """
    found: dict[tuple[int, tuple[str, ...]], list[TurnReport]] = {}
    for time, turn in turns:
        isWanted = all(getattr(turn, name) in values for name, values in wanted.only.items())
        if isWanted and wanted.since <= time < wanted.until:
            values = tuple([getattr(turn, name) for name in wanted.by])
            found.setdefault((wanted.startOf(time), values), []).append(turn)
    sums = [
        UsageSum(
            start,
            values,
            len(each),
            sum([turn.inputTokens for turn in each]),
            sum([turn.cachedTokens for turn in each]),
            sum([turn.outputTokens for turn in each]),
            sum([turn.calls for turn in each]),
            sum([turn.seconds for turn in each]),
        )
        for (start, values), each in found.items()
    ]
    return sorted(sums)[: wanted.most]
