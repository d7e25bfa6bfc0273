"""
Tests of the ways in which the whole server can be told to listen, on real
sockets; and for L{openai_server.ports}.
"""

from __future__ import annotations

import gc
import io
import os
import shutil
import signal
import socket
import ssl
import stat
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPSConnection
from ipaddress import ip_address
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from twisted.application.service import Application, IService
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.usage import UsageError

from openai_server.admin.program import run
from openai_server.ports import inherited, isPassed
from openai_server.service import OpenAIService, StartError
from openai_server.tap import Options, makeService
from tests.program import Program, launch
from tests.serving import PATIENCE, userFolders
from tests.support import AsyncCase


def makeCertificate(path: Path) -> None:
    """
    Write a key and a certificate for 127.0.0.1, signed by that key.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "openai-server test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))


class ListeningCase(AsyncCase):
    """
    A server without a daemon, which lives all the same.
    """

    def setUp(self) -> None:
        super().setUp()
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir()
        self.said: list[str] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)

    def _observe(self, event: LogEvent) -> None:
        self.said.append(formatEvent(event))

    def make(self, *arguments: str) -> OpenAIService:
        """
        The service of this command line, as an application of one's own gets it.
        """
        environ = {"HUM_THRUM_SOCK": "/nowhere/thrum.sock", "OPENAI_SERVER_STORE": "memory:"}
        options = Options(userFolders(self.home) | environ)
        options.parseOptions(list(arguments))
        return makeService(options)

    def serve(self, *arguments: str) -> Any:
        """
        Start the server with this command line.

        @return: the address that it is bound to.
        """
        service = self.make(*arguments)
        service.startService()
        self.addCleanup(service.stopService)
        (port,) = service._ports
        return port.getHost()


def asked(
    connection: HTTPConnection, headers: Mapping[str, str] | None = None, path: str = "/healthz"
) -> int:
    """
    Ask over this connection whether the server lives, or something else. Blocks.

    @return: the status.
    """
    try:
        connection.request("GET", path, headers={"Connection": "close", **(headers or {})})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


class ApplicationTests(ListeningCase):
    """
    The server beside other services.
    """

    async def test_portIsTaken(self) -> None:
        """
        Whoever starts the application is told, and the rest of it can be
        stopped as ever.
        """
        application = Application("everything")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            self.make("--port", str(port)).setServiceParent(application)
            error = self.assertRaises(StartError, IService(application).privilegedStartService)
        said = f"cannot listen on tcp:{port}:interface=127.0.0.1:backlog=1024: Address already in use"
        self.assertEqual(str(error), said)
        await IService(application).stopService()
        # Twisted 24.10 leaves the socket that it could not bind to the collector,
        # whose warning would be another test's.
        del error
        gc.collect()
        left = {warning["category"] for warning in self.flushWarnings()}
        self.assertLessEqual(left, {ResourceWarning})


class TLSTests(ListeningCase):
    """
    C{--listen ssl:}, with a certificate that the test has made.
    """

    def setUp(self) -> None:
        super().setUp()
        self.pem = self.home / "server.pem"
        makeCertificate(self.pem)
        keys = f"privateKey={self.pem}:certKey={self.pem}"
        self.port = self.serve("--listen", f"ssl:0:interface=127.0.0.1:{keys}").port

    def ask(self, *protocols: str) -> Deferred[tuple[int, str | None]]:
        """
        Ask from a thread.

        @param protocols: what the client offers in the handshake.
        @return: fires with the status and what the handshake agreed on.
        """
        return deferToThread(self._ask, protocols)

    def _ask(self, protocols: Sequence[str]) -> tuple[int, str | None]:
        context = ssl.create_default_context(cafile=str(self.pem))
        if protocols:
            context.set_alpn_protocols(protocols)
        connection = HTTPSConnection("127.0.0.1", self.port, context=context, timeout=PATIENCE)
        connection.connect()
        agreed = connection.sock.selected_alpn_protocol()
        return asked(connection), agreed

    async def test_clientThatOffersProtocols(self) -> None:
        """
        curl, browsers and SDKs offer HTTP/2 and HTTP/1.1: they get the latter.
        """
        self.assertEqual(await self.ask("h2", "http/1.1"), (200, "http/1.1"))

    async def test_clientThatOffersNone(self) -> None:
        """
        Gets an answer too.
        """
        self.assertEqual(await self.ask(), (200, None))


class WildcardTests(ListeningCase):
    """
    Every address of this machine, without a key.
    """

    async def test_whatIsGreetedIsAnswered(self) -> None:
        """
        C14: the URL that is said first can be used, and so can the one that
        the operator asked for; a name that is not ours is still turned away.
        """
        port = self.serve("--host", "0.0.0.0", "--port", "0", "--insecure-no-auth").port
        greeted = "\n".join(self.said)
        self.assertIn(f"listens on http://0.0.0.0:{port};", greeted)
        self.assertIn(f"base URL for OpenAI clients: http://127.0.0.1:{port}/v1", greeted)
        for name, status in (("127.0.0.1", 200), ("0.0.0.0", 200), ("evil.example", 421)):
            connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            self.assertEqual(await deferToThread(asked, connection, {"Host": f"{name}:{port}"}), status, name)


class KeyTests(ListeningCase):
    """
    An address that others can reach, without a key in the settings.
    """

    def setUp(self) -> None:
        super().setUp()
        self.store = f"sqlite:///{self.home}/store.db"
        self.arguments = ("--host", "0.0.0.0", "--port", "0", "--store", self.store)

    def keys(self, *arguments: str) -> None:
        """
        Do something to the keys in the store.
        """
        out = io.StringIO()
        code = run(("--store", self.store, "keys", *arguments), userFolders(self.home), out, out, 0.0)
        self.assertEqual(code, 0, out.getvalue())

    async def test_noKey(self) -> None:
        """
        There must be one in the store.
        """
        service = self.make(*self.arguments)
        self.addCleanup(service.stopService)
        error = self.assertRaises(StartError, service.startService)
        self.assertEqual(
            str(error),
            'host "0.0.0.0": others may reach this address and no API key is set (set OPENAI_SERVER_API_KEY,'
            " or say --insecure-no-auth), or add one with python -m openai_server.admin keys add NAME",
        )

    async def test_key(self) -> None:
        """
        Then nobody is let in without it, be it removed or not.
        """
        self.keys("add", "alice")
        port = self.serve(*self.arguments).port
        self.assertIn("; an API key is required", "\n".join(self.said))
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.assertEqual(await deferToThread(asked, connection, path="/v1/models"), 401)

    async def test_storeIsAway(self) -> None:
        """
        C45: while it is not known whether there are any, nobody is let in.
        """
        self.home.joinpath("file").write_text("no folder")
        self.store = f"sqlite:///{self.home}/file/store.db"
        port = self.serve("--host", "0.0.0.0", "--port", "0", "--store", self.store).port
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.assertEqual(await deferToThread(asked, connection, path="/v1/models"), 401)


class UNIXTests(ListeningCase):
    """
    C{--listen unix:}
    """

    def test_othersMayNotConnect(self) -> None:
        """
        Where no key is asked for, the socket is its owner's alone; a mode that
        the operator gives counts.
        """
        folder = Path(mkdtemp(prefix="openai-server-tests-"))
        self.addCleanup(shutil.rmtree, folder)
        for said, mode in (("", 0o600), (":mode=660", 0o660)):
            path = folder / f"{mode:o}.sock"
            self.serve("--listen", f"unix:{path}{said}")
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), mode)


class UNIXConnection(HTTPConnection):
    """
    A connection to a Unix socket.
    """

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


class PassedTests(ListeningCase):
    """
    P24: C{--listen systemd:}, where the socket is systemd's.
    """

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(mkdtemp(prefix="openai-server-tests-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.asking = False
        self.met: Counter[object] = Counter()

    def program(self, passed: socket.socket) -> Program:
        """
        Start the program on this socket.
        """
        family = "UNIX" if passed.family == socket.AF_UNIX else "INET"
        listen = f"systemd:domain={family}:index=0"
        arguments = ("--embedded", "--insecure-no-auth", "--listen", listen)
        return launch(self, self.home, *arguments, passed=passed)

    def askOn(self, connect: Callable[[], HTTPConnection]) -> None:
        """
        Ask again and again, on new connections and on kept ones. Blocks.
        """
        while self.asking:
            connection = connect()
            try:
                for _ in range(3):
                    connection.request("GET", "/v1/models")
                    answer = connection.getresponse()
                    answer.read()
                    self.met[answer.status] += 1
            except OSError as error:
                self.met[type(error).__name__] += 1
            finally:
                connection.close()

    async def restarted(self, passed: socket.socket, connect: Callable[[], HTTPConnection]) -> None:
        """
        Restart the program while clients ask.
        """
        program = self.program(passed)
        await program.whenSaid("connected to the daemon")
        self.asking = True
        clients = [deferToThread(self.askOn, connect) for _ in range(4)]
        try:
            await program.whenSaid('"end":"ok"')
            program.signal(signal.SIGTERM)
            self.assertEqual(await program.ended, 0)
            program = self.program(passed)
            await program.whenSaid('"end":"ok"')
        finally:
            self.asking = False
        for client in clients:
            await client
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)
        self.assertEqual([*self.met], [200], self.met)

    async def test_restart(self) -> None:
        """
        No request is lost: who has come in is answered, who comes later waits
        for the next process.
        """
        with socket.create_server(("127.0.0.1", 0)) as passed:
            port = passed.getsockname()[1]
            await self.restarted(passed, lambda: HTTPConnection("127.0.0.1", port, timeout=PATIENCE))

    async def test_restartOnAUnixSocket(self) -> None:
        """
        The same, and the socket is still there, with the mode that it had.
        """
        path = self.folder / "passed.sock"
        with socket.socket(socket.AF_UNIX) as passed:
            passed.bind(str(path))
            path.chmod(0o640)
            passed.listen()
            await self.restarted(passed, lambda: UNIXConnection(str(path)))
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o640)

    def test_nothingIsPassed(self) -> None:
        """
        It is said what is missing.
        """
        for which in ("index=0", "name=http"):
            error = self.assertRaises(UsageError, self.make, "--listen", f"systemd:domain=UNIX:{which}")
            self.assertIn("systemd has passed no such socket: LISTEN_FDS", str(error))


class InheritedTests(ListeningCase):
    """
    (P43) Ports that another process of this server has opened.
    """

    def inherit(self, passed: socket.socket, description: str) -> OpenAIService:
        """
        Serve on what was opened by this endpoint string.
        """
        self.assertEqual(isPassed(description), "systemd" in description)
        service = self.make("--port", "0")
        descriptor = os.dup(passed.fileno())
        service._descriptions = [inherited(descriptor, description)]
        self.assertTrue(isPassed(service._descriptions[0]))
        service.startService()
        self.addCleanup(service.stopService)
        return service

    async def asksIn(self, description: str, family: socket.AddressFamily = socket.AF_INET) -> None:
        """
        See that it answers as long as it runs, and that the port is open
        afterwards.
        """
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        with socket.create_server((host, 0), family=family) as passed:
            port = passed.getsockname()[1]
            service = self.inherit(passed, description)
            connection = HTTPConnection(host, port, timeout=PATIENCE)
            self.assertEqual(await deferToThread(asked, connection), 200)
            before = len(os.listdir("/dev/fd"))
            await service.stopService()
            self.assertLess(len(os.listdir("/dev/fd")), before)
            with socket.create_connection((host, port), PATIENCE):
                passed.accept()[0].close()

    async def test_TCP(self) -> None:
        """
        Whatever else the string says has been done.
        """
        await self.asksIn("tcp:0:interface=127.0.0.1:backlog=5")

    async def test_TCP6(self) -> None:
        """
        The family is the socket's.
        """
        await self.asksIn(r"tcp6:0:interface=\:\:1", socket.AF_INET6)

    async def test_systemd(self) -> None:
        """
        Systemd has told the first process of it and not this one.
        """
        await self.asksIn("systemd:domain=INET:index=7")

    async def test_PROXY(self) -> None:
        """
        What stands before a connection is read here.
        """
        for inner in ("tcp:0", "systemd:domain=INET:index=7"):
            with socket.create_server(("127.0.0.1", 0)) as passed:
                self.inherit(passed, f"haproxy:{inner}")
                answer = await deferToThread(self.askWithPROXY, passed.getsockname()[1])
                self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)

    def askWithPROXY(self, port: int) -> bytes:
        """
        Ask as a balancer does. Blocks.
        """
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            connection.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return connection.recv(1000)

    async def test_TLS(self) -> None:
        """
        The handshake is done here.
        """
        pem = self.home / "server.pem"
        makeCertificate(pem)
        with socket.create_server(("127.0.0.1", 0)) as passed:
            self.inherit(passed, f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}")
            context = ssl.create_default_context(cafile=str(pem))
            port = passed.getsockname()[1]
            connection = HTTPSConnection("127.0.0.1", port, context=context, timeout=PATIENCE)
            self.assertEqual(await deferToThread(asked, connection), 200)

    async def test_UNIX(self) -> None:
        """
        Its file stays, with its mode: it is the first process's.
        """
        folder = Path(mkdtemp(prefix="openai-server-tests-"))
        self.addCleanup(shutil.rmtree, folder)
        path = folder / "shared.sock"
        with socket.socket(socket.AF_UNIX) as passed:
            passed.bind(str(path))
            path.chmod(0o640)
            passed.listen()
            service = self.inherit(passed, f"unix:{path}:mode=600")
            self.assertEqual(await deferToThread(asked, UNIXConnection(str(path))), 200)
            await service.stopService()
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o640)
