# -*- test-case-name: tests.flow.test_reports -*-
"""
Turns that are over, as whoever keeps count of them is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace
from twisted.logger import Logger

from openai_server.api.output import Failed, Usage
from openai_server.errors import End
from openai_server.reports import TurnReport, TurnReports
from openai_server.sessions.digests import digestOf
from openai_server.sessions.turncontext import EndedTurn, TurnContext
from openai_server.translate.figures import usageFromWorker
from openai_server.translate.output import Translation
from openai_server.wire.ends import Loss, Lost, TurnEnd
from openai_server.wire.tones import Error, Finish

#: Characters of a model's id that are told: who asks says what it is.
_LONGEST: Final = 200
#: The daemon did not let any worker begin.
_NOT_BEGUN: Final = {Loss.NO_ECHO, Loss.PAST_DUSK}


class TurnReporter:
    """
    Tells of each turn once, when its worker is done with it: those that nobody
    waited for any more are told of too.

    The tokens are the worker's own figures for the whole turn. Where it gave
    none, they are the sum of what was told of the turn's answers, the one that
    was cut among them; and nothing where no worker had begun.
    """

    _log = Logger()

    def __init__(
        self,
        listeners: Sequence[TurnReports],
        people: Sequence[TurnReports] = (),
        labelOf: Callable[[str], str] = lambda account: account,
    ) -> None:
        """
        @param people: who hears of accounts by what people call them, in place
            of the names under which they keep things: those are not the same
            for the key of the settings.
        @param labelOf: returns what people call the account of a name.
        """
        self._listeners = listeners
        self._people = people
        self._labelOf = labelOf

    def turnOver(self, turn: EndedTurn) -> None:
        """
        Tell of a turn. A mistake of one who hears of it keeps it from nobody else.
        """
        report = reportFrom(turn)
        self._tell(self._listeners, report)
        label = self._labelOf(report.account)
        self._tell(self._people, report if label == report.account else replace(report, account=label))

    def _tell(self, listeners: Sequence[TurnReports], report: TurnReport) -> None:
        for each in listeners:
            try:
                each.turnEnded(report)
            except Exception:
                self._log.failure("a turn could not be noted")


def reportFrom(turn: EndedTurn) -> TurnReport:
    """
    Return what is told of a turn.
    """
    last = turn.last
    reported = usageFromWorker(last.usage) if isinstance(last, Finish | Error) else None
    usage = reported or (turn.told if _hasBegun(last) else Usage())
    context = turn.context
    return TurnReport(
        account=context.account,
        api=context.api,
        model=_plain(turn.model),
        session=nameOf(context),
        inputTokens=usage.input,
        cachedTokens=usage.cached,
        outputTokens=usage.output,
        calls=turn.calls,
        seconds=turn.seconds,
        end=(turn.why or endFrom(last)).word,
        isEstimated=reported is None,
    )


def nameOf(context: TurnContext) -> str:
    """
    Return what a turn's session is called in reports.
    """
    return digestOf([context.sid]).hex()


def endFrom(last: TurnEnd) -> End:
    """
    Return how a turn has ended that no answer attends.
    """
    if isinstance(last, Error) and last.saysNoWorker:
        return End.NO_WORKER
    event = Translation(seen=True).finish(last)[-1]
    return event.error.kind.end if isinstance(event, Failed) else End.OK


def _plain(model: str) -> str:
    if len(model) <= _LONGEST and model.isprintable():
        return model
    return "".join([each if each.isprintable() else "?" for each in model[:_LONGEST]])


def _hasBegun(last: TurnEnd) -> bool:
    if isinstance(last, Lost):
        return last.why not in _NOT_BEGUN
    return not (isinstance(last, Error) and last.saysNoWorker)
