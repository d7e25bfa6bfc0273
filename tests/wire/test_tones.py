"""
Tests for L{openai_server.wire.tones}.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.wire.tones import (
    HIDDEN,
    Attach,
    Attachment,
    Bind,
    Breath,
    Cancel,
    Chunk,
    Echo,
    Error,
    Finish,
    FromBee,
    FromDaemon,
    Hello,
    Hidden,
    PerfMark,
    Prompt,
    Propensity,
    SessionReady,
    ToolCall,
    ToolDefinition,
    ToolResult,
    lineFromTone,
    tonesFromLines,
)
from tests.recorder import readableTone
from tests.support import SyncCase

CORPUS = Path(__file__).parent.parent / "corpus"

texts = st.text(max_size=12)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
tools = st.builds(
    ToolDefinition, name=texts, description=texts, inputSchema=st.dictionaries(texts, values, max_size=3)
)
attachments = st.builds(Attachment, kind=texts, mediaType=texts, data=st.none() | texts)
prompts = st.builds(
    Prompt,
    rid=texts, sid=texts, hive=texts, modelId=texts, content=texts,
    systemPrompt=st.none() | texts,
    tools=st.none() | st.lists(tools, max_size=2),
    attachments=st.none() | st.lists(attachments, max_size=2),
    sampling=st.none() | st.dictionaries(texts, values, max_size=3),
    allowedTools=st.none() | st.lists(texts, max_size=2),
)  # fmt: skip


def asJSON(tone: FromBee) -> dict[str, Any]:
    """
    The tone as another reader sees its line.
    """
    line = lineFromTone(tone)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    found = json.loads(line.decode())
    assert isinstance(found, dict)
    return found


def prompt(**fields: Any) -> Prompt:
    """
    A prompt with these fields.
    """
    return Prompt(rid="r", sid="s", hive="h", modelId="m", content="", **fields)


def read(*tones: dict[str, Any]) -> list[FromDaemon]:
    """
    These tones from the daemon, none of them dropped.
    """
    dropped: dict[str, int] = {}
    found = tonesFromLines(b"".join(json.dumps(tone).encode() + b"\n" for tone in tones), dropped)
    assert not dropped, dropped
    return found


class OutgoingTests(SyncCase):
    """
    From structs to lines.
    """

    @settings(deadline=None, max_examples=100)
    @given(prompts)
    def test_promptsRoundTrip(self, prompt: Prompt) -> None:
        """
        Another JSON reader finds every member as it was, and nothing that was left out.
        """
        found = asJSON(prompt)
        self.assertEqual(found.pop("chi"), "prompt")
        expected = {name: getattr(prompt, name) for name in prompt.__struct_fields__}
        for name in ("tools", "attachments"):
            items = expected[name] or []
            expected[name] = expected[name] and [
                {key: getattr(item, key) for key in item.__struct_fields__ if getattr(item, key) is not None}
                for item in items
            ]
        self.assertEqual(found, {name: value for name, value in expected.items() if value is not None})

    @settings(deadline=None, max_examples=50)
    @given(st.text(max_size=50))
    def test_anyTextIsOneValidLine(self, text: str) -> None:
        """
        Line breaks of all kinds and NUL stay within the line.
        """
        tone = ToolResult(rid="r", sid="s", callId="c", toolName="t", output=text, result=text, isError=False)
        self.assertEqual(asJSON(tone)["output"], text)
        self.assertEqual(len(lineFromTone(tone).splitlines()), 1)

    def test_loneSurrogate(self) -> None:
        """
        What the daemon could not read is not written.
        """
        self.assertRaises(UnicodeEncodeError, lineFromTone, PerfMark(rid="\ud83d"))

    def test_hello(self) -> None:
        """
        C{from} has its name, and an address or source that is not known is left out.
        """
        hello = Hello(
            bee=["forager"], hive="h", hid="x", sender="x", version="1", protoVersion="0.7.0",
            propensity=Propensity(), chis=["hello"], tools=[], provides=["session"],
        )  # fmt: skip
        found = asJSON(hello)
        self.assertEqual((found["chi"], found["from"], found["tools"]), ("hello", "x", []))
        self.assertNotIn("bind", found)
        hello.bind = Bind(host="::1", port=1)
        self.assertEqual(asJSON(hello)["bind"], {"host": "::1", "port": 1, "scheme": "http"})

    def test_definitionIsEncodedOnce(self) -> None:
        """
        A hello says the same of a tool as a prompt, from bytes that are there.
        """
        tool = ToolDefinition(name="f", description="d", inputSchema={"type": "object"})
        self.assertIs(tool.encoded, tool.encoded)
        hello = Hello(
            bee=["forager"], hive="h", hid="x", sender="x", version="1", protoVersion="0.7.0",
            propensity=Propensity(), chis=[], tools=[msgspec.Raw(tool.encoded)] * 2, provides=[],
        )  # fmt: skip
        said = {"name": "f", "description": "d", "inputSchema": {"type": "object"}}
        self.assertEqual(asJSON(hello)["tools"], [said, said])
        self.assertEqual(asJSON(prompt(tools=[tool]))["tools"], [said])

    def test_readable(self) -> None:
        """
        (C23) In tools and wishes, the tone's own levels counted.
        """
        def deep(levels: int) -> dict[str, Any]:
            value: dict[str, Any] = {}
            for _ in range(levels - 1):
                value = {"a": value}
            return value

        def tool(schema: dict[str, Any]) -> ToolDefinition:
            return ToolDefinition(name="f", description="d", inputSchema=schema)

        for fields, isRead in (
            ({}, True),
            ({"tools": [tool({}), tool(deep(124))]}, True),
            ({"tools": [tool({}), tool(deep(125))]}, False),
            ({"tools": [tool({"maximum": 10**400})]}, False),
            ({"sampling": deep(126)}, True),
            ({"sampling": deep(127)}, False),
            ({"sampling": {"seed": 10**400}}, False),
        ):
            self.assertEqual(prompt(**fields).isReadable, isRead, fields)
            line = lineFromTone(prompt(**fields))
            if isRead:
                readableTone(line)
            else:
                self.assertRaises(ValueError, readableTone, line)

    def test_smallTones(self) -> None:
        """
        The tones of two members.
        """
        self.assertEqual(asJSON(Cancel(rid="r", sid="s")), {"chi": "cancel", "rid": "r", "sid": "s"})
        self.assertEqual(asJSON(Attach(rid="r", sid="s")), {"chi": "attach", "rid": "r", "sid": "s"})
        self.assertEqual(asJSON(PerfMark(rid="r")), {"chi": "perf-mark", "rid": "r"})


class IncomingTests(SyncCase):
    """
    From lines to structs.
    """

    @settings(deadline=None, max_examples=100)
    @given(texts, values, values)
    def test_lenientMembers(self, text: str, one: Any, two: Any) -> None:
        """
        (U15) Members that workers vary hold anything; text is exact.
        """
        [chunk] = read(
            {"chi": "chunk", "sid": text, "chunkType": "text_delta", "delta": one, "part": two, "x": one}
        )
        assert isinstance(chunk, Chunk)
        self.assertEqual((chunk.sid, chunk.delta, chunk.part), (text, one, two))
        [finish] = read({"chi": "finish", "sid": text, "finishReason": one, "usage": two, "exitCode": one})
        assert isinstance(finish, Finish)
        self.assertEqual((finish.finishReason, finish.usage, finish.exitCode), (one, two, one))

    def test_eachKind(self) -> None:
        """
        Each chi is its struct, with the defaults for what is missing.
        """
        found = read(
            {"chi": "breath"}, {"chi": "echo", "rid": "r"}, {"chi": "session-ready", "sid": "s"},
            {"chi": "chunk", "sid": "s"}, {"chi": "tool-call", "sid": "s", "callId": "c"},
            {"chi": "finish", "sid": "s"}, {"chi": "error"},
        )  # fmt: skip
        self.assertEqual(
            found,
            [
                Breath(), Echo(rid="r", ok=True), SessionReady(sid="s"), Chunk(sid="s"),
                ToolCall(sid="s", callId="c"), Finish(sid="s"), Error(),
            ],
        )  # fmt: skip

    def test_noWorker(self) -> None:
        """
        (U1) The daemon's words, as recorded; a worker's own words have a code.
        """
        said = "no worker bee advertises model 'x'"
        self.assertTrue(Error(message=said).saysNoWorker)
        for error in (
            Error(message=f"the model said: {said}"),
            Error(message=said, code="worker_error"),
            Error(message=None),
            Error(message=[said]),
        ):
            self.assertFalse(error.saysNoWorker)

    def test_hidden(self) -> None:
        """
        (U27) Known tones without meaning here are told apart by their chi alone.
        """
        found = read(*({"chi": chi, "sid": 7} for chi in HIDDEN))
        self.assertTrue(all(isinstance(tone, Hidden) for tone in found))
        self.assertEqual([tone.__struct_config__.tag for tone in found], list(HIDDEN))

    def test_linesAreLines(self) -> None:
        """
        Two objects in one line are no tone, and one in two lines is none.
        """
        tone = b'{"chi":"chunk","sid":"s"}'
        cut = b'{"chi":"chunk",\n"sid":"s"}'
        for lines in (tone + tone, tone + b" " + tone, cut, tone + b"\n" + tone + tone):
            for end in (b"", b"\n"):
                dropped: dict[str, int] = {}
                found = tonesFromLines(tone + b"\n" + lines + end, dropped)
                expected = [Chunk(sid="s")] * (1 + (tone + b"\n" in lines))
                self.assertEqual((found, set(dropped)), (expected, {"json"}), lines)
        self.assertEqual(tonesFromLines(b"\n" + tone + b"\r\n\n" + tone, {}), [Chunk(sid="s")] * 2)
        self.assertEqual(tonesFromLines(b"", {}), [])

    def test_badLines(self) -> None:
        """
        (S13) A line that cannot be read is left out and counted by reason, and
        its neighbours stay in order.
        """
        bad = [
            (b"\xff", "json"), (b'{"chi":"chunk","sid":"\xc3"}', "utf-8"), (b"{", "json"), (b"[]", "json"),
            (b"{}", "json"), (b'{"chi":null}', "json"), (b'{"chi":"chunk"}', "json"),
            (b'{"chi":"nonsense"}', "unknown-chi"),
            (b'{"chi":"finish","sid":"s","usage":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nesting"),
        ]  # fmt: skip
        lines = [b'{"chi":"chunk","sid":"0"}']
        for number, (line, _) in enumerate(bad, 1):
            lines += [line, b'{"chi":"chunk","sid":"%d"}' % number, b""]
        dropped: dict[str, int] = {}
        found = tonesFromLines(b"\n".join(lines), dropped)
        self.assertEqual(
            [tone.sid for tone in found if isinstance(tone, Chunk)], [str(n) for n in range(len(bad) + 1)]
        )
        self.assertEqual(dropped, {"utf-8": 1, "json": 6, "unknown-chi": 1, "nesting": 1})

    @settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=60))
    def test_anyBytes(self, noise: bytes) -> None:
        """
        (S13) No bytes raise, and a good line behind them is read.
        """
        dropped: dict[str, int] = {}
        found = tonesFromLines(noise + b'\n{"chi":"chunk","sid":"s"}\n', dropped)
        self.assertEqual(found[-1], Chunk(sid="s"))

    def test_recordedTones(self) -> None:
        """
        Every tone that humd was recorded to send is read without a drop.
        """
        number = 0
        for path in sorted(CORPUS.glob("*.jsonl")):
            for line in path.read_text().splitlines():
                record = json.loads(line)
                if record.get("dir") == "in":
                    read(record["tone"])
                    number += 1
        self.assertGreater(number, 300)
