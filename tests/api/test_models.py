"""
Models as OpenAI lists them.
"""

from __future__ import annotations

from openai_server.api.models import Model, modelBody, modelListBody
from tests.support import SyncCase


class ModelTests(SyncCase):
    """
    L{modelBody} and L{modelListBody}.
    """

    def test_one(self) -> None:
        """
        The exact bytes.
        """
        expected = b'{"id":"a/b","created":7,"object":"model","owned_by":"hum"}'
        self.assertEqual(modelBody(Model("a/b", 7)), expected)

    def test_list(self) -> None:
        """
        In the order given.
        """
        body = modelListBody([Model("x", 1), Model("y", 2, owned_by="me")])
        self.assertEqual(
            body,
            b'{"object":"list","data":[{"id":"x","created":1,"object":"model","owned_by":"hum"},'
            b'{"id":"y","created":2,"object":"model","owned_by":"me"}]}',
        )

    def test_none(self) -> None:
        """
        An empty list is no error.
        """
        self.assertEqual(modelListBody([]), b'{"object":"list","data":[]}')
