"""
What outlasts a restart of the server: parked turns, warm sessions, hints.

The server stops in good order, or its process dies where it stands; another
one is started over the same database and the same daemon.
"""

from __future__ import annotations

import gc
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

from openai_server.embedded.content import givenResults
from openai_server.embedded.models import ModelPrompt
from openai_server.embedded.playback import Step
from openai_server.sessions import restoring
from openai_server.sessions.conversation import LATE_RESULT, Conversation
from openai_server.sessions.memory import Memory
from openai_server.web import asking
from tests.flow.support import FlowCase, Talk, function, steps, user
from tests.flow.test_calls import chunk
from tests.flow.test_responses import LOOK, ResponsesCase, plays, responseOf, says, textOf
from tests.flow.test_responses import result as itemResult
from tests.flow.test_usage import REPORTED, usageOf
from tests.machinery.models import TEST_MODELS
from tests.machinery.steps import Call, CallTools, Say, Words
from tests.world import Client, Machine, World

#: What does most of the work at a start.
ROOMS = ("daemon", "sessions", "store")
BOTH = [function("look"), function("smell")]
CALLS = [Call(name, {"chi": "tool-call", "name": name, "args": {}}) for name in ("look", "smell")]


def calling(question: ModelPrompt) -> Sequence[Step]:
    """
    A model that calls two tools and ends its turn with their results; it says
    those that a prompt ends with, and to other transcripts that it was read.
    """
    results = givenResults(question.content)
    if results:
        return [Words("; ".join(f"{name}: {said}" for name, said in results))]
    if "assistant" in question.content:
        return [Say("I have read it.")]
    return [CallTools(CALLS)]


def apart(question: ModelPrompt) -> Sequence[Step]:
    """
    A model that calls the second tool a second after the first.
    """
    return [CallTools(CALLS, gap=1.0)]


class RestartCase(FlowCase):
    """
    One machine on which servers come and go.

    @cvar patience: seconds for which models wait for results.
    """

    patience = 60.0

    def setUp(self) -> None:
        super().setUp()
        models = {**TEST_MODELS, "calling": calling, "apart": apart}
        self.machine = Machine(self, {"models": models, "toolPatience": self.patience})
        self.url = f"sqlite:///{Path(self.mktemp()).absolute()}/store.db"

    def world(self, **settings: Any) -> World:
        """
        A server that is started now. One that is not alone waits for its
        database with what it promises.
        """
        return World(self, machine=self.machine, store=self.url, **settings)

    def parked(self, **settings: Any) -> tuple[World, Talk]:
        """
        A client whose model waits for two results.
        """
        world = self.world(**settings)
        talk = Talk(world, model="calling", tools=BOTH)
        self.assertCalls(talk.ask(user("Go.")), "look", "smell")
        return world, talk

    def restarted(self, world: World, talk: Talk | None = None, *, isKilled: bool, **settings: Any) -> World:
        """
        The server behind this one, to which the client talks from now on.
        """
        world.kill() if isKilled else world.stop()
        following = self.world(**settings)
        if talk is not None:
            talk.world = following
        return following

    def prompts(self) -> list[dict[str, Any]]:
        """
        All prompts that the daemon was sent, by whatever server.
        """
        return self.machine.recorder.sent("prompt")

    def assertExpired(self, client: Client) -> None:
        """
        The client is told what to do, and not to ask the same again.
        """
        self.assertRefused(client, 409, "call_expired")
        self.assertEqual(client.header("x-should-retry"), "false")
        self.assertIn("Send all of it", client.error["message"])


class ParkedTurnTests(RestartCase):
    """
    Results that come when their turn was asked by an earlier process.
    """

    def test_resultsGoOnWithTheTurn(self) -> None:
        """
        X40: on the same worker process: nothing is prompted, and each call is
        answered once.
        """
        for isKilled in (False, True):
            before = len(self.prompts())
            world, talk = self.parked()
            world = self.restarted(world, talk, isKilled=isKilled)
            self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
            self.assertEqual(len(self.prompts()) - before, 1)
            self.assertResults(world, *[("grey", False), ("fishy", False)] * (1 + isKilled))
            self.assertEqual(self.machine.recorder.sent("cancel"), [])
            world.settle()
            world.stop()

    def test_sameResultsOnceMore(self) -> None:
        """
        What was answered before the restart, or behind it, is answered no more.
        """
        for isKilled in (False, True):
            world, talk = self.parked()
            before = list(talk.messages)
            results = talk.resultsOf("grey", "fishy")
            sent = len(world.sent("tool-result"))
            self.assertSaid(talk.ask(*results), "[grey][fishy]", "continued")
            world = self.restarted(world, talk, isKilled=isKilled)
            for _ in range(2):
                talk.messages = list(before)
                self.assertSaid(talk.ask(*results), "look: grey; smell: fishy")
            self.assertEqual(len(world.sent("tool-result")) - sent, 2)
            world.settle()
            world.stop()

    def test_oneAtATime(self) -> None:
        """
        A call that the client was not given yet is not lost; one that was
        answered before the restart stays so.
        """
        world = self.world()
        talk = Talk(world, model="calling", tools=BOTH, parallel_tool_calls=False)
        self.assertCalls(talk.ask(user("Go.")), "look")
        world = self.restarted(world, talk, isKilled=True)
        self.assertCalls(talk.results("grey"), "smell")
        world = self.restarted(world, talk, isKilled=True)
        self.assertSaid(talk.results("fishy"), "[grey][fishy]", "continued")
        self.assertResults(world, ("grey", False), ("fishy", False))
        self.assertEqual(len(self.prompts()), 1)
        world.settle()

    def test_portions(self) -> None:
        """
        (D43) Many sessions and turns are brought back in portions, between which
        the reactor does other things; a stop ends that at any time.
        """
        self.patch(restoring, "AT_ONCE", 1)
        world = self.world()
        warm = Talk(world, model="echo")
        warm.ask(user("One."))
        talks = [Talk(world, model="calling", tools=BOTH) for _ in range(2)]
        for talk in talks:
            self.assertCalls(talk.ask(user("Go.")), "look", "smell")
        world.stop()
        world = self.world(isConnected=False)
        self.assertEqual(len(world.front.submitter.calls), 0)
        world.stop()
        world = self.world()
        for talk in (warm, *talks):
            talk.world = world
        self.assertEqual(warm.ask(user("Two.")).header("x-hum-session"), "continued")
        for talk in talks:
            self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        world.settle()

    def test_callThatComesBehindTheAnswer(self) -> None:
        """
        It waits for the next answer, also behind a restart.
        """
        world = self.world()
        talk = Talk(world, model="apart", tools=BOTH)
        self.assertCalls(talk.ask(user("Go.")), "look")
        world.advance(2)
        world = self.restarted(world, talk, isKilled=True)
        self.assertCalls(talk.results("grey"), "smell")
        self.assertSaid(talk.results("fishy"), "[grey][fishy]", "continued")
        self.assertEqual(len(self.prompts()), 1)
        world.settle()

    def test_workerThatDiedMeanwhile(self) -> None:
        """
        U20: the turn is lost with it, though there is another one.
        """
        world, talk = self.parked()
        world.kill()
        self.machine.daemon.killWorker(self.machine.daemon.workers[0])
        self.machine.daemon.addWorker(*self.machine.daemon.settings.models)
        world = talk.world = self.world()
        self.assertEqual(world.link.turnCount, 0)
        self.assertSaid(talk.results("grey", "fishy"), "look: grey; smell: fishy")
        self.assertResults(world)
        world.settle()

    def test_clientThatLeavesBeforeItsResultsAreUsed(self) -> None:
        """
        They can be given again, to the next server too.
        """
        world, talk = self.parked(isAlone=False)
        before, results = list(talk.messages), talk.resultsOf("grey", "fishy")
        world.workers.isHolding = True
        talk.post(*results).leave()
        world.workers.release()
        world.advance(1)
        self.assertResults(world)
        world = self.restarted(world, talk, isKilled=True)
        talk.messages = before
        self.assertSaid(talk.ask(*results), "[grey][fishy]", "continued")
        self.assertEqual(len(self.prompts()), 1)
        world.settle()

    def test_daemonThatIsLostBeforeResultsAreSent(self) -> None:
        """
        X23: they come again, to the next server too.
        """
        world, talk = self.parked(isAlone=False)
        before, results = list(talk.messages), talk.resultsOf("grey", "fishy")
        world.workers.isHolding = True
        client = talk.post(*results)
        self.machine.daemon.faults.muteBreath = True
        self.machine.daemon.cutConnections()
        world.flush()
        world.workers.release()
        world.advance(0.05)
        self.assertRefused(client, 503, "daemon_unavailable")
        self.machine.daemon.faults.muteBreath = False
        world.advance(0.2)
        world = self.restarted(world, talk, isKilled=True)
        talk.messages = before
        self.assertSaid(talk.ask(*results), "[grey][fishy]", "continued")
        self.assertEqual(len(self.prompts()), 1)
        world.settle()

    def test_resultsTwiceAtOnce(self) -> None:
        """
        X22: while the first ones wait for the store; each is sent once, and
        both clients are given the same answer.
        """
        world, talk = self.parked(isAlone=False)
        before, results = list(talk.messages), talk.resultsOf("grey", "fishy")
        world.workers.isHolding = True
        one = talk.post(*results, headers={"idempotency-key": "k"})
        talk.messages = before
        other = talk.post(*results, headers={"idempotency-key": "k"})
        world.workers.release()
        world.until(lambda: one.isComplete and other.isComplete)
        self.assertResults(world, ("grey", False), ("fishy", False))
        self.assertSaid(one, "[grey][fishy]")
        self.assertSaid(other, "[grey][fishy]")
        self.assertEqual(len(self.prompts()), 1)
        world.settle()

    def test_othersWereQuicker(self) -> None:
        """
        X22: a request with a key that waits for the store finds its results
        used by one without; it does not wait for itself, and gets a fresh turn.
        """
        world, talk = self.parked(isAlone=False)
        before, results = list(talk.messages), talk.resultsOf("grey", "fishy")
        world.workers.isHolding = True
        one = talk.post(*results, headers={"idempotency-key": "k"})
        talk.messages = before
        other = talk.post(*results)
        world.workers.release()
        world.until(lambda: one.isComplete and other.isComplete)
        self.assertResults(world, ("grey", False), ("fishy", False))
        self.assertSaid(other, "[grey][fishy]")
        self.assertSaid(one, "look: grey; smell: fishy")
        world.settle()

    def test_nobodyComesBack(self) -> None:
        """
        The turn ends at its deadline, which the restart does not put off.
        """
        world, talk = self.parked(parkTimeout=20)
        world.advance(13)
        # Six seconds pass in the start.
        world = self.restarted(world, talk, isKilled=True, parkTimeout=20)
        self.assertEqual((world.link.turnCount, world.front.submitter.upstreams.taken), (1, 1))
        self.assertResults(world)
        world.advance(1)
        self.assertResults(world, (LATE_RESULT, True), (LATE_RESULT, True))
        world.settle()
        self.assertSaid(talk.results("grey", "fishy"), "look: grey; smell: fishy")

    def test_deadlinePassedMeanwhile(self) -> None:
        """
        The turn ends as soon as the daemon is reached; results that come then
        go into a fresh one.
        """
        world, talk = self.parked(parkTimeout=20)
        world.kill()
        self.machine.clock.advance(25)
        world = talk.world = self.world()
        self.assertResults(world, (LATE_RESULT, True), (LATE_RESULT, True))
        world.settle()
        self.assertSaid(talk.results("grey", "fishy"), "look: grey; smell: fishy")
        self.assertEqual(len(self.prompts()), 2)

    def test_otherDaemon(self) -> None:
        """
        U19: a daemon that was restarted as well knows nothing of the calls.
        """
        for hasHistory in (True, False):
            world, talk = self.parked()
            results = talk.resultsOf("grey", "fishy")
            world.kill()
            self.successResultOf(self.machine.daemon.restart())
            world = talk.world = self.world()
            self.assertEqual(world.link.turnCount, 0)
            if hasHistory:
                self.assertSaid(talk.ask(*results), "look: grey; smell: fishy")
            else:
                talk.messages.clear()
                self.assertExpired(talk.ask(*results))
            self.assertResults(world)
            world.stop()
        self.machine.clock.advance(61)

    def test_resultsBeforeTheDaemonIsReached(self) -> None:
        """
        X23: they wait for the attempt, or may come again.
        """
        world, talk = self.parked()
        before, results = list(talk.messages), talk.resultsOf("grey", "fishy")
        world.kill()
        self.machine.daemon.faults.muteBreath = True
        world = talk.world = self.world(isConnected=False)
        client = talk.post(*results)
        world.advance(2)
        self.assertRefused(client, 503, "daemon_unavailable")
        self.machine.daemon.faults.muteBreath = False
        world.advance(15)
        talk.messages = before
        self.assertSaid(talk.ask(*results), "[grey][fishy]", "continued")
        self.assertEqual(len(self.prompts()), 1)
        world.settle()

    def test_namesOfTheToolsAreSaidAgain(self) -> None:
        """
        The turn makes further calls of its tools, which reach the new process.
        """
        world = self.world()
        talk = Talk(world, tools=BOTH)
        script = [{"tool": "look", "args": {}}, {"tool": "smell", "args": {}}, {"say": "Done."}]
        self.assertCalls(talk.ask(steps(*script)), "look")
        for isKilled in (True, False):
            world = self.restarted(world, talk, isKilled=isKilled)
            hello = world.sent("hello")[-1]
            self.assertEqual([tool["name"] for tool in hello["tools"]], ["look", "smell"])
            self.assertEqual(hello["tools"], world.sent("prompt")[0]["tools"])
        self.assertCalls(talk.results("grey"), "smell")
        world = self.restarted(world, talk, isKilled=True)
        self.assertSaid(talk.results("fishy"), "[fishy]Done.", "continued")
        self.assertEqual(len(self.prompts()), 1)
        world.settle()

    def test_functions(self) -> None:
        """
        The deprecated shape shows no ids: its results are found by the
        transcript.
        """
        world = self.world()
        declared = [{"name": "look", "parameters": {"type": "object"}}]
        script = [{"tool": "look", "args": {"at": 1}}, {"say": "Done."}]
        client = world.ask([steps(*script)], functions=declared)
        world.until(lambda: client.isComplete)
        asked = [steps(*script), client.message]
        world = self.restarted(world, isKilled=True)
        said = {"role": "function", "name": "look", "content": "grey"}
        client = world.ask([*asked, said], functions=declared)
        world.until(lambda: client.isComplete)
        self.assertSaid(client, "[grey]Done.", "continued")
        self.assertEqual(len(self.prompts()), 1)
        world.settle()

    def test_goesOnBehindTheTurn(self) -> None:
        """
        The session of a turn that was gone on with is as warm as any.
        """
        world, talk = self.parked()
        world = self.restarted(world, talk, isKilled=True)
        talk.results("grey", "fishy")
        client = talk.ask(user("Next."))
        self.assertEqual(client.header("x-hum-session"), "continued")
        self.assertEqual(len(set(self.sids(world))), 1)
        talk.results("1", "2")
        world.settle()

    def test_costsOfATurn(self) -> None:
        """
        U11: what answers before the restart were told to cost is not told
        again: all together is what the worker reports.
        """
        world = self.world()
        talk = Talk(world, tools=BOTH)
        call = {"tool": "look", "args": {"at": "x" * 400}}
        answers = [talk.ask(steps({"usage": REPORTED}, call, call, {"say": "y" * 40}))]
        for text, isKilled in (("grey", True), ("green", False)):
            world = self.restarted(world, talk, isKilled=isKilled)
            answers.append(talk.results(text))
        prompts, completions = zip(*map(usageOf, answers), strict=True)
        self.assertEqual((sum(prompts), sum(completions)), (1000, 500))
        self.assertGreater(min(completions), 0)
        self.assertEqual(len(self.prompts()), 1)
        world.settle()

    def test_callsAreNoToolsOfTheWorker(self) -> None:
        """
        What the worker tells of a call that the client was given before the
        restart is left out, also where its own tools are shown.
        """
        world = self.world(workerTools=True)
        talk = Talk(world, tools=BOTH)
        own = {"raw": chunk("tool_executed", callId="own", toolName="Bash", output="x", arguments={})}
        call = {"tool": "look", "args": {}}
        talk.ask(steps(call, call, own, {"say": "Done."}))
        world = self.restarted(world, talk, isKilled=True, workerTools=True)
        second = talk.results("grey")
        self.assertCalls(second, "look")
        self.assertNotIn("reasoning_content", second.message)
        world = self.restarted(world, talk, isKilled=False, workerTools=True)
        third = talk.results("green")
        self.assertSaid(third, "[green]Done.")
        self.assertIn("Bash", third.message["reasoning_content"])
        self.assertNotIn("look", third.message["reasoning_content"])
        world.settle()

    def test_killedWhileResultsAreOnTheirWay(self) -> None:
        """
        Nobody knows whether the model has them: they go into a fresh turn.
        """
        world, talk = self.parked(isAlone=False)
        before, results = list(talk.messages), talk.resultsOf("grey", "fishy")
        world.workers.isHolding = True
        talk.post(*results)
        self.assertResults(world)
        held = world.workers.held
        world.kill()
        for work in held:
            work()
        world = talk.world = self.world()
        talk.messages = before
        self.assertSaid(talk.ask(*results), "look: grey; smell: fishy")
        self.assertEqual(len(set(self.sids(world))), 2)
        self.assertResults(world)
        world.advance(61)
        world.settle()


class CostTests(RestartCase):
    """
    Very much that an earlier process has left.
    """

    patience = 3600.0

    def restartedWith(self, number: int, turns: int) -> int:
        """
        Start a server over so many more sessions and parked turns, and so many
        turns in all, and end it.

        @return: how many functions are called for the start.
        """
        world = self.world(maxTurns=0, parkTimeout=3000)
        for _ in range(number):
            Talk(world, model="echo").ask(user("One."))
            self.assertCalls(Talk(world, model="calling", tools=BOTH).ask(user("Go.")), "look", "smell")
        world.stop()
        calls = 0

        def note(frame: FrameType, event: str, _: object) -> None:
            nonlocal calls
            code = frame.f_code.co_filename
            calls += event.endswith("call") and any(f"/openai_server/{room}/" in code for room in ROOMS)

        self.addCleanup(sys.setprofile, sys.getprofile())
        sys.setprofile(note)
        try:
            world = self.world(maxTurns=0, parkTimeout=3000)
            while len(world.front.submitter.calls) < 2 * turns:
                world.advance(0)
                world.clock.advance(0)
        finally:
            sys.setprofile(None)
        world.stop()
        return calls

    def test_ofOne(self) -> None:
        """
        D46: What a start costs for each session and parked turn does not grow
        with their number.
        """
        self.patch(restoring, "AT_ONCE", 1)
        # What is made once is made by then.
        self.restartedWith(2, 2)
        costs = [self.restartedWith(number, turns) for number, turns in ((2, 4), (2, 6), (4, 10))]
        few, many = costs[1] - costs[0], costs[2] - costs[1]
        self.assertTrue(abs(many - 2 * few) < 10, str(costs))
        self.assertLess(few / 2, 200, str(costs))

    def test_nothingIsLeft(self) -> None:
        """
        Of a turn that is over, without the garbage collector's help, which
        never looks at what was brought back.
        """
        world, talk = self.parked()
        self.addCleanup(gc.enable)
        gc.disable()
        world = self.restarted(world, talk, isKilled=False)
        alive = self.alive()
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        world.settle()
        # Its answer is kept for a while.
        world.advance(700, step=5)
        self.assertEqual(self.alive(), alive - 1)

    @staticmethod
    def alive() -> int:
        """
        How many turns are held by anything.
        """
        return sum(isinstance(each, Conversation) for each in gc.get_objects())


class DurabilityTests(RestartCase):
    """
    What a client is shown is kept already.
    """

    def test_callsAreKeptBeforeTheyAreShown(self) -> None:
        """
        The answer that hands them out waits for the store.
        """
        for isStreamed in (False, True):
            world = self.world(isAlone=False)
            talk = Talk(world, model="calling", tools=BOTH, stream=isStreamed)
            world.workers.isHolding = True
            client = talk.post(user("Go."))
            world.advance(1)
            self.assertFalse(client.isComplete)
            world.workers.release()
            world.advance(0.05)
            self.assertCalls(talk.heard(client), "look", "smell")
            self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
            world.settle()
            world.stop()

    def test_clientThatLeavesMeanwhile(self) -> None:
        """
        The turn stays parked: its client may have seen a part, and comes again.
        """
        world = self.world(isAlone=False)
        talk = Talk(world, model="calling", tools=BOTH)
        world.workers.isHolding = True
        talk.post(user("Go.")).leave()
        world.advance(1)
        world.workers.release()
        world.advance(70)
        world.settle()

    def test_turnThatEndsMeanwhile(self) -> None:
        """
        The calls are handed out all the same; their results are late.
        """
        world = self.world(isAlone=False)
        talk = Talk(world, model="calling", tools=BOTH)
        world.workers.isHolding = True
        client = talk.post(user("Go."))
        world.advance(1)
        self.successResultOf(self.machine.daemon.restart())
        world.advance(5)
        world.workers.release()
        world.advance(0.05)
        self.assertCalls(talk.heard(client), "look", "smell")
        self.assertSaid(talk.results("grey", "fishy"), "look: grey; smell: fishy")
        self.machine.clock.advance(61)
        world.settle()

    def test_storeThatIsTooSlow(self) -> None:
        """
        The answer does not wait for ever.
        """
        world = self.world(isAlone=False)
        talk = Talk(world, model="calling", tools=BOTH)
        world.workers.isHolding = True
        client = talk.post(user("Go."))
        world.until(lambda: client.isComplete, 20)
        self.assertCalls(talk.heard(client), "look", "smell")
        world.workers.release()
        world.advance(5)
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        world.settle()

    def test_promptWaitsUntilItsSessionIsTaken(self) -> None:
        """
        A session that may have been told something is never prompted again.
        """
        world = self.world(isAlone=False)
        talk = Talk(world, model="echo")
        talk.ask(user("One."))
        world.advance(1)
        world.workers.isHolding = True
        client = talk.post(user("Two."))
        self.assertEqual(len(self.prompts()), 1)
        world.workers.release()
        world.until(lambda: client.isComplete)
        self.assertEqual(len(set(self.sids(world))), 1)
        talk.messages.pop()
        talk.world = world = self.restarted(world, isKilled=True)
        world.settle()


class SessionTests(RestartCase):
    """
    Sessions go on, and hints name them.
    """

    def test_warm(self) -> None:
        """
        A conversation goes on in its session, and is told what is new.
        """
        for isKilled in (False, True):
            world = self.world()
            talk = Talk(world, model="echo")
            talk.ask(user("One."))
            world.advance(1)
            world = self.restarted(world, talk, isKilled=isKilled)
            client = talk.ask(user("Two."))
            self.assertEqual(client.header("x-hum-session"), "continued")
            self.assertEqual(self.contents(world)[-1], "Two.")
            self.assertEqual(len(set(self.sids(world)[-2:])), 1)
            world.settle()
            world.stop()

    def test_oneThatMadePlace(self) -> None:
        """
        It is not written again for that. The next process remembers those that
        were used last.
        """
        self.patch(asking, "_memoryFrom", lambda configuration: Memory(sessions=1))
        world = self.world()
        talks = [Talk(world, model="echo") for _ in range(3)]
        for talk in talks:
            talk.ask(user("One."))
            world.advance(1)
        with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as database:
            self.assertEqual(database.execute("SELECT count(*) FROM sessions").fetchone(), (3,))
        world = self.restarted(world, talks[2], isKilled=False)
        self.assertEqual(talks[2].ask(user("Two.")).header("x-hum-session"), "continued")
        talks[1].world = world
        self.assertNotEqual(talks[1].ask(user("Two.")).header("x-hum-session"), "continued")
        world.settle()

    def test_busyOnesAreForgotten(self) -> None:
        """
        X42: a session whose turn ran when the process died is not used again: the
        same request gets a fresh one.
        """
        world = self.world()
        talk = Talk(world)
        talk.ask(user("One."))
        world.advance(1)
        said = steps({"sleep": 2}, {"say": "Two."})
        talk.post(said)
        world.advance(0.5)
        talk.messages.pop()
        world = self.restarted(world, talk, isKilled=True)
        client = talk.ask(said)
        self.assertSaid(client, "Two.")
        self.assertNotIn(self.sids(world)[-1], self.sids(world)[:-1])
        world.advance(10)
        world.settle()

    def test_hints(self) -> None:
        """
        A lone message under a session's name goes on in it.
        """
        world = self.world()
        headers = {"x-hum-session": "mine"}
        Talk(world, headers, model="echo").ask(user("One."))
        world.advance(1)
        world = self.restarted(world, isKilled=True)
        client = Talk(world, headers, model="echo").ask(user("Two."))
        self.assertEqual(client.header("x-hum-session"), "continued")
        self.assertEqual(len(set(self.sids(world))), 1)
        world.settle()

    def test_systemPrompt(self) -> None:
        """
        One that a client says nothing of is said again, as before.
        """
        world = self.world()
        headers = {"x-hum-session": "mine"}
        system = {"role": "system", "content": "Be brief."}
        Talk(world, headers, model="echo").ask(system, user("One."))
        world.advance(1)
        world = self.restarted(world, isKilled=True)
        client = Talk(world, headers, model="echo").ask(user("Two."))
        self.assertEqual(client.header("x-hum-session"), "continued")
        self.assertEqual(world.sent("prompt")[-1]["systemPrompt"], world.sent("prompt")[0]["systemPrompt"])
        world.settle()

    def test_usersThatShowHistory(self) -> None:
        """
        A lone message of theirs is a new chat, as before.
        """
        world = self.world()
        talk = Talk(world, model="echo", user="u")
        talk.ask(user("One."))
        talk.ask(user("Two."))
        world.advance(1)
        world = self.restarted(world, isKilled=True)
        client = Talk(world, model="echo", user="u").ask(user("Three."))
        self.assertEqual(client.header("x-hum-session"), "forked; why=hint")
        world.settle()

    def test_switchedOff(self) -> None:
        """
        Without continuation nothing is gone on with.
        """
        world = self.world()
        talk = Talk(world, model="echo")
        talk.ask(user("One."))
        world.advance(1)
        world = self.restarted(world, talk, isKilled=True, continuation=False)
        self.assertEqual(talk.ask(user("Two.")).header("x-hum-session"), "new")
        world.settle()


class ResponsesTests(ResponsesCase, RestartCase):
    """
    Responses, which leave the history to the server.
    """

    def test_previousResponse(self) -> None:
        """
        Outputs alone go on with the turn, since the server has the calls.
        """
        for isKilled in (False, True):
            before = len(self.prompts())
            world = self.world()
            first = self.ask(world, plays({"tool": "look", "args": {}}, {"say": "Done."}), tools=[LOOK])
            [call] = self.callsOf(first)
            world = self.restarted(world, isKilled=isKilled)
            previous = responseOf(first)["id"]
            again = self.ask(world, itemResult(call, "grey"), tools=[LOOK], previous_response_id=previous)
            self.assertEqual(textOf(again), "[grey]Done.")
            self.assertEqual(again.header("x-hum-session"), "continued")
            self.assertEqual(len(self.prompts()) - before, 1)
            last = self.ask(world, says("Next."), tools=[LOOK], previous_response_id=responseOf(again)["id"])
            self.assertEqual(last.header("x-hum-session"), "continued")
            world.settle()
            world.stop()

    def test_outputsAlone(self) -> None:
        """
        X41: they find their turn by their ids, or nothing can be made of them.
        """
        world = self.world()
        first = self.ask(world, plays({"tool": "look", "args": {}}, {"say": "Done."}), tools=[LOOK])
        [call] = self.callsOf(first)
        output = itemResult(call, "grey")
        world = self.restarted(world, isKilled=True)
        self.assertEqual(textOf(self.ask(world, output, tools=[LOOK])), "[grey]Done.")
        world = self.restarted(world, isKilled=True)
        self.assertExpired(self.ask(world, output, tools=[LOOK]))
        madeUp = {**call, "call_id": "call_" + "x" * 32}
        self.assertExpired(self.ask(world, itemResult(madeUp, "grey"), tools=[LOOK]))
        self.assertEqual(len(self.prompts()), 1)
        world.settle()

    def test_lateOutputsAlone(self) -> None:
        """
        X20: they go on in the session that their turn has left in good order,
        if it has.
        """
        for end in ({"say": "Done."}, {"result_error": "API Error: 500"}):
            world = self.world(parkTimeout=5)
            first = self.ask(world, plays({"tool": "look", "args": {}}, end), tools=[LOOK])
            [call] = self.callsOf(first)
            world.advance(8)
            client = self.ask(world, itemResult(call, "grey"), tools=[LOOK])
            if "say" in end:
                self.assertEqual(client.header("x-hum-session"), "continued")
            else:
                self.assertExpired(client)
            world.settle()
            world.stop()
