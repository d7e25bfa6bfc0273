"""
Idempotency keys that outlast the process, and hold in all processes that share
the store.
"""

from __future__ import annotations

from typing import Any

from openai_server.sessions import answerkeys
from openai_server.store.saved import SavedAnswer
from openai_server.web.admission import Account, Admission
from tests.dialects import inBothAPIs
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
        R1: it gets the same answer, streamed or whole, and nothing is asked
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
        R2: calls come under the ids that they had, and their results go on with
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
        R3: another request under the key is refused, and another account knows
        nothing of it.
        """
        world = self.world()
        self.ask(world, {"say": "There."})
        world.advance(2)
        world = self.restarted(world, isKilled=True)
        self.assertConflict(self.ask(world, {"say": "Here."}), "idempotency_key_reused")
        self.patch(Admission, "admit", lambda *_: Account("other"))
        client = self.ask(world, {"say": "Here."})
        world.advance(2)
        self.assertSaid(client, "Here.")
        world.settle()

    def test_lost(self) -> None:
        """
        R4: an agent that was running when the process died is not run again;
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
        R4: the same when it was cut by a stop in good order.
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
        R5: what was claimed, and had not gone out, is asked anew.
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
        R6: nothing is asked before the claim outlasts the process, nor before
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

    def test_toldWhenItIsKept(self) -> None:
        """
        R6: the client is told of the end when the answer outlasts the process.
        """
        world = self.world()
        client = self.ask(world, {"say": "There."}, {"sleep": 1})
        world.advance(0.5)
        world.workers.isHolding = True
        world.advance(2)
        self.assertFalse(client.isComplete)
        world.workers.release()
        world.advance(0.1)
        self.assertSaid(client, "There.")
        world.settle()

    def test_givenBack(self) -> None:
        """
        R7: a request that failed and may come again leaves no key behind.
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
        R8: a failure that is not to be asked again is told again.
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
        R9: after the time for which answers are kept the key is free.
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
        R10: an answer that is too long to be kept is not made again.
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
        R11: all who bring it behind the restart are given the answer.
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
