# -*- test-case-name: tests.embedded.test_daemon -*-
"""
What a running daemon knows and does: who is connected, who owns which
session, where a tool's result must go. A restart forgets all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from openai_server.embedded.connection import BeeConnection
from openai_server.embedded.lines import lineFromMembers, stamp
from openai_server.embedded.playback import PlayedTurn
from openai_server.embedded.registry import manifestFromHello, writeRegistry
from openai_server.embedded.worker import CAPABILITIES, EmbeddedWorker, definitions
from openai_server.wire.tones import PROTO_VERSION

#: Sids that are remembered for one client: a bound for the sake of this process.
MAX_OWNED: Final = 65536

#: How often a tone with a rid is echoed, where that is not once.
_ECHOES: Final[Mapping[str, int]] = {"log": 0, "echo": 0, "prompt": 2}


class DaemonState:
    """
    The daemon between its start and its end.

    @ivar clients: the open connections, in order.
    @ivar workers: those that have connected, by name, in order.
    @ivar owners: by sid, the clients that own it.
    @ivar routes: by sid and call id, the turn that waits for a result.
    """

    def __init__(self, now: Callable[[], float], registryPath: Path | None) -> None:
        """
        @param now: the wall clock in seconds, for C{dusk}.
        @param registryPath: the registry file, or None for none.
        """
        self.clients: list[BeeConnection] = []
        self.workers: dict[str, EmbeddedWorker] = {}
        self.owners: dict[str, dict[BeeConnection, None]] = {}
        self.routes: dict[tuple[str, str], PlayedTurn] = {}
        self._now = now
        self._registryPath = registryPath
        self._isOpen = True

    def close(self) -> None:
        """
        End: connections are cut, the registry file stays as it is.
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

    def addWorker(self, worker: EmbeddedWorker) -> None:
        """
        Take a worker that has connected.
        """
        self.workers[worker.name] = worker
        self._register()

    def removeWorker(self, worker: EmbeddedWorker) -> None:
        """
        Forget a worker that is gone. Nobody is told; only the registry file
        shows it.
        """
        if self.workers.pop(worker.name, None) is not None:
            self._register()

    # From the connections.

    def clientConnected(self, client: BeeConnection) -> None:
        """
        Take a new client.
        """
        self.clients.append(client)
        self._breathe(client, [])

    def clientLost(self, client: BeeConnection) -> None:
        """
        Forget a client that is gone.
        """
        self.clients.remove(client)
        for sid in client.owned:
            self._disown(client, sid)
        client.owned.clear()
        if client.manifest is not None:
            self._register()

    def toneReceived(self, tone: dict[str, Any], client: BeeConnection) -> None:
        """
        Do what a client's tone asks for.
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
                turn = self.routes.pop((sid, callId), None)
                if turn is not None:
                    turn.answer(tone)
            case {"chi": "cancel", "sid": str(sid)}:
                for worker in self.workers.values():
                    worker.cancel(sid)

    # From the turns.

    def deliver(self, sid: str, lines: list[bytes]) -> None:
        """
        Give lines to the owners of a session.
        """
        for client in self._audienceOf(sid):
            client.send(lines)

    def routeCall(self, tone: dict[str, Any], turn: PlayedTurn) -> None:
        """
        Give a tool-call to the bee that lists its name, or else to the owners.
        """
        name = tone.get("toolName", tone.get("name"))
        for client in self.clients:
            if client.manifest is not None and name in namesOf(client.manifest):
                self.routes[tone["sid"], tone["callId"]] = turn
                client.send([lineFromMembers(tone)])
                return
        self.deliver(tone["sid"], [lineFromMembers({**tone, **stamp(tone["sid"])})])

    def forgetCall(self, sid: str, callId: str) -> None:
        """
        Route no result of this call any more.
        """
        self.routes.pop((sid, callId), None)

    # Inside.

    def _isPastDusk(self, tone: Mapping[str, Any]) -> bool:
        dusk = tone.get("dusk")
        return isinstance(dusk, int | float) and dusk < self._now() * 1000

    def _echo(self, client: BeeConnection, tone: Mapping[str, Any], times: int, **members: Any) -> None:
        rid = tone.get("rid")
        if isinstance(rid, str):
            for _ in range(times):
                client.sendTone(chi="echo", rid=rid, **members)

    def _breathe(self, client: BeeConnection, sessions: Any) -> None:
        client.sendTone(chi="breath", protoVersion=PROTO_VERSION, sessions=sessions, **{"from": "daemon"})

    def _hello(self, tone: Mapping[str, Any], client: BeeConnection) -> None:
        for other in self.clients:
            if other is not client and other.manifest and other.manifest.get("hid") == tone.get("hid"):
                other.manifest = None
        client.manifest = manifestFromHello(tone)
        self._register()
        self._breathe(client, {})

    def _prompt(self, tone: dict[str, Any], client: BeeConnection) -> None:
        model = tone.get("modelId", "sonnet")
        worker = next((each for each in self.workers.values() if model in each.models), None)
        if worker is None:
            message = f"no worker bee advertises model '{model}'"
            client.sendTone(chi="error", message=message, sid=tone["sid"], **stamp(tone["sid"]))
            return
        manifests = [each.manifest for each in self.clients if each.manifest is not None]
        offers = [tool for manifest in manifests for tool in definitions(manifest.get("tools"))]
        provided = [each for manifest in manifests for each in stringsOf(manifest.get("provides"))]
        prompt = {**tone, "tools": allowed(tone.get("tools"), provided)}
        worker.prompt(prompt, offers, provided, self)

    def _own(self, client: BeeConnection, sid: str) -> None:
        client.owned[sid] = None
        self.owners.setdefault(sid, {})[client] = None
        if len(client.owned) > MAX_OWNED:
            oldest = next(iter(client.owned))
            del client.owned[oldest]
            self._disown(client, oldest)

    def _disown(self, client: BeeConnection, sid: str) -> None:
        owners = self.owners[sid]
        del owners[client]
        if not owners:
            del self.owners[sid]

    def _audienceOf(self, sid: str) -> Iterable[BeeConnection]:
        return list(self.owners.get(sid, ())) or [client for client in self.clients if not client.owned]

    def _register(self) -> None:
        if self._registryPath is None or not self._isOpen:
            return
        bees = {f"client-{each.number}": each.manifest for each in self.clients if each.manifest is not None}
        workers = {name: worker.manifest() for name, worker in self.workers.items()}
        writeRegistry(self._registryPath, {**workers, **bees})


def namesOf(manifest: Mapping[str, Any]) -> set[str]:
    """
    Return the names of the tools that a bee answers for.
    """
    return {tool["name"] for tool in definitions(manifest.get("tools"))}


def stringsOf(value: Any) -> list[str]:
    """
    Return the strings in a member of a tone that should be a list of them.
    """
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def allowed(tools: Any, provided: Sequence[str]) -> list[Mapping[str, Any]]:
    """
    Return the tools of a prompt without those that a capability owns.
    """
    taken = {name.lower() for each in provided for name in CAPABILITIES.get(each, ())}
    return [tool for tool in definitions(tools) if tool["name"].lower() not in taken]
