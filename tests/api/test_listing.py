"""
Tests for L{openai_server.api.listing}.
"""

from __future__ import annotations

import json

import msgspec

from openai_server.api.listing import deletedBody, pageBody
from tests.support import SyncCase


class ListingTests(SyncCase):
    """
    Lists as bodies.
    """

    def test_pages(self) -> None:
        """
        With the ids at both ends; an empty one has none.
        """
        self.assertEqual(
            json.loads(pageBody([msgspec.Raw(b'{"id":"a"}'), {"id": "b"}], ["a", "b"], True)),
            {
                "object": "list",
                "data": [{"id": "a"}, {"id": "b"}],
                "first_id": "a",
                "last_id": "b",
                "has_more": True,
            },
        )
        empty = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
        self.assertEqual(json.loads(pageBody([], [], False)), empty)

    def test_deleted(self) -> None:
        """
        What was deleted.
        """
        said = {"id": "x", "object": "response", "deleted": True}
        self.assertEqual(json.loads(deletedBody("x", "response")), said)
