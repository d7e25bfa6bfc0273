"""
Kept responses of several processes over one store.
"""

from __future__ import annotations

from typing import Any

from tests.flow.sharing import InOneMemory, InPostgreSQL
from tests.flow.test_kept import KeptCase
from tests.flow.test_responses import plays, responseOf, says, textOf
from tests.world import Client, World

SLOW = ({"say": "some "}, {"sleep": 20}, {"say": "more"})


class SharedKeptContract:
    """
    What one process makes, and another one is asked for.
    """

    a: World
    b: World
    stores: Any
    hids: Any
    machine: Any

    def begin(self, world: World, *steps: Any) -> str:
        """
        Begin a response in the background.

        @return: its id.
        """
        client = self.post(world, plays(*(steps or SLOW)), background=True)
        self.assertEqual(client.json["status"], "queued")
        id: str = client.json["id"]
        return id

    def status(self, world: World, id: str) -> str:
        """
        The status that a process tells.
        """
        return str(self.called(world, "GET", id).json["status"])

    def called(self, world: World, method: str, path: str) -> Client:
        """
        What comes of a request, when the time is over in which others may write.
        """
        client = self.call(world, method, path)
        world.advance(0.5)
        self.assertTrue(client.isComplete)
        return client

    def send(self, world: World, line: bytes, body: bytes) -> Client:
        """
        Send a request.
        """
        client = world.client()
        head = b"%b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n" % line
        client.send(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
        world.advance(0)
        return client

    def test_rightAfterItsEnd(self) -> None:
        """
        once a client has a response, every process has it, and can go on
        from it.
        """
        response = responseOf(self.ask(self.a, says("x"), model="echo", store=True))
        self.assertEqual(self.stored(self.b, response["id"]), response)
        client = self.post(self.b, says("y"), model="echo", previous_response_id=response["id"])
        self.b.advance(0.5)
        self.assertEqual(textOf(client), "y")
        self.a.settle()
        self.b.settle()

    def test_polledElsewhere(self) -> None:
        """
        a response in the background is seen from its beginning; its stream
        only when it has ended.
        """
        id = self.begin(self.a)
        self.a.advance(1)
        self.assertEqual((self.status(self.a, id), self.status(self.b, id)), ("in_progress",) * 2)
        refused = self.call(self.b, "GET", f"{id}?stream=true")
        self.assertRefused(refused, 409, "response_in_progress")
        follower = self.post(self.b, says("and?"), model="echo", previous_response_id=id)
        self.b.advance(0.5)
        self.assertEqual(follower.status, 400)
        self.a.advance(30)
        self.assertEqual((self.status(self.a, id), self.status(self.b, id)), ("completed",) * 2)
        stream = self.call(self.b, "GET", f"{id}?stream=true")
        self.assertIn(b"response.completed", stream.content)
        self.a.settle()
        self.b.settle()

    def test_cancelledElsewhere(self) -> None:
        """
        (D42) The process that makes it is told, and the answer comes when it has
        ended.
        """
        id = self.begin(self.a)
        self.a.advance(1)
        client = self.call(self.b, "POST", f"{id}/cancel")
        self.a.advance(0.1)
        self.assertEqual((client.status, client.json["status"]), (200, "cancelled"))
        self.assertEqual(self.status(self.a, id), "cancelled")
        self.assertEqual(len(self.machine.recorder.sent("cancel")), 1)
        self.a.advance(60)
        self.a.settle()
        self.b.settle()

    def test_cancelIsNotHeard(self) -> None:
        """
        it is not waited for for ever: the client is told how far it has
        come.
        """
        id = self.begin(self.a, {"say": "some "}, {"sleep": 60}, {"say": "more"})
        self.a.advance(1)
        self.messages.isHeld = True
        client = self.call(self.b, "POST", f"{id}/cancel")
        self.a.advance(9)
        self.assertFalse(client.isComplete)
        self.a.advance(2)
        self.assertEqual((client.status, client.json["status"]), (200, "in_progress"))
        self.messages.deliver()
        self.assertEqual(self.status(self.b, id), "cancelled")
        self.a.advance(100)
        self.a.settle()

    def test_deletedElsewhere(self) -> None:
        """
        it is not there any more when it has ended either.
        """
        id = self.begin(self.a)
        self.a.advance(1)
        self.assertEqual(self.called(self.b, "DELETE", id).status, 200)
        self.a.advance(60)
        for world in (self.a, self.b):
            self.assertGone(self.called(world, "GET", id))
        self.a.settle()

    def test_processIsGone(self) -> None:
        """
        a response whose process died has failed.
        """
        id = self.begin(self.a)
        self.a.advance(1)
        self.kill(self.a)
        self.stores[self.b].state.releaseAll(self.hids[self.a])
        self.assertEqual(self.status(self.b, id), "failed")
        client = self.called(self.b, "POST", f"{id}/cancel")
        self.assertEqual((client.status, client.json["status"]), (200, "failed"))
        self.assertIn("process that made this response is gone", client.json["error"]["message"])
        stream = self.called(self.b, "GET", f"{id}?stream=true")
        self.assertIn(b"response.failed", stream.content)
        self.assertEqual(self.called(self.b, "DELETE", id).status, 200)
        self.assertGone(self.called(self.b, "GET", id))

    def test_oneAtATimeInAConversation(self) -> None:
        """
        a response that another process makes in the same conversation is
        waited for, and goes on from.
        """
        id = self.send(self.a, b"POST /v1/conversations", b"{}").json["id"]
        self.a.advance(0.2)
        first = self.post(self.a, plays({"sleep": 3}, {"say": "one"}), conversation=id)
        self.a.advance(1)
        second = self.post(self.b, says("more"), model="echo", conversation=id)
        self.a.advance(1)
        self.assertFalse(second.isComplete)
        self.a.advance(4)
        self.assertEqual((first.status, second.status), (200, 200))
        self.assertEqual((textOf(first), textOf(second)), ("one", "more"))
        listed = self.send(self.b, b"GET /v1/conversations/%b/items" % id.encode(), b"")
        self.assertEqual(len(listed.json["data"]), 4)
        self.a.settle()
        self.b.settle()


class MemoryKeptTests(SharedKeptContract, InOneMemory, KeptCase):
    """
    Over one memory.
    """


class PostgreSQLKeptTests(SharedKeptContract, InPostgreSQL, KeptCase):
    """
    Over a database.
    """
