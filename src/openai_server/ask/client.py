# -*- test-case-name: tests.ask.test_program -*-
"""
The two questions that the small client puts to a server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse

from openai_server.ask.events import Answer, AskError, ErrorObject, sentenceFromError

START_HINT: Final = "start the server with: twistd -n openai-server --embedded"

#: Bytes of a body that is not a stream.
MAX_BODY: Final = 2**20

_T = TypeVar("_T")


class _ErrorBody(msgspec.Struct):
    error: ErrorObject


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


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
