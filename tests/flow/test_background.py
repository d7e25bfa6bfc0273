"""
Responses that nobody has to read: in the background, left by their clients, and
read again from where a stream was cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openai_server.api import ids
from openai_server.api.responses.dialect import ResponsesDialect
from openai_server.web import response
from tests.api.responses.grammar import Grammar, checkResponse, eventsFrom
from tests.flow.test_kept import KeptCase
from tests.flow.test_responses import LOOK, plays, responseOf, result, says, textOf
from tests.world import Client, World

Step = Mapping[str, Any]

SLOW: tuple[Step, ...] = ({"say": "some "}, {"sleep": 20}, {"say": "more"})


def idOf(client: Client) -> str:
    """
    The id of a response whose stream has begun.
    """
    return client.content.partition(b'"id":"')[2].partition(b'"')[0].decode()


def framesOf(client: Client) -> list[bytes]:
    """
    The events of a stream, without its signs of life.
    """
    frames = client.content.removesuffix(b"\n\n").split(b"\n\n")
    return [frame for frame in frames if b'"keepalive"' not in frame]


class BackgroundTests(KeptCase):
    """
    C{background: true}.
    """

    def begin(self, world: World, *steps: Step, **fields: Any) -> str:
        """
        Begin a response.

        @return: its id.
        """
        client = self.post(world, plays(*steps), background=True, **fields)
        self.assertEqual((client.status, client.isComplete), (200, True), client.content)
        checkResponse(client.json)
        self.assertEqual((client.json["status"], client.json["background"]), ("queued", True))
        self.assertEqual((client.json["output"], client.json["usage"]), ([], None))
        id: str = client.json["id"]
        return id

    def test_polled(self) -> None:
        """
        It is answered at once and goes on, and can be asked for all the time.
        """
        world = World(self)
        id = self.begin(world, *SLOW)
        world.advance(1)
        found = self.stored(world, id)
        self.assertEqual(
            (found["status"], found["output"][0]["content"][0]["text"]), ("in_progress", "some ")
        )
        world.advance(30)
        found = self.stored(world, id)
        self.assertEqual(
            (found["status"], found["output"][0]["content"][0]["text"]), ("completed", "some more")
        )
        self.assertEqual((world.sent("cancel"), world.ends[0]), ([], "ok"))
        follower = self.ask(world, says("and?"), model="script", previous_response_id=id)
        self.assertEqual(responseOf(follower)["status"], "completed")
        world.settle()

    def test_waiting(self) -> None:
        """
        Behind another turn it is queued; whoever streams it waits with it.
        """
        world = World(self, maxTurns=1)
        first = self.begin(world, *SLOW)
        second = self.begin(world, {"say": "second"})
        world.advance(1)
        self.assertEqual(
            [self.stored(world, id)["status"] for id in (first, second)], ["in_progress", "queued"]
        )
        stream = self.call(world, "GET", f"{second}?stream=true")
        whole = self.post(world, plays({"say": "third"}), background=True, stream=True)
        world.advance(30)
        self.assertEqual([textOf(client) for client in (stream, whole)], ["second", "third"])
        kinds = [event["type"] for event in eventsFrom(whole.content)]
        self.assertEqual(kinds[:3], ["response.created", "response.queued", "response.in_progress"])
        world.settle()

    def test_streamThatIsLeft(self) -> None:
        """
        It goes on, and another stream of it has all of it.
        """
        world = World(self)
        client = self.post(world, plays(*SLOW), background=True, stream=True)
        world.advance(1)
        id = idOf(client)
        client.leave()
        world.advance(5)
        stream = self.call(world, "GET", f"{id}?stream=true")
        world.advance(30)
        self.assertEqual((textOf(stream), world.sent("cancel")), ("some more", []))
        self.assertEqual(responseOf(stream), self.stored(world, id))
        world.settle()

    def test_cancelled(self) -> None:
        """
        While it runs, and while it waits, whoever streams it is told.
        """
        world = World(self, maxTurns=1)
        first = self.begin(world, *SLOW)
        second = self.begin(world, {"say": "second"})
        world.advance(1)
        stream = self.call(world, "GET", f"{first}?stream=true")
        waiting = self.call(world, "GET", f"{second}?stream=true")
        for id in (second, first):
            client = self.call(world, "POST", f"{id}/cancel")
            self.assertEqual(client.json["status"], "cancelled")
            self.assertEqual(self.stored(world, id), client.json)
        self.assertEqual((len(world.sent("cancel")), len(world.sent("prompt"))), (1, 1))
        stream.wire.read()
        self.assertEqual(responseOf(stream)["error"]["message"], "The response was cancelled.")
        waiting.wire.read()
        self.assertRefused(waiting, 502, "worker_error")
        self.assertEqual(self.stored(world, first)["usage"]["output_tokens"], 2)
        world.advance(60)
        world.settle()

    def test_deleted(self) -> None:
        """
        Nobody could ever read it: its turn is cancelled, or never asked.
        """
        world = World(self, maxTurns=1)
        for id in (self.begin(world, *SLOW), self.begin(world, {"say": "second"})):
            world.advance(1)
            self.assertEqual(self.call(world, "DELETE", id).status, 200)
            self.assertGone(self.call(world, "GET", id))
        self.assertEqual((len(world.sent("cancel")), len(world.sent("prompt"))), (1, 1))
        world.advance(60)
        world.settle()

    def test_failures(self) -> None:
        """
        What is wrong at once has a status, and nothing is kept; what goes
        wrong later is the response's.
        """
        world = World(self, maxTurns=1, queueTimeout=5)
        client = self.post(world, says("x"), background=True, headers={"x-hum-cwd": "/etc"})
        self.assertRefused(client, 403, "cwd_not_allowed")
        client = self.post(world, says("x"), background=True, store=False)
        self.assertRefused(client, 400, "invalid_value")
        self.assertEqual(client.error["param"], "background")
        first = self.begin(world, {"say": "a"}, {"sleep": 9}, {"result_error": "It broke"})
        second = self.begin(world, {"say": "b"})
        world.advance(20)
        found = self.stored(world, first)
        self.assertEqual((found["status"], found["error"]["code"]), ("failed", "server_error"))
        self.assertEqual(found["usage"]["output_tokens"], 1)
        found = self.stored(world, second)
        self.assertEqual((found["status"], found["output"]), ("failed", []))
        self.assertIn(found["error"]["code"], ("rate_limit_exceeded", "server_error"))
        stream = self.call(world, "GET", f"{second}?stream=true")
        self.assertEqual(responseOf(stream), found)
        world.settle()

    def test_noDaemon(self) -> None:
        """
        It is refused as others are.
        """
        world = World(self)
        self.successResultOf(world.daemon.stop())
        world.advance(1)
        client = self.post(world, says("x"), background=True)
        self.assertRefused(client, 503, "daemon_unavailable")
        self.assertEqual(world.sent("prompt"), [])

    def test_mistakeOfOurs(self) -> None:
        """
        It is logged, and the response has failed.
        """
        world = World(self, maxTurns=1)
        first = self.begin(world, *SLOW)
        second = self.begin(world, {"say": "second"})

        def begin(*args: Any) -> Any:
            raise RuntimeError("no")

        self.patch(type(world.front.submitter), "_begin", begin)
        world.advance(30)
        self.assertEqual(self.stored(world, first)["status"], "completed")
        self.assertEqual(self.stored(world, second)["error"]["code"], "server_error")
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        world.settle()

    def test_retry(self) -> None:
        """
        The same question again is told of the same response.
        """
        world = World(self)
        fields = {"background": True, "headers": {"idempotency-key": "k"}}
        steps = plays(*SLOW)
        ids = {self.post(world, steps, **fields).json["id"] for _ in range(2)}
        world.advance(30)
        again = self.post(world, steps, **fields).json
        self.assertEqual((ids, again["status"]), ({again["id"]}, "completed"))
        self.assertEqual(len(world.sent("prompt")), 1)
        world.settle()

    def test_calls(self) -> None:
        """
        It ends with them, and their results go on with its turn.
        """
        world = World(self)
        id = self.begin(world, {"tool": "look", "args": {}, "saying": "seen {result}"}, tools=[LOOK])
        world.advance(2)
        (call,) = self.stored(world, id)["output"]
        client = self.ask(world, result(call, "it"), previous_response_id=id, background=True)
        world.advance(2)
        found = self.stored(world, client.json["id"])
        self.assertEqual(found["output"][0]["content"][0]["text"], "seen it")
        self.assertEqual(len(world.sent("prompt")), 1)
        world.settle()

    def test_shutdown(self) -> None:
        """
        It is waited for as if somebody read it; then it is cut, and what
        waits is turned away.
        """
        world = World(self, maxTurns=1)
        first = self.begin(world, *SLOW)
        second = self.begin(world, {"say": "second"})
        world.advance(1)
        site = world.front.site
        site.stopAccepting()
        idle = site.whenIdle()
        world.advance(5)
        self.assertNoResult(idle)
        world.advance(30)
        self.successResultOf(idle)
        store = world.front.kept.store
        found = {id: self.successResultOf(store.get("anonymous", id)) for id in (first, second)}
        answerOf = ResponsesDialect().answerOf
        self.assertIn(b'"status":"completed"', answerOf(found[first] or b""))
        self.assertIn(b'"status":"failed"', answerOf(found[second] or b""))
        world.settle()

    def test_shutdownThatCannotWait(self) -> None:
        """
        The turn is cancelled, and the response has failed.
        """
        world = World(self)
        id = self.begin(world, *SLOW)
        world.advance(1)
        site = world.front.site
        site.stopAccepting()
        site.cut()
        self.successResultOf(site.whenIdle())
        world.advance(0)
        record = self.successResultOf(world.front.kept.store.get("anonymous", id))
        self.assertIn(b"shutting down", ResponsesDialect().answerOf(record or b""))
        self.assertEqual(len(world.sent("cancel")), 1)
        world.advance(30)
        world.settle()


class LeftTests(KeptCase):
    """
    Responses whose clients have left.
    """

    def left(self, world: World, *steps: Step, **fields: Any) -> str:
        """
        Begin a stream, and leave it after a second.

        @return: the response's id.
        """
        client = self.post(world, plays(*steps), stream=True, **fields)
        world.advance(1)
        client.leave()
        return idOf(client)

    def test_stillReadable(self) -> None:
        """
        K21: the worker is asked to stop, once the time for a retry has passed; what
        it says all the same is kept.
        """
        world = World(self)
        id = self.left(world, *SLOW)
        world.advance(1.5)
        self.assertEqual(world.sent("cancel"), [])
        world.advance(1)
        self.assertEqual(len(world.sent("cancel")), 1)
        self.assertEqual(self.stored(world, id)["status"], "in_progress")
        stream = self.call(world, "GET", f"{id}?stream=true")
        world.advance(30)
        self.assertEqual(textOf(stream), "some more")
        self.assertEqual(self.stored(world, id), responseOf(stream))
        self.assertEqual(len(world.sent("cancel")), 1)
        world.settle()

    def test_attachedInTime(self) -> None:
        """
        Then nothing is cancelled, until that one leaves as well.
        """
        world = World(self)
        id = self.left(world, *SLOW)
        world.advance(1)
        stream = self.call(world, "GET", f"{id}?stream=true&starting_after=4")
        world.advance(5)
        self.assertEqual(world.sent("cancel"), [])
        stream.leave()
        world.advance(3)
        self.assertEqual(len(world.sent("cancel")), 1)
        world.advance(30)
        self.assertEqual(self.stored(world, id)["status"], "completed")
        world.settle()

    def test_sessionIsNotBlocked(self) -> None:
        """
        Whoever asks on is not kept waiting by what nobody reads.
        """
        world = World(self)
        first = responseOf(self.ask(world, plays({"say": "one"})))["id"]
        self.left(world, *SLOW, previous_response_id=first)
        world.advance(3)
        client = self.ask(world, plays({"say": "two"}), previous_response_id=first)
        self.assertEqual(textOf(client), "two")
        world.advance(30)
        world.settle()

    def test_workerThatStops(self) -> None:
        """
        A worker that obeys makes the response a cancelled one.
        """
        world = World(self)
        id = self.left(
            world, {"say": "some"}, {"sleep": 6}, {"raw": {"chi": "finish", "finishReason": "cancelled"}}
        )
        world.advance(10)
        self.assertEqual(self.stored(world, id)["status"], "cancelled")
        world.settle()

    def test_daemonThatIsLost(self) -> None:
        """
        The response has failed: nobody knows what became of it.
        """
        world = World(self)
        id = self.left(world, *SLOW)
        self.successResultOf(world.daemon.stop())
        world.advance(4)
        found = self.stored(world, id)
        self.assertEqual((found["status"], found["output"][0]["content"][0]["text"]), ("failed", "some "))

    def test_notKept(self) -> None:
        """
        Where it could not be read, its turn is cancelled at once.
        """
        world = World(self)
        self.left(world, *SLOW, store=False)
        world.advance(0.5)
        self.assertEqual(len(world.sent("cancel")), 1)
        world.advance(30)
        world.settle()

    def test_finish(self) -> None:
        """
        K23: C{onDisconnect: finish} lets any turn end in peace.
        """
        world = World(self, onDisconnect="finish")
        kept = self.left(world, *SLOW)
        self.left(world, *SLOW, store=False)
        chat = world.script(*SLOW, stream=True)
        world.advance(1)
        chat.leave()
        self.assertNoResult(idle := world.front.site.whenIdle())
        world.advance(30)
        self.successResultOf(idle)
        self.assertEqual((world.sent("cancel"), self.stored(world, kept)["status"]), ([], "completed"))
        world.settle()

    def test_chatUnderAKey(self) -> None:
        """
        A streamed chat that comes again under its key is given all of it, from
        the beginning, though it was cut in the middle.
        """
        world = World(self)
        key = {"idempotency-key": "k"}
        first = world.script(*SLOW, stream=True, headers=key)
        world.advance(1)
        first.leave()
        world.advance(5)
        second = world.script(*SLOW, stream=True, headers=key)
        world.advance(30)
        self.assertEqual((second.text, second.finishReason), ("some more", "stop"))
        self.assertEqual(len(world.sent("prompt")), 1)
        world.settle()


class ResumedTests(KeptCase):
    """
    C{GET} with C{stream=true}.
    """

    known = f"resp_{'0' * 32}"

    def knowIds(self) -> None:
        """
        Let the next response have the id L{known}.
        """
        self.patch(ids, "token_hex", lambda size: "0" * 2 * size)
        self.patch(ids, "_seconds", lambda: "0" * 8)

    def test_everyCut(self) -> None:
        """
        K22: a stream that is cut at any event and resumed has just the events of
        one that is not: while it runs, and when it is over.
        """
        world = World(self, workerTools=True)
        steps: tuple[Step, ...] = (
            {"think": "hm"},
            {"say": "some "},
            {"say": "words "},
            {"sleep": 20},
            {"say": "more"},
            {"tool": "look", "args": {"a": 1}},
        )
        client = self.post(world, plays(*steps), stream=True, reasoning={"summary": "auto"}, tools=[LOOK])
        world.advance(1)
        id = idOf(client)
        running = [
            self.call(world, "GET", f"{id}?stream=true" + (f"&starting_after={n}" if n >= 0 else ""))
            for n in range(-1, 60)
        ]
        world.advance(30)
        Grammar().check(eventsFrom(client.content))
        frames = framesOf(client)
        self.assertGreater(len(frames), 20)
        for n, live in zip(range(-1, 60), running, strict=True):
            rest = frames[min(n + 1, len(frames) - 1) :]
            self.assertEqual((framesOf(live), live.isComplete), (rest, True), n)
            late = self.call(
                world, "GET", id + (f"?stream=true&starting_after={n}" if n >= 0 else "?stream=true")
            )
            self.assertEqual(framesOf(late), rest, n)
        world.advance(60)
        world.settle()

    def test_wholeAnswer(self) -> None:
        """
        One that nobody streams can be streamed meanwhile.
        """
        self.knowIds()
        world = World(self)
        client = self.post(world, plays(*SLOW), headers={"x-stainless-retry-count": "0"})
        world.advance(1)
        stream = self.call(world, "GET", f"{self.known}?stream=true")
        self.assertIn(b"response.in_progress", stream.content)
        world.advance(30)
        self.assertEqual((textOf(stream), textOf(client)), ("some more", "some more"))
        self.assertEqual(responseOf(stream), responseOf(client))
        world.settle()

    def test_cancelledWholeAnswer(self) -> None:
        """
        Its client is told what there was until then.
        """
        self.knowIds()
        world = World(self)
        client = self.post(world, plays(*SLOW))
        world.advance(1)
        cancelled = self.call(world, "POST", f"{self.known}/cancel").json
        client.wire.read()
        self.assertEqual((responseOf(client), cancelled["status"]), (cancelled, "cancelled"))
        world.advance(30)
        world.settle()

    def test_refusals(self) -> None:
        """
        What is not there, and what is no number.
        """
        world = World(self)
        id = responseOf(self.ask(world, says("x"), model="echo"))["id"]
        self.assertGone(self.call(world, "GET", "resp_x?stream=true"))
        for query, param in (
            ("stream=yes", "stream"),
            ("stream=true&starting_after=-1", "starting_after"),
            ("stream=true&starting_after=x", "starting_after"),
        ):
            client = self.call(world, "GET", f"{id}?{query}")
            self.assertRefused(client, 400, "invalid_value")
            self.assertEqual(client.error["param"], param)
        world.settle()

    def test_tooLong(self) -> None:
        """
        What has become too long to be kept cannot be given from its beginning.
        """
        self.patch(response, "WHOLE_LIMIT", 6)
        world = World(self)
        steps = plays({"say": "so"}, {"sleep": 1}, {"say": "mewhat"}, {"sleep": 5})
        client = self.post(world, steps, stream=True)
        world.advance(3)
        again = self.call(world, "GET", f"{idOf(client)}?stream=true")
        self.assertRefused(again, 502, "worker_error")
        world.advance(6)
        self.assertEqual(textOf(client), "somewhat")
        self.assertGone(self.call(world, "GET", idOf(client)))
        world.settle()
