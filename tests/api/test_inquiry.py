"""
What any dialect asks.
"""

from __future__ import annotations

from openai_server.api.inquiry import Format, Inquiry, Media, Message
from tests.support import SyncCase

IMAGE = Media("image", "http://x", "here")


class MessageTests(SyncCase):
    """
    Plain text and parts say the same.
    """

    def test_table(self) -> None:
        """
        Text, parts, and whether there is anything but text.
        """
        for content, text, parts, hasMedia in (
            ("", "", (), False),
            ("a", "a", ("a",), False),
            ((), "", (), False),
            (("a", "", "b"), "ab", ("a", "b"), False),
            (("a", IMAGE), "a", ("a", IMAGE), True),
        ):
            message = Message("user", content)
            self.assertEqual((message.text, message.parts, message.hasMedia), (text, parts, hasMedia))


class InquiryTests(SyncCase):
    """
    L{Inquiry}.
    """

    def test_withMessages(self) -> None:
        """
        Everything else stays.
        """
        one = Inquiry(model="m", messages=(Message("user", "a"),), user="u", format=Format("json"))
        two = one.withMessages((*one.messages, Message("assistant", "b")))
        self.assertEqual((len(two.messages), two.user, two.wantsJSON), (2, "u", True))
