# -*- test-case-name: tests.wire.test_tones -*-
"""
The tones of thrum as structs, and lines of bytes as tones.

A tone is one JSON object on one line; C{chi} says which. Tones that come from
the daemon are read leniently where the daemon or its workers are known to
vary (members typed C{Any} are checked where they are used), strictly where a
wrong type means that the line cannot be trusted (C{sid} is a string or the
line is dropped). Unknown members are ignored.

Source: thrum's wire specification 0.7.0 and tones recorded from humd 0.31.18.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any, Final, TypeAlias, Union, cast

import msgspec

from openai_server.wire.readable import isReadable

PROTO_VERSION: Final = "0.7.0"
#: The kind of bee that this is.
HIVE: Final = "openai-server"

#: Text and numbers of the daemon's that this bee never shows to a client.
HIDDEN: Final = (
    "pulse",
    "drone",
    "drone-retrofit",
    "perf-mark",
    "log",
    "tendril-reach",
    "tendril-result",
    "permission-ask",
    "tool-meta",
    "tool-info",
    "wane-sync",
    "gossip-publish",
    "tool-result",
    "cancel",
    "hello",
    "attach",
    "cleanup",
    "prompt",
)


class _Tone(msgspec.Struct, tag_field="chi", omit_defaults=True, kw_only=True, gc=False):
    """
    What all tones share: the discriminator C{chi}, and defaults left out.
    """


# From the daemon.


class Breath(_Tone, tag="breath"):
    """
    The daemon is there: on connect, and again in answer to every hello.
    """

    protoVersion: Any = None


class Echo(_Tone, tag="echo"):
    """
    The daemon has read the tone with this rid; C{ok} is false past dusk.
    """

    rid: str
    ok: bool = True
    error: Any = None


class SessionReady(_Tone, tag="session-ready"):
    """
    The worker's process is up. C{tools} names what its model can call.
    """

    sid: str
    tools: Any = None


class Chunk(_Tone, tag="chunk"):
    """
    A piece of an answer, in either dialect: C{chunkType} with C{delta}, or
    C{part}, an object with C{type} and C{text}.
    """

    sid: str
    chunkType: str | None = None
    delta: Any = None
    part: Any = None
    toolName: Any = None
    callId: Any = None
    arguments: Any = None
    output: Any = None
    isError: Any = None


class ToolCall(_Tone, tag="tool-call"):
    """
    The model calls a tool and waits. C{sigil} is there only when the call was
    not routed by name: then its result will be dropped by the daemon.
    """

    sid: str
    callId: str
    toolName: str | None = None
    name: str | None = None
    args: Any = None
    sigil: str | None = None


class Finish(_Tone, tag="finish"):
    """
    The turn is over. Any C{exitCode} means that the process ended without a
    result.
    """

    sid: str
    finishReason: Any = None
    usage: Any = None
    exitCode: Any = None


class Error(_Tone, tag="error"):
    """
    The turn failed; with a C{callId}: that call failed, the turn goes on.
    """

    sid: str | None = None
    message: Any = None
    code: Any = None
    subtype: Any = None
    usage: Any = None
    callId: Any = None

    @property
    def saysNoWorker(self) -> bool:
        """
        The daemon's own word that no connected worker serves the model. It
        has no code.
        """
        said = self.message
        return self.code is None and isinstance(said, str) and said.startswith(_NO_WORKER)


_NO_WORKER: Final = "no worker bee advertises model"


class Hidden(msgspec.Struct, tag_field="chi", gc=False):
    """
    A known tone that says nothing to this bee.
    """


#: What a turn shows before its end.
Shown: TypeAlias = SessionReady | Chunk | ToolCall | Error
FromDaemon: TypeAlias = Breath | Echo | SessionReady | Chunk | ToolCall | Finish | Error | Hidden


# From this bee.


# "dict" makes room for what is worked out once.
class ToolDefinition(msgspec.Struct, kw_only=True, frozen=True, dict=True, weakref=True):
    """
    A tool as prompts and hellos carry it. C{inputSchema} is never null.
    """

    name: str
    description: str
    inputSchema: dict[str, Any]

    @cached_property
    def encoded(self) -> bytes:
        """
        The definition as JSON.
        """
        return _encode(self)

    @cached_property
    def isReadable(self) -> bool:
        """
        The daemon can parse a tone with this definition among its tools.
        """
        return isReadable(self.inputSchema, self.encoded, around=3)


class Attachment(msgspec.Struct, omit_defaults=True, kw_only=True, frozen=True):
    """
    Bytes or an address for the model: C{kind} is image, audio, pdf, video or
    file; C{data} is base64.
    """

    kind: str
    mediaType: str
    data: str | None = None
    url: str | None = None


class Propensity(msgspec.Struct, frozen=True):
    """
    What kind of bee this is.
    """

    statefulness: str = "convention-stateful"
    richness: str = "medium"
    wire: str = "openai/chat-completions"


class Bind(msgspec.Struct, frozen=True):
    """
    The HTTP address really bound.
    """

    host: str
    port: int
    scheme: str = "http"


class Hello(_Tone, tag="hello"):
    """
    Who this bee is, and the names of the tools it answers for. The latest
    hello of a hid replaces what the earlier one said.

    @ivar tools: definitions, each L{encoded<ToolDefinition.encoded>}: the
        same ones go out again and again.
    """

    bee: list[str]
    hive: str
    hid: str
    # "from" is a keyword of Python's: the one renamed member.
    sender: str = msgspec.field(name="from")
    version: str
    protoVersion: str
    propensity: Propensity
    chis: list[str]
    tools: list[msgspec.Raw]
    provides: list[str]
    bind: Bind | None = None
    source: str | None = None


class Prompt(_Tone, tag="prompt"):
    """
    One question to a worker. It makes this connection an owner of the sid.
    """

    rid: str
    sid: str
    hive: str
    modelId: str
    content: str
    systemPrompt: str | None = None
    tools: list[ToolDefinition] | None = None
    attachments: list[Attachment] | None = None
    sampling: dict[str, Any] | None = None
    allowedTools: list[str] | None = None
    disallowedTools: list[str] | None = None
    cwd: str | None = None

    @property
    def isReadable(self) -> bool:
        """
        The daemon can parse it. Of what clients make up, all but tools and
        wishes is plain text.
        """
        if not all(tool.isReadable for tool in self.tools or ()):
            return False
        return self.sampling is None or isReadable(
            msgspec.to_builtins(self.sampling), _encode(self.sampling), around=1
        )


class ToolResult(_Tone, tag="tool-result"):
    """
    The answer to a tool-call. Workers read C{output}, then C{result}: both
    are the same string.
    """

    rid: str
    sid: str
    callId: str
    toolName: str
    output: str
    result: str
    isError: bool


class Cancel(_Tone, tag="cancel"):
    """
    Nobody wants this turn any more. The worker of humd 0.31.18 ignores it.
    """

    rid: str
    sid: str


class Attach(_Tone, tag="attach"):
    """
    Makes this connection an owner of the sid.
    """

    rid: str
    sid: str


class PerfMark(_Tone, tag="perf-mark"):
    """
    A heartbeat: the daemon echoes its rid, once.
    """

    rid: str


FromBee: TypeAlias = Hello | Prompt | ToolResult | Cancel | Attach | PerfMark

_encode = msgspec.json.Encoder().encode


def lineFromTone(tone: FromBee) -> bytes:
    """
    The tone as one line with its newline, valid UTF-8.

    @raise UnicodeEncodeError: a string holds a lone surrogate; callers clean
        what clients sent before they build tones.
    """
    return _encode(tone) + b"\n"


def _hiddenType(chi: str) -> type[Hidden]:
    # Each chi needs a type of its own in the union that is decoded.
    made = msgspec.defstruct("Hidden", [], bases=(Hidden,), tag_field="chi", tag=chi, gc=False)
    return cast("type[Hidden]", made)


_KNOWN = (Breath, Echo, SessionReady, Chunk, ToolCall, Finish, Error, *map(_hiddenType, HIDDEN))
# mypy cannot see a union made at run time; FromDaemon says the same to it.
_decoder: msgspec.json.Decoder[FromDaemon] = msgspec.json.Decoder(Union[_KNOWN])  # noqa: UP007


def tonesFromLines(lines: bytes, dropped: dict[str, int]) -> list[FromDaemon]:
    """
    The tones of whole lines, in order. What cannot be read or is not known is
    left out and counted.

    @param lines: complete lines; empty ones and C{\\r\\n} do no harm.
    @param dropped: counts of left-out lines by reason: C{utf-8}, C{nesting},
        C{unknown-chi}, C{json} (does not parse, is not an object, has a wrong
        type or no C{chi}).
    """
    try:
        tones = _decoder.decode_lines(lines)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        tones = []
    # msgspec takes two objects in one line, and one in two lines. What is a tone
    # must not depend on where a read of the socket ends.
    if len(tones) == lines.count(b"\n") + (not lines.endswith(b"\n")):
        return tones
    return list(_tonesOneByOne(lines.split(b"\n"), dropped))


def _tonesOneByOne(lines: Iterable[bytes], dropped: dict[str, int]) -> Iterable[FromDaemon]:
    for line in lines:
        if not line.strip():
            continue
        try:
            yield _decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            reason = _reason(error)
            dropped[reason] = dropped.get(reason, 0) + 1


def _reason(error: Exception) -> str:
    # From 0.23 on msgspec says it in an error of its own.
    if isinstance(error, UnicodeDecodeError) or "UTF-8" in str(error):
        return "utf-8"
    if isinstance(error, RecursionError):
        return "nesting"
    return "unknown-chi" if "Invalid value" in str(error) else "json"
