"""
Tests for L{openai_server.wire.readable}.
"""

from __future__ import annotations

from typing import Any

import msgspec

from openai_server.wire.readable import MAX_NESTING, isBeyondDouble, isDeeper, isReadable
from tests.support import SyncCase

LARGEST = int(float.fromhex("0x1.fffffffffffffp+1023"))


def nested(levels: int) -> Any:
    """
    So many levels, objects and arrays by turns.
    """
    value: Any = "bottom"
    for level in range(levels):
        value = {"a": value} if level % 2 else [value]
    return value


def readable(value: Any, around: int = 0) -> bool:
    """
    What L{isReadable} says about a value and its own JSON.
    """
    return isReadable(value, msgspec.json.encode(value), around)


class ReadableTests(SyncCase):
    """
    L{isReadable} and what it is made of.
    """

    def test_nestingOf127IsReadAnd128IsNot(self) -> None:
        """
        (C23) As the daemon was seen to do; levels around the value count.
        """
        self.assertTrue(readable(nested(MAX_NESTING)))
        self.assertFalse(readable(nested(MAX_NESTING + 1)))
        self.assertTrue(readable(nested(MAX_NESTING - 2), around=2))
        self.assertFalse(readable(nested(MAX_NESTING - 1), around=2))

    def test_wideIsNotDeep(self) -> None:
        """
        Brackets side by side, and in texts, are no nesting.
        """
        for value in ([[]] * 500, {"a": "[{" * 500}, "[" * 500):
            self.assertTrue(readable(value))

    def test_depth(self) -> None:
        """
        A scalar has no depth, an object with an array two levels.
        """
        self.assertFalse(isDeeper(5, 0))
        self.assertTrue(isDeeper({"x": []}, 1))
        self.assertFalse(isDeeper({"x": []}, 2))

    def test_numbersBeyondADouble(self) -> None:
        """
        A whole number of 30 digits is fine, and so is the largest double.
        """
        for number in (10**30, -(10**308), LARGEST, 1.5e308):
            self.assertTrue(readable({"a": [{"b": number}]}), number)
        for number in (10**309, -(10**400), 2**1024):
            self.assertFalse(readable({"a": [1, "x", {"b": number}]}), number)
            self.assertTrue(isBeyondDouble(number))

    def test_digitsInTexts(self) -> None:
        """
        Are no number, however many there are.
        """
        self.assertTrue(readable({"a": "1" * 400, "b": [True, None, 1.5]}))
