# -*- test-case-name: tests.store.test_topicwait -*-
"""
Waiting for what another process does.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from openai_server.store.sharing import Messaging


class TopicWait:
    """
    Wakes somebody who waits for a message of one topic, and now and then in any
    case: a message may be missing.

    Whoever waits makes it, looks, waits, looks again, and stops it: so nothing
    is missed between looking and waiting.
    """

    def __init__(self, clock: IReactorTime, state: Messaging, topic: str) -> None:
        self._clock = clock
        self._isDue = False
        self._waiting: Deferred[None] | None = None
        self.stop = state.hear(topic, lambda _: self._heard())

    async def wait(self, seconds: float) -> None:
        """
        Wait until something was told since the wait before, or for so many
        seconds.
        """
        if not self._isDue:
            waiting = self._waiting = Deferred()
            timer = self._clock.callLater(seconds, self._ring)
            try:
                await waiting
            finally:
                self._waiting = None
                if timer.active():
                    timer.cancel()
        self._isDue = False

    def fail(self, error: Exception) -> None:
        """
        Let whoever waits fail with this.
        """
        if self._waiting is not None:
            self._waiting.errback(error)

    def _heard(self) -> None:
        self._isDue = True
        self._ring()

    def _ring(self) -> None:
        if self._waiting is not None and not self._waiting.called:
            self._waiting.callback(None)
