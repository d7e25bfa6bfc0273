# -*- test-case-name: tests.api.test_inquiry -*-
"""
What any dialect of OpenAI's asks, in words that belong to none of them.

A dialect makes an L{Inquiry} of a request's body, checked; what answers the
request reads nothing else of it. Where something in it may still prove wrong,
C{param} keeps the place at which the client wrote it.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

#: Who says a message. What answers a call is C{tool}'s.
Role: TypeAlias = Literal["system", "user", "assistant", "tool"]

#: A function takes JSON that follows a schema, a custom tool takes text.
ToolKind: TypeAlias = Literal["function", "custom"]


class Media(msgspec.Struct, frozen=True, gc=False):
    """
    A part of a message that is not text, as it was sent.

    @ivar source: an address of the schemes http, https or data, or bare
        base64.
    @ivar param: where C{source} stands in the request.
    @ivar format: of sound: C{wav} or C{mp3}.
    @ivar name: of a file.
    """

    kind: Literal["image", "audio", "video", "file"]
    source: str
    param: str
    format: str | None = None
    name: str | None = None


class Call(msgspec.Struct, frozen=True, gc=False):
    """
    One call of a tool.

    @ivar id: empty where the client's shape of calls has none.
    @ivar arguments: a function's arguments as JSON text, or a custom tool's
        input.
    """

    id: str
    name: str
    arguments: str
    kind: ToolKind = "function"


class Message(msgspec.Struct, frozen=True, gc=False):
    """
    One message.

    @ivar content: plain text as one string, everything else as parts. A
        refusal is what was said.
    @ivar name: of who said it, or of the tool whose result it is.
    @ivar calls: what the assistant called.
    @ivar callId: of the call that it is the result of; empty where the
        client's shape of results has none.
    """

    role: Role
    content: str | tuple[str | Media, ...] = ""
    name: str | None = None
    calls: tuple[Call, ...] = ()
    callId: str = ""

    @property
    def parts(self) -> tuple[str | Media, ...]:
        """
        The content as parts, none of them empty text.
        """
        content = self.content
        if type(content) is str:
            return (content,) if content else ()
        return tuple([part for part in content if part != ""])

    @property
    def text(self) -> str:
        """
        The words of the content, without what is not text.
        """
        content = self.content
        if type(content) is str:
            return content
        return "".join([part for part in content if type(part) is str])

    @property
    def hasMedia(self) -> bool:
        """
        Whether something in the content is not text.
        """
        return type(self.content) is not str and any(type(part) is Media for part in self.content)


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """
    One tool that the client answers for.

    @ivar parameters: the JSON Schema of a function's arguments, as sent.
    @ivar format: what a custom tool's input must look like, as sent.
    @ivar param: where it stands in the request.
    """

    kind: ToolKind
    name: str
    description: str = ""
    parameters: dict[str, Any] | None = None
    format: dict[str, Any] | None = None
    param: str = "tools"


class ToolChoice(msgspec.Struct, frozen=True):
    """
    Which tools the model may or must call.

    @ivar name: the one tool that must be called; C{mode} is C{required} then.
    @ivar allowed: the names that may be called, None for all.
    """

    mode: Literal["none", "auto", "required"] = "auto"
    name: str | None = None
    allowed: tuple[str, ...] | None = None


class Format(msgspec.Struct, frozen=True):
    """
    What shape the answer is to have.

    @ivar schema: the JSON Schema that the answer is to follow, as sent; a
        client may ask for C{schema} and send none.
    @ivar param: where the schema stands in the request.
    """

    kind: Literal["text", "json", "schema"] = "text"
    name: str = ""
    schema: dict[str, Any] | None = None
    description: str | None = None
    isStrict: bool | None = None
    param: str = ""


class Sampling(msgspec.Struct, frozen=True, gc=False):
    """
    How the model is to choose its words; None is the model's own way.
    """

    maxTokens: int | None = None
    temperature: float | None = None
    topP: float | None = None
    frequencyPenalty: float | None = None
    presencePenalty: float | None = None
    seed: int | None = None
    reasoningEffort: str | None = None
    verbosity: str | None = None


#: What most requests say of tools, format and sampling.
NO_CHOICE = ToolChoice()
PLAIN_TEXT = Format()
NO_SAMPLING = Sampling()


@runtime_checkable
class NamedAnswer(Protocol):
    """
    What a dialect keeps for an answer that has an id from its beginning.
    """

    @property
    def names(self) -> tuple[str, int]:
        """
        By what the answer is told from others to the same request: what its
        ids are made of, and when it was begun, in seconds since 1970.
        """

    def named(self, token: str, createdAt: int) -> NamedAnswer:
        """
        Return what writes another answer to the same request, which has these
        L{names}.
        """


class Inquiry(msgspec.Struct, frozen=True, kw_only=True):
    """
    One request.

    @ivar model: the id that was asked for, or the default.
    @ivar messages: those of the system at the head are the system prompt.
        None at all from a request that asks nothing: no model is asked, and
        the answer is empty.
    @ivar messagesParam: where they stand in the request.
    @ivar isStreamed: whether the answer is to come in pieces.
    @ivar wantsUsage: whether a stream is to tell what the answer cost.
    @ivar stop: strings at which the answer is cut; none is empty.
    @ivar tools: in the request's order, names distinct.
    @ivar toolsParam: where the tools stand in the request.
    @ivar isParallel: whether several calls may be made at once.
    @ivar showsCallIds: whether calls are shown with their ids. Where they are
        not, a result is told by its tool's name alone.
    @ivar user: the client's name for its end user.
    @ivar others: the messages of further questions, each asked by itself and
        answered behind the former ones, in the same answer.
    @ivar isIsolated: whether it is asked in a session of its own, which is
        used for nothing else.
    @ivar isBackground: whether it is answered before it is asked, and goes on
        with nobody attached.
    @ivar mayAct: whether the worker may use tools of its own, as the settings
        have it.
    @ivar ignored: names of fields that were accepted without effect, fit for
        a header.
    @ivar own: what the dialect needs again for the answer; nobody else reads
        it.
    """

    model: str
    messages: tuple[Message, ...]
    messagesParam: str = "messages"
    isStreamed: bool = False
    wantsUsage: bool = False
    sampling: Sampling = NO_SAMPLING
    stop: tuple[str, ...] = ()
    format: Format = PLAIN_TEXT
    tools: tuple[Tool, ...] = ()
    toolChoice: ToolChoice = NO_CHOICE
    toolsParam: str = "tools"
    isParallel: bool = True
    showsCallIds: bool = True
    user: str | None = None
    metadata: dict[str, str] = {}
    others: tuple[tuple[Message, ...], ...] = ()
    isIsolated: bool = False
    isBackground: bool = False
    mayAct: bool = True
    ignored: tuple[str, ...] = ()
    own: object = None

    @property
    def wantsJSON(self) -> bool:
        """
        Whether the answer is to be JSON.
        """
        return self.format.kind != "text"

    def withMessages(self, messages: tuple[Message, ...]) -> Inquiry:
        """
        Return the same request with other messages.
        """
        return msgspec.structs.replace(self, messages=messages)
