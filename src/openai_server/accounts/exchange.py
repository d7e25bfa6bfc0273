# -*- test-case-name: tests.accounts.test_exchange -*-
"""
What several processes over one store tell each other of accounts with limits,
so that a limit of a minute is one limit for all of them.

Each process tells every L{TELL_SECONDS} what it has let in since. So an account
goes beyond a limit by no more than what the other processes let in during that
time and the message's way.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex
from typing import Final, NamedTuple

import msgspec
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from openai_server.accounts.limiter import Limiter
from openai_server.store.sharing import Messaging

#: Seconds between two messages of a process, if there is something to tell.
TELL_SECONDS: Final = 0.5
#: Seconds after which is told again how many requests go on, and for which
#: that is believed.
AGAIN_SECONDS: Final = 5.0
BELIEVED_SECONDS: Final = 15.0
#: Accounts in one message, whose names have 64 characters at most.
_MOST: Final = 50

_TOPIC: Final = "limits"


class _Told(NamedTuple):
    """
    Of one account.

    @ivar begun: requests that were let in, from the beginning.
    @ivar cost: their tokens.
    @ivar running: requests that go on.
    @ivar at: when it was told, in seconds of the clock.
    """

    begun: int = 0
    cost: int = 0
    running: int = 0
    at: float = 0.0


class _Message(msgspec.Struct, array_like=True):
    """
    @ivar sender: stands for the process.
    @ivar use: by the names of accounts: requests and tokens since the message
        before, and the requests that go on.
    """

    sender: str
    use: dict[str, tuple[int, int, int]]


class UseExchange:
    """
    Tells other processes what accounts have had here, and counts what they have
    had there.
    """

    def __init__(self, clock: IReactorTime, messages: Messaging, limiter: Limiter) -> None:
        self._clock = clock
        self._messages = messages
        self._limiter = limiter
        self._name = token_hex(8)
        self._told: dict[str, _Told] = {}
        self._active: dict[str, None] = {}
        self._timer: IDelayedCall | None = None
        self._leave: Callable[[], None] = lambda: None

    def start(self) -> None:
        """
        Begin, where others may use the store.
        """
        if self._messages.isShared:
            self._leave = self._messages.hear(_TOPIC, self._heard)
            self._limiter.onUse = self._used

    def stop(self) -> None:
        """
        Tell and hear nothing more.
        """
        self._leave()
        self._limiter.onUse = None
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _used(self, account: str) -> None:
        self._active[account] = None
        if self._timer is None:
            self._timer = self._clock.callLater(TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        self._timer = None
        use: dict[str, tuple[int, int, int]] = {}
        for account in list(self._active):
            change = self._changeOf(account)
            if change is not None:
                use[account] = change
            if len(use) == _MOST:
                self._send(use)
                use = {}
        if use:
            self._send(use)
        if self._active:
            self._timer = self._clock.callLater(TELL_SECONDS, self._tell)

    def _send(self, use: dict[str, tuple[int, int, int]]) -> None:
        self._messages.tell(_TOPIC, msgspec.json.encode(_Message(self._name, use)).decode())

    def _changeOf(self, account: str) -> tuple[int, int, int] | None:
        """
        Return what is to be told of an account; None for nothing.
        """
        meter, told = self._limiter.meterOf(account), self._told.get(account, _Told())
        now = self._clock.seconds()
        begun, cost = meter.begun - told.begun, meter.cost - told.cost
        isSame = not begun and not cost and meter.running == told.running
        if not meter.running and isSame:
            del self._active[account]
        if isSame and (not meter.running or now - told.at < AGAIN_SECONDS):
            return None
        self._told[account] = _Told(meter.begun, meter.cost, meter.running, now)
        return begun, cost, meter.running

    def _heard(self, text: str | None) -> None:
        if text is None:
            return
        message = msgspec.json.decode(text, type=_Message)
        if message.sender == self._name:
            return
        now = self._clock.seconds()
        for account, (begun, cost, running) in message.use.items():
            meter = self._limiter.meterOf(account)
            meter.countOthers(begun, cost, now)
            meter.others[message.sender] = running, now + BELIEVED_SECONDS
