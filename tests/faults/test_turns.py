"""
Faults of a turn at the daemon, its worker or its model, as clients see them.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

from openai_server.daemon.waitlimits import WaitLimits
from tests.dialects import inBothAPIs
from tests.faults.support import FaultCase, asked, chunk, finish, toneOf, tool
from tests.world import Client, World

FAMILY = "\U0001f469\U0001f3fd\u200d\U0001f469\u200d\U0001f467"
COMBINING = "e\u0301 \u1112\u1161\u11ab \u0e01\u0e33 \u05e9\u05c1"


def sids(world: World) -> list[str]:
    """
    The sid of each prompt so far.
    """
    return [tone["sid"] for tone in world.sent("prompt")]


def given(world: World) -> list[str]:
    """
    The ids of the calls whose results were given to a model so far.
    """
    return [tone["callId"] for tone in world.sent("tool-result") if not tone["isError"]]


@inBothAPIs
class NoWorkerTests(FaultCase):
    """
    Nobody serves the model (U1).
    """

    def test_unknownModel(self) -> None:
        """
        A model that nobody ever served is 404, at once, streamed or not (U1).
        """
        world = World(self)
        for stream in (True, False):
            client = world.ask("hello", model="nobody's", stream=stream)
            world.advance(0.1)
            self.assertRefused(client, 404, "model_not_found")
            self.assertEqual((client.error["param"], world.ends[-1]), ("model", "up-nowork"))
        self.assertEqual(len(world.sent("prompt")), 2)
        world.settle()

    def test_knownModel(self) -> None:
        """
        One that a worker served before, and one of the settings, are 503: they
        may come back (U1).
        """
        world = World(self, models=("configured",))
        world.daemon.killWorkers()
        world.advance(1)
        for model in ("echo", "configured"):
            for stream in (True, False):
                client = world.ask("hello", model=model, stream=stream)
                world.advance(0.1)
                self.assertRefused(client, 503, "model_unavailable", retryAfter="5")
                self.assertEqual(world.ends[-1], "up-nowork")
        world.daemon.addWorker("echo")
        client = world.ask("hello", model="echo")
        world.advance(1)
        self.assertAnswered(client, "hello")
        world.settle()

    def test_notYet(self) -> None:
        """
        Soon after a daemon's start its workers are still on their way: the
        request is answered when they are there, and asked no sooner (U1).
        """
        world = World(self)
        world.daemon.restart()
        world.advance(0.5)
        streamed = world.ask("hello", model="echo", stream=True)
        whole = world.ask("hello", model="echo")
        world.advance(0.25)
        self.assertEqual((streamed.status, whole.status), (None, None))
        self.assertEqual(len(sids(world)), 2)
        world.advance(2)
        self.assertAnswered(streamed, "hello")
        self.assertAnswered(whole, "hello")
        self.assertEqual((len(sids(world)), len(set(sids(world)))), (4, 2))
        world.settle()

    def test_notEver(self) -> None:
        """
        The waiting ends 5 s after the connection; later nobody waits (U1).
        """
        world = World(self)
        world.daemon.killWorkers()
        world.daemon.restart()
        world.advance(0.5)
        client = world.ask("hello", model="nobody's")
        world.advance(4)
        self.assertIsNone(client.status)
        world.advance(1)
        self.assertRefused(client, 404, "model_not_found")
        client = world.ask("hello", model="echo")
        world.advance(0.1)
        self.assertRefused(client, 503, "model_unavailable", retryAfter="5")
        world.settle()

    def test_workerThatTheRegistryDoesNotName(self) -> None:
        """
        The daemon is asked even for a model that is in no registry (U1).
        """
        world = World(self)
        assert world.daemon.registryPath is not None
        world.daemon.registryPath.write_text("{}")
        world.advance(1)
        client = world.ask("hello", model="echo")
        world.advance(1)
        self.assertAnswered(client, "hello")
        world.settle()


@inBothAPIs
class SilenceTests(FaultCase):
    """
    Nothing more comes.
    """

    def test_vanishedPrompt(self) -> None:
        """
        The prompt is echoed and never heard of again. A stream begins after
        10 s and is kept warm; after 370 s both it and a whole answer fail, and
        the turn is cancelled once (U2).
        """
        world = World(self)
        stream = world.ask("hello", model="silence", stream=True)
        whole = world.ask("hello", model="silence")
        world.advance(9.75)
        self.assertIsNone(stream.status)
        world.advance(360)
        self.assertEqual((stream.status, stream.text, whole.status), (200, "", None))
        self.assertGreater(len(stream.events), 20)
        world.advance(1)
        self.assertCut(stream, "upstream_timeout", "")
        self.assertRefused(whole, 504, "upstream_timeout", mayRetry=False)
        self.assertEqual(world.ends, ["up-stall"] * 2)
        self.assertEqual([tone["sid"] for tone in world.sent("cancel")], sids(world))
        self.assertEqual(world.link.turnCount, 2)
        world.advance(601, 5)
        world.settle()

    def test_shorterSetting(self) -> None:
        """
        The time for a first sign of life is a setting (U2).
        """
        world = World(self, timeouts=WaitLimits(firstLife=20, drain=5))
        client = world.ask("hello", model="silence")
        world.advance(19.75)
        self.assertIsNone(client.status)
        world.advance(0.5)
        self.assertRefused(client, 504, "upstream_timeout", mayRetry=False)
        world.advance(5)
        world.settle()

    def test_slowStart(self) -> None:
        """
        A process that takes minutes to start is waited for (U2).
        """
        world = World(self, daemonSettings={"startUp": 355.0})
        stream = world.ask("hello", model="echo", stream=True)
        whole = world.ask("hello", model="echo")
        world.advance(357, 1)
        self.assertAnswered(stream, "hello")
        self.assertAnswered(whole, "hello")
        world.settle()

    def test_inMidAnswer(self) -> None:
        """
        A worker that falls silent is given 900 s, which any tone begins anew
        (U3).
        """
        world = World(self)
        self.half(world, {"sleep": 800.0}, {"raw": {"chi": "chunk"}}, {"silence": 1})
        world.advance(1690, 5)
        self.assertEqual(world.ends, [])
        self.assertLost(world, "upstream_timeout", status=504, end="up-stall", seconds=12)
        self.assertEqual(len(world.sent("cancel")), 2)
        world.advance(601, 5)
        world.settle()

    def test_endlessTurn(self) -> None:
        """
        A turn that goes on and on ends after 3600 s, as an error (U4).
        """
        world = World(self)
        steps = [{"words": "on " * 200, "pace": 60.0}]
        stream, whole = world.script(*steps, stream=True), world.script(*steps)
        world.advance(3599, 5)
        self.assertEqual(world.ends, [])
        world.advance(5)
        self.assertCut(stream, "upstream_timeout", "on " * 60)
        self.assertRefused(whole, 504, "upstream_timeout", mayRetry=False)
        self.assertEqual(world.ends, ["up-stall"] * 2)
        self.assertEqual(len(world.sent("cancel")), 2)
        self.kill(world)
        world.settle()

    def test_workerDies(self) -> None:
        """
        The daemon tells nobody. Before any text it is 502, in mid-stream an
        event, within a second (U20).
        """
        world = World(self)
        self.half(world)
        before = world.ask("hello", model="silence", stream=True)
        world.clients.insert(0, world.clients.pop())
        world.daemon.killWorkers()
        self.assertLost(world, "worker_lost", status=502, end="up-lost")
        before.wire.read()
        self.assertRefused(before, 502, "worker_lost", mayRetry=False)
        self.assertEqual(world.ends, ["up-lost"] * 3)
        world.settle()

    def test_anotherWorkerIsThere(self) -> None:
        """
        As long as one is named for the model, nobody can know: the turn goes
        on to the deadline of its silence (U20).
        """
        world = World(self)
        self.half(world)
        dead = world.daemon.workers[0]
        world.daemon.addWorker("script")
        world.advance(1)
        world.daemon.killWorker(dead)
        world.advance(880, 5)
        self.assertEqual(world.ends, [])
        self.assertLost(world, "upstream_timeout", status=504, end="up-stall", seconds=20)
        world.advance(601, 5)
        world.settle()

    def test_registryDoesNotKnow(self) -> None:
        """
        A registry file that is gone tells nothing: the answer goes on (U20).
        """
        world = World(self)
        assert world.daemon.registryPath is not None
        stream = world.script({"say": "half"}, {"sleep": 20.0}, {"say": " done"}, stream=True)
        world.advance(1)
        world.daemon.registryPath.unlink()
        world.advance(20)
        self.assertAnswered(stream, "half done")
        world.settle()

    def test_workerDiesWhileParked(self) -> None:
        """
        A parked turn ends too: its results become part of a new question (U20).
        """
        world = World(self)
        messages: list[Any] = [asked({"tool": "look", "saying": "first {result}"})]
        first = world.ask(messages, tools=[tool()])
        world.advance(1)
        (call,) = first.calls
        world.daemon.killWorkers()
        world.advance(1)
        self.assertEqual(world.link.turnCount, 0)
        messages += [first.message, {"role": "tool", "tool_call_id": call["id"], "content": "seen"}]
        again = world.ask(messages, tools=[tool()])
        world.advance(0.5)
        self.assertRefused(again, 503, "model_unavailable", retryAfter="5")
        world.daemon.addWorker("script")
        world.advance(0.5)
        again = world.ask(messages, tools=[tool()])
        world.advance(1)
        self.assertEqual(again.status, 200)
        self.assertEqual(len(set(sids(world))), len(sids(world)))
        self.assertEqual(given(world), [])
        world.daemon.killWorkers()
        world.advance(1)
        world.settle()


@inBothAPIs
class ErrorTests(FaultCase):
    """
    The worker says that a turn failed.
    """

    def test_beforeText(self) -> None:
        """
        Status and code follow the worker's words; only what ran nothing may be
        asked again (U5).
        """
        for words, status, code, retryAfter, mayRetry in [
            ("Prompt is too long", 400, "context_length_exceeded", None, False),
            ("Request too large (max 32MB)", 413, "request_too_large", None, False),
            ("There's an issue with the selected model (x).", 404, "model_not_found", None, False),
            ("Credit balance is too low", 429, "insufficient_quota", None, False),
            ("API Error: Request rejected (429)", 429, "rate_limit_exceeded", "5", True),
            ("API Error: 529 Overloaded", 503, "server_is_overloaded", "5", True),
            ("Invalid API key. Please run /login", 502, "worker_error", None, False),
            ("anything else", 502, "worker_error", None, False),
        ]:
            for stream in (True, False):
                world = World(self)
                client = world.script({"result_error": words}, stream=stream)
                world.advance(1)
                with self.subTest(words=words):
                    self.assertRefused(client, status, code, retryAfter=retryAfter, mayRetry=mayRetry)
                    if code == "context_length_exceeded":
                        self.assertEqual(client.error["param"], self.api.messages)
                self.assertEqual(world.ends, ["up-error"])
                self.assertEqual(world.sent("cancel"), [])
                world.settle()

    def test_messageIsCleaned(self) -> None:
        """
        Addresses, paths and keys of the worker's machine stay there (U5).
        """
        said = "cannot reach http://10.0.0.7:8080/v1 with sk-abcdef0123456789 from /home/someone/.config"
        world = World(self)
        whole = world.script({"result_error": said})
        stream = world.script({"say": "half"}, {"result_error": said}, stream=True)
        world.advance(1)
        for shown in (whole.content, stream.content):
            self.assertIn(b"cannot reach", shown)
            for secret in (b"10.0.0.7", b"8080", b"sk-abc", b"someone"):
                self.assertNotIn(secret, shown)
        world.settle()

    def test_afterText(self) -> None:
        """
        The text so far is kept, and an event says that it is not all; a whole
        answer fails, and as a worker has acted nobody is to ask again (U6).
        """
        for words, status, code in [
            ("anything", 502, "worker_error"),
            ("API Error: 529 Overloaded", 503, "server_is_overloaded"),
            ("API Error: 429", 429, "rate_limit_exceeded"),
            ("Credit balance is too low", 429, "insufficient_quota"),
        ]:
            world = World(self)
            self.half(world, {"result_error": words})
            self.assertLost(world, code, status=status, end="up-error")
            world.settle()

    def test_meaningfulEnds(self) -> None:
        """
        A context window that is full, or a refusal, ends the text with its
        finish reason: that is an answer (U6).
        """
        for words, reason in [
            ("The model has reached its context window limit", "length"),
            ("Claude's response exceeded the 32000 output token maximum", "length"),
            ("unable to respond to this request, which appears to violate", "content_filter"),
        ]:
            world = World(self)
            stream = world.script({"say": "half"}, {"result_error": words}, stream=True)
            world.advance(1)
            self.assertEqual((stream.text, stream.finishReason), ("half", reason))
            self.assertTrue(stream.isComplete)
            self.assertEqual(world.ends, ["ok"])

    def test_ofOneCallBeforeItIsHandedOut(self) -> None:
        """
        An error with a C{callId} is that call's alone: the call is not handed
        out, and the turn goes on (U7).
        """
        world = World(self)
        world.daemon.faults.rewrite = failingCalls
        client = world.ask([asked({"tool": "look", "failing": "no result"})], tools=[tool()], stream=True)
        world.advance(62)
        self.assertAnswered(client, "no result")
        self.assertEqual((client.calls, given(world), world.sent("cancel")), ([], [], []))
        world.settle()

    def test_ofOneCallAfterItWasHandedOut(self) -> None:
        """
        So it is while the client works on it: the other call's result goes to
        the same turn, that one's nowhere (U7).
        """
        world = World(self)
        calls = [{"tool": "look", "callId": "a"}, {"tool": "look", "callId": "b"}]
        messages: list[Any] = [asked({"tools": calls}, {"say": "."})]
        first = world.ask(messages, tools=[tool()])
        world.advance(0.5)
        self.assertEqual(len(first.calls), 2)
        (sid,) = sids(world)
        error = {"chi": "error", "sid": sid, "callId": "a", "message": "the call failed"}
        world.daemon.clients[0].sendTone(**error)
        world.advance(0.5)
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "seen"} for call in first.calls]
        second = world.ask([*messages, first.message, *results], tools=[tool()])
        world.advance(62)
        self.assertAnswered(second, "[error The operation timed out.][seen].")
        self.assertEqual(given(world), ["b"])
        self.assertEqual((sids(world), world.ends), ([sid], ["ok", "ok"]))
        world.settle()

    def test_failingFinish(self) -> None:
        """
        A C{finish} that tells of an error, or has an exit code, be it 0, is no
        end of an answer (U8).
        """
        ends: list[Any] = [
            {"exit": 0},
            {"exit": 1},
            {"exit": 143},
            *(
                {"finish": {"finishReason": reason}}
                for reason in ("error", "error_max_turns", "error_during_execution", "cancelled")
            ),
            {"finish": {"finishReason": "success", "exitCode": 0}},
            {"finish": {"finishReason": "end_turn", "exitCode": 2}},
        ]
        for end in ends:
            world = World(self)
            before = [world.script(end, stream=stream) for stream in (True, False)]
            world.advance(1)
            for client in before:
                self.assertRefused(client, 502, "worker_error", mayRetry=False)
            self.half(world, end)
            self.assertLost(world, "worker_error", status=502, end="up-error")
            self.assertEqual(world.ends, ["up-error"] * 4)
            world.settle()

    def test_failedTurnsSessionIsLeft(self) -> None:
        """
        After a failed, lost, stalled or left turn the conversation goes on
        under another sid (U26).
        """
        faults: list[tuple[Any, Callable[[World, Client], object]]] = [
            ({"result_error": "no"}, lambda world, client: None),
            ({"exit": 1}, lambda world, client: None),
            ({"silence": 1}, lambda world, client: world.daemon.cutConnections()),
            ({"silence": 1}, lambda world, client: client.leave()),
            ({"silence": 1}, lambda world, client: world.advance(11)),
        ]
        for step, fault in faults:
            world = World(self, timeouts=WaitLimits(stall=10))
            first = [{"role": "user", "content": "one"}]
            one = world.ask(first, user="somebody")
            world.advance(1)
            history = [*first, one.message]
            failing = world.ask([*history, asked(step)], user="somebody", stream=True)
            world.advance(1)
            fault(world, failing)
            world.advance(2)
            following = world.ask([*history, {"role": "user", "content": "two"}], user="somebody")
            world.advance(1)
            self.assertEqual(following.status, 200)
            self.assertEqual(sids(world)[0], sids(world)[1])
            self.assertNotIn(sids(world)[2], sids(world)[:2])
            self.kill(world)


def failingCalls(line: bytes) -> list[bytes]:
    """
    A fault: an error follows each tool-call.
    """
    tone = toneOf(line)
    if tone["chi"] != "tool-call":
        return [line]
    error = {"chi": "error", "sid": tone["sid"], "callId": tone["callId"], "message": "the call failed"}
    return [line, json.dumps(error).encode() + b"\n"]


@inBothAPIs
class FinishTests(FaultCase):
    """
    Ends that say little, or too much.
    """

    def test_emptyAnswer(self) -> None:
        """
        A model that says nothing has an answer: empty, C{stop} (U9).
        """
        for usage in (
            {"input_tokens": 10, "output_tokens": 0},
            {"input_tokens": 0, "output_tokens": 3},
            None,
        ):
            world = World(self)
            stream = world.script({"usage": usage}, stream=True)
            whole = world.script({"usage": usage})
            world.advance(1)
            self.assertAnswered(stream, "")
            self.assertAnswered(whole, "")
            self.assertEqual(world.ends, ["ok"] * 2)

    def test_lostAnswer(self) -> None:
        """
        All figures given and 0: an answer was lost in the worker, 502 (U9).
        """
        usage = {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0}
        for stream in (True, False):
            world = World(self)
            client = world.script({"usage": usage}, stream=stream)
            world.advance(1)
            self.assertRefused(client, 502, "worker_error", mayRetry=False)
            self.assertEqual(world.ends, ["up-error"])
            said = world.script({"usage": usage}, {"say": "half"}, stream=stream)
            world.advance(1)
            self.assertAnswered(said, "half")

    def test_reasons(self) -> None:
        """
        Reasons that are known mean what they say, others are an error (U10).
        """
        for given, shown in [
            ("end_turn", "stop"),
            ("stop_sequence", "stop"),
            ("max_tokens", "length"),
            ("refusal", "content_filter"),
            ("banana", None),
            ("", None),
            (7, None),
        ]:
            world = World(self)
            self.half(world, {"finish": {"finishReason": given}})
            if shown is None:
                self.assertLost(world, "worker_error", status=502, end="up-error")
            else:
                world.advance(1)
                self.assertEqual(world.clients[0].finishReason, shown)
                self.assertEqual(world.clients[1].finishReason, shown)

    def test_oddUsage(self) -> None:
        """
        Whatever the worker says of its usage, the client gets whole numbers
        that are none too large or negative, or an estimate (U11).
        """
        odd: list[Any] = [
            None, {}, [], "many", 7, {"input_tokens": None}, {"input_tokens": -5, "output_tokens": 1e300},
            {"input_tokens": 10**30, "output_tokens": "4"}, {"output_tokens": 2.7},
            {"input_tokens": True, "output_tokens": [], "cache_read_input_tokens": {}},
        ]  # fmt: skip
        for usage in odd:
            world = World(self)
            stream = world.script(
                {"usage": usage}, {"say": "half"}, stream=True, stream_options={"include_usage": True}
            )
            whole = world.script({"usage": usage}, {"say": "half"})
            world.advance(1)
            self.assertAnswered(stream, "half")
            self.assertAnswered(whole, "half")
            streamed = stream.usage
            known = whole.usage
            self.assertEqual(known["completion_tokens"], streamed["completion_tokens"])
            isTold = isinstance(usage, dict) and bool(usage)
            self.assertEqual(whole.header("x-hum-usage"), None if isTold else "estimated")
            for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
                self.assertIs(type(streamed[name]), int)
                self.assertTrue(0 <= streamed[name] <= 2**55, streamed)

    def test_firstEndCounts(self) -> None:
        """
        Two ends in any order: the first is the answer's, the rest is dropped
        (U12).
        """
        error = {"raw": {"chi": "error", "message": "late", "code": "worker_error"}}
        for first, second in ((finish(), finish("error")), (finish(), error)):
            world = World(self)
            client = world.script({"say": "half"}, first, second, {"end": 1}, stream=True)
            world.advance(1)
            self.assertAnswered(client, "half")
            self.assertEqual((world.ends, world.link.counts["late_tones"]), (["ok"], 1))
            world.settle()
        for first, second in ((error, finish()), (finish("error"), finish())):
            world = World(self)
            self.half(world, first, second, {"end": 1})
            self.assertLost(world, "worker_error", status=502, end="up-error")
            self.assertEqual(world.link.counts["late_tones"], 2)
            world.settle()

    def test_afterTheEnd(self) -> None:
        """
        What comes after the end reaches nobody: neither this answer nor the
        next one of the conversation, also when that has been asked already but
        the daemon has not read it (U13).
        """
        world = World(self)
        messages: list[Any] = [
            asked({"say": "one"}, finish(), chunk("LATE"), {"sleep": 1.0}, chunk("LATER"), {"end": 1})
        ]
        first = world.ask(messages)
        world.advance(3)
        self.assertAnswered(first, "one")
        (sid,) = sids(world)
        late = {"chi": "chunk", "sid": sid, "chunkType": "text_delta", "delta": "LATEST"}

        def beforeTheEcho(line: bytes) -> list[bytes]:
            world.daemon.faults.rewrite = None
            return [json.dumps(late).encode() + b"\n", line]

        world.daemon.faults.rewrite = beforeTheEcho
        second = world.ask([*messages, first.message, {"role": "user", "content": "two"}], stream=True)
        world.advance(1)
        self.assertEqual(sids(world), [sid, sid])
        self.assertAnswered(second, "two")
        self.assertGreaterEqual(world.link.counts["late_tones"], 3)
        world.settle()


@inBothAPIs
class TextTests(FaultCase):
    """
    Text in odd shapes.
    """

    def both(self, text: str, *steps: Any, model: str = "script") -> World:
        """
        Ask for these steps, streamed and whole, and expect this text.
        """
        world = World(self)
        content = "#script " + json.dumps(steps)
        stream, whole = world.ask(content, model=model, stream=True), world.ask(content, model=model)
        world.advance(1)
        self.assertAnswered(stream, text)
        self.assertAnswered(whole, text)
        world.settle()
        return world

    def test_oddBlocks(self) -> None:
        """
        Deltas without a start, starts and stops that come twice or never,
        blocks in each other, odd indexes: the text is what the deltas say (U14).
        """

        def block(kind: str, index: Any, **members: Any) -> dict[str, Any]:
            return {"raw": {"chi": "chunk", "chunkType": kind, "blockIdx": index, **members}}

        self.both(
            "abcdef",
            chunk("a"),
            block("content_block_stop", 7),
            block("text_start", 0),
            block("text_start", 0),
            chunk("b"),
            block("reasoning_start", 1),
            chunk("c"),
            block("reasoning_delta", 1, delta="hm"),
            chunk("d", blockIdx=99),
            block("content_block_stop", 0),
            block("content_block_stop", 0),
            chunk("e", blockIdx=None),
            chunk("f", blockIdx="x"),
        )

    def test_oddDeltas(self) -> None:
        """
        What is no text is skipped, and the stream goes on (U15).
        """
        odd = [{"raw": {"chi": "chunk", "chunkType": "text_delta"}}]
        odd += [chunk(delta) for delta in (None, 7, True, "", [], {"text": "x"})]
        surrogate = {"line": '{"chi":"chunk","sid":"a","chunkType":"text_delta","delta":"\\ud83d"}'}
        self.both("ab", {"say": "a"}, *odd, surrogate, {"say": "b"})

    def test_largeDelta(self) -> None:
        """
        One delta of 8 MiB reaches a client that reads, whole (U16).
        """
        world = World(self)
        long = "x" * (8 << 20)
        world.daemon.faults.rewrite = lambda line: [line.replace(b"LONG", long.encode())]
        stream = world.client(kernelSize=1 << 20)
        stream.post({"model": "script", "messages": [asked(chunk("LONG"), {"say": "!"})], "stream": True})
        whole = world.script(chunk("LONG"), {"say": "!"})
        for _ in range(20):
            world.advance(0.1)
        self.assertEqual((len(stream.text), stream.finishReason), (len(long) + 1, "stop"))
        self.assertEqual(len(whole.message["content"]), len(long) + 1)
        self.assertEqual(world.ends, ["ok"] * 2)

    def test_splitCharacters(self) -> None:
        """
        Emoji and combining marks that the deltas take apart are whole in the
        text: nothing is normalised or trimmed (U17).
        """
        text = f" {FAMILY}{COMBINING}{FAMILY}\n\u200b\ufeff "
        for parts in (1, 2, 3, 5, len(text)):
            self.both(text, {"say": text, "parts": parts})

    def test_hiddenTones(self) -> None:
        """
        What is not for clients, or of somebody else's session, shows nowhere
        (U27).
        """
        world = World(self)
        stream, whole = (
            world.ask("a b c d e f g h i j k", model="noise", stream=True),
            world.ask("a b c d e f g h i j k", model="noise"),
        )
        world.advance(1)
        self.assertAnswered(stream, "a b c d e f g h i j k ")
        self.assertAnswered(whole, "a b c d e f g h i j k ")
        self.assertGreater(world.link.counts["permission_asks"], 0)
        world.settle()

    def test_bothDialects(self) -> None:
        """
        Text as the worker has it, and as the wire's specification has it, come
        out the same (U28).
        """
        steps = [{"think": "hm"}, {"say": "one two"}]
        answers = []
        for dialect in ("chunkType", "part"):
            world = World(self)
            stream = world.script({"dialect": dialect}, *steps, stream=True)
            whole = world.script({"dialect": dialect}, *steps)
            world.advance(1)
            answers.append((stream.deltas, stream.text, whole.message))
        self.assertEqual(*answers)
        self.assertEqual(answers[0][-1]["reasoning_content"], "hm")

    def test_anyOrder(self) -> None:
        """
        Echo, session-ready, text and finish in any order, session-ready twice
        or late: the same text, as far as it came before the finish (U30).
        """
        kinds = (b'"echo"', b'"session-ready"', b'"text_delta"', b'"finish"')
        for order in permutations(kinds):
            for stream in (True, False):
                world = World(self)
                world.daemon.faults.rewrite = Reordering(order)
                client = world.script({"say": "text", "parts": 1}, stream=stream)
                world.advance(1)
                isTextLate = order.index(b'"text_delta"') > order.index(b'"finish"')
                self.assertAnswered(client, "" if isTextLate else "text")
                self.assertEqual(world.ends, ["ok"])
                world.settle()

    def test_sessionReadyTwice(self) -> None:
        """
        It changes nothing, whenever it comes (U30).
        """
        again = {"raw": {"chi": "session-ready", "tools": []}}
        self.both("ab", again, {"say": "a"}, again, {"say": "b"}, again)


class Reordering:
    """
    A fault: the first lines of these kinds come in this order, all others are
    lost.
    """

    def __init__(self, order: Sequence[bytes]) -> None:
        self._order = order
        self._held: dict[bytes, bytes] = {}

    def __call__(self, line: bytes) -> list[bytes]:
        for kind in self._order:
            if kind in line:
                self._held.setdefault(kind, line)
        if len(self._held) < len(self._order):
            return []
        held, self._held = self._held, dict.fromkeys(self._order, b"")
        return [held[kind] for kind in self._order]


@inBothAPIs
class LeftTurnTests(FaultCase):
    """
    The client is gone, and the worker goes on all the same.
    """

    def test_cancelIsIgnored(self) -> None:
        """
        One cancel goes out; what the turn says, and its good end, reach nobody;
        its calls are refused; its sid is not used again (U24).
        """
        world = World(self)
        messages: list[Any] = [{"role": "user", "content": "one"}]
        first = world.ask(messages, tools=[tool()])
        world.advance(1)
        messages += [first.message]
        steps = [{"say": "half"}, {"sleep": 5.0}, {"say": "LATE"}, {"tool": "look"}, {"say": "LATER"}]
        leaving = world.ask([*messages, asked(*steps)], tools=[tool()], stream=True)
        world.until(lambda: leaving.text == "half")
        leaving.leave()
        self.assertEqual([tone["sid"] for tone in world.sent("cancel")], [sids(world)[-1]])
        self.assertEqual((world.ends[-1], world.link.turnCount), ("cl-gone", 1))
        following = world.ask([*messages, {"role": "user", "content": "two"}], tools=[tool()], stream=True)
        world.advance(4)
        self.assertAnswered(following, "two")
        self.assertEqual(world.link.turnCount, 1)
        world.advance(2)
        (result,) = world.sent("tool-result")
        self.assertEqual((result["sid"], result["isError"]), (sids(world)[1], True))
        self.assertEqual(sids(world)[0], sids(world)[1])
        self.assertNotIn(sids(world)[2], sids(world)[:2])
        self.assertEqual(len(world.sent("cancel")), 1)
        world.settle()

    def test_wholeAnswersClientLeaves(self) -> None:
        """
        So it is with a client that waits for a whole answer (U24).
        """
        world = World(self)
        leaving = world.script({"say": "half"}, {"sleep": 5.0}, {"say": "LATE"})
        world.advance(1)
        leaving.leave()
        self.assertEqual((len(world.sent("cancel")), world.ends), (1, ["cl-gone"]))
        world.advance(5)
        world.settle()

    def test_slotIsHeld(self) -> None:
        """
        A turn that goes on in its worker holds its slot for 30 s at most (U24).
        """
        world = World(self, maxTurns=1)
        leaving = world.script({"say": "half"}, {"silence": 1}, stream=True)
        world.until(lambda: leaving.text == "half")
        leaving.leave()
        world.advance(1)
        waiting = world.ask("hello", model="echo")
        world.advance(28)
        self.assertIsNone(waiting.status)
        world.advance(2)
        self.assertAnswered(waiting, "hello")
        self.kill(world)
        world.settle()

    def test_slotIsFreedByTheEnd(self) -> None:
        """
        When it ends sooner its slot is free at once (U24).
        """
        world = World(self, maxTurns=1)
        leaving = world.script({"say": "half"}, {"sleep": 3.0}, stream=True)
        world.until(lambda: leaving.text == "half")
        leaving.leave()
        waiting = world.ask("hello", model="echo")
        world.advance(4)
        self.assertAnswered(waiting, "hello")
        world.settle()

    def test_forgottenInTheEnd(self) -> None:
        """
        A turn that never ends is forgotten after 600 s (U24).
        """
        world = World(self)
        leaving = world.script({"say": "half"}, {"silence": 1}, stream=True)
        world.until(lambda: leaving.text == "half")
        leaving.leave()
        world.advance(598, 5)
        self.assertEqual(world.link.turnCount, 1)
        world.advance(5)
        world.settle()
        self.assertEqual(len(world.sent("cancel")), 1)

    def test_beforeTheWorkerKnows(self) -> None:
        """
        The client leaves when its prompt has just gone out: the same (U25).
        """
        for stream in (True, False):
            world = World(self)
            leaving = world.ask("one two three", model="echo", stream=stream)
            leaving.leave()
            self.assertEqual((len(world.sent("cancel")), world.ends), (1, ["cl-gone"]))
            self.assertEqual(world.link.turnCount, 1)
            world.advance(1)
            world.settle()

    def test_workerThatKills(self) -> None:
        """
        A worker that does end the turn says so once; all is free at once (U24).
        """
        world = World(self, daemonSettings={"kills": True}, maxTurns=1)
        leaving = world.script({"say": "half"}, {"silence": 1}, stream=True)
        world.until(lambda: leaving.text == "half")
        leaving.leave()
        waiting = world.ask("hello", model="echo")
        world.advance(1)
        self.assertAnswered(waiting, "hello")
        world.settle()


@inBothAPIs
class SlotTests(FaultCase):
    """
    Slots are given back, whatever happens.
    """

    def test_eightRunAfterManyFaults(self) -> None:
        """
        After many turns that ended in every bad way, eight run at the same
        time and none has to wait (U23).
        """
        world = World(self, daemonSettings={"kills": True}, timeouts=WaitLimits(firstLife=3, drain=1))
        ways: list[Callable[[], object]] = [
            lambda: world.script({"result_error": "no"}),
            lambda: world.script({"say": "half"}, {"exit": 1}, stream=True),
            lambda: world.ask("hello", model="nobody's"),
            lambda: world.ask("hello", model="silence"),
            lambda: world.script({"say": "half"}, {"silence": 1}, stream=True).leave(),
            lambda: world.ask("hello").leave(),
            lambda: world.ask([]),
            lambda: world.ask("hello", tools=[{"type": "function"}]),
            lambda: world.ask([asked({"tool": "look"})], tools=[tool()]),
            lambda: world.ask([asked({"tool": "look"})], tools=[tool()], stream=True).leave(),
            lambda: (world.ask("hello"), world.daemon.cutConnections()),
        ]
        for _ in range(3):
            for way in ways:
                way()
                world.advance(4)
        world.advance(60)
        scheduler = world.front.submitter.upstreams
        self.assertEqual((scheduler.taken, scheduler.waiting), (0, 0))
        clients = [world.script({"sleep": 2.0}, {"say": "x"}, stream=True) for _ in range(8)]
        world.advance(0.5)
        self.assertEqual(world.front.submitter.upstreams.waiting, 0)
        self.assertEqual(len(set(sids(world)[-8:])), 8)
        world.advance(2.5)
        for client in clients:
            self.assertAnswered(client, "x")
        world.settle()


@inBothAPIs
class AttachmentTests(FaultCase):
    """
    Files in a question (U29).
    """

    def image(self, world: World, url: str) -> Client:
        """
        Ask about an image.
        """
        parts = [{"type": "text", "text": "what is it"}, {"type": "image_url", "image_url": {"url": url}}]
        client = world.ask([{"role": "user", "content": parts}], model="echo")
        world.advance(1)
        return client

    def test_badOnes(self) -> None:
        """
        Bad base64, other schemes, and nothing at all are 400, and nothing is
        asked (U29).
        """
        world = World(self)
        for url in [
            "data:image/png;base64,####",
            "data:image/png;base64,abc",
            "data:image/png",
            "file:///etc/passwd",
            "ftp://example.org/a.png",
            "javascript:alert(1)",
            "gopher://127.0.0.1/",
            "/etc/passwd",
            "",
        ]:
            client = self.image(world, url)
            with self.subTest(url=url):
                self.assertEqual(client.status, 400, client.content)
                self.assertIn("image_url", str(client.error["param"]))
        self.assertEqual(world.sent("prompt"), [])
        world.settle()

    def test_mislabelledOne(self) -> None:
        """
        A PNG that is labelled as something else goes to the daemon as what it
        is, in a file of that ending (U29).
        """
        world = World(self)
        client = self.image(world, "data:image/jpeg;base64," + b64encode(b"\x89PNG\r\n\x1a\n").decode())
        self.assertEqual(client.status, 200, client.content)
        [prompt] = world.sent("prompt")
        self.assertEqual(prompt["attachments"][0]["mediaType"], "image/png")
        self.assertRegex(prompt["content"], r"\[image attached: image/png, 8 bytes, file \S+\.png\]")
        world.settle()

    def test_remoteOnesAreNotFetched(self) -> None:
        """
        An address goes to the daemon as it is, a private one too; this server
        connects to nothing: it has nothing to connect with (U29).
        """
        world = World(self)
        for url in ("https://example.org/a.png", "http://127.0.0.1:1/a.png", "http://169.254.169.254/x"):
            self.assertEqual(self.image(world, url).status, 200)
            (attachment,) = world.sent("prompt")[-1]["attachments"]
            self.assertEqual(attachment["url"], url)
        world.settle()

    def test_largeOne(self) -> None:
        """
        An image of 14 MiB reaches the daemon, and its file is gone when the
        turn is over (U29).
        """
        world = World(self)
        data = b64encode(b"\x89PNG\r\n\x1a\n" + bytes(14 << 20)).decode()
        client = self.image(world, "data:image/png;base64," + data)
        world.advance(1)
        self.assertEqual(client.status, 200, client.content)
        (attachment,) = world.sent("prompt")[-1]["attachments"]
        self.assertEqual(attachment["data"], data)
        self.assertEqual(world.front.submitter.folder.usedBytes, 0)
        world.settle()
