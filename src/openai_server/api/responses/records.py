# -*- test-case-name: tests.api.responses.test_records -*-
"""
What is kept of a response: its object, and the items that were its input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

Item: TypeAlias = "dict[str, Any]"

# An item's id names its response.
_itemId = re.compile(r"[a-z]+_([0-9a-f]{32})_[a-z0-9]+")
_PREFIXES = {"message": "msg", "function_call_output": "fco", "custom_tool_call_output": "ctco"}


class Answer(msgspec.Struct):
    """
    What is read of a response's object.
    """

    model: str
    output: list[Item]


class Record(msgspec.Struct):
    """
    What is kept.

    @ivar input: the items of the request alone, each with an id.
    @ivar response: the response's object.
    @ivar output: the row of events that it was made from, for its stream.
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


class History(msgspec.Struct):
    """
    What a request goes on from.

    @ivar items: all that was said before it.
    @ivar known: items that it may refer to, by their ids.
    @ivar model: the last response's.
    """

    items: list[Item]
    known: dict[str, Item]
    model: str | None = None


#: What most requests go on from.
NO_HISTORY = History([], {})

readRecord = msgspec.json.Decoder(Record).decode


def historyFrom(chain: Sequence[bytes], others: Mapping[str, bytes]) -> History:
    """
    Return what these records tell.

    @param chain: those that a request goes on from, the oldest first.
    @param others: those that have something which it refers to.
    """
    records = list(map(readRecord, chain))
    items = [item for record in records for item in record.items]
    further = [item for each in others.values() for item in readRecord(each).items]
    known = {item["id"]: item for item in (*further, *items) if isinstance(item.get("id"), str)}
    return History(items, known, records[-1].answer.model if records else None)


def isReference(item: Any) -> bool:
    """
    Return whether an item of an input only names another one.
    """
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        return False
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and item.get("role") is None)


def namedBy(items: object) -> frozenset[str]:
    """
    Return the ids of the records whose items an input refers to.
    """
    others = set()
    for item in items if isinstance(items, (list, tuple)) else ():
        if isReference(item) and (found := _itemId.fullmatch(item["id"])):
            others.add(f"resp_{found[1]}")
    return frozenset(others)


def keptItems(found: str | Sequence[Any], token: str) -> list[Item]:
    """
    Return the items of an input as they are kept.

    @param token: what their ids have in common.
    """
    items: Sequence[Any] = [{"role": "user", "content": found}] if isinstance(found, str) else found
    return [_kept(item, f"{token}_in{index}") for index, item in enumerate(items)]


def _kept(item: Item, own: str) -> Item:
    kind = item.get("type") or "message"
    kept = {"id": f"{_PREFIXES.get(kind, 'item')}_{own}", "type": kind}
    kept |= {name: value for name, value in item.items() if value is not None}
    if kind != "message":
        return kept
    kept.setdefault("status", "completed")
    content = kept.get("content")
    if isinstance(content, str):
        isAnswer = kept.get("role") == "assistant"
        part: Item = {"type": "output_text" if isAnswer else "input_text", "text": content}
        kept["content"] = [{**part, "annotations": []} if isAnswer else part]
    return kept
