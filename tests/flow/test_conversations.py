"""
Conversations through the whole server.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, fail

from openai_server.store.memory import MemoryStore
from openai_server.web import response
from openai_server.web.locks import LINE, PATIENCE
from tests.api.responses.grammar import checkConversation, checkItem, checkItems
from tests.flow.test_responses import LOOK, PATH, Item, ResponsesCase, plays, responseOf, result, says, textOf
from tests.world import Client, World

CONVERSATIONS = "/v1/conversations"


class ConversationCase(ResponsesCase):
    """
    Makes conversations, and asks in them.
    """

    def call(self, world: World, method: str, path: str = "", body: object = None, **headers: str) -> Client:
        """
        Send a request about conversations, or at another path of the API.
        """
        path = path if path.startswith("/v1/") else CONVERSATIONS + path
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1"]
        lines += [f"content-length: {len(data)}", "content-type: application/json"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        client = world.client()
        client.send("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        client.wire.read()
        return client

    def made(self, world: World, *items: Item, **headers: str) -> str:
        """
        The id of a new conversation with these items.
        """
        client = self.call(world, "POST", "", {"items": list(items)}, **headers)
        self.assertEqual(client.status, 200, client.content)
        checkConversation(client.json)
        return str(client.json["id"])

    def itemsOf(self, world: World, id: str, **headers: str) -> Any:
        """
        All items of a conversation, in order, each checked.
        """
        client = self.call(world, "GET", f"/{id}/items?order=asc&limit=100", **headers)
        self.assertEqual(client.status, 200, client.content)
        checkItems(client.json)
        for item in client.json["data"]:
            checkItem(item)
        return client.json["data"]

    def textsOf(self, world: World, id: str) -> list[str]:
        """
        The texts and kinds of all items of a conversation.
        """
        return [
            item["content"][0]["text"] if item["type"] == "message" else item["type"]
            for item in self.itemsOf(world, id)
        ]

    def assertGone(self, client: Client) -> None:
        """
        There is nothing.
        """
        self.assertRefused(client, 404, None)
        self.assertEqual(client.error["type"], "invalid_request_error")


class ConversationTests(ConversationCase):
    """
    Conversations themselves.
    """

    def test_life(self) -> None:
        """
        Made, read, changed, deleted.
        """
        world = World(self)
        made = self.call(world, "POST", "", {"metadata": {"a": "1"}}).json
        checkConversation(made)
        self.assertEqual((made["metadata"], made["created_at"] > 1_700_000_000), ({"a": "1"}, True))
        path = f"/{made['id']}"
        self.assertEqual(self.call(world, "GET", path).json, made)
        changed = self.call(world, "POST", path, {"metadata": {"b": "2"}}).json
        self.assertEqual(changed, {**made, "metadata": {"b": "2"}})
        self.assertEqual(self.call(world, "GET", path).json, changed)
        self.assertEqual(self.call(world, "POST", path, {"metadata": None}).json["metadata"], {})
        self.assertEqual(self.itemsOf(world, made["id"]), [])
        deleted = self.call(world, "DELETE", path).json
        checkConversation(deleted)
        self.assertEqual(deleted, {"id": made["id"], "object": "conversation.deleted", "deleted": True})
        for method in ("GET", "DELETE", "POST"):
            self.assertGone(self.call(world, method, path, {"metadata": {}} if method == "POST" else None))
        empty = self.call(world, "POST")
        checkConversation(empty.json)
        self.assertEqual(empty.json["metadata"], {})
        world.settle()

    def test_wrong(self) -> None:
        """
        Each mistake is told with the field that has it.
        """
        world = World(self, strict=True)
        id = self.made(world)
        many = {f"k{number}": "v" for number in range(17)}
        for path, body, param in (
            ("", {"metadata": many}, "metadata"),
            ("", {"metadata": {"k": 5}}, "metadata"),
            ("", {"items": [says("x")] * 21}, "items"),
            ("", {"items": "x"}, "items"),
            ("", {"items": [5]}, "items[0]"),
            ("", {"items": [says("x"), {"role": "king", "content": "x"}]}, "items[1].role"),
            ("", {"items": [says([{"type": "video"}])]}, "items[0].content[0].type"),
            ("", {"items": [{**says("x"), "mood": "good"}]}, "items[0].mood"),
            ("", {"name": "x"}, "name"),
            (f"/{id}", {}, "metadata"),
            (f"/{id}", {"metadata": many}, "metadata"),
            (f"/{id}/items", {}, "items"),
            (f"/{id}/items", {"items": []}, "items"),
            (f"/{id}/items", {"items": [says("x")] * 21}, "items"),
            (f"/{id}/items", {"items": [{"type": "item_reference", "id": "msg_1"}]}, "items[0].id"),
        ):
            with self.subTest(path=path, body=body):
                client = self.call(world, "POST", path, body)
                self.assertEqual((client.status, client.error["param"]), (400, param))
        self.assertEqual(self.itemsOf(world, id), [])
        world.settle()

    def test_items(self) -> None:
        """
        Added, listed page by page, read, deleted.
        """
        world = World(self)
        id = self.made(world, says("one"))
        call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": {"at": 1}}
        image = {"type": "input_image", "image_url": {"url": "data:image/gif;base64,R0lG"}}
        given = [
            {"role": "assistant", "content": "two", "id": "msg_own"},
            {"role": "developer", "content": [{"type": "input_text", "text": "three"}], "id": "not/fit"},
            says([{"type": "input_text", "text": "four"}, image]),
            call,
            {"type": "function_call_output", "call_id": "c", "output": "seen"},
            {"type": "custom_tool_call", "call_id": "d", "name": "patch", "input": "x"},
            {"type": "custom_tool_call_output", "call_id": "d", "output": [image]},
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "compaction_trigger"},
        ]
        client = self.call(world, "POST", f"/{id}/items", {"items": given})
        self.assertEqual(client.header("x-hum-ignored"), "items.compaction_trigger")
        added = client.json["data"]
        self.assertEqual((client.json["has_more"], len(added)), (False, 9))
        self.assertEqual((added[0]["id"], added[3]["arguments"]), ("msg_own", '{"at":1}'))
        self.assertEqual(len({item["id"] for item in added}), 9)
        self.call(world, "DELETE", f"/{id}/items/{added.pop()['id']}")
        all = self.itemsOf(world, id)
        self.assertEqual(all[1:], added)
        self.assertEqual(all[0]["content"], [{"type": "input_text", "text": "one"}])
        self.assertEqual((all[0]["role"], all[0]["status"]), ("user", "completed"))
        page = self.call(world, "GET", f"/{id}/items?limit=2").json
        checkItems(page)
        self.assertEqual((page["data"], page["has_more"]), (all[:-3:-1], True))
        page = self.call(world, "GET", f"/{id}/items?limit=2&order=asc&after={all[-3]['id']}").json
        self.assertEqual((page["data"], page["has_more"]), (all[-2:], False))
        one = self.call(world, "GET", f"/{id}/items/{all[1]['id']}")
        checkItem(one.json)
        self.assertEqual(one.json, all[1])
        deleted = self.call(world, "DELETE", f"/{id}/items/{all[1]['id']}").json
        self.assertEqual(deleted, self.call(world, "GET", f"/{id}").json)
        for method in ("GET", "DELETE"):
            self.assertGone(self.call(world, method, f"/{id}/items/{all[1]['id']}"))
        self.assertEqual(self.itemsOf(world, id), [all[0], *all[2:]])
        for query in ("limit=0", "limit=101", "order=up", f"after={all[1]['id']}"):
            client = self.call(world, "GET", f"/{id}/items?{query}")
            self.assertRefused(client, 400, "invalid_value")
            self.assertEqual(client.error["param"], query.partition("=")[0])
        world.settle()

    def test_accounts(self) -> None:
        """
        Another account's conversation is not there, whatever is done with it,
        as one that never was; nor is something of another kind.
        """
        self.withAccounts()
        world = World(self)
        mine, other = {"x_account": "a"}, {"x_account": "b"}
        id = self.made(world, says("x"), **mine)
        item = self.itemsOf(world, id, **mine)[0]["id"]
        asked = self.ask(world, says("x"), model="echo", headers=mine)
        given = responseOf(asked)["id"]
        for unknown, account in ((id, other), ("conv_0123456789abcdef", mine), (given, mine)):
            for method, path, body in (
                ("GET", "", None),
                ("POST", "", {"metadata": {}}),
                ("DELETE", "", None),
                ("GET", "/items", None),
                ("POST", "/items", {"items": [says("x")]}),
                ("GET", f"/items/{item}", None),
                ("DELETE", f"/items/{item}", None),
            ):
                client = self.call(world, method, f"/{unknown}{path}", body, **account)
                self.assertGone(client)
                self.assertEqual(client.error["message"], f"Conversation with id '{unknown}' not found.")
            refused = self.post(world, says("x"), conversation=unknown, headers=account)
            self.assertGone(refused)
        reference = {"type": "item_reference", "id": item}
        self.assertRefused(self.post(world, reference, headers=other), 400, "invalid_value")
        self.assertRefused(
            self.post(world, says("x"), previous_response_id=id, headers=mine),
            400,
            "previous_response_not_found",
        )
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
            self.assertGone(self.call(world, method, f"{PATH}/{id}{path}", **mine))
        self.assertEqual(self.call(world, "GET", f"/{id}", **mine).status, 200)
        world.settle()

    def test_nothingIsKept(self) -> None:
        """
        Then there are no conversations.
        """
        world = World(self, keptResponses=0)
        self.assertRefused(self.call(world, "POST"), 404, "unsupported_endpoint")
        world.settle()

    def test_tooLarge(self) -> None:
        """
        X33: what cannot be kept is refused, and leaves all as it was.
        """
        world = World(self, keptBytes=5000)
        id = self.made(world, says("x" * 1000))
        before = self.itemsOf(world, id)
        for path in ("", f"/{id}/items"):
            client = self.call(world, "POST", path, {"items": [says("x" * 5000)]})
            self.assertRefused(client, 413, "request_too_large")
            self.assertEqual(client.error["param"], "items")
        self.assertEqual(self.itemsOf(world, id), before)
        client = self.post(world, says("x" * 5000), model="echo", conversation=id)
        self.assertRefused(client, 413, "request_too_large")
        self.assertEqual((client.error["param"], len(world.sent("prompt"))), ("conversation", 0))
        world.settle()


class ExchangeTests(ConversationCase):
    """
    Responses in conversations.
    """

    def test_goesOn(self) -> None:
        """
        In its warm session, which is told what is new alone; the conversation
        has all that was said, in order and once, and the response says where
        it was said.
        """
        world = World(self)
        id = self.made(world)
        for number, (isStreamed, store, named) in enumerate(
            ((False, True, id), (True, False, {"id": id}), (True, True, id))
        ):
            client = self.ask(
                world,
                says(f"say {number}"),
                model="echo",
                conversation=named,
                stream=isStreamed,
                store=store,
                headers={"idempotency-key": str(number)},
            )
            given = responseOf(client)
            self.assertEqual((textOf(client), given["conversation"]), (f"say {number}", {"id": id}))
            self.assertEqual(client.header("x-hum-session"), "continued" if number else "new")
            kept = self.call(world, "GET", f"{PATH}/{given['id']}")
            self.assertEqual(kept.status, 200 if store else 404)
            if store:
                self.assertEqual(kept.json, given)
        self.assertEqual(self.contents(world), ["say 0", "say 1", "say 2"])
        said = [text for number in range(3) for text in (f"say {number}",) * 2]
        self.assertEqual(self.textsOf(world, id), said)
        roles = [item["role"] for item in self.itemsOf(world, id)]
        self.assertEqual(roles, ["user", "assistant"] * 3)
        world.settle()

    def test_itemsOfARequest(self) -> None:
        """
        What was added through the API is told; what was deleted is not.
        """
        world = World(self)
        id = self.made(world, says("bananas"), {"role": "assistant", "content": "yes"})
        self.ask(world, says("two"), model="echo", conversation=id)
        (content,) = self.contents(world)
        self.assertTrue("bananas" in content and "yes" in content and "two" in content)
        first = self.itemsOf(world, id)[0]["id"]
        self.call(world, "DELETE", f"/{id}/items/{first}")
        client = self.ask(world, says("three"), model="echo", conversation=id)
        self.assertEqual(client.header("x-hum-session"), "new")
        self.assertNotIn("bananas", self.contents(world)[1])
        world.settle()

    def test_resultsAlone(self) -> None:
        """
        They find the turn that waits for them.
        """
        world = World(self)
        id = self.made(world)
        step = {"tool": "look", "args": {}, "saying": "seen {result}"}
        client = self.ask(world, plays(step), tools=[LOOK], conversation=id, stream=True)
        (call,) = self.callsOf(client)
        again = self.ask(world, result(call, "a tree"), tools=[LOOK], conversation=id)
        self.assertEqual((textOf(again), len(world.sent("prompt"))), ("seen a tree", 1))
        kinds = self.textsOf(world, id)[1:]
        self.assertEqual(kinds, ["function_call", "function_call_output", "seen a tree"])
        last = self.ask(world, says("#script []"), tools=[LOOK], conversation=id)
        self.assertEqual(last.header("x-hum-session"), "continued")
        world.settle()

    def test_whatIsAdded(self) -> None:
        """
        An answer that is cut short is; one that failed, or whose client has
        left, is not, nor is what it answers.
        """
        world = World(self)
        id = self.made(world)
        cut = plays({"say": "so"}, {"finish": {"finishReason": "max_tokens"}})
        self.ask(world, cut, conversation=id, stream=True)
        self.assertEqual(self.textsOf(world, id)[1:], ["so"])
        before = self.itemsOf(world, id)
        failing = plays({"say": "some"}, {"result_error": "It broke"})
        self.assertEqual(
            responseOf(self.ask(world, failing, conversation=id, stream=True))["status"], "failed"
        )
        self.assertEqual(self.post(world, says("x"), model="nobody", conversation=id).status, 404)
        steps = plays({"say": "some"}, {"sleep": 5})
        leaving = self.post(world, steps, conversation=id, stream=True, store=False)
        world.advance(1)
        leaving.leave()
        world.advance(10)
        self.assertEqual(self.itemsOf(world, id), before)
        self.assertEqual(textOf(self.ask(world, plays({"say": "well"}), conversation=id)), "well")
        world.advance(10)
        world.settle()

    def test_nobodyIsThere(self) -> None:
        """
        What is made in the background is added; and what is kept after its
        client has left, if its worker goes on to the end.
        """
        world = World(self)
        id = self.made(world)
        steps = plays({"sleep": 5}, {"say": "one"})
        client = self.post(world, steps, conversation=id, background=True)
        self.assertEqual((client.json["status"], client.json["conversation"]), ("queued", {"id": id}))
        second = self.post(world, plays({"say": "two"}), conversation=id, background=True)
        self.assertEqual(second.json["status"], "queued")
        world.advance(1)
        self.assertEqual(self.itemsOf(world, id), [])
        world.advance(10)
        self.assertEqual(self.textsOf(world, id)[1::2], ["one", "two"])
        leaving = self.post(world, plays({"say": "so"}, {"sleep": 5}), conversation=id, stream=True)
        world.advance(1)
        leaving.leave()
        world.advance(2.5)
        self.assertEqual((len(world.sent("cancel")), len(self.itemsOf(world, id))), (1, 4))
        world.advance(10)
        self.assertEqual(self.textsOf(world, id)[1::2], ["one", "two", "so"])
        world.settle()

    def test_nobodyWaitsForWhatWasLeft(self) -> None:
        """
        A response that was asked to stop since its client left does not keep
        others waiting, whether they came before or after that.
        """
        for isThereBefore in (True, False):
            world = World(self)
            id = self.made(world)
            leaving = self.post(world, plays({"say": "so"}, {"sleep": 60}), conversation=id, stream=True)
            world.advance(1)
            given = leaving.content.partition(b'"id":"')[2].partition(b'"')[0].decode()
            if not isThereBefore:
                leaving.leave()
                world.advance(3)
            client = self.post(world, plays({"say": "well"}), conversation=id)
            world.advance(0)
            if isThereBefore:
                leaving.leave()
            world.until(lambda: client.isComplete)  # noqa: B023
            self.assertEqual((textOf(client), self.textsOf(world, id)[1:]), ("well", ["well"]))
            self.assertEqual(self.call(world, "GET", f"{PATH}/{given}").json["status"], "cancelled")
            world.advance(90)
            world.settle()

    def test_clientThatComesBack(self) -> None:
        """
        Its answer is added once, although it left and came again; and while
        it runs, a retry joins it.
        """
        world = World(self)
        id = self.made(world)
        steps = plays({"sleep": 3}, {"say": "so"})
        key = {"idempotency-key": "k"}
        leaving = self.post(world, steps, conversation=id, headers=key)
        world.advance(1)
        leaving.leave()
        world.advance(0.5)
        client, other = [self.post(world, steps, conversation=id, headers=key) for _ in range(2)]
        world.until(lambda: client.isComplete and other.isComplete)
        self.assertEqual(responseOf(client)["id"], responseOf(other)["id"])
        again = self.ask(world, steps, conversation=id, headers=key)
        self.assertEqual(responseOf(again), responseOf(client))
        self.assertEqual((self.textsOf(world, id)[1:], len(world.sent("prompt"))), (["so"], 1))
        world.settle()

    def test_references(self) -> None:
        """
        To items of this conversation and of another one, whatever put them
        there; what is said once more has an id of its own.
        """
        world = World(self)
        id = self.made(world, says("one"))
        self.ask(world, says("two"), model="echo", conversation=id, store=False)
        named = [{"type": "item_reference", "id": item["id"]} for item in self.itemsOf(world, id)]
        client = self.ask(world, *named, says("three"), model="echo", store=False)
        self.assertEqual((textOf(client), client.header("x-hum-session")), ("three", "continued"))
        other = self.made(world, named[0])
        self.assertEqual(self.textsOf(world, other), ["one"])
        self.ask(world, *named, model="echo", conversation=id)
        self.assertEqual(self.textsOf(world, id), ["one", "two", "two"] * 2 + ["two"])
        self.call(world, "DELETE", f"/{id}")
        self.assertRefused(self.post(world, named[0], model="echo"), 400, "invalid_value")
        world.settle()

    def test_previousOfAConversation(self) -> None:
        """
        A response of a conversation has nothing of what was said before it,
        so nothing goes on from it.
        """
        world = World(self)
        given = responseOf(self.ask(world, says("x"), model="echo", conversation=self.made(world)))
        client = self.post(world, says("y"), previous_response_id=given["id"])
        self.assertRefused(client, 400, "unsupported_value")
        self.assertEqual(client.error["param"], "previous_response_id")
        world.settle()

    def test_deletedMeanwhile(self) -> None:
        """
        X32: the response goes on, and makes nothing; whoever waits is told.
        """
        world = World(self)
        id = self.made(world)
        running = self.post(world, plays({"sleep": 2}, {"say": "so"}), conversation=id)
        waiting = self.post(world, says("x"), model="echo", conversation=id)
        world.advance(1)
        self.assertEqual(self.call(world, "DELETE", f"/{id}").status, 200)
        world.until(lambda: running.isComplete and waiting.isComplete)
        self.assertEqual(textOf(running), "so")
        self.assertGone(waiting)
        self.assertGone(self.call(world, "GET", f"/{id}/items"))
        world.settle()

    def test_answerThatHasNoRoom(self) -> None:
        """
        X33: it is given; and nothing can be asked any more in a conversation that
        lacks it.
        """
        world = World(self, keptBytes=6000)
        id = self.made(world)
        for _ in range(2):
            steps = plays(*[{"say": "x" * 100}] * 10)
            self.assertEqual(len(textOf(self.ask(world, steps, conversation=id, store=False))), 1000)
        client = self.post(world, says("x"), model="echo", conversation=id)
        self.assertRefused(client, 400, "invalid_value")
        self.assertEqual((client.error["param"], len(self.itemsOf(world, id))), ("conversation", 2))
        world.settle()

    def test_answerThatIsTooLong(self) -> None:
        """
        X33: one that is too long to be kept at all is lacked too.
        """
        self.patch(response, "WHOLE_LIMIT", 50)
        world = World(self)
        id = self.made(world)
        steps = plays({"say": "x" * 30}, {"sleep": 11}, {"say": "x" * 30})
        client = self.post(world, steps, conversation=id, stream=True)
        world.until(lambda: client.isComplete, 20)
        self.assertEqual(len(textOf(client)), 60)
        client = self.post(world, says("x"), model="echo", conversation=id)
        self.assertRefused(client, 400, "invalid_value")
        world.settle()

    def test_storeThatFails(self) -> None:
        """
        The answer is given all the same, the mistake is logged, and others
        may answer.
        """
        world = World(self)
        id = self.made(world)

        def append(*args: Any) -> Any:
            return fail(RuntimeError("no"))

        self.patch(MemoryStore, "append", append)
        for _ in range(2):
            self.assertEqual(textOf(self.ask(world, says("x"), model="echo", conversation=id)), "x")
            self.assertEqual(len(self.flushLoggedErrors()), 1)
        world.settle()

    def test_storeThatHangs(self) -> None:
        """
        Others may answer after a while.
        """
        world = World(self)
        id = self.made(world)
        patched = self.patch(MemoryStore, "append", lambda *args: Deferred())
        self.assertEqual(textOf(self.ask(world, says("x"), model="echo", conversation=id)), "x")
        patched.restore()
        waiting = self.post(world, says("y"), model="echo", conversation=id)
        world.advance(9)
        self.assertIsNone(waiting.status)
        world.advance(2)
        self.assertEqual(textOf(waiting), "y")
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        world.settle()


class TurnTests(ConversationCase):
    """
    One response at a time.
    """

    def setUp(self) -> None:
        super().setUp()
        self.world = World(self)
        self.talk = self.made(self.world)

    def say(self, text: str, *before: Item, **fields: Any) -> Client:
        """
        Ask in the conversation, and do not wait.
        """
        return self.post(self.world, plays(*before, {"say": text}), conversation=self.talk, **fields)

    def answers(self) -> list[str]:
        """
        What was answered in the conversation.
        """
        return self.textsOf(self.world, self.talk)[1::2]

    def test_whoCameFirst(self) -> None:
        """
        X30: they are answered one after the other, and each knows of those before;
        another conversation waits for none of them.
        """
        clients = [self.say(text, {"sleep": 2}) for text in "abc"]
        self.world.advance(1)
        self.assertEqual(len(self.world.sent("prompt")), 1)
        elsewhere = self.post(self.world, plays({"say": "z"}), conversation=self.made(self.world))
        self.world.until(lambda: elsewhere.isComplete, 1)
        self.world.until(lambda: all(client.isComplete for client in clients), 9)
        self.assertEqual([textOf(client) for client in clients], ["a", "b", "c"])
        self.assertEqual(self.answers(), ["a", "b", "c"])
        sessions = [client.header("x-hum-session") for client in clients]
        self.assertEqual(sessions, ["new", "continued", "continued"])
        self.world.settle()

    def test_waitsTooLong(self) -> None:
        """
        X30: 409, in OpenAI's words.
        """
        running = self.say("a", {"sleep": PATIENCE + 5})
        waiting = self.say("b", stream=True)
        self.world.advance(PATIENCE - 1)
        self.assertIsNone(waiting.status)
        self.world.advance(2)
        self.assertRefused(waiting, 409, "conversation_locked")
        self.assertEqual((waiting.error["param"], waiting.header("retry-after")), ("conversation", "5"))
        self.world.advance(10)
        self.assertEqual((textOf(running), self.answers()), ("a", ["a"]))
        self.world.settle()

    def test_tooMany(self) -> None:
        """
        X30: they are refused at once.
        """
        clients = [self.say(str(number), {"sleep": 0.5}) for number in range(LINE + 2)]
        self.world.advance(0)
        self.assertRefused(clients.pop(), 409, "conversation_locked")
        self.world.until(lambda: clients[-1].isComplete, 30)
        self.assertEqual(self.answers(), [str(number) for number in range(LINE + 1)])
        self.world.settle()

    def test_leavesTheLine(self) -> None:
        """
        Nothing is asked for a client that has left, and the next one goes on.
        """
        first, second, third = [self.say(text, {"sleep": 1}) for text in "abc"]
        self.world.advance(0.5)
        second.leave()
        self.world.until(lambda: third.isComplete)
        self.assertEqual((self.answers(), len(self.world.sent("prompt"))), (["a", "c"], 2))
        self.assertTrue(first.isComplete)
        self.world.settle()

    def test_retryThatWaits(self) -> None:
        """
        It has one place with what it repeats, and one answer.
        """
        first = self.say("a", {"sleep": 1})
        key = {"idempotency-key": "k"}
        clients = [self.say("b", headers=key) for _ in range(2)]
        self.world.until(lambda: all(client.isComplete for client in clients))
        self.assertEqual(responseOf(clients[0])["id"], responseOf(clients[1])["id"])
        self.assertEqual((first.isComplete, self.answers()), (True, ["a", "b"]))
        self.world.settle()

    def test_retryOfOneThatWaitedTooLong(self) -> None:
        """
        It is a new request.
        """
        self.say("a", {"sleep": PATIENCE + 5})
        key = {"idempotency-key": "k"}
        waiting = self.say("b", headers=key)
        self.world.advance(PATIENCE + 1)
        self.assertRefused(waiting, 409, "conversation_locked")
        again = self.say("b", headers=key)
        self.world.until(lambda: again.isComplete, 10)
        self.assertEqual((textOf(again), self.answers()), ("b", ["a", "b"]))
        self.world.settle()

    def test_howeverItEnds(self) -> None:
        """
        X31: the next one goes on when the one before has lost its client, its
        worker or its daemon, or was cancelled.
        """

        def leave(client: Client) -> None:
            client.leave()

        def loseWorker(client: Client) -> None:
            self.world.daemon.killWorkers()

        def loseDaemon(client: Client) -> None:
            self.world.daemon.stop()
            self.world.advance(1)
            self.world.daemon.start()

        def cancel(client: Client) -> None:
            id = client.content.partition(b'"id":"')[2].partition(b'"')[0].decode()
            self.assertEqual(self.call(self.world, "POST", f"{PATH}/{id}/cancel").status, 200)

        for end in (leave, loseWorker, loseDaemon, cancel):
            with self.subTest(end=end.__name__):
                first = self.say("a", {"say": "x"}, {"sleep": 8}, stream=True)
                self.world.advance(1)
                second = self.say(end.__name__)
                self.world.advance(1)
                end(first)
                self.world.until(lambda: second.isComplete, 20)  # noqa: B023
                self.world.advance(40)
        self.world.settle()

    def test_mistakeBeforeItIsAsked(self) -> None:
        """
        X31: it is logged, and the next one goes on.
        """

        def turnAnother(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("no")

        patched = self.patch(response.Response, "__init__", turnAnother)
        self.assertRefused(self.say("a"), 500, "internal_error")
        patched.restore()
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        client = self.say("b")
        self.world.until(lambda: client.isComplete)
        self.assertEqual(self.answers(), ["b"])
        self.world.settle()

    def test_serverThatStops(self) -> None:
        """
        Whoever waits is turned away first: the end of what runs must start
        nothing.
        """
        running = self.say("a", {"sleep": 5})
        waiting = self.say("b")
        self.world.advance(1)
        self.world.front.site.stopAccepting()
        self.world.advance(0)
        self.assertRefused(waiting, 503, "shutting_down")
        self.world.until(lambda: running.isComplete, 10)
        self.assertEqual((textOf(running), len(self.world.sent("prompt"))), ("a", 1))
        self.world.settle()
