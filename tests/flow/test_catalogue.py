"""
What each model is offered when a worker has one list of tools for all, and
which names this bee answers for meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from twisted.internet.testing import StringTransport

from openai_server.api.rules import MAX_TOOLS
from tests.dialects import inBothAPIs
from tests.flow.support import FlowCase, Message, Talk, function, steps, user
from tests.world import World

#: Seconds that a process needs to start, as a real one does.
START_UP = 2.0
LIST = {"list_startup": 1}


def names(tools: Sequence[Any]) -> list[str]:
    """
    The names of some definitions of the wire.
    """
    return [tool["name"] for tool in tools]


class CatalogueCase(FlowCase):
    """
    A server whose worker's processes start slowly.
    """

    def world(self, **settings: Any) -> World:
        """
        @ivar ready: the tools of this server's in each C{session-ready}, by sid.
        """
        world = World(self, daemonSettings={"startUp": START_UP}, **settings)
        self.ready: dict[str, list[str]] = {}
        world.daemon.faults.dropTone = self.noted
        return world

    def noted(self, line: bytes) -> bool:
        """
        Note a tone on its way to this server, and lose none.
        """
        tone = json.loads(line)
        if tone["chi"] == "session-ready":
            ours = [name for name in tone["tools"] if name.startswith("mcp__hum__")]
            self.ready[tone["sid"]] = [name.removeprefix("mcp__hum__") for name in ours]
        return False

    def listing(self, world: World, *tools: Any, **fields: Any) -> Talk:
        """
        Ask a model with these tools what it was offered.
        """
        talk = Talk(world, tools=list(tools), **fields)
        talk.post(steps(LIST))
        return talk

    def assertOffered(self, talk: Talk, *expected: str) -> None:
        """
        What the model said that it was offered.
        """
        assert talk.last is not None
        self.assertSaid(talk.last, json.dumps(list(expected)))

    def hidden(self, world: World) -> list[list[str]]:
        """
        What each prompt disallows of tools of this server's.
        """
        said = [prompt.get("disallowedTools", ()) for prompt in world.sent("prompt")]
        return [[name for name in names if name.startswith("mcp__hum__")] for names in said]

    def differences(self, world: World) -> int:
        """
        How often a model saw something else than it was offered.
        """
        return world.front.submitter.counters.get("catalogue_differences")


@inBothAPIs
class AgentsTests(CatalogueCase):
    """
    Agents with tools of their own.
    """

    def test_eightAgentsAtOnce(self) -> None:
        """
        U31, X26: eight clients with different tools, some of the same name
        with another meaning, in the same moment: each model is offered
        exactly its own, once each, where the meaning is another under another
        name; every call comes to its own client with the name and the
        arguments that this knows; none is lost.
        """
        world = self.world()
        talks = []
        wire = ["shared", "shared", *(f"shared_{n // 2 + 1}" for n in range(2, 8))]
        for n in range(8):
            shared = function("shared", **{f"of_{n // 2}": {"type": "string"}})
            talk = Talk(world, tools=[function(f"only_{n}"), shared], stream=n % 2 == 0)
            played = [{"tool": wire[n], "args": {"n": n}}, {"tool": f"only_{n}", "args": {"n": n}}]
            talk.post(steps(LIST, *played, {"say": "Done."}))
            talks.append(talk)
        world.until(lambda: all(talk.last and talk.last.isComplete for talk in talks), 30)
        for n, talk in enumerate(talks):
            assert talk.last is not None
            self.assertCalls(talk.heard(talk.last), "shared")
            said = talk.last.text if talk.last.isStream else talk.last.message["content"]
            self.assertEqual(sorted(json.loads(said)), [f"only_{n}", wire[n]])
        self.assertEqual(len(self.ready), 8)
        for name in ("shared", "only"):
            for n, talk in enumerate(talks):
                self.assertEqual(json.loads(talk.calls[0]["function"]["arguments"]), {"n": n})
                client = talk.post(*talk.resultsOf(f"{name} {n}"))
                world.advance(0.1, 0.01)
                talk.heard(client)
        for n, talk in enumerate(talks):
            assert talk.last is not None
            self.assertSaid(talk.last, f"[only {n}]Done.", "continued")
        sent = sorted(tone["output"] for tone in world.sent("tool-result"))
        self.assertEqual(sent, sorted(f"{name} {n}" for name in ("shared", "only") for n in range(8)))
        self.assertEqual(self.differences(world), 0)
        self.assertEqual(world.link.counts["unrouted_calls"], 0)
        self.assertEqual(len(self.sids(world)), 8)
        world.settle()

    def test_callsWhileOthersStart(self) -> None:
        """
        U31: agents that call while others start: no call is lost, whatever
        hello is in force.
        """
        world = self.world()
        talks = [Talk(world, tools=[function(f"only_{n}")]) for n in range(6)]
        for n, talk in enumerate(talks):
            talk.post(steps({"sleep": 2.0 * (5 - n)}, {"tool": f"only_{n}", "args": {}}))
        world.advance(16)
        for n, talk in enumerate(talks):
            assert talk.last is not None
            self.assertCalls(talk.heard(talk.last), f"only_{n}")
            self.assertSaid(talk.results(f"{n}"), f"[{n}]")
        self.assertEqual(world.link.counts["unrouted_calls"], 0)
        world.settle()


class GateTests(CatalogueCase):
    """
    Which prompts wait for which (U31).
    """

    def test_sameToolsStartTogether(self) -> None:
        """
        U31: they do no harm to each other.
        """
        world = self.world()
        talks = [self.listing(world, function()) for _ in range(4)]
        self.assertEqual(len(self.sids(world)), 4)
        world.advance(3)
        for talk in talks:
            self.assertOffered(talk, "look")
        world.settle()

    def test_otherToolsWaitForASignOfLife(self) -> None:
        """
        U31: the second prompt goes out when the first's process has read its
        list, and no later.
        """
        world = self.world()
        first = self.listing(world, function("look"))
        second = self.listing(world, function("smell"))
        world.advance(1.9, 0.05)
        self.assertEqual(len(self.sids(world)), 1)
        world.advance(0.2, 0.05)
        self.assertEqual(len(self.sids(world)), 2)
        world.advance(3)
        self.assertOffered(first, "look")
        self.assertOffered(second, "smell")
        self.assertEqual(self.differences(world), 0)
        world.settle()

    def test_moreNamesThanCanBeHidden(self) -> None:
        """
        U31: where the names of two lists do not fit into one argument of a
        process beside the operator's own, a prompt without tools waits until
        the last list is known, and is answered.
        """
        own = ["Bash", "x" * 40_000]
        world = self.world(disallowedTools=tuple(own))
        for letter in "ab":
            many = [function(f"{letter}{number:04}".ljust(54, "x")) for number in range(MAX_TOOLS)]
            self.listing(world, *many)
            world.advance(0.5 if letter == "b" else 3)
        innocent = Talk(world, model="echo").post(user("hello"))
        self.assertEqual(len(self.sids(world)), 2)
        world.advance(5)
        self.assertSaid(innocent, "hello")
        hidden = world.sent("prompt")[2]["disallowedTools"]
        self.assertEqual(hidden, [*own, *(f"mcp__hum__{tool['function']['name']}" for tool in many)])
        self.assertLess(len(" ".join(hidden)), 100_000)
        world.settle()

    def test_sameNamesWithAnotherMeaning(self) -> None:
        """
        U31: another schema is another tool.
        """
        world = self.world()
        self.listing(world, function("look"))
        self.listing(world, function("look", at={"type": "string"}))
        world.advance(1)
        self.assertEqual(len(self.sids(world)), 1)
        world.advance(5)
        world.settle()

    def test_noToolsStartAtOnce(self) -> None:
        """
        U31: a prompt without tools cannot change the list; what its model must
        not see of it is disallowed by name.
        """
        world = self.world(disallowedTools=("Bash",))
        first = self.listing(world, function("look"), function("smell"))
        second = self.listing(world)
        self.assertEqual(len(self.sids(world)), 2)
        prompt = world.sent("prompt")[1]
        self.assertEqual(prompt["disallowedTools"], ["Bash", "mcp__hum__look", "mcp__hum__smell"])
        self.assertNotIn("tools", prompt)
        world.advance(3)
        self.assertOffered(first, "look", "smell")
        self.assertOffered(second)
        self.assertEqual(self.differences(world), 0)
        world.settle()

    def test_toolsWaitForPromptsWithoutAny(self) -> None:
        """
        U31: their processes read the list too.
        """
        world = self.world()
        first = self.listing(world)
        second = self.listing(world, function("look"))
        world.advance(1)
        self.assertEqual(len(self.sids(world)), 1)
        world.advance(4)
        self.assertOffered(first)
        self.assertOffered(second, "look")
        world.settle()

    def test_knownSessionsWaitToo(self) -> None:
        """
        U31: every prompt with tools overwrites the list, and a process that
        was idle for too long is started anew and reads it.
        """
        world = self.world()
        talk = self.listing(world, function("look"))
        world.advance(3)
        assert talk.last is not None
        talk.heard(talk.last)
        world.advance(301)
        other = self.listing(world, function("smell"))
        talk.post(steps(LIST))
        world.advance(1)
        self.assertEqual(len(self.sids(world)), 2)
        world.advance(5)
        assert talk.last is not None
        self.assertSaid(talk.last, '["look"]', "continued")
        self.assertOffered(other, "smell")
        world.settle()

    def test_silentStart(self) -> None:
        """
        U31: a turn that shows nothing is waited for 15 s.
        """
        world = self.world()
        Talk(world, model="silence", tools=[function("look")]).post(user("x"))
        second = self.listing(world, function("smell"))
        world.advance(14.5)
        self.assertEqual(len(self.sids(world)), 1)
        world.advance(4)
        self.assertOffered(second, "smell")
        world.clients[0].leave()
        world.advance(600, 10)
        world.settle()

    def test_clientThatLeavesWhileItsProcessStarts(self) -> None:
        """
        U31: nobody cares any more what that one sees.
        """
        world = self.world()
        first = self.listing(world, function("look"))
        second = self.listing(world, function("smell"))
        assert first.last is not None
        first.last.leave()
        world.advance(0)
        self.assertEqual(len(self.sids(world)), 2)
        world.advance(4)
        self.assertOffered(second, "smell")
        world.settle()

    def test_clientThatLeavesAtTheGate(self) -> None:
        """
        K6, U31: nothing is sent for it.
        """
        world = self.world()
        self.listing(world, function("look"))
        second = self.listing(world, function("smell"))
        third = self.listing(world, function("hear"))
        assert second.last is not None
        second.last.leave()
        world.advance(5)
        self.assertEqual([names(tone["tools"]) for tone in world.sent("prompt")], [["look"], ["hear"]])
        self.assertOffered(third, "hear")
        world.settle()

    def test_waitAtTheGate(self) -> None:
        """
        U31: two minutes at most, then 429; it does not count towards the wait
        for a slot.
        """
        world = self.world(maxTurns=0)
        talks = [Talk(world, model="silence", tools=[function(f"only_{n}")]) for n in range(10)]
        clients = [talk.post(user("x")) for talk in talks]
        world.advance(119)
        self.assertEqual([client.status for client in clients], [None] * 10)
        self.assertEqual(len(self.sids(world)), 8)
        world.advance(2)
        for client in clients:
            if client.status is not None:
                self.assertRefused(client, 429, "server_is_overloaded")
        self.assertEqual(len(self.sids(world)) + len(world.ends), 10)
        self.assertGreaterEqual(len(world.ends), 1)
        for client in clients:
            client.leave()
        world.advance(620, 10)
        world.settle()

    def test_otherWorkersDoNotWait(self) -> None:
        """
        U31: the list is a worker's.
        """
        world = self.world()
        world.daemon.killWorkers()
        world.daemon.addWorker("script")
        world.daemon.addWorker("tool-one")
        world.advance(1)
        self.listing(world, function("look"))
        talk = Talk(world, model="tool-one", tools=[function("smell")])
        talk.post(user("x"))
        self.assertEqual(len(self.sids(world)), 2)
        world.advance(3)
        assert talk.last is not None
        self.assertCalls(talk.heard(talk.last), "smell")
        talk.results("fishy")
        world.settle()

    def test_differenceIsCountedAndLogged(self) -> None:
        """
        U31: another client of the daemon changes the list meanwhile: the
        answer is given all the same, and who asks next does not see that.
        """
        world = self.world()
        talk = self.listing(world, function("look"))
        bee = world.daemon.buildProtocol()
        assert bee is not None
        world.recorder.ignored.add(bee.number)
        bee.makeConnection(StringTransport())
        tools = [{"name": "theirs", "inputSchema": {"type": "object"}}]
        tone = {"chi": "prompt", "sid": "other", "modelId": "echo", "content": "x", "tools": tools}
        bee.dataReceived(json.dumps(tone).encode() + b"\n")
        world.advance(3)
        self.assertOffered(talk, "look", "theirs")
        self.assertEqual(self.differences(world), 1)
        warned = [event for event in world.logged if "sees other tools" in str(event.get("log_format"))]
        self.assertEqual([(event["missing"], event["surplus"]) for event in warned], [(0, 1)])
        other = self.listing(world)
        world.advance(3)
        self.assertOffered(other)
        self.assertIn("mcp__hum__theirs", self.hidden(world)[-1])
        self.assertEqual(self.differences(world), 1)
        world.settle()


@inBothAPIs
class RegistrationTests(CatalogueCase):
    """
    The hellos around a prompt, and between them.
    """

    def parked(self, world: World, *tools: Any) -> Talk:
        """
        A client whose model waits for the result of a call of the first tool.
        """
        talk = Talk(world, tools=list(tools))
        name = tools[0]["function"]["name"]
        client = talk.ask(steps({"tool": name, "args": {"of": name}}))
        self.assertCalls(client, name)
        return talk

    def since(self, world: World, count: int) -> list[tuple[str, list[str]]]:
        """
        Kind and tools of the tones that came behind so many.
        """
        tones = [tone for tone in world.recorder.tones[count:] if tone["chi"] in ("hello", "prompt")]
        return [(tone["chi"], names(tone.get("tools", ()))) for tone in tones]

    def test_namesAreRegisteredBehindTheirPrompt(self) -> None:
        """
        X26: the hello that precedes would show them twice.
        """
        world = self.world()
        count = len(world.recorder.tones)
        talk = self.parked(world, function("look"))
        self.assertEqual(self.since(world, count), [("prompt", ["look"]), ("hello", ["look"])])
        talk.results("grey")
        world.settle()

    def test_namesOfOthersAreNotShown(self) -> None:
        """
        X26: in one write: the prompt with what is not live and the rest hidden,
        a hello with all; the model sees its own tools once each.
        """
        world = self.world()
        first = self.parked(world, function("look"), function("shared"))
        count = len(world.recorder.tones)
        second = self.listing(world, function("shared"), function("smell"))
        self.assertEqual(
            self.since(world, count),
            [("prompt", ["smell"]), ("hello", ["look", "shared", "smell"])],
        )
        self.assertEqual(self.hidden(world), [[], ["mcp__hum__look"]])
        world.advance(3)
        self.assertOffered(second, "shared", "smell")
        self.assertSaid(first.results("grey"), "[grey]")
        self.assertEqual(self.differences(world), 0)
        world.settle()

    def test_sameNameWithAnotherMeaning(self) -> None:
        """
        X26: the later session's tool has another name on the wire, of which
        its client sees nothing, and each call goes to its own client. What
        the system prompt says of the tool names it so too.
        """
        world = self.world()
        first = self.parked(world, function("look", left={"type": "string"}))
        wanted = function("look", right={"type": "string"})
        wanted["function"]["description"] = "Long. " * 500
        choice = {"type": "function", "function": {"name": "look"}}
        second = Talk(world, tools=[wanted], tool_choice=choice)
        self.assertCalls(second.ask(steps({"tool": "look_2", "args": {}})), "look")
        [_, prompt] = world.sent("prompt")
        self.assertEqual([tool["name"] for tool in prompt["tools"]], ["look_2"])
        self.assertIn("the tool look_2:", prompt["systemPrompt"])
        self.assertIn("a call of the tool look_2.", prompt["systemPrompt"])
        self.assertEqual(prompt["sampling"]["toolChoice"]["name"], "look_2")
        self.assertEqual(list(self.ready.values()), [["look"], ["look_2"]])
        self.assertSaid(first.results("first"), "[first]")
        self.assertSaid(second.results("second"), "[second]")
        self.assertEqual(self.differences(world), 0)
        world.settle()

    def test_nameOfASession(self) -> None:
        """
        X26: a session goes on under the name that it has, though the usual one
        is free again; the next session has that.
        """
        world = self.world()
        first = self.parked(world, function("look", left={"type": "string"}))
        tool = function("look", right={"type": "string"})
        second = Talk(world, tools=[tool])
        second.ask(user("hello"))
        first.results("grey")
        self.assertCalls(second.ask(steps({"tool": "look_2", "args": {}})), "look")
        self.assertSaid(second.results("white"), "[white]", "continued")
        self.assertEqual(self.since(world, 0)[-2:], [("hello", ["look_2"]), ("prompt", [])])
        third = Talk(world, tools=[tool])
        third.ask(user("hello"))
        self.assertEqual(names(world.sent("prompt")[-1]["tools"]), ["look"])
        world.settle()

    def test_warmProcessWhoseNameSomebodyElseHas(self) -> None:
        """
        X26: the session goes on. Its process may call the tool by the name
        that it was started with, or, when it was started anew, by the later
        one.
        """
        for seconds, said in ((1, "look"), (301, "look_2")):
            world = self.world()
            first = Talk(world, tools=[function("look", left={"type": "string"})])
            first.ask(user("hello"))
            world.advance(seconds)
            second = self.parked(world, function("look", right={"type": "string"}))
            self.assertCalls(first.ask(steps(LIST, {"tool": said, "args": {}})), "look")
            assert first.last is not None
            self.assertEqual(json.loads(first.last.message["content"]), [said])
            self.assertSaid(second.results("white"), "[white]")
            self.assertSaid(first.results("grey"), "[grey]", "continued")
            self.assertEqual(self.differences(world), 0)
            self.assertEqual(world.link.counts["unrouted_calls"], 0)
            world.settle()

    def test_workerOfOthers(self) -> None:
        """
        X26: names are live for all workers, so a prompt waits for a process
        that would see those of another worker's turns, and hides them.
        """
        world = self.world()
        world.daemon.killWorkers()
        world.daemon.addWorker("script")
        world.daemon.addWorker("tool-one")
        world.advance(1)
        first = self.listing(world, function("look"))
        elsewhere = Talk(world, model="tool-one", tools=[function("smell")])
        elsewhere.post(user("x"))
        second = self.listing(world, function("look"))
        self.assertEqual(len(self.sids(world)), 2)
        world.advance(5)
        for talk in (first, second):
            self.assertOffered(talk, "look")
        self.assertEqual(self.hidden(world)[2], ["mcp__hum__smell"])
        assert elsewhere.last is not None
        elsewhere.heard(elsewhere.last)
        elsewhere.results("fishy")
        self.assertEqual(self.differences(world), 0)
        world.settle()

    def test_namesLeaveWithTheLastTurnThatDeclaredThem(self) -> None:
        """
        X28: within a second; a name that two turns share stays with the
        second.
        """
        world = self.world()
        first = self.parked(world, function("look"), function("hear"))
        second = self.parked(world, function("look"), function("smell"))
        first.results("grey")
        world.advance(1)
        self.assertEqual(sorted(names(world.sent("hello")[-1]["tools"])), ["look", "smell"])
        second.results("white")
        world.advance(1)
        self.assertEqual(world.sent("hello")[-1]["tools"], [])
        world.settle()

    def test_namesOfDrainingTurnsStay(self) -> None:
        """
        X28, X16: its model may call until it has ended, and has to be
        answered.
        """
        world = self.world()
        talk = Talk(world, tools=[function()], stream=True)
        client = talk.post(steps({"say": "Half."}, {"sleep": 3}, {"tool": "look", "args": {}}))
        world.advance(2.5)
        client.leave()
        world.advance(2)
        self.assertEqual(names(world.sent("hello")[-1]["tools"]), ["look"])
        world.advance(3)
        self.assertEqual(len(world.sent("tool-result")), 1)
        self.assertEqual(world.sent("hello")[-1]["tools"], [])
        world.settle()

    def test_toolsThatChangeWithTheNextPrompt(self) -> None:
        """
        U33, X28: a fresh sid, whose model is offered the new ones alone.
        """
        world = self.world()
        talk = self.parked(world, function("look"))
        talk.results("grey")
        said: Message = steps(LIST)
        self.assertSaid(talk.ask(said, tools=[function("smell")]), '["smell"]', "forked")
        world.settle()
