# -*- test-case-name: tests.test_tap -*-
"""
The one place that joins the rooms: from the daemon up to the HTTP side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from twisted.application.service import IService, Service
from twisted.internet.interfaces import IReactorTime, ITransport
from twisted.logger import Logger

from openai_server import __version__
from openai_server.audit import AuditLog
from openai_server.config import Configuration, Loaded, UpstreamSettings, changed, keyPath, whyKeyNeeded
from openai_server.daemon.endpoint import SocketEndpoint, peerProcess
from openai_server.daemon.link import Link
from openai_server.daemon.registry import FileRegistry
from openai_server.daemon.waitlimits import WaitLimits
from openai_server.daemonplaces import placesFrom
from openai_server.embedded.daemon import EmbeddedDaemon
from openai_server.greeting import Bound, Greeting
from openai_server.identity import IdentityError, NoKeyFile, hidFromSeed, holdKey, newSeed
from openai_server.inheritance import inheritanceFrom
from openai_server.metrics import Counters
from openai_server.reports import RequestReports
from openai_server.runtime import runtimeDirectory
from openai_server.service import Front, StartError
from openai_server.sessions.upstreams import NamedDaemon
from openai_server.sideport import SidePort
from openai_server.store.interfaces import Bounds, Store, StoreError
from openai_server.store.opening import claimFrom, storeFrom
from openai_server.wire.tones import Bind

if TYPE_CHECKING:
    from openai_server.web.front import WebFront


class Joining:
    """
    Joins the rooms as the settings want them.

    @ivar onBroughtBack: called when some more is there again, for long, of what
        an earlier process had.
    """

    _log = Logger()

    def __init__(self, reactor: Any, clock: IReactorTime, loaded: Loaded, environ: Mapping[str, str]) -> None:
        self.onBroughtBack: Callable[[], object] = lambda: None
        self._reactor = reactor
        self._clock = clock
        self._loaded = loaded
        self._configuration = loaded.configuration
        self._environ = environ
        inheritance = inheritanceFrom(environ)
        description = self._configuration.metricsDescription(1 if inheritance is None else inheritance.number)
        self._metricsPort = None if description is None else SidePort(reactor, description)
        self._change: Callable[[Configuration], None] = lambda settings: None
        self._reopenAudit: Callable[[], None] = lambda: None

    @property
    def beside(self) -> Sequence[IService]:
        """
        The ports that open with those of the API.
        """
        return () if self._metricsPort is None else (self._metricsPort,)

    def join(self, bound: Sequence[Bound], start: Callable[[IService], None]) -> Front:
        """
        See L{openai_server.service.Compose}. Greets the operator.

        @raise StartError: this bee's key or the store cannot be used.
        """
        from openai_server.telemetry.service import NoTraces, Telemetry
        from openai_server.web.front import WebFront, boundsFrom

        counters = Counters()
        # The embedded daemon knows nobody from earlier days.
        hid = hidFromSeed(newSeed()) if self._configuration.embedded else self._hid(start)
        store = self._openStore(boundsFrom(self._configuration), counters, start)
        daemons = self._daemons(hid, bound, start)
        links = [link for link, _ in daemons]
        try:
            telemetry = Telemetry(self._reactor, self._clock, self._configuration, counters)
        except NoTraces as error:
            raise StartError(str(error)) from None
        front = WebFront(
            clock=self._clock,
            configuration=self._configuration,
            daemons=[NamedDaemon(link, place.name, place.weight) for link, place in daemons],
            hid=hid,
            runtimeDirectory=runtimeDirectory(self._environ),
            boundHosts=[address.hostAndPort[0] for address in bound if address.hostAndPort],
            store=store,
            counters=counters,
            requestReports=[*telemetry.reports, *self._openAudit(counters, start)],
            turnReports=[telemetry.figures],
            isTraced=telemetry.isTraced,
            beside=telemetry.routes,
            onBroughtBack=self.onBroughtBack,
        )
        why = whyKeyNeeded(self._configuration)
        # Where they cannot be read for now, nobody is let in until they are.
        if why is not None and store.accounts.atStart is not None and not front.accounts.keys:
            raise StartError(f"{why}, or add one with python -m openai_server.admin keys add NAME")
        telemetry.watch(links, store, front)
        start(telemetry)
        start(front)
        metricsAt = None
        if self._metricsPort is not None:
            metricsAt = telemetry.serve(self._metricsPort)
            start(self._metricsPort)
        self._change = partial(_change, links, front)
        self._greet(bound, front.models.ids(), front.accounts.keys.isRequired)
        if metricsAt is not None:
            self._log.info("metrics: {where}/metrics", where=str(metricsAt))
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
                isAlone=True,
            )
            start(store)
        except StoreError as error:
            raise StartError(str(error)) from None
        return store

    def _openAudit(self, counters: Counters, start: Callable[[IService], None]) -> Sequence[RequestReports]:
        """
        Return what writes the audit log, if there is to be one. It is stopped
        after all that asks.
        """
        path = self._configuration.auditLog
        if path is None:
            return ()
        audit = AuditLog(path, self._reactor, counters)
        try:
            start(audit)
        except OSError as error:
            raise StartError(f"auditLog {path}: {error.strerror}") from None
        self._reopenAudit = audit.reopen
        return (audit,)

    # The daemons.

    def _daemons(
        self, hid: str, bound: Sequence[Bound], start: Callable[[IService], None]
    ) -> Sequence[tuple[Link, UpstreamSettings]]:
        """
        Return the ways to the daemons, or to one in this process.
        """
        if self._configuration.embedded:
            embedded = EmbeddedDaemon(
                clock=self._clock, directory=runtimeDirectory(self._environ), reactor=self._reactor
            )
            start(embedded)
            # It dies with the process, and the next one counts anew.
            run = token_hex(8)
            place = UpstreamSettings(
                name="", socket=str(embedded.socketPath), registry=str(embedded.registryPath)
            )
            link = self._link(place, hid, bound, start, lambda _: f"{run}-{embedded.incarnation}")
            return ((link, place),)
        places = placesFrom(self._configuration, self._environ)
        return [(self._link(place, hid, bound, start, peerProcess), place) for place in places]

    def _link(
        self,
        place: UpstreamSettings,
        hid: str,
        bound: Sequence[Bound],
        start: Callable[[IService], None],
        incarnationOf: Callable[[ITransport], str | None],
    ) -> Link:
        configuration = self._configuration
        # Of no file nothing is known.
        registry = FileRegistry(place.registry or "", self._clock)
        start(registry)
        link = Link(
            clock=self._clock,
            endpoint=SocketEndpoint(self._reactor, place.socket),
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
            incarnationOf=incarnationOf,
            name=place.name,
        )
        start(link)
        return link

    def _hid(self, start: Callable[[IService], None]) -> str:
        """
        Return this bee's lasting name, which no other process has until this
        one stops. Without a place for its key, which nobody has chosen, a name
        for this time alone.
        """
        chosen = self._configuration.keyFile
        try:
            path = chosen or keyPath(self._environ)
            if path is None:
                raise NoKeyFile("there is no home folder for this bee's key")
            key = holdKey(path)
        except IdentityError as error:
            if chosen is not None or not isinstance(error, NoKeyFile):
                raise StartError(str(error)) from None
            self._log.warn(
                "{why}: the daemon knows this server by another name after each start"
                " (set OPENAI_SERVER_KEY_FILE)",
                why=str(error),
            )
            return hidFromSeed(newSeed())
        start(Held(key.release))
        return hidFromSeed(key.seed)

    # The operator.

    def reopen(self) -> None:
        """
        Go on in the file that has the audit log's name now.
        """
        self._reopenAudit()

    def reload(self, settings: Configuration) -> None:
        """
        Let those of these settings hold that can change, and say which need a
        restart. So does a server that had no key or shall have none: where it
        may listen depends on it.
        """
        had, has = self._configuration.apiKey, settings.apiKey
        if had != has and (had is None or has is None):
            self._log.warn("the API key stays as it was: to set the first one or none needs a restart")
            settings = replace(settings, apiKey=had)
        holds, names, others = changed(self._configuration, settings)
        if others:
            self._log.warn("changes that need a restart: {names}", names=", ".join(others))
        if names:
            self._configuration = holds
            self._change(holds)
            self._log.info("settings that changed: {names}", names=", ".join(names))

    def _greet(self, bound: Sequence[Bound], models: Sequence[str], hasKey: bool) -> None:
        places = () if self._configuration.embedded else placesFrom(self._configuration, self._environ)
        greeting = Greeting(
            version=__version__,
            addresses=bound,
            models=models,
            daemons={place.name: place.socket for place in places},
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


def _change(links: Sequence[Link], front: WebFront, settings: Configuration) -> None:
    if settings.apiKey is not None:
        front.site.admission.changeKey(settings.apiKey)
    for link in links:
        link.change(settings.firstLifeTimeout, settings.stallTimeout, settings.turnTimeout)
    front.change(settings)


def bindFrom(bound: Sequence[Bound]) -> Bind | None:
    """
    The address for the hello: the first one that a URL can be made of.
    """
    for address in bound:
        if address.hostAndPort is not None:
            return Bind(*address.hostAndPort, address.scheme)
    return None
