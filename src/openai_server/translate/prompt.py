# -*- test-case-name: tests.translate.test_prompt -*-
"""
A chat request as a prompt to the daemon.

The worker wraps C{content} as one user message and takes C{systemPrompt} as
one command-line argument; it reads neither C{sampling} nor C{attachments}
(seen with humd 0.31.18). So what has to reach its model is in these two
texts, and the rest goes out for workers that honour it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from openai_server.api.chat import ChatRequest, ResponseFormat
from openai_server.api.messages import Message, callsOf
from openai_server.translate.attachments import Attached, attachmentLine
from openai_server.translate.tools import Offer
from openai_server.translate.transcript import Pieces, Placed, joined, piecesOf, transcript
from openai_server.wire.tones import HIVE, Prompt

#: Bytes of UTF-8 in a system prompt. From 131,072 up the worker cannot start
#: its process, and tells nobody.
MAX_SYSTEM: Final = 100_000

_NO_MESSAGE: Final = "There is no message yet: act on your instructions."
_JSON_ONLY: Final = "Answer with JSON and nothing else: no other words, no Markdown fence."
_REST: Final = "The rest of your instructions, which began in the system prompt:\n"
_END_OF_REST: Final = "\n\nEnd of the instructions.\n\n"


class Question(msgspec.Struct, frozen=True):
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
        return tuple(piece for piece in self.pieces if not isinstance(piece, str))

    def content(self, paths: Sequence[str | None] = ()) -> str:
        """
        The content as one text, with a line for each attachment.

        @param paths: for each attachment the file that holds it, None where
            none was written; nothing at all when none was.
        """
        left = iter(paths)
        return joined(self.pieces, lambda attached: attachmentLine(attached, next(left, None)))


def systemText(request: ChatRequest, offer: Offer | None = None) -> str:
    """
    All that must hold for a whole session: the leading system and developer
    messages in their order, long descriptions of tools, and what the request
    wishes about calls and the shape of the answer. A warm session of another
    system text cannot be gone on with.
    """
    offer = offer or Offer()
    wishes = (offer.systemText, offer.instruction, formatInstruction(request.response_format))
    said = "\n\n".join(filter(None, (ownSystemText(request), *wishes)))
    # Part of a command line, where it would end the argument.
    return said.replace("\0", "")


def ownSystemText(request: ChatRequest) -> str:
    """
    The leading system and developer messages alone, in their order.
    """
    said = (message.text for message in request.messages[: _leading(request.messages)])
    return "\n\n".join(filter(None, said))


def _leading(messages: Sequence[Message]) -> int:
    count = 0
    while count < len(messages) and messages[count].role in ("system", "developer"):
        count += 1
    return count


def questionFromRequest(request: ChatRequest, boundary: str, offer: Offer | None = None) -> Question:
    """
    The whole conversation, for a session that knows nothing of it.

    A single user message is the content as it is; anything longer becomes a
    L{transcript<openai_server.translate.transcript.transcript>}. Reasoning
    that a client echoes back is not repeated to the model.

    @param boundary: a fresh random token of letters and digits.
    @raise APIError: 400, an attachment is no good.
    """
    leading = _leading(request.messages)
    systemPrompt, rest = _cutSystem(systemText(request, offer))
    placed = list(enumerate(request.messages))[leading:]
    pieces = _pieces(placed, boundary, False)
    return Question(systemPrompt or None, (rest, *pieces) if rest else pieces)


def questionFromTail(
    request: ChatRequest, start: int, boundary: str, offer: Offer | None = None
) -> Question:
    """
    Only the messages from C{start} on, for a session that knows the others
    and has the same L{systemText}. That goes out again: a worker's process that
    was idle for too long is started anew, with what this prompt says.

    @param start: the place of the first new message in the request.
    @param boundary: a fresh random token of letters and digits.
    @raise APIError: 400, an attachment is no good.
    """
    placed = list(enumerate(request.messages))[start:]
    if start and any(callsOf(request.messages[start - 1])):
        # Their ids are the client's: without the calls the model would not
        # know what these are the results of.
        calls = msgspec.structs.replace(request.messages[start - 1], content=None, refusal=None)
        placed.insert(0, (start - 1, calls))
    systemPrompt, _ = _cutSystem(systemText(request, offer))
    return Question(systemPrompt or None, _pieces(placed, boundary, True))


def _pieces(placed: Sequence[Placed], boundary: str, isTail: bool) -> Pieces:
    if not placed:
        return (_NO_MESSAGE,)
    if len(placed) == 1 and placed[0][1].role == "user":
        return piecesOf(placed[0])
    return transcript(placed, boundary, isTail=isTail)


def _cutSystem(text: str) -> tuple[str, str]:
    encoded = text.encode()
    if len(encoded) <= MAX_SYSTEM:
        return text, ""
    # A character that the cut divides belongs to the rest.
    kept = encoded[:MAX_SYSTEM].decode(errors="ignore")
    return kept, _REST + text[len(kept) :] + _END_OF_REST


def formatInstruction(wanted: ResponseFormat | None) -> str:
    """
    The wish for JSON in words for the model; empty when there is none.
    """
    if wanted is None or wanted.type == "text":
        return ""
    said = [_JSON_ONLY]
    wish = wanted.json_schema
    if wish is None or wish.schema is None:
        said.append("It must be one JSON object.")
    else:
        schema = msgspec.json.encode(wish.schema).decode()
        said.append(f"It must be valid against this JSON Schema: {schema}")
    if wish is not None and wish.description:
        said.append(f"It is: {wish.description}")
    return " ".join(said)


def samplingFromRequest(request: ChatRequest, offer: Offer | None = None) -> dict[str, Any] | None:
    """
    What the request wishes of the model, in thrum's words, for workers that
    honour it; None when it wishes nothing.
    """
    sampling = {
        "temperature": request.temperature,
        "topP": request.top_p,
        "maxTokens": request.max_tokens,
        "stop": request.stop or None,
        "seed": request.seed,
        "frequencyPenalty": request.frequency_penalty,
        "presencePenalty": request.presence_penalty,
        "reasoningEffort": request.reasoning_effort,
        "verbosity": request.verbosity,
        "responseFormat": request.response_format,
    }
    if offer is not None and offer.definitions:
        sampling["toolChoice"] = _toolChoice(request, offer)
        sampling["parallelToolCalls"] = None if request.parallel_tool_calls else False
    return {name: value for name, value in sampling.items() if value is not None} or None


def _toolChoice(request: ChatRequest, offer: Offer) -> Any:
    choice = request.tool_choice
    if choice.name is not None:
        return {"type": "function", "name": offer.names.wireName(choice.name)}
    return None if choice.mode == "auto" else choice.mode


def promptFromRequest(
    request: ChatRequest,
    question: Question,
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
    The tone that asks a question.

    @param paths: see L{Question.content}.
    @param sendAttachments: put them into the tone too.
    """
    attachments = [attached.tone for attached in question.attachments] if sendAttachments else []
    return Prompt(
        rid=rid,
        sid=sid,
        hive=HIVE,
        modelId=request.model,
        content=question.content(paths),
        systemPrompt=question.systemPrompt,
        tools=list(offer.definitions) or None if offer is not None else None,
        attachments=attachments or None,
        sampling=samplingFromRequest(request, offer),
        cwd=cwd,
        allowedTools=list(allowedTools) or None,
        disallowedTools=list(disallowedTools) or None,
    )
