# -*- test-case-name: tests.flow.test_processes -*-
"""
Calls that reach another process than the one that has their turn.

The daemon gives a call to any bee that lists its name, also where the turn is
another's (humd 0.31.18). Which names a process lists changes while turns pass
from one to the other, so such a call is handed on through the store: one
process alone takes it. One that nobody takes is answered with an error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from openai_server.clock import Timeouts
from openai_server.daemon.interfaces import Daemon
from openai_server.store.interfaces import StateStore
from openai_server.store.saved import SavedMessage
from openai_server.wire.tones import ToolCall

#: Of what processes are told whose turn has made a call elsewhere.
ASTRAY: Final = "call-astray"
#: Seconds within which somebody takes a call.
PATIENCE: Final = 3.0
#: Seconds for which a call is in the store at most.
_KEPT: Final = 60.0
#: Calls that wait to be taken, and characters of what names one.
_MOST: Final = 1000
_LONGEST: Final = 512

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ToolCall).decode


class StrayCalls:
    """
    Hands on calls, and takes those that are for turns of this process.
    """

    _log = Logger()

    def __init__(
        self, state: StateStore, daemon: Daemon, clock: IReactorTime, now: Callable[[], float]
    ) -> None:
        """
        @param now: the wall clock, in seconds since 1970.
        """
        self._state = state
        self._daemon = daemon
        self._now = now
        self._waiting = Timeouts(clock, PATIENCE)
        self._unhear: Callable[[], None] | None = None

    def start(self) -> None:
        """
        Listen.
        """
        self._unhear = self._state.hear(ASTRAY, self._heard)
        self._daemon.onStray(self.passOn)

    def stop(self) -> None:
        """
        Hand on nothing more.
        """
        if self._unhear is not None:
            self._unhear()
            self._unhear = None
        self._daemon.onStray(None)
        self._waiting.stop()

    def passOn(self, call: ToolCall) -> None:
        """
        Give a call to the process that has its turn.
        """
        key = f"{call.callId} {call.sid}"
        if len(key) > _LONGEST or len(self._waiting) >= _MOST:
            self._daemon.refuse(call)
            return
        self._state.save(SavedMessage(key, _encode(call), self._now() + _KEPT))
        self._state.tell(ASTRAY, key)
        self._waiting.begin(partial(self._waited, key, call))

    def _waited(self, key: str, call: ToolCall) -> None:
        taken = self._state.take(SavedMessage, key)
        taken.addCallback(lambda isOurs: self._daemon.refuse(call) if isOurs else None)

    def _heard(self, text: str | None) -> None:
        taking = Deferred.fromCoroutine(self._lookAtAll() if text is None else self._look(text))
        taking.addErrback(lambda failure: self._log.failure("a call could not be handed on", failure))

    async def _lookAtAll(self) -> None:
        for message in await self._state.find(SavedMessage, limit=_MOST):
            await self._look(message.key)

    async def _look(self, key: str) -> None:
        if not self._isForUs(key):
            return
        message = await self._state.get(SavedMessage, key)
        if message is not None and self._isForUs(key) and await self._state.take(SavedMessage, key):
            call = _decode(message.data)
            if self._isForUs(key):
                self._daemon.give(call)
            else:
                self.passOn(call)

    def _isForUs(self, key: str) -> bool:
        return self._unhear is not None and self._daemon.isLive(key.rpartition(" ")[2])
