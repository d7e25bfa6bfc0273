"""
The page in chromium.
"""

from __future__ import annotations

from tests.browser.support import BrowserCase, inBrowser


class TalkTests(BrowserCase):
    """
    A conversation with a model.
    """

    @inBrowser
    def test_streamedAnswer(self) -> None:
        """
        Words are shown as they come, and the end says how long it took.
        """
        self.open()
        self.say("hello", model="gated")
        self.until(lambda: self.text(".markdown").strip() == "one")
        self.assertTrue(self.find("#stop").is_displayed())
        self.gate.isOpen = True
        self.assertEqual(self.answers(1), ["one two"])
        self.assertIn("first token after", self.text(".about"))
        self.assertTrue(self.find("#send").is_displayed())
