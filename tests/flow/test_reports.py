"""
What is told of turns that are over: one report for each, when its worker is
done with it, whoever was still there.
"""

from __future__ import annotations

from openai_server.accounts.keyring import KeyRing, settingsAccount
from openai_server.api.output import Usage
from openai_server.daemon.waitlimits import WaitLimits
from openai_server.reports import TurnReport
from openai_server.sessions.chains import Chain
from openai_server.sessions.contexts import contextFrom
from openai_server.sessions.digests import digestOf
from openai_server.sessions.plans import Session
from openai_server.sessions.turncontext import EndedTurn, TurnContext
from openai_server.web.turnreports import TurnReporter, reportFrom
from openai_server.wire.tones import Finish
from tests.dialects import inBothAPIs
from tests.flow.support import FlowCase, Talk, function, steps
from tests.flow.test_restart import RestartCase
from tests.support import SyncCase
from tests.world import Client, World

#: A turn's, as the worker reports it: 1,000 tokens in, 500 out.
REPORTED = {
    "input_tokens": 100,
    "cache_read_input_tokens": 700,
    "cache_creation_input_tokens": 200,
    "output_tokens": 500,
}
#: The schema of an answer that is a number.
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}}

#: What reports call the APIs, by their paths.
API_NAMES = {"/v1/chat/completions": "chat", "/v1/responses": "responses"}


def tokensOf(report: TurnReport) -> tuple[int, int, int, bool]:
    """
    Input, cached and output tokens of a turn, and whether they are estimated.
    """
    return report.inputTokens, report.cachedTokens, report.outputTokens, report.isEstimated


class ReportCase(FlowCase):
    """
    A server whose turns are told of.
    """

    def only(self, world: World) -> TurnReport:
        """
        The one report so far.
        """
        [report] = world.turns
        return report

    def assertTold(self, client: Client, report: TurnReport) -> None:
        """
        The tokens are those that this client was told.
        """
        usage = client.usage
        told = (usage["prompt_tokens"], usage["completion_tokens"])
        self.assertEqual((report.inputTokens, report.outputTokens), told)


@inBothAPIs
class FinishedTurnTests(ReportCase):
    """
    Turns whose clients stayed.
    """

    def test_workersFigures(self) -> None:
        """
        Tokens are the worker's, the session is a digest of the sid, the time
        is the turn's.
        """
        world = World(self)
        world.script({"usage": REPORTED}, {"say": "One."}, {"sleep": 2})
        world.advance(4)
        report = self.only(world)
        self.assertEqual(tokensOf(report), (1000, 700, 500, False))
        self.assertEqual(report.session, digestOf(self.sids(world)).hex())
        self.assertEqual((report.api, report.model), (API_NAMES[self.api.path], "script"))
        self.assertEqual((report.account, report.calls, report.end), ("anonymous", 0, "ok"))
        self.assertTrue(2 < report.seconds < 2.5, report.seconds)
        world.settle()

    def test_estimate(self) -> None:
        """
        Where the worker says nothing of tokens, they are what the client is told.
        """
        world = World(self)
        client = world.script({"usage": None}, {"say": "Four of them here"})
        world.advance(1)
        report = self.only(world)
        self.assertTrue(report.isEstimated)
        self.assertTold(client, report)
        world.settle()

    def test_turnOfSeveralAnswers(self) -> None:
        """
        It is one turn, told of at its end, with the calls of all answers; its
        tokens are those that all answers were told.
        """
        for usage in ({"usage": REPORTED}, {"usage": None}):
            world = World(self)
            talk = Talk(world, tools=[function()])
            call = {"tool": "look", "args": {}}
            clients = [talk.ask(steps(usage, call, {"say": "And now?"}, call)), talk.results("grey")]
            self.assertEqual(world.turns, [])
            clients.append(talk.results("white"))
            report = self.only(world)
            self.assertEqual((report.calls, report.end, report.isEstimated), (2, "ok", not usage["usage"]))
            told = [client.usage for client in clients]
            self.assertEqual(report.inputTokens, sum(usage["prompt_tokens"] for usage in told))
            self.assertEqual(report.outputTokens, sum(usage["completion_tokens"] for usage in told))
            world.settle()

    def test_repairedAnswer(self) -> None:
        """
        The turn that repairs an answer is another one in the same session.
        """
        world = World(self, schemaRepair=True)
        client = world.ask("No number.", model="echo", response_format=SCHEMA)
        world.advance(2)
        self.assertEqual(client.status, 200)
        first, second = world.turns
        self.assertEqual(first.session, second.session)
        world.settle()

    def test_stopString(self) -> None:
        """
        A turn that is cut at a stop string has ended well, and is told of when
        its worker is done.
        """
        if not self.api.knows("stop"):
            return
        world = World(self)
        world.script({"say": "one END two"}, {"sleep": 3}, stop=["END"])
        world.advance(1)
        self.assertEqual(world.turns, [])
        world.advance(4)
        self.assertEqual(self.only(world).end, "ok")
        world.settle()


@inBothAPIs
class LostTurnTests(ReportCase):
    """
    Turns that nobody heard the end of, or that had no good one.
    """

    def test_clientThatLeaves(self) -> None:
        """
        The turn is told of when its worker is done, with the worker's tokens;
        where it tells none, with those of what was said until then.
        """
        for usage, tokens in (({"usage": REPORTED}, (1000, 700, 500, False)), ({"usage": None}, None)):
            world = World(self)
            client = world.script(usage, {"say": "x" * 40}, {"sleep": 5}, {"say": "y"}, stream=True)
            world.advance(2)
            client.leave()
            world.advance(1)
            self.assertEqual(world.turns, [])
            world.advance(5)
            report = self.only(world)
            self.assertEqual(report.end, "cl-gone")
            self.assertGreater(report.seconds, 4)
            if tokens is None:
                tokens = (report.inputTokens, 0, 10, True)
                self.assertGreater(report.inputTokens, 20)
            self.assertEqual(tokensOf(report), tokens)
            world.settle()

    def test_workerThatFails(self) -> None:
        """
        The end is the one that the client is told.
        """
        world = World(self)
        client = world.script({"say": "Some."}, {"fail": "API Error: broken"})
        world.advance(1)
        self.assertEqual((client.status, self.only(world).end), (502, "up-error"))
        world.settle()

    def test_workerThatDies(self) -> None:
        """
        What its answer has cost until then is estimated.
        """
        world = World(self)
        world.script({"say": "x" * 40}, {"sleep": 60}, stream=True)
        world.advance(2)
        world.daemon.killWorkers()
        world.advance(30)
        report = self.only(world)
        self.assertEqual((report.end, report.outputTokens, report.isEstimated), ("up-lost", 10, True))
        world.settle()

    def test_silentWorker(self) -> None:
        """
        A turn that is given up is told of at its real end, once, and says why
        it was given up.
        """
        world = World(self, timeouts=WaitLimits(stall=5))
        world.script({"usage": REPORTED}, {"say": "Wait."}, {"sleep": 20})
        world.advance(10)
        self.assertEqual((world.ends, world.turns), (["up-stall"], []))
        world.advance(15)
        report = self.only(world)
        self.assertEqual((report.end, *tokensOf(report)), ("up-stall", 1000, 700, 500, False))
        world.settle()

    def test_noWorker(self) -> None:
        """
        A turn that no worker has begun costs nothing.
        """
        world = World(self)
        world.ask("Hello", model="nobody")
        world.advance(1)
        report = self.only(world)
        self.assertEqual((report.end, *tokensOf(report)), ("up-nowork", 0, 0, 0, True))
        world.settle()

    def test_parkedTurnThatNobodyComesBackTo(self) -> None:
        """
        It settles, and is told of then.
        """
        world = World(self, parkTimeout=10)
        talk = Talk(world, tools=[function()])
        client = talk.ask(steps({"usage": None}, {"tool": "look", "args": {}}))
        world.advance(9)
        self.assertEqual(world.turns, [])
        world.advance(5)
        report = self.only(world)
        self.assertEqual((report.end, report.calls), ("ok", 1))
        self.assertTold(client, report)
        world.settle()

    def test_serverThatStops(self) -> None:
        """
        What still runs is told of before the store closes.
        """
        world = World(self)
        world.script({"say": "x" * 40}, {"sleep": 60}, stream=True)
        world.advance(2)
        world.stop()
        self.assertEqual(self.only(world).outputTokens, 10)

    def test_mistakeOfOneListener(self) -> None:
        """
        It is logged, and keeps the report from nobody else; nor the slot.
        """

        class Broken:
            def turnEnded(self, report: TurnReport) -> None:
                raise ValueError("broken")

        world = World(self)
        world.front.submitter.reporter = TurnReporter([Broken(), world])
        world.script({"say": "One."})
        world.advance(1)
        self.assertEqual(self.only(world).end, "ok")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        world.settle()


class NameTests(SyncCase):
    """
    Names of accounts and models.
    """

    def test_accounts(self) -> None:
        """
        To people, the account of the key in the settings is called default;
        all others are called what they are.
        """
        heard: dict[str, list[TurnReport]] = {"listeners": [], "people": []}

        class Listener:
            def __init__(self, name: str) -> None:
                self.turnEnded = heard[name].append

        ring = KeyRing(b"secret", lambda: 0.0, "sk-own")
        own = settingsAccount("sk-own", b"secret").name
        reporter = TurnReporter([Listener("listeners")], [Listener("people")], ring.labelOf)
        session = Session("a", contextFrom("m", "", None), Chain())
        for name in (own, "alice"):
            context = TurnContext(name, "chat", session, {}, frozenset(), (), True, 50.0)
            reporter.turnOver(EndedTurn(context, "m", Usage(), 0, 0.1, None, Finish(sid="s")))
        self.assertEqual([each.account for each in heard["listeners"]], [own, "alice"])
        self.assertEqual([each.account for each in heard["people"]], ["default", "alice"])

    def test_strangeNames(self) -> None:
        """
        Whatever a client calls a model, what is told of it is short and can be
        kept.
        """
        session = Session("a", contextFrom("m", "", None), Chain())
        context = TurnContext("a", "chat", session, {}, frozenset(), (), True, 50.0)
        for model, told in (
            ("m\ud800\0" + "x" * 5000, "m??" + "x" * 197),
            ("caf\xe9/m:1", "caf\xe9/m:1"),
        ):
            turn = EndedTurn(context, model, Usage(), 0, 0.1, None, Finish(sid="s"))
            self.assertEqual(reportFrom(turn).model, told)


class RestoredTurnTests(RestartCase):
    """
    Turns that an earlier process has asked.
    """

    def test_turnThatIsGoneOnWith(self) -> None:
        """
        It is told of once, by the process in which it ends, as if there had
        been one process.
        """
        for isKilled in (False, True):
            began = self.machine.now()
            world, talk = self.parked()
            first = world
            world.advance(4)
            world = self.restarted(world, talk, isKilled=isKilled)
            talk.results("grey", "fishy")
            [report] = world.turns
            self.assertEqual(first.turns, [])
            self.assertEqual((report.api, report.model, report.calls), ("chat", "calling", 2))
            self.assertEqual(report.session, digestOf([self.prompts()[-1]["sid"]]).hex())
            # The first server was asked six seconds behind its start.
            passed = self.machine.now() - began - 6
            self.assertLess(abs(report.seconds - passed), 1)
            self.assertGreater(report.inputTokens, 0)
            world.settle()
            world.stop()

    def test_turnThatWasLostMeanwhile(self) -> None:
        """
        Its daemon is gone: the process that finds that out tells of it.
        """
        world, talk = self.parked()
        told = talk.last
        assert told is not None
        world.kill()
        self.successResultOf(self.machine.daemon.restart())
        self.machine.clock.advance(25)
        world = self.world()
        [report] = world.turns
        self.assertEqual((report.end, report.calls, report.isEstimated), ("up-lost", 2, True))
        self.assertEqual(report.inputTokens, told.usage["prompt_tokens"])
        self.assertTrue(25 < report.seconds < 27, report.seconds)
        world.stop()
        self.machine.clock.advance(61)
