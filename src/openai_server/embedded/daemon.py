# -*- test-case-name: tests.embedded.test_daemon -*-
"""
The embedded daemon: the server side of thrum, in this process.

It does what humd 0.31.18 was seen to do, not what would be convenient: it
never waits for a slow reader, tells nobody when a worker dies, and routes
tool-calls by the names in the latest hellos alone.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IReactorUNIX
from twisted.internet.protocol import Factory

from openai_server.clock import Clock
from openai_server.embedded.client import Client, Observer
from openai_server.embedded.lines import NEST, lineFromMembers
from openai_server.embedded.registry import RegistryFile, manifestFromHello
from openai_server.embedded.settings import Faults, Settings
from openai_server.embedded.worker import CAPABILITIES, Worker, definitions
from openai_server.wire.ids import sigil

#: Sids that are remembered for one client: a bound for the sake of this process.
MAX_OWNED: Final = 65536

#: Tones that are never echoed, and how often others are.
_ECHOES: Final[Mapping[str, int]] = {"log": 0, "echo": 0, "prompt": 2}


def runtimeDirectory(environment: Mapping[str, str] = os.environ) -> Path:
    """
    Where to make the private folder: the user's runtime directory, or the
    directory for temporary files when there is none.
    """
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    if runtime and os.access(runtime, os.W_OK | os.X_OK):
        return Path(runtime)
    return Path(tempfile.gettempdir())


class _Doors(Factory):
    """
    Makes a connection of each that comes in while the daemon runs.
    """

    noisy = False

    def __init__(self, daemon: EmbeddedDaemon) -> None:
        self._daemon = daemon

    def buildProtocol(self, addr: IAddress | None) -> Client | None:
        """
        See L{Factory.buildProtocol}.
        """
        return self._daemon.buildProtocol(addr)


class EmbeddedDaemon(Service):
    """
    A daemon with a worker, as a service. Connections come in over its socket,
    or, in memory, as protocols from L{buildProtocol}.

    @ivar settings: how it behaves.
    @ivar faults: what is wrong with it just now.
    @ivar incarnation: a number that is another one after a restart.
    @ivar lineObserver: called with each line that a client sends, without its
        newline.
    @ivar observer: sees all that passes; for tests.
    @ivar clients: the connections that are open, in order.
    @ivar workers: those that are alive, whether the daemon knows them yet or not.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        settings: Settings | None = None,
        directory: Path | None = None,
        reactor: IReactorUNIX | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        @param clock: what it waits with.
        @param directory: where it makes its private folder, for the registry
            file and the socket; None: no folder and neither of them.
        @param reactor: what it listens with; None: no socket.
        @param now: the wall clock in seconds, for C{dusk}.
        """
        self.clock = clock
        self.settings = settings or Settings()
        self.faults = Faults()
        self.incarnation = 0
        self.lineObserver: Callable[[bytes], None] | None = None
        self.observer: Observer | None = None
        self.clients: list[Client] = []
        self.workers: list[Worker] = []
        self._directory = directory
        self._reactor = reactor
        self._now = now
        self._folder: Path | None = None
        self._registry: RegistryFile | None = None
        self._port: IListeningPort | None = None
        self._isUp = False
        self._connections = 0
        self._workerNumber = 0
        #: Workers that the daemon knows, by their id.
        self._known: dict[str, Worker] = {}
        self._owners: dict[str, dict[Client, None]] = {}
        self._routes: dict[tuple[str, str], Worker] = {}
        self._returning: IDelayedCall | None = None

    @property
    def socketPath(self) -> Path | None:
        """
        Where it listens, while it is started and has a socket.
        """
        return None if self._folder is None or self._reactor is None else self._folder / "thrum.sock"

    @property
    def registryPath(self) -> Path | None:
        """
        Its registry file, while it is started and has a folder.
        """
        return None if self._folder is None else self._folder / "bees.json"

    @property
    def isIdle(self) -> bool:
        """
        No worker has a turn running or waiting.
        """
        return all(worker.isIdle for worker in self.workers)

    # Start and stop.

    def startService(self) -> None:
        """
        Start the daemon and one worker with all models; listen.
        """
        super().startService()
        if self._directory is not None:
            self._folder = Path(tempfile.mkdtemp(prefix="openai-server-", dir=self._directory))
            self._registry = RegistryFile(self._folder / "bees.json")
        self._comeUp()
        self.addWorker(*self.settings.models)

    def stopService(self) -> Deferred[None]:
        """
        Stop everything and remove what was made.

        @return: fires when the socket is closed and the folder gone.
        """
        super().stopService()
        self.killWorkers()
        return self._goDown().addCallback(lambda _: self._removeFolder())

    def start(self) -> None:
        """
        See L{startService}.
        """
        self.startService()

    def stop(self) -> Deferred[None]:
        """
        See L{stopService}.
        """
        return self.stopService()

    def buildProtocol(self, addr: IAddress | None = None) -> Client | None:
        """
        A new connection, or None while the daemon is down.
        """
        if not self._isUp:
            return None
        self._connections += 1
        return Client(self, self._connections)

    # Faults.

    def crash(self) -> Deferred[None]:
        """
        The daemon dies: connections are cut, every turn is forgotten; the
        workers run on.

        @return: fires when nothing listens any more.
        """
        for worker in self.workers:
            worker.forgetTurns()
        return self._goDown()

    def comeBack(self) -> None:
        """
        The daemon is started again. Its workers are back a little later.
        """
        self._comeUp()
        self._returning = self.clock.callLater(self.settings.workerReturn, self._workersReturn)

    def restart(self) -> Deferred[None]:
        """
        L{crash}, then L{comeBack}.

        @return: fires when it listens again.
        """
        return self.crash().addCallback(lambda _: self.comeBack())

    def cutConnections(self) -> None:
        """
        Cut all connections, and go on.
        """
        for client in list(self.clients):
            client.disconnect()

    def addWorker(self, *models: str) -> Worker:
        """
        A worker with these models connects, all of them among the settings'.
        """
        self._workerNumber += 1
        name = f"worker-{self._workerNumber}"
        worker = Worker(name, models, self.settings, self.clock, self, int(self._now() * 1000))
        self.workers.append(worker)
        if self._isUp:
            self._know(worker)
        return worker

    def killWorker(self, worker: Worker) -> None:
        """
        A worker dies with all its processes. Its manifest disappears; nobody
        is told.
        """
        worker.stop()
        self.workers.remove(worker)
        self._routes = {call: to for call, to in self._routes.items() if to is not worker}
        if self._known.pop(worker.name, None) is not None and self._isUp:
            self._register()

    def killWorkers(self) -> None:
        """
        All workers die.
        """
        for worker in list(self.workers):
            self.killWorker(worker)

    # From the connections.

    def clientConnected(self, client: Client) -> None:
        """
        See L{openai_server.embedded.client.Hall.clientConnected}.
        """
        self.clients.append(client)
        if self.observer is not None:
            self.observer.connected(client.number)
        self._breathe(client, [])

    def clientLost(self, client: Client) -> None:
        """
        See L{openai_server.embedded.client.Hall.clientLost}.
        """
        self.clients.remove(client)
        for sid in client.owned:
            self._disown(client, sid)
        client.owned.clear()
        if client.manifest is not None and self._isUp:
            self._register()

    def lineSeen(self, line: bytes, client: Client) -> None:
        """
        See L{openai_server.embedded.client.Hall.lineSeen}.
        """
        if self.lineObserver is not None:
            self.lineObserver(line)
        if self.observer is not None:
            self.observer.lineReceived(line, client.number)

    def toneReceived(self, tone: dict[str, Any], client: Client) -> None:
        """
        See L{openai_server.embedded.client.Hall.toneReceived}.
        """
        if self._isPastDusk(tone):
            self._echo(client, tone, 1, ok=False, error="past dusk")
            return
        self._echo(client, tone, _ECHOES.get(tone["chi"], 1), ok=True)
        match tone:
            case {"chi": "hello"}:
                self._hello(tone, client)
            case {"chi": "prompt", "sid": str(sid)} if sid:
                self._own(client, sid)
                self._prompt(tone, client)
            case {"chi": "attach", "sid": str(sid)} if sid:
                self._own(client, sid)
            case {"chi": "tool-result", "sid": str(sid), "callId": str(callId)}:
                self._toolResult(tone, sid, callId)
            case {"chi": "cancel", "sid": str(sid)}:
                for worker in self._known.values():
                    worker.cancel(sid)

    # From the workers.

    def deliver(self, sid: str, lines: list[bytes]) -> None:
        """
        See L{openai_server.embedded.worker.Post.deliver}.
        """
        for client in self._audienceOf(sid):
            client.send(lines)

    def isCrowded(self, sid: str) -> bool:
        """
        See L{openai_server.embedded.worker.Post.isCrowded}.
        """
        return any(client.isCrowded for client in self._audienceOf(sid))

    def routeCall(self, tone: dict[str, Any], worker: Worker) -> None:
        """
        See L{openai_server.embedded.worker.Post.routeCall}.
        """
        name = tone.get("toolName", tone.get("name"))
        for client in self.clients:
            if client.manifest is not None and name in namesOf(client.manifest):
                self._routes[tone["sid"], tone["callId"]] = worker
                client.send([lineFromMembers(tone)])
                return
        self.deliver(tone["sid"], [lineFromMembers({**tone, **stamp(tone["sid"])})])

    def forgetCall(self, sid: str, callId: str) -> None:
        """
        See L{openai_server.embedded.worker.Post.forgetCall}.
        """
        self._routes.pop((sid, callId), None)

    # Inside: life.

    def _comeUp(self) -> None:
        self._isUp = True
        self.incarnation += 1
        if self._reactor is not None and self.socketPath is not None:
            path = str(self.socketPath)
            self._port = self._reactor.listenUNIX(path, _Doors(self), mode=stat.S_IRUSR | stat.S_IWUSR)

    def _goDown(self) -> Deferred[None]:
        self._isUp = False
        self._known.clear()
        self._routes.clear()
        if self._returning is not None and self._returning.active():
            self._returning.cancel()
        port, self._port = self._port, None
        self.cutConnections()
        return succeed(None) if port is None else succeed(None).addCallback(lambda _: port.stopListening())

    def _removeFolder(self) -> None:
        folder, self._folder, self._registry = self._folder, None, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _workersReturn(self) -> None:
        for worker in self.workers:
            self._know(worker)

    def _know(self, worker: Worker) -> None:
        self._known[worker.name] = worker
        self._register()

    # Inside: tones.

    def _isPastDusk(self, tone: Mapping[str, Any]) -> bool:
        dusk = tone.get("dusk")
        return isinstance(dusk, int | float) and dusk < self._now() * 1000

    def _echo(self, client: Client, tone: Mapping[str, Any], times: int, **members: Any) -> None:
        rid = tone.get("rid")
        if isinstance(rid, str) and not self.faults.muteEchoes:
            for _ in range(times):
                client.sendTone(chi="echo", rid=rid, **members)

    def _breathe(self, client: Client, sessions: Any) -> None:
        if not self.faults.muteBreath:
            version = self.faults.protoVersion
            client.sendTone(chi="breath", protoVersion=version, sessions=sessions, **{"from": "daemon"})

    def _hello(self, tone: Mapping[str, Any], client: Client) -> None:
        for other in self.clients:
            if other is not client and other.manifest and other.manifest.get("hid") == tone.get("hid"):
                other.manifest = None
        client.manifest = manifestFromHello(tone)
        self._register()
        self._breathe(client, {})

    def _prompt(self, tone: dict[str, Any], client: Client) -> None:
        model = tone.get("modelId", "sonnet")
        worker = next((each for each in self._known.values() if model in each.models), None)
        if worker is None:
            message = f"no worker bee advertises model '{model}'"
            client.sendTone(chi="error", message=message, sid=tone["sid"], **stamp(tone["sid"]))
        elif self.faults.losesPrompt is None or not self.faults.losesPrompt(tone):
            provided = [each for bee in self._manifests() for each in stringsOf(bee.get("provides"))]
            worker.prompt({**tone, "tools": allowed(tone.get("tools"), provided)}, self._offers(), provided)

    def _toolResult(self, tone: Mapping[str, Any], sid: str, callId: str) -> None:
        worker = self._routes.pop((sid, callId), None)
        if worker is not None:
            worker.answer(tone)

    # Inside: who is who.

    def _own(self, client: Client, sid: str) -> None:
        client.owned[sid] = None
        self._owners.setdefault(sid, {})[client] = None
        if len(client.owned) > MAX_OWNED:
            oldest = next(iter(client.owned))
            del client.owned[oldest]
            self._disown(client, oldest)

    def _disown(self, client: Client, sid: str) -> None:
        owners = self._owners[sid]
        del owners[client]
        if not owners:
            del self._owners[sid]

    def _audienceOf(self, sid: str) -> Iterable[Client]:
        return list(self._owners.get(sid, ())) or [client for client in self.clients if not client.owned]

    def _manifests(self) -> list[Mapping[str, Any]]:
        return [client.manifest for client in self.clients if client.manifest is not None]

    def _offers(self) -> list[Mapping[str, Any]]:
        return [tool for manifest in self._manifests() for tool in definitions(manifest.get("tools"))]

    def _register(self) -> None:
        if self._registry is None:
            return
        bees = {f"client-{each.number}": each.manifest for each in self.clients if each.manifest is not None}
        workers = {name: worker.manifest() for name, worker in self._known.items()}
        self._registry.write({**workers, **bees})


def stamp(sid: str) -> dict[str, str]:
    """
    What the daemon adds to a tone that it gives to the owners of a session.
    """
    return {"from": "daemon", "sigil": sigil(sid, NEST)}


def namesOf(manifest: Mapping[str, Any]) -> set[str]:
    """
    Names of the tools that a bee answers for.
    """
    return {tool["name"] for tool in definitions(manifest.get("tools"))}


def stringsOf(value: Any) -> list[str]:
    """
    The strings in a member of a tone that should be a list of them.
    """
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def allowed(tools: Any, provided: Sequence[str]) -> list[Mapping[str, Any]]:
    """
    The tools of a prompt without those that a capability owns.
    """
    taken = {name.lower() for each in provided for name in CAPABILITIES.get(each, ())}
    return [tool for tool in definitions(tools) if tool["name"].lower() not in taken]
