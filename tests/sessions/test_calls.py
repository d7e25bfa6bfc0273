"""
Tool calls that were given to clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from openai_server.errors import APIError
from openai_server.sessions import calls as callsModule
from openai_server.sessions.calls import (
    MAX_OPEN,
    REMEMBERED,
    CallState,
    CallTable,
    ParkedCall,
)
from openai_server.sessions.ids import isPublicCallId, newPublicCallId
from openai_server.wire.tones import ToolCall
from tests.support import SyncCase, TestClock


@dataclass(frozen=True)
class FakeTerms:
    """
    Whose request it is.
    """

    account: str = "a"
    sid: str = "s"
    names: Mapping[str, str] = field(default_factory=lambda: {"f": "client.f", "g": "g"})


class IdTests(SyncCase):
    def test_shape(self) -> None:
        """
        Ids are at most 40 characters, never the same, and known by shape.
        """
        made = {newPublicCallId() for _ in range(1000)}
        self.assertEqual(len(made), 1000)
        for callId in made:
            self.assertTrue(len(callId) <= 40 and callId.startswith("call_") and isPublicCallId(callId))
        for foreign in ("", "call_1", next(iter(made)) + "x", "call_" + "é" * 32):
            self.assertFalse(isPublicCallId(foreign))


class TableCase(SyncCase):
    """
    A table with a clock.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.table = CallTable(self.clock)

    def open(self, owner: object = "turn", callId: str = "call-1", **terms: Any) -> ParkedCall:
        """
        A model makes a call.
        """
        tone = ToolCall(sid="s", callId=callId, toolName="f", args={"n": 1})
        return self.table.opened(owner, FakeTerms(**terms), tone, self.clock.seconds())

    def shown(self, count: int = 1, owner: object = "turn", **terms: Any) -> list[ParkedCall]:
        """
        Calls that were given to the client.
        """
        calls = [self.open(owner, f"call-{number}", **terms) for number in range(count)]
        self.table.shown(calls)
        return calls


class CallTableTests(TableCase):
    def test_opened(self) -> None:
        """
        X11: a call knows both sides' names of its tool, where it belongs and
        when it came.
        """
        self.clock.advance(3)
        call = self.open()
        self.assertEqual((call.wireName, call.clientName, call.arguments), ("f", "client.f", '{"n":1}'))
        self.assertEqual((call.account, call.sid, call.callId, call.owner), ("a", "s", "call-1", "turn"))
        self.assertEqual((call.arrivedAt, len(self.table)), (3, 1))

    def test_nameInTheOtherMember(self) -> None:
        """
        Some workers say C{name} for C{toolName}.
        """
        call = self.table.opened("turn", FakeTerms(), ToolCall(sid="s", callId="c", name="g"), 0)
        self.assertEqual((call.wireName, call.arguments), ("g", "{}"))

    def test_emptyArguments(self) -> None:
        """
        X17: a client's JSON parser gets an object, also where there is nothing.
        """
        call = self.table.opened("turn", FakeTerms(), ToolCall(sid="s", callId="c", name="g", args=""), 0)
        self.assertEqual(call.arguments, "{}")

    def test_sameCallIdInTwoSessions(self) -> None:
        """
        X14: workers count alike; each call is its own.
        """
        one = self.shown(owner="one", sid="1")[0]
        other = self.shown(owner="other", sid="2")[0]
        self.assertEqual(one.callId, other.callId)
        for call in (one, other):
            self.assertIs(self.table.find("a", call.publicId), call)
            self.assertEqual(self.table.waitingOf(call.owner), [call])

    def test_oneResultAtMost(self) -> None:
        """
        X22: a call takes one result, by whatever way.
        """
        call = self.shown()[0]
        self.assertEqual([self.table.taken(call), self.table.taken(call)], [True, False])
        self.table.expired(call)
        self.table.closed(call)
        self.assertEqual((call.state, self.table.taken(call), len(self.table)), (CallState.CLOSED, False, 0))

    def test_keptCallTakesNone(self) -> None:
        """
        What no client was shown, no client can answer, nor can it be late.
        """
        call = self.open()
        self.assertFalse(self.table.taken(call))
        self.table.expired(call)
        self.assertEqual((call.state, len(self.table)), (CallState.CLOSED, 0))
        self.table.shown([call])
        self.assertEqual((self.table.hasShown, self.table.find("a", call.publicId)), (False, None))

    def test_lateTakesOne(self) -> None:
        """
        X20: after the park's deadline the result is still taken, once.
        """
        call = self.shown()[0]
        self.table.expired(call)
        self.assertEqual((call.state, call.arguments, call.owner), (CallState.LATE, "", "turn"))
        self.assertEqual([self.table.taken(call), self.table.taken(call)], [True, False])

    def test_tooManyOpenCalls(self) -> None:
        """
        A model that makes calls without end is stopped: by their number, and
        by the size of their arguments.
        """
        for _ in range(MAX_OPEN):
            self.open()
        self.assertEqual(self.assertRaises(APIError, self.open).kind.status, 502)
        self.open(owner="another")
        with mock.patch.object(callsModule, "MAX_ARGUMENTS", 10):
            self.open(owner="third")
            self.assertRaises(APIError, self.open, owner="third")

    def test_pastIsBounded(self) -> None:
        """
        Calls that are over are remembered for an hour, and only so many; then
        even a late one is forgotten, and its turn is let go.
        """
        late, taken, newer = self.shown(3)
        self.table.expired(late)
        with mock.patch.object(callsModule, "MAX_CLOSED", 2):
            self.table.taken(taken)
            self.assertEqual(late.owner, "turn")
            self.clock.advance(REMEMBERED + 1)
            self.table.taken(newer)
        self.assertEqual((late.owner, len(self.table._past), len(self.table._byId)), (None, 1, 1))
        for call in self.shown(4):
            with mock.patch.object(callsModule, "MAX_CLOSED", 2):
                self.table.taken(call)
        self.assertEqual((len(self.table._past), len(self.table._byId)), (2, 2))

    def test_withoutId(self) -> None:
        """
        Calls in the deprecated shape are found by what they answer, until they
        take a result or are given up; late ones too.
        """
        call, late, other = self.open(), self.open(), self.open()
        self.assertFalse(self.table.hasWithoutId)
        self.table.shown([call, late], b"asked")
        self.table.shown([other], b"other")
        self.table.expired(late)
        self.assertEqual(self.table.withoutId("a", "client.f", b"asked"), [call, late])
        for place in (("b", "client.f", b"asked"), ("a", "f", b"asked"), ("a", "client.f", b"")):
            self.assertEqual(list(self.table.withoutId(*place)), [])
        self.table.taken(call)
        self.table.closed(late)
        self.assertEqual(list(self.table.withoutId("a", "client.f", b"asked")), [])
        self.table.closed(other)
        self.assertFalse(self.table.hasWithoutId)
