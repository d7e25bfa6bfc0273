"""
Function calls and their results, as clients see them and as the daemon does.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.testing import StringTransport

from openai_server import constants
from openai_server.daemon.turn import NOBODY_ANSWERS
from openai_server.sessions.conversation import UNKNOWN_TOOL
from tests.dialects import inBothAPIs
from tests.flow.support import FlowCase, Talk, function, image, result, steps, user
from tests.world import World


def call(name: str = "look", **members: Any) -> dict[str, Any]:
    """
    A script's step that calls a tool and says what came back.
    """
    return {"tool": name, "args": {"at": "heron"}, **members}


#: A tool of free text.
PATCH = {"type": "custom", "custom": {"name": "patch", "description": "Applies a patch."}}


def chunk(kind: str, **members: Any) -> dict[str, Any]:
    """
    A chunk of a turn.
    """
    return {"chi": "chunk", "chunkType": kind, "blockIdx": 0, **members}


def inject(world: World, sid: str, *tones: dict[str, Any]) -> None:
    """
    Let the worker say something more on a session.
    """
    assert world.daemon.state is not None
    world.daemon.state.deliver(sid, [json.dumps({"sid": sid, **tone}).encode() + b"\n" for tone in tones])
    world.flush()


@inBothAPIs
class LoopTests(FlowCase):
    """
    One call and its result.
    """

    def test_callEndsTheAnswerAndItsResultGoesOn(self) -> None:
        """
        X11, X18: the answer ends with the call; the result goes out as one
        string, and what the same turn says then is the next answer.
        """
        world = World(self)
        talk = Talk(world, tools=[function()])
        first = talk.ask(steps({"say": "Let me look."}, call()))
        self.assertCalls(first, "look")
        self.assertEqual(first.message["content"], "Let me look.")
        [made] = first.calls
        self.assertEqual(made["type"], "function")
        self.assertEqual(json.loads(made["function"]["arguments"]), {"at": "heron"})
        self.assertRegex(made["id"], r"\Acall_[A-Za-z0-9_-]{20,35}\Z")
        self.assertEqual(first.header("x-hum-session"), "new")
        self.assertResults(world)
        second = talk.results("grey")
        self.assertSaid(second, "[grey]", "continued")
        [sent] = world.sent("tool-result")
        self.assertEqual((sent["output"], sent["result"], sent["toolName"]), ("grey", "grey", "look"))
        self.assertEqual([sent["sid"]], self.sids(world))
        world.settle()
        self.assertEqual(world.ends, ["ok", "ok"])

    def test_contentIsNullWhereNothingWasSaid(self) -> None:
        """
        X11: no text, no empty string.
        """
        world = World(self)
        talk = Talk(world, tools=[function()])
        client = talk.ask(steps(call()))
        self.assertIsNone(client.message["content"])
        talk.results("grey")
        world.settle()

    def test_textThatWasHeldBackComesBeforeTheCall(self) -> None:
        """
        What might have been the beginning of a stop string, or the end of a
        fence, is text after all.
        """
        for said, expected, fields in (
            ("One. ST", "One. ST", {"stop": "STOP"}),
            ("```json\n{}\n``", "{}\n``", {"response_format": {"type": "json_object"}}),
        ):
            if not self.api.knows(*fields):
                continue
            world = World(self)
            talk = Talk(world, tools=[function()], **fields)
            client = talk.ask(steps({"say": said}, call(saying="")))
            self.assertCalls(client, "look")
            self.assertEqual(client.message["content"], expected)
            self.assertEqual(talk.results("grey").header("x-hum-session"), "continued")
            self.assertEqual(talk.ask(steps({"say": "Yes."})).header("x-hum-session"), "continued")
            world.settle()

    def test_oneTurnGoesOnOverManyAnswers(self) -> None:
        """
        X18: call after call in one turn; every answer has only the new text.
        """
        world = World(self)
        talk = Talk(world, tools=[function("look"), function("smell")])
        said = [{"say": "One."}, call("look"), {"say": "Two."}, call("smell"), {"say": "Three."}]
        self.assertCalls(talk.ask(steps(*said)), "look")
        second = talk.results("grey")
        self.assertCalls(second, "smell")
        self.assertEqual(second.message["content"], "[grey]Two.")
        self.assertSaid(talk.results("fishy"), "[fishy]Three.", "continued")
        self.assertEqual(len(self.sids(world)), 1)
        self.assertResults(world, ("grey", False), ("fishy", False))
        world.settle()

    def test_aConversationGoesOnAfterItsCalls(self) -> None:
        """
        The next question of a client that shows calls and results goes to the
        same warm session, alone.
        """
        world = World(self)
        talk = Talk(world, tools=[function()])
        talk.ask(steps(call()))
        talk.results("grey")
        self.assertSaid(talk.ask(steps({"say": "Yes."})), "Yes.", "continued")
        first, second = self.sids(world)
        self.assertEqual(first, second)
        self.assertNotIn("heron", self.contents(world)[1])
        world.settle()

    def test_callsInAMessageEach(self) -> None:
        """
        (X18) A client that shows two calls of one answer as call, result, call,
        result: each result reaches its call, and the conversation goes on in
        its session.
        """
        world = World(self)
        talk = Talk(world, tools=[function("look"), function("smell")])
        made = {"tools": [{"tool": "look", "args": {}}, {"tool": "smell", "args": {}}]}
        self.assertCalls(talk.ask(steps(made, {"say": "Done."})), "look", "smell")
        answer = talk.messages.pop()
        pairs = []
        for called, text in zip(answer["tool_calls"], ("grey", "fishy"), strict=True):
            pairs.append({"role": "assistant", "content": None, "tool_calls": [called]})
            pairs.append(result(called["id"], text))
        self.assertSaid(talk.ask(*pairs), "[grey][fishy]Done.", "continued")
        self.assertResults(world, ("grey", False), ("fishy", False))
        self.assertSaid(talk.ask(steps({"say": "Yes."})), "Yes.", "continued")
        self.assertEqual(len(set(self.sids(world))), 1)
        world.settle()

    def test_workersOwnMirrorIsNotShown(self) -> None:
        """
        What the worker tells of a client's own call is left out, also where
        its own tools are shown; those are never calls.
        """
        world = World(self, workerTools=True)
        own = {"raw": chunk("tool_executed", callId="own", toolName="Bash", output="x", arguments={})}
        talk = Talk(world, tools=[function()])
        self.assertCalls(talk.ask(steps(call())), "look")
        second = talk.results("grey")
        self.assertSaid(second, "[grey]")
        self.assertNotIn(b"Bash", second.content)
        third = talk.ask(steps(own, {"say": "Done."}))
        self.assertSaid(third, "Done.")
        self.assertIn(b"Bash", third.content)
        world.settle()

    def test_workersOwnToolsAreHiddenUnlessAsked(self) -> None:
        """
        C{workerTools} is off by itself.
        """
        world = World(self)
        own = {"raw": chunk("tool_executed", callId="own", toolName="Bash", output="x", arguments={})}
        client = Talk(world).ask(steps(own, {"say": "Done."}))
        self.assertEqual(client.message, {"role": "assistant", "content": "Done.", "refusal": None})
        world.settle()


class DeltaTests(FlowCase):
    """
    Calls in the deltas of chat's streams.
    """

    def test_streamedCall(self) -> None:
        """
        X11: the call's first delta has index, id, type and name, the others
        nothing but arguments; text comes before, one finish and C{[DONE]} after.
        """
        world = World(self)
        talk = Talk(world, tools=[function()], stream=True)
        client = talk.ask(steps({"say": "Let me look."}, call()))
        self.assertCalls(client, "look")
        self.assertEqual(client.text, "Let me look.")
        pieces = [delta["tool_calls"] for delta in client.deltas if "tool_calls" in delta]
        [[start], *rest] = pieces
        self.assertEqual(
            start,
            {
                "index": 0,
                "id": talk.calls[0]["id"],
                "type": "function",
                "function": {"name": "look", "arguments": ""},
            },
        )
        for [piece] in rest:
            self.assertEqual(piece.keys(), {"index", "function"})
            self.assertEqual(piece["function"].keys(), {"arguments"})
        self.assertEqual(json.loads(client.calls[0]["function"]["arguments"]), {"at": "heron"})
        self.assertEqual(client.events[-1], "[DONE]")
        self.assertSaid(talk.results("grey"), "[grey]", "continued")
        world.settle()

    def test_severalCalls(self) -> None:
        """
        X12: calls of one answer have dense indexes.
        """
        world = World(self)
        talk = Talk(world, tools=[function("look"), function("smell")], stream=True)
        made = {"tools": [{"tool": "look", "args": {}}, {"tool": "smell", "args": {}}]}
        client = talk.ask(steps(made))
        indexes = [piece["index"] for delta in client.deltas for piece in delta.get("tool_calls", ())]
        self.assertEqual(indexes, sorted(indexes))
        self.assertEqual(set(indexes), {0, 1})
        talk.results("grey", "fishy")
        world.settle()

    def test_customCall(self) -> None:
        """
        A custom tool's input in pieces, name first.
        """
        world = World(self)
        talk = Talk(world, tools=[PATCH], stream=True)
        client = talk.post(steps({"tool": "patch", "args": {"input": "*** Begin\n{\n"}}))
        world.advance(1)
        pieces = [piece for delta in client.deltas for piece in delta.get("tool_calls", ())]
        self.assertEqual((pieces[0]["type"], pieces[0]["custom"]["name"]), ("custom", "patch"))
        said = "".join(piece["custom"].get("input", "") for piece in pieces)
        self.assertEqual(said, "*** Begin\n{\n")
        made = {**pieces[0], "custom": {"name": "patch", "input": said}}
        talk.messages.append({"role": "assistant", "tool_calls": [made]})
        self.assertSaid(talk.ask(result(pieces[0]["id"], "ok")), "[ok]", "continued")
        world.settle()


@inBothAPIs
class WindowTests(FlowCase):
    """
    Which calls leave together (X12).
    """

    def two(self, world: World, gap: float, **fields: Any) -> Talk:
        """
        A client whose model makes two calls, so many seconds apart.
        """
        talk = Talk(world, tools=[function("look"), function("smell")], **fields)
        made = {"tools": [{"tool": "look", "args": {}}, {"tool": "smell", "args": {}}], "gap": gap}
        talk.post(steps(made, {"say": "Done."}))
        world.advance(0.3 + 2 * gap, 0.001)
        assert talk.last is not None
        talk.heard(talk.last)
        return talk

    def test_tenMillisecondsApartIsOneAnswer(self) -> None:
        """
        X12: both leave in one answer, with different ids.
        """
        world = World(self)
        talk = self.two(world, 0.01, stream=True)
        assert talk.last is not None
        self.assertCalls(talk.last, "look", "smell")
        self.assertEqual(len({made["id"] for made in talk.calls}), 2)
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]Done.", "continued")
        self.assertResults(world, ("grey", False), ("fishy", False))
        world.settle()

    def test_fiftyMillisecondsApartIsTwoAnswers(self) -> None:
        """
        X12: the second call is kept for the next answer, and comes at once.
        """
        world = World(self)
        talk = self.two(world, 0.05)
        assert talk.last is not None
        self.assertCalls(talk.last, "look")
        second = talk.post(*talk.resultsOf("grey"))
        world.advance(0.05, 0.01)
        self.assertCalls(talk.heard(second), "smell")
        self.assertSaid(talk.results("fishy"), "[grey][fishy]Done.", "continued")
        self.assertResults(world, ("grey", False), ("fishy", False))
        world.settle()

    def test_eachCallOpensTheWindowAnew(self) -> None:
        """
        X12: the window runs from the latest call.
        """
        world = World(self)
        talk = Talk(world, tools=[function()])
        made = {"tools": [{"tool": "look", "args": {"n": n}} for n in range(4)], "gap": 0.015}
        talk.post(steps(made))
        world.advance(0.5, 0.001)
        assert talk.last is not None
        self.assertCalls(talk.heard(talk.last), "look", "look", "look", "look")
        talk.results("a", "b", "c", "d")
        world.settle()

    def test_windowIsAConstant(self) -> None:
        """
        C{COLLECT_WINDOW}.
        """
        self.patch(constants, "COLLECT_WINDOW", 0.1)
        world = World(self)
        talk = self.two(world, 0.05)
        assert talk.last is not None
        self.assertCalls(talk.last, "look", "smell")
        talk.results("grey", "fishy")
        world.settle()

    def test_oneAtATimeWhereTheClientWantsIt(self) -> None:
        """
        C{parallel_tool_calls: false}: one call an answer, in order, and the
        model is told.
        """
        world = World(self)
        talk = self.two(world, 0, parallel_tool_calls=False)
        assert talk.last is not None
        self.assertCalls(talk.last, "look")
        self.assertCalls(talk.results("grey"), "smell")
        self.assertSaid(talk.results("fishy"), "[grey][fishy]Done.")
        [prompt] = world.sent("prompt")
        self.assertIn("at most one tool at a time", prompt["systemPrompt"])
        self.assertIs(prompt["sampling"]["parallelToolCalls"], False)
        world.settle()

    def test_callWaitsForTheBlockThatIsBeingStreamed(self) -> None:
        """
        Text of the open block that comes behind a call belongs before it.
        """
        world = World(self)
        talk = Talk(world, tools=[function()], stream=True)
        opening = [{"raw": chunk("text_start")}, {"raw": chunk("text_delta", delta="Let me ")}]
        client = talk.post(steps(*opening, call()))
        world.advance(0.4, 0.01)
        self.assertEqual((client.text, client.calls), ("Let me ", []))
        [sid] = self.sids(world)
        inject(world, sid, chunk("text_delta", delta="look."), chunk("content_block_stop"))
        world.advance(0, 0.01)
        self.assertCalls(talk.heard(client), "look")
        self.assertEqual(client.text, "Let me look.")
        talk.results("grey")
        world.settle()

    def test_callDoesNotWaitForABlockForEver(self) -> None:
        """
        Where no end of the block comes, the call leaves after a second; calls
        that join it do not change that.
        """
        world = World(self)
        talk = Talk(world, tools=[function()])
        opening = [{"raw": chunk("text_start")}, {"raw": chunk("text_delta", delta="Let me ")}]
        client = talk.post(steps(*opening, call()))
        world.advance(1.15, 0.01)
        self.assertIsNone(client.status)
        world.advance(0.15, 0.01)
        self.assertCalls(talk.heard(client), "look")
        talk.results("grey")
        world.settle()

    def test_endOfTheBlockInOneReadWithTheCall(self) -> None:
        """
        The end of the block stands before the call: nothing is waited for.
        """
        world = World(self)
        talk = Talk(world, tools=[function()])
        opening = [{"raw": chunk("text_start")}, {"raw": chunk("text_delta", delta="Let me ")}]
        client = talk.post(steps(*opening, {"sleep": 0.1}, {"raw": chunk("content_block_stop")}, call()))
        world.advance(0.35, 0.01)
        self.assertCalls(talk.heard(client), "look")
        talk.results("grey")
        world.settle()

    def test_callAfterCallIsNotHeldBack(self) -> None:
        """
        What the worker tells of the first call is no block: the second one,
        which follows at once, leaves with the window.
        """
        world = World(self)
        talk = Talk(world, tools=[function()])
        talk.ask(steps(call(saying=""), call(saying="")))
        client = talk.post(*talk.resultsOf("grey"))
        world.advance(0.05, 0.01)
        self.assertCalls(talk.heard(client), "look")
        talk.results("brown")
        world.settle()

    def test_sameCallTwiceIsShownOnce(self) -> None:
        """
        X13: whatever the second one's arguments are.
        """
        for again in ({"at": "heron"}, {"at": "crane"}):
            world = World(self)
            talk = Talk(world, tools=[function()])
            client = talk.ask(steps(call(again=again)))
            self.assertCalls(client, "look")
            self.assertEqual(json.loads(client.calls[0]["function"]["arguments"]), {"at": "heron"})
            self.assertSaid(talk.results("grey"), "[grey]")
            self.assertEqual(world.link.counts["double_calls"], 1)
            self.assertResults(world, ("grey", False))
            world.settle()

    def test_sameCallIdInTwoTurns(self) -> None:
        """
        X14: a worker's ids are its own; each result goes to its own turn.
        """
        world = World(self)
        one, other = (Talk(world, tools=[function()]) for _ in range(2))
        one.ask(steps(call(callId="c1")))
        other.ask(steps(call(callId="c1"), {"say": "!"}))
        self.assertNotEqual(one.calls[0]["id"], other.calls[0]["id"])
        self.assertSaid(other.results("white"), "[white]!")
        self.assertSaid(one.results("grey"), "[grey]")
        sent = [(tone["sid"], tone["callId"], tone["output"]) for tone in world.sent("tool-result")]
        first, second = self.sids(world)
        self.assertEqual(sent, [(second, "c1", "white"), (first, "c1", "grey")])
        world.settle()


@inBothAPIs
class StrangeCallTests(FlowCase):
    """
    Calls that no client can answer.
    """

    def test_undeclaredCallIsAnsweredAndNotShown(self) -> None:
        """
        X15: the name is another turn's: the model is told that there is no
        such tool, the client sees nothing of it, and the other turn neither.
        """
        world = World(self)
        other = Talk(world, tools=[function("look")])
        other.ask(steps(call("look")))
        talk = Talk(world, tools=[function("smell")])
        client = talk.ask(steps(call("look"), {"say": "Then not."}))
        self.assertSaid(client, f"[error {UNKNOWN_TOOL}]Then not.")
        self.assertResults(world, (UNKNOWN_TOOL, True))
        self.assertEqual(world.front.submitter.counters.get("undeclared_calls"), 1)
        self.assertSaid(other.results("grey"), "[grey]")
        world.settle()

    def test_undeclaredCallThatNobodyCanAnswer(self) -> None:
        """
        X15: it came unrouted, so its result would be dropped: the turn fails,
        and no SDK runs it again.
        """
        world = World(self)
        client = Talk(world, model="tool-undeclared", tools=[function()]).ask(user("hello"))
        self.assertRefused(client, 502, "tool_route_lost")
        self.assertEqual(client.header("x-should-retry"), "false")
        self.assertResults(world)
        self.assertEqual(len(world.sent("cancel")), 1)
        self.assertEqual(world.ends, ["up-error"])
        world.advance(61)
        world.settle()

    def test_undeclaredCallThatNobodyCanAnswerOnAStream(self) -> None:
        """
        X15: text first, then an error event and no end that looks complete.
        """
        world = World(self)
        client = world.script({"say": "Half."}, call("nothing"), stream=True)
        world.advance(1)
        self.assertEqual(client.text, "Half.")
        self.assertEqual(client.failure and client.failure["code"], self.api.code("tool_route_lost"))
        self.assertFalse(client.looksComplete)
        world.advance(61)
        world.settle()

    def test_callOfADrainingTurn(self) -> None:
        """
        X16: its client is gone: the model is told at once, and once.
        """
        world = World(self)
        world.script({"say": "Half."}, {"sleep": 1}, call(), tools=[function()], stream=True)
        world.advance(0.5)
        world.clients[0].leave()
        world.advance(1)
        self.assertResults(world, (NOBODY_ANSWERS, True))
        world.settle()

    def test_callOfAFinishedOrForeignTurn(self) -> None:
        """
        X16: a call that was routed here by name and is of no turn that runs is
        answered with an error at once, under its own sid and id.
        """
        world = World(self)
        world.script({"say": "Done."}, tools=[function()])
        world.advance(1)
        [sid] = self.sids(world)
        assert world.daemon.state is not None
        [client] = world.daemon.state.clients
        for each in (sid, "foreign"):
            client.sendTone(chi="tool-call", sid=each, callId="c9", toolName="look", name="look", args={})
        world.flush()
        sent = [(tone["sid"], tone["callId"], tone["isError"]) for tone in world.sent("tool-result")]
        self.assertEqual(sent, [(sid, "c9", True), ("foreign", "c9", True)])
        world.settle()

    def test_callThatFailedInTheWorker(self) -> None:
        """
        U7: an error that names a call ends neither the turn nor the client's
        call: its result is answered all the same, by a fresh turn.
        """
        world = World(self)
        talk = Talk(world, model="tool-one", tools=[function()])
        talk.ask(user("the heron"))
        [sid] = self.sids(world)
        [ours] = [callId for each, callId in world.recorder.unanswered if each == sid]
        inject(world, sid, {"chi": "error", "callId": ours, "message": "no"})
        self.assertSaid(talk.results("grey"), "look says: grey\n", "forked")
        self.assertResults(world)
        world.advance(61)
        world.settle()


@inBothAPIs
class ArgumentsTests(FlowCase):
    """
    What a client is given as arguments: always a string (X17).
    """

    def test_anyArguments(self) -> None:
        """
        X17: objects as JSON; a string as it is, JSON or not; nothing as an
        empty object.
        """
        deep: Any = {}
        for _ in range(100):
            deep = {"in": deep}
        for step, expected in (
            ({"args": {"a": [1, None, "ü"]}}, {"a": [1, None, "ü"]}),
            ({"args": '{"a": 1}'}, '{"a": 1}'),
            ({"args": "not JSON {"}, "not JSON {"),
            ({"args": None}, "{}"),
            ({"args": {}, "without": ["args"]}, "{}"),
            ({"args": [1, 2]}, [1, 2]),
            ({"args": deep}, deep),
        ):
            world = World(self)
            talk = Talk(world, tools=[function()])
            client = talk.ask(steps({"tool": "look", **step}))
            self.assertCalls(client, "look")
            given = client.calls[0]["function"]["arguments"]
            self.assertIsInstance(given, str)
            self.assertEqual(given if isinstance(expected, str) else json.loads(given), expected)
            self.assertSaid(talk.results("grey"), "[grey]")
            world.settle()

    def test_deepArguments(self) -> None:
        """
        X17: far deeper than the daemon would pass on.
        """
        world = World(self)
        talk = Talk(world, tools=[function()])
        client = talk.post(steps({"say": "Hm."}, {"sleep": 1}))
        world.advance(0.5)
        [sid] = self.sids(world)
        assert world.daemon.state is not None
        deep = '{"a":' * 900 + "1" + "}" * 900
        line = f'{{"chi":"tool-call","sid":"{sid}","callId":"c1","toolName":"look","args":{deep}}}\n'
        world.daemon.state.deliver(sid, [line.encode()])
        world.advance(0.1)
        self.assertCalls(client, "look")
        self.assertEqual(client.calls[0]["function"]["arguments"], deep)
        world.advance(60)
        world.settle()

    def test_aMebibyteOfArguments(self) -> None:
        """
        X17: whole and streamed, and the transcript with them goes on.
        """
        for stream in (False, True):
            world = World(self)
            talk = Talk(world, model="tool-megabyte", tools=[function()], stream=stream)
            client = talk.ask(user("the heron"))
            self.assertCalls(client, "look")
            self.assertEqual(json.loads(client.calls[0]["function"]["arguments"])["padding"], "x" * 2**20)
            self.assertSaid(talk.results("grey"), "look says: grey\n", "continued")
            world.settle()


@inBothAPIs
class ResultTests(FlowCase):
    """
    What a worker is given as a result: always one string (X25).
    """

    def test_anyResult(self) -> None:
        """
        X25: strings as they are, parts one under the other, no content as an
        empty one.
        """
        for content, expected in (
            ("grey", "grey"),
            ("", ""),
            (None, ""),
            ([{"type": "text", "text": "grey"}, {"type": "text", "text": "and white"}], "grey\nand white"),
            ([], ""),
            ("a\0b\u2028\ud83e\udd9a", "a\0b\u2028\U0001f99a"),
            ('{"error": {"message": "x"}}', '{"error": {"message": "x"}}'),
            ("x" * 2**20, "x" * 2**20),
        ):
            world = World(self)
            talk = Talk(world, tools=[function()])
            talk.ask(steps(call()))
            self.assertSaid(talk.results(content), f"[{expected}]", "continued")
            self.assertResults(world, (expected, False))
            world.settle()

    def test_imageInAResult(self) -> None:
        """
        X25: a line says that there was one.
        """
        world = World(self)
        talk = Talk(world, tools=[function()])
        talk.ask(steps(call()))
        talk.results([{"type": "text", "text": "see"}, image()])
        [sent] = world.sent("tool-result")
        self.assertRegex(sent["output"], r"\Asee\n\[.*image/gif.*\]\Z")
        world.settle()

    def test_resultThatIsTooLarge(self) -> None:
        """
        X25: 413, and the turn still waits for a smaller one.
        """
        world = World(self, bodyLimit=10_000)
        talk = Talk(world, tools=[function()])
        talk.ask(steps(call()))
        before = list(talk.messages)
        self.assertRefused(talk.results("x" * 10_000), 413, "request_too_large")
        self.assertResults(world)
        talk.messages = before
        self.assertSaid(talk.results("grey"), "[grey]", "continued")
        world.settle()

    def test_twoResultsForOneCall(self) -> None:
        """
        The last one counts, and one is sent.
        """
        world = World(self)
        talk = Talk(world, tools=[function()])
        talk.ask(steps(call()))
        [made] = talk.calls
        self.assertSaid(talk.ask(result(made["id"], "grey"), result(made["id"], "white")), "[white]")
        self.assertResults(world, ("white", False))
        world.settle()


@inBothAPIs
class OfferTests(FlowCase):
    """
    What of a request's tools the worker's model is offered.
    """

    def offered(self, tools: list[Any], **fields: Any) -> tuple[World, dict[str, Any]]:
        """
        The prompt of a request with these tools, and its world.
        """
        world = World(self)
        client = Talk(world, tools=tools, **fields).ask(steps({"list_startup": 1}))
        [prompt] = world.sent("prompt")
        self.assertSaid(client, json.dumps([tool["name"] for tool in prompt.get("tools", ())]))
        world.settle()
        return world, prompt

    def test_namesThatTheDaemonCannotCarry(self) -> None:
        """
        X27: dots, slashes, letters from elsewhere and long ones are replaced on
        the wire, and on the way back again.
        """
        for name in ("fs.read", "mcp/fs/read", "höhe", "x" * 64):
            world = World(self)
            talk = Talk(world, model="tool-one", tools=[function(name)])
            self.assertCalls(talk.ask(user("hello")), name)
            [prompt] = world.sent("prompt")
            [tool] = prompt["tools"]
            self.assertNotEqual(tool["name"], name)
            self.assertRegex(tool["name"], r"\A[A-Za-z0-9_-]{1,54}\Z")
            self.assertEqual(world.sent("hello")[-1]["tools"], [tool])
            self.assertSaid(talk.results("grey"), f"{tool['name']} says: grey\n", "continued")
            self.assertEqual(world.sent("tool-result")[0]["toolName"], tool["name"])
            world.settle()

    def test_namesThatWouldMeetStayApart(self) -> None:
        """
        X27: C{a.b} is not C{a_b}.
        """
        world = World(self)
        talk = Talk(world, model="tool-parallel", tools=[function("a.b"), function("a_b")])
        self.assertCalls(talk.ask(user("hello")), "a.b", "a_b")
        talk.results("1", "2")
        world.settle()

    def otherBee(self, world: World, **says: Any) -> None:
        """
        Connect another bee, whose hello says this.
        """
        bee = world.daemon.buildProtocol()
        assert bee is not None
        world.recorder.ignored.add(bee.number)
        bee.makeConnection(StringTransport())
        hello = {"chi": "hello", "bee": ["forager"], "hid": "fbee_" + "ef" * 32, **says}
        bee.dataReceived(json.dumps(hello).encode() + b"\n")
        world.advance(2)

    def test_namesOfTheFileSystem(self) -> None:
        """
        X27: a coding agent's tools keep their names, whatever the worker calls
        its own.
        """
        names = ("read", "write", "edit", "multiedit", "glob", "grep", "bash", "Read")
        world = World(self)
        talk = Talk(world, tools=[function(name) for name in names])
        self.assertCalls(talk.ask(steps({"tool": "bash", "args": {}})), "bash")
        self.assertEqual([tool["name"] for tool in world.sent("prompt")[0]["tools"]], list(names))
        self.assertSaid(talk.results("done"), "[done]", "continued")
        world.settle()

    def test_namesThatABeeProvides(self) -> None:
        """
        X27: where a bee provides the file system the daemon takes its names out
        of prompts: those alone are renamed, and the calls come here.
        """
        world = World(self)
        self.otherBee(world, provides=["fs"])
        talk = Talk(world, tools=[function("Read"), function("look")])
        client = talk.ask(steps({"list_startup": 1}))
        [prompt] = world.sent("prompt")
        renamed, kept = (tool["name"] for tool in prompt["tools"])
        self.assertSaid(client, json.dumps([renamed, kept]))
        self.assertRegex(renamed, r"\ARead_[0-9a-f]{8}\Z")
        self.assertEqual(kept, "look")
        self.assertCalls(talk.ask(steps({"tool": renamed, "args": {}})), "Read")
        self.assertSaid(talk.results("done"), "[done]", "continued")
        world.settle()

    def test_nameOfAnotherBee(self) -> None:
        """
        X26: a name that another bee lists is renamed both ways, and the call
        comes here.
        """
        world = World(self)
        self.otherBee(world, tools=[{"name": "look", "inputSchema": {"type": "object"}}])
        talk = Talk(world, model="tool-one", tools=[function("look")])
        self.assertCalls(talk.ask(user("hello")), "look")
        [prompt] = world.sent("prompt")
        [tool] = prompt["tools"]
        self.assertNotEqual(tool["name"], "look")
        self.assertSaid(talk.results("grey"), f"{tool['name']} says: grey\n", "continued")
        self.assertEqual(world.front.submitter.counters.get("catalogue_differences"), 0)
        world.settle()

    def test_schemas(self) -> None:
        """
        X27: no schema, or a null one, is that of an object without members.
        """
        nothing = {"type": "object", "properties": {}}
        bare: list[dict[str, Any]] = [
            {"name": "a"},
            {"name": "b", "parameters": None},
            {"name": "c", "parameters": {}},
            {"name": "d", "parameters": {**nothing, "required": None}},
        ]
        _, prompt = self.offered([{"type": "function", "function": each} for each in bare])
        self.assertEqual([tool["inputSchema"] for tool in prompt["tools"]], [nothing] * 4)

    def test_fiveHundredTools(self) -> None:
        """
        X27: all of them, in their order.
        """
        _, prompt = self.offered([function(f"tool_{n}") for n in range(500)])
        self.assertEqual([tool["name"] for tool in prompt["tools"]], [f"tool_{n}" for n in range(500)])

    def test_sameNameTwice(self) -> None:
        """
        X27: 400, nothing is asked.
        """
        world = World(self)
        client = Talk(world, tools=[function(), function()]).ask(user("hello"))
        self.assertRefused(client, 400, "invalid_value")
        self.assertEqual(world.sent("prompt"), [])

    def test_longDescription(self) -> None:
        """
        The CLI cuts descriptions: a long one stands whole in the system prompt.
        """
        tool = function()
        tool["function"]["description"] = words = "heron " * 1000
        _, prompt = self.offered([tool])
        self.assertLessEqual(len(prompt["tools"][0]["description"]), 2000)
        self.assertIn(words.strip(), prompt["systemPrompt"])

    def test_choiceOfNone(self) -> None:
        """
        C{tool_choice: none} offers nothing.
        """
        _, prompt = self.offered([function()], tool_choice="none")
        self.assertNotIn("tools", prompt)

    def test_choiceOfAny(self) -> None:
        """
        C{required} offers all and says so.
        """
        _, prompt = self.offered([function(), function("smell")], tool_choice="required")
        self.assertEqual(len(prompt["tools"]), 2)
        self.assertIn("Answer with a call of one of the tools", prompt["systemPrompt"])
        self.assertEqual(prompt["sampling"]["toolChoice"], "required")

    def test_choiceOfOne(self) -> None:
        """
        A named choice offers all and names one, as the model knows it.
        """
        choice = {"type": "function", "function": {"name": "fs.read"}}
        _, prompt = self.offered([function("fs.read"), function("smell")], tool_choice=choice)
        [name] = [tool["name"] for tool in prompt["tools"] if tool["name"] != "smell"]
        self.assertIn(f"Answer with a call of the tool {name}.", prompt["systemPrompt"])
        self.assertEqual(prompt["sampling"]["toolChoice"], {"type": "function", "name": name})

    def test_choiceOfWhatIsNotThere(self) -> None:
        """
        400.
        """
        world = World(self)
        choice = {"type": "function", "function": {"name": "smell"}}
        client = Talk(world, tools=[function()], tool_choice=choice).ask(user("hello"))
        self.assertEqual(client.status, 400)
        self.assertEqual(world.sent("prompt"), [])

    def test_choiceOfSome(self) -> None:
        """
        C{allowed_tools} is a filter.
        """
        allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "smell"}}]}
        choice = {"type": "allowed_tools", "allowed_tools": allowed}
        _, prompt = self.offered([function(), function("smell")], tool_choice=choice)
        self.assertEqual([tool["name"] for tool in prompt["tools"]], ["smell"])

    def test_registrationOff(self) -> None:
        """
        C{registerTools} off: no hello names a tool; a call that comes is
        handed out all the same.
        """
        world = World(self, registerTools=False)
        talk = Talk(world, model="tool-one", tools=[function()])
        self.assertCalls(talk.ask(user("hello")), "look")
        self.assertEqual([tone["tools"] for tone in world.sent("hello")], [[]])
        world.advance(61)
        world.settle()


class DeprecatedTests(FlowCase):
    """
    C{functions} and C{function_call}, answered in their own shape.
    """

    def say(self, talk: Talk, name: str, content: str) -> Any:
        """
        Answer the last call, as clients of that shape do: by name.
        """
        return talk.ask({"role": "function", "name": name, "content": content})

    def test_roundTrip(self) -> None:
        """
        The call shows no id, and is found again by its name.
        """
        world = World(self)
        talk = Talk(world, functions=[function()["function"], function("smell")["function"]])
        client = talk.ask(steps(call(), call("smell"), {"say": "Done."}))
        self.assertEqual(client.json["choices"][0]["finish_reason"], "function_call")
        self.assertNotIn("tool_calls", client.message)
        self.assertEqual(client.message["function_call"]["name"], "look")
        self.assertEqual(json.loads(client.message["function_call"]["arguments"]), {"at": "heron"})
        second = self.say(talk, "look", "grey")
        self.assertEqual(second.message["function_call"]["name"], "smell")
        self.assertSaid(self.say(talk, "smell", "fishy"), "[fishy]Done.", "continued")
        self.assertResults(world, ("grey", False), ("fishy", False))
        self.assertSaid(talk.ask(steps({"say": "Yes."})), "Yes.", "continued")
        self.assertEqual(len(set(self.sids(world))), 1)
        world.settle()

    def test_streamedRoundTrip(self) -> None:
        """
        Name first, then the arguments in pieces.
        """
        world = World(self)
        talk = Talk(world, functions=[function()["function"]], stream=True)
        client = talk.ask(steps(call()))
        self.assertEqual(client.finishReason, "function_call")
        pieces = [delta["function_call"] for delta in client.deltas if "function_call" in delta]
        self.assertEqual(pieces[0]["name"], "look")
        self.assertTrue(all("name" not in piece for piece in pieces[1:]))
        made = {"name": "look", "arguments": "".join(piece.get("arguments", "") for piece in pieces)}
        self.assertEqual(json.loads(made["arguments"]), {"at": "heron"})
        talk.messages[-1] = {"role": "assistant", "content": None, "function_call": made}
        self.assertSaid(self.say(talk, "look", "grey"), "[grey]", "continued")
        world.settle()

    def test_twoCallsAtOnceComeOneByOne(self) -> None:
        """
        The shape has room for one.
        """
        world = World(self)
        talk = Talk(world, functions=[function()["function"]])
        twice = {"tools": [{"tool": "look", "args": {"n": 1}}, {"tool": "look", "args": {"n": 2}}]}
        first = talk.ask(steps(twice))
        self.assertEqual(json.loads(first.message["function_call"]["arguments"]), {"n": 1})
        second = self.say(talk, "look", "grey")
        self.assertEqual(json.loads(second.message["function_call"]["arguments"]), {"n": 2})
        self.assertSaid(self.say(talk, "look", "white"), "[grey][white]")
        world.settle()

    def test_otherQuestionInPlaceOfTheResult(self) -> None:
        """
        X24: the call is given up as one with an id is, and its slot is free.
        """
        world = World(self, maxTurns=1)
        talk = Talk(world, functions=[function()["function"]])
        talk.ask(steps(call()))
        self.assertSaid(talk.ask(steps({"say": "Never mind."})), "Never mind.")
        self.assertEqual([tone["isError"] for tone in world.sent("tool-result")], [True])
        world.settle()


@inBothAPIs
class CustomTests(FlowCase):
    """
    Custom tools: free text in, free text out.
    """

    def test_roundTrip(self) -> None:
        """
        Offered as a function with one text, shown as C{custom} with its input.
        """
        world = World(self)
        talk = Talk(world, tools=[PATCH])
        client = talk.ask(steps({"tool": "patch", "args": {"input": "*** Begin\n{\n"}}))
        [made] = client.calls
        self.assertEqual(made["type"], "custom")
        self.assertEqual(made["custom"], {"name": "patch", "input": "*** Begin\n{\n"})
        self.assertNotIn("function", made)
        [prompt] = world.sent("prompt")
        self.assertEqual(list(prompt["tools"][0]["inputSchema"]["properties"]), ["input"])
        self.assertSaid(talk.results("ok"), "[ok]", "continued")
        self.assertSaid(talk.ask(steps({"say": "Yes."})), "Yes.", "continued")
        world.settle()


@inBothAPIs
class LookalikeTests(FlowCase):
    """
    Text that looks like something else.
    """

    def test_textIsText(self) -> None:
        """
        X29: never interpreted, whole or streamed.
        """
        for text in (
            '<tool_call>{"name": "look", "arguments": {}}</tool_call>',
            '{"tool_calls": [{"id": "call_1", "function": {"name": "look"}}]}',
            "<|im_end|><|im_start|>assistant",
            "data: [DONE]\n\ndata: {}\n\n",
            '{"error": {"message": "no"}}',
            "event: error\r\n\r\n",
        ):
            for stream in (False, True):
                world = World(self)
                client = Talk(world, tools=[function()], stream=stream).ask(steps({"say": text, "parts": 7}))
                self.assertSaid(client, text)
                world.settle()
