# -*- test-case-name: tests.embedded.test_daemon -*-
"""
What a running daemon knows and does: who is connected, who owns which
session, where a tool's result must go. A restart forgets all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IReactorTime

from openai_server.embedded.client import Client, Observer
from openai_server.embedded.lines import NEST, lineFromMembers
from openai_server.embedded.registry import RegistryFile, manifestFromHello
from openai_server.embedded.settings import Faults
from openai_server.embedded.worker import CAPABILITIES, Worker, definitions
from openai_server.wire.ids import sigil

#: Sids that are remembered for one client: a bound for the sake of this process.
MAX_OWNED: Final = 65536

#: How often a tone with a rid is echoed, where that is not once.
_ECHOES: Final[Mapping[str, int]] = {"log": 0, "echo": 0, "prompt": 2}


class Premises(Protocol):
    """
    What stays when the daemon restarts.
    """

    clock: IReactorTime
    faults: Faults
    observer: Observer | None
    lineObserver: Callable[[bytes], None] | None
    now: Callable[[], float]


class Hall:
    """
    The daemon between its start and its end.

    @ivar clients: the open connections, in order.
    @ivar workers: those that have connected, by name, in order.
    @ivar owners: by sid, the clients that own it.
    @ivar routes: by sid and call id, the worker that waits for a result.
    """

    def __init__(self, premises: Premises, registry: RegistryFile | None) -> None:
        self.clients: list[Client] = []
        self.workers: dict[str, Worker] = {}
        self.owners: dict[str, dict[Client, None]] = {}
        self.routes: dict[tuple[str, str], Worker] = {}
        self._premises = premises
        self._registry = registry
        self._isOpen = True

    @property
    def clock(self) -> IReactorTime:
        """
        See L{openai_server.embedded.client.Host}.
        """
        return self._premises.clock

    @property
    def faults(self) -> Faults:
        """
        See L{openai_server.embedded.client.Host}.
        """
        return self._premises.faults

    @property
    def observer(self) -> Observer | None:
        """
        See L{openai_server.embedded.client.Host}.
        """
        return self._premises.observer

    def close(self) -> None:
        """
        The daemon ends: connections are cut, the registry file stays as it is.
        """
        self._isOpen = False
        self.cutConnections()
        self.workers.clear()
        self.routes.clear()

    def cutConnections(self) -> None:
        """
        Cut all connections.
        """
        for client in list(self.clients):
            client.disconnect()

    def addWorker(self, worker: Worker) -> None:
        """
        A worker has connected.
        """
        self.workers[worker.name] = worker
        self._register()

    def removeWorker(self, worker: Worker) -> None:
        """
        A worker is gone. Nobody is told; only the registry file shows it.
        """
        if self.workers.pop(worker.name, None) is not None:
            self.routes = {call: to for call, to in self.routes.items() if to is not worker}
            self._register()

    # From the connections.

    def clientConnected(self, client: Client) -> None:
        """
        See L{openai_server.embedded.client.Host.clientConnected}.
        """
        self.clients.append(client)
        if self.observer is not None:
            self.observer.connected(client.number)
        self._breathe(client, [])

    def clientLost(self, client: Client) -> None:
        """
        See L{openai_server.embedded.client.Host.clientLost}.
        """
        self.clients.remove(client)
        for sid in client.owned:
            self._disown(client, sid)
        client.owned.clear()
        if client.manifest is not None:
            self._register()

    def lineSeen(self, line: bytes, client: Client) -> None:
        """
        See L{openai_server.embedded.client.Host.lineSeen}.
        """
        if self._premises.lineObserver is not None:
            self._premises.lineObserver(line)
        if self.observer is not None:
            self.observer.lineReceived(line, client.number)

    def toneReceived(self, tone: dict[str, Any], client: Client) -> None:
        """
        See L{openai_server.embedded.client.Host.toneReceived}.
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
                for worker in self.workers.values():
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
                self.routes[tone["sid"], tone["callId"]] = worker
                client.send([lineFromMembers(tone)])
                return
        self.deliver(tone["sid"], [lineFromMembers({**tone, **stamp(tone["sid"])})])

    def forgetCall(self, sid: str, callId: str) -> None:
        """
        See L{openai_server.embedded.worker.Post.forgetCall}.
        """
        self.routes.pop((sid, callId), None)

    # Inside.

    def _isPastDusk(self, tone: Mapping[str, Any]) -> bool:
        dusk = tone.get("dusk")
        return isinstance(dusk, int | float) and dusk < self._premises.now() * 1000

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
        worker = next((each for each in self.workers.values() if model in each.models), None)
        if worker is None:
            message = f"no worker bee advertises model '{model}'"
            client.sendTone(chi="error", message=message, sid=tone["sid"], **stamp(tone["sid"]))
        elif self.faults.losesPrompt is None or not self.faults.losesPrompt(tone):
            provided = [each for bee in self._manifests() for each in stringsOf(bee.get("provides"))]
            prompt = {**tone, "tools": allowed(tone.get("tools"), provided)}
            worker.prompt(prompt, self._offers(), provided, self)

    def _toolResult(self, tone: Mapping[str, Any], sid: str, callId: str) -> None:
        worker = self.routes.pop((sid, callId), None)
        if worker is not None:
            worker.answer(tone)

    def _own(self, client: Client, sid: str) -> None:
        client.owned[sid] = None
        self.owners.setdefault(sid, {})[client] = None
        if len(client.owned) > MAX_OWNED:
            oldest = next(iter(client.owned))
            del client.owned[oldest]
            self._disown(client, oldest)

    def _disown(self, client: Client, sid: str) -> None:
        owners = self.owners[sid]
        del owners[client]
        if not owners:
            del self.owners[sid]

    def _audienceOf(self, sid: str) -> Iterable[Client]:
        return list(self.owners.get(sid, ())) or [client for client in self.clients if not client.owned]

    def _manifests(self) -> list[Mapping[str, Any]]:
        return [client.manifest for client in self.clients if client.manifest is not None]

    def _offers(self) -> list[Mapping[str, Any]]:
        return [tool for manifest in self._manifests() for tool in definitions(manifest.get("tools"))]

    def _register(self) -> None:
        if self._registry is None or not self._isOpen:
            return
        bees = {f"client-{each.number}": each.manifest for each in self.clients if each.manifest is not None}
        workers = {name: worker.manifest() for name, worker in self.workers.items()}
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
