"""
Tests for L{openai_server.web.wrongkeys}, and for what a client sees of it.
"""

from __future__ import annotations

from openai_server.web.wrongkeys import MAX_ADDRESSES, MOST_WRONG, WINDOW, WrongKeys
from tests.support import SyncCase
from tests.web.support import WebCase, get

KEY = "right"


class WrongKeysTests(SyncCase):
    """
    Windows of a minute.
    """

    def test_tooManyInOneWindow(self) -> None:
        """
        C19: the seconds that are left of the window, for this address alone.
        """
        keys = WrongKeys()
        self.assertEqual([keys.note("a", 5.0) for _ in range(MOST_WRONG)], [0] * MOST_WRONG)
        self.assertEqual([keys.note("a", 5.0), keys.note("a", 64.5)], [60, 1])
        self.assertEqual(keys.note("b", 64.5), 0)

    def test_nextWindowBeginsAnew(self) -> None:
        """
        C19: a minute after the first of them.
        """
        keys = WrongKeys()
        for _ in range(MOST_WRONG + 5):
            keys.note("a", 0.0)
        self.assertEqual([keys.note("a", WINDOW) for _ in range(MOST_WRONG)], [0] * MOST_WRONG)
        self.assertEqual(keys.note("a", WINDOW), 60)

    def test_addressesAreBounded(self) -> None:
        """
        C19: the one that was heard of longest ago is forgotten.
        """
        keys = WrongKeys()
        for _ in range(MOST_WRONG):
            keys.note("old", 0.0)
            keys.note("busy", 0.0)
        for number in range(MAX_ADDRESSES - 1):
            keys.note(str(number), 1.0)
        self.assertEqual(len(keys), MAX_ADDRESSES)
        self.assertEqual((keys.note("busy", 1.0), keys.note("old", 1.0)), (59, 0))
        self.assertEqual(len(keys), MAX_ADDRESSES)


class ManyWrongKeysTests(WebCase):
    """
    What a client sees.
    """

    apiKey = KEY

    def test_wrongOnesAreSlowedDownAndTheRightOneIsNot(self) -> None:
        """
        C19: 401 thirty times, then 429 and when to come again; the end code
        stays C{auth}.
        """
        wrong = [self.ask(get("/v1/models", "Authorization: Bearer wrong")) for _ in range(MOST_WRONG + 1)]
        self.assertEqual([answer.status for answer in wrong], [401] * MOST_WRONG + [429])
        self.assertEqual(wrong[-1].error["code"], "rate_limit_exceeded")
        self.assertEqual(wrong[-1].headers["retry-after"], ["60"])
        self.assertEqual(self.ask(get("/v1/models", f"Authorization: Bearer {KEY}")).status, 200)
        self.clock.advance(60)
        self.assertEqual(self.ask(get("/v1/models", "Authorization: Bearer wrong")).status, 401)
