"""
Raw clients of an embedded daemon, in memory: what a bee may send, good or bad,
and what it is sent.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from openai_server.embedded.connection import BeeConnection
from tests.machinery.daemon import FaultyDaemon


class Wire(StringTransport):
    """
    A transport that tells its protocol at once when it is closed.
    """

    isLost = False
    protocol: BeeConnection

    def loseConnection(self) -> None:
        """
        Close, as either side may.
        """
        if not self.isLost:
            self.isLost = True
            self.protocol.connectionLost(Failure(ConnectionDone()))

    def abortConnection(self) -> None:
        """
        See L{loseConnection}.
        """
        self.loseConnection()


class Bee:
    """
    A client that is connected to a daemon in memory.

    @ivar number: the daemon's number for its connection.
    """

    def __init__(self, daemon: FaultyDaemon, name: str = "a") -> None:
        self.name = name
        self.wire = Wire()
        client = daemon.buildProtocol()
        assert client is not None, "the daemon is down"
        self.client = client
        self.number = client.number
        self.wire.protocol = client
        client.makeConnection(self.wire)

    @property
    def isLost(self) -> bool:
        """
        The connection is closed.
        """
        return self.wire.isLost

    @property
    def lines(self) -> list[bytes]:
        """
        All lines that came so far.
        """
        return self.wire.value().splitlines()

    @property
    def tones(self) -> list[dict[str, Any]]:
        """
        All tones that came so far.
        """
        return [json.loads(line) for line in self.lines]

    def chis(self, *names: str) -> list[dict[str, Any]]:
        """
        The tones with one of these values of C{chi}.
        """
        return [tone for tone in self.tones if tone["chi"] in names]

    def text(self, sid: str) -> str:
        """
        All text that came for a session, in either dialect.
        """
        chunks = [tone for tone in self.chis("chunk") if tone.get("sid") == sid]
        return "".join(
            chunk["part"]["text"] if "part" in chunk else chunk.get("delta", "") for chunk in chunks
        )

    def send(self, **tone: Any) -> None:
        """
        Send a tone; C{sender} stands for C{from}.
        """
        if "sender" in tone:
            tone["from"] = tone.pop("sender")
        self.sendBytes(json.dumps(tone).encode() + b"\n")

    def sendBytes(self, data: bytes) -> None:
        """
        Send bytes as they are.
        """
        self.client.dataReceived(data)

    def hello(self, *tools: str, **members: Any) -> None:
        """
        Say hello, listing tools of these names.
        """
        hid = "fbee_" + self.name.encode().hex().zfill(64)
        listed = [definition(name) for name in tools]
        self.send(chi="hello", bee=["forager"], hive="test", hid=hid, tools=listed, **members)

    def prompt(self, sid: str, content: Any, model: str = "script", **members: Any) -> None:
        """
        Ask; a content that is not a string is a script.
        """
        if not isinstance(content, str):
            content = "#script " + json.dumps(content)
        self.send(chi="prompt", sid=sid, modelId=model, content=content, **members)

    def close(self) -> None:
        """
        Close the connection from this side.
        """
        self.wire.loseConnection()


def definition(name: str) -> dict[str, Any]:
    """
    The definition of a tool with one string to give it.
    """
    schema = {"type": "object", "properties": {"q": {"type": "string"}}}
    return {"name": name, "description": name, "inputSchema": schema}
