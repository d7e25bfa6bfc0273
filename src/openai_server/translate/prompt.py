# -*- test-case-name: tests.translate.test_prompt -*-
"""
An inquiry as a prompt to the daemon.

The worker wraps C{content} as one user message and takes C{systemPrompt} as
one command-line argument; it reads neither C{sampling} nor C{attachments}
(seen with humd 0.31.18). So what has to reach its model is in these two
texts, and the rest goes out for workers that honour it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from openai_server.api.inquiry import NO_SAMPLING, Format, Inquiry, Message
from openai_server.translate.attachments import Attached, attachmentLine
from openai_server.translate.tools import NO_OFFER, Offer
from openai_server.translate.transcript import Pieces, joined, piecesOf, transcript
from openai_server.wire.tones import HIVE, Prompt

#: Bytes of UTF-8 in a system prompt. From 131,072 up the worker cannot start
#: its process, and tells nobody.
MAX_SYSTEM: Final = 100_000

_NO_MESSAGE: Final = "There is no message yet: act on your instructions."
_JSON_ONLY: Final = "Answer with JSON and nothing else: no other words, no Markdown fence."
_REST: Final = "The rest of your instructions, which began in the system prompt:\n"
_END_OF_REST: Final = "\n\nEnd of the instructions.\n\n"
_NO_WISHES: Final = ("", "", "")


class PromptText(msgspec.Struct, frozen=True):
    """
    What is said to a worker: all of a conversation, or what is new in it.

    @ivar systemPrompt: within the daemon's limits; None when there is none.
    @ivar pieces: the content, with the attachments where they stand.
    """

    systemPrompt: str | None
    pieces: Pieces

    @property
    def attachments(self) -> tuple[Attached, ...]:
        """
        What is attached, in order.
        """
        return tuple([piece for piece in self.pieces if not isinstance(piece, str)])

    def content(self, paths: Sequence[str | None] = ()) -> str:
        """
        The content as one text, with a line for each attachment. The claude
        CLI takes C{/word} at the very beginning for a command of its own, which
        no model sees (seen with 2.1.197): there it gets a blank before it.

        @param paths: for each attachment the file that holds it, None where
            none was written; nothing at all when none was.
        """
        if len(self.pieces) == 1 and isinstance(self.pieces[0], str):
            text = self.pieces[0]
        else:
            left = iter(paths)
            text = joined(self.pieces, lambda attached: attachmentLine(attached, next(left, None)))
        return f" {text}" if text.startswith("/") else text


def systemText(inquiry: Inquiry, offer: Offer | None = None) -> str:
    """
    All that must hold for a whole session: the leading system and developer
    messages in their order, long descriptions of tools, and what the request
    wishes about calls and the shape of the answer. A warm session of another
    system text cannot be gone on with.
    """
    said = "\n\n".join(filter(None, (ownSystemText(inquiry), *wishesFrom(inquiry, offer or NO_OFFER))))
    # Part of a command line, where it would end the argument.
    return said.replace("\0", "")


def wishesFrom(inquiry: Inquiry, offer: Offer) -> tuple[str, ...]:
    """
    What else a request tells the model for a whole session: each in its place,
    empty where there is none.
    """
    if offer is NO_OFFER and inquiry.format.kind == "text":
        return _NO_WISHES
    return offer.systemText, offer.instruction, formatInstruction(inquiry.format)


def ownSystemText(inquiry: Inquiry) -> str:
    """
    The leading system and developer messages alone, in their order.
    """
    messages = inquiry.messages
    if not messages or messages[0].role != "system":
        return ""
    return "\n\n".join(filter(None, [message.text for message in messages[: leadingMessages(messages)]]))


def leadingMessages(messages: Sequence[Message]) -> int:
    """
    Return how many system messages stand at the head: the system prompt.
    """
    count = 0
    while count < len(messages) and messages[count].role == "system":
        count += 1
    return count


def textFromInquiry(inquiry: Inquiry, boundary: str, offer: Offer | None = None) -> PromptText:
    """
    The whole conversation, for a session that knows nothing of it.

    A single user message is the content as it is; anything longer becomes a
    L{transcript<openai_server.translate.transcript.transcript>}. Reasoning
    that a client echoes back is not repeated to the model.

    @param boundary: a fresh random token of letters and digits.
    @raise APIError: 400, an attachment is no good.
    """
    leading = leadingMessages(inquiry.messages)
    systemPrompt, rest = _cutSystem(systemText(inquiry, offer))
    pieces = _pieces(inquiry.messages[leading:], boundary, False)
    return PromptText(systemPrompt or None, (rest, *pieces) if rest else pieces)


def textFromTail(
    inquiry: Inquiry, start: int, boundary: str, offer: Offer | None = None
) -> PromptText:
    """
    Only the messages from C{start} on, for a session that knows the others
    and has the same L{systemText}. That goes out again: a worker's process that
    was idle for too long is started anew, with what this prompt says.

    @param start: the place of the first new message in the request.
    @param boundary: a fresh random token of letters and digits.
    @raise APIError: 400, an attachment is no good.
    """
    messages = inquiry.messages[start:]
    if start and inquiry.messages[start - 1].calls:
        # Their ids are the client's: without the calls the model would not
        # know what these are the results of.
        messages = (msgspec.structs.replace(inquiry.messages[start - 1], content=""), *messages)
    systemPrompt, _ = _cutSystem(systemText(inquiry, offer))
    return PromptText(systemPrompt or None, _pieces(messages, boundary, True))


def _pieces(messages: Sequence[Message], boundary: str, isTail: bool) -> Pieces:
    if not messages:
        return (_NO_MESSAGE,)
    if len(messages) == 1 and messages[0].role == "user":
        return piecesOf(messages[0])
    return transcript(messages, boundary, isTail=isTail)


def _cutSystem(text: str) -> tuple[str, str]:
    # A character has four bytes at most.
    if len(text) * 4 <= MAX_SYSTEM:
        return text, ""
    encoded = text.encode()
    if len(encoded) <= MAX_SYSTEM:
        return text, ""
    # A character that the cut divides belongs to the rest.
    kept = encoded[:MAX_SYSTEM].decode(errors="ignore")
    return kept, _REST + text[len(kept) :] + _END_OF_REST


def formatInstruction(wanted: Format) -> str:
    """
    The wish for JSON in words for the model; empty when there is none.
    """
    if wanted.kind == "text":
        return ""
    said = [_JSON_ONLY]
    if wanted.schema is None:
        said.append("It must be one JSON object.")
    else:
        schema = msgspec.json.encode(wanted.schema).decode()
        said.append(f"It must be valid against this JSON Schema: {schema}")
    if wanted.description:
        said.append(f"It is: {wanted.description}")
    return " ".join(said)


def samplingFrom(inquiry: Inquiry, offer: Offer | None = None) -> dict[str, Any] | None:
    """
    What the request wishes of the model, in thrum's words, for workers that
    honour it; None when it wishes nothing.
    """
    sampling: dict[str, Any] = {}
    if inquiry.sampling is not NO_SAMPLING:
        # Thrum has the same words.
        wishes = msgspec.structs.asdict(inquiry.sampling)
        sampling = {name: value for name, value in wishes.items() if value is not None}
    if inquiry.stop:
        sampling["stop"] = inquiry.stop
    if inquiry.wantsJSON:
        sampling["responseFormat"] = _responseFormat(inquiry.format)
    if offer is not None and offer.definitions:
        choice = inquiry.toolChoice
        if choice.name is not None:
            sampling["toolChoice"] = {"type": "function", "name": offer.names.wireName(choice.name)}
        elif choice.mode != "auto":
            sampling["toolChoice"] = choice.mode
        if not inquiry.isParallel:
            sampling["parallelToolCalls"] = False
    return sampling or None


def _responseFormat(wanted: Format) -> dict[str, Any]:
    if wanted.kind == "json":
        return {"type": "json_object"}
    schema = {
        "name": wanted.name,
        "schema": wanted.schema,
        "strict": wanted.isStrict,
        "description": wanted.description,
    }
    return {"type": "json_schema", "json_schema": schema}


def promptFrom(
    inquiry: Inquiry,
    text: PromptText,
    *,
    rid: str,
    sid: str,
    offer: Offer | None = None,
    paths: Sequence[str | None] = (),
    sendAttachments: bool = True,
    cwd: str | None = None,
    allowedTools: Sequence[str] = (),
    disallowedTools: Sequence[str] = (),
) -> Prompt:
    """
    Return the tone that asks.

    @param paths: see L{PromptText.content}.
    @param sendAttachments: put them into the tone too.
    """
    attachments = [attached.tone for attached in text.attachments] if sendAttachments else []
    return Prompt(
        rid=rid,
        sid=sid,
        hive=HIVE,
        modelId=inquiry.model,
        content=text.content(paths),
        systemPrompt=text.systemPrompt,
        tools=list(offer.definitions) or None if offer is not None else None,
        attachments=attachments or None,
        sampling=samplingFrom(inquiry, offer),
        cwd=cwd,
        allowedTools=list(allowedTools) or None,
        disallowedTools=list(disallowedTools) or None,
    )
