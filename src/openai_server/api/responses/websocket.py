# -*- test-case-name: tests.api.responses.test_websocket -*-
"""
The messages of OpenAI's "WebSocket mode" of the Responses API.

A client sends events, of which C{response.create} is the only one that is
taken here: the members of a POST's body, and C{type}, C{stream_id} and
C{generate}. The server sends the events of a stream, one a message, without
C{[DONE]}; and what would be an HTTP error is an event of the type C{error},
with the C{status}.

A C{stream_id} names a I{lane} of the connection. The requests of one lane are
answered one after the other, those of several at the same time; their events
have the C{stream_id}. Those of a request without one have none.

Sources: OpenAI's guide "WebSocket mode"; the types C{ResponsesClientEvent} and
C{ResponsesServerEvent} of the C{openai} package; the compliance suite of Open
Responses, C{websocket-*}.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from openai_server.api.responses.records import Record, keptItems
from openai_server.errors import APIError

_LANE: Final = re.compile(r"[A-Za-z0-9_.-]{1,256}")
#: The events that are the last of a response, by how they begin.
_ENDINGS: Final = tuple(
    b'{"type":"response.%b"' % ending for ending in (b"completed", b"incomplete", b"failed")
)
_DATA: Final = b"\ndata: "
_DONE: Final = b"[DONE]"
#: Headers of an answer that its error repeats; there is nowhere else to say them.
_REPEATED: Final = (b"retry-after", b"retry-after-ms", b"x-should-retry")


class CreateEvent(msgspec.Struct):
    """
    What a client asks for.

    @ivar body: that of a POST which asks the same, streamed.
    @ivar previous: the id of the response that it goes on from.
    @ivar generates: whether there is to be an answer; if not, the response
        only prepares later ones, which go on from it.
    @ivar input: what becomes part of the history of those, as JSON; None where
        another place has it.
    """

    body: bytes
    previous: str | None
    generates: bool
    input: bytes | None


def laneFrom(members: Mapping[str, Any]) -> str | None:
    """
    Return the lane of a client's event, None for the one without a name.

    @raise APIError: 400, it cannot be a name.
    """
    lane = members.get("stream_id")
    if lane is None:
        return None
    if not isinstance(lane, str) or _LANE.fullmatch(lane) is None:
        raise APIError(
            "invalid_stream_id",
            "The 'stream_id' must have 1 to 256 characters, and only letters, numbers, underscores, "
            "hyphens and periods.",
            param="stream_id",
        )
    return lane


def createFrom(members: Mapping[str, Any], isKept: bool) -> CreateEvent:
    """
    Return what a client's event asks for.

    C{stream} is said by some clients, and may be anything: answers are always
    streamed. C{generate} counts as false when C{prompt_cache_options.prewarm}
    is true.

    @param isKept: whether responses are kept that do not say otherwise.
    @raise APIError: 400, with C{param}; what a POST may not say either is found
        when it is read as one.
    """
    asked = dict(members)
    if asked.pop("type", None) != "response.create":
        said = "The only event that is taken here is 'response.create'."
        raise APIError("unsupported_value", said, param="type")
    if asked.pop("background", None):
        said = "Responses cannot run in the background of a WebSocket: send a POST."
        raise APIError("unsupported_parameter", said, param="background")
    asked.pop("stream_id", None)
    generates = asked.pop("generate", None)
    if not (generates is None or isinstance(generates, bool)):
        raise APIError("invalid_type", "Expected a boolean.", param="generate")
    options = asked.get("prompt_cache_options")
    isPrepared = generates is False or (isinstance(options, dict) and options.get("prewarm") is True)
    asked["stream"] = True
    previous, input = asked.get("previous_response_id"), asked.get("input")
    isLocal = not isKept or asked.get("store") is False or previous is not None
    return CreateEvent(
        msgspec.json.encode(asked),
        previous if isinstance(previous, str) else None,
        not isPrepared,
        msgspec.json.encode(input or ()) if isLocal and not asked.get("conversation") else None,
    )


def eventsIn(stream: bytes) -> Iterator[bytes]:
    """
    Yield the events of a piece of a stream, as JSON.

    @param stream: whole events, each with one C{data:} line at most; comments
        say nothing here.
    """
    for event in stream.split(b"\n\n"):
        _, found, data = (b"\n" + event).partition(_DATA)
        if found and data != _DONE:
            yield data


def isLast(event: bytes) -> bool:
    """
    Return whether an event is the last of its response.
    """
    return event.startswith(_ENDINGS)


def inLane(event: bytes, lane: str | None) -> bytes:
    """
    Return an event as it is sent in a lane.

    @param event: an object that has members.
    """
    return event if lane is None else b'%b,"stream_id":"%b"}' % (event[:-1], lane.encode())


def errorEventFrom(body: bytes, status: int, headers: Mapping[bytes, bytes]) -> bytes:
    """
    Return an HTTP answer that says an error as an event. Headers stand where
    the C{openai} package has them and where Codex reads them.

    @param body: the answer's.
    @param headers: the answer's, by their names in lower case.
    """
    repeated = {name.decode(): headers[name].decode() for name in _REPEATED if name in headers}
    if repeated:
        said = b'"headers":%b' % msgspec.json.encode(repeated)
        body = b"%b,%b},%b}" % (body[:-2], said, said)
    return b'{"type":"error","status":%d,%b' % (status, body[1:])


class EndedResponse(msgspec.Struct):
    """
    What is read of a response that has ended.

    @ivar store: whether it is kept.
    """

    id: str
    status: str
    store: bool


class _Ending(msgspec.Struct):
    response: msgspec.Raw


_readEnding: Final = msgspec.json.Decoder(_Ending).decode
_readEnded: Final = msgspec.json.Decoder(EndedResponse).decode


def endedFrom(event: bytes) -> EndedResponse:
    """
    Return what the last event of a response says of it.
    """
    return _readEnded(_readEnding(event).response)


def recordFrom(input: bytes, event: bytes) -> bytes:
    """
    Return the record of a response, as far as others go on from it.

    @param input: its request's, as JSON.
    @param event: its last.
    """
    response = _readEnding(event).response
    token = _readEnded(response).id.removeprefix("resp_")
    items = keptItems(msgspec.json.decode(input), token)
    return msgspec.json.encode(Record(items, response, msgspec.Raw(b"[]"), False, False))
