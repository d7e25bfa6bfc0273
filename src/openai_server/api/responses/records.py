# -*- test-case-name: tests.api.responses.test_records -*-
"""
What is kept of a response: its object, and the items that were its input.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from openai_server.api.arguments import argumentsText
from openai_server.api.keeping import RecordsFound
from openai_server.errors import APIError

Item: TypeAlias = "dict[str, Any]"

#: Digits of a conversation's id: what its items are known by begins with them.
CONVERSATION_DIGITS: Final = 16

# An item's id names its response, and the conversation of that.
_itemId = re.compile(r"[a-z]+_([0-9a-f]{32})_[a-z0-9]+")
_conversationId = re.compile(rf"conv_([0-9a-f]{{{CONVERSATION_DIGITS}}})")
# What can stand in a path, and in every store.
_fitId = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_CALLS = ("function_call", "custom_tool_call")
_RESULTS = ("function_call_output", "custom_tool_call_output")
_PREFIXES = {
    "message": "msg",
    "compaction": "cmp",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "reasoning": "rs",
}
_WITH_STATUS = frozenset({"message", "function_call", "function_call_output"})


def _opensNothing(token: str) -> str | None:
    return None


class Answer(msgspec.Struct):
    """
    What is read of a response's object.
    """

    model: str
    output: list[Item]
    conversation: Any = None

    @property
    def text(self) -> str:
        """
        All that it says, without reasoning and refusals.
        """
        messages = [item for item in self.output if item["type"] == "message"]
        parts = [part for item in messages for part in item["content"]]
        return "".join([part["text"] for part in parts if part["type"] == "output_text"])


class Record(msgspec.Struct):
    """
    What is kept.

    @ivar input: the items of the request alone, each with an id.
    @ivar response: the response's object.
    @ivar output: the row of events that it was made from, for its stream. Its
        text is the response's.
    @ivar showsReasoning: whether reasoning is among its items.
    @ivar showsTools: whether tools that the worker ran are.
    """

    input: list[Item]
    response: msgspec.Raw
    output: msgspec.Raw
    showsReasoning: bool
    showsTools: bool

    @property
    def items(self) -> list[Item]:
        """
        All items of the request and its answer, in order.
        """
        return [*self.input, *self.answer.output]

    @property
    def answer(self) -> Answer:
        """
        The response.
        """
        return msgspec.json.decode(self.response, type=Answer)


class ConversationRecord(msgspec.Struct):
    """
    What is kept of a conversation beside its items.

    @ivar createdAt: seconds since 1970.
    @ivar isWhole: whether it has all that was said in it.
    """

    createdAt: int
    metadata: dict[str, str]
    isWhole: bool = True


class History(msgspec.Struct):
    """
    What a request goes on from.

    @ivar items: all that was said before it.
    @ivar known: items that it may refer to, by their ids.
    @ivar model: the last response's.
    @ivar source: the name of the field that says what it goes on from.
    @ivar opened: returns the text of a compaction's token, None if there is
        none for this account.
    """

    items: list[Item]
    known: dict[str, Item]
    model: str | None = None
    source: str = "previous_response_id"
    opened: Callable[[str], str | None] = _opensNothing


#: What most requests go on from.
NO_HISTORY = History([], {})

readRecord = msgspec.json.Decoder(Record).decode
readConversation = msgspec.json.Decoder(ConversationRecord).decode
_readItem = msgspec.json.Decoder(dict[str, Any]).decode


def historyFrom(found: RecordsFound) -> History:
    """
    Return what these records tell.

    @raise APIError: 400, a request cannot go on from them.
    """
    records = list(map(readRecord, found.chain))
    answers = [record.answer for record in records]
    if any(answer.conversation for answer in answers):
        said = "This response is one of a conversation: send 'conversation' in its place."
        raise APIError("unsupported_value", said, param="previous_response_id")
    items = [
        item for record, answer in zip(records, answers, strict=True) for item in record.input + answer.output
    ]
    if found.conversation is not None:
        if not readConversation(found.conversation).isWhole:
            said = "This conversation lacks an answer that was too large for it: go on in a new one."
            raise APIError("invalid_value", said, param="conversation")
        items = list(map(_readItem, found.said))
    known = knownFrom(found) | _byId(items)
    source = "previous_response_id" if found.conversation is None else "conversation"
    opened = _opensNothing if found.seal is None else found.seal.open
    return History(items, known, answers[-1].model if answers else None, source, opened)


def knownFrom(found: RecordsFound) -> dict[str, Item]:
    """
    Return the items that a request may refer to, by their ids, without those
    that it goes on from.
    """
    others = [item for each in found.others for item in readRecord(each).items]
    return _byId([*others, *map(_readItem, found.items)])


def _byId(items: Sequence[Item]) -> dict[str, Item]:
    return {item["id"]: item for item in items if isinstance(item.get("id"), str)}


def resolved(items: Sequence[Any], known: Mapping[str, Item]) -> tuple[Any, ...]:
    """
    Return items, with those that are known in the places of their references.
    """
    return tuple([known.get(each["id"], each) if isReference(each) else each for each in items])


def isReference(item: Any) -> bool:
    """
    Return whether an item of an input only names another one.
    """
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        return False
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and item.get("role") is None)


def isSealed(item: Any) -> bool:
    """
    Return whether an item of an input is one that only this server can read.
    """
    return isinstance(item, dict) and item.get("type") == "compaction"


def namedBy(items: object) -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
    """
    Return where the items may be that an input refers to: the ids of their
    responses, and those of their conversations, each with the item's.
    """
    others, single = set(), set()
    for item in items if isinstance(items, (list, tuple)) else ():
        if isReference(item) and (found := _itemId.fullmatch(item["id"])):
            others.add(f"resp_{found[1]}")
            single.add((f"conv_{found[1][:CONVERSATION_DIGITS]}", item["id"]))
    return frozenset(others), frozenset(single)


def checkResults(items: Sequence[Any], history: Sequence[Item]) -> None:
    """
    Check that the results in an input are of calls that are known, in a request
    that goes on from a response: then nothing else can be meant.

    @param history: all that was said before it.
    @raise APIError: 400, as OpenAI's API has it.
    """
    calls = {_callIn(item, _CALLS) for item in (*history, *items)}
    for index, item in enumerate(items):
        call = _callIn(item, _RESULTS)
        if call is not None and call not in calls:
            said = "No tool call found for this output: the response that the request goes on from has none."
            raise APIError("invalid_value", said, param=f"input[{index}].call_id")


def _callIn(item: Any, kinds: Sequence[str]) -> str | None:
    # Nothing else of an item is judged yet.
    if not isinstance(item, dict) or item.get("type") not in kinds:
        return None
    call = item.get("call_id")
    return call if isinstance(call, str) else None


def tokenIn(conversation: str, token: str) -> str:
    """
    Return what ids have in common that are given in a conversation.

    @param token: what they would have in common elsewhere.
    """
    found = _conversationId.fullmatch(conversation)
    return token if found is None else found[1] + token[-CONVERSATION_DIGITS:]


def keptItems(found: str | Sequence[Any], token: str, taken: Iterable[str] = ()) -> list[Item]:
    """
    Return the items of an input as they are kept, each with an id that no
    other one has: its own where that is possible.

    @param token: what the ids that are given here have in common.
    @param taken: ids that others have.
    """
    items: Sequence[Any] = [{"role": "user", "content": found}] if isinstance(found, str) else found
    used = set(taken)
    kept = []
    for index, item in enumerate(items):
        kind, own = item.get("type") or "message", item.get("id")
        if not isinstance(own, str) or own in used or not _fitId.fullmatch(own):
            own = f"{_PREFIXES.get(kind, 'item')}_{token}_in{index}"
        used.add(own)
        kept.append(_kept({**item, "id": own, "type": kind}))
    return kept


def entriesFrom(items: Sequence[Item]) -> list[tuple[str, bytes]]:
    """
    Return items as a conversation keeps them.
    """
    return [(item["id"], msgspec.json.encode(item)) for item in items]


def _kept(item: Item) -> Item:
    """
    Return an item with all that OpenAI's document wants in it.
    """
    kept = {"id": item["id"], "type": item["type"]}
    kept |= {name: value for name, value in item.items() if value is not None}
    kind = kept["type"]
    if kind in _WITH_STATUS:
        kept.setdefault("status", "completed")
    if kind == "function_call":
        kept["arguments"] = argumentsText(kept.get("arguments"))
    elif kind == "message":
        isAnswer = kept.get("role") == "assistant"
        content = kept.get("content", "")
        if isinstance(content, str):
            content = [{"type": "output_text" if isAnswer else "input_text", "text": content}]
        kept["content"] = list(map(_keptPart, content))
    elif isinstance(kept.get("output"), list):
        kept["output"] = list(map(_keptPart, kept["output"]))
    return kept


def _keptPart(part: Item) -> Item:
    kept = {name: value for name, value in part.items() if value is not None}
    if kept["type"] == "output_text":
        kept.setdefault("annotations", [])
    elif kept["type"] == "input_image":
        kept.setdefault("detail", "auto")
        if isinstance(kept.get("image_url"), dict):
            kept["image_url"] = kept["image_url"]["url"]
    return kept
