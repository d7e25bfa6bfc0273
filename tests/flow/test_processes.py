"""
What several processes share: parked turns, whose results come to any of them,
and sessions, which any of them goes on with.
"""

from __future__ import annotations

from collections.abc import Sequence

from openai_server.accounts.account import AccountLimits
from openai_server.sessions.adoption import Adoption
from openai_server.sessions.conversation import LATE_RESULT
from openai_server.sessions.parkedturns import LastingTurns
from openai_server.sessions.sharedturns import LOOK
from openai_server.store.saved import SavedCall
from tests.flow.sharing import InOneMemory, InPostgreSQL
from tests.flow.support import Talk, steps, user
from tests.flow.test_restart import BOTH
from tests.world import World


class TurnContract:
    """
    Parked turns, and results that come to any process.
    """

    a: World
    b: World

    def prompts(self) -> int:
        """
        How many prompts the daemon was sent.
        """
        return len(self.machine.recorder.sent("prompt"))

    def openCalls(self) -> list[SavedCall]:
        """
        What waits for results, as the store has it.
        """
        [world, *_] = self.machine.worlds
        return list(self.successResultOf(self.stores[world].state.find(SavedCall, limit=99, isOpen=True)))

    def halfAnswered(self, talk: Talk, world: World) -> None:
        """
        Bring a process one of two results: it has the turn then, and waits.
        """
        said = [*talk.messages, *talk.resultsOf("grey", "fishy")[:1]]
        self.assertRefused(world.ask(said, model="calling", tools=BOTH), 400, "invalid_value")
        # It attaches to the turn in the reactor's next turn.
        world.clock.advance(0)
        world.flush()

    def test_resultsAtTheOther(self) -> None:
        """
        X60: The turn goes on there, on the same worker, and the one that had it
        lets go without a word to the daemon.
        """
        talk = self.parked(self.a)
        talk.world = self.b
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        self.assertEqual((self.prompts(), self.a.link.turnCount), (1, 0))
        self.assertResults(self.a, ("grey", False), ("fishy", False))
        self.assertEqual(self.machine.recorder.sent("cancel"), [])
        self.assertEqual(self.openCalls(), [])
        self.a.settle()
        self.b.settle()

    def test_toAndFro(self) -> None:
        """
        Each call of a turn is answered at another process than the one before,
        whatever names these list at the daemon.
        """
        talk = Talk(self.a, tools=BOTH)
        script = [{"tool": "look", "args": {"at": 1}}, {"tool": "smell", "args": {}}] * 3
        client = talk.ask(steps(*script, {"say": "Done."}))
        for number, world in enumerate([self.b, self.a] * 3):
            self.assertCalls(client, ("look", "smell")[number % 2])
            talk.world = world
            client = talk.results(f"r{number}")
        self.assertSaid(client, "[r5]Done.", "continued")
        self.assertResults(self.a, *[(f"r{number}", False) for number in range(6)])
        self.assertEqual(self.prompts(), 1)
        # Until then the other process lists the names of the tools, which have others here.
        self.a.advance(1)
        client = talk.ask(user("Next."))
        self.assertEqual(client.header("x-hum-session"), "continued")
        self.assertEqual(len(set(self.sids(self.a))), 1)

    def test_callsReachTheOtherProcess(self) -> None:
        """
        X64: One that has other turns with the same tools is given calls of turns
        that it let go of: it hands them on.
        """
        moving = Talk(self.a, tools=BOTH)
        script = [{"tool": "look", "args": {"at": 1}}, {"tool": "look", "args": {"at": 2}}, {"say": "Done."}]
        moving.ask(steps(*script))
        staying = self.parked(self.a)
        moving.world = self.b
        client = moving.results("grey")
        self.assertCalls(client, "look")
        self.assertEqual(client.calls[0]["function"]["arguments"], '{"at":2}')
        self.assertSaid(moving.results("green"), "[green]Done.", "continued")
        self.assertSaid(staying.results("1", "2"), "[1][2]", "continued")
        self.assertEqual(self.prompts(), 2)

    def test_namesAreWithdrawnBefore(self) -> None:
        """
        X67: What the model calls next goes to the process that has the turn now:
        the other one could die with it.
        """
        talk = self.parked(self.a)
        talk.world = self.b
        talk.results("grey", "fishy")
        tones = self.machine.recorder.tones
        firstResult = [tone["chi"] for tone in tones].index("tool-result")
        said = {tone["hid"]: tone["tools"] for tone in tones[:firstResult] if tone["chi"] == "hello"}
        listing = {hid: bool(tools) for hid, tools in said.items()}
        self.assertEqual(listing, {self.hids[self.a]: False, self.hids[self.b]: True})

    def test_ownerThatDoesNotLetGo(self) -> None:
        """
        X67: It may be dead: it is waited for a second, and no longer.
        """
        talk = self.parked(self.a)
        self.kill(self.a)
        talk.world = self.b
        client = talk.post(*talk.resultsOf("grey", "fishy"))
        self.b.advance(0.9)
        self.assertEqual(self.b.sent("tool-result"), [])
        self.b.advance(0.2)
        self.assertResults(self.b, ("grey", False), ("fishy", False))
        self.assertSaid(*self.completed(client), "[grey][fishy]", "continued")

    def test_callThatNobodyTakes(self) -> None:
        """
        X64: The model is told so, and does not wait.
        """
        self.machine.recorder.ignored.add(3)
        talk = self.parked(self.a)
        self.messages.isHeld = True
        call = {"chi": "tool-call", "sid": "nobodys", "callId": "c9", "toolName": "look", "args": {}}
        self.machine.daemon.clients[0].sendTone(**call)
        self.a.advance(2.5)
        self.assertResults(self.a)
        self.a.advance(1)
        [refused] = self.a.sent("tool-result")
        self.assertEqual((refused["sid"], refused["callId"], refused["isError"]), ("nobodys", "c9", True))
        self.messages.deliver()
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]")

    def test_sameResultsAtBoth(self) -> None:
        """
        X61: one process uses them; at the other they are as late as
        any: a fresh turn is made of the transcript.
        """
        for first, second in ((self.a, self.b), (self.b, self.a)):
            sent, before = len(self.a.sent("tool-result")), self.prompts()
            talk = self.parked(self.a)
            messages, results = list(talk.messages), talk.resultsOf("grey", "fishy")
            first.workers.isHolding = second.workers.isHolding = True
            talk.world = first
            one = talk.post(*results)
            talk.messages, talk.world = messages, second
            other = talk.post(*results)
            first.workers.release()
            second.workers.release()
            said = sorted(client.message["content"] for client in self.completed(one, other))
            self.assertEqual(said, ["[grey][fishy]", "look: grey; smell: fishy"])
            self.assertEqual(len(self.a.sent("tool-result")) - sent, 2)
            self.assertEqual(self.prompts() - before, 2)
            self.a.settle()
            self.b.settle()

    def test_resultsAlone(self) -> None:
        """
        X41: those that were used at another process are told so.
        """
        talk = self.parked(self.a)
        results = talk.resultsOf("grey", "fishy")
        talk.world = self.b
        talk.ask(*results)
        for world in (self.a, self.b):
            client = world.ask(results, model="calling", tools=BOTH)
            self.assertRefused(client, 409, "call_expired")

    def test_notToldInTime(self) -> None:
        """
        X62: Whoever was not told that its turn is another's says nothing to
        the model: neither at the deadline nor with results.
        """
        for isDeadline in (True, False):
            sent = len(self.a.sent("tool-result"))
            talk = self.parked(self.a)
            results = talk.resultsOf("grey", "fishy")
            self.messages.isHeld = True
            self.halfAnswered(talk, self.b)
            self.assertEqual((self.a.link.turnCount, self.b.link.turnCount), (1, 1))
            if isDeadline:
                self.a.advance(60)
                late = [(LATE_RESULT, True)] * 2
            else:
                self.assertSaid(talk.ask(*results), "[grey][fishy]", "continued")
                late = [("grey", False), ("fishy", False)]
            given = [(tone["output"], tone["isError"]) for tone in self.a.sent("tool-result")[sent:]]
            self.assertEqual(given, late)
            self.messages.deliver()
            self.assertEqual(self.openCalls(), [])
            self.a.settle()
            self.b.settle()

    def test_messagesThatAreLost(self) -> None:
        """
        Whoever may have missed one looks what is still its own.
        """
        talk, staying = self.parked(self.a), self.parked(self.a)
        self.messages.isHeld = True
        self.halfAnswered(talk, self.b)
        self.assertEqual((self.a.link.turnCount, self.b.link.turnCount), (2, 1))
        self.messages.lose()
        self.assertEqual((self.a.link.turnCount, self.b.link.turnCount), (1, 1))
        self.assertSaid(staying.results("1", "2"), "[1][2]", "continued")
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")

    def test_endIsHeardByBoth(self) -> None:
        """
        One that was not told yet hears the end of the turn too: it does not
        think that it knows what the session has seen.
        """
        talk = self.parked(self.a)
        before = list(talk.messages)
        self.messages.isHeld = True
        talk.world = self.b
        talk.results("grey", "fishy")
        self.a.advance(1)
        self.assertEqual(self.a.link.turnCount, 0)
        self.messages.deliver()
        # Whoever goes on from before the results is not in that session.
        fork = Talk(self.a, model="calling", tools=BOTH)
        fork.messages = before
        fork.ask(user("Never mind."))
        self.assertEqual(len(set(self.sids(self.a))), 2)
        client = talk.ask(user("Next."))
        self.assertEqual(client.header("x-hum-session"), "continued")

    def test_oneAtATime(self) -> None:
        """
        A call that no client was given yet goes with its turn.
        """
        talk = Talk(self.a, model="calling", tools=BOTH, parallel_tool_calls=False)
        self.assertCalls(talk.ask(user("Go.")), "look")
        talk.world = self.b
        self.assertCalls(talk.results("grey"), "smell")
        talk.world = self.a
        self.assertSaid(talk.results("fishy"), "[grey][fishy]", "continued")
        self.assertResults(self.a, ("grey", False), ("fishy", False))
        self.assertEqual(self.prompts(), 1)

    def test_callBehindTheAnswer(self) -> None:
        """
        It comes to the one that had the turn when it was made, and goes on
        with it.
        """
        talk = Talk(self.a, model="apart", tools=BOTH)
        self.assertCalls(talk.ask(user("Go.")), "look")
        self.a.advance(2)
        talk.world = self.b
        self.assertCalls(talk.results("grey"), "smell")
        self.assertSaid(talk.results("fishy"), "[grey][fishy]", "continued")
        self.assertEqual(self.prompts(), 1)

    def test_functions(self) -> None:
        """
        Results without ids find their turn by the transcript.
        """
        declared = [{"name": "look", "parameters": {"type": "object"}}]
        asked = [steps({"tool": "look", "args": {"at": 1}}, {"say": "Done."})]
        client = self.a.ask(asked, functions=declared)
        self.a.until(lambda: client.isComplete)
        said = {"role": "function", "name": "look", "content": "grey"}
        client = self.b.ask([*asked, client.message, said], functions=declared)
        self.b.until(lambda: client.isComplete)
        self.assertSaid(client, "[grey]Done.", "continued")
        self.assertEqual(self.prompts(), 1)

    def test_givenUpAtTheOther(self) -> None:
        """
        A client that goes on without results cancels the turn, wherever it is.
        """
        talk = self.parked(self.a)
        talk.world = self.b
        talk.ask(user("Never mind."))
        self.assertEqual(self.a.link.turnCount, 0)
        self.assertEqual(len(self.a.sent("cancel")), 1)
        self.assertEqual(self.openCalls(), [])
        self.a.advance(61)

    def test_foreignAccounts(self) -> None:
        """
        Nobody takes what is another account's.
        """
        self.withAccounts()
        talk = self.parked(self.a)
        results = talk.resultsOf("grey", "fishy")
        client = self.b.ask(results, model="calling", tools=BOTH, headers={"x-account": "other"})
        self.assertRefused(client, 409, "call_expired")
        self.assertEqual(self.a.link.turnCount, 1)
        talk.world = self.b
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")

    def test_limits(self) -> None:
        """
        A turn that is taken counts once: where it is told of, and no more where
        it was begun.
        """
        self.withAccounts(AccountLimits(concurrent=2, tokensPerDay=100_000))
        talk = self.parked(self.a)
        meters = [world.front.accounts.limiter.meterOf("nobody") for world in (self.a, self.b)]
        self.assertGreater(meters[0].reserved, 0)
        talk.world = self.b
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        self.assertEqual([(meter.running, meter.reserved) for meter in meters], [(0, 0), (0, 0)])
        self.assertEqual([bool(meter.cost) for meter in meters], [False, True])

    # Processes that go.

    def test_ownerThatDies(self) -> None:
        """
        X63: Another process has its turn when it is thought to be dead, and ends it
        at its deadline.
        """
        self.parked(self.a)
        self.kill(self.a)
        self.b.advance(15)
        self.assertEqual(self.b.link.turnCount, 0)
        self.isMissed(self.a)
        self.b.advance(LOOK)
        self.assertEqual(self.b.link.turnCount, 1)
        self.b.advance(25)
        self.assertResults(self.b)
        self.b.advance(10)
        self.assertResults(self.b, (LATE_RESULT, True), (LATE_RESULT, True))
        self.b.settle()
        self.assertEqual((self.openCalls(), self.prompts()), ([], 1))

    def test_ownerThatStops(self) -> None:
        """
        X63: Its turns are others' soon, and results are used before.
        """
        talk, other = self.parked(self.a), self.parked(self.a)
        self.a.stop()
        talk.world = other.world = self.b
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        self.b.advance(LOOK)
        self.assertEqual(self.b.link.turnCount, 1)
        self.assertSaid(other.results("1", "2"), "[1][2]", "continued")
        self.assertEqual(self.prompts(), 2)

    def test_oneOfMany(self) -> None:
        """
        Of several that look at once, one has the turn.
        """
        c = self.process("c")
        self.parked(self.a)
        self.kill(self.a)
        self.isMissed(self.a)
        self.b.advance(LOOK)
        self.assertEqual(self.b.link.turnCount + c.link.turnCount, 1)
        attached = self.machine.recorder.sent("attach")
        self.assertEqual(len(attached), 1)
        self.b.advance(50)
        self.assertResults(self.b, (LATE_RESULT, True), (LATE_RESULT, True))

    def test_newProcess(self) -> None:
        """
        At its start it has its own earlier turns, and those of the dead.
        """
        of = {world: self.parked(world) for world in (self.a, self.b)}
        self.kill(self.a)
        again = self.process("a")
        self.assertEqual((again.link.turnCount, self.b.link.turnCount), (1, 1))
        self.b.stop()
        c = self.process("c")
        self.assertEqual((again.link.turnCount + c.link.turnCount), 2)
        for talk in of.values():
            talk.world = c
            self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        self.assertEqual(self.prompts(), 2)

    def test_takenWhileItStarts(self) -> None:
        """
        It lets go of what another process has taken since it has asked for its
        own earlier turns.
        """
        talk, staying = self.parked(self.a), self.parked(self.a)
        former = self.openCalls()
        self.kill(self.a)
        self.halfAnswered(talk, self.b)

        async def calls(turns: LastingTurns) -> list[SavedCall]:
            return former

        self.patch(LastingTurns, "calls", calls)
        again = self.process("a")
        again.advance(1)
        self.assertEqual((again.link.turnCount, self.b.link.turnCount), (1, 1))
        for each, world in ((talk, self.b), (staying, again)):
            each.world = world
            self.assertSaid(each.results("grey", "fishy"), "[grey][fishy]", "continued")
        self.assertEqual(len(again.sent("tool-result")), 4)

    def test_takenBeforeItsTurn(self) -> None:
        """
        One that is taken while others are brought back is not.
        """
        talks = [self.parked(self.a) for _ in range(3)]
        self.kill(self.a)
        sids = self.sids(self.a)
        brought: list[str] = []
        bringBack = Adoption.bringBack

        def bringAndTake(adoption: Adoption, saved: Sequence[SavedCall]) -> None:
            bringBack(adoption, saved)
            brought.append(saved[0].sid)
            if len(brought) == 1:
                self.halfAnswered(talks[sids.index(brought[0]) - 1], self.b)

        self.patch(Adoption, "bringBack", bringAndTake)
        again = self.process("a")
        again.advance(1)
        self.assertEqual(sorted(brought), sorted(sids))
        self.assertEqual((again.link.turnCount, self.b.link.turnCount), (2, 1))

    def test_otherDaemon(self) -> None:
        """
        U19: a turn that another daemon has had is nobody's.
        """
        talk = self.parked(self.a)
        results = talk.resultsOf("grey", "fishy")
        self.kill(self.a)
        self.successResultOf(self.machine.daemon.restart())
        self.isMissed(self.a)
        self.b.advance(10)
        self.assertEqual(self.b.link.turnCount, 0)
        talk.world = self.b
        self.assertSaid(talk.ask(*results), "look: grey; smell: fishy")
        self.machine.clock.advance(61)


class SessionContract:
    """
    Sessions that any process goes on with.
    """

    a: World
    b: World

    def test_warmAtEither(self) -> None:
        """
        A conversation goes on in its session, and is told what is new.
        """
        talk = Talk(self.a, model="echo")
        talk.ask(user("One."))
        for world, text in ((self.b, "Two."), (self.a, "Three."), (self.a, "Four."), (self.b, "Five.")):
            world.advance(1)
            talk.world = world
            client = talk.ask(user(text))
            self.assertEqual(client.header("x-hum-session"), "continued")
            self.assertEqual(self.contents(world)[-1], text)
        self.assertEqual(len(set(self.sids(self.a))), 1)

    def test_whatOneKnowsMayBeOld(self) -> None:
        """
        X65: One that goes on from before what the session was told elsewhere gets
        a fresh one.
        """
        talk = Talk(self.a, model="echo")
        talk.ask(user("One."))
        self.a.advance(1)
        fork = Talk(self.a, model="echo")
        fork.messages = list(talk.messages)
        talk.world = self.b
        talk.ask(user("Two."))
        self.b.advance(1)
        client = fork.ask(user("Another."))
        self.assertEqual(client.header("x-hum-session"), "forked; why=gone")
        self.assertEqual(len(set(self.sids(self.a))), 2)
        self.assertIn("One.", self.contents(self.a)[-1])
        talk.world = self.a
        self.assertEqual(talk.ask(user("Three.")).header("x-hum-session"), "continued")
        self.assertEqual(len(set(self.sids(self.a))), 2)

    def test_inUse(self) -> None:
        """
        X65: What one process uses is not there for another: a fresh session is told
        the whole transcript.
        """
        talk = Talk(self.a)
        talk.ask(steps({"say": "One."}))
        self.a.advance(1)
        before = list(talk.messages)
        one = talk.post(steps({"sleep": 2}, {"say": "Two."}))
        other = Talk(self.b)
        other.messages = before
        client = other.ask(steps({"say": "Two as well."}))
        self.assertSaid(client, "Two as well.", "new")
        self.a.until(lambda: one.isComplete)
        self.assertSaid(one, "Two.", "continued")
        self.assertEqual(len(set(self.sids(self.a))), 2)

    def test_bothAtOnce(self) -> None:
        """
        One of them goes on in the session.
        """
        talk = Talk(self.a, model="echo")
        talk.ask(user("One."))
        self.a.advance(1)
        messages = list(talk.messages)
        self.a.workers.isHolding = self.b.workers.isHolding = True
        clients = []
        for world in (self.a, self.b):
            talk.messages, talk.world = list(messages), world
            clients.append(talk.post(user("Two.")))
        self.b.workers.release()
        self.a.workers.release()
        self.a.until(lambda: all(client.isComplete for client in clients))
        sids = self.sids(self.a)
        self.assertEqual((len(sids), len(set(sids))), (3, 2))

    def test_names(self) -> None:
        """
        A lone message goes on in the session that was used last under its
        name, wherever that was.
        """
        headers = {"x-hum-session": "mine"}
        for world, text in ((self.a, "One."), (self.b, "Two."), (self.a, "Three.")):
            Talk(world, headers, model="echo").ask(user(text))
            world.advance(1)
        self.assertEqual(len(set(self.sids(self.a))), 1)
        self.assertEqual(self.contents(self.a), ["One.", "Two.", "Three."])
        other = {"x-hum-session": "other"}
        client = Talk(self.b, other, model="echo").ask(user("Four."))
        self.assertEqual(client.header("x-hum-session"), "new")

    def test_users(self) -> None:
        """
        What one process has learned of a hint, the other one knows.
        """
        talk = Talk(self.a, model="echo", user="u")
        talk.ask(user("One."))
        self.a.advance(1)
        client = Talk(self.b, model="echo", user="u").ask(user("Two."))
        self.assertEqual(client.header("x-hum-session"), "continued")
        self.b.advance(1)
        talk.ask(user("Three."))
        self.a.advance(1)
        client = Talk(self.b, model="echo", user="u").ask(user("Four."))
        self.assertNotEqual(client.header("x-hum-session"), "continued")

    def test_clientThatLeaves(self) -> None:
        """
        A session that was to be taken when nobody waited any more is not used
        by two.
        """
        talk = Talk(self.a, model="echo")
        talk.ask(user("One."))
        self.a.advance(1)
        self.a.workers.isHolding = True
        before = list(talk.messages)
        talk.post(user("Two.")).leave()
        self.a.workers.release()
        self.a.advance(1)
        talk.messages = before
        self.assertEqual(talk.ask(user("Two again.")).status, 200)
        talk.world = self.b
        self.b.advance(1)
        self.assertEqual(talk.ask(user("Three.")).header("x-hum-session"), "continued")


class MemoryTurnTests(TurnContract, InOneMemory):
    """
    Turns of processes that share an object.
    """


class PostgreSQLTurnTests(TurnContract, InPostgreSQL):
    """
    Turns of processes that share a database.
    """

    def test_clientThatLeaves(self) -> None:
        """
        Its results are not used, and can be brought to any process again.
        """
        talk = self.parked(self.a)
        before, results = list(talk.messages), talk.resultsOf("grey", "fishy")
        self.b.workers.isHolding = True
        talk.world = self.b
        talk.post(*results).leave()
        self.b.workers.release()
        self.b.advance(1)
        talk.messages, talk.world = before, self.a
        self.assertSaid(talk.ask(*results), "[grey][fishy]")
        self.assertEqual(len(self.a.sent("tool-result")), 2)


class MemorySessionTests(SessionContract, InOneMemory):
    """
    Sessions of processes that share an object.
    """


class PostgreSQLSessionTests(SessionContract, InPostgreSQL):
    """
    Sessions of processes that share a database.
    """
