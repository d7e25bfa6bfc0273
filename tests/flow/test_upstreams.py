"""
One server before several daemons.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openai_server.sessions.sharedturns import LOOK
from tests.flow.sharing import InOneMemory
from tests.flow.support import FlowCase, Talk, function, steps, user
from tests.flow.test_restart import BOTH, apart, calling
from tests.machinery.models import TEST_MODELS
from tests.telemetry.support import get, samplesOf
from tests.world import Client, Machine, World

#: Hands out what follows from what it was sent: the same calls at each daemon.
MODELS = {**TEST_MODELS, "calling": calling, "apart": apart}


class UpstreamsCase(FlowCase):
    """
    Two machines with a daemon each, and a server that asks both.
    """

    def setUp(self) -> None:
        super().setUp()
        self.east = Machine(self, {"models": {**MODELS, "eastern": TEST_MODELS["echo"]}})
        self.west = Machine(self, {"models": {**MODELS, "western": TEST_MODELS["echo"]}})
        self.url = f"sqlite:///{Path(self.mktemp()).absolute()}/store.db"

    def world(self, weights: tuple[float, float] = (1.0, 1.0), **options: Any) -> World:
        """
        The server, started.
        """
        upstreams = {"east": (self.east, weights[0]), "west": (self.west, weights[1])}
        return World(self, upstreams=upstreams, **options)

    def asked(self) -> tuple[int, int]:
        """
        How many prompts each daemon was sent.
        """
        return len(self.east.recorder.sent("prompt")), len(self.west.recorder.sent("prompt"))

    def crash(self, machine: Machine) -> None:
        """
        Let a daemon die.
        """
        self.successResultOf(machine.daemon.crash())

    def results(self, machine: Machine) -> list[str]:
        """
        The results of calls that a daemon was sent.
        """
        return [tone["output"] for tone in machine.recorder.sent("tool-result")]

    def listed(self, world: World) -> list[str]:
        """
        The models that a client is told of.
        """
        found: list[dict[str, Any]] = get(world, "/v1/models").json["data"]
        return [model["id"] for model in found]


class SharingTests(UpstreamsCase):
    def test_modelsOfAll(self) -> None:
        """
        Each is listed once, and asked where it is served.
        """
        world = self.world()
        listed = self.listed(world)
        self.assertEqual(len(listed), len(set(listed)))
        self.assertLessEqual({"eastern", "western", "calling"}, set(listed))
        for model in ("western", "eastern", "western"):
            self.assertSaid(Talk(world, model=model).ask(user("Hi.")), "Hi.", "new")
        self.assertEqual(self.asked(), (1, 2))

    def test_freshOnesGoWhereThereIsLess(self) -> None:
        """
        By weight, while others run.
        """
        world = self.world((2.0, 1.0))
        for _ in range(6):
            world.script({"sleep": 5}, {"say": "Done."})
        self.assertEqual(self.asked(), (4, 2))
        world.advance(6)

    def test_fullOneIsLeftOut(self) -> None:
        """
        Nobody waits while another one has a free slot.
        """
        world = self.world((9.0, 1.0), maxTurns=2)
        clients = [world.script({"sleep": 5}, {"say": "Done."}) for _ in range(5)]
        self.assertEqual(self.asked(), (2, 2))
        self.assertEqual(world.front.submitter.upstreams.waiting, 1)
        world.advance(6)
        world.until(lambda: all(client.isComplete for client in clients))
        self.assertEqual(sum(self.asked()), 5)

    def test_sessionStays(self) -> None:
        """
        Whatever the others do meanwhile.
        """
        world = self.world()
        first, second = Talk(world), Talk(world)
        busy = world.script({"sleep": 60}, {"say": "Done."})
        self.assertSaid(first.ask(user("One.")), "One.", "new")
        self.assertEqual(self.asked(), (1, 1))
        world.script({"sleep": 60}, {"say": "Done."})
        world.script({"sleep": 60}, {"say": "Done."})
        before = self.asked()
        for _ in range(3):
            self.assertSaid(first.ask(user("More.")), "More.", "continued")
        self.assertEqual(self.asked(), (before[0], before[1] + 3))
        self.assertSaid(second.ask(user("Two.")), "Two.", "new")
        self.assertFalse(busy.isComplete)
        world.advance(61)

    def test_sameToolsOnBoth(self) -> None:
        """
        Turns with tools of one name run at both, and each result goes to the
        daemon of its call.
        """
        world = self.world()
        talks = [Talk(world, model="calling", tools=BOTH) for _ in range(4)]
        for talk in talks:
            self.assertCalls(talk.ask(user("Go.")), "look", "smell")
        self.assertEqual(self.asked(), (2, 2))
        for number, talk in reversed(list(enumerate(talks))):
            said = talk.results(f"grey {number}", f"fishy {number}")
            self.assertSaid(said, f"[grey {number}][fishy {number}]", "continued")
        self.assertEqual(self.results(self.east), ["grey 2", "fishy 2", "grey 0", "fishy 0"])
        self.assertEqual(self.results(self.west), ["grey 3", "fishy 3", "grey 1", "fishy 1"])
        self.assertEqual(self.asked(), (2, 2))

    def test_otherToolsDoNotWaitForEachOther(self) -> None:
        """
        The worker of one daemon has a list of tools of its own.
        """
        world = self.world()
        world.ask([steps({"sleep": 5}, {"say": "One."})], tools=[function("look", a={"type": "string"})])
        world.ask([steps({"sleep": 5}, {"say": "Two."})], tools=[function("smell")])
        self.assertEqual(self.asked(), (1, 1))
        self.assertEqual(world.front.submitter.upstreams.waiting, 0)
        world.advance(6)


class AwayTests(UpstreamsCase):
    def test_oneDies(self) -> None:
        """
        S25: Its streams end in an error and are cut, its sessions begin anew at the
        other one, and it is used again when it is back.
        """
        world = self.world()
        talk = Talk(world)
        self.assertSaid(talk.ask(user("One.")), "One.", "new")
        stream = world.script({"say": "Some"}, {"sleep": 60}, {"say": "more."}, stream=True)
        world.until(lambda: stream.text == "Some")
        self.assertEqual(self.asked(), (2, 0))
        other = world.script({"sleep": 20}, {"say": "Done."})
        self.assertEqual(self.asked(), (2, 1))
        self.crash(self.east)
        world.advance(12)
        self.assertFalse(stream.looksComplete)
        assert stream.failure is not None
        self.assertEqual(stream.failure["code"], "daemon_lost")
        self.assertSaid(talk.ask(user("Two.")), "Two.", "forked; why=gone")
        self.assertEqual(self.asked(), (2, 2))
        self.assertSaid(talk.ask(user("Three.")), "Three.", "continued")
        self.assertEqual(self.asked(), (2, 3))
        self.east.daemon.comeBack()
        world.advance(12)
        self.assertSaid(Talk(world).ask(user("Hi.")), "Hi.", "new")
        self.assertEqual(self.asked(), (3, 3))
        self.assertSaid(talk.ask(user("Four.")), "Four.", "continued")
        self.assertEqual(self.asked(), (3, 4))
        world.until(lambda: other.isComplete, 15)
        self.assertSaid(other, "Done.")

    def test_olderSessionElsewhere(self) -> None:
        """
        One that has seen less is told the rest, where the one that has seen
        more is away.
        """
        world = self.world()
        talk = Talk(world)
        self.assertSaid(talk.ask(user("One.")), "One.", "new")
        self.crash(self.east)
        world.advance(1)
        self.assertSaid(talk.ask(user("Two.")), "Two.", "forked; why=gone")
        self.east.daemon.comeBack()
        world.advance(12)
        self.crash(self.west)
        world.advance(1)
        client = talk.ask(user("Three."))
        self.assertEqual((client.status, client.header("x-hum-session")), (200, "continued"))
        first, second = self.east.recorder.sent("prompt")
        self.assertEqual(first["sid"], second["sid"])
        self.assertIn("Two.", second["content"])
        self.assertNotIn("One.", second["content"])

    def test_loneMessage(self) -> None:
        """
        A client that leaves its history to the server gets a fresh session
        too, and the log says why.
        """
        world = self.world()

        def said(text: str) -> Client:
            return Talk(world, {"x_hum_session": "talk"}).ask(user(text))

        self.assertSaid(said("One."), "One.", "new")
        self.assertSaid(said("Two."), "Two.", "continued")
        self.crash(self.east)
        world.advance(1)
        self.assertSaid(said("Three."), "Three.", "forked; why=gone")
        self.assertSaid(said("Four."), "Four.", "continued")
        self.assertEqual(self.asked(), (2, 2))

    def test_deadFromTheBeginning(self) -> None:
        """
        It is left out, and said where readiness is asked for.
        """
        self.crash(self.west)
        world = self.world()
        for _ in range(3):
            world.script({"sleep": 5}, {"say": "Done."})
        self.assertEqual(self.asked(), (3, 0))
        ready = get(world, "/readyz")
        self.assertEqual(ready.status, 200)
        self.assertEqual(ready.json, {"status": "ready", "away": ["west"]})
        samples = samplesOf(world)
        connected = samples.of("openai_server_daemon_connected", "daemon")
        self.assertEqual(connected, {"east": 1, "west": 0})
        self.assertEqual(samples.get("openai_server_daemon_connections_total"), 1)
        self.assertEqual(samples.get("openai_server_turns_now", state="live"), 3)
        world.advance(6)

    def test_allAway(self) -> None:
        """
        Then none is ready, and nothing is asked.
        """
        world = self.world()
        self.crash(self.east)
        self.crash(self.west)
        world.advance(1)
        client = Talk(world).ask(user("Hi."))
        self.assertRefused(client, 503, "daemon_unavailable")
        ready = get(world, "/readyz")
        self.assertEqual(ready.status, 503)
        self.assertIn("east: ", ready.error["message"])
        self.assertIn("; west: ", ready.error["message"])
        self.assertEqual(self.asked(), (0, 0))

    def test_onlyOneServesIt(self) -> None:
        """
        S26: A model that only a dead one has is for now not there.
        """
        world = self.world()
        self.crash(self.west)
        world.advance(1)
        self.assertRefused(Talk(world, model="western").ask(user("Hi.")), 503, "daemon_unavailable")
        self.assertSaid(Talk(world, model="eastern").ask(user("Hi.")), "Hi.", "new")
        self.west.daemon.comeBack()
        world.advance(12)
        self.assertSaid(Talk(world, model="western").ask(user("Hi.")), "Hi.", "new")
        self.assertEqual(self.asked(), (1, 1))

    def test_deadWhileSomebodyWaits(self) -> None:
        """
        Who waits for a slot of one that dies is asked at the other.
        """
        world = self.world(maxTurns=1)
        world.script({"sleep": 60}, {"say": "Done."})
        world.script({"sleep": 3}, {"say": "Done."})
        waiting = world.script({"say": "Hello."})
        self.assertEqual((self.asked(), world.front.submitter.upstreams.waiting), ((1, 1), 1))
        self.crash(self.east)
        world.until(lambda: waiting.isComplete, 30)
        self.assertSaid(waiting, "Hello.", "new")
        self.assertEqual(self.asked(), (1, 2))

    def test_resultsWhileItIsAway(self) -> None:
        """
        S27: They are not given to another daemon, and may come again: the turn
        waits while its daemon's connection is away, and goes on as soon as
        that can be had.
        """
        world = self.world()
        talk = Talk(world, model="calling", tools=BOTH)
        self.assertCalls(talk.ask(user("Go.")), "look", "smell")
        self.east.daemon.faults.closeOnConnect = True
        self.east.daemon.cutConnections()
        world.advance(1)
        messages = talk.resultsOf("grey", "fishy")
        refused = talk.ask(*messages)
        self.assertRefused(refused, 503, "daemon_unavailable")
        world.advance(10)
        self.east.daemon.faults.closeOnConnect = False
        self.assertSaid(talk.ask(), "[grey][fishy]", "continued")
        self.assertEqual((self.asked(), self.results(self.west)), ((1, 0), []))


class RestartTests(UpstreamsCase):
    def restarted(self, world: World, *, isKilled: bool) -> World:
        """
        The server behind this one.
        """
        world.kill() if isKilled else world.stop()
        return self.world(store=self.url)

    def test_sessionsAndTurnsStay(self) -> None:
        """
        With their daemons, however alike these are.
        """
        for isKilled in (False, True):
            world = self.world(store=self.url)
            talks = [Talk(world, model="calling", tools=BOTH) for _ in range(2)]
            for number, talk in enumerate(talks):
                self.assertCalls(talk.ask(user(f"Go {number} {isKilled}.")), "look", "smell")
            warm = Talk(world)
            self.assertSaid(warm.ask(user(f"One {isKilled}.")), f"One {isKilled}.", "new")
            world.advance(1)
            before, results = self.asked(), (len(self.results(self.east)), len(self.results(self.west)))
            world = self.restarted(world, isKilled=isKilled)
            for number, talk in enumerate(talks):
                talk.world = world
                said = talk.results(f"grey {number}", "fishy")
                self.assertSaid(said, f"[grey {number}][fishy]", "continued")
            self.assertEqual(self.asked(), before)
            self.assertEqual(self.results(self.east)[results[0] :], ["grey 0", "fishy"])
            self.assertEqual(self.results(self.west)[results[1] :], ["grey 1", "fishy"])
            world.script({"sleep": 5}, {"say": "Done."})
            warm.world = world
            self.assertSaid(warm.ask(user("Two.")), "Two.", "continued")
            self.assertEqual(self.asked(), (before[0] + 2, before[1]))
            world.advance(6)
            world.stop()

    def test_oneStaysAway(self) -> None:
        """
        S28: Nobody waits for what it has, and what it has is gone on with when it is
        back.
        """
        world = self.world(store=self.url)
        talks = [Talk(world, model="calling", tools=BOTH) for _ in range(2)]
        for talk in talks:
            self.assertCalls(talk.ask(user("Go.")), "look", "smell")
        world.stop()
        self.east.daemon.faults.closeOnConnect = True
        world = self.world(store=self.url)
        talks[0].world = talks[1].world = world
        self.assertSaid(talks[1].results("grey", "fishy"), "[grey][fishy]", "continued")
        self.assertSaid(Talk(world).ask(user("Hi.")), "Hi.", "new")
        self.assertEqual(self.asked(), (1, 2))
        self.east.daemon.faults.closeOnConnect = False
        world.advance(12)
        self.assertSaid(talks[0].results("green", "sour"), "[green][sour]", "continued")
        self.assertEqual(self.results(self.east), ["green", "sour"])
        self.assertEqual(self.asked(), (1, 2))

    def test_oneIsAskedNoMore(self) -> None:
        """
        Its sessions begin anew, and for its calls it is too late.
        """
        world = self.world(store=self.url)
        talk, warm = Talk(world, model="calling", tools=BOTH), Talk(world)
        self.assertCalls(talk.ask(user("Go.")), "look", "smell")
        self.assertSaid(warm.ask(user("One.")), "One.", "new")
        self.assertEqual(self.asked(), (1, 1))
        world.stop()
        world = World(self, machine=self.west, store=self.url)
        talk.world = warm.world = world
        self.assertSaid(talk.results("grey", "fishy"), "look: grey; smell: fishy")
        self.assertSaid(warm.ask(user("Two.")), "Two.", "forked; why=gone")
        self.assertEqual((self.asked(), self.results(self.east)), ((1, 3), []))

    def test_firstOfSeveral(self) -> None:
        """
        What was saved when there was one daemon without a name is of none of
        several.
        """
        world = World(self, machine=self.east, store=self.url)
        warm = Talk(world)
        self.assertSaid(warm.ask(user("One.")), "One.", "new")
        world.stop()
        warm.world = self.world(store=self.url)
        self.assertSaid(warm.ask(user("Two.")), "Two.", "forked; why=gone")

    def test_oneThatIsGivenAName(self) -> None:
        """
        It goes on with what it has, also when there are others then.
        """
        world = World(self, machine=self.east, store=self.url)
        warm, talk = Talk(world), Talk(world, model="calling", tools=BOTH)
        self.assertSaid(warm.ask(user("One.")), "One.", "new")
        self.assertCalls(talk.ask(user("Go.")), "look", "smell")
        world.stop()
        world = warm.world = talk.world = World(self, upstreams={"east": (self.east, 1.0)}, store=self.url)
        self.assertSaid(warm.ask(user("Two.")), "Two.", "continued")
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        self.assertEqual(self.asked(), (3, 0))
        world.stop()
        warm.world = talk.world = self.world(store=self.url)
        for client in (warm.ask(user("Three.")), talk.ask(user("Three."))):
            self.assertEqual((client.status, client.header("x-hum-session")), (200, "continued"))
        self.assertEqual(self.asked(), (5, 0))


class ProcessTests(InOneMemory):
    """
    Several servers that share a store, before the same daemons.
    """

    def setUp(self) -> None:
        self.west = Machine(self, {"models": MODELS})
        # Each is looked for by what tells its process from others.
        self.successResultOf(self.west.daemon.restart())
        super().setUp()

    def process(self, name: str, **settings: Any) -> World:
        """
        A server that asks both.
        """
        upstreams = {"east": (self.machine, 1.0), "west": (self.west, 1.0)}
        return super().process(name, upstreams=upstreams, **settings)

    def test_resultsAtTheOther(self) -> None:
        """
        They go to the daemon that has their turn, and sessions go on there.
        """
        talks = [self.parked(self.a), self.parked(self.a)]
        for number, talk in reversed(list(enumerate(talks))):
            talk.world = self.b
            said = talk.results(f"grey {number}", "fishy")
            self.assertSaid(said, f"[grey {number}][fishy]", "continued")
        for number, machine in enumerate((self.machine, self.west)):
            self.assertEqual(len(machine.recorder.sent("prompt")), 1)
            results = [tone["output"] for tone in machine.recorder.sent("tool-result")]
            self.assertEqual(results, [f"grey {number}", "fishy"])
        for talk in talks:
            talk.world = self.a
            client = talk.ask(user("More."))
            self.assertEqual((client.status, client.header("x-hum-session")), (200, "continued"))
        self.assertEqual([len(each.recorder.sent("prompt")) for each in (self.machine, self.west)], [2, 2])

    def test_sessionOfOneThatIsAway(self) -> None:
        """
        It is left where it is, however often it is found.
        """
        talk = Talk(self.a)
        self.assertSaid(talk.ask(user("One.")), "One.", "new")
        self.successResultOf(self.machine.daemon.crash())
        self.a.advance(1)
        talk.world = self.b
        self.assertSaid(talk.ask(user("Two.")), "Two.", "new")
        self.assertEqual(self.b.front.submitter.memory.idleSessions, 1)
        self.assertSaid(talk.ask(user("Three.")), "Three.", "continued")
        self.assertEqual([len(each.recorder.sent("prompt")) for each in (self.machine, self.west)], [1, 2])

    def test_processThatDies(self) -> None:
        """
        Its turns at either daemon are another's then.
        """
        talks = [self.parked(self.a), self.parked(self.a)]
        self.kill(self.a)
        self.isMissed(self.a)
        self.b.advance(2 * LOOK)
        self.assertEqual([link.turnCount for link in self.b.links], [1, 1])
        for talk in talks:
            talk.world = self.b
            self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
