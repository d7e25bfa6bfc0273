"""
Tests for L{openai_server.daemon.registration}.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.daemon.registration import Registration
from openai_server.wire.tones import PROTO_VERSION, FromBee, Hello, Prompt, Propensity, ToolDefinition
from tests.daemon.world import tool
from tests.support import SyncCase


def hello(tools: Sequence[ToolDefinition]) -> Hello:
    """
    A hello with these tools.
    """
    return Hello(
        bee=["forager"], hive="h", hid="x", sender="x", version="0", protoVersion=PROTO_VERSION,
        propensity=Propensity(), chis=[], tools=[msgspec.Raw(tool.encoded) for tool in tools], provides=[],
    )  # fmt: skip


def told(hello: Hello) -> list[ToolDefinition]:
    """
    The tools that a hello lists.
    """
    return [msgspec.json.decode(each, type=ToolDefinition) for each in hello.tools]


def prompt(sid: str, tools: Sequence[ToolDefinition]) -> Prompt:
    """
    A prompt with these tools.
    """
    return Prompt(rid="r", sid=sid, hive="h", modelId="m", content="", tools=list(tools) or None)


class OfferedTests(SyncCase):
    """
    What the daemon makes of our hellos and prompts.
    """

    def daemonReads(self, tones: Sequence[FromBee]) -> None:
        """
        As humd does: the latest hello is what this bee answers for, and each
        prompt is offered that and its own.
        """
        for tone in tones:
            if isinstance(tone, Hello):
                self.registered = told(tone)
            elif isinstance(tone, Prompt):
                self.offered = [*self.registered, *(tone.tools or [])]

    @settings(deadline=None, max_examples=150)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from("abcde"),
                st.dictionaries(st.sampled_from("fghi"), st.sampled_from(["one", "two"]), max_size=4),
            ),
            max_size=12,
        )
    )
    def test_eachModelIsOfferedItsOwn(self, steps: list[tuple[str, dict[str, str]]]) -> None:
        """
        (X26) Whatever turns come and go: each prompt is offered exactly its own
        tools, once each and as it defined them; afterwards the names of all
        turns are registered, once each.
        """
        registration = Registration(hello, True)
        self.registered = told(registration.opening())
        live: dict[str, set[str]] = {}
        for sid, definitions in steps:
            if sid in live:
                registration.withdraw(sid)
                del live[sid]
                if registration.isStale:
                    self.daemonReads([registration.opening()])
            else:
                own = [tool(name, text) for name, text in definitions.items()]
                self.daemonReads(registration.around(prompt(sid, own)))
                registration.declare(sid, own)
                live[sid] = set(definitions)
                self.assertEqual(
                    sorted((each.name, each.description) for each in self.offered),
                    sorted(definitions.items()),
                )
            names = [each.name for each in self.registered]
            self.assertEqual(sorted(names), sorted(set().union(*live.values())))
            self.assertFalse(registration.isStale)

    def test_aroundChangesNothing(self) -> None:
        """
        Nothing is declared until it has been written.
        """
        registration = Registration(hello, True)
        registration.around(prompt("a", [tool("f")]))
        self.assertFalse(registration.isStale)
        self.assertEqual(registration.opening().tools, [])

    def test_switchedOff(self) -> None:
        """
        Without registration a prompt goes out alone and whole.
        """
        registration = Registration(hello, False)
        asked = prompt("a", [tool("f")])
        self.assertEqual(registration.around(asked), [asked])
        registration.declare("a", [tool("f")])
        self.assertEqual(registration.opening().tools, [])

    def test_sharedPromptIsLeftAsItWas(self) -> None:
        """
        The caller's prompt keeps its tools.
        """
        registration = Registration(hello, True)
        registration.declare("a", [tool("f")])
        asked = prompt("b", [tool("f")])
        registration.around(asked)
        self.assertEqual(asked.tools, [tool("f")])
