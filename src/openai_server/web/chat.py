# -*- test-case-name: tests.flow -*-
"""
The way of one completion: the request is read, what answers it is found,
and the answer goes to the client, as a stream or whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from twisted.internet.defer import CancelledError

from openai_server.api.dialect import Dialect
from openai_server.api.inquiry import Message
from openai_server.config import Configuration
from openai_server.errors import APIError, End
from openai_server.translate.schema import checkAnswer
from openai_server.web.admission import Account
from openai_server.web.answering import Answering, Answers
from openai_server.web.incoming import Incoming, Reader
from openai_server.web.request import APIRequest
from openai_server.web.sinks import StreamSink, WholeSink
from openai_server.web.streaming import EventStream, keepAliveInterval

_REPAIR: Final = (
    "Your last answer is not valid against the JSON Schema that was asked for. "
    "Answer again, with the corrected JSON and nothing else."
)


class Chat:
    """
    Answers requests of any dialect.
    """

    def __init__(
        self,
        configuration: Configuration,
        reader: Reader,
        answers: Answers,
    ) -> None:
        self._configuration = configuration
        self._reader = reader
        self._answers = answers

    async def complete(self, request: APIRequest, account: Account, dialect: Dialect) -> bytes | None:
        """
        Give the body of a whole answer, or answer with a stream and give None.
        """
        incoming = self._reader.read(dialect, account.name, _headersOf(request), request.takeBody())
        request.model = incoming.inquiry.model
        request.retry = incoming.retryCount
        if incoming.inquiry.ignored:
            request.setHeader(b"x-hum-ignored", ",".join(incoming.inquiry.ignored).encode())
        answering = await self._answers.of(incoming)
        request.mayHaveRun = True
        request.session = answering.kind.value
        request.setHeader(b"x-hum-session", request.session.encode())
        try:
            if incoming.inquiry.isStreamed:
                await self._streamed(request, incoming, answering)
                return None
            return await self._whole(request, incoming, answering)
        except CancelledError:
            raise
        except Exception:
            # A mistake of ours must not leave a worker running for nobody.
            answering.abandon()
            raise

    async def _streamed(self, request: APIRequest, incoming: Incoming, answering: Answering) -> None:
        stream = EventStream(request, lambda end: self._clientLeft(request, incoming, answering))
        renderer = incoming.dialect.renderer(incoming.inquiry)
        sink = StreamSink(stream, renderer, request.setEnd)
        ping = renderer.keepAlive()
        if ping:
            stream.keepWarm(ping, keepAliveInterval(request, self._configuration.keepAliveInterval))
        answering.attach(sink)
        await self._outcome(sink, request, incoming, answering)

    async def _whole(self, request: APIRequest, incoming: Incoming, answering: Answering) -> bytes:
        sink = await self._collected(request, incoming, answering)
        if incoming.schema is not None and not sink.hasCalls:
            verdict: str = checkAnswer(sink.text, incoming.schema)
            if verdict == "invalid":
                sink, verdict = await self._repaired(request, incoming, answering, sink)
            request.setHeader(b"x-hum-schema", verdict.encode())
        if not sink.hasUsage:
            request.setHeader(b"x-hum-usage", b"unknown")
        renderer = incoming.dialect.renderer(incoming.inquiry)
        body = renderer.body(sink.events)
        request.setHeader(b"Content-Type", renderer.bodyType)
        return body

    async def _collected(self, request: APIRequest, incoming: Incoming, answering: Answering) -> WholeSink:
        sink = WholeSink()
        answering.attach(sink)
        await self._outcome(sink, request, incoming, answering)
        return sink

    async def _repaired(
        self, request: APIRequest, incoming: Incoming, answering: Answering, sink: WholeSink
    ) -> tuple[WholeSink, str]:
        # One more turn in the same session; when that fails, the first answer
        # is better than none.
        assert incoming.schema is not None
        again = incoming.followedBy(
            Message(role="assistant", content=sink.text), Message(role="user", content=_REPAIR)
        )
        # This runs while the end is told: the session is free a moment later.
        await answering.conversation.whenSettled()
        try:
            second = await self._collected(request, again, await self._answers.asked(again))
        except APIError:
            return sink, "invalid"
        if second.hasCalls or checkAnswer(second.text, incoming.schema) == "invalid":
            return sink, "invalid"
        return second, "repaired"

    async def _outcome(
        self, sink: StreamSink | WholeSink, request: APIRequest, incoming: Incoming, answering: Answering
    ) -> None:
        try:
            await sink.outcome
        except CancelledError:
            self._clientLeft(request, incoming, answering)
            raise
        finally:
            if answering.ended is not None and answering.isAttended:
                self._answers.delivered(answering)

    def _clientLeft(self, request: APIRequest, incoming: Incoming, answering: Answering) -> None:
        # A server that stops waits for no retry.
        isStopping = request.end is End.DRAINED
        self._answers.clientLeft(answering, 0 if isStopping else incoming.grace)


def _headersOf(request: APIRequest) -> Mapping[str, str]:
    return {
        name.decode("latin-1").lower(): values[-1].decode("utf-8", "replace")
        for name, values in request.requestHeaders.getAllRawHeaders()
    }
