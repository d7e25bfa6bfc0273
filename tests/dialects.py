"""
Two APIs for the same tests. These ask in the words of chat completions and
look at answers in those; a client of the Responses API says the same in its
own words, and its answers are read back. What else the two do differently is
said here once, beside each other.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol, TypeVar

from tests.api.responses.grammar import Grammar, checkResponse, eventsFrom

_Case = TypeVar("_Case", bound=type)


class Reading(Protocol):
    """
    What a client has read.
    """

    @property
    def status(self) -> int | None: ...

    @property
    def isStream(self) -> bool: ...

    @property
    def isComplete(self) -> bool: ...

    @property
    def content(self) -> bytes: ...

    @property
    def json(self) -> Any: ...

    @property
    def events(self) -> list[Any]: ...

    @property
    def deltas(self) -> list[Any]: ...


class API(Protocol):
    """
    One of them.

    @ivar path: where its requests go.
    @ivar messages: the field that has the conversation.
    @ivar image: how an address of an image is named, within its part.
    @ivar isCut: a stream that fails ends without its end, and so does its
        connection; else it says itself that it has failed, and ends well.
    """

    path: str
    messages: str
    image: str
    isCut: bool

    def body(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        Say what chat would be asked so.
        """

    def knows(self, *fields: str) -> bool:
        """
        Return whether there are words for all of these fields of chat's.
        """

    def text(self, client: Reading) -> str:
        """
        Return the text of a stream so far.
        """

    def calls(self, client: Reading) -> list[dict[str, Any]]:
        """
        Return the tool calls of the answer.
        """

    def message(self, client: Reading) -> dict[str, Any]:
        """
        Return the message of a whole answer.
        """

    def finishReason(self, client: Reading) -> str | None:
        """
        Return how an answer says that it is finished.
        """

    def failure(self, client: Reading) -> dict[str, Any] | None:
        """
        Return the error that a stream ends with.
        """

    def code(self, code: str) -> str:
        """
        Return how such an error names what is this code elsewhere.
        """

    def usage(self, client: Reading) -> dict[str, Any]:
        """
        Return what the answer has cost.
        """

    def isKeepAlive(self, event: Any) -> bool:
        """
        Return whether an event says no more than that somebody is there.
        """

    def check(self, client: Reading) -> None:
        """
        Check the answer, as far as it has come, against all that is known of
        its form.
        """


class Chat:
    """
    Chat completions.
    """

    path = "/v1/chat/completions"
    messages = "messages"
    image = "image_url.url"
    isCut = True

    def body(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        return asked

    def knows(self, *fields: str) -> bool:
        return True

    def text(self, client: Reading) -> str:
        return "".join(delta.get("content") or "" for delta in client.deltas)

    def calls(self, client: Reading) -> list[dict[str, Any]]:
        if not client.isStream:
            return self.message(client).get("tool_calls", [])  # type: ignore[no-any-return]
        made: dict[int, dict[str, Any]] = {}
        for delta in client.deltas:
            for piece in delta.get("tool_calls", ()):
                call = made.setdefault(piece["index"], {"id": piece.get("id"), "function": {"arguments": ""}})
                function = piece.get("function", {})
                call["function"]["name"] = function.get("name", call["function"].get("name"))
                call["function"]["arguments"] += function.get("arguments", "")
        return [made[index] for index in sorted(made)]

    def message(self, client: Reading) -> dict[str, Any]:
        message: dict[str, Any] = client.json["choices"][0]["message"]
        return message

    def finishReason(self, client: Reading) -> str | None:
        objects = client.events if client.isStream else [client.json]
        choices = [choice for each in objects if each != "[DONE]" for choice in each.get("choices", ())]
        reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
        assert len(reasons) <= 1, reasons
        return reasons[0] if reasons else None

    def failure(self, client: Reading) -> dict[str, Any] | None:
        last = client.events[-1]
        return None if last == "[DONE]" else last.get("error")

    def code(self, code: str) -> str:
        return code

    def usage(self, client: Reading) -> dict[str, Any]:
        usage: dict[str, Any] = (client.events[-2] if client.isStream else client.json)["usage"]
        return usage

    def isKeepAlive(self, event: Any) -> bool:
        return event != "[DONE]" and [choice["delta"] for choice in event["choices"]] == [{}]

    def check(self, client: Reading) -> None:
        failures = [event for event in client.events if "error" in event] if client.isStream else []
        assert not failures or (client.events[-1:] == failures and not client.isComplete), client.events


class Responses:
    """
    The Responses API. Nothing is kept: what is, outlives its client.
    """

    path = "/v1/responses"
    messages = "input"
    image = "image_url"
    isCut = False

    #: What is said with every question: all that may be shown is wanted.
    _ALWAYS: ClassVar[Mapping[str, Any]] = {"store": False, "reasoning": {"summary": "auto"}}
    _REASONS: ClassVar[Mapping[str, str]] = {
        "max_output_tokens": "length",
        "content_filter": "content_filter",
    }
    #: What chat's fields are called, where that is all.
    _NAMES: ClassVar[Mapping[str, str]] = {
        "max_tokens": "max_output_tokens",
        "max_completion_tokens": "max_output_tokens",
    }
    #: What there is no word for.
    _UNKNOWN: ClassVar[frozenset[str]] = frozenset({"stop", "seed", "n", "functions", "function_call"})
    _CODES: ClassVar[frozenset[str]] = frozenset(
        {"context_length_exceeded", "insufficient_quota", "rate_limit_exceeded"}
    )

    # A question.

    def body(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        said: dict[str, Any] = {**self._ALWAYS}
        for name, value in asked.items():
            assert self.knows(name), name
            if name == "messages":
                said["input"] = [item for message in value for item in self._items(message)]
            elif name == "tools":
                said[name] = [self._flat(tool) for tool in value]
            elif name == "tool_choice":
                said[name] = value if isinstance(value, str) else self._choice(value)
            elif name == "response_format":
                said["text"] = {"format": self._flat(value)}
            elif name != "stream_options":
                # That is for usage alone, which is always told here.
                said[self._NAMES.get(name, name)] = value
        return said

    def knows(self, *fields: str) -> bool:
        return self._UNKNOWN.isdisjoint(fields)

    def _flat(self, value: Mapping[str, Any]) -> dict[str, Any]:
        kind = value["type"]
        return {"type": kind, **value.get(kind, {})}

    def _choice(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        flat = self._flat(choice)
        if "tools" in flat:
            flat["tools"] = [self._flat(tool) for tool in flat["tools"]]
        return flat

    def _items(self, message: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
        role, content = message["role"], message.get("content")
        if role == "tool":
            output = self._content(content, "input_text")
            yield {"type": "function_call_output", "call_id": message["tool_call_id"], "output": output}
            return
        assert role != "function", message
        calls = message.get("tool_calls", ())
        if content is not None or not calls:
            kind = "output_text" if role == "assistant" else "input_text"
            named = {"name": message["name"]} if "name" in message else {}
            yield {"type": "message", "role": role, "content": self._content(content, kind), **named}
        for call in calls:
            kind = call["type"]
            written = {"function": "function_call", "custom": "custom_tool_call"}[kind]
            yield {"type": written, "call_id": call["id"], **call[kind]}

    def _content(self, content: Any, textKind: str) -> Any:
        if not isinstance(content, list):
            return content
        parts = []
        for part in content:
            kind = part["type"]
            if kind == "text":
                parts.append({**part, "type": textKind})
            elif kind == "image_url":
                parts.append({"type": "input_image", "image_url": part["image_url"]["url"]})
            else:
                parts.append({"type": f"input_{kind}", **part[kind]})
        return parts

    # An answer.

    def _response(self, client: Reading) -> dict[str, Any] | None:
        # What it came to, None as long as it has come to nothing.
        if not client.isStream:
            found: dict[str, Any] = client.json
            return found
        last = [event for event in client.events if event != "[DONE]"][-1:]
        kinds = ("response.completed", "response.incomplete", "response.failed")
        return last[0]["response"] if last and last[0]["type"] in kinds else None

    def _output(self, client: Reading) -> Sequence[dict[str, Any]]:
        response = self._response(client)
        if response is not None:
            items: list[dict[str, Any]] = response["output"]
            return items
        return [event["item"] for event in client.events if event["type"] == "response.output_item.done"]

    def text(self, client: Reading) -> str:
        events = [event for event in client.events if event != "[DONE]"]
        return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")

    def calls(self, client: Reading) -> list[dict[str, Any]]:
        made = []
        for item in self._output(client):
            if item["type"] == "function_call":
                function = {"name": item["name"], "arguments": item["arguments"]}
                made.append({"id": item["call_id"], "type": "function", "function": function})
            elif item["type"] == "custom_tool_call":
                custom = {"name": item["name"], "input": item["input"]}
                made.append({"id": item["call_id"], "type": "custom", "custom": custom})
        return made

    def message(self, client: Reading) -> dict[str, Any]:
        items = self._output(client)
        parts = [part for item in items if item["type"] == "message" for part in item["content"]]
        text = "".join(part["text"] for part in parts if part["type"] == "output_text")
        thoughts = [part for item in items if item["type"] == "reasoning" for part in item["summary"]]
        message: dict[str, Any] = {"role": "assistant", "content": text if parts else None, "refusal": None}
        if calls := self.calls(client):
            message["tool_calls"] = calls
        if thoughts:
            message["reasoning_content"] = "".join(part["text"] for part in thoughts)
        return message

    def finishReason(self, client: Reading) -> str | None:
        response = self._response(client)
        if response is None or response.get("status") not in ("completed", "incomplete"):
            return None
        if response["status"] == "incomplete":
            return self._REASONS[response["incomplete_details"]["reason"]]
        return "tool_calls" if self.calls(client) else "stop"

    def failure(self, client: Reading) -> dict[str, Any] | None:
        error: dict[str, Any] | None = (self._response(client) or {}).get("error")
        return error

    def code(self, code: str) -> str:
        return code if code in self._CODES else "server_error"

    def usage(self, client: Reading) -> dict[str, Any]:
        response = self._response(client)
        assert response is not None
        usage = response["usage"]
        return {
            "prompt_tokens": usage["input_tokens"],
            "completion_tokens": usage["output_tokens"],
            "total_tokens": usage["total_tokens"],
            "prompt_tokens_details": usage["input_tokens_details"],
        }

    def isKeepAlive(self, event: Any) -> bool:
        return event != "[DONE]" and event["type"] == "keepalive"

    def check(self, client: Reading) -> None:
        if client.status != 200:
            return
        if not client.isStream:
            if client.isComplete:
                checkResponse(client.json)
        elif client.isComplete:
            response = Grammar().check(eventsFrom(client.content))
            # Nothing that was open when it failed looks complete.
            open = [item for item in response["output"][-1:] if item["type"] in ("message", "reasoning")]
            if response["status"] == "failed" and open:
                assert open[0]["status"] == "incomplete", open
        else:
            Grammar().checkBeginning([event for event in client.events if event != "[DONE]"])


CHAT: Final[API] = Chat()
RESPONSES: Final[API] = Responses()


def inBothAPIs(case: _Case) -> _Case:
    """
    Let each test of a class, whose clients use chat completions, be run once
    more with clients of the Responses API, in a class of its own beside it:
    that of C{XTests} is C{XResponsesTests}.
    """
    name = twinName(case.__name__)
    said = f"L{{{case.__name__}}} with clients of the Responses API."
    members = {"api": RESPONSES, "__module__": case.__module__, "__qualname__": name, "__doc__": said}
    setattr(sys.modules[case.__module__], name, type(name, (case,), members))
    return case


def twinName(name: str) -> str:
    """
    Return the name of the class that has the same tests for the other API.
    """
    return f"{name.removesuffix('Tests')}ResponsesTests"
