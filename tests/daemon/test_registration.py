"""
Tests for L{openai_server.daemon.registration}.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.daemon.registration import Registration
from openai_server.wire.hiding import MAX_ARGUMENT, OUR_PREFIX
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


def prompt(sid: str, tools: Sequence[ToolDefinition] = (), disallowed: Sequence[str] = ()) -> Prompt:
    """
    A prompt with these tools.
    """
    return Prompt(
        rid="r", sid=sid, hive="h", modelId="m", content="",
        tools=list(tools) or None, disallowedTools=list(disallowed) or None,
    )  # fmt: skip


class RegistrationTests(SyncCase):
    """
    What the daemon makes of our hellos and prompts.

    @ivar lists: what each hello has listed.
    @ivar offered: what the last prompt's model is shown.
    """

    def setUp(self) -> None:
        super().setUp()
        self.registration = Registration(hello, True)
        self.lists: list[list[ToolDefinition]] = []
        self.offered: list[ToolDefinition] = []

    def daemonReads(self, tones: Sequence[FromBee]) -> None:
        """
        As humd and the worker do: the latest hello is what this bee answers
        for, and each prompt is offered that and its own, without what it hides.
        """
        for tone in tones:
            if isinstance(tone, Hello):
                self.lists.append(told(tone))
            elif isinstance(tone, Prompt):
                shown = [*(self.lists[-1] if self.lists else []), *(tone.tools or [])]
                hidden = tone.disallowedTools or []
                self.assertLess(len(" ".join(hidden)), MAX_ARGUMENT)
                self.offered = [each for each in shown if OUR_PREFIX + each.name not in hidden]

    def ask(self, asked: Prompt, former: Sequence[ToolDefinition] = ()) -> None:
        """
        Let a prompt go out.
        """
        self.daemonReads(self.registration.around(asked, former))
        self.registration.declare(asked, former)

    @settings(deadline=None, max_examples=150)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from("abcde"),
                st.dictionaries(st.sampled_from("fghi"), st.sampled_from(["one", "two"]), max_size=4),
                st.booleans(),
            ),
            max_size=12,
        )
    )
    def test_eachModelIsOfferedItsOwn(self, steps: list[tuple[str, dict[str, str], bool]]) -> None:
        """
        (X26) Whatever turns come and go: each prompt is offered exactly its own
        tools, once each and as it defined them; no name of a live turn is ever
        withdrawn but one that the prompt has for another tool, and afterwards
        the names of all turns are registered, once each.
        """
        self.registration = Registration(hello, True)
        self.lists = []
        self.daemonReads([self.registration.opening()])
        live: dict[str, set[str]] = {}
        for sid, definitions, isTidy in steps:
            if sid in live:
                self.registration.withdraw(sid)
                del live[sid]
                if isTidy and self.registration.isStale:
                    self.daemonReads([self.registration.opening()])
                continue
            own = [tool(name, text) for name, text in definitions.items()]
            others = self.registration.live
            apart = {name for name in others if name in definitions and others[name] not in own}
            count = len(self.lists)
            self.ask(prompt(sid, own))
            live[sid] = set(definitions)
            self.assertEqual(
                sorted((each.name, each.description) for each in self.offered), sorted(definitions.items())
            )
            for listed in self.lists[count:]:
                self.assertLessEqual(others.keys() - apart, {each.name for each in listed})
            names = [each.name for each in self.lists[-1]]
            self.assertEqual(sorted(names), sorted(set().union(*live.values())))
            self.assertFalse(self.registration.isStale)

    def test_namesThatAreHiddenAlready(self) -> None:
        """
        What a prompt disallows besides stays, and no name is said twice.
        """
        self.ask(prompt("a", [tool("f"), tool("g")]))
        said = ["Bash", OUR_PREFIX + "f", OUR_PREFIX + "k"]
        asked = next(
            tone for tone in self.registration.around(prompt("b", (), said)) if isinstance(tone, Prompt)
        )
        self.assertEqual(asked.disallowedTools, [*said, OUR_PREFIX + "g"])

    def test_moreNamesThanCanBeHidden(self) -> None:
        """
        (X26) Those that do not fit into the argument are withdrawn while the
        prompt passes.
        """
        many = [tool(f"{number:04}".ljust(54, "x")) for number in range(100)]
        self.ask(prompt("a", many))
        self.ask(prompt("b", [tool("f"), many[-1]], ["x" * (MAX_ARGUMENT - 65 * 10 - 1)]))
        self.assertEqual(self.offered, [many[-1], tool("f")])
        passing, after = self.lists[-2:]
        self.assertEqual(passing, [*many[:10], many[-1]])
        self.assertEqual(after, [*many, tool("f")])

    def test_formerNames(self) -> None:
        """
        They are registered before the prompt, whose warm process may call them
        at once, until the turn is over. It offers none but its own.
        """
        self.ask(prompt("a", [tool("f_2"), tool("g")]), [tool("f"), tool("g")])
        self.assertEqual(self.lists, [[tool("f"), tool("g")], [tool("f"), tool("g"), tool("f_2")]])
        self.assertEqual(self.offered, [tool("g"), tool("f_2")])
        self.ask(prompt("b", [tool("f")]))
        self.assertEqual(self.offered, [tool("f")])
        self.ask(prompt("a", [tool("f_2"), tool("g")]), [tool("f"), tool("g")])
        self.assertEqual(self.offered, [tool("g"), tool("f_2")])
        self.registration.withdraw("a")
        self.assertTrue(self.registration.isStale)
        self.registration.withdraw("b")
        self.assertEqual(self.registration.opening().tools, [])

    def test_formerNameThatSomebodyElseHas(self) -> None:
        """
        The definition of who has it now is the one that is listed.
        """
        self.ask(prompt("a", [tool("f", "theirs")]))
        self.ask(prompt("b", [tool("f_2")]), [tool("f", "mine")])
        self.assertEqual(self.offered, [tool("f_2")])
        self.assertEqual(self.lists[-1], [tool("f", "theirs"), tool("f_2")])
        self.registration.withdraw("a")
        self.assertCountEqual(told(self.registration.opening()), [tool("f_2"), tool("f", "mine")])

    def test_oneOfVeryMany(self) -> None:
        """
        What a turn costs does not grow with the number of turns that are not
        over: thousands may be parked, and all are adopted at a start.
        """
        tools = [tool("f"), tool("g")]

        def steps() -> int:
            count = 0

            def note(frame: FrameType, event: str, _: object) -> None:
                nonlocal count
                count += event.endswith("call")

            sys.setprofile(note)
            try:
                self.registration.adopt("last", tools)
                self.registration.isStale
                self.registration.around(prompt("last", tools))
                self.registration.around(prompt("other", tools))
                self.registration.withdraw("last")
                self.registration.isStale
            finally:
                sys.setprofile(None)
            return count

        self.addCleanup(sys.setprofile, sys.getprofile())
        self.registration.adopt("first", tools)
        alone = steps()
        for number in range(100):
            self.registration.adopt(f"sid{number}", tools)
        self.assertGreater(alone, 0)
        self.assertLessEqual(steps(), alone)

    def test_aroundChangesNothing(self) -> None:
        """
        Nothing is declared until it has been written.
        """
        self.registration.around(prompt("a", [tool("f")]))
        self.assertFalse(self.registration.isStale)
        self.assertEqual(self.registration.opening().tools, [])

    def test_switchedOff(self) -> None:
        """
        Without registration a prompt goes out alone and whole.
        """
        registration = Registration(hello, False)
        asked = prompt("a", [tool("f")])
        self.assertEqual(registration.around(asked), [asked])
        registration.declare(asked)
        self.assertEqual(registration.opening().tools, [])
        self.assertEqual(registration.live, {})

    def test_sharedPromptIsLeftAsItWas(self) -> None:
        """
        The caller's prompt keeps its tools.
        """
        self.ask(prompt("a", [tool("f"), tool("g")]))
        asked = prompt("b", [tool("f")])
        self.registration.around(asked)
        self.assertEqual((asked.tools, asked.disallowedTools), ([tool("f")], None))
