"""
From what was measured in each round to a table and a document.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

SERVER: Final = "server"
RELAY: Final = "relay"
#: The server once more, with nothing that outlasts it.
VOLATILE: Final = "volatile"

#: Target -> name of a figure -> its value in each round.
Rounds: TypeAlias = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Figure:
    """
    One row of the table.

    @ivar aim: the ratio to the relay that the server should stay within.
    @ivar beside: the server's own figure that stands in the relay's place,
        where the relay has none.
    @ivar against: the target whose figure stands beside the server's.
    """

    name: str
    label: str
    unit: str
    aim: float | None = None
    beside: str | None = None
    against: str = RELAY


#: What is asked of the server with its store and of the one without.
STORED: Final = {
    "fresh": "fresh sessions, 32 at once",
    "continued": "continued sessions, 32 at once",
    "single": "continued sessions, one at a time",
    "kept": "kept responses, 32 at once",
}


def _figures() -> Iterable[Figure]:
    for streams in (1, 16, 128):
        name = f"flood {streams}"
        yield Figure(f"{name} cpu", f"flood, {streams} at once: CPU", "s/100k tokens", 1.6)
        yield Figure(f"{name} speed", f"flood, {streams} at once: speed", "tokens/s")
    for streams in (1, 16, 128):
        yield Figure(
            f"paced {streams} cpu", f"50 tokens/s each, {streams} at once: CPU", "s/100k tokens", 1.6
        )
    for kind, label in (("flood", "flood of Responses"), ("paced", "Responses at 50 tokens/s each")):
        name = f"{kind} 16 cpu"
        row = f"{label}, 16 at once: CPU, beside chat"
        yield Figure(f"responses {name}", row, "s/100k tokens", 1.3, beside=name)
    yield Figure("latency p50", "50 tokens/s each, 128 at once: a token's way, p50", "ms")
    yield Figure("latency p99", "50 tokens/s each, 128 at once: a token's way, p99", "ms")
    yield Figure("first p50", "64 requests at once: first token, p50", "ms")
    yield Figure("first p99", "64 requests at once: first token, p99", "ms")
    yield Figure("plain cpu", "requests without streaming: CPU", "ms/request", 2.0)
    yield Figure("plain speed", "requests without streaming: speed", "requests/s")
    yield Figure("models cpu", "GET /v1/models: CPU", "ms/request", 2.0)
    yield Figure("models speed", "GET /v1/models: speed", "requests/s")
    for name, label in STORED.items():
        row = f"{label}: CPU, beside memory:"
        yield Figure(f"{name} cpu", row, "ms/request", 1.15, against=VOLATILE)
    yield Figure("held memory", "held streams: memory", "KiB/stream")
    yield Figure("stall gap", "20 MiB bodies beside 16 streams: longest gap", "ms")
    yield Figure("stall p99.9", "20 MiB bodies beside 16 streams: a token's way, p99.9", "ms")
    yield Figure("stall max", "20 MiB bodies beside 16 streams: a token's way, max", "ms")


FIGURES: Final = tuple(_figures())


def percentile(values: Sequence[float], percent: float) -> float:
    """
    The smallest of the values that is not below this share of them.
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def summary(rounds: Rounds) -> dict[str, dict[str, Any]]:
    """
    Name of a figure -> unit, the median of each target, the ratio of server to
    what it stands beside, and what each round gave. What nobody measured is left out.
    """
    found = {}
    for figure in FIGURES:
        values = {
            target: measured[figure.name] for target, measured in rounds.items() if measured.get(figure.name)
        }
        if not values:
            continue
        medians = {target: statistics.median(each) for target, each in values.items()}
        ratio = _ratio(medians, figure.against)
        if figure.beside is not None and (chat := rounds.get(SERVER, {}).get(figure.beside)):
            ratio = medians[SERVER] / statistics.median(chat)
        row: dict[str, Any] = {"unit": figure.unit, **medians, "ratio": ratio, "aim": figure.aim}
        found[figure.name] = {**row, "rounds": values}
    return found


def _ratio(medians: Mapping[str, float], against: str) -> float | None:
    server, other = medians.get(SERVER), medians.get(against)
    return server / other if server is not None and other else None


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """
    The summary as aligned text.
    """
    rows = [("", "unit", SERVER, RELAY, "ratio", "aim")]
    for figure in FIGURES:
        if figure.name in found:
            row = found[figure.name]
            numbers = (written(row.get(SERVER)), written(row.get(RELAY)), written(row["ratio"], "x"))
            rows.append((figure.label, figure.unit, *numbers, _aim(row["aim"], row["ratio"])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(_aligned(row, widths) for row in rows)


def _aim(aim: float | None, ratio: float | None) -> str:
    if aim is None:
        return ""
    verdict = "" if ratio is None else (" met" if ratio <= aim else " missed")
    return f"<= {written(aim, 'x')}{verdict}"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    label, unit, *numbers, aim = row
    cells = [label.ljust(widths[0]), unit.ljust(widths[1])]
    cells += [number.rjust(width) for number, width in zip(numbers, widths[2:], strict=False)]
    return "  ".join([*cells, aim]).rstrip()


def written(value: float | None, unit: str = "") -> str:
    """
    The number with three digits that count, or more before the point.
    """
    if value is None:
        return "-"
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 4)}f}{unit}"
