# -*- test-case-name: tests.daemon.test_endpoint -*-
"""
The way to the daemon's socket.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorUNIX,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from openai_server.daemon.paths import socketProblem
from openai_server.outlet import socketOf


class CannotConnect(Exception):
    """
    There is no way to the daemon now; the message says why, to the operator.
    """


class SpareDescriptor:
    """
    One open file kept for the connection to the daemon, so that it can be
    made again when clients have taken all other descriptors.
    """

    def __init__(self) -> None:
        self._spare: int | None = None

    def hold(self) -> None:
        """
        Take a descriptor, if there is one and none is held.
        """
        if self._spare is None:
            with suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def release(self) -> None:
        """
        Give it back, for a connection or at the end.
        """
        spare, self._spare = self._spare, None
        if spare is not None:
            os.close(spare)


@implementer(IStreamClientEndpoint)
class SocketEndpoint:
    """
    Connects to the daemon's Unix socket, after a look at it, and says in plain
    words why it cannot.
    """

    def __init__(
        self,
        reactor: IReactorUNIX,
        path: str,
        timeout: float = 5,
        problem: Callable[[str, int], str | None] = socketProblem,
    ) -> None:
        """
        @param timeout: seconds for one attempt.
        @param problem: says why a path is not to be connected to by this user.
        """
        self._path = path
        self._problem = problem
        self._inner = UNIXClientEndpoint(reactor, path, timeout=timeout)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Fires with the protocol; fails with L{CannotConnect}.
        """
        problem = self._problem(self._path, os.getuid())
        if problem is not None:
            return fail(CannotConnect(problem))
        connecting: Deferred[IProtocol] = self._inner.connect(protocolFactory)
        return connecting.addErrback(self._explain)

    def _explain(self, failure: Failure) -> Failure:
        failure.trap(ConnectError, OSError)
        return Failure(CannotConnect(f"{_reasons.get(_errno(failure), _OTHER)}: {self._path}"))


_OTHER = "the socket cannot be connected to"
_reasons: dict[int | None, str] = {
    errno.ENOENT: "the socket is missing",
    errno.ECONNREFUSED: "nobody listens on the socket",
    errno.EACCES: "no permission to connect to the socket",
    errno.EPERM: "no permission to connect to the socket",
    errno.EMFILE: "no file descriptor is left for the socket",
    errno.ENFILE: "no file descriptor is left for the socket",
}


def _errno(failure: Failure) -> int | None:
    error = failure.value
    number = error.osError if isinstance(error, ConnectError) else getattr(error, "errno", None)
    return number if isinstance(number, int) else None


def peerProcess(transport: ITransport) -> str | None:
    """
    What tells the process at the other end of a Unix socket from all others
    of this machine, before and after a start of it; or None when it cannot be
    known.
    """
    handle = socketOf(transport)
    if handle is None or handle.family != socket.AF_UNIX:
        return None
    size = struct.calcsize("3i")
    try:
        pid = struct.unpack("3i", handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
    except (OSError, AttributeError):
        return None
    return _incarnationOf(pid) if pid else None


def _incarnationOf(pid: int) -> str:
    # Ids come again; with the ticks since the machine was started, and which
    # start that was, they do not.
    found = str(pid)
    with suppress(OSError, IndexError):
        with open(f"/proc/{pid}/stat") as stat:
            # The name, which stands in parentheses, may have any character.
            found += "-" + stat.read().rpartition(")")[2].split()[19]
        with open("/proc/sys/kernel/random/boot_id") as boot:
            found += "-" + boot.read().strip()
    return found
