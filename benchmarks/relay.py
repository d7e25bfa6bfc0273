"""
The least that relays: C{python -m benchmarks.relay PORT SOCKET}.

A L{Site} and one resource in front of a daemon, with what makes a relay on
twisted.web fast (no form parsing, batches decoded at once, events from
templates, one write for each request and batch) and none of what a server
needs: no checks, no errors, no deadlines, no bounds. It ends with its standard
input.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import msgspec
from twisted.internet import endpoints, protocol, stdio, task
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

HELLO = b'{"chi":"hello","bee":["forager"],"hive":"relay","from":"relay","protoVersion":"0.7.0"}\n'
MODELS = b'{"object":"list","data":[{"id":"bench","object":"model","created":1,"owned_by":"hum"}]}'


class Tone(msgspec.Struct, gc=False):
    """
    As much of a tone as a relay looks at.
    """

    chi: str
    sid: str = ""
    chunkType: str = ""
    delta: str = ""


class Message(msgspec.Struct):
    """
    A message of a request.
    """

    content: str


class Body(msgspec.Struct):
    """
    A request.
    """

    model: str
    messages: list[Message]
    stream: bool = False


_encode = msgspec.json.Encoder().encode
_decodeTones = msgspec.json.Decoder(Tone).decode_lines
_decodeBody = msgspec.json.Decoder(Body).decode


class Stream:
    """
    A request that is answered in events.
    """

    def __init__(self, request: Request, sid: str, model: str) -> None:
        self._request = request
        head = b'data: {"id":"chatcmpl-' + sid.encode() + b'","object":"chat.completion.chunk","created":1,'
        head += b'"model":' + _encode(model) + b',"choices":'
        self._start = head + b'[{"index":0,"delta":{"content":'
        self._rest = b'},"logprobs":null,"finish_reason":null}]}\n\n'
        self._opening: bytes = (
            head
            + b'[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},'
            + b'"logprobs":null,"finish_reason":null}]}\n\n'
        )
        self._end = (
            head + b'[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
        )
        request.setHeader(b"content-type", b"text/event-stream; charset=utf-8")

    def write(self, texts: list[str]) -> None:
        """
        The texts of one batch, each as an event of its own.
        """
        opening, self._opening = self._opening, b""
        start, rest = self._start, self._rest
        self._request.write(opening + b"".join([start + _encode(text) + rest for text in texts]))

    def finish(self) -> None:
        """
        The answer is whole.
        """
        self._request.write(self._opening + self._end)
        self._request.finish()


class Whole:
    """
    A request that is answered in one body.
    """

    def __init__(self, request: Request, sid: str, model: str) -> None:
        self._request = request
        self._texts: list[str] = []
        self._head = b'{"id":"chatcmpl-' + sid.encode() + b'","object":"chat.completion","created":1,'
        self._head += b'"model":' + _encode(model) + b',"choices":[{"index":0,"message":{"role":"assistant",'

    def write(self, texts: list[str]) -> None:
        """
        Collect.
        """
        self._texts += texts

    def finish(self) -> None:
        """
        The answer is whole.
        """
        content = _encode("".join(self._texts))
        rest = b',"refusal":null},"logprobs":null,"finish_reason":"stop"}]}'
        body = self._head + b'"content":' + content + rest
        self._request.setHeader(b"content-type", b"application/json")
        self._request.setHeader(b"content-length", b"%d" % len(body))
        self._request.write(body)
        self._request.finish()


class Thrum(protocol.Protocol):
    """
    The daemon's lines, by the request they are for.
    """

    def __init__(self) -> None:
        self._partial = b""
        self._answers: dict[str, Stream | Whole] = {}
        self._numbers = itertools.count()

    def connectionMade(self) -> None:
        """
        Say hello.
        """
        self.transport.write(HELLO)

    def ask(self, body: Body, request: Request) -> None:
        """
        Put the last message to the daemon, and relay what comes.
        """
        sid = f"relay-{next(self._numbers)}"
        self._answers[sid] = (Stream if body.stream else Whole)(request, sid, body.model)
        request.notifyFinish().addErrback(lambda _: self._answers.pop(sid, None))
        prompt = {"chi": "prompt", "rid": sid, "sid": sid, "modelId": body.model}
        prompt["content"] = body.messages[-1].content
        self.transport.write(_encode(prompt) + b"\n")

    def dataReceived(self, data: bytes) -> None:
        """
        One batch: one write for each request in it.
        """
        head, newline, rest = data.rpartition(b"\n")
        if not newline:
            self._partial += data
            return
        lines, self._partial = self._partial + head, rest
        batch: dict[str, list[str]] = {}
        for tone in _decodeTones(lines):
            if tone.chunkType == "text_delta":
                batch.setdefault(tone.sid, []).append(tone.delta)
            elif tone.chi == "finish":
                self._flush(batch, tone.sid)
                if tone.sid in self._answers:
                    self._answers.pop(tone.sid).finish()
        for sid in list(batch):
            self._flush(batch, sid)

    def _flush(self, batch: dict[str, list[str]], sid: str) -> None:
        texts = batch.pop(sid, None)
        if texts and sid in self._answers:
            self._answers[sid].write(texts)


class Relay(Resource):
    """
    Every path.
    """

    isLeaf = True

    def __init__(self, thrum: Thrum) -> None:
        super().__init__()
        self._thrum = thrum

    def render_GET(self, request: Request) -> bytes:
        """
        The list of models, whatever is asked.
        """
        request.setHeader(b"content-type", b"application/json")
        return MODELS

    def render_POST(self, request: Request) -> int:
        """
        A chat completion.
        """
        self._thrum.ask(_decodeBody(request.content.read()), request)
        return NOT_DONE_YET


class UntilEnd(protocol.Protocol):
    """
    Waits for the end of standard input.
    """

    def __init__(self) -> None:
        self.whenEnded: Deferred[None] = Deferred()

    def connectionLost(self, reason: object = None) -> None:
        """
        It has come.
        """
        self.whenEnded.callback(None)


async def serve(reactor: Any, port: str, socket: str) -> None:
    """
    Relay until standard input ends.
    """
    daemon = endpoints.UNIXClientEndpoint(reactor, socket)
    thrum = await endpoints.connectProtocol(daemon, Thrum())
    site = Site(Relay(thrum), parsePOSTFormSubmission=False)
    site.noisy = False
    await endpoints.TCP4ServerEndpoint(reactor, int(port), 1024, "127.0.0.1").listen(site)
    watched = UntilEnd()
    stdio.StandardIO(watched)
    await watched.whenEnded


if __name__ == "__main__":
    task.react(lambda reactor: Deferred.fromCoroutine(serve(reactor, *sys.argv[1:])))
