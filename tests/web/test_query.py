"""
Tests for L{openai_server.web.query}.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from openai_server.errors import APIError
from openai_server.web.query import isNewestFirst, limitOf, listOf, membersOf, numberOf, oneOf, queryOf
from tests.support import SyncCase


class QueryTests(SyncCase):
    """
    Fields of a query.
    """

    def query(self, sent: bytes) -> dict[str, str]:
        """
        The fields of a query.
        """
        request: Any = SimpleNamespace(query=sent)
        return queryOf(request)

    def test_fields(self) -> None:
        """
        Decoded; the last of one name counts.
        """
        self.assertEqual(self.query(b""), {})
        self.assertEqual(self.query(b"a=1&b=%20x&a=2&c"), {"a": "2", "b": " x"})
        self.assertEqual(self.query(b"a=%ff"), {"a": "\ufffd"})
        self.assertEqual(self.query(b"a=1&a="), {"a": "1"})
        error = self.assertRaises(APIError, self.query, b"a=1&" * 100 + b"b=2")
        self.assertEqual(error.kind.status, 400)

    def test_members(self) -> None:
        """
        Those of an object, empty ones too.
        """
        request: Any = SimpleNamespace(query=b"m[a]=1&m%5Bb%5D=&m[c=2&n[a]=3&m=4&m[[]]=5&m[]=6")
        self.assertEqual(membersOf(request, "m"), {"a": "1", "b": "", "[]": "5", "": "6"})

    def test_lists(self) -> None:
        """
        In each of the ways in which clients say them; an empty value is none.
        """
        request: Any = SimpleNamespace(query=b"l=a&l%5B%5D=b&l[]=c,d&l=&m=e&l[x]=f")
        self.assertEqual(listOf(request, "l"), ["a", "b", "c,d"])
        self.assertEqual(listOf(request, "n"), [])

    def test_values(self) -> None:
        """
        Each field has its usual value, and says which it takes.
        """
        self.assertEqual((limitOf({}), limitOf({"limit": "100"}), limitOf({"limit": "1"})), (20, 100, 1))
        self.assertEqual(numberOf({"n": "007"}, "n", 5, 0, 100), 7)
        for bad in ("0", "101", "-1", "x", "", "1.0", "\u0661", "9" * 5000):
            error = self.assertRaises(APIError, limitOf, {"limit": bad})
            self.assertEqual((error.param, error.message), ("limit", "Must be a number from 1 to 100."))
        self.assertEqual((oneOf({}, "x", ("a", "b")), oneOf({"x": "b"}, "x", ("a", "b"))), ("a", "b"))
        error = self.assertRaises(APIError, isNewestFirst, {"order": "up"})
        self.assertEqual((error.param, error.message), ("order", "Must be one of desc, asc."))
        self.assertTrue(isNewestFirst({}))
        self.assertFalse(isNewestFirst({}, "asc"))
        self.assertTrue(isNewestFirst({"order": "desc"}, "asc"))
