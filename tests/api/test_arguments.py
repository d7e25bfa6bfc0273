"""
Arguments of calls as text.
"""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.api.arguments import argumentsText
from tests.support import SyncCase


def deep(levels: int) -> Any:
    """
    Lists in lists in an object.
    """
    value: Any = "bottom"
    for _ in range(levels):
        value = [value, {"k": value}] if levels < 8 else [value]
    return {"a": value}


class ArgumentsTests(SyncCase):
    """
    L{argumentsText}.
    """

    def test_table(self) -> None:
        """
        Objects become JSON, texts stay as they are, nothing is an empty
        object.
        """
        for args, text in (
            ({"a": 1, "b": "\u00e9\u2028"}, '{"a":1,"b":"\u00e9\u2028"}'),
            ({}, "{}"),
            ('{"a": 1}', '{"a": 1}'),
            ("not json {", "not json {"),
            (None, "{}"),
            ("", "{}"),
            ([1], "[1]"),
            (3, "3"),
        ):
            self.assertEqual(argumentsText(args), text)

    def test_large(self) -> None:
        """
        A mebibyte and more.
        """
        self.assertEqual(len(argumentsText({"a": "x" * 2**20})), 2**20 + 8)

    def test_deep(self) -> None:
        """
        Deeper than the encoder goes, to the letter.
        """
        text = argumentsText(deep(5000))
        self.assertEqual(text, '{"a":' + "[" * 5000 + '"bottom"' + "]" * 5000 + "}")

    @settings(deadline=None, max_examples=100)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=10,
        )
    )
    def test_deepLooksLikeShallow(self, value: Any) -> None:
        """
        The way for deep values writes what the encoder writes.
        """
        text = argumentsText([value, deep(3000)["a"]])
        shallow = msgspec.json.encode(value).decode()
        self.assertTrue(text.startswith(f"[{shallow},[["), text[:200])
