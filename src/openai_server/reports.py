"""
What happened, told once to whoever keeps count of it: the ledger, the limits of
accounts, the metrics.

No report holds a text of a prompt or an answer, nor a key.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class TurnReport(msgspec.Struct, frozen=True, gc=False):
    """
    A turn that has ended, whoever was still there to hear it.

    @ivar account: the name of the account that it was asked for.
    @ivar api: which of OpenAI's it was asked in, as in C{responses}.
    @ivar model: as the daemon knows it.
    @ivar session: a digest of the sid, in hex.
    @ivar inputTokens: of the whole prompt, cached ones among them.
    @ivar calls: tool calls that clients were given.
    @ivar seconds: from the prompt to the end.
    @ivar end: one word for how it ended; C{ok} when it was complete.
    @ivar isEstimated: whether the tokens are this server's estimate and not
        the worker's count.
    """

    account: str
    api: str
    model: str
    session: str
    inputTokens: int
    cachedTokens: int
    outputTokens: int
    calls: int
    seconds: float
    end: str
    isEstimated: bool


class RequestReport(msgspec.Struct, frozen=True, gc=False):
    """
    A request that has been answered, or whose client is gone.

    @ivar account: what people call its account; empty where none was let in.
    @ivar route: the path's template; C{unmatched} where there is none.
    @ivar status: of the response.
    @ivar end: one word for how it ended.
    @ivar model: that was asked for, in the client's words; None where none was.
    @ivar seconds: from its head to its end.
    @ivar firstTokenSeconds: from its head to the first output; None where
        there was none.
    @ivar inputTokens: that its client was told of; None where it was told of
        none. So it is with L{outputTokens}.
    @ivar traceparent: what it said in the header of that name, unjudged; None
        where it said nothing, or nobody wants to know.
    """

    requestId: str
    account: str
    method: str
    route: str
    status: int
    end: str
    model: str | None
    seconds: float
    firstTokenSeconds: float | None
    inputTokens: int | None
    outputTokens: int | None
    traceparent: str | None


class TurnReports(Protocol):
    """
    Hears of turns.
    """

    def turnEnded(self, report: TurnReport) -> None:
        """
        A turn has ended.
        """


class RequestReports(Protocol):
    """
    Hears of requests.
    """

    def requestEnded(self, report: RequestReport) -> None:
        """
        A request has ended.
        """
