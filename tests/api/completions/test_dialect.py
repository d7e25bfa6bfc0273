"""
Tests for L{openai_server.api.completions.dialect}.
"""

from __future__ import annotations

from openai_server.api.completions.dialect import CompletionDialect
from openai_server.errors import APIError
from tests.support import SyncCase

BODY = b'{"prompt":"x","echo":true}'


class DialectTests(SyncCase):
    """
    L{CompletionDialect}.
    """

    def test_settings(self) -> None:
        """
        Reading and writing are as the settings want it.
        """
        dialect = CompletionDialect(strict=True, defaultModel=lambda: "m", now=lambda: 5.5, newId=lambda: "x")
        inquiry = dialect.parse(BODY)
        self.assertEqual((inquiry.model, dialect.parse(BODY, "p").model), ("m", "p"))
        self.assertIn(b'{"id":"x","object":"text_completion","created":5', dialect.renderer(inquiry).start())
        self.assertRaises(APIError, dialect.parse, BODY.replace(b"{", b'{"top_k":1,', 1))
        self.assertRaises(APIError, CompletionDialect().parse, BODY)

    def test_keepAlive(self) -> None:
        """
        A chunk, a comment or nothing.
        """
        kinds = [CompletionDialect(keepAlive=kind) for kind in ("chunk", "comment", "off")]
        said = [kind.renderer(kind.parse(BODY, "m")).keepAlive() for kind in kinds]
        self.assertEqual((said[0][:6], said[1:]), (b"data: ", [b": keep-alive\n\n", b""]))

    def test_ids(self) -> None:
        """
        Each answer has one of its own.
        """
        dialect = CompletionDialect()
        starts = [dialect.renderer(dialect.parse(BODY, "m")).start() for _ in range(2)]
        self.assertNotEqual(*starts)
        self.assertTrue(all(start.startswith(b'data: {"id":"cmpl-') for start in starts))
