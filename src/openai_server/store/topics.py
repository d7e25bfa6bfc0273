# -*- test-case-name: tests.store.test_topics -*-
"""
Who listens to which topic in this process, and how a message is written for
other ones.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

import msgspec
from twisted.logger import Logger

from openai_server.store.sharing import Listener

#: Bytes of a message with its topic: PostgreSQL takes less than 8000.
LONGEST_MESSAGE: Final = 7900

_decoder: Final = msgspec.json.Decoder(tuple[str, str, str])


class Topics:
    """
    The listeners of one store.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._origin = secrets.token_hex(8)
        self._listeners: dict[str, dict[object, Listener]] = {}

    def message(self, topic: str, text: str) -> str:
        """
        Return a message for other processes.

        @raise ValueError: it is too long.
        """
        message = msgspec.json.encode((self._origin, topic, text))
        if len(message) > LONGEST_MESSAGE:
            raise ValueError(f"a message of {len(message)} bytes, of at most {LONGEST_MESSAGE}")
        return message.decode()

    def hear(self, topic: str, listener: Listener) -> Callable[[], None]:
        """
        Call a listener with each text of a topic.

        @return: stops that.
        """
        mark = object()
        self._listeners.setdefault(topic, {})[mark] = listener

        def stop() -> None:
            listeners = self._listeners.get(topic, {})
            if listeners.pop(mark, None) is not None and not listeners:
                del self._listeners[topic]

        return stop

    def tell(self, topic: str, text: str | None) -> None:
        """
        Call the listeners of a topic.
        """
        for listener in list(self._listeners.get(topic, {}).values()):
            try:
                listener(text)
            except Exception:
                self._log.failure("a listener to {topic} met a mistake of ours", topic=topic)

    def tellAll(self) -> None:
        """
        Let all listeners look for themselves.
        """
        for topic in list(self._listeners):
            self.tell(topic, None)

    def receive(self, message: str) -> None:
        """
        Call the listeners for a message of another process. One's own, for
        which they were called, and what is none are passed over.
        """
        try:
            origin, topic, text = _decoder.decode(message)
        except msgspec.MsgspecError:
            return
        if origin != self._origin:
            self.tell(topic, text)
