"""
How many turns run at once, who waits, and who is turned away.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from openai_server import constants
from openai_server.daemon.waitlimits import WaitLimits
from openai_server.web import submission
from openai_server.web.mistakes import Bug
from tests.dialects import inBothAPIs
from tests.flow.support import FlowCase, Talk, function, image, steps, user
from tests.machinery.models import TEST_MODELS
from tests.world import Client, World

#: A turn of three seconds, with its process's start.
SLOW = ({"say": "Slow."}, {"sleep": 2.8})


@inBothAPIs
class LineTests(FlowCase):
    """
    Slots, and the line for them.
    """

    def slow(self, world: World, count: int, seconds: float = 2.8, account: str = "nobody") -> list[Client]:
        """
        Ask for so many turns that are silent for so long.
        """
        headers = {"x-account": account}
        talks = [Talk(world, headers) for _ in range(count)]
        return [talk.post(steps({"say": account}, {"sleep": seconds})) for talk in talks]

    def assertShed(self, client: Client) -> None:
        """
        It was turned away, and may come again.
        """
        self.assertRefused(client, 429, "server_is_overloaded")
        self.assertRegex(client.header("retry-after") or "", r"\A[1-9]\d*\Z")
        self.assertIsNone(client.header("x-should-retry"))

    def test_eightTurnsAtOnce(self) -> None:
        """
        U21: the ninth waits until one of the eight is over, and is answered.
        """
        world = World(self)
        clients = self.slow(world, 9)
        world.advance(2)
        self.assertEqual(len(self.sids(world)), 8)
        world.advance(1.5)
        self.assertEqual(len(self.sids(world)), 9)
        world.advance(4)
        for client in clients:
            self.assertSaid(client, "nobody")
        world.settle()

    def test_numberIsASetting(self) -> None:
        """
        C{maxTurns}; 0 is no limit.
        """
        for limit, running in ((2, 2), (0, 12)):
            world = World(self, maxTurns=limit)
            self.slow(world, 12, 0.1)
            self.assertEqual(len(self.sids(world)), running)
            world.advance(4)
            self.assertEqual(world.ends, ["ok"] * 12)
            world.settle()

    def test_parkedTurnsCount(self) -> None:
        """
        U21: a turn that waits for its client is still a process of the worker.
        """
        world = World(self, maxTurns=1)
        talk = Talk(world, tools=[function()])
        talk.ask(steps({"tool": "look", "args": {}}))
        [waits] = self.slow(world, 1, 0)
        world.advance(5)
        self.assertIsNone(waits.status)
        self.assertSaid(talk.results("grey"), "[grey]")
        world.advance(1)
        self.assertSaid(waits, "nobody")
        world.settle()

    def test_resultsNeedNoSlot(self) -> None:
        """
        The turn that they are for has one: they overtake the line.
        """
        world = World(self, maxTurns=1)
        talk = Talk(world, tools=[function()])
        talk.ask(steps({"tool": "look", "args": {}}))
        self.slow(world, 3, 0)
        self.assertSaid(talk.results("grey"), "[grey]")
        world.advance(3)
        world.settle()

    def test_modelsOfOtherWorkers(self) -> None:
        """
        U21: a worker has slots of its own; models of one worker share them,
        and a second worker for the same model adds none.
        """
        world = World(self, maxTurns=1)
        world.daemon.killWorkers()
        world.daemon.addWorker("script", "part")
        world.daemon.addWorker("script")
        world.daemon.addWorker("echo")
        world.advance(1)
        self.slow(world, 1)
        sharing = Talk(world, model="part").post(user("hello"))
        again = Talk(world).post(steps({"say": "Again."}))
        self.assertSaid(Talk(world, model="echo").ask(user("hello")), "hello")
        self.assertEqual((sharing.status, again.status), (None, None))
        self.assertEqual([tone["modelId"] for tone in world.sent("prompt")], ["script", "echo"])
        world.advance(6)
        self.assertSaid(sharing, "hello")
        self.assertSaid(again, "Again.")
        world.settle()

    def test_workerThatJoinsBringsNoSlots(self) -> None:
        """
        U21: a worker that comes while a turn runs and shares its model, with
        one whose id is smaller, does not make the turn be forgotten.
        """
        models = {**TEST_MODELS, "aaa": TEST_MODELS["echo"]}
        world = World(self, maxTurns=1, daemonSettings={"models": models})
        world.daemon.killWorkers()
        world.daemon.addWorker("echo", "script")
        world.advance(1)
        self.slow(world, 1)
        world.daemon.addWorker("aaa", "echo")
        world.advance(1)
        waiting = Talk(world, model="echo").post(user("hello"))
        world.advance(1)
        self.assertIsNone(waiting.status)
        world.advance(3)
        self.assertSaid(waiting, "hello")
        world.settle()

    def test_fullLine(self) -> None:
        """
        U22: who finds the line full is told so in the same turn of the
        reactor; the others are served.
        """
        world = World(self, maxTurns=1, queueLength=2)
        clients = self.slow(world, 4, 0.5)
        self.assertShed(clients[3])
        self.assertEqual(world.ends, ["shed"])
        world.advance(4)
        for client in clients[:3]:
            self.assertSaid(client, "nobody")
        self.assertEqual(len(self.sids(world)), 3)
        world.settle()

    def test_theLineHasPlaceFor32(self) -> None:
        """
        U22: the default.
        """
        world = World(self)
        clients = self.slow(world, 41, 0.1)
        self.assertEqual([client.status for client in clients], [None] * 40 + [429])
        world.advance(8)
        self.assertEqual(sorted(world.ends), ["ok"] * 40 + ["shed"])
        world.settle()

    def test_longWait(self) -> None:
        """
        U22: 30 s, and nobody's turn is hurt.
        """
        world = World(self, maxTurns=1)
        running, waiting = self.slow(world, 2, 40)
        world.advance(29)
        self.assertIsNone(waiting.status)
        world.advance(2)
        self.assertShed(waiting)
        world.advance(15)
        self.assertSaid(running, "nobody")
        self.assertEqual(len(self.sids(world)), 1)
        world.settle()

    def test_waitIsASetting(self) -> None:
        """
        C{queueTimeout}.
        """
        world = World(self, maxTurns=1, queueTimeout=1)
        _, waiting = self.slow(world, 2)
        world.advance(1.5)
        self.assertShed(waiting)
        world.advance(3)
        world.settle()

    def test_streamThatIsTurnedAway(self) -> None:
        """
        U22: with a status: nothing of the stream has been sent.
        """
        world = World(self, maxTurns=1, queueLength=0)
        self.slow(world, 1)
        client = Talk(world, stream=True).post(steps({"say": "x"}))
        self.assertShed(client)
        world.advance(4)
        world.settle()

    def test_keysTakeTurns(self) -> None:
        """
        U22: a key with one request does not wait behind all of another's.
        """
        self.withAccounts()
        world = World(self, maxTurns=1)
        self.slow(world, 4, 0.5, "many")
        self.slow(world, 1, 0.5, "one")
        world.advance(6)
        order = ["one" if '"one"' in content else "many" for content in self.contents(world)]
        self.assertEqual(order, ["many", "many", "one", "many", "many"])
        world.settle()

    def test_fullLineOfOneKey(self) -> None:
        """
        U22: who fills the line makes place for somebody else.
        """
        self.withAccounts()
        world = World(self, maxTurns=1, queueLength=3)
        many = self.slow(world, 4, 0.2, "many")
        [one] = self.slow(world, 1, 0.2, "one")
        world.advance(0)
        self.assertShed(many[3])
        world.advance(4)
        for client in many[:3]:
            self.assertSaid(client, "many")
        self.assertSaid(one, "one")
        world.settle()

    def test_leavingTheLine(self) -> None:
        """
        K6: nothing is sent for a client that left while it waited, and the
        next one moves up.
        """
        world = World(self, maxTurns=1, queueLength=2)
        _, leaves, stays = self.slow(world, 3)
        leaves.leave()
        self.assertEqual(world.ends, ["cl-gone"])
        [joins] = self.slow(world, 1, 0)
        world.advance(8)
        self.assertSaid(stays, "nobody")
        self.assertSaid(joins, "nobody")
        self.assertEqual(len(self.sids(world)), 3)
        self.assertEqual(world.sent("cancel"), [])
        world.settle()

    def test_filesOfWhoLeftTheLine(self) -> None:
        """
        K6: attachments that were written for it are removed.
        """
        world = World(self, maxTurns=1, attachments="file")
        self.slow(world, 1)
        client = Talk(world).post(user([image()]))
        world.advance(0)
        files = [path for path in world.folder.rglob("*") if path.suffix == ".gif"]
        self.assertEqual(len(files), 1)
        client.leave()
        world.advance(0)
        self.assertFalse(files[0].exists())
        world.advance(4)
        world.settle()

    def test_filesOfATurn(self) -> None:
        """
        They stay until the worker is done with it, though its client left.
        """
        world = World(self, attachments="file")
        said = {"type": "text", "text": steps({"sleep": 3})["content"]}
        client = Talk(world).post(user([said, image()]))
        world.advance(1)
        [path] = [path for path in world.folder.rglob("*") if path.suffix == ".gif"]
        client.leave()
        world.advance(1)
        self.assertTrue(path.exists())
        world.advance(3)
        self.assertFalse(path.exists())
        world.settle()

    def test_daemonThatGoesMeanwhile(self) -> None:
        """
        Whoever comes to a slot without a daemon is told so.
        """
        world = World(self, maxTurns=1)
        first, second = self.slow(world, 2)
        world.advance(1)
        self.successResultOf(world.daemon.crash())
        world.advance(0.5)
        self.assertRefused(first, 502, "daemon_lost")
        self.assertRefused(second, 503, "daemon_unavailable")
        self.assertEqual(len(self.sids(world)), 1)
        world.settle()

    def test_serverThatStops(self) -> None:
        """
        Whoever waits is turned away, and the line stays empty.
        """
        world = World(self, maxTurns=1)
        _, waiting = self.slow(world, 2)
        world.front.completion.stop()
        world.advance(0)
        self.assertRefused(waiting, 503, "shutting_down")
        [later] = self.slow(world, 1)
        self.assertRefused(later, 503, "shutting_down")
        world.advance(4)
        world.settle()


@inBothAPIs
class DrainTests(FlowCase):
    """
    Slots of turns that nobody wants any more.
    """

    def left(self, world: World, seconds: float) -> Client:
        """
        A client leaves its stream, whose turn runs on for so long.

        @return: another client, which waits for the slot.
        """
        Talk(world, stream=True).post(steps({"say": "Half."}, {"sleep": seconds}))
        world.advance(0.5)
        world.clients[-1].leave()
        self.assertEqual(len(world.sent("cancel")), 1)
        return Talk(world).post(steps({"say": "Next."}))

    def test_drainingTurnHoldsItsSlot(self) -> None:
        """
        U24: the worker still runs it: the slot is free at its end.
        """
        world = World(self, maxTurns=1)
        client = self.left(world, 10)
        world.advance(9)
        self.assertIsNone(client.status)
        world.advance(1.5)
        self.assertSaid(client, "Next.")
        self.assertEqual(len(world.sent("cancel")), 1)
        world.settle()

    def test_notForLong(self) -> None:
        """
        U24: 30 s at most, while the turn is remembered until its end.
        """
        world = World(self, maxTurns=1, queueTimeout=60)
        client = self.left(world, 50)
        world.advance(29)
        self.assertIsNone(client.status)
        world.advance(2)
        self.assertSaid(client, "Next.")
        self.assertEqual(world.link.turnCount, 1)
        world.advance(20)
        world.settle()

    def test_howLongIsAConstant(self) -> None:
        """
        C{DRAIN_SLOT}.
        """
        self.patch(constants, "DRAIN_SLOT", 3)
        world = World(self, maxTurns=1)
        client = self.left(world, 20)
        world.advance(2.5)
        self.assertIsNone(client.status)
        world.advance(1)
        self.assertSaid(client, "Next.")
        world.advance(20)
        world.settle()

    def test_turnThatNeverEnds(self) -> None:
        """
        U24: it is forgotten after ten minutes.
        """
        world = World(self, timeouts=WaitLimits(heartbeat=100))
        world.script({"say": "Half."}, {"silence": 1}, stream=True)
        world.advance(0.5)
        world.clients[0].leave()
        world.advance(599, 5)
        self.assertEqual(world.link.turnCount, 1)
        world.advance(2)
        self.assertEqual(world.link.turnCount, 0)
        world.settle()

    def test_settlingTurnHoldsItsSlot(self) -> None:
        """
        X20: until its C{finish}, however late.
        """
        world = World(self, maxTurns=1, parkTimeout=1, queueTimeout=100)
        Talk(world, tools=[function()]).ask(steps({"tool": "look", "args": {}}, {"sleep": 40}))
        client = Talk(world).post(steps({"say": "Next."}))
        world.advance(39)
        self.assertIsNone(client.status)
        world.advance(4)
        self.assertSaid(client, "Next.")
        world.settle()


@inBothAPIs
class WayOutTests(FlowCase):
    """
    However a request ends, its slot is released, and once (U23).
    """

    def assertOneSlot(self, world: World) -> None:
        """
        There is exactly one slot again.
        """
        scheduler = world.front.submitter.upstreams
        self.assertEqual((scheduler.taken, scheduler.waiting), (0, 0))
        before = len(self.sids(world))
        clients = [Talk(world).post(steps(*SLOW)) for _ in range(2)]
        world.advance(1)
        self.assertEqual(len(self.sids(world)), before + 1)
        world.advance(6)
        for client in clients:
            self.assertSaid(client, "Slow.")
        world.settle()

    def way(self, go: Callable[[World], object], seconds: float = 2, **settings: Any) -> None:
        """
        Let a request in a world with one slot end in some way.
        """
        world = World(self, maxTurns=1, **settings)
        go(world)
        world.advance(seconds)
        self.assertOneSlot(world)

    def test_answers(self) -> None:
        """
        U23: complete, stopped, failed, ended without a word.
        """
        for step in (
            {"say": "x"},
            {"say": "x STOP y"},
            {"result_error": "no"},
            {"exit": 1},
            {"exit": 0},
            {"finish": {"finishReason": "error"}},
        ):
            for stream in (False, True):
                stop = {"stop": "STOP"} if self.api.knows("stop") else {}
                ask = partial(World.script, stream=stream, **stop)
                self.way(lambda world, ask=ask, step=step: ask(world, step))

    def test_twoEnds(self) -> None:
        """
        U23, U12: a turn that ends twice.
        """
        finish = {"raw": {"chi": "finish", "finishReason": "success"}}
        self.way(lambda world: world.script({"say": "x"}, finish, finish))

    def test_badRequests(self) -> None:
        """
        U23: refused before and behind the slot.
        """
        broken = {"type": "image_url", "image_url": {"url": "data:image/png;base64,!!"}}
        self.way(lambda world: Talk(world).post(user([broken])))
        self.way(lambda world: Talk(world, model="nobody-serves-this").post(user("x")))
        self.way(lambda world: Talk(world, tools=[function(), function()]).post(user("x")))

    def test_leavingClients(self) -> None:
        """
        U23: before the first token, in mid-stream, while parked, at the end.
        """
        for seconds in (0.0, 0.1, 0.4, 1.0):
            for stream in (False, True):

                def go(world: World, seconds: float = seconds, stream: bool = stream) -> None:
                    client = world.script({"say": "x"}, {"sleep": 0.8}, stream=stream)
                    world.advance(seconds, 0.05)
                    client.leave()

                self.way(go)

    def test_parkedTurns(self) -> None:
        """
        U23: results, a park that is over, a user's message instead.
        """

        def asked(world: World) -> Talk:
            talk = Talk(world, tools=[function()])
            talk.ask(steps({"tool": "look", "args": {}}))
            return talk

        self.way(lambda world: asked(world).results("grey"))
        self.way(asked, 55)
        self.way(lambda world: asked(world).post(steps({"say": "x"})), 70)

    def test_losses(self) -> None:
        """
        U23: the daemon or the worker goes, the echo or the prompt is lost.
        """

        def lose(world: World) -> None:
            world.script({"silence": 1})
            world.advance(1)
            self.successResultOf(world.daemon.restart())

        def die(world: World) -> None:
            world.script({"silence": 1})
            world.advance(1)
            world.daemon.killWorkers()
            world.advance(1)
            world.daemon.addWorker(*world.daemon.settings.models)

        self.way(lose, 8)
        self.way(die)
        self.way(lambda world: world.script({"vanish": 1}), 35, timeouts=WaitLimits(firstLife=1, drain=30))

    def test_mistakesOfOurs(self) -> None:
        """
        U23: an exception between slot and prompt: 500, and everything is
        given back.
        """

        def go(world: World) -> None:
            def fail(*args: Any, **named: Any) -> None:
                raise ZeroDivisionError

            patch = self.patch(submission, "promptFrom", fail)
            client = world.script({"say": "x"})
            patch.restore()
            self.assertRefused(client, 500, "internal_error")
            self.assertEqual(world.ends, ["bug"])
            self.assertEqual(len(self.flushLoggedErrors(Bug)), 1)

        self.way(go)
