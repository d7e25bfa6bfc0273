"""
Tests for L{openai_server.store.topics}.
"""

from __future__ import annotations

from openai_server.store.topics import Topics
from tests.support import SyncCase


class TopicsTests(SyncCase):
    """
    Listeners, and messages of other processes.
    """

    def setUp(self) -> None:
        super().setUp()
        self.topics = Topics()
        self.heard: list[str | None] = []
        self.stop = self.topics.hear("t", self.heard.append)

    def test_received(self) -> None:
        """
        Another process's message is told to who listens to its topic.
        """
        other = Topics()
        self.topics.receive(other.message("t", "yes"))
        self.topics.receive(other.message("u", "no"))
        self.assertEqual(self.heard, ["yes"])

    def test_passedOver(self) -> None:
        """
        One's own, which was told when it was sent, and what is no message.
        """
        for message in (self.topics.message("t", "no"), "", "[1]", '["a", "t"]'):
            self.topics.receive(message)
        self.assertEqual(self.heard, [])

    def test_mistake(self) -> None:
        """
        A listener that fails does not keep the others from being told.
        """
        self.stop()
        self.topics.hear("t", lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
        self.topics.hear("t", self.heard.append)
        self.topics.tell("t", "x")
        self.assertEqual((self.heard, len(self.flushLoggedErrors(ZeroDivisionError))), (["x"], 1))

    def test_changedWhileTold(self) -> None:
        """
        A listener may stop itself and begin again.
        """
        again: list[str | None] = []

        def once(text: str | None) -> None:
            self.stop()
            self.stop = self.topics.hear("t", again.append)

        self.topics.hear("t", once)
        self.topics.tellAll()
        self.assertEqual((self.heard, again), ([None], []))
        self.topics.tell("t", "x")
        self.assertEqual((self.heard, again), ([None], ["x"]))
