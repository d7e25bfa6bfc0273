"""
Idempotency keys that outlast the process, and hold in all processes that share
the store.
"""

from __future__ import annotations

from typing import Any

from openai_server.sessions import answerkeys
from openai_server.store.saved import SavedAnswer
from tests.dialects import inBothAPIs
from tests.flow.sharing import InOneMemory, InPostgreSQL
from tests.flow.support import Talk, user
from tests.flow.test_restart import BOTH, RestartCase
from tests.world import Client, World

KEY = {"idempotency-key": "k"}
SLOW = ({"say": "Slow"}, {"sleep": 5}, {"say": "ly."})


class KeyCase(RestartCase):
    """
    Clients that send a key.
    """

    def ask(self, world: World, *played: Any, headers: Any = KEY, **fields: Any) -> Client:
        """
        Ask under the key.
        """
        client = world.script(*(played or SLOW), headers=headers, **fields)
        world.advance(0)
        return client

    def assertConflict(self, client: Client, code: str, mayRetry: bool = False) -> None:
        """
        The client is told that, and whether to ask again.
        """
        self.assertRefused(client, 409, code)
        self.assertEqual(client.header("x-should-retry"), None if mayRetry else "false")

    def rows(self, world: World) -> list[SavedAnswer]:
        """
        What the store has of keys.
        """
        return list(self.successResultOf(world.store.state.find(SavedAnswer, limit=99)))


@inBothAPIs
class RestartedKeyTests(KeyCase):
    """
    A key that comes again behind a restart.
    """

    def test_answered(self) -> None:
        """
        it gets the same answer, streamed or whole, and nothing is asked
        again.
        """
        for stream in (False, True):
            for isKilled in (False, True):
                key = {"idempotency-key": f"{stream}{isKilled}"}
                before = len(self.prompts())
                world = self.world()
                first = self.ask(world, headers=key, stream=stream)
                world.advance(6)
                self.assertSaid(first, "Slowly.", "new")
                world = self.restarted(world, isKilled=isKilled)
                again = self.ask(world, headers=key, stream=stream)
                self.assertSaid(again, "Slowly.", "new")
                if not stream:
                    self.assertEqual(again.usage, first.usage)
                self.assertEqual(len(self.prompts()) - before, 1)
                world.settle()
                world.stop()

    def test_sameCalls(self) -> None:
        """
        calls come under the ids that they had, and their results go on with
        the turn.
        """
        world = self.world()
        talk = Talk(world, KEY, model="calling", tools=BOTH)
        self.assertCalls(talk.ask(user("Go.")), "look", "smell")
        first, messages = talk.calls, talk.messages[:1]
        world = self.restarted(world, talk, isKilled=True)
        talk.messages = list(messages)
        self.assertCalls(talk.ask(headers=KEY), "look", "smell")
        self.assertEqual(talk.calls, first)
        talk.headers = {}
        self.assertSaid(talk.results("grey", "fishy"), "[grey][fishy]", "continued")
        self.assertEqual(len(self.prompts()), 1)
        world.settle()

    def test_otherBody(self) -> None:
        """
        another request under the key is refused, and another account knows
        nothing of it.
        """
        world = self.world()
        self.ask(world, {"say": "There."})
        world.advance(2)
        world = self.restarted(world, isKilled=True)
        self.assertConflict(self.ask(world, {"say": "Here."}), "idempotency_key_reused")
        self.withAccounts()
        client = self.ask(world, {"say": "Here."}, headers={**KEY, "x-account": "other"})
        world.advance(2)
        self.assertSaid(client, "Here.")
        world.settle()

    def test_lost(self) -> None:
        """
        (D51) An agent that was running when the process died is not run again;
        another key lets it.
        """
        world = self.world()
        self.ask(world)
        world.advance(1)
        world = self.restarted(world, isKilled=True)
        for _ in range(2):
            client = self.ask(world)
            self.assertConflict(client, "idempotency_attempt_lost")
            self.assertIn("another key", client.error["message"])
        self.assertEqual(len(self.prompts()), 1)
        client = self.ask(world, headers={"idempotency-key": "l"})
        world.advance(7)
        self.assertSaid(client, "Slowly.")
        world.settle()

    def test_cutByTheStop(self) -> None:
        """
        the same when it was cut by a stop in good order.
        """
        world = self.world(maxTurns=1)
        self.ask(world)
        self.ask(world, headers={"idempotency-key": "waits"})
        world.advance(1)
        world.front.site.stopAccepting()
        world.front.site.cut()
        world.advance(0)
        world = self.restarted(world, isKilled=False)
        self.assertConflict(self.ask(world), "idempotency_attempt_lost")
        self.assertEqual([row.expiresAt > 0 for row in self.rows(world)], [True])
        self.assertEqual(len(self.prompts()), 1)
        world.settle()

    def test_notSent(self) -> None:
        """
        what was claimed, and had not gone out, is asked anew.
        """
        world = self.world(maxTurns=1)
        self.ask(world, headers={})
        world.advance(1)
        waiting = self.ask(world)
        self.assertFalse(waiting.isComplete)
        self.assertEqual(len(self.rows(world)), 1)
        world = self.restarted(world, isKilled=True)
        client = self.ask(world)
        world.advance(7)
        self.assertSaid(client, "Slowly.")
        self.assertEqual(len(self.prompts()), 2)
        world.settle()

    def test_claimedBeforeItGoesOut(self) -> None:
        """
        nothing is asked before the claim outlasts the process, nor before
        it is noted there that it goes out.
        """
        world = self.world()
        world.workers.isHolding = True
        client = self.ask(world, {"say": "There."})
        self.assertEqual(self.prompts(), [])
        for _ in range(2):
            world.workers.release()
            world.workers.isHolding = True
            world.flush()
            world.advance(0.2)
        world.workers.release()
        world.advance(2)
        self.assertSaid(client, "There.")
        (row,) = self.rows(world)
        self.assertIn(b"re.", row.data or b"")
        world.settle()

    def test_givenBack(self) -> None:
        """
        a request that failed and may come again leaves no key behind.
        """
        world = self.world()
        client = self.ask(world, {"error": "Overloaded"}, model="missing")
        world.advance(10)
        self.assertGreaterEqual(client.status or 0, 400)
        self.assertEqual(self.rows(world), [])
        world = self.restarted(world, isKilled=True)
        self.assertEqual(self.rows(world), [])

    def test_failed(self) -> None:
        """
        a failure that is not to be asked again is told again.
        """
        world = self.world()
        first = self.ask(world, {"say": "There."}, {"die": True})
        world.advance(60)
        self.assertEqual(first.header("x-should-retry"), "false")
        world = self.restarted(world, isKilled=True)
        again = self.ask(world, {"say": "There."}, {"die": True})
        self.assertEqual((again.status, again.error), (first.status, first.error))
        self.assertEqual(again.header("x-should-retry"), "false")
        self.assertEqual(len(self.prompts()), 1)

    def test_expires(self) -> None:
        """
        after the time for which answers are kept the key is free.
        """
        world = self.world()
        self.ask(world, {"say": "There."})
        world.advance(2)
        world = self.restarted(world, isKilled=True)
        world.advance(285)
        self.assertSaid(self.ask(world, {"say": "There."}), "There.")
        world.advance(10)
        self.assertEqual(self.rows(world), [])
        client = self.ask(world, {"say": "There."})
        world.advance(2)
        self.assertSaid(client, "There.")
        self.assertEqual(len(self.prompts()), 2)
        world.settle()

    def test_tooLong(self) -> None:
        """
        an answer that is too long to be kept is not made again.
        """
        self.patch(answerkeys, "LONGEST", 100)
        world = self.world()
        self.ask(world, {"say": "x" * 200})
        world.advance(2)
        world = self.restarted(world, isKilled=True)
        client = self.ask(world, {"say": "x" * 200})
        self.assertRefused(client, 502, "worker_error")
        self.assertEqual(client.header("x-should-retry"), "false")
        self.assertEqual(len(self.prompts()), 1)

    def test_manyAtOnce(self) -> None:
        """
        all who bring it behind the restart are given the answer.
        """
        world = self.world()
        self.ask(world, {"say": "There."})
        world.advance(2)
        world = self.restarted(world, isKilled=True)
        world.workers.isHolding = True
        clients = [self.ask(world, {"say": "There."}) for _ in range(3)]
        for _ in range(6):
            world.workers.release()
            world.advance(0.1)
        for client in clients:
            self.assertSaid(client, "There.")
        self.assertEqual(len(self.prompts()), 1)


class SharedKeyContract:
    """
    A key that comes to two processes.
    """

    a: World
    b: World

    def ask(self, world: World, *played: Any, headers: Any = KEY, **fields: Any) -> Client:
        """
        Ask under the key.
        """
        client = world.script(*(played or SLOW), headers=headers, **fields)
        world.advance(0)
        return client

    def prompts(self) -> int:
        """
        How many prompts the daemon was sent.
        """
        return len(self.machine.recorder.sent("prompt"))

    def assertConflict(self, client: Client, code: str) -> None:
        """
        The client is told that.
        """
        self.assertRefused(client, 409, code)
        self.assertEqual(client.header("x-should-retry"), "false")

    def test_afterTheAnswer(self) -> None:
        """
        the other process gives the same answer, and refuses another
        request.
        """
        self.ask(self.a, {"say": "There."})
        self.a.advance(2)
        self.assertSaid(self.ask(self.b, {"say": "There."}), "There.", "new")
        self.assertConflict(self.ask(self.b, {"say": "Here."}), "idempotency_key_reused")
        self.assertEqual(self.prompts(), 1)
        self.a.settle()
        self.b.settle()

    def test_atTheSameTime(self) -> None:
        """
        (D50) It waits for the process that was first, and is told at once.
        """
        first = self.ask(self.a)
        self.a.advance(1)
        others = [self.ask(self.b), self.ask(self.b)]
        self.a.advance(2)
        self.assertEqual([client.isComplete for client in (first, *others)], [False] * 3)
        self.a.until(lambda: first.isComplete)
        self.a.advance(0.05, 0.05)
        for client in (first, *others):
            self.assertSaid(client, "Slowly.", "new")
        self.assertEqual(self.prompts(), 1)
        self.a.settle()
        self.b.settle()

    def test_messageThatIsLost(self) -> None:
        """
        who waits looks again some seconds later in any case.
        """
        self.ask(self.a)
        other = self.ask(self.b)
        self.messages.isHeld = True
        self.a.advance(5.5)
        self.assertFalse(other.isComplete)
        self.a.advance(5)
        self.assertSaid(other, "Slowly.", "new")
        self.messages.deliver()
        self.a.settle()
        self.b.settle()

    def test_firstOneFails(self) -> None:
        """
        where the first one may be asked again, the one that waits asks.
        """
        self.a.stop()
        self.a = self.process("a", maxTurns=1, queueTimeout=3)
        self.ask(self.a, headers={})
        first, other = self.ask(self.a, {"say": "There."}), self.ask(self.b, {"say": "There."})
        self.a.advance(2.5)
        self.assertEqual((first.isComplete, other.isComplete, self.prompts()), (False, False, 1))
        self.a.advance(1)
        self.assertRefused(first, 429, "server_is_overloaded")
        self.a.advance(1)
        self.assertSaid(other, "There.")
        self.assertEqual(self.prompts(), 2)
        self.a.advance(5)
        self.a.settle()
        self.b.settle()

    def test_died(self) -> None:
        """
        the first one dies while the other waits: the agent is not run
        again.
        """
        self.ask(self.a)
        self.a.advance(1)
        other = self.ask(self.b)
        self.kill(self.a)
        self.isMissed(self.a)
        self.b.advance(5)
        self.assertConflict(other, "idempotency_attempt_lost")
        self.assertEqual(self.prompts(), 1)
        self.b.advance(10)
        self.b.settle()

    def test_diedBeforeItWasSent(self) -> None:
        """
        what had not gone out is asked by the one that waits.
        """
        self.a.stop()
        self.a = self.process("a", maxTurns=1)
        self.ask(self.a, headers={})
        self.a.advance(1)
        self.ask(self.a)
        other = self.ask(self.b)
        self.kill(self.a)
        self.isMissed(self.a)
        self.b.advance(12)
        self.assertSaid(other, "Slowly.")
        self.assertEqual(self.prompts(), 2)
        self.b.advance(10)
        self.b.settle()

    def claimedByBoth(self) -> tuple[Client, Client]:
        """
        The clients of a first process that hangs before it has asked anything
        under the key, and of another one that asks it instead.
        """
        self.a.stop()
        self.a = self.process("a", maxTurns=1)
        self.ask(self.a, headers={})
        self.a.advance(1)
        first = self.ask(self.a)
        other = self.ask(self.b)
        self.isMissed(self.a)
        for _ in range(6):
            self.b.workers.release()
            self.b.clock.advance(1)
            self.b.flush()
        self.assertEqual(self.prompts(), 2)
        return first, other

    def test_goesOnTooLate(self) -> None:
        """
        one that was thought to be gone, and goes on when another one has
        asked already, asks nothing.
        """
        first, other = self.claimedByBoth()
        self.a.advance(12)
        self.assertRefused(first, 409, "idempotency_key_in_use")
        self.assertSaid(other, "Slowly.")
        self.assertSaid(self.ask(self.a), "Slowly.")
        self.assertEqual(self.prompts(), 2)
        self.a.settle()
        self.b.settle()

    def test_givesUpTooLate(self) -> None:
        """
        one that was thought to be gone, and gives up, leaves the key to the
        one that has it.
        """
        first, other = self.claimedByBoth()
        first.leave()
        self.a.advance(0.1)
        again = self.ask(self.a)
        self.a.advance(12)
        self.assertSaid(other, "Slowly.")
        self.assertSaid(again, "Slowly.")
        self.assertEqual(self.prompts(), 2)
        self.a.settle()
        self.b.settle()

    def test_leavesWhileItWaits(self) -> None:
        """
        Nothing is left of a client that leaves, or of one whose server stops.
        """
        self.ask(self.a)
        client = self.ask(self.b)
        client.leave()
        self.b.advance(0.1)
        last = self.ask(self.b)
        self.b.front.site.stopAccepting()
        self.b.advance(0.1)
        self.assertRefused(last, 503, "shutting_down")
        self.a.advance(6)
        self.assertEqual(self.prompts(), 1)
        self.a.settle()

    def isMissed(self, world: World) -> None:
        """
        Let the leases of a dead process be over.
        """
        self.stores[self.b].state.releaseAll(self.hids[world])


class MemoryKeyTests(SharedKeyContract, InOneMemory):
    """
    Over one memory.
    """


class PostgreSQLKeyTests(SharedKeyContract, InPostgreSQL):
    """
    Over a database.
    """

    def test_toldWhenItIsKept(self) -> None:
        """
        the client is told of the end when the answer is written.
        """
        client = self.ask(self.a, {"say": "There."}, {"sleep": 1})
        self.a.advance(0.5)
        self.a.workers.isHolding = True
        self.a.advance(2)
        self.assertFalse(client.isComplete)
        self.a.workers.release()
        self.a.advance(0.1)
        self.assertSaid(client, "There.")
        self.a.settle()
