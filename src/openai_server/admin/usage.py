# -*- test-case-name: tests.admin.test_usage -*-
"""
What turns have cost, as a table.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from twisted.python import usage

from openai_server.admin.times import timeFrom
from openai_server.store.administration import Administration
from openai_server.store.ledger import DIMENSIONS, UsageSum, UsageWanted

#: What sums can be told apart by beside the fields of turns: seconds of each.
_TIMES: Final = {"day": 86400, "hour": 3600}
_FORMATS: Final = {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H:00Z"}
_FIGURES: Final = ("turns", "input", "cached", "output", "calls", "seconds")


def _columns(said: str) -> Sequence[str]:
    names = [each.strip() for each in said.split(",")]
    known = [*_TIMES, *DIMENSIONS]
    if not set(names) <= set(known) or len(set(names)) < len(names):
        raise ValueError(f"{said!r} is not some of {', '.join(known)}, each once, with commas in between")
    if len(_TIMES.keys() & set(names)) > 1:
        raise ValueError(f"{said!r} has both day and hour")
    return names


class UsageOptions(usage.Options):
    """
    Which sums are wanted.
    """

    optParameters = [
        ["by", None, "day,account,model", "sums of what: day or hour, account, api, model, end", _columns],
        ["since", None, None, "turns that ended on this day or moment, in UTC, or later", timeFrom],
        ["until", None, None, "and before this one", timeFrom],
    ]
    optFlags = [["csv", None, "lines of CSV in place of a table"]]


def usageLines(store: Administration, options: Any, now: float) -> Iterator[str]:
    """
    Yield the lines of the table.

    @param now: in seconds since 1970.
    """
    columns: Sequence[str] = options["by"] if not isinstance(options["by"], str) else _columns(options["by"])
    time = next((name for name in columns if name in _TIMES), None)
    by = [name for name in columns if name not in _TIMES]
    until = int(now) + 1 if options["until"] is None else int(options["until"])
    width = None if time is None else _TIMES[time]
    wanted = UsageWanted(since=int(options["since"] or 0), until=until, width=width, by=by, most=1_000_000)
    rows = [[*columns, *_FIGURES]]
    rows += [_cellsOf(each, columns, by, time) for each in store.usage(wanted)]
    return _csvLines(rows) if options["csv"] else _tableLines(rows, len(columns))


def _cellsOf(found: UsageSum, columns: Sequence[str], by: Sequence[str], time: str | None) -> list[str]:
    values = dict(zip(by, found.values, strict=True))
    if time is not None:
        values[time] = datetime.fromtimestamp(found.start, UTC).strftime(_FORMATS[time])
    figures = (found.turns, found.inputTokens, found.cachedTokens, found.outputTokens, found.calls)
    return [*[values[name] for name in columns], *map(str, figures), f"{found.seconds:.0f}"]


def _csvLines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in rows:
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(map(_harmless, row))
        yield line.getvalue()


def _harmless(cell: str) -> str:
    """
    Return a cell that no spreadsheet takes for a formula.
    """
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell


def _tableLines(rows: Sequence[Sequence[str]], texts: int) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if at < texts else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells)
