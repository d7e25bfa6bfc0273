# -*- test-case-name: tests.store.test_state -*-
"""
What several processes over one store need of it: leases, so that one of them
alone does a thing, and messages, so that none has to ask again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred

#: What is called with each text; with None where some may have been missed,
#: and whoever waits has to look for himself.
Listener: TypeAlias = "Callable[[str | None], None]"


class Leasing(Protocol):
    """
    Rights that one owner has at a time, until it gives them back or does not
    renew them. While the store is degraded they hold within the process.
    """

    def acquire(self, name: str, owner: str, ttl: float) -> Deferred[bool]:
        """
        Take a lease that nobody has, or go on with one's own.

        @param ttl: seconds after which it is free again unless it is renewed.
        @return: whether it is this owner's now.
        """

    def renew(self, name: str, owner: str, ttl: float) -> Deferred[bool]:
        """
        Go on with one's own lease.

        @return: False when it is not there any more, or another's.
        """

    def renewAll(self, owner: str, ttl: float) -> Deferred[int]:
        """
        Go on with all of one's own leases.

        @return: how many there are.
        """

    def release(self, name: str, owner: str) -> Deferred[bool]:
        """
        Give a lease back.

        @return: whether it was this owner's.
        """

    def releaseAll(self, owner: str) -> Deferred[int]:
        """
        Give all of one's own leases back.

        @return: how many there were.
        """

    def holder(self, name: str) -> Deferred[str | None]:
        """
        Return whose this lease is; None when it is free.
        """


class Messaging(Protocol):
    """
    Short texts for whoever listens to their topic, here and in the other
    processes that use the store. They are hints to look: none comes twice, but
    one may be late or missing, so whoever waits has a deadline too.
    """

    @property
    def isShared(self) -> bool:
        """
        Whether other processes may use the same store at the same time.
        """

    def tell(self, topic: str, text: str) -> None:
        """
        Send a text to the listeners of a topic, this process's own as well,
        once all is written that was saved before. While the store is degraded
        this process's listeners are told at once.

        @raise ValueError: topic and text are too long: a few thousand
            characters.
        """

    def hear(self, topic: str, listener: Listener) -> Callable[[], None]:
        """
        Call a listener with each text of a topic.

        @return: stops that; may be called again.
        """
