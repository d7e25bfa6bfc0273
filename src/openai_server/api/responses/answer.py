# -*- test-case-name: tests.api.responses -*-
"""
The response object, as bytes: all of its 31 members, in every state.

Most of them repeat the request, and are the same from the first event to the
last.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from openai_server.api.output import Usage
from openai_server.api.sse import jsonLine
from openai_server.errors import APIError

#: Workers do not tell reasoning from the rest of an answer.
_USAGE: Final = (
    b'{"input_tokens":%d,"input_tokens_details":{"cached_tokens":%d,"cache_write_tokens":%d},'
    b'"output_tokens":%d,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":%d}'
)
#: Codes that clients act upon, by the kind of failure; C{server_error} for all
#: others.
_CODES: Final = {
    name: name for name in ("context_length_exceeded", "insufficient_quota", "rate_limit_exceeded")
}
#: What is said of a response that is neither complete nor has failed.
_OPEN: Final = b'"completed_at":null,"error":null,"incomplete_details":null'
#: Seconds after which to ask again, when nothing says it.
_SOON: Final = 1


class ResponseHead(msgspec.Struct, frozen=True):
    """
    What a response says of itself from its first event on.

    @ivar token: what its id and those of its items have in common.
    @ivar createdAt: seconds since 1970.
    @ivar repeated: the members that repeat the request.
    @ivar showsReasoning: whether the request asks for summaries of it.
    @ivar previous: the id of the response that it goes on from.
    @ivar input: the request's own items, as they are kept; None where nothing
        is.
    @ivar isKept: whether the response is: it may be that its items are kept in
        a conversation alone.
    """

    token: str
    createdAt: int
    repeated: dict[str, Any]
    showsReasoning: bool = False
    previous: str | None = None
    input: list[dict[str, Any]] | None = None
    isKept: bool = False

    @property
    def id(self) -> str:
        """
        The response's id.
        """
        return f"resp_{self.token}"

    @property
    def names(self) -> tuple[str, int]:
        """
        See L{openai_server.api.inquiry.NamedAnswer}.
        """
        return self.token, self.createdAt

    def named(self, token: str, createdAt: int) -> ResponseHead:
        """
        See L{openai_server.api.inquiry.NamedAnswer}.
        """
        return msgspec.structs.replace(self, token=token, createdAt=createdAt)

    @property
    def isBackground(self) -> bool:
        """
        Whether the response is made with nobody attached.
        """
        return self.repeated["background"] is True


#: Members of the object that do not repeat the request.
_OWN: Final = frozenset(
    (
        "id",
        "object",
        "created_at",
        "status",
        "completed_at",
        "error",
        "incomplete_details",
        "output",
        "usage",
    )
)


def headFrom(response: bytes) -> tuple[ResponseHead, int]:
    """
    Return what a response said of itself, and when it was completed, in
    seconds since 1970; 0 for one that was not.
    """
    found = msgspec.json.decode(response)
    repeated = {name: value for name, value in found.items() if name not in _OWN}
    token = found["id"].removeprefix("resp_")
    return ResponseHead(token, found["created_at"], repeated, True), found["completed_at"] or 0


class ResponseObject:
    """
    Writes the object of one response in each of its states.
    """

    __slots__ = ("_beginning", "_rest")

    def __init__(self, head: ResponseHead) -> None:
        self._beginning = b'{"id":%b,"object":"response","created_at":%d,"status":"' % (
            jsonLine(head.id),
            head.createdAt,
        )
        self._rest = jsonLine(head.repeated)[1:]

    def queued(self) -> bytes:
        """
        Return a response that waits for its turn.
        """
        return self._written("queued", _OPEN, b"")

    def unfinished(self, output: bytes = b"") -> bytes:
        """
        Return a response that goes on.
        """
        return self._written("in_progress", _OPEN, output)

    def finished(self, output: bytes, usage: Usage | None, at: int, reason: str | None = None) -> bytes:
        """
        Return a response that is complete, or as complete as it will be.

        @param output: its items, as members of an array.
        @param at: when it was completed, in seconds since 1970.
        @param reason: why it is incomplete; None for a complete one.
        """
        if reason is None:
            said = b'"completed_at":%d,"error":null,"incomplete_details":null' % at
            return self._written("completed", said, output, usage)
        said = b'"completed_at":null,"error":null,"incomplete_details":{"reason":"%b"}' % reason.encode()
        return self._written("incomplete", said, output, usage)

    def failed(self, output: bytes, error: APIError, usage: Usage) -> bytes:
        """
        Return a response that could not be completed.
        """
        said = b'"completed_at":null,"error":%b,"incomplete_details":null' % jsonLine(_errorObject(error))
        return self._written("failed", said, output, usage)

    def cancelled(self, output: bytes, usage: Usage) -> bytes:
        """
        Return a response that was cancelled.
        """
        return self._written("cancelled", _OPEN, output, usage)

    def _written(self, status: str, said: bytes, output: bytes, usage: Usage | None = None) -> bytes:
        return b'%b%b",%b,"output":[%b],"usage":%b,%b' % (
            self._beginning,
            status.encode(),
            said,
            output,
            usageObject(usage),
            self._rest,
        )


def usageObject(usage: Usage | None) -> bytes:
    """
    Return the object C{usage} of a response; null while there is none.
    """
    if usage is None:
        return b"null"
    total = usage.input + usage.output
    return _USAGE % (usage.input, usage.cached, usage.cacheWritten, usage.output, total)


def _errorObject(error: APIError) -> dict[str, str]:
    # Lone surrogates cannot be encoded, and an error must always get out.
    message = error.message.encode("utf-8", "replace").decode()
    code = _CODES.get(error.name, "server_error")
    if code == "rate_limit_exceeded":
        # In the words that Codex looks for.
        message = f"{message} Please try again in {error.retryAfter or _SOON}s."
    return {"code": code, "message": message}
