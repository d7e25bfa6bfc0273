"""
Chat completions that are kept, through the whole server.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import fail

import openai_server.web.keptchats
from openai_server.store.memory import MemoryStore
from tests.api.chat.stored import checkCompletion, checkMessage
from tests.flow.support import FlowCase, Message, function, image, result, steps, user
from tests.world import Client, World

PATH = "/v1/chat/completions"


class KeptChatCase(FlowCase):
    """
    Asks for completions, and for what was kept of them.
    """

    def call(
        self, world: World, method: str, path: str = "", body: Any = None, base: str = PATH, **headers: str
    ) -> Client:
        """
        Send a request for what is kept.
        """
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {base}{path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(data)}"]
        lines.append("content-type: application/json")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        client = world.client()
        client.send("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        client.wire.read()
        return client

    def kept(self, world: World, *messages: Message, model: str = "echo", **fields: Any) -> str:
        """
        Have an answer kept.

        @return: its id.
        """
        client = world.ask(list(messages) or [user("x")], model=model, store=True, **fields)
        world.until(lambda: client.isComplete)
        self.assertEqual((client.status, client.header("x-hum-ignored")), (200, None))
        id: str = (client.events[0] if client.isStream else client.json)["id"]
        return id

    def stored(self, world: World, id: str) -> Any:
        """
        The completion that is kept under an id, checked.
        """
        client = self.call(world, "GET", f"/{id}")
        self.assertEqual(client.status, 200, client.content)
        checkCompletion(client.json)
        return client.json

    def messagesOf(self, world: World, id: str) -> Any:
        """
        The messages that are kept with a completion, checked.
        """
        client = self.call(world, "GET", f"/{id}/messages")
        self.assertEqual((client.status, client.json["has_more"]), (200, False))
        for each in client.json["data"]:
            checkMessage(each)
        return client.json["data"]

    def ids(self, world: World, query: str = "", **headers: str) -> list[str]:
        """
        The ids of a list's page.
        """
        client = self.call(world, "GET", f"?{query}", **headers)
        self.assertEqual(client.status, 200, client.content)
        page = client.json
        found = [each["id"] for each in page["data"]]
        for each in page["data"]:
            checkCompletion(each)
        self.assertEqual(page["object"], "list")
        ends = (found[0], found[-1]) if found else (None, None)
        self.assertEqual((page["first_id"], page["last_id"]), ends)
        return found

    def assertGone(self, client: Client) -> None:
        """
        There is nothing.
        """
        self.assertRefused(client, 404, None)
        self.assertIn("Chat completion with id", client.error["message"])


class KeepTests(KeptChatCase):
    """
    What is kept.
    """

    def test_asItWasGiven(self) -> None:
        """
        Streamed or not, with the request's metadata.
        """
        world = World(self)
        client = world.ask([user("x")], model="echo", store=True, metadata={"a": "b"})
        world.until(lambda: client.isComplete)
        self.assertEqual(self.stored(world, client.json["id"]), {**client.json, "metadata": {"a": "b"}})
        id = self.kept(world, user("a b"), stream=True)
        found = self.stored(world, id)
        self.assertEqual((found["choices"][0]["message"]["content"], found["metadata"]), ("a b", {}))
        self.assertEqual(found["choices"][0]["finish_reason"], "stop")
        self.assertGreater(found["usage"]["total_tokens"], 0)
        world.settle()

    def test_calls(self) -> None:
        """
        An answer that ends with calls is complete, and so is the one after it;
        the messages are those of each request.
        """
        world = World(self)
        asked = steps({"tool": "look", "args": {"at": "x"}, "saying": "seen {result}"})
        client = world.ask([asked], model="script", tools=[function()], store=True)
        world.until(lambda: client.isComplete)
        first = self.stored(world, client.json["id"])
        (call,) = first["choices"][0]["message"]["tool_calls"]
        history = [asked, client.message, result(call["id"], "a tree")]
        id = self.kept(world, *history, model="script", tools=[function()])
        self.assertEqual(self.stored(world, id)["choices"][0]["message"]["content"], "seen a tree")
        _, said, answered = self.messagesOf(world, id)
        self.assertEqual((said["role"], said["tool_calls"], said["content"]), ("assistant", [call], None))
        self.assertEqual((answered["tool_call_id"], answered["content"]), (call["id"], "a tree"))
        self.assertEqual(len(self.messagesOf(world, first["id"])), 1)
        world.settle()

    def test_deprecatedCall(self) -> None:
        """
        An answer in the shape of the deprecated functions, under its one id.
        """
        world = World(self)
        asked = steps({"tool": "look", "args": {}})
        functions = [function()["function"]]
        id = self.kept(world, asked, model="script", functions=functions)
        (choice,) = self.stored(world, id)["choices"]
        self.assertEqual(choice["finish_reason"], "function_call")
        found = {"role": "function", "name": "look", "content": "a tree"}
        id = self.kept(world, asked, choice["message"], found, model="script", functions=functions)
        _, said, answered = self.messagesOf(world, id)
        self.assertEqual(said["function_call"], {"name": "look", "arguments": "{}"})
        self.assertEqual((answered["role"], answered["name"]), ("function", "look"))
        world.settle()

    def test_notKept(self) -> None:
        """
        Where the request does not ask for it, or nothing is kept at all, which
        it is told.
        """
        world = World(self)
        for store in (False, None):
            client = world.ask([user("x")], model="echo", store=store)
            world.until(lambda: client.isComplete)  # noqa: B023
            self.assertGone(self.call(world, "GET", f"/{client.json['id']}"))
        self.assertEqual(self.ids(world), [])
        world.settle()
        world = World(self, keptResponses=0)
        client = world.ask([user("x")], model="echo", store=True)
        world.until(lambda: client.isComplete)
        self.assertEqual(client.header("x-hum-ignored"), "store")
        self.assertGone(self.call(world, "GET", f"/{client.json['id']}"))
        world.settle()

    def test_whatIsNotComplete(self) -> None:
        """
        Nothing is there of an answer that goes on, has failed, or whose client
        has left.
        """
        world = World(self)
        client = world.ask([steps({"say": "some"}, {"sleep": 2})], model="script", store=True, stream=True)
        world.advance(1)
        id = client.events[0]["id"]
        self.assertGone(self.call(world, "GET", f"/{id}"))
        self.assertGone(self.call(world, "GET", f"/{id}/messages"))
        world.until(lambda: client.isComplete)
        self.stored(world, id)
        for isLeft in (False, True):
            played = steps({"say": "some"}, {"sleep": 2}, {"result_error": "It broke"})
            client = world.ask([played], model="script", store=True, stream=True)
            world.advance(1)
            if isLeft:
                client.leave()
            world.advance(5)
            self.assertGone(self.call(world, "GET", f"/{client.events[0]['id']}"))
        self.assertEqual(self.ids(world), [id])
        world.settle()

    def test_retry(self) -> None:
        """
        What is given twice is kept once, under one id.
        """
        world = World(self)
        key = {"idempotency-key": "k"}
        first, again = (self.kept(world, headers=key) for _ in range(2))
        self.assertEqual((first, self.ids(world)), (again, [first]))
        world.settle()

    def test_bounds(self) -> None:
        """
        The settings bound what is kept, images too.
        """
        for settings in ({"keptResponses": 2}, {"keptBytes": 6000}, {"keptAge": 100.0}):
            world = World(self, **settings)
            ids = []
            for _ in range(3):
                ids.append(self.kept(world, user("x" * 1500)))
                world.advance(60, 30)
            self.assertEqual([self.call(world, "GET", f"/{id}").status for id in ids][0::2], [404, 200])
            world.settle()
        world = World(self, keptBytes=4000)
        picture = image()
        picture["image_url"]["url"] += "A" * 4000
        self.assertGone(self.call(world, "GET", f"/{self.kept(world, user([picture]))}"))
        world.settle()

    def test_storeThatFails(self) -> None:
        """
        The answer is given all the same; the mistake is logged.
        """
        world = World(self)

        def failing(*args: Any) -> Any:
            return fail(RuntimeError("no"))

        for method in ("put", "append"):
            self.patch(MemoryStore, method, failing)
            self.kept(world)
            self.assertEqual(len(self.flushLoggedErrors()), 1)
        world.settle()


class AskTests(KeptChatCase):
    """
    What can be asked of it.
    """

    def test_list(self) -> None:
        """
        In order, the oldest first, page by page.
        """
        world = World(self)
        ids = [self.kept(world) for _ in range(4)]
        self.assertEqual(self.ids(world), ids)
        self.assertEqual(self.ids(world, "order=desc"), ids[::-1])
        self.assertEqual(self.ids(world, f"limit=2&after={ids[0]}"), ids[1:3])
        self.assertEqual(self.ids(world, f"order=desc&after={ids[1]}"), ids[:1])
        for query, hasMore in (("limit=3", True), ("limit=4", False), (f"limit=1&after={ids[2]}", False)):
            self.assertIs(self.call(world, "GET", f"?{query}").json["has_more"], hasMore)
        self.assertEqual(self.ids(world, f"after={ids[3]}"), [])
        self.assertRefusals(world, "")
        world.settle()

    def test_filters(self) -> None:
        """
        By model and metadata, over as many records as there are.
        """
        self.patch(openai_server.web.keptchats, "_SEARCHED", 2)
        world = World(self)
        wanted = []
        for number in range(9):
            metadata = {"k": str(number % 3), "x": "", "n o": "&"}
            model = "script" if number % 2 else "echo"
            id = self.kept(world, steps({"say": "y"}), model=model, metadata=metadata)
            if number % 3 == 0:
                wanted.append(id)
        self.assertEqual(self.ids(world, "metadata[k]=0"), wanted)
        self.assertEqual(self.ids(world, "metadata%5Bk%5D=0&metadata[n+o]=%26&order=desc"), wanted[::-1])
        self.assertEqual(self.ids(world, f"metadata[k]=0&limit=1&after={wanted[0]}"), wanted[1:2])
        self.assertEqual(self.ids(world, "metadata[k]=0&model=script"), wanted[1::2])
        self.assertEqual(self.ids(world, "metadata[k]=&metadata[x]="), [])
        self.assertEqual(self.ids(world, "model=nobody"), [])
        self.assertEqual(len(self.ids(world, "model=echo&metadata[x]=")), 5)
        world.settle()

    def test_messages(self) -> None:
        """
        As they were sent, in order, page by page.
        """
        world = World(self)
        text = {"type": "text", "text": "look"}
        plain, parts = {"role": "system", "content": "Be brief."}, user([text, image()])
        id = self.kept(world, plain, {**parts, "name": "ann"})
        first, second = self.messagesOf(world, id)
        said = {"role": "system", "content": "Be brief.", "content_parts": None, "refusal": None}
        self.assertEqual(first, {"id": f"{id}-0", **said})
        self.assertEqual((second["content"], second["content_parts"]), (None, [text, image()]))
        self.assertEqual((second["id"], second["name"]), (f"{id}-1", "ann"))
        page = self.call(world, "GET", f"/{id}/messages?limit=1&order=desc").json
        self.assertEqual((page["data"], page["has_more"], page["first_id"]), ([second], True, f"{id}-1"))
        page = self.call(world, "GET", f"/{id}/messages?after={id}-0").json
        self.assertEqual((page["data"], page["has_more"]), ([second], False))
        self.assertRefusals(world, f"/{id}/messages")
        world.settle()

    def assertRefusals(self, world: World, path: str) -> None:
        """
        A page that is none is refused, and says why.
        """
        for query in ("limit=0", "order=up", "after=x"):
            client = self.call(world, "GET", f"{path}?{query}")
            self.assertRefused(client, 400, "invalid_value")
            self.assertEqual(client.error["param"], query.partition("=")[0])

    def test_update(self) -> None:
        """
        Metadata is changed; its place in the list and its messages stay.
        """
        world = World(self)
        ids = [self.kept(world, metadata={"a": "1"}) for _ in range(2)]
        before = self.stored(world, ids[0])
        client = self.call(world, "POST", f"/{ids[0]}", {"metadata": {"b": "2"}})
        self.assertEqual(client.json, {**before, "metadata": {"b": "2"}})
        self.assertEqual(self.stored(world, ids[0]), client.json)
        self.assertEqual((self.ids(world), self.ids(world, "metadata[b]=2")), (ids, ids[:1]))
        self.assertEqual(len(self.messagesOf(world, ids[0])), 1)
        self.assertEqual(self.call(world, "POST", f"/{ids[0]}", {"metadata": None}).json["metadata"], {})
        for body, code in (
            ({}, "missing_required_parameter"),
            ({"metadata": {"a": 1}}, "invalid_type"),
            ({"metadata": {"a": "x" * 513}}, "invalid_value"),
        ):
            client = self.call(world, "POST", f"/{ids[0]}", body)
            self.assertRefused(client, 400, code)
            self.assertEqual(client.error["param"], "metadata")
        self.assertRefused(self.call(world, "POST", f"/{ids[0]}"), 400, None)
        world.settle()

    def test_delete(self) -> None:
        """
        It is gone, and one that is being made is not kept.
        """
        world = World(self)
        id = self.kept(world)
        client = self.call(world, "DELETE", f"/{id}")
        self.assertEqual(client.json, {"id": id, "object": "chat.completion.deleted", "deleted": True})
        for method, path in (("DELETE", id), ("GET", id), ("GET", f"{id}/messages")):
            self.assertGone(self.call(world, method, f"/{path}"))
        running = world.ask([steps({"say": "some"}, {"sleep": 1})], model="script", store=True, stream=True)
        world.advance(0.5)
        id = running.events[0]["id"]
        self.assertEqual(self.call(world, "DELETE", f"/{id}").status, 200)
        world.until(lambda: running.isComplete)
        self.assertGone(self.call(world, "GET", f"/{id}"))
        world.settle()

    def test_accounts(self) -> None:
        """
        Another account's completion is not there, whatever is done with it.
        """
        self.withAccounts()
        world = World(self)
        mine, other = {"x_account": "a"}, {"x_account": "b"}
        id = self.kept(world, headers={"x-account": "a"})
        for method, path, body in (
            ("GET", id, None),
            ("POST", id, {"metadata": {}}),
            ("DELETE", id, None),
            ("GET", f"{id}/messages", None),
        ):
            self.assertGone(self.call(world, method, f"/{path}", body, **other))
        self.assertEqual((self.ids(world, **other), self.ids(world, **mine)), ([], [id]))
        world.settle()

    def test_otherKinds(self) -> None:
        """
        Completions and responses are not found in each other's places.
        """
        world = World(self)
        id = self.kept(world)
        body = {"model": "echo", "input": "x"}
        client = world.client().post(body, "/v1/responses")
        world.until(lambda: client.isComplete)
        self.assertGone(self.call(world, "GET", f"/{client.json['id']}"))
        self.assertEqual(self.ids(world), [id])
        for method, path in (("GET", id), ("DELETE", id), ("POST", f"{id}/cancel")):
            client = self.call(world, method, path, base="/v1/responses/")
            self.assertRefused(client, 404, None)
        client = world.client().post({**body, "previous_response_id": id}, "/v1/responses")
        client.wire.read()
        self.assertRefused(client, 400, "previous_response_not_found")
        world.settle()
