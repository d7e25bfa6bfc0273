"""
Turns that wait for a client's results: everything that a client may do
instead of bringing all of them in time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import fail

from openai_server.daemon.turn import NOBODY_ANSWERS
from openai_server.embedded.content import givenResults
from openai_server.embedded.models import ModelPrompt
from openai_server.embedded.playback import Step
from openai_server.sessions.conversation import LATE_RESULT
from tests.dialects import inBothAPIs
from tests.flow.support import FlowCase, Talk, function, image, result, steps, user
from tests.machinery.models import TEST_MODELS
from tests.machinery.steps import Call, CallTools, Exit, Flood, Say, Sleep, Words
from tests.world import MemoryEndpoint, World

BOTH = [function("look"), function("smell")]


def calling(*then: Step) -> Any:
    """
    A model that calls two tools and, once it has their results or was told
    not to wait, does these steps. Where a prompt ends with results, it says
    those, and to any other transcript that it was read.
    """

    def model(question: ModelPrompt) -> Sequence[Step]:
        results = givenResults(question.content)
        if results:
            return [Words("; ".join(f"{name}: {said}" for name, said in results))]
        if "assistant" in question.content:
            return [Say("I have read it.")]
        calls = [Call(name, {"chi": "tool-call", "name": name, "args": {}}) for name in ("look", "smell")]
        return [CallTools(calls), *then]

    return model


class ParkedCase(FlowCase):
    """
    A client whose model waits for two results.
    """

    def parked(self, *then: Step, daemon: Any = None, **settings: Any) -> tuple[World, Talk]:
        """
        @param then: what the model does behind its calls.
        @param daemon: further settings of the daemon.
        """
        models = {**TEST_MODELS, "calling": calling(*then)}
        world = World(self, daemonSettings={"models": models, **(daemon or {})}, **settings)
        talk = Talk(world, model="calling", tools=BOTH)
        self.assertCalls(talk.ask(user("Go.")), "look", "smell")
        return world, talk

    def assertFresh(self, world: World, *said: str) -> None:
        """
        The latest prompt is on a sid of its own and tells everything.
        """
        *before, last = self.sids(world)
        self.assertNotIn(last, before)
        for text in ("Go.", *said):
            self.assertIn(text, self.contents(world)[-1])

    def pass_(self, world: World) -> None:
        """
        Let whatever still runs come to its end.
        """
        world.advance(61)
        world.settle()


@inBothAPIs
class ResultsTests(ParkedCase):
    """
    Results, complete or not, alone or with something else.
    """

    def test_allResults(self) -> None:
        """
        X18: each goes out exactly once, whatever their order, and the same
        turn goes on.
        """
        world, talk = self.parked()
        client = talk.ask(*reversed(talk.resultsOf("grey", "fishy")))
        self.assertSaid(client, "[grey][fishy]", "continued")
        self.assertEqual(
            {(tone["toolName"], tone["output"]) for tone in world.sent("tool-result")},
            {("look", "grey"), ("smell", "fishy")},
        )
        self.assertEqual(len(world.sent("tool-result")), 2)
        self.assertEqual(len(self.sids(world)), 1)
        self.assertEqual(world.sent("cancel"), [])
        world.settle()

    def test_refusalBehindAResultMayNotBeAskedAgain(self) -> None:
        """
        The model has acted already, although this answer shows nothing of it
        (the retry rule).
        """
        world = World(self)
        world.daemon.faults.dropTone = lambda line: b'"chunk"' in line
        script = [{"tool": "look", "args": {}, "saying": ""}, {"result_error": "API Error: 429"}]
        talk = Talk(world, tools=[function("look")])
        talk.ask(user("#script " + json.dumps(script)))
        world.advance(1)
        client = talk.ask(*talk.resultsOf("grey"))
        world.advance(1)
        self.assertEqual((client.status, client.error["code"]), (429, "rate_limit_exceeded"))
        self.assertEqual((client.header("x-should-retry"), client.header("retry-after")), ("false", None))
        world.settle()

    def test_allResultsAndAUsersMessage(self) -> None:
        """
        The message is appended to the last result, behind a line that marks it.
        """
        world, talk = self.parked()
        client = talk.ask(*talk.resultsOf("grey", "fishy"), user("And be"), user("brief."))
        [first, second] = [tone["output"] for tone in world.sent("tool-result")]
        self.assertEqual(first, "grey")
        self.assertRegex(second, r"\Afishy\n\n\[[^\]]+\]\nAnd be\n\nbrief\.\Z")
        self.assertSaid(client, f"[grey][{second}]", "continued")
        world.settle()

    def test_theConversationGoesOnAfterResultsAndAUsersMessage(self) -> None:
        """
        The next request extends what the session has seen.
        """
        world, talk = self.parked()
        talk.ask(*talk.resultsOf("grey", "fishy"), user("Be brief."))
        client = talk.ask(user("Next."))
        self.assertEqual(client.header("x-hum-session"), "continued")
        self.assertEqual(len(set(self.sids(world))), 1)
        talk.results("1", "2")
        world.settle()

    def test_allResultsAndAnImage(self) -> None:
        """
        A result is text alone: the results go out, and a fresh turn is asked
        with everything.
        """
        world, talk = self.parked()
        client = talk.ask(*talk.resultsOf("grey", "fishy"), user([{"type": "text", "text": "See"}, image()]))
        self.assertSaid(client, "I have read it.", "forked")
        self.assertResults(world, ("grey", False), ("fishy", False))
        self.assertFresh(world, "grey", "fishy", "See")
        self.assertEqual(len(world.sent("prompt")[-1]["attachments"]), 1)
        self.assertEqual(len(world.sent("cancel")), 1)
        self.pass_(world)

    def test_someResults(self) -> None:
        """
        X19: 400 that names what is missing and nothing else; the turn waits
        on, and takes the complete request.
        """
        world, talk = self.parked()
        before = list(talk.messages)
        first, second = talk.resultsOf("grey", "fishy")
        client = talk.ask(first)
        self.assertRefused(client, 400, "invalid_value")
        self.assertIn(second["tool_call_id"], client.error["message"])
        self.assertNotIn(first["tool_call_id"], client.error["message"])
        self.assertEqual(client.error["param"], self.api.messages)
        self.assertEqual(world.sent("tool-result", "cancel"), [])
        talk.messages = before
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        self.assertEqual(world.ends, ["ok", "bad", "ok"])
        world.settle()

    def test_someResultsAndAUsersMessage(self) -> None:
        """
        X24: the given one goes out, the missing one as an error, the turn is
        cancelled, and a fresh one is told the whole transcript.
        """
        world, talk = self.parked()
        client = talk.ask(talk.resultsOf("grey", "fishy")[0], user("Never mind the smell."))
        self.assertSaid(client, "I have read it.", "forked")
        self.assertResults(world, ("grey", False), (NOBODY_ANSWERS, True))
        [cancel] = world.sent("cancel")
        self.assertEqual(cancel["sid"], self.sids(world)[0])
        self.assertFresh(world, "grey", "Never mind the smell.")
        self.pass_(world)

    def test_aUsersMessageInstead(self) -> None:
        """
        X24: both calls are answered with an error; the message is the
        question of a fresh turn.
        """
        world, talk = self.parked()
        self.assertSaid(talk.ask(user("Never mind.")), "I have read it.", "forked")
        self.assertResults(world, (NOBODY_ANSWERS, True), (NOBODY_ANSWERS, True))
        self.assertEqual(len(world.sent("cancel")), 1)
        self.assertFresh(world, "Never mind.")
        self.pass_(world)

    def test_anotherEditOfTheQuestionLeavesTheTurnAlone(self) -> None:
        """
        A request that shows no call has nothing to do with the turn that
        waits, and does not wait for it (X5).
        """
        world, talk = self.parked()
        again = Talk(world, tools=BOTH)
        self.assertSaid(again.ask(steps({"say": "Hello."})), "Hello.")
        self.assertEqual(world.sent("tool-result", "cancel"), [])
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        world.settle()

    def test_resultsAreFoundWhateverElseChanges(self) -> None:
        """
        U33: another system prompt, model, tools and hints hold from the next
        prompt on, which is on a fresh sid.
        """
        world, talk = self.parked()
        talk.messages.insert(0, {"role": "system", "content": "Whisper."})
        talk.fields = {"model": "script", "tools": [function("hear")], "user": "somebody"}
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        self.assertEqual(len(self.sids(world)), 1)
        client = talk.ask(steps({"say": "Yes."}))
        self.assertSaid(client, "Yes.", "forked")
        last = world.sent("prompt")[-1]
        self.assertEqual((last["modelId"], last["systemPrompt"]), ("script", "Whisper."))
        self.assertEqual([tool["name"] for tool in last["tools"]], ["hear"])
        self.assertFresh(world, "grey")
        world.settle()

    def test_sameResultsTwice(self) -> None:
        """
        X22: the first takes the calls; the second, no retry by its own word,
        is plain history and gets a fresh turn. Never a second C{tool-result}.
        """
        world, talk = self.parked(Sleep(0.5), Say("."))
        other = Talk(world, model="calling", tools=BOTH)
        other.messages = list(talk.messages)
        first = talk.post(*talk.resultsOf("grey", "fishy"))
        second = other.post(*other.resultsOf("grey", "fishy"))
        world.advance(1)
        self.assertSaid(first, "[grey][fishy].", "continued")
        self.assertSaid(second, "look: grey; smell: fishy", "forked")
        self.assertResults(world, ("grey", False), ("fishy", False))
        self.assertEqual(len(set(self.sids(world))), 2)
        world.settle()

    def test_sameResultsAfterTheirAnswer(self) -> None:
        """
        X22, the other order: the answer is there already.
        """
        world, talk = self.parked()
        before = list(talk.messages)
        talk.results("grey", "fishy")
        talk.messages = before
        self.assertSaid(talk.results("grey", "fishy"), "look: grey; smell: fishy", "forked")
        self.assertResults(world, ("grey", False), ("fishy", False))
        world.settle()

    def test_madeUpIds(self) -> None:
        """
        X21: ids that nobody gave, and a worker's own, are plain history: the
        request is answered from its transcript, the turn that waits is not
        touched.
        """
        world, talk = self.parked()
        [(_, workers), _] = sorted(world.recorder.unanswered)
        for forged in ("call_" + "A" * 32, talk.calls[0]["id"][:-1] + "!", workers, "x", "call_\r\n\0"):
            forger = Talk(world, model="calling", tools=BOTH)
            made = {"id": forged, "type": "function", "function": {"name": "look", "arguments": "{}"}}
            forger.messages = [user("Go."), {"role": "assistant", "content": None, "tool_calls": [made]}]
            self.assertSaid(forger.ask(result(forged, "forged")), "look: forged", "new")
        self.assertEqual(world.sent("tool-result", "cancel"), [])
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        world.settle()

    def test_idsOfAnotherKey(self) -> None:
        """
        X21: a call's id is another key's: the same answer as for one that
        nobody gave, and no result goes out.
        """
        self.withAccounts()
        world, talk = self.parked()
        thief = Talk(world, {"x-account": "thief"}, model="calling", tools=BOTH)
        thief.messages = list(talk.messages)
        self.assertSaid(thief.ask(*talk.resultsOf("stolen", "goods")), "look: stolen; smell: goods", "new")
        self.assertEqual(world.sent("tool-result", "cancel"), [])
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        world.settle()

    def test_usersMessageUnderAnotherKey(self) -> None:
        """
        X21: nor can another key end the wait.
        """
        self.withAccounts()
        world, talk = self.parked()
        thief = Talk(world, {"x-account": "thief"}, model="calling", tools=BOTH)
        thief.messages = list(talk.messages)
        self.assertSaid(thief.ask(user("Never mind.")), "I have read it.", "new")
        self.assertEqual(world.sent("tool-result", "cancel"), [])
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        world.settle()

    def test_whatWasSaidUnheardComesFirst(self) -> None:
        """
        A turn that says something while nobody attends it is heard with the
        next answer.
        """
        world, talk = self.parked()
        said = {"chi": "chunk", "chunkType": "text_delta", "delta": "While you were out. "}
        [sid] = self.sids(world)
        assert world.daemon.state is not None
        world.daemon.state.deliver(sid, [json.dumps({**said, "sid": sid}).encode() + b"\n"])
        world.flush()
        self.assertSaid(talk.results("grey", "fishy"), "While you were out. [grey][fishy]", "continued")
        world.settle()


@inBothAPIs
class LeavingTests(ParkedCase):
    """
    Clients that do not come back.
    """

    def test_leavingAfterTheCallsCancelsNothing(self) -> None:
        """
        K4: the turn belongs to the conversation; at the park's deadline the
        model is told that the results will come later, and nothing is
        cancelled.
        """
        world, _ = self.parked()
        world.clients[-1].leave()
        world.advance(49)
        self.assertEqual(world.sent("tool-result", "cancel"), [])
        world.advance(1.5)
        self.assertResults(world, (LATE_RESULT, True), (LATE_RESULT, True))
        self.assertEqual(world.sent("cancel"), [])
        world.settle()

    def test_deadlineIsASetting(self) -> None:
        """
        C{parkTimeout}, from the arrival of the first call that is open.
        """
        world, _ = self.parked(parkTimeout=5)
        world.advance(4)
        self.assertResults(world)
        world.advance(1.5)
        self.assertResults(world, (LATE_RESULT, True), (LATE_RESULT, True))
        world.settle()

    def test_oneAnswerDoesNotPutTheOtherCallOff(self) -> None:
        """
        A call that was kept for the next answer has waited since it came.
        """
        world = World(self)
        talk = Talk(world, tools=BOTH, parallel_tool_calls=False)
        made = {"tools": [{"tool": "look", "args": {}}, {"tool": "smell", "args": {}}]}
        talk.ask(steps(made))
        world.advance(40)
        self.assertCalls(talk.results("grey"), "smell")
        world.advance(10)
        self.assertResults(world, ("grey", False), (LATE_RESULT, True))
        world.settle()


@inBothAPIs
class LateTests(ParkedCase):
    """
    Results behind the park's deadline (X20).
    """

    def late(self, *then: Step, **settings: Any) -> tuple[World, Talk]:
        """
        A client whose results are late by a second.
        """
        world, talk = self.parked(*then, **settings)
        world.advance(51)
        return world, talk

    def test_settledTurn(self) -> None:
        """
        X20: the results go as a new prompt to the same warm sid, with the
        calls that they are of, and are answered as if nothing had happened;
        what the model said to the deadline is never shown.
        """
        world, talk = self.late(Say("I end my turn."))
        client = talk.results("grey", "fishy")
        self.assertSaid(client, "look: grey; smell: fishy", "continued")
        first, second = self.sids(world)
        self.assertEqual(first, second)
        content = self.contents(world)[1]
        self.assertNotIn("Go.", content)
        for said in ("grey", "fishy", '"look"', '"smell"'):
            self.assertIn(said, content)
        self.assertResults(world, (LATE_RESULT, True), (LATE_RESULT, True))
        self.assertEqual(world.sent("cancel"), [])
        self.assertEqual(talk.ask(user("Next.")).header("x-hum-session"), "continued")
        talk.results("1", "2")
        world.settle()

    def test_turnThatIsStillSettling(self) -> None:
        """
        X20: the results wait for its end; its text is dropped.
        """
        world, talk = self.late(Sleep(6), Say("I end my turn."))
        client = talk.post(*talk.resultsOf("grey", "fishy"))
        world.advance(4)
        self.assertIsNone(client.status)
        self.assertEqual(len(self.sids(world)), 1)
        world.advance(3)
        self.assertSaid(client, "look: grey; smell: fishy", "continued")
        self.assertEqual(len(set(self.sids(world))), 1)
        world.settle()

    def test_lateResultsTwiceAtOnce(self) -> None:
        """
        X22: the second request does not wait: it is history, and gets a fresh
        turn.
        """
        world, talk = self.late(Sleep(6), Say("I end my turn."))
        other = Talk(world, model="calling", tools=BOTH)
        other.messages = list(talk.messages)
        first = talk.post(*talk.resultsOf("grey", "fishy"))
        second = other.post(*other.resultsOf("grey", "fishy"))
        world.advance(1)
        self.assertIsNone(first.status)
        self.assertSaid(second, "look: grey; smell: fishy", "forked")
        world.advance(6)
        self.assertSaid(first, "look: grey; smell: fishy", "continued")
        world.settle()

    def test_turnThatSaysMuchWhileItSettles(self) -> None:
        """
        X20: nothing of it is kept, so nothing can become too much.
        """
        world, talk = self.late(Flood(10_000), Sleep(1))
        self.assertSaid(talk.results("grey", "fishy"), "look: grey; smell: fishy", "continued")
        self.assertEqual(world.sent("cancel"), [])
        world.settle()

    def test_turnThatDoesNotSettle(self) -> None:
        """
        X20: 10 s after the results came it is given up: a fresh turn is made
        from the transcript.
        """
        world, talk = self.late(Sleep(30), Say("Late."))
        client = talk.post(*talk.resultsOf("grey", "fishy"))
        world.advance(9.5)
        self.assertEqual(world.sent("cancel"), [])
        world.advance(1.5)
        self.assertSaid(client, "look: grey; smell: fishy", "forked")
        self.assertEqual(len(world.sent("cancel")), 1)
        self.assertFresh(world, "grey", "fishy")
        self.pass_(world)

    def test_clientThatLeavesWhileItSettles(self) -> None:
        """
        X20: nothing is asked for it.
        """
        world, talk = self.late(Sleep(6), Say("I end my turn."))
        client = talk.post(*talk.resultsOf("grey", "fishy"))
        world.advance(1)
        client.leave()
        world.advance(10)
        self.assertEqual(len(self.sids(world)), 1)
        self.assertEqual(world.ends[-1], "cl-gone")
        world.settle()

    def test_turnThatFailed(self) -> None:
        """
        X20: a fresh turn.
        """
        world, talk = self.late(Exit(1))
        self.assertSaid(talk.results("grey", "fishy"), "look: grey; smell: fishy", "forked")
        self.assertFresh(world, "grey", "fishy")
        world.settle()

    def test_workerThatDied(self) -> None:
        """
        X20, U20: it was lost while it waited; another one is there.
        """
        world, talk = self.parked()
        world.daemon.killWorkers()
        world.advance(1)
        self.assertEqual(world.link.turnCount, 0)
        world.daemon.addWorker(*world.daemon.settings.models)
        world.advance(1)
        self.assertSaid(talk.results("grey", "fishy"), "look: grey; smell: fishy", "forked")
        self.assertFresh(world, "grey", "fishy")
        self.assertResults(world, (NOBODY_ANSWERS, True), (NOBODY_ANSWERS, True))
        world.settle()

    def test_workerThatEndsTurnsByItself(self) -> None:
        """
        U21: a worker that really ends what was unused for longest: a fresh
        turn.
        """
        world, talk = self.parked(daemon={"maxProcesses": 1, "kills": True})
        self.assertSaid(Talk(world).ask(steps({"say": "Other."})), "Other.")
        self.assertEqual(world.link.turnCount, 0)
        self.assertSaid(talk.results("grey", "fishy"), "look: grey; smell: fishy", "forked")
        self.assertFresh(world, "grey", "fishy")
        world.settle()

    def test_workerThatOnlyForgetsThem(self) -> None:
        """
        U21: one as humd 0.31.18 has it: the turn ends well.
        """
        world, talk = self.parked(daemon={"maxProcesses": 1})
        self.assertSaid(Talk(world).ask(steps({"say": "Other."})), "Other.")
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        world.settle()

    def test_modelThatGivesUpFirst(self) -> None:
        """
        X20: where C{parkTimeout} is longer than a model's patience, the turn
        ends unheard, and the results go to its session.
        """
        world, talk = self.parked(parkTimeout=200)
        world.advance(70)
        self.assertEqual(world.link.turnCount, 0)
        self.assertSaid(talk.results("grey", "fishy"), "look: grey; smell: fishy", "continued")
        self.assertEqual(len(set(self.sids(world))), 1)
        world.settle()

    def test_lateResultsTwice(self) -> None:
        """
        X20, X22: they are taken once; the second time they are history.
        """
        world, talk = self.late()
        before = list(talk.messages)
        talk.results("grey", "fishy")
        talk.messages = before
        self.assertSaid(talk.results("grey", "fishy"), "look: grey; smell: fishy", "forked")
        world.settle()

    def test_lateResultsOfAClientWithoutHistory(self) -> None:
        """
        X20: the results alone, without the calls that they are of, find
        their session too.
        """
        world, talk = self.late()
        results = talk.resultsOf("grey", "fishy")
        talk.messages.clear()
        self.assertSaid(talk.ask(*results), "look: grey; smell: fishy", "continued")
        self.assertEqual(len(set(self.sids(world))), 1)
        world.settle()

    def test_callOfASettlingTurn(self) -> None:
        """
        X20: a turn that calls once more in place of ending is told the same
        again, and the client sees nothing of it.
        """
        again = CallTools([Call("look", {"chi": "tool-call", "name": "look", "args": {}})])
        world, talk = self.late(again, Say("Now I end."))
        self.assertResults(world, *[(LATE_RESULT, True)] * 3)
        self.assertSaid(talk.results("grey", "fishy"), "look: grey; smell: fishy", "continued")
        world.settle()


@inBothAPIs
class DaemonTests(ParkedCase):
    """
    What becomes of turns that wait when the daemon goes.
    """

    def cut(self, world: World) -> Any:
        """
        Cut the way to the daemon, until the patch that is returned is restored.
        """
        way = self.patch(MemoryEndpoint, "connect", lambda *_: fail(ConnectionRefusedError()))
        world.daemon.cutConnections()
        world.flush()
        return way

    def test_resultsWhileTheDaemonIsAway(self) -> None:
        """
        X23: 503, to be asked again; nothing is lost, and the same results go
        on with the turn when the same daemon is back: in the first request,
        for which the next attempt is made at once.
        """
        world, talk = self.parked()
        before = list(talk.messages)
        way = self.cut(world)
        client = talk.post(*talk.resultsOf("grey", "fishy"))
        self.assertRefused(client, 503, "daemon_unavailable")
        self.assertEqual((client.header("retry-after"), client.header("x-should-retry")), ("1", None))
        world.advance(30)
        way.restore()
        talk.messages = before
        client = talk.post(*talk.resultsOf("grey", "fishy"))
        world.advance(0.05, 0.01)
        self.assertSaid(talk.heard(client), "[grey][fishy]", "continued")
        self.assertResults(world, ("grey", False), ("fishy", False))
        self.assertEqual(len(self.sids(world)), 1)
        world.settle()

    def test_otherDaemonThatIsJustBack(self) -> None:
        """
        U19, X23: whose calls are answered is looked at when the attempt has
        ended: another daemon knows nothing of them.
        """
        world, talk = self.parked()
        way = self.cut(world)
        self.successResultOf(world.daemon.restart())
        world.advance(20)
        way.restore()
        self.assertSaid(talk.results("grey", "fishy"), "look: grey; smell: fishy", "forked")
        self.assertFresh(world, "grey", "fishy")
        self.assertResults(world)
        self.pass_(world)

    def test_clientThatLeavesDuringTheAttempt(self) -> None:
        """
        X23: its results were not used, and can be given again.
        """
        world, talk = self.parked()
        before = list(talk.messages)
        world.daemon.faults.muteBreath = True
        world.daemon.cutConnections()
        world.advance(0.5)
        talk.post(*talk.resultsOf("grey", "fishy")).leave()
        world.advance(1)
        self.assertEqual(world.ends[-1], "cl-gone")
        world.daemon.faults.muteBreath = False
        world.advance(15)
        talk.messages = before
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        world.settle()

    def test_sameDaemonAfterAReconnect(self) -> None:
        """
        X23: the new connection begins with the names of the turn's tools, and
        attaches it.
        """
        world, talk = self.parked()
        world.daemon.cutConnections()
        world.advance(2)
        hello, attach = world.sent("hello", "attach")[-2:]
        self.assertEqual([tool["name"] for tool in hello["tools"]], ["look", "smell"])
        self.assertEqual((attach["chi"], [attach["sid"]]), ("attach", self.sids(world)))
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        world.settle()

    def test_daemonThatIsLostBehindTheResults(self) -> None:
        """
        S7: the turn is no longer parked: it is lost with the connection.
        """
        world, talk = self.parked(Sleep(2))
        client = talk.post(*talk.resultsOf("grey", "fishy"))
        world.advance(0.5)
        world.daemon.cutConnections()
        world.advance(0.1)
        self.assertRefused(client, 502, "daemon_lost")
        world.advance(3)
        world.settle()

    def test_requestsWhileTheDaemonIsAway(self) -> None:
        """
        S1: told so at once, though parked turns hold every slot.
        """
        world, _ = self.parked(maxTurns=1)
        self.successResultOf(world.daemon.crash())
        world.flush()
        client = Talk(world).post(user("Hello."))
        self.assertRefused(client, 503, "daemon_unavailable")
        world.advance(55)
        world.settle()

    def test_otherDaemon(self) -> None:
        """
        U19, X23: a daemon that was restarted knows nothing of the calls: a
        fresh turn is made from the transcript.
        """
        world, talk = self.parked()
        self.successResultOf(world.daemon.restart())
        world.advance(3)
        self.assertEqual(world.sent("attach"), [])
        self.assertSaid(talk.results("grey", "fishy"), "look: grey; smell: fishy", "forked")
        self.assertFresh(world, "grey", "fishy")
        self.assertResults(world)
        world.advance(61)
        world.settle()

    def test_deadlineWhileTheDaemonIsAway(self) -> None:
        """
        X23: nobody can tell the model that the results will come later: the
        turn is lost, and its results make a fresh one.
        """
        world, talk = self.parked(parkTimeout=5)
        self.successResultOf(world.daemon.crash())
        world.advance(10)
        self.assertEqual(world.link.turnCount, 0)
        world.daemon.comeBack()
        world.advance(8)
        self.assertSaid(talk.results("grey", "fishy"), "look: grey; smell: fishy", "forked")
        world.advance(61)
        world.settle()

    def test_restartOfThisServer(self) -> None:
        """
        U19: another process was asked; the ids say nothing to this one.
        """
        earlier, talk = self.parked()
        world = World(self, daemonSettings={"models": earlier.daemon.settings.models})
        later = Talk(world, model="calling", tools=BOTH)
        later.messages = list(talk.messages)
        self.assertSaid(later.results("grey", "fishy"), "look: grey; smell: fishy", "new")
        self.assertFresh(world, "grey", "fishy")
        world.settle()
        self.pass_(earlier)

    def test_unroutedCall(self) -> None:
        """
        U32: the daemon will drop the result of a call that carries a sigil:
        the client is given the call all the same, the turn is cancelled at
        once, and the result makes a fresh one.
        """
        world = World(self, registerTools=False)
        talk = Talk(world, model="tool-one", tools=[function(at={"type": "string"})])
        client = talk.ask(user("Look at the heron"))
        self.assertCalls(client, "look")
        self.assertEqual(json.loads(client.calls[0]["function"]["arguments"]), {"at": "heron"})
        self.assertEqual(len(world.sent("cancel")), 1)
        self.assertEqual(world.link.counts["unrouted_calls"], 1)
        self.assertSaid(talk.results("grey"), "look says: grey\n", "forked")
        self.assertResults(world)
        first, second = self.sids(world)
        self.assertNotEqual(first, second)
        self.assertIn("Look at the heron", self.contents(world)[1])
        self.pass_(world)
