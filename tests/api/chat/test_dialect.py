"""
Chat completions as a dialect.
"""

from __future__ import annotations

from openai_server.api.chat.dialect import ChatDialect
from openai_server.api.chat.render import FunctionsRenderer
from openai_server.api.inquiry import Inquiry, Message
from openai_server.api.output import Reasoning
from openai_server.errors import APIError
from tests.support import SyncCase

INQUIRY = Inquiry(model="m", messages=(Message("user", "hi"),))


class DialectTests(SyncCase):
    """
    L{ChatDialect}.
    """

    def test_settings(self) -> None:
        """
        Reading and writing are as the settings want it.
        """
        body = b'{"messages":[{"role":"user","content":"hi"}]}'
        self.assertEqual(ChatDialect(defaultModel=lambda: "m").parse(body), INQUIRY)
        self.assertEqual(ChatDialect().parse(body, "m"), INQUIRY)
        self.assertRaises(APIError, ChatDialect(strict=True).parse, body.replace(b"{", b'{"top_k":1,', 1))
        made = ChatDialect(reasoningField="reasoning", now=lambda: 5.5, newId=lambda: "x").renderer(INQUIRY)
        self.assertIn(b'"id":"x","object":"chat.completion.chunk","created":5', made.start())
        self.assertIn(b'"reasoning":"hm"', made.feed([Reasoning("hm")]))
        old = Inquiry(model="m", messages=INQUIRY.messages, showsCallIds=False)
        self.assertIs(type(ChatDialect().renderer(old)), FunctionsRenderer)

    def test_keepAlive(self) -> None:
        """
        A chunk, a comment or nothing.
        """
        kinds = ("chunk", "comment", "off")
        said = [ChatDialect(keepAlive=kind).renderer(INQUIRY).keepAlive() for kind in kinds]
        self.assertEqual((said[0][:6], said[1:]), (b"data: ", [b": keep-alive\n\n", b""]))

    def test_ids(self) -> None:
        """
        None comes twice, over several draws.
        """
        dialect = ChatDialect()
        ids = {dialect.renderer(INQUIRY).start()[13:46] for _ in range(600)}
        self.assertEqual(len(ids), 600)
        self.assertEqual({id[:9] for id in ids}, {b"chatcmpl-"})
