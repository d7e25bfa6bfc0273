# -*- test-case-name: tests.admin.test_program -*-
"""
Moments as operators write them.
"""

from __future__ import annotations

from datetime import UTC, datetime


def timeFrom(said: str) -> float:
    """
    Return the seconds since 1970 of a day or a moment, in UTC if it says no zone.
    """
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        raise ValueError(f"{said!r} is no day and no moment, as 2026-01-31 is") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def timeShown(time: float) -> str:
    """
    Return a moment as it is shown, in UTC, to the minute.

    @param time: in seconds since 1970.
    """
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%MZ}"
