# -*- test-case-name: tests.test_ask -*-
"""
A small client for the terminal, and a newcomer's first test of a server::

    python -m openai_server.ask "ping"
    python -m openai_server.ask --models

The answer is written as it arrives; Ctrl-C closes the connection, which
cancels the turn. Whatever goes wrong is one line on standard error. Exit codes:
0 a whole answer, 1 an error, 2 a wrong command line, 130 cancelled.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, TextIO, TypeVar
from urllib.parse import urlsplit

import msgspec
from treq.client import HTTPClient
from twisted.internet import error, task
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import TimeoutMixin
from twisted.python import usage
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone, ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse

DEFAULT_URL: Final = "http://127.0.0.1:14620"
START_HINT: Final = "start the server with: twistd -n openai-server --embedded"

#: Bytes of one event of a stream, and of a body that is not a stream.
MAX_EVENT: Final = 16 * 2**20
MAX_BODY: Final = 2**20

CANCELLED: Final = 130

_T = TypeVar("_T")


class AskError(Exception):
    """
    There is no answer, or not the whole of it. The message is what the user
    is told.
    """


class _ErrorObject(msgspec.Struct):
    message: str
    code: str | int | None = None


class _ErrorBody(msgspec.Struct):
    error: _ErrorObject


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    error: Any = None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class EventParser:
    """
    Bytes of C{text/event-stream} in, the data of whole events out. Other
    fields and comments are skipped; an event that was not ended by its blank
    line never comes out.
    """

    def __init__(self) -> None:
        self._partial: list[bytes] = []
        self._data: list[bytes] = []
        self._size = 0
        self._endedInCR = False
        self._isFirstLine = True

    def feed(self, received: bytes) -> list[str]:
        """
        @param received: the next bytes, cut anywhere.
        @return: the data of each event that is whole now.
        @raise AskError: an event is larger than L{MAX_EVENT}.
        """
        if self._endedInCR and received:
            received = received.removeprefix(b"\n")
        self._endedInCR = received.endswith(b"\r") if received else False
        first, *rest = received.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._collect(first)
        events = []
        for start in rest:
            events += self._endLine()
            self._collect(start)
        return events

    def _collect(self, piece: bytes) -> None:
        self._partial.append(piece)
        self._size += len(piece)
        if self._size > MAX_EVENT:
            raise AskError(f"the server sent an event of more than {MAX_EVENT} bytes")

    def _endLine(self) -> list[str]:
        line = b"".join(self._partial)
        self._partial = []
        if self._isFirstLine:
            self._isFirstLine = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line:
            field, _, value = line.partition(b":")
            if field == b"data":
                self._data.append(value.removeprefix(b" "))
            return []
        data, self._data, self._size = self._data, [], 0
        return [b"\n".join(data).decode("utf-8", "replace")] if data else []


class Answer:
    """
    The stream of one answer, as text.

    @ivar isWhole: C{[DONE]} was seen.
    @ivar finishReason: what the server gave as the reason of the end.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._parser = EventParser()
        self.isWhole = False
        self.finishReason: str | None = None

    def receive(self, received: bytes) -> bool:
        """
        Write the text of what came.

        @return: whether the answer is whole.
        @raise AskError: the server reports an error in the stream, or does not
            send chunks of a chat completion.
        """
        for data in self._parser.feed(received):
            if data == "[DONE]":
                self.isWhole = True
                break
            self._chunk(data)
        return self.isWhole

    def _chunk(self, data: str) -> None:
        try:
            event = msgspec.json.decode(data, type=_Event)
        except msgspec.MsgspecError as reason:
            raise AskError(f"the server sent an event that is no chunk of an answer: {reason}") from None
        if event.error:
            raise AskError(sentenceFromError(event.error))
        for choice in event.choices:
            self.finishReason = choice.finish_reason or self.finishReason
            text = (choice.delta.content or "") + (choice.delta.refusal or "")
            if text:
                self._write(text)


class Body(Protocol, TimeoutMixin):
    """
    Passes a response's body on, as long as something of it arrives.

    @ivar whenDone: fires with None at the end of the body or when the receiver
        has enough; fails with what the receiver raised, with L{AskError} when
        nothing arrives for too long, and with the transport's reason when the
        body is cut. Cancelling it closes the connection.
    """

    def __init__(self, receive: Callable[[bytes], bool], silence: float, clock: Any) -> None:
        """
        @param receive: is given the bytes; true when it needs no more.
        @param silence: seconds without a byte after which the wait is over.
        """
        self._receive = receive
        self._silence = silence
        self._clock = clock
        self.whenDone: Deferred[None] = Deferred(lambda _: self._close())
        self._isOpen = True

    def callLater(self, period: float, func: Callable[[], None]) -> Any:
        return self._clock.callLater(period, func)

    def connectionMade(self) -> None:
        self.setTimeout(self._silence)

    def dataReceived(self, data: bytes) -> None:
        if not self._isOpen:
            return
        self.resetTimeout()
        try:
            isEnough = self._receive(data)
        except Exception:
            self._close()
            self.whenDone.errback(Failure())
        else:
            if isEnough:
                self._close()
                self.whenDone.callback(None)

    def timeoutConnection(self) -> None:
        self._close()
        self.whenDone.errback(Failure(AskError(f"the server sent nothing for {self._silence:g} s")))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._isOpen:
            return
        self._isOpen = False
        self.setTimeout(None)
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whenDone.callback(None)
        else:
            self.whenDone.errback(reason)

    def _close(self) -> None:
        self._isOpen = False
        self.setTimeout(None)
        if self.transport is not None:
            self.transport.loseConnection()


class Client:
    """
    The two questions that this program puts to a server.
    """

    def __init__(self, http: Any, clock: Any, url: str, key: str | None, timeout: float) -> None:
        """
        @param http: treq's C{HTTPClient}, or something like it.
        @param clock: the reactor.
        @param url: the server's address, with or without C{/v1} at its end.
        @param timeout: seconds to wait while nothing arrives.
        """
        self._http = http
        self._clock = clock
        self._url = url
        self._base = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = timeout

    async def models(self) -> list[str]:
        """
        @return: the ids of the models, in the server's order.
        @raise AskError: there is no list.
        """
        response = await self._request("GET", "/models")
        listed = _decoded(await self._wholeBody(response), _Models)
        if listed is None:
            raise AskError(f"{self._url} answers, but not with a list of models")
        return [model.id for model in listed.data]

    async def ask(self, model: str, text: str, write: Callable[[str], object]) -> str | None:
        """
        Stream the answer to one user message.

        @param write: is given the pieces of the text as they arrive.
        @return: the finish reason.
        @raise AskError: there is no answer, or it was cut.
        """
        messages = [{"role": "user", "content": text}]
        response = await self._request(
            "POST", "/chat/completions", json={"model": model, "messages": messages, "stream": True}
        )
        kind = _header(response, "content-type")
        if not kind.startswith("text/event-stream"):
            raise AskError(f"{self._url} answers with {kind or 'no content type'}, not with a stream")
        answer = Answer(write)
        try:
            await self._body(response, answer.receive)
        except ResponseFailed:
            raise AskError("the answer was cut") from None
        if not answer.isWhole:
            raise AskError("the answer was cut")
        return answer.finishReason

    async def _request(self, method: str, path: str, **body: Any) -> IResponse:
        try:
            response: IResponse = await self._http.request(
                method,
                self._base + path,
                headers=self._headers,
                allow_redirects=False,
                unbuffered=True,
                timeout=self._timeout,
                reactor=self._clock,
                **body,
            )
        except Exception as reason:
            raise AskError(self._sentenceFromFailure(reason)) from reason
        if response.code != 200:
            raise AskError(_sentenceFromRefusal(response, await self._wholeBody(response)))
        return response

    async def _wholeBody(self, response: IResponse) -> bytes:
        received = bytearray()

        def receive(data: bytes) -> bool:
            received.extend(data)
            return len(received) > MAX_BODY

        try:
            await self._body(response, receive)
        except ResponseFailed:
            raise AskError("the server's answer was cut") from None
        return bytes(received)

    def _body(self, response: IResponse, receive: Callable[[bytes], bool]) -> Deferred[None]:
        body = Body(receive, self._timeout, self._clock)
        response.deliverBody(body)
        return body.whenDone

    def _sentenceFromFailure(self, reason: Exception) -> str:
        if isinstance(reason, error.ConnectionRefusedError):
            return f"nothing listens on {self._url}; {START_HINT}"
        if isinstance(reason, error.DNSLookupError):
            return f"there is no host of the name in {self._url}"
        # A timeout here is treq's cancelling of the request, in one of these shapes.
        if isinstance(reason, ResponseNeverReceived):
            reason = reason.reasons[0].value
        if isinstance(reason, error.ConnectionLost | error.ConnectionDone):
            return f"{self._url} closed the connection without an answer"
        if "Cancel" in type(reason).__name__ or isinstance(reason, error.TimeoutError):
            return f"{self._url} did not answer in time"
        return f"no answer from {self._url}: {type(reason).__name__}: {reason}"


def sentenceFromError(reported: object) -> str:
    """
    What an C{error} member of a body or an event says, with its code.
    """
    try:
        found = msgspec.convert(reported, _ErrorObject)
    except msgspec.ValidationError:
        return str(reported)
    return f"{found.message} ({found.code})" if found.code is not None else found.message


def oneLine(text: str) -> str:
    """
    The text without line breaks and without what a terminal would obey.
    """
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


def _sentenceFromRefusal(response: IResponse, body: bytes) -> str:
    refusal = _decoded(body, _ErrorBody)
    requestId = _header(response, "x-request-id")
    where = f"HTTP {response.code}" + (f", request {requestId}" if requestId else "")
    if refusal is None:
        return f"{where}: {(body[:200] or response.phrase).decode('utf-8', 'replace')}"
    return f"{where}: {sentenceFromError(msgspec.to_builtins(refusal.error))}"


def _decoded(body: bytes, kind: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _header(response: IResponse, name: str) -> str:
    values: Sequence[str] | None = response.headers.getRawHeaders(name)
    return values[0] if values else ""


def _url(given: str) -> str:
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{given!r} is not the address of a server, like {DEFAULT_URL}")
    return given


def _seconds(given: str) -> float:
    seconds = float(given)
    if not 0 < seconds < 10**7:
        raise ValueError("seconds must be above 0")
    return seconds


class Options(usage.Options):
    """
    The command line.
    """

    synopsis = 'python -m openai_server.ask [options] "question" (- reads it from standard input)'
    optParameters = [
        ["url", "u", DEFAULT_URL, "Address of the server.", _url],
        ["model", "m", None, "Model to ask; without it, the first that the server lists."],
        ["key", "k", None, "API key; better in OPENAI_SERVER_API_KEY or OPENAI_API_KEY."],
        ["timeout", "t", 600.0, "Seconds to wait while nothing arrives.", _seconds],
    ]
    optFlags = [["models", "l", "List the models and end."]]

    def parseArgs(self, *words: str) -> None:
        """
        The words of the question.
        """
        self.text = " ".join(words)

    def postOptions(self) -> None:
        """
        @raise usage.UsageError: there is nothing to do.
        """
        if not self["models"] and not self.text:
            raise usage.UsageError("there is no question")

    def key(self, environment: dict[str, str]) -> str | None:
        """
        The API key to use, or None; an empty one is none.
        """
        given = self["key"]
        found = (given, environment.get("OPENAI_SERVER_API_KEY"), environment.get("OPENAI_API_KEY"))
        return next((key.strip() for key in found if key and key.strip()), None)


class Terminal:
    """
    Where the answer and the complaints go.
    """

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err
        self._last = "\n"

    def write(self, text: str) -> None:
        """
        Show a piece of the answer at once.
        """
        self._last = text[-1]
        self._out.write(text)
        self._out.flush()

    def endLine(self) -> None:
        """
        Let what comes next begin on a line of its own.
        """
        if self._last != "\n":
            self.write("\n")

    def complain(self, text: str) -> None:
        """
        Say on one line of standard error what went wrong.
        """
        self._err.write(f"ask: {oneLine(text)}\n")
        self._err.flush()


async def converse(client: Client, options: Options, terminal: Terminal) -> None:
    """
    Do what the command line says.

    @raise AskError: it could not be done.
    """
    if options["models"]:
        for model in await client.models():
            terminal.write(f"{model}\n")
        return
    model = options["model"]
    if model is None:
        listed = await client.models()
        if not listed:
            raise AskError("the server lists no models; name one with --model")
        model = listed[0]
    try:
        reason = await client.ask(model, options.text, terminal.write)
    finally:
        terminal.endLine()
    if reason not in (None, "stop"):
        terminal.complain(f"the answer ended early: {reason}")


async def run(reactor: Any, client: Client, options: Options, terminal: Terminal) -> None:
    """
    L{converse}, given up when the reactor is told to stop.

    @raise SystemExit: with the exit code, unless all went well.
    """
    isCancelled = False
    work = Deferred.fromCoroutine(converse(client, options, terminal))

    def cancel() -> None:
        nonlocal isCancelled
        isCancelled = True
        work.cancel()

    reactor.addSystemEventTrigger("before", "shutdown", cancel)
    try:
        await work
    except BrokenPipeError:
        # Who read our output went away; nothing must be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as reason:
        if isCancelled:
            raise SystemExit(CANCELLED) from None
        if not isinstance(reason, AskError):
            raise
        terminal.complain(str(reason))
        raise SystemExit(1) from None


def optionsFrom(argv: Sequence[str], read: Callable[[], str]) -> Options:
    """
    The parsed command line, the question read where it says C{-}.

    @raise usage.UsageError: it is wrong.
    """
    options = Options()
    options.parseOptions(list(argv))
    if options.text == "-":
        options.text = read()
        if not options.text.strip():
            raise usage.UsageError("there is no question on standard input")
    return options


def main() -> NoReturn:
    """
    The program.
    """
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        options = optionsFrom(sys.argv[1:], sys.stdin.read)
    except usage.UsageError as reason:
        print(f"ask: {oneLine(str(reason))}; see --help", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(CANCELLED)

    def start(reactor: Any) -> Deferred[None]:
        http = HTTPClient(Agent(reactor, connectTimeout=10))
        client = Client(http, reactor, options["url"], options.key(dict(os.environ)), options["timeout"])
        return Deferred.fromCoroutine(run(reactor, client, options, Terminal(sys.stdout, sys.stderr)))

    task.react(start)


if __name__ == "__main__":
    main()
