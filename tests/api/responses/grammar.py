"""
What a stream of a response must be: the order of its events, their numbers and
ids, what their pieces join to, and the types that the C{openai} package has for
them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from openai.types.conversations import (
    Conversation,
    ConversationDeletedResource,
    ConversationItem,
    ConversationItemList,
)
from openai.types.responses import CompactedResponse, Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

#: Members of the response object, by OpenAI's document and Open Responses.
MEMBERS: Final = frozenset(
    {
        "background",
        "completed_at",
        "created_at",
        "error",
        "frequency_penalty",
        "id",
        "incomplete_details",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "object",
        "output",
        "parallel_tool_calls",
        "presence_penalty",
        "previous_response_id",
        "prompt_cache_key",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "status",
        "store",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "usage",
    }
)
#: What OpenAI's document requires and its package does not know.
_BEYOND: Final = {
    ("Response", "frequency_penalty"),
    ("Response", "presence_penalty"),
    ("Response", "store"),
    ("ResponseFunctionCallArgumentsDoneEvent", "name"),
}
#: Codes that agents act upon, of which the package does not know.
_CODES: Final = {"context_length_exceeded", "insufficient_quota"}

_EVENT: Final[TypeAdapter[Any]] = TypeAdapter(ResponseStreamEvent)
_RESPONSE: Final = TypeAdapter(Response)
_CONVERSATION: Final = TypeAdapter(Conversation)
_DELETED: Final = TypeAdapter(ConversationDeletedResource)
_ITEM: Final[TypeAdapter[Any]] = TypeAdapter(ConversationItem)
_ITEMS: Final = TypeAdapter(ConversationItemList)
_COMPACTION: Final = TypeAdapter(CompactedResponse)

_TERMINAL: Final = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}
#: By what an item begins with: the type of its one part, the events of that, and
#: the member that has all of its text.
_PIECEWISE: Final = {
    "output_text": ("response.content_part", "response.output_text", "text"),
    "refusal": ("response.content_part", "response.refusal", "refusal"),
    "summary_text": ("response.reasoning_summary_part", "response.reasoning_summary_text", "text"),
}
_ARGUMENTS: Final = {
    "function_call": ("response.function_call_arguments", "arguments"),
    "custom_tool_call": ("response.custom_tool_call_input", "input"),
    "mcp_call": ("response.mcp_call_arguments", "arguments"),
}


def eventsFrom(stream: bytes) -> list[dict[str, Any]]:
    """
    The events of a whole stream, each framed as it must be. The last one,
    which is no object, is checked and left out.
    """
    assert stream.endswith(b"\n\n"), stream[-200:]
    *framed, done = stream.decode().removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]", done
    events = []
    for each in framed:
        assert len(each.splitlines()) == 2, each
        first, second = each.split("\n")
        assert second.startswith("data: "), each
        event = json.loads(second.removeprefix("data: "))
        assert first == f"event: {event['type']}", each
        events.append(event)
    return events


def checkTypes(value: Mapping[str, Any], adapter: TypeAdapter[Any] = _EVENT) -> None:
    """
    Check an object against the package's types: nothing missing, nothing that
    these do not know.
    """
    told: Any = json.loads(json.dumps(value))
    response = told if adapter is _RESPONSE else told.get("response")
    if response is not None:
        assert response.keys() - {"user", "conversation"} == MEMBERS, response.keys() ^ MEMBERS
        if response["error"] is not None and response["error"]["code"] in _CODES:
            response["error"]["code"] = "server_error"
    _checkExtra(adapter.validate_python(told))


def checkResponse(value: Mapping[str, Any]) -> None:
    """
    Check a whole response object against the package's types.
    """
    checkTypes(value, _RESPONSE)


def checkConversation(value: Mapping[str, Any]) -> None:
    """
    Check a conversation, or that it was deleted.
    """
    checkTypes(value, _DELETED if "deleted" in value else _CONVERSATION)


def checkItem(value: Mapping[str, Any]) -> None:
    """
    Check an item of a conversation.
    """
    checkTypes(value, _ITEM)


def checkItems(value: Mapping[str, Any]) -> None:
    """
    Check a page of the items of a conversation; the package does not know that
    an empty one has no first and no last.
    """
    ids = [item["id"] for item in value["data"]]
    assert (value["first_id"], value["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None)), value
    checkTypes(value if ids else {**value, "first_id": "", "last_id": ""}, _ITEMS)


def checkCompaction(value: Mapping[str, Any]) -> None:
    """
    Check a compaction against the package's types: it has one item.
    """
    checkTypes(value, _COMPACTION)
    (item,) = value["output"]
    assert value.keys() == {"id", "object", "created_at", "output", "usage"}, value
    assert item.keys() == {"id", "type", "encrypted_content"} and item["type"] == "compaction", item


def _checkExtra(value: object) -> None:
    if isinstance(value, BaseModel):
        for name in value.model_extra or ():
            assert (type(value).__name__, name) in _BEYOND, (type(value).__name__, name)
        for name in type(value).model_fields:
            _checkExtra(getattr(value, name))
    elif isinstance(value, list):
        for each in value:
            _checkExtra(each)


class Grammar:
    """
    Reads events one by one, and asserts that each may stand where it does.

    @ivar response: the object of the last event that had one.
    """

    def __init__(self) -> None:
        self._left: list[dict[str, Any]] = []
        self._items: list[dict[str, Any]] = []
        self.response: dict[str, Any] = {}

    def check(self, events: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """
        Check a whole stream.

        @return: the response that it ends with.
        """
        number = -1
        for event in events:
            if event["type"] == "keepalive":
                # It is no event of the response's, and repeats the last one's number.
                assert number >= 0 and event.keys() == {"type", "sequence_number"}, event
            else:
                number += 1
                checkTypes(event)
            assert event["sequence_number"] == number, (number, event)
        self._left = [event for event in events if event["type"] != "keepalive"][::-1]
        beginnings = [("response.created", "in_progress"), ("response.in_progress", "in_progress")]
        if self._left[-1]["response"]["background"]:
            beginnings[:1] = [("response.created", "queued"), ("response.queued", "queued")]
        for kind, status in beginnings:
            self._lifecycle(self._take(kind), status)
            assert self.response["output"] == [] and self.response["usage"] is None
        while self._left[-1]["type"] == "response.output_item.added":
            self._item()
        last = self._left.pop()
        self._lifecycle(last, _TERMINAL[last["type"]])
        assert self._left == [], self._left
        assert self.response["output"] == self._items, (self.response["output"], self._items)
        return self.response

    def _take(self, kind: str) -> dict[str, Any]:
        event = self._left.pop()
        assert event["type"] == kind, (kind, event)
        return event

    def _lifecycle(self, event: dict[str, Any], status: str) -> None:
        response = event["response"]
        former, self.response = self.response or response, response
        changing = {"status", "output", "usage", "completed_at", "error", "incomplete_details"}
        assert response["status"] == status, event
        for name in MEMBERS - changing:
            assert response[name] == former[name], name
        assert (response["completed_at"] is None) == (status != "completed")
        assert (response["error"] is None) == (status != "failed")
        assert (response["incomplete_details"] is None) == (status != "incomplete")
        assert (response["usage"] is None) == (status in ("queued", "in_progress"))

    def _item(self) -> None:
        added = self._take("response.output_item.added")
        begun = added["item"]
        index = len(self._items)
        assert added["output_index"] == index, added
        assert begun["id"] and begun["id"] not in {item["id"] for item in self._items}
        place = {"item_id": begun["id"], "output_index": index}
        kind = begun["type"]
        assert begun.get("status", "in_progress") == "in_progress"
        said = self._part(place, kind) if kind in ("message", "reasoning") else self._arguments(place, begun)
        done = self._take("response.output_item.done")
        item = done["item"]
        assert done["output_index"] == index
        for name in ("id", "type", "call_id", "name", "server_label"):
            assert item.get(name) == begun.get(name), (name, item)
        assert item.get("status", "completed") in ("completed", "incomplete", "failed")
        if kind == "message":
            assert begun["content"] == [] and item["content"] == [said]
        elif kind == "reasoning":
            assert begun["summary"] == [] and item["summary"] == [said]
        else:
            name = _ARGUMENTS[kind][1]
            assert (begun[name], item[name]) == ("", said)
        self._items.append(item)

    def _at(self, event: dict[str, Any], place: Mapping[str, Any]) -> dict[str, Any]:
        assert event.items() >= place.items(), (place, event)
        return event

    def _part(self, place: dict[str, Any], kind: str) -> dict[str, Any]:
        index = "summary_index" if kind == "reasoning" else "content_index"
        place = {**place, index: 0}
        added = self._at(self._left.pop(), place)
        about, text, member = _PIECEWISE[added["part"]["type"]]
        assert added["type"] == f"{about}.added" and added["part"][member] == "", added
        said = ""
        while self._left[-1]["type"] == f"{text}.delta":
            delta = self._at(self._left.pop(), place)["delta"]
            assert delta, "an empty delta"
            said += delta
        done = self._at(self._take(f"{text}.done"), place)
        assert done[member] == said, done
        part: dict[str, Any] = self._at(self._take(f"{about}.done"), place)["part"]
        assert part == {**added["part"], member: said}, part
        return part

    def _arguments(self, place: dict[str, Any], begun: dict[str, Any]) -> str:
        about, member = _ARGUMENTS[begun["type"]]
        isTool = begun["type"] == "mcp_call"
        if isTool:
            self._at(self._take("response.mcp_call.in_progress"), place)
        said = ""
        if self._left[-1]["type"] == f"{about}.delta":
            while self._left[-1]["type"] == f"{about}.delta":
                said += self._at(self._left.pop(), place)["delta"]
            done = self._at(self._take(f"{about}.done"), place)
            assert done[member] == said
            assert done.get("name", begun["name"]) == begun["name"]
            if isTool:
                ended = self._at(self._left.pop(), place)
                assert ended["type"] in ("response.mcp_call.completed", "response.mcp_call.failed")
        else:
            assert isTool, "a call without its arguments"
        return said
