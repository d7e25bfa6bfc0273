"""
Tests for L{openai_server.api.responses.dialect}.
"""

from __future__ import annotations

from openai_server.api.output import Finished, Output, Reasoning, Text, WorkerTool
from openai_server.api.responses.dialect import ResponsesDialect
from openai_server.api.sse import keepAliveFrom
from openai_server.errors import APIError
from tests.support import SyncCase

BODY = b'{"input":"hi","model":"m","reasoning":{"summary":"auto"}}'


class DialectTests(SyncCase):
    """
    What the settings do.
    """

    def test_ids(self) -> None:
        """
        Each request has its own, and every answer to it has that.
        """
        dialect = ResponsesDialect()
        first, second = dialect.parse(BODY), dialect.parse(BODY)
        said = [dialect.renderer(each).body([Finished("length")])[:50] for each in (first, first, second)]
        self.assertEqual(said[0], said[1])
        self.assertNotEqual(said[0], said[2])

    def test_settings(self) -> None:
        """
        Each reaches what it is for.
        """
        tools: list[Output] = [WorkerTool("Bash", True), Finished("stop")]
        thoughts: list[Output] = [Reasoning("hm"), Finished("stop")]
        for isShown in (False, True):
            dialect = ResponsesDialect(showsWorkerTools=isShown)
            inquiry = dialect.parse(BODY)
            self.assertEqual(b"mcp_call" in dialect.renderer(inquiry).body(tools), isShown)
            self.assertIn(b"summary_text", dialect.renderer(inquiry).body(thoughts))
        dialect = ResponsesDialect(showsReasoning=False)
        self.assertNotIn(b"summary_text", dialect.renderer(dialect.parse(BODY)).body(thoughts))
        self.assertRaises(APIError, ResponsesDialect(strict=True).parse, b'{"model":"m","input":"x","y":1}')
        named = ResponsesDialect(defaultModel=lambda: "d").parse(b'{"input":"x"}')
        self.assertEqual(named.model, "d")
        for keepAlive, said in (("comment", keepAliveFrom("comment")), ("off", b"")):
            dialect = ResponsesDialect(keepAlive=keepAlive)
            self.assertEqual(dialect.renderer(inquiry).keepAlive(), said)

    def test_clock(self) -> None:
        """
        When it was asked, and when it was complete.
        """
        times = iter((10.9, 12.1))
        dialect = ResponsesDialect(now=lambda: next(times))
        body = dialect.renderer(dialect.parse(BODY)).body([Text(["a"]), Finished("stop")])
        self.assertIn(b'"created_at":10,', body)
        self.assertIn(b'"completed_at":12,', body)
