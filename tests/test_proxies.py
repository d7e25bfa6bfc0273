"""
The server behind nginx and Caddy, with the files that C{deploy} has for them.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Collection
from pathlib import Path
from unittest import SkipTest

import openai
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from websockets.sync.client import connect

from tests.serving import PATIENCE, ServingCase, inThread, textOf, user

DEPLOY = Path(__file__).parent.parent / "deploy"


class Proxy(ProcessProtocol):
    """
    A proxy in a process of its own.

    @ivar ended: fires when it is gone.
    """

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self.output = b""

    def outReceived(self, data: bytes) -> None:
        self.output += data

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        reason.trap(ProcessDone, ProcessTerminated)
        self.ended.callback(None)


def freePort() -> int:
    """
    A port that was free a moment ago.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class ProxyContract:
    """
    What a client has behind any of them.
    """

    #: A program that has to be there.
    program: str
    #: Status and code for a body that is larger than the server takes.
    tooLarge: Collection[tuple[int, str | None]] = [(413, "request_too_large")]

    async def setUp(self) -> None:
        """
        Start the server, and the proxy in front of it.
        """
        path = shutil.which(self.program) or shutil.which(self.program, path="/usr/sbin:/usr/local/sbin")
        if path is None:
            raise SkipTest(f"{self.program} is not installed")
        await super().setUp()  # type: ignore[misc]
        self.folder = Path(tempfile.mkdtemp(prefix="openai-server-proxy-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.port = freePort()
        server = self.serving.url.removeprefix("http://").removesuffix("/v1")
        arguments = self.arguments(server)
        self.proxy = Proxy()
        process = reactor.spawnProcess(
            self.proxy, path, [path, *arguments], {"HOME": str(self.folder)}, str(self.folder)
        )
        self.addCleanup(self.end, process)
        self.url = f"http://127.0.0.1:{self.port}/v1"
        await self.whenListening()
        self.client = self.newClient(base_url=self.url)

    async def end(self, process: object) -> None:
        """
        End the proxy.
        """
        if not self.proxy.ended.called:
            process.signalProcess("TERM")
        await self.proxy.ended

    async def whenListening(self) -> None:
        """
        Return once the proxy takes connections.
        """
        until = reactor.seconds() + PATIENCE
        while reactor.seconds() < until and not self.proxy.ended.called:
            with socket.socket() as asking:
                if asking.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            await deferLater(reactor, 0.02)
        raise AssertionError(f"{self.program} does not listen: {self.proxy.output.decode()}")

    @inThread
    def test_stream(self) -> None:
        """
        A token is there before the model says the next one.
        """
        stream = self.client.chat.completions.create(model="gated", messages=user("x"), stream=True)
        chunks = []
        for chunk in stream:
            chunks.append(chunk)
            if textOf(chunks) == "one ":
                self.gate.isOpen = True
        self.assertEqual(textOf(chunks), "one two")

    @inThread
    def test_leaving(self) -> None:
        """
        A client that leaves the proxy has left the server.
        """
        stream = self.client.chat.completions.create(model="gated", messages=user("x"), stream=True)
        next(iter(stream))
        stream.close()
        self.client.close()
        self.whenCancelled()

    @inThread
    def test_errors(self) -> None:
        """
        The server's errors are the server's, also for what is large.
        """
        with self.assertRaises(openai.NotFoundError):
            self.client.chat.completions.create(model="no-such-model", messages=user("x"))
        with self.assertRaises(openai.APIStatusError) as caught:
            self.client.chat.completions.create(model="echo", messages=user("x" * (21 << 20)))
        self.assertIn((caught.exception.status_code, caught.exception.code), self.tooLarge)
        self.assertEqual(
            self.client.chat.completions.create(model="echo", messages=user("y" * (2 << 20)))
            .choices[0]
            .finish_reason,
            "stop",
        )

    @inThread
    def test_webSocket(self) -> None:
        """
        A WebSocket goes through.
        """
        address = self.url.replace("http", "ws") + "/responses"
        with connect(address, open_timeout=PATIENCE, proxy=None) as lane:
            lane.send('{"type": "response.create", "model": "echo", "input": "hello there"}')
            while "response.completed" not in (said := str(lane.recv(timeout=PATIENCE))):
                pass
        self.assertIn("hello there", said)


class NginxTests(ProxyContract, ServingCase):
    """
    nginx.
    """

    program = "nginx"

    def arguments(self, server: str) -> list[str]:
        """
        Make a configuration of which the file in C{deploy} is a part.
        """
        text = (DEPLOY / "nginx.conf").read_text()
        self.assertEqual((text.count("127.0.0.1:14620"), text.count("listen 8080")), (1, 1))
        text = text.replace("127.0.0.1:14620", server).replace("listen 8080", f"listen 127.0.0.1:{self.port}")
        (self.folder / "server.conf").write_text(text)
        temporary = "".join(
            f"{each}_temp_path {each};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.folder / "main.conf").write_text(
            "daemon off; master_process off; pid nginx.pid; error_log stderr;"
            f"events {{}} http {{ access_log off; {temporary} include server.conf; }}"
        )
        return ["-p", str(self.folder), "-c", str(self.folder / "main.conf")]


class CaddyTests(ProxyContract, ServingCase):
    """
    Caddy.
    """

    program = "caddy"
    # It does not always read the answer that comes before it has sent the body.
    tooLarge = [(413, "request_too_large"), (502, None)]

    def arguments(self, server: str) -> list[str]:
        """
        Make a configuration of the file in C{deploy}.
        """
        text = (DEPLOY / "Caddyfile").read_text()
        self.assertIn("reverse_proxy 127.0.0.1:14620", text)
        text = text.replace("127.0.0.1:14620", server).replace(":8080 {", f"http://127.0.0.1:{self.port} {{")
        path = self.folder / "Caddyfile"
        path.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + text)
        return ["run", "--config", str(path), "--adapter", "caddyfile"]
