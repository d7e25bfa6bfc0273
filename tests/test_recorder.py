"""
Tests of the strict recorder: what it must notice, and what it must let pass.
"""

from __future__ import annotations

import json
from typing import Any

from tests.embedded.bees import Bee, definition
from tests.machinery.daemon import FaultyDaemon
from tests.recorder import StrictRecorder
from tests.support import SyncCase, TestClock

HELLO = {
    "chi": "hello",
    "bee": ["forager"],
    "hive": "openai-server",
    "hid": "fbee_" + "0" * 64,
    "from": "openai-server",
    "version": "0.1.0",
    "protoVersion": "0.7.0",
    "propensity": {
        "statefulness": "convention-stateful",
        "richness": "medium",
        "wire": "openai/chat-completions",
    },
    "chis": ["hello", "prompt"],
    "tools": [],
    "provides": ["session"],
}
PROMPT = {
    "chi": "prompt",
    "rid": "mabc-0",
    "sid": "oa-1",
    "hive": "openai-server",
    "modelId": "m",
    "content": "hi",
}
RESULT = {
    "chi": "tool-result",
    "rid": "mabc-9",
    "sid": "oa-1",
    "callId": "call-1-0",
    "toolName": "t",
    "output": "o",
    "result": "o",
    "isError": False,
}
CALL = {"chi": "tool-call", "sid": "oa-1", "callId": "call-1-0", "toolName": "t", "args": {}}
FINISH = {"chi": "finish", "sid": "oa-1", "finishReason": "success"}


def line(tone: Any) -> bytes:
    """
    A tone as the recorder is told it.
    """
    return json.dumps(tone).encode()


class FormTests(SyncCase):
    """
    One tone by itself.
    """

    def violationsOf(self, tone: Any) -> list[str]:
        """
        What the recorder says about a tone, after a good hello.
        """
        recorder = StrictRecorder()
        recorder.lineReceived(line(HELLO))
        recorder.lineReceived(tone if isinstance(tone, bytes) else line(tone))
        return recorder.violations

    def assertViolated(self, expected: str, tone: Any) -> None:
        """
        The recorder says exactly this about a tone.
        """
        self.assertEqual([each.partition(": ")[0] for each in self.violationsOf(tone)], [expected])

    def test_goodTonesPass(self) -> None:
        """
        Tones as they are documented are not violations.
        """
        full = {
            **PROMPT,
            "systemPrompt": "s" * 100_000,
            "tools": [definition("get_weather")],
            "attachments": [
                {"kind": "image", "mediaType": "image/png", "data": "AAAA"},
                {"kind": "file", "mediaType": "text/plain", "url": "https://example.com/"},
            ],
            "sampling": {"temperature": 1},
            "allowedTools": ["Read"],
            "disallowedTools": ["mcp__hum__x"],
            "cwd": "/",
        }
        for tone in (PROMPT, full, {"chi": "perf-mark", "rid": "a-0"}, {**HELLO, "tools": [definition("t")]}):
            self.assertEqual(self.violationsOf(tone), [])

    def test_wrongMembersOfAPrompt(self) -> None:
        """
        Each member of a prompt is checked by itself.
        """
        wrong: dict[str, list[Any]] = {
            "rid": ["r1", "A-0", 7, None],
            "sid": ["", "a b", "a/b", "x" * 65, "é", 5],
            "hive": ["other"],
            "modelId": ["", None],
            "content": [None, ["x"]],
            "systemPrompt": ["", "\0", "s" * 100_001, "é" * 50_001, None],
            "tools": [
                None,
                [{"name": "t", "inputSchema": None}],
                [{"name": "t", "inputSchema": {}}],
                [{"name": "t", "inputSchema": {"type": ["object"]}}],
                [{"name": "t", "inputSchema": {"type": "object", "required": None}}],
                [{"name": "t", "inputSchema": {"type": "object", "anyOf": []}}],
                [{"name": "t", "parameters": {"type": "object"}}],
                [definition("a.b")],
                [definition("x" * 55)],
                [definition("t"), definition("t")],
            ],
            "attachments": [
                {},
                [{"kind": "image", "data": "AAAA"}],
                [{"kind": "x", "mediaType": "y", "url": "z"}],
                [{"kind": "image", "mediaType": "image/png", "data": "not base64!"}],
            ],
            "sampling": [[]],
            "allowedTools": ["Read", [1]],
            "cwd": [""],
        }
        for name, values in wrong.items():
            for value in values:
                self.assertViolated(f"{name} is wrong", {**PROMPT, name: value})

    def test_unknownAndMissingMembers(self) -> None:
        """
        C{resume}, invented members and missing ones are violations.
        """
        self.assertViolated("resume is not documented", {**PROMPT, "resume": "x"})
        self.assertViolated("text is not documented", {**PROMPT, "text": "x"})
        self.assertViolated("content is missing", {k: v for k, v in PROMPT.items() if k != "content"})
        self.assertViolated("hid is wrong", {**HELLO, "hid": "fbee_" + "0" * 63})
        self.assertViolated("not a tone that this bee sends", {"chi": "log"})

    def test_linesThatTheDaemonCannotRead(self) -> None:
        """
        What the daemon would drop, or close the connection for, is a violation.
        """
        deep = b'{"chi":"prompt","x":' + b"[" * 127 + b"]" * 127 + b"}"
        for bad in (b"\xff", b'{"chi":"log","x":"\\ud800"}', b'{"chi":"log","x":NaN}', b"[1]", b"{}", deep):
            self.assertNotEqual(self.violationsOf(bad), [], bad[:40])
        self.assertIn("nested too deep", " ".join(self.violationsOf(deep)))
        for number in ("1e400", "-1e999", "1" + "0" * 400):
            tone = b'{"chi":"log","x":[%s]}' % number.encode()
            self.assertIn("beyond a double", " ".join(self.violationsOf(tone)))

    def test_numbersThatTheDaemonReads(self) -> None:
        """
        A whole number of 30 digits is fine.
        """
        for number in (10**30, 1e300, -0.5):
            self.assertEqual(self.violationsOf({**PROMPT, "sampling": {"x": number}}), [])


class OrderTests(SyncCase):
    """
    Tones after each other.
    """

    def setUp(self) -> None:
        """
        A recorder that has seen a hello and a prompt.
        """
        super().setUp()
        self.recorder = StrictRecorder()
        self.sent(HELLO, PROMPT)

    def sent(self, *tones: Any) -> None:
        """
        Our bee sends tones.
        """
        for tone in tones:
            self.recorder.lineReceived(line(tone))

    def came(self, *tones: Any) -> None:
        """
        The daemon sends tones.
        """
        for tone in tones:
            self.recorder.toneSent(line(tone) + b"\n")

    def assertViolated(self, *expected: str) -> None:
        """
        These are the violations so far.
        """
        self.assertEqual([each.partition(": ")[0] for each in self.recorder.violations], list(expected))

    def test_aWholeTurnPasses(self) -> None:
        """
        A turn with a call, continued on its sid, is as it should be.
        """
        self.came(CALL)
        self.sent(RESULT)
        self.came(FINISH)
        self.sent({**PROMPT, "rid": "mabc-1"})
        self.sent({"chi": "cancel", "rid": "mabc-2", "sid": "oa-1"})
        self.assertViolated()
        self.assertEqual(self.recorder.liveSids, {"oa-1"})
        self.assertEqual(self.recorder.unanswered, set())

    def test_helloIsFirstOnEachConnection(self) -> None:
        """
        A new connection needs a hello of its own.
        """
        self.recorder.lineReceived(line({**PROMPT, "rid": "a-1", "sid": "oa-2"}), 2)
        self.assertViolated("hello is not the first tone of this connection")

    def test_sameRidTwice(self) -> None:
        """
        A rid is used once.
        """
        self.sent({**PROMPT, "sid": "oa-2"})
        self.assertViolated("rid is not unique")

    def test_promptOnALiveSid(self) -> None:
        """
        A sid has one live turn; C{finish}, C{error} and an echo past dusk end it.
        """
        self.sent({**PROMPT, "rid": "a-1"})
        self.assertViolated("prompt on a sid with a live turn")
        ends = (
            FINISH,
            {"chi": "error", "sid": "oa-1", "message": "x"},
            {"chi": "echo", "rid": "a-1", "ok": False},
        )
        for number, end in enumerate(ends):
            self.came(end)
            self.sent({**PROMPT, "rid": f"b-{number}"})
            self.recorder._promptRids["a-1"] = "oa-1"
        self.assertViolated("prompt on a sid with a live turn")

    def test_errorOfOneCallEndsNothing(self) -> None:
        """
        An C{error} with a call id leaves the turn live.
        """
        self.came({"chi": "error", "sid": "oa-1", "callId": "c", "message": "x"})
        self.assertEqual(self.recorder.liveSids, {"oa-1"})

    def test_cancel(self) -> None:
        """
        Only what was asked is cancelled, once, and not asked again.
        """
        self.sent({"chi": "cancel", "rid": "a-1", "sid": "oa-7"})
        self.sent({"chi": "cancel", "rid": "a-2", "sid": "oa-1"})
        self.sent({"chi": "cancel", "rid": "a-3", "sid": "oa-1"})
        self.came(FINISH)
        self.sent({**PROMPT, "rid": "a-4"})
        self.assertViolated(
            "cancel for a sid that was not asked",
            "cancel for a sid that was cancelled before",
            "prompt on a sid that was cancelled",
        )

    def test_results(self) -> None:
        """
        One result for one call that came, the same text twice.
        """
        self.came(CALL)
        self.sent(RESULT)
        self.sent({**RESULT, "rid": "a-1"})
        self.sent({**RESULT, "rid": "a-2", "callId": "other"})
        self.came({**CALL, "callId": "third"})
        self.sent({**RESULT, "rid": "a-3", "callId": "third", "output": "x"})
        self.assertViolated(
            "second result for one call", "result for a call that never came", "output is not result"
        )

    def test_afterTheEnd(self) -> None:
        """
        After its end a turn gets failing results and nothing else.
        """
        self.came(CALL, {**CALL, "callId": "second"}, FINISH)
        self.sent({**RESULT, "isError": True})
        self.assertViolated()
        self.sent({**RESULT, "rid": "a-1", "callId": "second"})
        self.sent({"chi": "attach", "rid": "a-2", "sid": "oa-1"})
        self.assertViolated("result for a turn that is not live", "a turn that has ended")

    def test_unansweredCallsAreKnown(self) -> None:
        """
        A test can ask which calls got no result.
        """
        self.came(CALL)
        self.assertEqual(self.recorder.unanswered, {("oa-1", "call-1-0")})

    def test_doubledTools(self) -> None:
        """
        A name in the latest hello and in the prompt would be offered twice.
        """
        self.sent({**HELLO, "tools": [definition("t")]})
        self.sent({**PROMPT, "rid": "a-1", "sid": "oa-2", "tools": [definition("t")]})
        self.assertViolated("tools both in the prompt and in the latest hello")


class WatchTests(SyncCase):
    """
    The recorder at a daemon.
    """

    def test_seesOurBeeAndIgnoresOthers(self) -> None:
        """
        It is told both directions of a connection, but for those it ignores.
        """
        daemon = FaultyDaemon(clock=TestClock())
        daemon.start()
        self.addCleanup(daemon.stop)
        recorder = StrictRecorder()
        recorder.watch(daemon)
        bee, stranger = Bee(daemon), Bee(daemon, "stranger")
        recorder.ignored.add(stranger.number)
        stranger.sendBytes(b"nonsense\n")
        bee.sendBytes(line(HELLO) + b"\n")
        bee.sendBytes(line({**PROMPT, "modelId": "nobody's"}) + b"\n")
        self.assertEqual(recorder.violations, [])
        self.assertEqual([tone["chi"] for tone in recorder.tones], ["hello", "prompt"])
        self.assertEqual(recorder.liveSids, set())
