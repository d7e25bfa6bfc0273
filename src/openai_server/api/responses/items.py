# -*- test-case-name: tests.api.responses.test_render -*-
"""
The items of an answer, as bytes: what each is when it is added and when it is
done, and the events between.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from openai_server.api.inquiry import Call
from openai_server.api.output import WorkerTool
from openai_server.api.sse import jsonLine

#: How an item ends.
Ending: TypeAlias = Literal["completed", "incomplete"]

#: Of tools whose names do not tell their server.
_NO_SERVER: Final = "worker"
#: What stands in an answer that was refused without a word.
REFUSAL: Final = "The model declined to answer."


class Part:
    """
    Something that is said piece by piece, as one part of an item.

    @cvar prefix: of its item's id.
    @cvar delta: the type of the event of one more piece, and what else that
        says.
    """

    prefix = b"msg"
    delta = b"response.output_text.delta"
    deltaMembers = b'"content_index":0,"logprobs":[],'

    @staticmethod
    def item(id: bytes, status: str, content: bytes) -> bytes:
        """
        Return the item.

        @param content: its part, empty when there is none yet.
        """
        return b'{"id":"%b","type":"message","status":"%b","role":"assistant","content":[%b]}' % (
            id,
            status.encode(),
            content,
        )

    @staticmethod
    def part(text: bytes) -> bytes:
        """
        Return the part.

        @param text: as JSON.
        """
        return b'{"type":"output_text","text":%b,"annotations":[],"logprobs":[]}' % text

    @staticmethod
    def added(part: bytes) -> tuple[bytes, bytes]:
        """
        Return type and members of the event that the part begins with.
        """
        return b"response.content_part.added", b'"content_index":0,"part":%b' % part

    @staticmethod
    def done(text: bytes, part: bytes) -> list[tuple[bytes, bytes]]:
        """
        Return type and members of each event that the part ends with.
        """
        return [
            (b"response.output_text.done", b'"content_index":0,"logprobs":[],"text":%b' % text),
            (b"response.content_part.done", b'"content_index":0,"part":%b' % part),
        ]


class RefusalPart(Part):
    """
    A refusal to answer.
    """

    delta = b"response.refusal.delta"
    deltaMembers = b'"content_index":0,'

    @staticmethod
    def part(text: bytes) -> bytes:
        return b'{"type":"refusal","refusal":%b}' % text

    @staticmethod
    def done(text: bytes, part: bytes) -> list[tuple[bytes, bytes]]:
        return [
            (b"response.refusal.done", b'"content_index":0,"refusal":%b' % text),
            (b"response.content_part.done", b'"content_index":0,"part":%b' % part),
        ]


class SummaryPart(Part):
    """
    Reasoning, as its summary.
    """

    prefix = b"rs"
    delta = b"response.reasoning_summary_text.delta"
    deltaMembers = b'"summary_index":0,'

    @staticmethod
    def item(id: bytes, status: str, content: bytes) -> bytes:
        return b'{"id":"%b","type":"reasoning","status":"%b","summary":[%b]}' % (
            id,
            status.encode(),
            content,
        )

    @staticmethod
    def part(text: bytes) -> bytes:
        return b'{"type":"summary_text","text":%b}' % text

    @staticmethod
    def added(part: bytes) -> tuple[bytes, bytes]:
        return b"response.reasoning_summary_part.added", b'"summary_index":0,"part":%b' % part

    @staticmethod
    def done(text: bytes, part: bytes) -> list[tuple[bytes, bytes]]:
        return [
            (b"response.reasoning_summary_text.done", b'"summary_index":0,"text":%b' % text),
            (b"response.reasoning_summary_part.done", b'"summary_index":0,"part":%b' % part),
        ]


class WholeItem:
    """
    An item that is known as a whole when it is shown.

    @ivar begun: the item as it is added.
    @ivar item: the item as it is done.
    @ivar events: type and members of each event between the two.
    """

    __slots__ = ("begun", "events", "id", "item")

    def __init__(self, id: bytes, begun: bytes, item: bytes, events: list[tuple[bytes, bytes]]) -> None:
        self.id = id
        self.begun = begun
        self.item = item
        self.events = events


def itemFromCall(call: Call, own: bytes) -> WholeItem:
    """
    Return the item of a call that the client is to answer.

    @param own: what tells the item's id from those of others.
    """
    named = b'"call_id":%b,"name":%b' % (jsonLine(call.id), jsonLine(call.name))
    said = jsonLine(call.arguments)
    if call.kind == "custom":
        id = b"ctc_%b" % own
        written = b'{"id":"%b","type":"custom_tool_call",%b,"input":%b}'
        return WholeItem(
            id,
            written % (id, named, b'""'),
            written % (id, named, said),
            [
                (b"response.custom_tool_call_input.delta", b'"delta":%b' % said),
                (b"response.custom_tool_call_input.done", b'"input":%b' % said),
            ],
        )
    id = b"fc_%b" % own
    written = b'{"id":"%b","type":"function_call","status":"%b",%b,"arguments":%b}'
    return WholeItem(
        id,
        written % (id, b"in_progress", named, b'""'),
        written % (id, b"completed", named, said),
        [
            (b"response.function_call_arguments.delta", b'"delta":%b' % said),
            (
                b"response.function_call_arguments.done",
                b'"name":%b,"arguments":%b' % (jsonLine(call.name), said),
            ),
        ],
    )


def itemFromTool(tool: WorkerTool, own: bytes) -> WholeItem:
    """
    Return the item of a tool that the worker ran, or began to run.

    @param own: what tells the item's id from those of others.
    """
    id = b"mcp_%b" % own
    server, name = _serverAndName(tool.name)
    status, output, error = b"incomplete", b"null", b"null"
    events: list[tuple[bytes, bytes]] = [(b"response.mcp_call.in_progress", b"")]
    said = jsonLine(tool.arguments)
    if tool.isDone:
        events += [
            (b"response.mcp_call_arguments.delta", b'"delta":%b' % said),
            (b"response.mcp_call_arguments.done", b'"arguments":%b' % said),
        ]
    if tool.isDone and tool.isError:
        status = b"failed"
        content = b'[{"type":"text","text":%b}]' % jsonLine(tool.output)
        error = b'{"type":"mcp_tool_execution_error","content":%b}' % content
        events.append((b"response.mcp_call.failed", b""))
    elif tool.isDone:
        status, output = b"completed", jsonLine(tool.output)
        events.append((b"response.mcp_call.completed", b""))
    written = (
        b'{"id":"%b","type":"mcp_call","status":"%b","approval_request_id":null,"server_label":%b,"name":%b,'
        b'"arguments":%b,"output":%b,"error":%b}'
    )
    named = (jsonLine(server), jsonLine(name))
    return WholeItem(
        id,
        written % (id, b"in_progress", *named, b'""', b"null", b"null"),
        written % (id, status, *named, said, output, error),
        events,
    )


def _serverAndName(name: str) -> tuple[str, str]:
    # As workers name the tools of MCP servers.
    server, _, own = name.removeprefix("mcp__").partition("__")
    return (server, own) if name.startswith("mcp__") and server and own else (_NO_SERVER, name)
