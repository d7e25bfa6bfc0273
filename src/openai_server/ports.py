# -*- test-case-name: tests.test_listening -*-
"""
The ports that the server listens on, from Twisted's endpoint strings.

A socket that systemd passes on stays systemd's: the next process finds it with
the connections that nobody has accepted. Twisted treats one in the Unix domain
as its own: it changes its mode, and at the end shuts it down and removes it.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, execute
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.unix import Port
from twisted.python.failure import Failure


class PassedUNIXPort(Port):
    """
    A Unix socket that somebody else has made, listens on and will remove.
    """

    def __init__(self, descriptor: int, factory: IProtocolFactory, reactor: Any) -> None:
        """
        @param descriptor: is this port's own from now on.
        """
        self._passed = socket.socket(fileno=descriptor)
        self._passed.setblocking(False)
        self._passed.set_inheritable(False)
        self._acceptor = factory
        super().__init__(self._passed.getsockname(), factory, reactor=reactor)

    def startListening(self) -> None:
        """
        Accept connections.
        """
        self._acceptor.doStart()
        self.connected = True
        self.socket = self._passed
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        """
        Close this process's descriptor of it.
        """
        FileDescriptor.connectionLost(self, reason)
        self.connected = False
        self._passed.close()
        self._acceptor.doStop()

    def fileno(self) -> int:
        """
        Return the descriptor.
        """
        return self._passed.fileno()


def isPassed(description: str) -> bool:
    """
    Return whether this endpoint string means a socket of systemd's.
    """
    return description.removeprefix("haproxy:").startswith("systemd:")


def endpointFrom(reactor: Any, description: str) -> IStreamServerEndpoint:
    """
    Return the endpoint that a string means.

    @raise Exception: of any kind: it means none. The text says why.
    """
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    except LookupError:
        if not isPassed(description):
            raise
        raise ValueError(
            "systemd has passed no such socket: LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID have to tell this"
            " process of it, which a .socket unit of the same name takes care of"
        ) from None
    return endpoint


def listen(reactor: Any, description: str, factory: IProtocolFactory) -> Deferred[IListeningPort]:
    """
    Listen where a string says.

    @return: fires with the port; fails with any exception.
    """
    endpoint = endpointFrom(reactor, description)
    if isinstance(endpoint, AdoptedStreamServerEndpoint) and endpoint.addressFamily == socket.AF_UNIX:
        return execute(_listenOn, reactor, endpoint.fileno, factory)
    listening: Deferred[IListeningPort] = endpoint.listen(factory)
    return listening


def _listenOn(reactor: Any, descriptor: int, factory: IProtocolFactory) -> IListeningPort:
    port = PassedUNIXPort(descriptor, factory, reactor)
    port.startListening()
    return port
