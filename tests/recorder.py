"""
A strict reader of what our bee sends: every line is held against thrum's wire
specification and against what the real daemon was seen to need.

    recorder = StrictRecorder()
    recorder.watch(daemon)
    ...
    self.assertEqual(recorder.violations, [])

It is deliberately independent of L{openai_server.wire}: what that room gets
wrong must show here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from math import isinf
from typing import Any

from tests.machinery.daemon import FaultyDaemon

Tone = dict[str, Any]
Check = Callable[[Any], bool]

MAX_NESTING = 127
MAX_SYSTEM_PROMPT = 100_000


def isText(value: Any) -> bool:
    """
    A string that may be empty.
    """
    return isinstance(value, str)


def isName(value: Any) -> bool:
    """
    A string that is not empty.
    """
    return isinstance(value, str) and value != ""


def isBoolean(value: Any) -> bool:
    """
    True or False.
    """
    return isinstance(value, bool)


def isObject(value: Any) -> bool:
    """
    A JSON object.
    """
    return isinstance(value, dict)


def isNames(value: Any) -> bool:
    """
    A list of strings, none of them empty.
    """
    return isinstance(value, list) and all(map(isName, value))


def matches(pattern: str) -> Check:
    """
    A string that matches a pattern from end to end.
    """
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def isSystemPrompt(value: Any) -> bool:
    """
    What fits into one argument of a command line, with room to spare.
    """
    return isName(value) and "\0" not in value and len(value.encode()) <= MAX_SYSTEM_PROMPT


def isBind(value: Any) -> bool:
    """
    An address that something listens on.
    """
    return (
        isinstance(value, dict)
        and value.keys() == {"host", "port", "scheme"}
        and isName(value["host"])
        and type(value["port"]) is int
        and value["scheme"] == "http"
    )


def isPropensity(value: Any) -> bool:
    """
    The one propensity of this bee.
    """
    return bool(
        value
        == {"statefulness": "convention-stateful", "richness": "medium", "wire": "openai/chat-completions"}
    )


def isSchema(value: Any) -> bool:
    """
    A schema that hides no tool from the model: an object at the top, no union
    there, no member that is null.
    """
    return (
        isinstance(value, dict)
        and value.get("type") == "object"
        and not value.keys() & {"anyOf", "oneOf", "allOf"}
        and not hasNullMember(value)
    )


def hasNullMember(value: Any) -> bool:
    """
    Whether an object somewhere in a value has a member that is null.
    """
    if isinstance(value, dict):
        return any(child is None or hasNullMember(child) for child in value.values())
    return isinstance(value, list) and any(map(hasNullMember, value))


def isTool(value: Any) -> bool:
    """
    A tool's definition.
    """
    return (
        isinstance(value, dict)
        and {"name", "inputSchema"} <= value.keys() <= {"name", "description", "inputSchema"}
        and matches(r"[A-Za-z0-9_-]{1,54}")(value["name"])
        and isText(value.get("description", ""))
        and isSchema(value["inputSchema"])
    )


def isTools(value: Any) -> bool:
    """
    A list of definitions, each name once.
    """
    return (
        isinstance(value, list)
        and all(map(isTool, value))
        and len({tool["name"] for tool in value}) == len(value)
    )


def isAttachments(value: Any) -> bool:
    """
    A list of attachments, each with its bytes or its address.
    """
    return isinstance(value, list) and all(map(isAttachment, value))


def isAttachment(value: Any) -> bool:
    """
    One attachment.
    """
    if not isinstance(value, dict) or value.get("kind") not in ("image", "audio", "pdf", "video", "file"):
        return False
    isData = value.keys() == {"kind", "mediaType", "data"} and isBase64(value["data"])
    isURL = value.keys() == {"kind", "mediaType", "url"} and isName(value["url"])
    return (isData or isURL) and isName(value["mediaType"])


isBase64 = matches(r"[A-Za-z0-9+/]*={0,2}")
isSid = matches(r"[A-Za-z0-9_-]{1,64}")
isRid = matches(r"[0-9a-z]+-[0-9a-z]+")

#: What each tone must have, and what it may have besides.
REQUIRED: Mapping[str, Mapping[str, Check]] = {
    "hello": {
        "bee": lambda value: value == ["forager"],
        "hive": lambda value: value == "openai-server",
        "hid": matches(r"fbee_[0-9a-f]{64}"),
        "from": isName,
        "version": isName,
        "protoVersion": lambda value: value == "0.7.0",
        "propensity": isPropensity,
        "chis": isNames,
        "tools": isTools,
        "provides": isNames,
    },
    "prompt": {
        "rid": isRid,
        "sid": isSid,
        "hive": lambda value: value == "openai-server",
        "modelId": isName,
        "content": isText,
    },
    "tool-result": {
        "rid": isRid,
        "sid": isText,
        "callId": isName,
        "toolName": isName,
        "output": isText,
        "result": isText,
        "isError": isBoolean,
    },
    "cancel": {"rid": isRid, "sid": isSid},
    "attach": {"sid": isSid},
    "cleanup": {"sid": isSid},
    "perf-mark": {"rid": isRid},
}
OPTIONAL: Mapping[str, Mapping[str, Check]] = {
    "hello": {"rid": isRid, "bind": isBind, "source": matches(r"https?://\S+")},
    "prompt": {
        "systemPrompt": isSystemPrompt,
        "tools": isTools,
        "attachments": isAttachments,
        "sampling": isObject,
        "allowedTools": isNames,
        "disallowedTools": isNames,
        "cwd": isName,
    },
    "attach": {"rid": isRid},
    "cleanup": {"rid": isRid},
}


def faultsOf(line: bytes) -> tuple[Tone | None, list[str]]:
    """
    The tone on a line, when it is one, and all that is wrong with its form.
    """
    try:
        tone = readableTone(line)
    except (ValueError, RecursionError) as error:
        return None, [f"unreadable: {error}"]
    return (None, ["no tone"]) if tone is None else (tone, list(_formFaults(tone)))


def readableTone(line: bytes) -> Tone | None:
    """
    The tone on a line as the daemon parses it, None when the line holds
    something else.

    @raise ValueError: the daemon cannot parse it.
    """
    tone = json.loads(line.decode(), parse_constant=_refuse, parse_int=_whole, parse_float=_double)
    json.dumps(tone, ensure_ascii=False).encode()
    if nesting(tone) > MAX_NESTING:
        raise ValueError("nested too deep")
    return tone if isinstance(tone, dict) and isName(tone.get("chi")) else None


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _double(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise ValueError("a number beyond a double")
    return number


def _whole(digits: str) -> int:
    _double(digits)
    return int(digits)


def _formFaults(tone: Tone) -> Iterator[str]:
    required = REQUIRED.get(tone["chi"])
    if required is None:
        yield "not a tone that this bee sends"
        return
    optional = OPTIONAL.get(tone["chi"], {})
    yield from (f"{name} is missing" for name in required.keys() - tone.keys())
    known = {"chi", *required, *optional}
    yield from (f"{name} is not documented" for name in tone.keys() - known)
    for name, check in {**required, **optional}.items():
        if name in tone and not check(tone[name]):
            yield f"{name} is wrong"


def nesting(value: Any) -> int:
    """
    Levels of objects and arrays in each other.
    """
    level, depth = [value], 0
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [child for each in level for child in (each.values() if isinstance(each, dict) else each)]
    return depth


class StrictRecorder:
    """
    Collects what was sent and what was wrong with it.

    @ivar violations: each as one line; the test that finds one has found a bug.
    @ivar tones: all tones that our bee sent, in order.
    @ivar ignored: numbers of connections that are not our bee's.
    """

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.tones: list[Tone] = []
        self.ignored: set[int] = set()
        self._greeted: set[int] = set()
        self._listed: dict[int, set[str]] = {}
        self._rids: set[tuple[Any, Any]] = set()
        self._hids: dict[int, Any] = {}
        self._promptRids: dict[str, str] = {}
        self._live: set[str] = set()
        self._asked: set[str] = set()
        self._cancelled: set[str] = set()
        self._calls: dict[tuple[str, str], bool] = {}
        self._answered: set[tuple[str, str]] = set()
        self._isTold = False

    def watch(self, daemon: FaultyDaemon) -> None:
        """
        See all that passes at this daemon.
        """
        daemon.observer = self

    def sent(self, *chis: str) -> list[Tone]:
        """
        The tones that our bee sent with one of these values of C{chi}.
        """
        return [tone for tone in self.tones if tone["chi"] in chis]

    @property
    def liveSids(self) -> set[str]:
        """
        Sids with a turn that the daemon has shown no end of.
        """
        return set(self._live)

    @property
    def unanswered(self) -> set[tuple[str, str]]:
        """
        Sid and call id of the tool-calls that came and got no result.
        """
        return self._calls.keys() - self._answered

    # Told by the daemon.

    def connected(self, connection: int) -> None:
        """
        A client has connected.
        """

    def lineReceived(self, line: bytes, connection: int = 0) -> None:
        """
        Our bee has sent a line.
        """
        if connection in self.ignored:
            return
        tone, faults = faultsOf(line)
        self.violations += [f"{fault}: {line[:300]!r}" for fault in faults]
        if tone is None or faults:
            return
        self.tones.append(tone)
        for fault in self._faultsInOrder(tone, connection):
            self.violations.append(f"{fault}: {line[:300]!r}")

    def toneSent(self, line: bytes, connection: int = 0) -> None:
        """
        The daemon has sent a line to our bee.
        """
        if connection in self.ignored:
            return
        self._isTold = True
        if b'"chi":"chunk"' in line:
            return
        try:
            tone = json.loads(line)
        except (ValueError, RecursionError):
            return
        if isinstance(tone, dict):
            self._learn(tone)

    # Inside.

    def _learn(self, tone: Tone) -> None:
        match tone:
            case {"chi": "finish", "sid": str(sid)}:
                self._live.discard(sid)
            case {"chi": "error", "sid": str(sid)} if "callId" not in tone:
                self._live.discard(sid)
            case {"chi": "echo", "ok": False, "rid": str(rid)} if rid in self._promptRids:
                self._live.discard(self._promptRids[rid])
            case {"chi": "tool-call", "sid": str(sid), "callId": str(callId)}:
                self._calls[sid, callId] = True

    def _faultsInOrder(self, tone: Tone, connection: int) -> Iterator[str]:
        if connection not in self._greeted and tone["chi"] != "hello":
            yield "hello is not the first tone of this connection"
        if tone["chi"] == "hello":
            self._hids[connection] = tone.get("hid")
        # Each bee has its own.
        rid = tone.get("rid"), self._hids.get(connection)
        if rid[0] is not None and rid in self._rids:
            yield "rid is not unique"
        self._rids.add(rid)
        match tone["chi"]:
            case "hello":
                yield from self._hello(tone, connection)
            case "prompt":
                yield from self._prompt(tone, connection)
            case "cancel":
                yield from self._cancel(tone["sid"])
            case "attach" | "cleanup":
                yield from self._attach(tone["sid"])
            case "tool-result":
                yield from self._toolResult(tone)

    def _hello(self, tone: Tone, connection: int) -> Iterator[str]:
        if tone["from"] not in (tone["hid"], tone["hive"]):
            yield "from is neither the hid nor the hive"
        self._greeted.add(connection)
        self._listed[connection] = {tool["name"] for tool in tone["tools"]}

    def _prompt(self, tone: Tone, connection: int) -> Iterator[str]:
        sid = tone["sid"]
        if sid in self._live:
            yield "prompt on a sid with a live turn"
        if sid in self._cancelled:
            yield "prompt on a sid that was cancelled"
        doubled = self._listed.get(connection, set()) & {tool["name"] for tool in tone.get("tools", ())}
        if doubled:
            yield f"tools both in the prompt and in the latest hello: {sorted(doubled)}"
        self._live.add(sid)
        self._asked.add(sid)
        self._promptRids[tone["rid"]] = sid

    def _cancel(self, sid: str) -> Iterator[str]:
        if sid not in self._asked:
            yield "cancel for a sid that was not asked"
        if sid in self._cancelled:
            yield "cancel for a sid that was cancelled before"
        self._cancelled.add(sid)

    def _attach(self, sid: str) -> Iterator[str]:
        if sid not in self._asked:
            yield "a sid that was not asked"
        elif sid not in self._live:
            yield "a turn that has ended"

    def _toolResult(self, tone: Tone) -> Iterator[str]:
        call = (tone["sid"], tone["callId"])
        if tone["output"] != tone["result"]:
            yield "output is not result"
        if call in self._answered:
            yield "second result for one call"
        if self._isTold and call not in self._calls:
            yield "result for a call that never came"
        if not tone["isError"] and tone["sid"] not in self._live:
            yield "result for a turn that is not live"
        self._answered.add(call)
