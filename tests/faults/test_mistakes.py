"""
Mistakes of our own: an exception that nobody expected, at each place that a
request passes, as its client sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.logger import LogLevel

from openai_server.api.chat import dialect as chatDialect
from openai_server.api.chat.render import ChatRenderer
from openai_server.api.responses import dialect as responsesDialect
from openai_server.api.responses.render import ResponsesRenderer
from openai_server.daemon.link import Link
from openai_server.daemon.registration import Registration
from openai_server.daemon.router import Router
from openai_server.log import lineFromEvent
from openai_server.sessions.calls import CallTable
from openai_server.sessions.conversation import Conversation
from openai_server.sessions.memory import SessionMemory
from openai_server.sessions.scheduler import Scheduler, SharedWorkers
from openai_server.translate.output import Translation
from openai_server.web import completion, headers, keeper, results, submission, turnstart
from openai_server.web.admission import Admission
from openai_server.web.attachments import AttachmentFolder
from openai_server.web.delivery import Delivery
from openai_server.web.mistakes import Bug
from openai_server.web.request import APIRequest
from openai_server.web.response import Response
from openai_server.web.sendqueue import SendQueue
from tests.dialects import CHAT, RESPONSES, inBothAPIs
from tests.faults.support import FaultCase, asked, tool
from tests.world import Client, World

IMAGE = "data:image/gif;base64,R0lGODlhAQABAAAAACw="


class Mistake(Exception):
    """
    What nobody expected.
    """


TEXT = "SECRET words of somebody"


@dataclass(frozen=True)
class Place:
    """
    A function in which something goes wrong.

    @ivar owner: the class or module that it is looked up in.
    """

    owner: Any
    name: str

    def __str__(self) -> str:
        return f"{self.owner.__name__}.{self.name}"


#: By what an API is called: where its bodies are read, what writes its answers,
#: and what in that writes an end and a call.
OWN: dict[str, tuple[Any, Any, str, str]] = {
    CHAT.path: (chatDialect, ChatRenderer, "_end", "_call"),
    RESPONSES.path: (responsesDialect, ResponsesRenderer, "_ended", "_whole"),
}

#: Before a prompt is sent, in any API.
BEFORE_ASKING = [
    Place(Admission, "admit"),
    Place(headers, "hintsFrom"),
    Place(submission, "offerFrom"),
    Place(submission, "contextFrom"),
    Place(turnstart, "matchFromTranscript"),
    Place(SessionMemory, "claim"),
    Place(submission, "textFromInquiry"),
    Place(AttachmentFolder, "write"),
    Place(SharedWorkers, "current"),
    Place(Scheduler, "acquire"),
    Place(submission, "Conversation"),
    Place(submission, "promptFrom"),
    Place(keeper, "Translation"),
    Place(keeper, "Response"),
    Place(Link, "newRid"),
    Place(Link, "ask"),
    Place(Registration, "concerns"),
]

#: After it, and before the first byte of the answer.
BEFORE_BYTES = [
    Place(completion, "keepAliveInterval"),
    Place(Response, "attach"),
    Place(Response, "turnEchoed"),
    Place(Response, "tonesReceived"),
    Place(Conversation, "tonesReceived"),
    Place(Translation, "feed"),
    Place(Delivery, "give"),
    Place(APIRequest, "begin"),
]

#: When some of the answer has been sent.
AFTER_BYTES = [
    Place(Conversation, "tonesReceived"),
    Place(Response, "tonesReceived"),
    Place(Translation, "feed"),
    Place(Delivery, "give"),
    Place(APIRequest, "write"),
    Place(SendQueue, "send"),
]

#: At the end of an answer.
AT_THE_END = [
    Place(Response, "turnEnded"),
    Place(Translation, "finish"),
]


class MistakeCase(FaultCase):
    """
    Puts an exception somewhere, and looks at what is left of it.
    """

    def own(self, *names: str) -> list[Place]:
        """
        Places that are the API's own, in what writes its answers.
        """
        return [Place(OWN[self.api.path][1], name) for name in names]

    def breakAt(self, place: Place) -> Callable[[], None]:
        """
        Let the next call raise, and no other.

        @return: puts everything right.
        """
        original = getattr(place.owner, place.name)
        calls: list[Any] = []

        def broken(*args: Any, **kwargs: Any) -> Any:
            calls.append(args)
            if len(calls) == 1:
                raise Mistake(TEXT)
            return original(*args, **kwargs)

        return self.patch(place.owner, place.name, broken).restore

    def assertLogged(self, world: World, places: int = 1) -> None:
        """
        One traceback is logged, in a line that says nothing of the exception
        but its class, and which request it was where that is known.
        """
        failures = [event for event in world.logged if "log_failure" in event]
        self.assertEqual(len(failures), places, [event["log_format"] for event in failures])
        for event in failures:
            self.assertEqual(event["log_level"], LogLevel.critical)
            self.assertIn("broken", lineFromEvent(event))
        self.assertNotIn("SECRET", "".join(map(lineFromEvent, world.logged)))
        self.flushLoggedErrors(Mistake, Bug)

    def assertMistake(self, client: Client) -> None:
        """
        The client is told that it was not its fault, and nothing else.
        """
        self.assertRefused(client, 500, "internal_error", mayRetry=False)
        self.assertEqual(client.error["type"], "server_error")
        self.assertTrue(client.header("x-request-id"))
        self.assertNotIn(b"SECRET", client.wire.received)

    def assertOthersServed(self, world: World) -> None:
        """
        The next request is answered, on the same connection to the daemon, and
        nothing is left of the one that failed.
        """
        client = world.ask("hello", model="echo", stream=True)
        world.advance(1)
        self.assertAnswered(client, "hello")
        self.assertEqual(len(world.endpoint.pumps), 1)
        world.advance(3)
        world.settle()

    def question(self, world: World, stream: bool) -> Client:
        """
        Ask a question that passes every place.
        """
        content = [
            {"type": "image_url", "image_url": {"url": IMAGE}},
            {"type": "text", "text": '#script [{"say": "half"}, {"sleep": 1.0}, {"say": " done"}]'},
        ]
        options = {"stream_options": {"include_usage": True}} if stream else {}
        return world.ask([{"role": "user", "content": content}], stream=stream, **options)


@inBothAPIs
class BeforeBytesTests(MistakeCase):
    """
    Nothing of the answer has been sent.
    """

    def test_beforeAsking(self) -> None:
        """
        500, and the daemon never hears of it (P8).
        """
        dialect, renderer, *_ = OWN[self.api.path]
        reading = [Place(dialect, "inquiryFromBody"), Place(dialect, renderer.__name__)]
        for place in [*BEFORE_ASKING, *reading]:
            for stream in (True, False):
                with self.subTest(place=str(place), stream=stream):
                    world = World(self)
                    mend = self.breakAt(place)
                    client = self.question(world, stream)
                    world.advance(0.5)
                    mend()
                    self.assertMistake(client)
                    self.assertEqual(world.ends, ["bug"])
                    self.assertLogged(world)
                    if "Sink" not in place.name:
                        self.assertEqual(world.sent("prompt"), [])
                    self.assertOthersServed(world)

    def test_beforeTheFirstByte(self) -> None:
        """
        500, and the turn is cancelled, once (P8, P10).
        """
        for place in [*BEFORE_BYTES, *self.own("start")]:
            with self.subTest(place=str(place)):
                world = World(self)
                mend = self.breakAt(place)
                client = self.question(world, True)
                world.advance(0.5)
                mend()
                self.assertMistake(client)
                self.assertEqual(world.ends, ["bug"])
                self.assertLogged(world)
                self.assertEqual(len(world.sent("cancel")), 1)
                self.assertOthersServed(world)

    def test_wholeAnswer(self) -> None:
        """
        So it is with a body, wherever it goes wrong until it is made (P8, P10).
        """
        early = [Place(Response, "attach"), Place(Response, "turnEchoed")]
        always = [
            Place(Conversation, "tonesReceived"),
            Place(Response, "tonesReceived"),
            Place(Translation, "feed"),
            Place(Delivery, "give"),
            Place(Response, "turnEnded"),
            Place(Translation, "finish"),
            *self.own("body"),
        ]
        for place, isLate in [
            *((each, False) for each in early + always),
            *((each, True) for each in always),
        ]:
            with self.subTest(place=str(place), isLate=isLate):
                world = World(self)
                if isLate:
                    client = self.question(world, False)
                    world.advance(0.5)
                mend = self.breakAt(place)
                if not isLate:
                    client = self.question(world, False)
                world.advance(2)
                mend()
                self.assertMistake(client)
                self.assertEqual(world.ends, ["bug"])
                self.assertLogged(world)
                self.assertOthersServed(world)


@inBothAPIs
class AfterBytesTests(MistakeCase):
    """
    Some of the answer has been sent.
    """

    def test_inMidStream(self) -> None:
        """
        An error event, and the connection is closed without the last chunk; no
        JSON body in the stream; the turn is cancelled (P9).
        """
        for place in AFTER_BYTES:
            with self.subTest(place=str(place)):
                world = World(self)
                client = self.question(world, True)
                world.until(lambda: client.text == "half")  # noqa: B023 - called at once
                mend = self.breakAt(place)
                world.advance(2)
                mend()
                self.assertCut(client, "internal_error", client.text)
                self.assertTrue("half done".startswith(client.text))
                self.assertEqual(client.wire.received.count(b"HTTP/1.1"), 1)
                self.assertNotIn(b"SECRET", client.wire.received)
                self.assertEqual(world.ends, ["bug"])
                self.assertLogged(world)
                self.assertEqual(len(world.sent("cancel")), 1)
                # What was to be written then is missing in the stream.
                client.isAsking = place.owner not in (APIRequest, SendQueue)
                self.assertOthersServed(world)

    def test_atTheEnd(self) -> None:
        """
        A stream whose end goes wrong does not look complete (P9).
        """
        for place in [*AT_THE_END, *self.own(OWN[self.api.path][2])]:
            with self.subTest(place=str(place)):
                world = World(self)
                mend = self.breakAt(place)
                client = self.question(world, True)
                world.advance(3)
                mend()
                self.assertCut(client, "internal_error", client.text)
                self.assertEqual(world.ends, ["bug"])
                self.assertNotIn(b"SECRET", client.wire.received)
                self.assertLogged(world)
                self.assertOthersServed(world)

    def test_afterTheEnd(self) -> None:
        """
        A mistake when all has been given costs the client nothing, and its
        session is given back.
        """
        for stream in (True, False):
            world = World(self)
            mend = self.breakAt(Place(SessionMemory, "answered"))
            headers = {"x-hum-session": "somebody"}
            client = world.ask("one", stream=stream, headers=headers)
            world.advance(1)
            mend()
            self.assertAnswered(client, "one")
            self.assertEqual(world.ends, ["ok"])
            self.assertLogged(world)
            following = world.ask("two", stream=stream, headers=headers)
            world.advance(1)
            self.assertAnswered(following, "two")
            world.settle()


@inBothAPIs
class CallTests(MistakeCase):
    """
    In the midst of tool calls.
    """

    def test_handingOut(self) -> None:
        """
        A mistake with a call of the model's ends its answer, and the model is
        not left waiting (P8, P10).
        """
        for place in [
            Place(CallTable, "opened"),
            Place(CallTable, "shown"),
            Place(Response, "calledTools"),
            Place(keeper.ResponseKeeper, "callFrom"),
            *self.own(OWN[self.api.path][3]),
        ]:
            with self.subTest(place=str(place)):
                world = World(self)
                mend = self.breakAt(place)
                client = world.ask([asked({"tool": "look"})], tools=[tool()], stream=True)
                world.advance(1)
                mend()
                if client.isStream:
                    self.assertCut(client, "internal_error", "")
                else:
                    self.assertMistake(client)
                self.assertEqual(world.ends, ["bug"])
                self.assertLogged(world)
                (result,) = world.sent("tool-result")
                self.assertTrue(result["isError"])
                self.assertOthersServed(world)

    def test_givingResults(self) -> None:
        """
        A mistake with a result fails that request alone (P8).
        """
        for place in [
            Place(Conversation, "resume"),
            Place(results, "resultsAndMoreFrom"),
            Place(Response, "turnEchoed"),
            Place(Response, "attach"),
        ]:
            with self.subTest(place=str(place)):
                world = World(self)
                messages: list[Any] = [asked({"tool": "look"})]
                first = world.ask(messages, tools=[tool()])
                world.advance(1)
                (call,) = first.calls
                mend = self.breakAt(place)
                result = {"role": "tool", "tool_call_id": call["id"], "content": "seen"}
                second = world.ask([*messages, first.message, result], tools=[tool()])
                world.advance(1)
                mend()
                self.assertMistake(second)
                self.assertEqual(world.ends, ["ok", "bug"])
                self.assertLogged(world)
                world.advance(60)
                self.assertOthersServed(world)


@inBothAPIs
class OneToneTests(MistakeCase):
    """
    A mistake in the handling of one tone (P10).
    """

    def test_onlyItsTurnFails(self) -> None:
        """
        Others that share the same read go on to their end (P10).
        """
        world = World(self)
        feed = Translation.feed

        def broken(translation: Translation, tones: Any) -> Any:
            if any(getattr(tone, "delta", None) == "POISON" for tone in tones):
                raise Mistake(TEXT)
            return feed(translation, tones)

        self.patch(Translation, "feed", broken)
        steps = ({"say": "half"}, {"sleep": 1.0}, {"say": " done"})
        clients = [world.script(*steps, stream=True) for _ in range(3)]
        poison = ({"say": "half"}, {"sleep": 1.0}, {"say": "POISON", "parts": 1}, {"say": "?"})
        poisoned = world.script(*poison, stream=True)
        clients += [world.script(*steps, stream=True) for _ in range(3)]
        world.advance(2)
        for client in clients:
            self.assertAnswered(client, "half done")
        self.assertCut(poisoned, "internal_error", "half")
        self.assertEqual(sorted(world.ends), ["bug"] + ["ok"] * 6)
        self.assertLogged(world)
        self.assertOthersServed(world)

    def test_beforeItIsKnownWhose(self) -> None:
        """
        The connection stays, and what the reads after it bring is heard (P10).
        """
        world = World(self)
        self.breakAt(Place(Router, "tonesReceived"))
        client = world.ask("hello there", model="echo", stream=True)
        world.advance(1)
        # That read had the echo alone.
        self.assertAnswered(client, "hello there")
        self.assertLogged(world)
        self.assertOthersServed(world)
