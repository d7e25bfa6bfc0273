# -*- test-case-name: tests.accounts.test_labels -*-
"""
Reports of turns as people read them.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from openai_server.reports import TurnReport, TurnReports


class LabelledReports:
    """
    Passes reports on with what people call an account in place of the name
    under which it keeps things: those are not the same for the key of the
    settings.
    """

    def __init__(self, labelOf: Callable[[str], str], listener: TurnReports) -> None:
        self._labelOf = labelOf
        self._listener = listener

    def turnEnded(self, report: TurnReport) -> None:
        """
        Tell the listener.
        """
        label = self._labelOf(report.account)
        self._listener.turnEnded(report if label == report.account else replace(report, account=label))
