"""
Responses that are kept, through the whole server.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import fail

from openai_server.store.memory import MemoryStore
from tests.api.responses.grammar import checkResponse
from tests.flow.test_responses import LOOK, PATH, ResponsesCase, plays, responseOf, result, says, textOf
from tests.world import Client, World


class KeptCase(ResponsesCase):
    """
    Asks for responses, and for what was kept of them.
    """

    def call(self, world: World, method: str, path: str, **headers: str) -> Client:
        """
        Send a request without a body.
        """
        lines = [f"{method} {PATH}/{path} HTTP/1.1", "host: 127.0.0.1", "content-length: 0"]
        lines.append("content-type: application/json")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        client = world.client()
        client.send("\r\n".join(lines).encode() + b"\r\n\r\n")
        client.wire.read()
        return client

    def stored(self, world: World, id: str) -> Any:
        """
        The response that is kept under an id, checked.
        """
        client = self.call(world, "GET", id)
        self.assertEqual(client.status, 200, client.content)
        checkResponse(client.json)
        return client.json

    def assertGone(self, client: Client) -> None:
        """
        There is nothing.
        """
        self.assertRefused(client, 404, None)


class RetrieveTests(KeptCase):
    """
    What can be asked for again.
    """

    def test_asItWasGiven(self) -> None:
        """
        Streamed or not; items keep their ids.
        """
        world = World(self)
        for isStreamed in (True, False):
            client = self.ask(world, plays({"think": "hm"}, {"say": "so"}), stream=isStreamed, store=True)
            response = responseOf(client)
            self.assertIs(response["store"], True)
            self.assertEqual(self.stored(world, response["id"]), response)
        world.settle()

    def test_notKept(self) -> None:
        """
        Where the request does not want it, or nothing is kept at all.
        """
        world = World(self)
        response = responseOf(self.ask(world, says("x"), model="echo", store=False))
        self.assertIs(response["store"], False)
        self.assertGone(self.call(world, "GET", response["id"]))
        world.settle()
        world = World(self, keptResponses=0)
        response = responseOf(self.ask(world, says("x"), model="echo", store=True))
        self.assertIs(response["store"], False)
        self.assertGone(self.call(world, "GET", response["id"]))
        world.settle()

    def test_failed(self) -> None:
        """
        It is kept as it failed.
        """
        world = World(self)
        client = self.ask(world, plays({"say": "some"}, {"result_error": "It broke"}), stream=True)
        response = responseOf(client)
        self.assertEqual(self.stored(world, response["id"]), response)
        world.settle()

    def test_running(self) -> None:
        """
        As far as it has come.
        """
        world = World(self)
        client = self.post(world, plays({"say": "some"}, {"sleep": 5}), stream=True)
        world.advance(1)
        id = client.content.partition(b'"id":"')[2].partition(b'"')[0].decode()
        found = self.stored(world, id)
        self.assertEqual((found["status"], found["output"][0]["content"][0]["text"]), ("in_progress", "some"))
        world.advance(5)
        self.assertEqual(self.stored(world, id), responseOf(client))
        world.settle()

    def test_accounts(self) -> None:
        """
        Another account's response is not there, whatever is done with it.
        """
        self.withAccounts()
        world = World(self)
        mine, other = {"x_account": "a"}, {"x_account": "b"}
        id = responseOf(self.ask(world, says("x"), model="echo", headers=mine))["id"]
        for method, path in (
            ("GET", id),
            ("DELETE", id),
            ("POST", f"{id}/cancel"),
            ("GET", f"{id}/input_items"),
        ):
            self.assertGone(self.call(world, method, path, **other))
        refused = self.post(world, says("x"), previous_response_id=id, headers=other)
        self.assertRefused(refused, 400, "previous_response_not_found")
        self.assertEqual(self.call(world, "GET", id, **mine).status, 200)
        world.settle()

    def test_delete(self) -> None:
        """
        It is gone, and one that is being made is not kept.
        """
        world = World(self)
        id = responseOf(self.ask(world, says("x"), model="echo"))["id"]
        client = self.call(world, "DELETE", id)
        self.assertEqual(client.json, {"id": id, "object": "response", "deleted": True})
        self.assertGone(self.call(world, "DELETE", id))
        self.assertGone(self.call(world, "GET", id))
        running = self.post(world, plays({"say": "some"}, {"sleep": 1}), stream=True)
        world.advance(0.5)
        id = running.content.partition(b'"id":"')[2].partition(b'"')[0].decode()
        self.assertEqual(self.call(world, "DELETE", id).status, 200)
        world.advance(2)
        self.assertEqual(responseOf(running)["status"], "completed")
        self.assertGone(self.call(world, "GET", id))
        world.settle()

    def test_cancel(self) -> None:
        """
        The turn is cancelled, and its client is told; what has ended stays.
        """
        world = World(self)
        client = self.post(world, plays({"say": "some"}, {"sleep": 5}, {"say": "more"}), stream=True)
        world.advance(1)
        id = client.content.partition(b'"id":"')[2].partition(b'"')[0].decode()
        for _ in range(2):
            cancelled = self.call(world, "POST", f"{id}/cancel").json
            checkResponse(cancelled)
            self.assertEqual(cancelled["status"], "cancelled")
        client.wire.read()
        self.assertEqual((responseOf(client)["status"], len(world.sent("cancel"))), ("failed", 1))
        self.assertEqual(self.stored(world, id), cancelled)
        world.advance(10)
        id = responseOf(self.ask(world, says("x"), model="echo"))["id"]
        self.assertEqual(self.call(world, "POST", f"{id}/cancel").json["status"], "completed")
        world.settle()

    def test_inputItems(self) -> None:
        """
        With ids, the newest first, page by page.
        """
        world = World(self)
        first = self.ask(world, says("one"), says([{"type": "input_text", "text": "two"}]), model="echo")
        id = responseOf(first)["id"]
        newest, oldest = self.call(world, "GET", f"{id}/input_items").json["data"]
        self.assertEqual(oldest["content"], [{"type": "input_text", "text": "one"}])
        self.assertEqual((newest["type"], newest["role"], newest["status"]), ("message", "user", "completed"))
        page = self.call(world, "GET", f"{id}/input_items?limit=1&order=asc").json
        self.assertEqual((page["data"], page["has_more"]), ([oldest], True))
        self.assertEqual((page["first_id"], page["last_id"]), (oldest["id"], oldest["id"]))
        page = self.call(world, "GET", f"{id}/input_items?order=asc&after={oldest['id']}").json
        self.assertEqual((page["data"], page["has_more"], page["object"]), ([newest], False, "list"))
        page = self.call(world, "GET", f"{id}/input_items?after={oldest['id']}").json
        self.assertEqual((page["data"], page["first_id"], page["last_id"]), ([], None, None))
        second = self.ask(world, says("three"), model="echo", previous_response_id=id)
        items = self.call(world, "GET", f"{responseOf(second)['id']}/input_items").json["data"]
        self.assertEqual(items[2:], [newest, oldest])
        self.assertEqual(items[1]["role"], "assistant")
        for query in ("limit=0", "limit=x", "limit=101", "order=up", "after=x"):
            param = query.partition("=")[0]
            client = self.call(world, "GET", f"{id}/input_items?{query}")
            self.assertRefused(client, 400, "invalid_value")
            self.assertEqual(client.error["param"], param)
        for path in (id, f"{id}/input_items"):
            client = self.call(world, "GET", f"{path}?{'&'.join(['a=1'] * 101)}")
            self.assertRefused(client, 400, "invalid_value")
        world.settle()

    def test_storeThatFails(self) -> None:
        """
        The answer is given all the same; the mistake is logged.
        """
        world = World(self)

        def put(*args: Any) -> Any:
            return fail(RuntimeError("no"))

        self.patch(MemoryStore, "put", put)
        self.assertEqual(textOf(self.ask(world, says("x"), model="echo")), "x")
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        world.settle()


class PreviousTests(KeptCase):
    """
    Requests that go on from kept responses.
    """

    def test_newestGoesOn(self) -> None:
        """
        In its warm session, which is told what is new alone; the model is the
        former's, and its instructions are not inherited.
        """
        world = World(self)
        id = responseOf(self.ask(world, says("one"), model="echo"))["id"]
        second = self.ask(world, says("two"), model=None, previous_response_id=id)
        response = responseOf(second)
        self.assertEqual((textOf(second), second.header("x-hum-session")), ("two", "continued"))
        self.assertEqual((response["model"], response["previous_response_id"]), ("echo", id))
        self.assertEqual(self.contents(world)[1], "two")
        third = self.ask(
            world,
            says("three"),
            model=None,
            previous_response_id=response["id"],
            instructions="Be brief.",
        )
        self.assertEqual(third.header("x-hum-session"), "forked; why=system")
        self.assertIn("one", self.contents(world)[2])
        self.assertIn("two", self.contents(world)[2])
        fourth = self.ask(world, says("four"), model=None, previous_response_id=responseOf(third)["id"])
        self.assertNotIn("systemPrompt", world.sent("prompt")[3])
        self.assertEqual(fourth.status, 200)
        world.settle()

    def test_olderForks(self) -> None:
        """
        Into a session of its own, which is told everything.
        """
        world = World(self)
        id = responseOf(self.ask(world, says("one"), model="echo"))["id"]
        self.ask(world, says("two"), model="echo", previous_response_id=id)
        other = self.ask(world, says("else"), model="echo", previous_response_id=id, store=False)
        self.assertEqual((other.header("x-hum-session") or "").partition(";")[0], "forked")
        self.assertIn("one", self.contents(world)[2])
        self.assertNotIn("two", self.contents(world)[2])
        world.settle()

    def test_resultsAlone(self) -> None:
        """
        They find the turn that waits for them.
        """
        world = World(self)
        step = {"tool": "look", "args": {}, "saying": "seen {result}"}
        client = self.ask(world, plays(step), tools=[LOOK], stream=True)
        (call,) = self.callsOf(client)
        again = self.ask(
            world,
            result(call, "a tree"),
            tools=[LOOK],
            previous_response_id=responseOf(client)["id"],
            stream=True,
        )
        self.assertEqual((textOf(again), len(world.sent("prompt"))), ("seen a tree", 1))
        last = self.ask(world, says("#script []"), tools=[LOOK], previous_response_id=responseOf(again)["id"])
        self.assertEqual(last.header("x-hum-session"), "continued")
        world.settle()

    def test_itemReferences(self) -> None:
        """
        Items may be named in place of being sent; those of the request are
        kept whole.
        """
        world = World(self)
        first = responseOf(self.ask(world, says("one"), model="echo"))
        asked = self.call(world, "GET", f"{first['id']}/input_items").json["data"]
        named = [{"type": "item_reference", "id": item["id"]} for item in (*asked, *first["output"])]
        del named[1]["type"]
        second = self.ask(world, *named, says("two"), model="echo")
        self.assertEqual((textOf(second), second.header("x-hum-session")), ("two", "continued"))
        items = self.call(world, "GET", f"{responseOf(second)['id']}/input_items?order=asc").json["data"]
        self.assertEqual(items[:2], [asked[0], first["output"][0]])
        client = self.post(world, {"type": "item_reference", "id": f"msg_{'0' * 32}_0"}, model="echo")
        self.assertRefused(client, 400, "invalid_value")
        self.assertEqual(client.error["param"], "input[0].id")
        world.settle()

    def test_pathThatNamesTheModel(self) -> None:
        """
        That model is asked, whatever the former's was.
        """
        world = World(self)
        path = "/openai/deployments/echo/responses"
        first = world.client().post({"input": "one"}, path)
        world.until(lambda: first.isComplete)
        id = responseOf(first)["id"]
        second = world.client().post({"input": "two", "model": "other", "previous_response_id": id}, path)
        world.until(lambda: second.isComplete)
        self.assertEqual((textOf(second), second.header("x-hum-session")), ("two", "continued"))
        self.assertEqual(responseOf(second)["model"], "echo")
        world.settle()

    def test_whatIsGone(self) -> None:
        """
        A talk whose beginning is gone cannot be gone on with.
        """
        world = World(self)
        first = responseOf(self.ask(world, says("one"), model="echo"))["id"]
        second = responseOf(self.ask(world, says("two"), previous_response_id=first))["id"]
        self.call(world, "DELETE", first)
        client = self.post(world, says("three"), previous_response_id=second)
        self.assertRefused(client, 400, "previous_response_not_found")
        self.assertEqual(client.error["param"], "previous_response_id")
        items = self.call(world, "GET", f"{second}/input_items").json["data"]
        self.assertEqual(len(items), 1)
        world.settle()

    def test_bounds(self) -> None:
        """
        The settings bound what is kept.
        """
        for settings in ({"keptResponses": 2}, {"keptBytes": 6000}, {"keptAge": 100.0}):
            world = World(self, **settings)
            ids = []
            for _ in range(3):
                ids.append(responseOf(self.ask(world, says("x" * 200), model="echo"))["id"])
                world.advance(60, 30)
            self.assertEqual([self.call(world, "GET", id).status for id in ids][0::2], [404, 200])
            world.settle()

    def test_retry(self) -> None:
        """
        What is given twice is kept once.
        """
        world = World(self)
        key = {"idempotency-key": "k"}
        first = responseOf(self.ask(world, says("x"), model="echo", headers=key))
        again = responseOf(self.ask(world, says("x"), model="echo", headers=key))
        self.assertEqual(first["id"], again["id"])
        self.assertEqual(self.stored(world, first["id"])["output"], first["output"])
        world.settle()
