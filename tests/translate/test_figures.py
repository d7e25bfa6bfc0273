"""
Usage.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.output import Usage
from openai_server.translate.figures import isAllZero, usageFromWorker
from tests.support import SyncCase

GARBAGE: tuple[Any, ...] = (None, -5, 2**70, -(2**70), 1e300, float("nan"), float("inf"), "7", True, [], {})


class UsageTests(SyncCase):
    """
    L{usageFromWorker} and L{isAllZero}.
    """

    def test_mapping(self) -> None:
        """
        Prompt tokens are the three input figures together.
        """
        usage = {
            "input_tokens": 3,
            "output_tokens": 5,
            "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 100.0,
        }
        self.assertEqual(usageFromWorker(usage), Usage(123, 5, 20, 100))

    def test_missing(self) -> None:
        """
        None is not zero; a part is.
        """
        for nothing in (None, {}, [], "x", 3, {"other": 1}):
            self.assertIsNone(usageFromWorker(nothing))
        self.assertEqual(usageFromWorker({"output_tokens": 2}), Usage(0, 2))

    def test_garbage(self) -> None:
        """
        What is no figure counts as 0, what is too large is cut, and JSON
        comes out whatever came in.
        """
        for value in GARBAGE:
            usage = usageFromWorker({"input_tokens": value, "output_tokens": 2})
            assert usage is not None
            self.assertIn(usage.input, (0, 2**53 - 1), value)
            self.assertEqual(json.loads(msgspec.json.encode(usage))["output"], 2)

    @settings(deadline=None, max_examples=100)
    @given(st.dictionaries(st.sampled_from(["input_tokens", "output_tokens"]), st.sampled_from(GARBAGE)))
    def test_anything(self, usage: dict[str, Any]) -> None:
        """
        Figures are never negative.
        """
        found = usageFromWorker(usage) or Usage()
        self.assertGreaterEqual(min(found.input, found.output), 0)

    def test_allZero(self) -> None:
        """
        Only when input and output are given and nothing is above 0.
        """
        zero = {"input_tokens": 0, "output_tokens": 0}
        for usage, isIt in (
            (zero, True),
            ({**zero, "cache_read_input_tokens": 0, "cache_creation_input_tokens": None}, True),
            ({"input_tokens": 0.0, "output_tokens": 0}, True),
            ({**zero, "cache_read_input_tokens": 1}, False),
            ({"output_tokens": 0}, False),
            ({**zero, "output_tokens": 4}, False),
            ({**zero, "output_tokens": "4"}, False),
            ({}, False),
            (None, False),
        ):
            self.assertEqual(isAllZero(usage), isIt, usage)
