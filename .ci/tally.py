# -*- test-case-name: tests.test_packaging -*-
"""
What a run of trial came to, from the words it ended with.

    python3 .ci/tally.py STATUS < trial.log

prints two numbers, passed and failed. A run that found no tests, did not get to
its summary, or ended with another status than its summary says, has failed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

_SUMMARY = re.compile(r"(?:PASSED|FAILED)(?: \((?P<counts>[A-Za-z]+=\d+(?:, [A-Za-z]+=\d+)*)\))?")

_GOOD = ("successes", "expectedFailures")
_BAD = ("failures", "errors", "unexpectedSuccesses")


def tally(lines: Iterable[str], status: int) -> tuple[int, int]:
    """
    How many tests passed and failed. Skipped ones did neither.

    @param status: that of trial's process.
    """
    counts: dict[str, int] = {}
    for line in lines:
        summary = _SUMMARY.fullmatch(line.strip())
        if summary is not None:
            pairs = (pair.split("=") for pair in (summary["counts"] or "").split(", ") if pair)
            counts = {name: int(count) for name, count in pairs}
    passed = sum(counts.get(name, 0) for name in _GOOD)
    failed = sum(counts.get(name, 0) for name in _BAD)
    if not failed and (status != 0 or not passed):
        failed = 1
    return passed, failed


if __name__ == "__main__":
    print(*tally(sys.stdin, int(sys.argv[1])))
