# -*- test-case-name: tests.test_inheritance -*-
"""
What a process that serves beside others has from the one that started it: the
ports, a pipe that closes when that one is gone, and a pipe on which to say
that it serves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from twisted.application.service import IService, Service
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ReactorNotRunning
from twisted.internet.main import CONNECTION_DONE
from twisted.logger import Logger
from twisted.python.failure import Failure

from openai_server.greeting import Bound
from openai_server.ports import inherited
from openai_server.service import Compose, Front

#: The environment variable that tells a process of it.
VARIABLE: Final = "_OPENAI_SERVER_PROCESS"

#: The descriptors of the two pipes, and of the first port.
LIFELINE: Final = 3
READY: Final = 4
FIRST_PORT: Final = 5


class Inheritance(msgspec.Struct, frozen=True):
    """
    What is told.

    @ivar number: which one of the processes it is, counted from 1.
    @ivar descriptions: the endpoint strings of the ports.
    """

    number: int
    descriptions: tuple[str, ...]

    def text(self) -> str:
        """
        Return it as the variable's value.
        """
        return msgspec.json.encode(self).decode()

    @property
    def inheritedDescriptions(self) -> Sequence[str]:
        """
        The endpoint strings by which to listen.
        """
        return [inherited(FIRST_PORT + place, each) for place, each in enumerate(self.descriptions)]

    def composing(self, reactor: Any, compose: Compose) -> Compose:
        """
        Return what joins the rooms, watches the one that started this process,
        and tells it that this one serves.
        """

        def joined(bound: Sequence[Bound], start: Callable[[IService], None]) -> Front:
            start(ParentWatch(reactor, LIFELINE))
            addresses = [
                Bound(description, each.address)
                for description, each in zip(self.descriptions, bound, strict=True)
            ]
            front = compose(addresses, start)
            with suppress(BrokenPipeError), open(READY, "wb") as ready:
                ready.write(b".")
            return front

        return joined


def inheritanceFrom(environ: Mapping[str, str]) -> Inheritance | None:
    """
    Return what this process has from another one; None where none started it.
    """
    text = environ.get(VARIABLE)
    return None if text is None else msgspec.json.decode(text, type=Inheritance)


class ParentWatch(Service):
    """
    Stops the reactor, in good order, when the process at the other end of a
    pipe is gone.
    """

    def __init__(self, reactor: Any, descriptor: int) -> None:
        """
        @param descriptor: is this object's from its start on.
        """
        self._lifeline = Lifeline(reactor, descriptor)

    def startService(self) -> None:
        """
        Begin to watch.
        """
        super().startService()
        self._lifeline.startReading()

    def stopService(self) -> None:
        """
        Watch no more.
        """
        super().stopService()
        self._lifeline.close()


class Lifeline(FileDescriptor):
    """
    An end of a pipe on which nothing is ever sent.
    """

    _log = Logger()

    def __init__(self, reactor: Any, descriptor: int) -> None:
        super().__init__(reactor)
        self._loop = reactor
        self._descriptor = descriptor

    def fileno(self) -> int:
        """
        Return the descriptor.
        """
        return self._descriptor

    def doRead(self) -> Exception | None:
        """
        See L{twisted.internet.interfaces.IReadDescriptor}.
        """
        return None if os.read(self._descriptor, 1) else CONNECTION_DONE

    def connectionLost(self, reason: Failure) -> None:
        """
        The other end is closed.
        """
        super().connectionLost(reason)
        self._log.warn("the process that started this one is gone: no new requests, open answers may end")
        with suppress(ReactorNotRunning):
            self._loop.stop()

    def close(self) -> None:
        """
        Close this end.
        """
        self.stopReading()
        os.close(self._descriptor)
