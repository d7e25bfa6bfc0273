# -*- test-case-name: tests.test_listening -*-
"""
The ports that the server listens on, from Twisted's endpoint strings.

A socket that systemd passes on stays systemd's: the next process finds it with
the connections that nobody has accepted. Twisted treats one in the Unix domain
as its own: it changes its mode, and at the end shuts it down and removes it.

The same holds for the ports that another process of this server has opened and
shares with this one.
"""

from __future__ import annotations

import os
import socket
from typing import Any, Final

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, execute
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.unix import Port
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

#: How the endpoint strings begin of what another process has opened.
_INHERITED: Final = "inherited:"


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


class SharingReactor:
    """
    A reactor on which nothing is bound: whoever listens gets a socket that is
    there, whatever the kind of the port. What is around that (TLS, the PROXY
    protocol) is around this one too.
    """

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor

    def __getattr__(self, name: str) -> Any:
        """
        Return what the reactor has.
        """
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: IProtocolFactory, *args: Any, **kwargs: Any) -> IListeningPort:
        """
        Accept connections from the socket.
        """
        return _adopt(self._reactor, self._descriptor, factory)

    listenUNIX = listenTCP

    def listenSSL(
        self, port: int, factory: IProtocolFactory, contextFactory: Any, *args: Any, **kwargs: Any
    ) -> IListeningPort:
        """
        Accept TLS connections from the socket.
        """
        return _adopt(self._reactor, self._descriptor, TLSMemoryBIOFactory(contextFactory, False, factory))


def inherited(descriptor: int, description: str) -> str:
    """
    Return the endpoint string of a port that another process has opened.

    @param descriptor: of the socket.
    @param description: by which it was opened.
    """
    return f"{_INHERITED}{descriptor}:{description}"


def isPassed(description: str) -> bool:
    """
    Return whether this endpoint string means a socket of somebody else's:
    systemd's, or another process's of this server.
    """
    return description.removeprefix("haproxy:").startswith(("systemd:", _INHERITED))


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
    if description.startswith(_INHERITED):
        descriptor, _, description = description.removeprefix(_INHERITED).partition(":")
        if isPassed(description):
            # That one was told of it by systemd, this one is not.
            description = ("haproxy:" if description.startswith("haproxy:") else "") + "tcp:0"
        reactor = SharingReactor(reactor, int(descriptor))
    endpoint = endpointFrom(reactor, description)
    if isinstance(endpoint, AdoptedStreamServerEndpoint) and endpoint.addressFamily == socket.AF_UNIX:
        return execute(_adopt, reactor, endpoint.fileno, factory)
    listening: Deferred[IListeningPort] = endpoint.listen(factory)
    return listening


def _adopt(reactor: Any, descriptor: int, factory: IProtocolFactory) -> IListeningPort:
    os.set_blocking(descriptor, False)
    with socket.socket(fileno=os.dup(descriptor)) as passed:
        family = passed.family
    if family == socket.AF_UNIX:
        unixPort = PassedUNIXPort(descriptor, factory, reactor)
        unixPort.startListening()
        return unixPort
    port: IListeningPort = reactor.adoptStreamPort(descriptor, family, factory)
    os.close(descriptor)
    return port
