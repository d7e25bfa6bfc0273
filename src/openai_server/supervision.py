# -*- test-case-name: tests.test_supervision -*-
"""
What systemd is told of this process, by the protocol of sd_notify(3): that it
is ready, that it stops, and, as long as its reactor goes round, that it lives.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

_MICROSECOND = 1e-6


class Supervisor:
    """
    Whoever started this process and wants to be told how it is.
    """

    def __init__(self, address: str | None, watchdog: float | None, clock: IReactorTime) -> None:
        """
        @param address: of the datagram socket that takes what is told, C{@} for
            the zero byte of an abstract one; None where nobody asked.
        @param watchdog: seconds without a sign of life after which it takes this
            process for stuck; None where it does not look.
        """
        self._address = address
        self._watchdog = watchdog
        self._living = LoopingCall(self._tell, "WATCHDOG=1")
        self._living.clock = clock

    def ready(self) -> None:
        """
        Tell that requests are served from now on, and begin to give signs of life.
        """
        self._tell("READY=1")
        if self._watchdog is not None:
            # Half of the time, says sd_watchdog_enabled(3).
            self._living.start(self._watchdog / 2, now=False)

    def stopping(self) -> None:
        """
        Tell that the end has begun. Signs of life go on: it may take its time.
        """
        self._tell("STOPPING=1")

    def _tell(self, state: str) -> None:
        if self._address is None:
            return
        path = self._address
        target: Any = b"\0" + os.fsencode(path[1:]) if path.startswith("@") else path
        # It must not end a server that nobody hears this.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode("ascii"), target)


def supervisorFrom(environ: Mapping[str, str], clock: IReactorTime, pid: int) -> Supervisor:
    """
    Return whom the environment names.

    @param pid: of this process: a watchdog may be meant for another one.
    """
    address = environ.get("NOTIFY_SOCKET") or None
    watchdog = None
    if environ.get("WATCHDOG_PID", str(pid)) == str(pid):
        with suppress(ValueError):
            watchdog = int(environ.get("WATCHDOG_USEC", "")) * _MICROSECOND
    isAsked = address is not None and watchdog is not None and watchdog > 0
    return Supervisor(address, watchdog if isAsked else None, clock)
