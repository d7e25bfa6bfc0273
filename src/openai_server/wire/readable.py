# -*- test-case-name: tests.wire.test_readable -*-
"""
What of valid JSON the daemon cannot parse: humd 0.31.18 drops a line that is
nested too deep, or holds a number beyond a double, without a word.
"""

from __future__ import annotations

from typing import Any, Final

#: Levels of nesting, the tone's own object included, that the daemon parses.
MAX_NESTING: Final = 127

#: No number with fewer digits is beyond a double.
_LONG: Final = b"0" * 309
#: Makes zeros of digits, and blanks of all else: looking for a run of digits
#: with an expression would take ten times as long.
_ZEROS: Final = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))


def isReadable(value: Any, encoded: bytes, around: int = 0) -> bool:
    """
    Whether the daemon can parse a tone that holds this value.

    @param value: dicts, lists, and what else JSON decodes to.
    @param encoded: the same as JSON. What cannot be in it is not searched for.
    @param around: levels of nesting that the tone has around the value.
    """
    levels = MAX_NESTING - around
    if encoded.count(b"[") + encoded.count(b"{") > levels and isDeeper(value, levels):
        return False
    return _LONG not in encoded.translate(_ZEROS) or not isBeyondDouble(value)


def isDeeper(value: Any, levels: int) -> bool:
    """
    Whether objects and arrays are nested in each other more than so many
    levels deep.
    """
    level = [value]
    for _ in range(levels + 1):
        level = [each for each in level if type(each) is dict or type(each) is list]
        if not level:
            return False
        level = _inside(level)
    return True


def isBeyondDouble(value: Any) -> bool:
    """
    Whether a number in there is larger than any double.
    """
    level = [value]
    while level:
        if any(type(each) is int and _overflows(each) for each in level):
            return True
        level = _inside([each for each in level if type(each) is dict or type(each) is list])
    return False


def _inside(level: list[Any]) -> list[Any]:
    return [inner for outer in level for inner in (outer.values() if type(outer) is dict else outer)]


def _overflows(number: int) -> bool:
    try:
        float(number)
    except OverflowError:
        return True
    return False
