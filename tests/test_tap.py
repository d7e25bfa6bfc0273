"""
Tests for L{openai_server.tap}: the command line, and the program as a whole in
a process of its own.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.request import urlopen

from twisted.application.service import IServiceMaker
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from twisted.python.usage import UsageError
from twisted.scripts._twistd_unix import ServerOptions

import openai_server
from openai_server import tap
from openai_server.config import SETTINGS, Configuration
from openai_server.inheritance import VARIABLE, Inheritance
from openai_server.joining import Joining
from openai_server.log import JSONLog
from openai_server.processes import OWN_CUT, OWN_DRAIN, Processes
from openai_server.program import ProgramService, keepForGood
from openai_server.service import OpenAIService
from openai_server.tap import Options, makeService
from tests.program import Program, launch
from tests.support import AsyncCase, RecordedOutput, SyncCase

SECRET = "sk-very-secret-indeed"


class OptionsCase(SyncCase):
    """
    A command line in a home of its own.
    """

    def setUp(self) -> None:
        super().setUp()
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir()
        self.environ: dict[str, str] = {}
        self.store = f"sqlite:///{self.home}/.local/state/hum/openai-server.db"

    def parse(self, *arguments: str, **environ: str) -> Options:
        """
        The options of this command line.
        """
        options = Options({"HOME": str(self.home), **environ})
        options.parseOptions(list(arguments))
        return options

    def printed(self, *arguments: str, **environ: str) -> str:
        """
        What is printed by a command line that ends the program well.
        """
        output = io.StringIO()
        with redirect_stdout(output):
            exit = self.assertRaises(SystemExit, self.parse, *arguments, **environ)
        self.assertEqual(exit.code, 0)
        return output.getvalue()


class OptionsTests(OptionsCase):
    """
    The options are those of the table of settings.
    """

    def test_nothing(self) -> None:
        """
        The defaults.
        """
        self.assertEqual(self.parse().loaded.configuration, Configuration(store=self.store))

    def test_values(self) -> None:
        """
        One value each; lists are repeated; flags have none.
        """
        options = self.parse(
            *("--port", "1", "--models", "a", "--models=b,c", "--strict", "true", "--embedded"),
            *("--listen", "unix:/x", "--listen", r"tcp6:2:interface=\:\:1", "--api-key", "k"),
        )
        wanted = Configuration(
            store="memory:",
            port=1,
            models=("a", "b,c"),
            strict=True,
            embedded=True,
            listen=("unix:/x", r"tcp6:2:interface=\:\:1"),
            apiKey="k",
        )
        self.assertEqual(options.loaded.configuration, wanted)

    def test_everySettingHasItsOption(self) -> None:
        """
        C{--help} knows all of them, with what they do.
        """
        words = " ".join(str(Options()).split())
        for setting in SETTINGS:
            if "option" in setting.places:
                self.assertIn(setting.option, words)
                self.assertIn(setting.what[:20], words)
        self.assertNotIn("thrum-socket", words)

    def test_commandLinesDoNotShareLists(self) -> None:
        """
        What one said is not in the next.
        """
        self.parse("--models", "a")
        self.assertEqual(self.parse("--models", "b").loaded.configuration.models, ("b",))

    def test_saidAgain(self) -> None:
        """
        A process that serves beside others is told what the first one was told.
        """
        file = self.home / "x.json"
        file.write_text("{}")
        said = (
            *("--config", str(file), "--port", "1", "--insecure-no-auth", "--host", "::"),
            *("--models", "a", "--models", "b,c", "--strict", "true"),
        )
        options = self.parse(*said)
        again = self.parse(*options.arguments)
        self.assertEqual(again.loaded, options.loaded)
        self.assertEqual(sorted(options.arguments), sorted(said))
        self.assertEqual(self.parse().arguments, [])

    def test_severalProcesses(self) -> None:
        """
        (P45) Need C{twistd} and PostgreSQL; but one process is always enough.
        """
        several = ("--processes", "2", "--store", "postgresql+psycopg://me@here/db")
        error = self.assertRaises(UsageError, self.parse, *several)
        reason = "only twistd starts several, an application of one's own has one"
        self.assertEqual(str(error), f"option --processes: processes 2: {reason}")
        error = self.assertRaises(UsageError, self.parse, "--processes", "2")
        self.assertIn("several processes need a store in PostgreSQL", str(error))
        self.parse("--processes", "1", "--embedded")

    def test_portsThatAreOthersNow(self) -> None:
        """
        (P46) A process that is replaced after the settings were changed does
        not serve what it was not told to.
        """
        inheritance = Inheritance(1, self.parse("--port", "5").loaded.configuration.descriptions)
        told = {VARIABLE: inheritance.text()}
        self.parse("--port", "5", **told)
        error = self.assertRaises(UsageError, self.parse, "--port", "6", **told)
        self.assertIn("the addresses to listen on are others than those of the processes beside", str(error))

    def test_namedConfiguration(self) -> None:
        """
        C{--config} names the file.
        """
        file = self.home / "x.json"
        file.write_text('{"port": 5}')
        self.assertEqual(self.parse("--config", str(file)).loaded.configuration.port, 5)

    def test_printConfig(self) -> None:
        """
        All layers, with sources, without the secret; nothing starts.
        """
        lines = self.printed("--print-config", "--port", "7", OPENAI_SERVER_API_KEY=SECRET).splitlines()
        self.assertIn("port = 7  (option --port)", lines)
        self.assertIn("apiKey = ********  (environment OPENAI_SERVER_API_KEY)", lines)
        self.assertEqual(len(lines), len(SETTINGS))

    def test_version(self) -> None:
        """
        That of this program, not of Twisted.
        """
        self.assertEqual(self.printed("--version"), f"openai-server {openai_server.__version__}\n")

    def test_badConfiguration(self) -> None:
        """
        One line says what is wrong.
        """
        for arguments, line in (
            (["--port", "x"], '--port: "x" is not a whole number from 0 to 65535'),
            (["--listen", "tcp:x:interface=127.0.0.1"], "option --listen: cannot listen on tcp:x"),
            (["--listen", "unix"], "option --listen: cannot listen on unix: "),
            (["--metrics", "9464"], "option --metrics: cannot listen on 9464: "),
            (["--listen", "ssl:1:privateKey=/no.pem:interface=::1"], "option --listen: "),
            (["--host", "0.0.0.0", "--store", "memory:"], 'option --host: host "0.0.0.0": others may reach'),
        ):
            error = self.assertRaises(UsageError, self.parse, *arguments)
            self.assertTrue(str(error).startswith(line), str(error))
            self.assertEqual(len(str(error).splitlines()), 1)

    def test_badConfigurationUnderTwistd(self) -> None:
        """
        The same, but C{twistd} would print all its options first: so the
        program ends here.
        """
        options = Options({"HOME": str(self.home)})
        options.parent = ServerOptions()
        exit = self.assertRaises(SystemExit, options.parseOptions, ["--port", "x"])
        self.assertEqual(exit.code, 'openai-server: --port: "x" is not a whole number from 0 to 65535')

    def test_pidFile(self) -> None:
        """
        One that cannot be written is told in a line, and not asked for where
        there is to be none.
        """
        options = Options({"HOME": str(self.home)})
        options.parent = ServerOptions()
        options.parent.update(pidfile="twistd.pid", rundir=str(self.home / "nowhere"))
        exit = self.assertRaises(SystemExit, options.parseOptions, [])
        self.assertIn(f"cannot write the PID file {self.home}/nowhere/twistd.pid", str(exit.code))
        options.parent.update(pidfile="")
        options.parseOptions([])


class MakeServiceTests(OptionsCase):
    """
    The service is made, and nothing is opened.
    """

    def underTwistd(self, *arguments: str, **twistd: Any) -> OpenAIService:
        """
        The service that C{twistd} with these options makes.
        """
        options = Options({"HOME": str(self.home), **self.environ})
        options.parent = ServerOptions()
        options.parent.update(twistd)
        options.parseOptions(list(arguments))
        self.patch(sys, "excepthook", sys.excepthook)
        return makeService(options)

    def test_opensNothing(self) -> None:
        """
        It runs before the fork: no file, no descriptor, no key.
        """
        before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
        makeService(self.parse("--embedded"))
        makeService(self.parse())
        after = os.listdir("/proc/self/fd") if before else []
        self.assertEqual(len(before), len(after))
        self.assertEqual(list(self.home.iterdir()), [])

    def test_inAnApplicationOfOnesOwn(self) -> None:
        """
        The log, the signals and the exception hook are left alone.
        """
        hook = sys.excepthook
        service = makeService(self.parse("--embedded"))
        self.assertNotIsInstance(service, ProgramService)
        self.assertIs(sys.excepthook, hook)

    def test_garbageCollection(self) -> None:
        """
        What an earlier process has left is kept from it, where the process is
        this server's own.
        """
        for service, isKept in (
            (self.underTwistd("--embedded"), True),
            (makeService(self.parse("--embedded")), False),
        ):
            joining = getattr(service._compose, "__self__", None)
            assert isinstance(joining, Joining)
            self.assertEqual(joining.onBroughtBack is keepForGood, isKept)

    def test_logOfTwistd(self) -> None:
        """
        JSON where C{twistd} would write text; where it would not, nothing.
        """
        for twistd, isOurs in (
            ({"nodaemon": 1}, True),
            ({"nodaemon": 1, "logfile": "-"}, True),
            ({}, True),
            ({"logfile": "x.log"}, True),
            ({"syslog": 1}, False),
            ({"logfile": "-"}, False),
        ):
            service = self.underTwistd("--embedded", **twistd)
            assert isinstance(service, ProgramService)
            self.assertEqual(isinstance(service.observer, JSONLog), isOurs, str(twistd))

    def test_logFile(self) -> None:
        """
        The one that was asked for, as seen from the folder of the start.
        """
        asked: list[Any] = []

        def outputOf(*terms: Any) -> Callable[[], Any]:
            asked.append(terms)
            return RecordedOutput

        self.patch(tap, "outputOf", outputOf)
        for twistd in ({"nodaemon": 1}, {"logfile": "a.log", "nodaemon": 1}):
            self.underTwistd("--embedded", **twistd)
        self.underTwistd("--embedded", "--log-file-size", "5", "--log-files", "2")
        self.assertEqual(asked, [(None, 10**7, 10), ("a.log", 10**7, 10), ("twistd.log", 5, 2)])

    def test_severalProcesses(self) -> None:
        """
        The first process starts the others; one of those listens on what it
        has inherited. At SIGHUP the first one reopens the log and tells the
        others; those reopen theirs and the audit log, and read the settings.
        """
        command = ("--processes", "2", "--port", "5", "--drain-timeout", "7")
        self.environ = {"OPENAI_SERVER_STORE": "postgresql+psycopg://me@here/db"}
        first = self.underTwistd(*command, nodaemon=1)
        assert isinstance(first, ProgramService)
        self.assertEqual(first._drainTimeout, 7 + OWN_DRAIN)
        self.assertEqual((first.cutTimeout, first.hurriedTimeout), (OWN_CUT, OWN_CUT))
        self.assertIsInstance(getattr(first._compose, "__self__", None), Processes)
        self.environ[VARIABLE] = Inheritance(2, tuple(first._descriptions)).text()
        worker = self.underTwistd(*command, nodaemon=1)
        assert isinstance(worker, ProgramService)
        self.assertEqual(worker._drainTimeout, 7)
        self.assertEqual(worker._descriptions, [f"inherited:5:{first._descriptions[0]}"])
        self.assertEqual([len(each.reopens) for each in (first, worker)], [1, 2])

    def test_plugin(self) -> None:
        """
        C{twistd} finds it by its name.
        """
        makers = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "openai-server"]
        self.assertEqual(len(makers), 1)
        self.assertIs(makers[0].options, Options)
        self.assertIs(makers[0].makeService, makeService)


def chatRequest(text: str) -> bytes:
    """
    A request for a stream that says this text back.
    """
    message = {"role": "user", "content": text}
    body = json.dumps({"model": "echo", "stream": True, "messages": [message]}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Client(Protocol):
    """
    Sends one request and reads all that comes.

    @ivar read: the bytes so far.
    @ivar lost: fires when the connection is closed.
    """

    def __init__(self, request: bytes) -> None:
        self.read = b""
        self.lost: Deferred[None] = Deferred()
        self._request = request
        self._waiting: list[tuple[int, bytes, Deferred[None]]] = []

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        self.read += data
        for waiting in list(self._waiting):
            times, words, seen = waiting
            if self.read.count(words) >= times:
                self._waiting.remove(waiting)
                seen.callback(None)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost.callback(None)

    def whenRead(self, words: bytes, more: int) -> Deferred[None]:
        """
        Fires once these words came this many times more.
        """
        seen: Deferred[None] = Deferred()
        self._waiting.append((self.read.count(words) + more, words, seen))
        return seen


class ProgramTests(AsyncCase):
    """
    The whole program: C{twistd -n openai-server --embedded}, a real process
    and real sockets.
    """

    def setUp(self) -> None:
        super().setUp()
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir()

    def run_(self, *arguments: str, twistd: tuple[str, ...] = ("-n",), **environ: str) -> Program:
        """
        Start the program in a home of its own.
        """
        return launch(self, self.home, *arguments, twistd=twistd, **environ)

    async def test_startsGreetsAndStops(self) -> None:
        """
        The first lines say the address, the models and the way to a real
        daemon; SIGTERM ends it with status 0; nothing is left in the user's
        folders; every line is JSON.
        """
        program = self.run_("--embedded", "--port", "0")
        await program.whenSaid("connected to the daemon")
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)
        events = [json.loads(line) for line in program.lines]
        self.assertRegex(events[0]["message"], r"listens on http://127\.0\.0\.1:[1-9]\d*;")
        self.assertIn("echo", events[3]["message"])
        self.assertIn("start humd", events[4]["message"])
        self.assertEqual(program.errors, "")
        self.assertEqual(list(self.home.iterdir()), [])

    async def test_answers(self) -> None:
        """
        A request over a real socket, and its line in the log.
        """
        program = self.run_("--embedded", "--port", "0")
        await program.whenSaid("connected to the daemon")
        port = int(json.loads(program.lines[0])["message"].split(";")[0].rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b""
            while data := connection.recv(65536):
                answer += data
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)
        await program.whenSaid('"end":"ok"')

    async def test_drainsAndThenEndsAtOnce(self) -> None:
        """
        After SIGTERM a stream goes on while its port is closed; after a second
        one it is told, and cut in a way that nobody takes for its end.
        """
        program = self.run_("--embedded", "--port", "0")
        await program.whenSaid("connected to the daemon")
        port = int(program.url.rsplit(":", 1)[1])
        client = Client(chatRequest("word " * 3000))
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), client)
        await client.whenRead(b"word", 5)
        program.signal(signal.SIGTERM)
        await program.whenSaid("no new requests")
        await client.whenRead(b"word", 20)
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5)
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)
        await client.lost
        self.assertIn(b"shutting_down", client.read)
        self.assertNotIn(b"[DONE]", client.read)
        self.assertFalse(client.read.endswith(b"0\r\n\r\n"))
        self.assertIn('"end":"drain"', "".join(program.lines))
        self.assertNotIn("Traceback", "".join(program.lines) + program.errors)

    async def test_killed(self) -> None:
        """
        P6: what a killed process leaves in the runtime directory is gone when
        the next one has started.
        """
        runtime = Path(mkdtemp(prefix="openai-server-tests-"))
        self.addCleanup(shutil.rmtree, runtime)
        left: list[set[Path]] = []
        for _ in range(2):
            program = self.run_("--embedded", "--port", "0", XDG_RUNTIME_DIR=str(runtime))
            await program.whenSaid("connected to the daemon")
            program.signal(signal.SIGKILL)
            await program.ended
            left.append(set(runtime.iterdir()))
        self.assertEqual([len(folders) for folders in left], [1, 1])
        self.assertNotEqual(*left)

    async def test_runtimeDirectoryVanishes(self) -> None:
        """
        The end is as quiet as ever.
        """
        program = self.run_("--embedded", "--port", "0")
        await program.whenSaid("connected to the daemon")
        for folder in program.runtime.iterdir():
            shutil.rmtree(folder)
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)
        self.assertEqual([line for line in program.lines if '"failure"' in line], [])
        self.assertEqual(program.errors, "")

    async def test_portInUse(self) -> None:
        """
        (P16) One line, a status that is not 0, and no traceback.
        """
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            program = self.run_("--embedded", "--port", str(port))
            self.assertEqual(await program.ended, 1)
        (line,) = program.lines
        self.assertEqual(
            json.loads(line)["message"],
            f"cannot listen on tcp:{port}:interface=127.0.0.1:backlog=1024: Address already in use",
        )
        self.assertEqual(program.errors, "")

    async def test_brokenConfiguration(self) -> None:
        """
        (P18) One line on the standard error.
        """
        (self.home / "hum" / "hives").mkdir(parents=True)
        file = self.home / "hum" / "hives" / "openai-server.json"
        file.write_text('{"prot": 1}')
        program = self.run_()
        self.assertEqual(await program.ended, 1)
        self.assertEqual(program.lines, [])
        self.assertEqual(
            program.errors, f'openai-server: {file} line 1: unknown key "prot"; did you mean port?\n'
        )

    async def test_badKeyFile(self) -> None:
        """
        (V3) The start ends, and the file stays as it is.
        """
        (self.home / "hum" / "bees").mkdir(parents=True)
        file = self.home / "hum" / "bees" / "openai-server.key"
        file.write_bytes(b"half")
        file.chmod(0o600)
        program = self.run_("--port", "0")
        self.assertEqual(await program.ended, 1)
        (line,) = program.lines
        self.assertEqual(json.loads(line)["message"], f"key file {file}: holds 4 bytes, not the 32 of a key")
        self.assertEqual(file.read_bytes(), b"half")

    async def test_noPlaceForAKey(self) -> None:
        """
        (V3) It starts all the same and says so; not where somebody has chosen
        the place.
        """
        (self.home / "hum").mkdir()
        (self.home / "hum" / "bees").write_bytes(b"")
        file = self.home / "hum" / "bees" / "openai-server.key"
        said = f"key file {file}: Not a directory"
        program = self.run_("--port", "0", HUM_THRUM_SOCK="/nowhere/thrum.sock")
        await program.whenSaid("listens on")
        # It answers when the reactor runs, and with it the handlers of signals.
        urlopen(f"{program.url}/healthz", timeout=20).close()
        (warned,) = [line for line in map(json.loads, program.lines) if said in line["message"]]
        self.assertEqual(warned["level"], "warn")
        self.assertIn("OPENAI_SERVER_KEY_FILE", warned["message"])
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)
        program = self.run_("--port", "0", "--key-file", str(file))
        self.assertEqual(await program.ended, 1)
        self.assertEqual(json.loads(program.lines[-1])["message"], said)

    async def test_withoutADaemon(self) -> None:
        """
        It starts, says so, makes its key, and ends well while it goes on
        trying.
        """
        program = self.run_("--port", "0", HUM_THRUM_SOCK="/nowhere/thrum.sock")
        await program.whenSaid("the socket is missing")
        # It answers when the reactor runs, and with it the handlers of signals.
        await program.whenSaid("listens on")
        urlopen(f"{program.url}/healthz", timeout=20).close()
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)
        self.assertEqual((self.home / "hum" / "bees" / "openai-server.key").stat().st_mode & 0o777, 0o600)
        self.assertNotIn("Traceback", "".join(program.lines) + program.errors)

    async def test_logFile(self) -> None:
        """
        C{--logfile} gets the same lines.
        """
        program = self.run_("--embedded", "--port", "0", twistd=("-n", "-l", "server.log"))
        file = self.home / "server.log"

        def hasGreeted() -> bool:
            return file.exists() and "connected to the daemon" in file.read_text()

        while not hasGreeted() and not program.ended.called:
            await _turn(0.05)
        program.signal(signal.SIGTERM)
        self.assertEqual(await program.ended, 0)
        self.assertIn("listens on", json.loads(file.read_text().splitlines()[0])["message"])
        self.assertEqual(program.lines, [])


def _turn(seconds: float) -> Deferred[None]:
    turned: Deferred[None] = Deferred()
    reactor.callLater(seconds, turned.callback, None)  # type: ignore[attr-defined]
    return turned
