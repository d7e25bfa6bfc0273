"""
The small client: what it shows, and what it says when there is nothing to
show.
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from treq.testing import StubTreq
from twisted.internet import error, reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python import usage
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from openai_server.ask.client import MAX_BODY, Client
from openai_server.ask.program import DEFAULT_URL, Options, Terminal, optionsFrom, run
from tests.ask.streams import DONE, WHOLE, chunk, finish
from tests.support import AsyncCase, SyncCase

MODELS = b'{"object":"list","data":[{"id":"echo","object":"model"},{"id":"a/b","object":"model"}]}'


class Script(Resource):
    """
    A server that answers each request as its test says.

    @ivar requests: (method, path, headers, decoded body or None) of each.
    @ivar open: the request that was left open, if one was.
    @ivar gone: how many open requests lost their client.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[bytes, bytes, Any, Any]] = []
        self.answers: dict[bytes, Callable[[Request], bytes | int]] = {b"/v1/models": answer(MODELS)}
        self.open: Request | None = None
        self.gone = 0

    def render(self, request: Request) -> bytes | int:
        """
        Note the request, and let the answer of its path be given.
        """
        body = request.content.read()
        self.requests.append(
            (request.method, request.path, request.requestHeaders, json.loads(body) if body else None)
        )
        return self.answers[request.path](request)

    def holding(self, start: bytes, status: int = 200) -> Callable[[Request], int]:
        """
        Begin a stream, if there is something to begin it with, and leave the
        request open.
        """

        def hold(request: Request) -> int:
            self.open = request
            request.notifyFinish().addErrback(self._lost)
            request.setResponseCode(status)
            request.setHeader("content-type", "text/event-stream; charset=utf-8")
            if start:
                request.write(start)
            return NOT_DONE_YET

        return hold

    def _lost(self, reason: Failure) -> None:
        self.gone += 1


def answer(
    body: bytes, status: int = 200, kind: str = "application/json", **headers: str
) -> Callable[[Request], bytes]:
    """
    Answer with this body, at once.
    """

    def give(request: Request) -> bytes:
        request.setResponseCode(status)
        request.setHeader("content-type", kind)
        for name, value in headers.items():
            request.setHeader(name.replace("_", "-"), value)
        return body

    return give


def stream(body: bytes) -> Callable[[Request], bytes]:
    """
    Answer with this stream, and end it properly.
    """
    return answer(body, kind="text/event-stream; charset=utf-8")


class AskCase(SyncCase):
    """
    The client and a scripted server, joined in memory.
    """

    def setUp(self) -> None:
        super().setUp()
        self.script = Script()
        self.treq = StubTreq(self.script)
        self.reactor = MemoryReactorClock()
        self.out = io.StringIO()
        self.err = io.StringIO()
        self.addCleanup(lambda: self.assertEqual(self.reactor.getDelayedCalls(), []))

    def client(self, http: Any = None, url: str = "http://127.0.0.1:14620", key: str | None = None) -> Client:
        """
        A client of the scripted server, patient for 5 seconds.
        """
        return Client(http or self.treq, self.reactor, url, key, 5)

    def start(self, *argv: str, **client: Any) -> Deferred[None]:
        """
        Run the program with this command line.
        """
        options = optionsFrom(argv, lambda: "")
        terminal = Terminal(self.out, self.err)
        return Deferred.fromCoroutine(run(self.reactor, self.client(**client), options, terminal))

    def shown(self) -> tuple[str, str]:
        """
        What is on standard output, and what on standard error.
        """
        return self.out.getvalue(), self.err.getvalue()

    def assertExits(self, running: Deferred[None], code: int) -> None:
        """
        The program has ended with this code.
        """
        self.assertEqual(self.failureResultOf(running, SystemExit).value.code, code)


class ProgramTests(AskCase):
    """
    The whole program but for the process around it.
    """

    def test_answerIsShown(self) -> None:
        """
        The question goes out as one streamed request, and the text comes out.
        """
        self.script.answers[b"/v1/chat/completions"] = stream(WHOLE)
        self.successResultOf(self.start("--model", "echo", "ping", "pong"))
        self.assertEqual(self.shown(), ("ping\n", ""))
        [(method, _, _, body)] = self.script.requests
        self.assertEqual(method, b"POST")
        self.assertEqual(
            body, {"model": "echo", "messages": [{"role": "user", "content": "ping pong"}], "stream": True}
        )

    def test_textComesAsItArrives(self) -> None:
        """
        A piece is on the terminal before the next one exists.
        """
        self.script.answers[b"/v1/chat/completions"] = self.script.holding(chunk(content="a"))
        running = self.start("--model", "echo", "ping")
        self.treq.flush()
        self.assertEqual(self.shown(), ("a", ""))
        self.script.open.write(chunk(content="b") + DONE)
        self.treq.flush()
        self.successResultOf(running)
        self.assertEqual(self.shown(), ("ab\n", ""))

    def test_firstModelIsTheDefault(self) -> None:
        """
        Without --model the first of the list is asked.
        """
        self.script.answers[b"/v1/chat/completions"] = stream(WHOLE)
        self.successResultOf(self.start("ping"))
        self.assertEqual(self.script.requests[1][3]["model"], "echo")

    def test_noModels(self) -> None:
        """
        With an empty list and no --model the user is told what to do.
        """
        self.script.answers[b"/v1/models"] = answer(b'{"object":"list","data":[]}')
        self.assertExits(self.start("ping"), 1)
        self.assertEqual(self.shown(), ("", "ask: the server lists no models; name one with --model\n"))

    def test_modelsAreListed(self) -> None:
        """
        --models writes one id a line, in the server's order.
        """
        self.successResultOf(self.start("--models"))
        self.assertEqual(self.shown(), ("echo\na/b\n", ""))

    def test_urlWithVersion(self) -> None:
        """
        The address may be given with or without C{/v1}, and below a path.
        """
        self.script.answers[b"/below/v1/models"] = answer(MODELS)
        for url, path in [
            ("http://h:1", b"/v1/models"),
            ("http://h:1/", b"/v1/models"),
            ("http://h:1/v1", b"/v1/models"),
            ("http://h:1/v1/", b"/v1/models"),
            ("http://h:1/below", b"/below/v1/models"),
        ]:
            with self.subTest(url=url):
                self.successResultOf(self.start("--models", url=url))
                self.assertEqual(self.script.requests[-1][1], path)

    def test_keyIsSent(self) -> None:
        """
        The key travels in the authorization header, and none when there is none.
        """
        for key, sent in [("sk-1", ["Bearer sk-1"]), (None, None)]:
            with self.subTest(key=key):
                self.successResultOf(self.start("--models", key=key))
                self.assertEqual(self.script.requests[-1][2].getRawHeaders("authorization"), sent)

    def test_refusals(self) -> None:
        """
        An HTTP error is one line with status, words and code, whatever its
        body is, and no redirect is followed.
        """
        reported = {"message": "no model\n'x'\x1b[2J", "type": "t", "param": None, "code": "model_not_found"}
        body = json.dumps({"error": reported}).encode()
        for refusal, said in [
            (answer(body, 404), "HTTP 404: no model 'x'[2J (model_not_found)"),
            (answer(body, 404, x_request_id="r"), "HTTP 404, request r: no model 'x'[2J (model_not_found)"),
            (answer(b"<h1>no</h1>\n<p>here", 502, "text/html"), "HTTP 502: <h1>no</h1> <p>here"),
            (answer(b"", 500), "HTTP 500: Internal Server Error"),
            (answer(b"\xff{", 500), "HTTP 500: \ufffd{"),
            (answer(b"", 301, location="http://elsewhere/"), "HTTP 301: Moved Permanently"),
        ]:
            for argv in ["--models"], ["--model", "x", "ping"]:
                with self.subTest(said=said, argv=argv):
                    self.script.answers = {b"/v1/models": refusal, b"/v1/chat/completions": refusal}
                    self.err = io.StringIO()
                    self.assertExits(self.start(*argv), 1)
                    self.assertEqual(self.shown(), ("", f"ask: {said}\n"))

    def test_answersThatAreNotWhole(self) -> None:
        """
        A stream that reports an error, ends early or is none at all: the text
        so far ends its line, one line says why, and the exit code is 1.
        """
        broken = b'data: {"error":{"message":"worker lost","code":"worker_lost"}}\n\n'
        start = chunk(content="pi")
        for body, out, said in [
            (start + broken, "pi\n", "worker lost (worker_lost)"),
            (start, "pi\n", "the answer was cut"),
            (start + finish("stop"), "pi\n", "the answer was cut"),
            (b"", "", "the answer was cut"),
            (start + b"data: [DONE]", "pi\n", "the answer was cut"),
        ]:
            with self.subTest(body=body):
                self.script.answers[b"/v1/chat/completions"] = stream(body)
                self.out, self.err = io.StringIO(), io.StringIO()
                self.assertExits(self.start("--model", "echo", "ping"), 1)
                self.assertEqual(self.shown(), (out, f"ask: {said}\n"))

    def test_connectionCutInAnAnswer(self) -> None:
        """
        A connection that breaks before C{[DONE]} is a cut answer.
        """
        self.script.answers[b"/v1/chat/completions"] = self.script.holding(chunk(content="a"))
        running = self.start("--model", "echo", "ping")
        self.treq.flush()
        self.script.open.channel.transport.loseConnection()
        self.treq.flush()
        self.assertExits(running, 1)
        self.assertEqual(self.shown(), ("a\n", "ask: the answer was cut\n"))

    def test_endlessRefusal(self) -> None:
        """
        An error's body without an end is read to its bound, and no further.
        """
        self.script.answers[b"/v1/models"] = self.script.holding(b"x" * (MAX_BODY + 1), status=500)
        running = self.start("--models")
        self.treq.flush()
        self.assertExits(running, 1)
        self.assertEqual(self.shown(), ("", f"ask: HTTP 500: {'x' * 200}\n"))
        self.treq.flush()
        self.assertEqual(self.script.gone, 1)

    def test_connectionCutInARefusal(self) -> None:
        """
        A connection that breaks in an error's body is told as that.
        """
        self.script.answers[b"/v1/models"] = self.script.holding(b"{", status=500)
        running = self.start("--models")
        self.treq.flush()
        self.script.open.channel.transport.loseConnection()
        self.treq.flush()
        self.assertExits(running, 1)
        self.assertEqual(self.shown(), ("", "ask: the server's answer was cut\n"))

    def test_closedWithoutAnAnswer(self) -> None:
        """
        A server that hangs up before its headers is told as that.
        """
        self.script.answers[b"/v1/models"] = self.script.holding(b"")
        running = self.start("--models")
        self.script.open.channel.transport.loseConnection()
        self.treq.flush()
        self.assertExits(running, 1)
        self.assertIn("closed the connection without an answer", self.shown()[1])

    def test_notAStream(self) -> None:
        """
        A server that does not stream is found out, not waited for.
        """
        self.script.answers[b"/v1/chat/completions"] = answer(b'{"choices":[]}')
        self.assertExits(self.start("--model", "echo", "ping"), 1)
        self.assertIn("answers with application/json, not with a stream", self.shown()[1])

    def test_notAListOfModels(self) -> None:
        """
        What is no list of models is told as that.
        """
        for body in [b"[]", b"{}", b"x", b'{"data":[5]}', b'{"data":[' + b"1," * MAX_BODY]:
            with self.subTest(body=body[:20]):
                self.script.answers[b"/v1/models"] = answer(body)
                self.err = io.StringIO()
                running = self.start("--models")
                self.treq.flush()
                self.assertExits(running, 1)
                self.assertIn("not with a list of models", self.shown()[1])

    def test_earlyEndIsNoted(self) -> None:
        """
        A whole answer that ended for another reason than C{stop} says so,
        and is no error.
        """
        self.script.answers[b"/v1/chat/completions"] = stream(chunk(content="a") + finish("length") + DONE)
        self.successResultOf(self.start("--model", "echo", "ping"))
        self.assertEqual(self.shown(), ("a\n", "ask: the answer ended early: length\n"))

    def test_silenceBeforeTheAnswer(self) -> None:
        """
        A server that never answers is given up after the timeout.
        """
        self.script.answers[b"/v1/models"] = self.script.holding(b"")
        running = self.start("--models")
        self.reactor.advance(4.9)
        self.assertNoResult(running)
        self.reactor.advance(0.2)
        self.treq.flush()
        self.assertExits(running, 1)
        self.assertEqual(self.shown(), ("", "ask: http://127.0.0.1:14620 did not answer in time\n"))

    def test_silenceInTheAnswer(self) -> None:
        """
        The wait begins again with everything that arrives; when it is over
        the connection is closed.
        """
        self.script.answers[b"/v1/chat/completions"] = self.script.holding(chunk(content="a"))
        running = self.start("--model", "echo", "ping")
        self.treq.flush()
        self.reactor.advance(4.9)
        self.script.open.write(chunk())
        self.treq.flush()
        self.reactor.advance(4.9)
        self.assertNoResult(running)
        self.reactor.advance(0.2)
        self.assertExits(running, 1)
        self.treq.flush()
        self.assertEqual(self.shown(), ("a\n", "ask: the server sent nothing for 5 s\n"))
        self.assertEqual(self.script.gone, 1)

    def test_nothingListens(self) -> None:
        """
        Each failure to connect is one line; a refused connection names how to
        start the server.
        """
        for reason, said in [
            (error.ConnectionRefusedError(), "twistd -n openai-server --embedded"),
            (error.DNSLookupError(), "no host of the name"),
            (error.TimeoutError(), "did not answer in time"),
            (error.NoRouteError(), "NoRouteError"),
        ]:
            with self.subTest(reason=reason):
                self.err = io.StringIO()
                self.assertExits(self.start("--models", http=Unreachable(reason)), 1)
                self.assertIn(said, self.shown()[1])
                self.assertEqual(self.shown()[1].count("\n"), 1)

    def test_cancelled(self) -> None:
        """
        When the reactor stops in the middle of an answer, the connection is
        closed and the exit code is that of Ctrl-C, without a word.
        """
        self.script.answers[b"/v1/chat/completions"] = self.script.holding(chunk(content="a"))
        running = self.start("--model", "echo", "ping")
        self.treq.flush()
        self.stopReactor()
        self.assertExits(running, 130)
        self.treq.flush()
        self.assertEqual(self.shown(), ("a\n", ""))
        self.assertEqual(self.script.gone, 1)

    def test_cancelledBeforeTheAnswer(self) -> None:
        """
        The same while nothing has come yet.
        """
        self.script.answers[b"/v1/chat/completions"] = self.script.holding(b"")
        running = self.start("--model", "echo", "ping")
        self.stopReactor()
        self.treq.flush()
        self.assertExits(running, 130)
        self.assertEqual(self.shown(), ("", ""))
        self.assertEqual(self.script.gone, 1)

    def test_ownFaultIsNotHidden(self) -> None:
        """
        A fault of this program is not told as one of the server's.
        """
        self.script.answers[b"/v1/chat/completions"] = stream(WHOLE)
        self.out.close()
        self.failureResultOf(self.start("--model", "echo", "ping"), ValueError)

    def stopReactor(self) -> None:
        """
        Do what the reactor does first when it is told to stop.
        """
        for call, args, kwargs in self.reactor.triggers["before"]["shutdown"]:
            call(*args, **kwargs)


class Unreachable:
    """
    An HTTP client none of whose requests gets through.
    """

    def __init__(self, reason: Exception) -> None:
        self._reason = reason

    def request(self, *args: object, **kwargs: object) -> Deferred[None]:
        """
        Fail at once.
        """
        failed: Deferred[None] = Deferred()
        failed.errback(self._reason)
        return failed


class OptionsTests(SyncCase):
    """
    The command line.
    """

    def test_defaults(self) -> None:
        """
        A question is enough.
        """
        options = optionsFrom(["ping"], str)
        self.assertEqual((options["url"], options["model"], options["models"]), (DEFAULT_URL, None, 0))
        self.assertEqual((options.text, options["timeout"]), ("ping", 600))

    def test_questionFromStandardInput(self) -> None:
        """
        A dash reads the question, as it is.
        """
        self.assertEqual(optionsFrom(["-"], lambda: "one\ntwo\n").text, "one\ntwo\n")

    def test_wrong(self) -> None:
        """
        What cannot be done is refused before anything is sent.
        """
        for argv in [
            [],
            [""],
            ["-"],
            ["--nonsense", "ping"],
            ["--url", "127.0.0.1:14620", "ping"],
            ["--url", "ftp://host", "ping"],
            ["--url", "http://", "ping"],
            ["--url", "http://host/?a=b", "ping"],
            ["--timeout", "0", "ping"],
            ["--timeout", "nan", "ping"],
            ["--timeout", "soon", "ping"],
        ]:
            with self.subTest(argv=argv):
                self.assertRaises(usage.UsageError, optionsFrom, argv, lambda: " \n")

    def test_key(self) -> None:
        """
        The command line's key comes before this server's variable, and that
        before OpenAI's; what is empty does not count.
        """
        both = {"OPENAI_SERVER_API_KEY": "b", "OPENAI_API_KEY": "c"}
        for argv, environment, key in [
            (["--key", "a"], both, "a"),
            ([], both, "b"),
            ([], {"OPENAI_SERVER_API_KEY": "", "OPENAI_API_KEY": " c\n"}, "c"),
            (["--key", ""], {}, None),
            ([], {}, None),
        ]:
            with self.subTest(argv=argv, environment=environment):
                options = Options()
                options.parseOptions([*argv, "ping"])
                self.assertEqual(options.key(environment), key)


#: Runs the program as C{python -m} does, interrupted when it imports a module.
INTERRUPTED = """
import runpy, sys

class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
sys.argv = ["ask", "ping"]
runpy.run_module("openai_server.ask", run_name="__main__", alter_sys=True)
"""


class ImportTests(SyncCase):
    """
    The program before it does anything.
    """

    def test_interrupted(self) -> None:
        """
        Ctrl-C while modules are imported, the first or a late one, ends the
        process as it does later.
        """
        for module in ("twisted", "treq.client"):
            command = [sys.executable, "-c", INTERRUPTED.format(module=module)]
            ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
            self.assertEqual((ended.returncode, ended.stdout, ended.stderr), (130, b"", b""), module)


class Running(ProcessProtocol):
    """
    The program as a process.

    @ivar whenSpoken: fires at its first output.
    @ivar whenEnded: fires with its exit code.
    """

    def __init__(self) -> None:
        self.out = b""
        self.err = b""
        self.whenSpoken: Deferred[None] = Deferred()
        self.whenEnded: Deferred[int | None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        """
        Collect, and tell of the first.
        """
        if not self.out:
            self.whenSpoken.callback(None)
        self.out += data

    def errReceived(self, data: bytes) -> None:
        """
        Collect.
        """
        self.err += data

    def processEnded(self, reason: Failure) -> None:
        """
        Tell.
        """
        self.whenEnded.callback(reason.value.exitCode)


class ProcessTests(AsyncCase):
    """
    The program as it is started, against a server on a real socket.
    """

    def setUp(self) -> None:
        super().setUp()
        self.script = Script()
        port = reactor.listenTCP(0, Site(self.script), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.url = f"http://127.0.0.1:{port.getHost().port}"

    def spawn(self, *argv: str) -> Running:
        """
        Start it.
        """
        running = Running()
        command = [sys.executable, "-m", "openai_server.ask", "--url", self.url, *argv]
        process = reactor.spawnProcess(running, sys.executable, command, env=None)
        self.addCleanup(lambda: process.pid and process.signalProcess("KILL"))
        running.process = process
        return running

    async def test_wholeAnswer(self) -> None:
        """
        It streams an answer and ends well.
        """
        self.script.answers[b"/v1/chat/completions"] = stream(WHOLE)
        running = self.spawn("ping")
        self.assertEqual(await running.whenEnded, 0)
        self.assertEqual((running.out, running.err), (b"ping\n", b""))

    async def test_interrupt(self) -> None:
        """
        Ctrl-C in the middle of an answer closes the connection and ends the
        process with 130, without a traceback.
        """
        self.script.answers[b"/v1/chat/completions"] = self.script.holding(chunk(content="a"))
        running = self.spawn("ping")
        await running.whenSpoken
        running.process.signalProcess(signal.SIGINT)
        self.assertEqual(await running.whenEnded, 130)
        self.assertEqual((running.out, running.err), (b"a\n", b""))
        self.assertEqual(self.script.gone, 1)
