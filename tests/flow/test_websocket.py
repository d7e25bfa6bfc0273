"""
C{GET /v1/responses} as a WebSocket, through the whole server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.api.responses.grammar import Grammar
from tests.flow.test_responses import LOOK, ResponsesCase, plays, responseOf, says
from tests.web.sockets import ACCEPT, SocketClient
from tests.world import World

ENDINGS = ("response.completed", "response.incomplete", "response.failed", "error")


class WorldClient(SocketClient):
    """
    A client of a whole server.

    @ivar client: its connection.
    """

    def __init__(self, world: World, *headers: str, path: str = "/v1/responses", kernelSize: int = 1 << 30):
        self.world = world
        self.client = world.client(kernelSize)
        super().__init__(self.client.wire, world.flush, path, *headers)

    @property
    def answered(self) -> int:
        """
        How many requests have got the last of their events.
        """
        self.read()
        return len([event for event in self.events if event["type"] in ENDINGS])

    def ask(self, input: Any = None, model: str = "echo", **members: Any) -> Any:
        """
        Ask for a response, and return the event that it ends with.
        """
        before = self.answered
        self.create(input, model, **members)
        self.world.until(lambda: self.answered > before)
        return self.last

    def chat(self, input: Any, **members: Any) -> Any:
        """
        Ask for a response that is completed, and return it.
        """
        event = self.ask(input, **members)
        assert event["type"] == "response.completed", event
        return event["response"]


def textOf(response: Any) -> str:
    """
    The text of a response.
    """
    items = [item for item in response["output"] if item["type"] == "message"]
    return "".join(part["text"] for item in items for part in item["content"])


class SocketCase(ResponsesCase):
    """
    Asks on WebSockets.
    """

    def assertError(self, event: Any, status: int, code: str | None, param: str | None = None) -> None:
        """
        An event says what an HTTP answer would have said.
        """
        self.assertEqual(event["type"], "error", event)
        self.assertEqual((event["status"], event["error"]["code"]), (status, code), event)
        self.assertEqual(event["error"]["param"], param)
        self.assertTrue(event["error"]["message"])


class ResponseTests(SocketCase):
    """
    What a response is made of.
    """

    def test_handshake(self) -> None:
        """
        On each path of the API, with and without a slash at its end.
        """
        world = World(self)
        api = "/openai/responses"
        for path in ("/v1/responses", "/responses", "/openai/v1/responses", f"{api}/", f"{api}?a=b"):
            client = WorldClient(world, path=path)
            lines = client.head.decode().split("\r\n")
            self.assertEqual(lines[0], "HTTP/1.1 101 Switching Protocols")
            for line in ("Upgrade: websocket", "Connection: Upgrade", f"Sec-Websocket-Accept: {ACCEPT}"):
                self.assertIn(line, lines)
            self.assertNotIn("content-length", client.head.decode().lower())
            self.assertEqual(textOf(client.chat("hello")), "hello")
            client.close()
            self.assertEqual((client.code, client.wire.how), (1000, "closed"))
        world.settle()

    def test_sameEventsAsAStream(self) -> None:
        """
        The events of a stream, one a message, and nothing else.
        """
        world = World(self, workerTools=True)
        steps = plays({"think": "hm"}, {"say": "some "}, {"say": "data: [DONE]\n\ndata: {}"})
        posted = self.ask(world, steps, stream=True, reasoning={"summary": "auto"})
        events = responseOf(posted)
        client = WorldClient(world)
        client.ask([steps], "script", reasoning={"summary": "auto"})
        response = Grammar().check(client.events)
        for each in (events, response):
            each["id"] = each["created_at"] = each["completed_at"] = None
            for item in each["output"]:
                item["id"] = None
        self.assertEqual(response, events)
        world.settle()

    def test_sequence(self) -> None:
        """
        Several on one connection, each one answered before the next one is
        asked; also those that are sent ahead.
        """
        world = World(self)
        client = WorldClient(world)
        for text in ("first", "second"):
            self.assertEqual(textOf(client.chat(text)), text)
        client.events.clear()
        client.create([plays({"sleep": 1}, {"say": "third"})])
        client.create("fourth", "echo")
        self.assertEqual(len(world.sent("prompt")), 3)
        world.until(lambda: client.answered == 2)
        kinds = client.types()
        self.assertEqual(kinds.count("response.created"), 2)
        self.assertLess(kinds.index("response.completed"), kinds.index("response.created", 1))
        self.assertEqual(textOf(client.response), "fourth")
        self.assertEqual(world.ends, ["ok"] * 5)
        world.settle()

    def test_log(self) -> None:
        """
        The handshake and each response have a line of their own.
        """
        world = World(self)
        client = WorldClient(world)
        client.chat("x")
        client.ask("x", previous_response_id="resp_none")
        lines = [event for event in world.logged if "requestId" in event and "end" in event]
        names = ("method", "route", "status", "end", "stream")
        told = [tuple(line[name] for name in names) for line in lines]
        route = "/v1/responses"
        self.assertEqual(
            told,
            [
                ("GET", route, 101, "ok", False),
                ("GET", route, 200, "ok", True),
                ("GET", route, 400, "bad", False),
            ],
        )
        self.assertEqual(len({line["requestId"] for line in lines}), 3)
        world.settle()

    def test_toolCall(self) -> None:
        """
        A call, and its result with the id of the response that has not been
        stored.
        """
        world = World(self)
        client = WorldClient(world)
        steps = plays({"tool": "look", "args": {"at": "x"}}, {"say": "seen"})
        asked = client.chat([steps], model="script", tools=[LOOK], store=False)
        (call,) = asked["output"]
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "a tree"}
        answer = client.chat(
            [output], model="script", tools=[LOOK], store=False, previous_response_id=asked["id"]
        )
        self.assertEqual((textOf(answer), answer["previous_response_id"]), ("[a tree]seen", asked["id"]))
        self.assertEqual(len(world.sent("prompt")), 1)
        world.settle()


class ContinuationTests(SocketCase):
    """
    What goes on from what, as the compliance suite of Open Responses has it.
    """

    def test_unstored(self) -> None:
        """
        The latest response of a connection, though it is not stored: its
        session goes on, warm.
        """
        world = World(self)
        client = WorldClient(world)
        former = None
        for number in range(3):
            response = client.chat(f"word {number}", store=False, previous_response_id=former)
            self.assertEqual(response["previous_response_id"], former)
            former = response["id"]
        prompts = world.sent("prompt")
        self.assertEqual(len({prompt["sid"] for prompt in prompts}), 1)
        self.assertEqual([prompt["content"] for prompt in prompts], [f"word {at}" for at in range(3)])
        world.settle()

    def test_onlyTheLatest(self) -> None:
        """
        Not one before it, and not on another connection. A new beginning is
        possible.
        """
        world = World(self)
        client = WorldClient(world)
        first = client.chat("first", store=False)
        client.chat("second", store=False)
        for each in (client, WorldClient(world)):
            event = each.ask("on", store=False, previous_response_id=first["id"])
            self.assertError(event, 400, "previous_response_not_found", "previous_response_id")
            self.assertEqual(textOf(each.chat("anew", store=False)), "anew")
        world.settle()

    def test_stored(self) -> None:
        """
        Stored ones are gone on from as with a POST; unstored ones may follow
        them, and are gone on from as well.
        """
        world = World(self)
        client = WorldClient(world)
        first = client.chat("one")
        client.chat("aside")
        second = client.chat("two", store=False, previous_response_id=first["id"])
        third = client.chat("three", store=False, previous_response_id=second["id"])
        fourth = client.chat("four", previous_response_id=third["id"])
        fifth = client.chat("five", previous_response_id=fourth["id"])
        self.assertEqual(fifth["previous_response_id"], fourth["id"])
        prompts = world.sent("prompt")
        self.assertEqual(len({prompt["sid"] for prompt in prompts if prompt["content"] != "aside"}), 1)
        # What is stored does not help those who do not have what is not.
        event = WorldClient(world).ask("six", previous_response_id=fifth["id"])
        self.assertError(event, 400, "previous_response_not_found", "previous_response_id")
        posted = self.ask(world, says("on"), model="echo", previous_response_id=first["id"])
        self.assertEqual(posted.status, 200)
        world.settle()

    def test_rootIsDeleted(self) -> None:
        """
        What an unstored response goes on from must still be there.
        """
        world = World(self)
        client = WorldClient(world)
        first = client.chat("one")
        second = client.chat("two", store=False, previous_response_id=first["id"])
        deleting = world.client()
        deleting.send(b"DELETE /v1/responses/%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % first["id"].encode())
        event = client.ask("three", previous_response_id=second["id"])
        self.assertError(event, 400, "previous_response_not_found", "previous_response_id")
        world.settle()

    def test_references(self) -> None:
        """
        Items of unstored and of stored responses can be referred to.
        """
        world = World(self)
        client = WorldClient(world)
        other = client.chat("elsewhere")
        former = client.chat("one", store=False)
        references = [{"type": "item_reference", "id": each["output"][0]["id"]} for each in (other, former)]
        response = client.chat([*references, says("two")], store=False, previous_response_id=former["id"])
        self.assertEqual(response["status"], "completed")
        self.assertIn("elsewhere", world.sent("prompt")[-1]["content"])
        world.settle()

    def test_nothingIsKept(self) -> None:
        """
        Where the server keeps no responses, connections still know theirs.
        """
        world = World(self, keptResponses=0)
        client = WorldClient(world)
        first = client.chat("one")
        self.assertIs(first["store"], False)
        self.assertEqual(client.chat("two", previous_response_id=first["id"])["status"], "completed")
        world.settle()

    def test_failureForgets(self) -> None:
        """
        A request that fails takes what it goes on from with it.
        """
        world = World(self)
        client = WorldClient(world)
        first = client.chat("ember", store=False)
        missing = {"type": "function_call_output", "call_id": "call_missing", "output": "x"}
        event = client.ask([missing], store=False, previous_response_id=first["id"])
        self.assertError(event, 400, "invalid_value", "input[0].call_id")
        event = client.ask("stale", store=False, previous_response_id=first["id"])
        self.assertError(event, 400, "previous_response_not_found", "previous_response_id")
        world.settle()

    def test_failureInTheStream(self) -> None:
        """
        The same where it had begun.
        """
        world = World(self)
        client = WorldClient(world)
        first = client.chat("ember", store=False)
        broken = plays({"say": "some"}, {"result_error": "It broke"})
        event = client.ask([broken], "script", store=False, previous_response_id=first["id"])
        self.assertEqual(event["type"], "response.failed")
        event = client.ask("stale", store=False, previous_response_id=first["id"])
        self.assertError(event, 400, "previous_response_not_found", "previous_response_id")
        world.settle()


class PreparationTests(SocketCase):
    """
    C{generate: false}.
    """

    def test_isGoneOnFrom(self) -> None:
        """
        It asks no worker, has no output, and what it said is part of what
        follows; stored or not.
        """
        for members in ({}, {"store": False}):
            world = World(self)
            client = WorldClient(world)
            prepared = client.chat("cobalt", generate=False, instructions="Be brief.", **members)
            self.assertEqual((prepared["output"], world.sent("prompt")), ([], []))
            Grammar().check(client.events)
            client.events.clear()
            response = client.chat("code?", previous_response_id=prepared["id"], **members)
            self.assertEqual(response["previous_response_id"], prepared["id"])
            self.assertIn("cobalt", world.sent("prompt")[-1]["content"])
            again = client.chat("again", generate=False, previous_response_id=response["id"], **members)
            client.chat("on", previous_response_id=again["id"], **members)
            self.assertIn("again", world.sent("prompt")[-1]["content"])
            world.settle()

    def test_byTheCache(self) -> None:
        """
        C{prompt_cache_options.prewarm} means the same, whatever C{generate} is.
        """
        world = World(self)
        response = WorldClient(world).chat("x", generate=True, prompt_cache_options={"prewarm": True})
        self.assertEqual((response["output"], world.sent("prompt")), ([], []))
        world.settle()

    def test_errors(self) -> None:
        """
        It is judged as if it asked.
        """
        world = World(self)
        client = WorldClient(world)
        self.assertError(client.ask(None, generate=False), 400, "missing_required_parameter", "input")
        self.assertError(client.ask("x", generate="no"), 400, "invalid_type", "generate")
        event = client.ask("x", generate=False, previous_response_id="resp_none")
        self.assertError(event, 400, "previous_response_not_found", "previous_response_id")
        world.settle()


class LaneTests(SocketCase):
    """
    C{stream_id}.
    """

    def test_atTheSameTime(self) -> None:
        """
        Requests of several lanes are answered at the same time, those of one
        lane one after the other; all events say their lane.
        """
        world = World(self)
        client = WorldClient(world)
        for lane in ("planner", "planner", "research", None):
            members = {} if lane is None else {"stream_id": lane}
            client.create([plays({"say": "a"}, {"sleep": 1}, {"say": "b"})], **members)
        self.assertEqual(len(world.sent("prompt")), 3)
        world.until(lambda: client.answered == 4)
        for lane, count in (("planner", 2), ("research", 1), (None, 1)):
            kinds = client.types(lane)
            for kind in ("response.created", "response.completed"):
                self.assertEqual(kinds.count(kind), count)
        planned = [event for event in client.events if event.get("stream_id") == "planner"]
        whole = client.types("planner").index("response.completed") + 1
        for events in (planned[:whole], planned[whole:]):
            for event in events:
                del event["stream_id"]
            Grammar().check(events)
        world.settle()

    def test_fork(self) -> None:
        """
        Another lane may go on from the latest response of a lane; when it
        fails, the lane still has it.
        """
        world = World(self)
        client = WorldClient(world)
        first = client.chat("plan", store=False, stream_id="planner")
        broken = plays({"result_error": "It broke"})
        members = {"store": False, "previous_response_id": first["id"]}
        event = client.ask([broken], "script", stream_id="critic", **members)
        self.assertNotEqual(event["type"], "response.completed")
        self.assertEqual(event["stream_id"], "critic")
        fork = client.chat("gaps", store=False, stream_id="critic", previous_response_id=first["id"])
        client.chat("more", store=False, stream_id="planner", previous_response_id=first["id"])
        client.chat("worse", store=False, stream_id="critic", previous_response_id=fork["id"])
        world.settle()

    def test_errors(self) -> None:
        """
        An error says its lane, if that is one; and there is a limit.
        """
        world = World(self)
        client = WorldClient(world)
        for wrong in ("", "a b", "é", "a" * 257, 5):
            event = client.ask("x", stream_id=wrong)
            self.assertError(event, 400, "invalid_stream_id", "stream_id")
            self.assertNotIn("stream_id", event)
        for number in range(32):
            event = client.ask("x", stream_id=f"lane-{number}", previous_response_id="resp_none")
            self.assertError(event, 400, "previous_response_not_found", "previous_response_id")
            self.assertEqual(event["stream_id"], f"lane-{number}")
        event = client.ask("x", stream_id="lane-32")
        self.assertError(event, 400, "websocket_stream_limit_reached", "stream_id")
        self.assertEqual(event["stream_id"], "lane-32")
        self.assertEqual(client.chat("x", stream_id="lane-5")["status"], "completed")
        self.assertEqual(client.chat("x")["status"], "completed")
        world.settle()

    def test_mostAtOnce(self) -> None:
        """
        16 requests are answered at once; more wait until one of them is done.
        """
        world = World(self, maxTurns=32)
        client = WorldClient(world)
        for number in range(20):
            client.create([plays({"sleep": 1}, {"say": "x"})], stream_id=f"lane{number}")
        world.advance(0)
        self.assertEqual(world.front.site.openResponses, 16)
        world.until(lambda: client.answered == 20, 10)
        self.assertEqual(client.types().count("error"), 0)
        world.settle()


class RefusalTests(SocketCase):
    """
    What is no request for a response.
    """

    def test_events(self) -> None:
        """
        Errors are events, in the order of the requests, and the connection
        goes on.
        """
        world = World(self)
        client = WorldClient(world)
        for text, status, code, param in (
            ("{", 400, None, None),
            ("[]", 400, None, None),
            ("{}", 400, "unsupported_value", "type"),
            ('{"type":"response.steer"}', 400, "unsupported_value", "type"),
        ):
            client.say(text)
            self.assertError(client.last, status, code, param)
        event = client.ask("x", background=True)
        self.assertError(event, 400, "unsupported_parameter", "background")
        self.assertError(client.ask(["x"]), 400, "invalid_type", "input[0]")
        for said in (False, None):
            self.assertEqual(client.chat("x", background=said, stream=said)["status"], "completed")
        world.settle()

    def test_headers(self) -> None:
        """
        What an answer would say in headers that clients act upon stands in the
        error.
        """
        world = World(self, maxTurns=1, queueLength=0)
        client = WorldClient(world)
        client.create([plays({"sleep": 1})], stream_id="a")
        event = client.ask("x", stream_id="b")
        self.assertError(event, 429, "server_is_overloaded")
        self.assertIn("retry-after", event["error"]["headers"])
        world.until(lambda: client.answered == 2)
        world.settle()

    def test_headersOfTheHandshake(self) -> None:
        """
        A key for one request is not one for all of them.
        """
        world = World(self)
        client = WorldClient(world, "Idempotency-Key: k", "X-Stainless-Retry-Count: 0", "X-Request-Id: r")
        ids = {client.chat("same")["id"] for _ in range(2)}
        self.assertEqual((len(ids), len(world.sent("prompt"))), (2, 2))
        world.settle()


class EndTests(SocketCase):
    """
    How clients and the server leave.
    """

    def running(self, world: World, **members: Any) -> WorldClient:
        """
        A client whose answer has begun and goes on.
        """
        client = WorldClient(world)
        client.create([plays({"say": "a"}, {"sleep": 5}, {"say": "b"})], **members)
        world.until(lambda: "response.output_text.delta" in client.types())
        return client

    def test_clientLeaves(self) -> None:
        """
        K24: be it with a close, without a word, or half: its turns are
        cancelled.
        """
        leavings: Sequence[Callable[[WorldClient], None]] = (
            lambda client: client.close(1001),
            lambda client: client.wire.leave(),
            lambda client: client.wire.protocol.readConnectionLost(),  # type: ignore[attr-defined]
        )
        for leave in leavings:
            world = World(self)
            client = self.running(world)
            client.create("never", "echo")
            leave(client)
            world.advance(10)
            self.assertEqual((len(world.sent("prompt")), len(world.sent("cancel"))), (1, 1))
            self.assertEqual(world.ends, ["ok", "cl-gone"])
            self.assertEqual(world.front.site.openResponses, 0)
            world.advance(40)
            world.settle()

    def test_slowClient(self) -> None:
        """
        Who does not read is cut, and the turn is cancelled.
        """
        world = World(self)
        client = WorldClient(world, kernelSize=100_000)
        client.create([plays(*[{"say": "x" * 50_000}] * 40)])
        client.wire.kernelSize = 0
        world.flush()
        for _ in range(60):
            world.clock.advance(0.25)
            world.flush()
        self.assertEqual((client.wire.how, world.ends[1:]), ("aborted", ["cl-stuck"]))
        world.advance(40)
        world.settle()

    def test_drain(self) -> None:
        """
        P25: idle connections are closed; running answers come to their end, and what
        is asked behind them is turned away.
        """
        world = World(self)
        idle, client = WorldClient(world), self.running(world)
        client.create("waits", "echo")
        world.front.site.stopAccepting()
        idle.read()
        self.assertEqual((idle.code, client.code), (1001, None))
        client.create("late", "echo")
        idle.close(1001)
        world.until(lambda: client.answered == 3, 10)
        self.assertEqual(textOf(client.events[-3]["response"]), "ab")
        for event in client.events[-2:]:
            self.assertError(event, 503, "shutting_down")
        self.assertEqual(client.code, 1001)
        client.close(1001)
        self.assertEqual((idle.wire.how, client.wire.how), ("closed", "closed"))
        world.settle()

    def test_cut(self) -> None:
        """
        An answer that cannot come to its end is failed.
        """
        world = World(self)
        client = self.running(world)
        world.front.site.stopAccepting()
        world.front.site.cut()
        client.read()
        self.assertEqual((client.last["type"], client.code), ("response.failed", 1001))
        world.front.site.closeIdle()
        world.advance(40)
        self.assertEqual((world.ends, client.wire.how), (["ok", "drain"], "closed"))
        world.settle()

    def test_handOver(self) -> None:
        """
        When another process takes over, idle connections are closed, and others
        behind their answers.
        """
        world = World(self)
        idle, client = WorldClient(world), self.running(world)
        left = world.front.site.handOver()
        idle.read()
        self.assertEqual((idle.code, client.code), (1001, None))
        world.until(lambda: client.answered == 1, 10)
        self.assertEqual((client.last["type"], client.code), ("response.completed", 1001))
        world.advance(13)
        self.successResultOf(left)
        world.settle()


class AgeTests(SocketCase):
    """
    60 minutes.
    """

    def test_idle(self) -> None:
        """
        An error says why, and then it is closed. There was a ping every 20 s.
        """
        world = World(self)
        client = WorldClient(world)
        world.advance(3599, 10)
        client.read()
        self.assertEqual((client.code, client.pings), (None, 179))
        world.advance(1.5)
        client.read()
        self.assertError(client.last, 400, "websocket_connection_limit_reached")
        self.assertEqual(client.code, 1001)
        world.settle()

    def test_answering(self) -> None:
        """
        What runs comes to its end, and what is asked behind it is refused.
        """
        world = World(self)
        client = WorldClient(world)
        world.advance(3599, 10)
        client.create([plays({"say": "a"}, {"sleep": 5}, {"say": "b"})])
        world.advance(2)
        client.create("late", "echo")
        world.until(lambda: client.answered == 2, 10)
        self.assertEqual(client.events[-2]["type"], "response.completed")
        self.assertError(client.last, 400, "websocket_connection_limit_reached")
        self.assertEqual((client.code, len(world.sent("prompt"))), (1001, 1))
        world.settle()
