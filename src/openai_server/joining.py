# -*- test-case-name: tests.test_tap -*-
"""
The one place that joins the rooms: from the daemon up to the HTTP side.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from openai_server import __version__
from openai_server.config import Configuration, Loaded, keyPath, whyKeyNeeded
from openai_server.daemon.endpoint import SocketEndpoint, peerProcess
from openai_server.daemon.interfaces import Daemon
from openai_server.daemon.link import Link
from openai_server.daemon.paths import registryPath, socketPath
from openai_server.daemon.registry import FileRegistry
from openai_server.daemon.waitlimits import WaitLimits
from openai_server.embedded.daemon import EmbeddedDaemon
from openai_server.greeting import Bound, Greeting
from openai_server.identity import IdentityError, hidFromSeed, holdKey, newSeed
from openai_server.metrics import Counters
from openai_server.runtime import runtimeDirectory
from openai_server.service import Front, StartError
from openai_server.store.interfaces import Bounds, Store, StoreError
from openai_server.store.opening import claimFrom, storeFrom
from openai_server.wire.tones import Bind


class Joining:
    """
    Joins the rooms as the settings want them.
    """

    _log = Logger()

    def __init__(self, reactor: Any, clock: IReactorTime, loaded: Loaded, environ: Mapping[str, str]) -> None:
        self._reactor = reactor
        self._clock = clock
        self._loaded = loaded
        self._configuration = loaded.configuration
        self._environ = environ
        self._changeKey: Callable[[str], None] = lambda apiKey: None

    def join(self, bound: Sequence[Bound], start: Callable[[IService], None]) -> Front:
        """
        See L{openai_server.service.Compose}. Greets the operator.

        @raise StartError: this bee's key or the store cannot be used.
        """
        from openai_server.web.front import WebFront, boundsFrom

        counters = Counters()
        # The embedded daemon knows nobody from earlier days.
        hid = hidFromSeed(newSeed()) if self._configuration.embedded else self._hid(start)
        store = self._openStore(boundsFrom(self._configuration), counters, start)
        daemon = self._link(hid, bound, start)
        front = WebFront(
            clock=self._clock,
            configuration=self._configuration,
            daemon=daemon,
            hid=hid,
            runtimeDirectory=runtimeDirectory(self._environ),
            boundHosts=[address.hostAndPort[0] for address in bound if address.hostAndPort],
            store=store,
            counters=counters,
        )
        why = whyKeyNeeded(self._configuration)
        # Where they cannot be read for now, nobody is let in until they are.
        if why is not None and store.accounts.atStart is not None and not front.accounts.keys:
            raise StartError(f"{why}, or add one with python -m openai_server.admin keys add NAME")
        start(front)
        self._changeKey = front.site.admission.changeKey
        self._greet(bound, front.models.ids(), front.accounts.keys.isRequired)
        return front.site

    def _openStore(self, bounds: Bounds, counters: Counters, start: Callable[[IService], None]) -> Store:
        """
        Return what lasts. It is stopped after all that saves to it.
        """
        try:
            start(Held(claimFrom(self._configuration.store)))
            store = storeFrom(
                self._configuration.store,
                bounds,
                clock=self._clock,
                counters=counters,
                reactor=self._reactor,
            )
            start(store)
        except StoreError as error:
            raise StartError(str(error)) from None
        return store

    # The daemon.

    def _link(self, hid: str, bound: Sequence[Bound], start: Callable[[IService], None]) -> Daemon:
        """
        Return the way to the machine's daemon, or to one in this process.
        """
        configuration = self._configuration
        embedded: EmbeddedDaemon | None = None
        # It dies with the process, and the next one counts anew.
        run = token_hex(8)
        if configuration.embedded:
            embedded = EmbeddedDaemon(
                clock=self._clock, directory=runtimeDirectory(self._environ), reactor=self._reactor
            )
            start(embedded)
            socket, registryFile = str(embedded.socketPath), str(embedded.registryPath)
        else:
            socket = self._socketPath()
            registryFile = configuration.registryFile or registryPath(self._environ)
        registry = FileRegistry(registryFile, self._clock)
        start(registry)
        link = Link(
            clock=self._clock,
            endpoint=SocketEndpoint(self._reactor, socket),
            hid=hid,
            version=__version__,
            registry=registry,
            bind=lambda: bindFrom(bound),
            timeouts=WaitLimits(
                firstLife=configuration.firstLifeTimeout,
                stall=configuration.stallTimeout,
                turn=configuration.turnTimeout,
            ),
            registerTools=configuration.registerTools,
            incarnationOf=(lambda _: f"{run}-{embedded.incarnation}") if embedded else peerProcess,
        )
        start(link)
        return link

    def _hid(self, start: Callable[[IService], None]) -> str:
        """
        Return this bee's lasting name, which no other process has until this
        one stops.
        """
        path = self._configuration.keyFile or keyPath(self._environ)
        if path is None:
            raise StartError("there is no home folder for this bee's key: set OPENAI_SERVER_KEY_FILE")
        try:
            key = holdKey(path)
        except IdentityError as error:
            raise StartError(str(error)) from None
        start(Held(key.release))
        return hidFromSeed(key.seed)

    def _socketPath(self) -> str:
        return self._configuration.thrumSocket or socketPath(self._environ, os.getuid())

    # The operator.

    def reload(self, settings: Configuration) -> None:
        """
        Take the API key from these settings; the others need a restart, and
        so does a server that had no key or shall have none: where it may listen
        depends on it.
        """
        had, has = self._configuration.apiKey, settings.apiKey
        if had is None or has is None:
            if had != has:
                self._log.warn("the API key stays as it was: to set the first one or none needs a restart")
            return
        self._changeKey(has)

    def _greet(self, bound: Sequence[Bound], models: Sequence[str], hasKey: bool) -> None:
        greeting = Greeting(
            version=__version__,
            addresses=bound,
            models=models,
            socket=None if self._configuration.embedded else self._socketPath(),
            hasKey=hasKey,
        )
        for line in greeting.lines():
            self._log.info("{line}", line=line)
        for warning in self._loaded.warnings:
            self._log.warn("{warning}", warning=warning)


class Held(Service):
    """
    What is released when this stops.
    """

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release

    def stopService(self) -> None:
        """
        Release it.
        """
        super().stopService()
        self._release()


def bindFrom(bound: Sequence[Bound]) -> Bind | None:
    """
    The address for the hello: the first one that a URL can be made of.
    """
    for address in bound:
        if address.hostAndPort is not None:
            return Bind(*address.hostAndPort, address.scheme)
    return None
