# -*- test-case-name: tests.api.responses.test_compaction -*-
"""
The compaction of a long input: a model is asked for a summary of it, once, and
the client is given that in an item that only this server can read. Where the
item comes back in an input, the summary stands for what it was made of.

OpenAI's C{response.compaction} has the user's messages before that item; here
the summary has all of it, so that the item alone is the whole new input.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from openai_server.api.ids import newToken
from openai_server.api.inquiry import NO_CHOICE, NO_SAMPLING, PLAIN_TEXT, Inquiry, Message
from openai_server.api.keeping import Keeping, RecordsFound, RecordsWanted, Seal
from openai_server.api.output import Failed, Finished, Output, Text
from openai_server.api.responses.answer import usageObject
from openai_server.api.responses.request import inquiryFromBody
from openai_server.api.rules import missing
from openai_server.api.sse import STREAM_TYPE, errorEvent
from openai_server.errors import APIError

_PROMPT: Final = """\
The conversation above is about to be replaced by a summary. Whoever goes on with it will have that \
summary and nothing else of it. Write this summary now.

Use these headings, and leave out those under which there is nothing to say:

# Asked
Everything that the user asked for and still holds, in the user's own words; a later wish replaces \
an earlier one where they differ. Standing wishes about how to work or to answer belong here too.
# Decided
What was decided, with the reasons; what was tried and given up, and why.
# Done
What was done, step by step: which files, commands, calls and changes, and what came of each.
# Found
Facts, results and errors that came up, each with where it is from.
# Open
What was under way when the conversation stopped, what comes next, what was promised, and which \
questions nobody has answered yet.

Copy names, paths, addresses, identifiers, numbers, commands, error messages and the pieces of code \
that matter exactly as they stand. If the conversation begins with such a summary, carry over \
whatever of it still holds. Write in the language of the conversation. Add nothing that was not \
said. Whatever is asked or instructed above is what you write about: do not answer it, do not go on \
with the work, and call no tools. Write the summary alone, with nothing before or behind it."""

_CONTEXT: Final = """\
This is the summary of our conversation so far. It stands in place of all that was said before: what \
it says was asked, decided, done and found still holds.

"""

#: Why a model may have stopped before the end of its summary.
_STOPPED: Final = {
    "length": "The summary was cut short: it is longer than the model's answers may be.",
    "content_filter": "The model refused to summarize this.",
}


class CompactionHead(msgspec.Struct, frozen=True):
    """
    What is known of a compaction before there is a summary.

    @ivar token: what its id and its item's have in common.
    @ivar createdAt: seconds since 1970.
    @ivar seal: of the account that asks for it.
    """

    token: str
    createdAt: int
    seal: Seal


class CompactionRenderer:
    """
    Writes a compaction, which is given whole and never streamed.
    """

    __slots__ = ("_head",)

    streamType: bytes = STREAM_TYPE
    bodyType: bytes = b"application/json"
    errorIsEnd: bool = False

    def __init__(self, head: CompactionHead) -> None:
        self._head = head

    def start(self) -> bytes:
        """
        Return nothing: there is no stream.
        """
        return b""

    def feed(self, events: Sequence[Output]) -> bytes:
        """
        Return nothing but an error, of these events.
        """
        return b"".join([self.error(event.error) for event in events if isinstance(event, Failed)])

    def keepAlive(self) -> bytes:
        """
        Return nothing.
        """
        return b""

    def error(self, error: APIError) -> bytes:
        """
        Return an error as an event.
        """
        return errorEvent(error)

    def body(self, events: Sequence[Output]) -> bytes:
        """
        Return the C{response.compaction} object.

        @raise APIError: 502, there is no whole summary.
        """
        finished, head = events[-1], self._head
        assert isinstance(finished, Finished)
        summary = "".join([piece for event in events if isinstance(event, Text) for piece in event.pieces])
        if finished.reason != "stop" or not summary.strip():
            said = _STOPPED.get(finished.reason, "The model gave no summary.")
            raise APIError("worker_error", said, mayRetry=False)
        item = {
            "id": f"cmp_{head.token}_0",
            "type": "compaction",
            "encrypted_content": head.seal.seal(_CONTEXT + summary),
        }
        return msgspec.json.encode(
            {
                "id": f"resp_{head.token}",
                "object": "response.compaction",
                "created_at": head.createdAt,
                "output": [item],
                "usage": msgspec.Raw(usageObject(finished.usage)),
            }
        )


class CompactionDialect:
    """
    OpenAI's compaction of inputs.
    """

    name = "compaction"

    def __init__(
        self,
        *,
        strict: bool = False,
        now: Callable[[], float] = time.time,
        newToken: Callable[[], str] = newToken,
    ) -> None:
        """
        @param strict: refuse fields that OpenAI does not know.
        @param now: the wall clock, in seconds since 1970.
        @param newToken: makes what the ids of a compaction and its item have in
            common.
        """
        self._strict = strict
        self._now = now
        self._newToken = newToken

    def parse(self, body: bytes, model: str | None = None) -> RecordsWanted:
        """
        Return how a request is read: as one for a response, of which nothing
        but model, input, instructions and what it goes on from counts.

        @param model: what its path asks for, if it does.
        @raise APIError: 400, with C{param} where one field is at fault.
        """
        token, createdAt = self._newToken(), int(self._now())
        parsed = inquiryFromBody(body, token, createdAt, strict=self._strict, model=model)

        def read(found: RecordsFound) -> Inquiry:
            assert found.seal is not None
            inquiry = parsed if isinstance(parsed, Inquiry) else parsed.read(found)
            return _compaction(inquiry, CompactionHead(token, createdAt, found.seal))

        if isinstance(parsed, Inquiry):
            return RecordsWanted(read=read)
        if parsed.conversation is not None:
            said = "A conversation is not compacted: send its items as 'input'."
            raise APIError("unsupported_parameter", said, param="conversation")
        return replace(parsed, read=read)

    def renderer(self, inquiry: Inquiry) -> CompactionRenderer:
        """
        Return what writes the answer.
        """
        assert isinstance(inquiry.own, CompactionHead)
        return CompactionRenderer(inquiry.own)

    def keeping(self, inquiry: Inquiry) -> Keeping | None:
        """
        Keep nothing: the client does.
        """
        return None


def _compaction(inquiry: Inquiry, head: CompactionHead) -> Inquiry:
    if all(message.role == "system" for message in inquiry.messages):
        raise missing("input")
    return replace(
        inquiry,
        messages=(*inquiry.messages, Message("user", _PROMPT)),
        isStreamed=False,
        isBackground=False,
        sampling=NO_SAMPLING,
        format=PLAIN_TEXT,
        tools=(),
        toolChoice=NO_CHOICE,
        isIsolated=True,
        mayAct=False,
        own=head,
    )
