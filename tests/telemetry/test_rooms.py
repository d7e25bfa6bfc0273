"""
Tests for L{openai_server.telemetry.rooms}, and for what requests report: by
the metrics of a whole server.
"""

from __future__ import annotations

import sys
from typing import Any

from msgspec import Struct

from openai_server.reports import RequestReport
from openai_server.store.saved import SavedSession
from tests.flow.support import FlowCase, function
from tests.telemetry.support import Samples, get, samplesOf
from tests.world import World

CHAT = {"operation": "chat", "model": "script"}


class Reported(Struct):
    """
    Notes what is reported.
    """

    requests: list[RequestReport] = []

    def requestEnded(self, report: RequestReport) -> None:
        """
        A request has ended.
        """
        self.requests.append(report)


class RequestReportTests(FlowCase):
    """
    What is said of a request at its end.
    """

    def report(self, world: World, reported: Reported) -> RequestReport:
        """
        Return the one report that there is.
        """
        world.advance(5)
        (report,) = reported.requests
        return report

    def test_stream(self) -> None:
        """
        Its first token came before its end; what it cost is what its client
        was told; which trace it is in is what that said.
        """
        reported = Reported()
        world = World(self, reports=[reported])
        parent = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
        client = world.script(
            *({"say": "One."}, {"sleep": 2}, {"say": " Two."}),
            stream=True,
            stream_options={"include_usage": True},
            headers={"traceparent": parent},
        )
        report = self.report(world, reported)
        self.assertEqual(client.text, "One. Two.")
        self.assertEqual((report.method, report.route), ("POST", "/v1/chat/completions"))
        self.assertEqual((report.status, report.end, report.model), (200, "ok", "script"))
        self.assertEqual((report.account, report.traceparent), ("anonymous", parent))
        assert report.firstTokenSeconds is not None
        self.assertAlmostEqual(report.firstTokenSeconds, 0.25)
        self.assertAlmostEqual(report.seconds, 2.25)
        usage = client.usage
        told = (usage["prompt_tokens"], usage["completion_tokens"])
        self.assertEqual((report.inputTokens, report.outputTokens), told)

    def test_wholeAnswer(self) -> None:
        """
        One that comes whole had its first token before, too.
        """
        reported = Reported()
        world = World(self, reports=[reported])
        client = world.script({"say": "One."}, {"sleep": 2}, {"say": " Two."})
        report = self.report(world, reported)
        self.assertEqual(client.message["content"], "One. Two.")
        self.assertAlmostEqual(report.firstTokenSeconds or 0, 0.25)
        self.assertEqual(report.outputTokens, client.usage["completion_tokens"])

    def test_failure(self) -> None:
        """
        One that failed at once had no token.
        """
        reported = Reported()
        world = World(self, reports=[reported])
        world.script({"result_error": {"message": "no"}})
        report = self.report(world, reported)
        self.assertEqual((report.end, report.firstTokenSeconds), ("up-error", None))

    def test_refusedRequest(self) -> None:
        """
        One that came to nothing has neither model nor tokens.
        """
        reported = Reported()
        world = World(self, reports=[reported])
        get(world, "/nowhere")
        report = self.report(world, reported)
        self.assertEqual((report.route, report.status, report.end), ("unmatched", 404, "bad"))
        self.assertEqual((report.model, report.outputTokens, report.traceparent), (None, None, None))

    def test_listenerThatFails(self) -> None:
        """
        It keeps nothing from the next one, and nothing from the client.
        """
        reported = Reported()
        broken: Any = object()
        world = World(self, reports=[broken, reported])
        client = world.script({"say": "One."})
        self.assertEqual(self.report(world, reported).end, "ok")
        self.assertSaid(client, "One.")
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)

    def test_clientThatLeaves(self) -> None:
        """
        It is reported too, once.
        """
        reported = Reported()
        world = World(self, reports=[reported])
        client = world.script({"say": "One."}, {"sleep": 60}, stream=True)
        world.advance(1)
        client.leave()
        self.assertEqual(self.report(world, reported).end, "cl-gone")
        world.advance(60)


class RoomTests(FlowCase):
    """
    What the rooms know.
    """

    def test_firstTokens(self) -> None:
        """
        Requests are counted as they are reported.
        """
        world = World(self)
        world.script({"say": "One."}, stream=True)
        world.advance(1)
        samples = samplesOf(world)
        self.assertEqual(samples.get("openai_server_time_to_first_token_seconds_count", **CHAT), 1)
        self.assertEqual(samples.of("openai_server_requests_total", "end"), {"ok": 1})

    def test_tokens(self) -> None:
        """
        Turns are counted as they are reported, those that nobody waited for
        included.
        """
        world = World(self)
        client = world.script({"say": "One."}, {"sleep": 60}, stream=True)
        world.advance(1)
        client.leave()
        world.advance(100)
        (turn,) = world.turns
        samples = samplesOf(world)
        self.assertEqual(samples.of("openai_server_turns_total", "end"), {"cl-gone": 1})
        tokens = samples.of("openai_server_tokens_total", "kind")
        self.assertEqual((tokens["input"], tokens["output"]), (turn.inputTokens, turn.outputTokens))

    def turns(self, world: World) -> dict[str, float]:
        """
        Return the turns that there are, by state.
        """
        found = samplesOf(world).of("openai_server_turns_now", "state")
        return {state: number for state, number in found.items() if number}

    def test_turns(self) -> None:
        """
        One of each state: at work, waiting for a tool's result, unwanted, and
        waiting for a slot.
        """
        world = World(self, maxTurns=3)
        world.script({"sleep": 30}, stream=True)
        world.script({"tool": "nothing", "args": {}}, tools=[function("nothing")])
        gone = world.script({"say": "One."}, {"sleep": 30}, stream=True)
        world.advance(1)
        world.script({"say": "Two."})
        self.assertEqual(self.turns(world), {"live": 2, "parked": 1, "queued": 1})
        samples = samplesOf(world)
        self.assertEqual(samples.get("openai_server_slots_taken"), 3)
        self.assertEqual(samples.get("openai_server_slots_limit"), 3)
        gone.leave()
        self.assertEqual(self.turns(world), {"live": 1, "parked": 1, "draining": 1, "queued": 1})
        world.advance(120)
        self.assertEqual(self.turns(world), {})

    def test_sessionsAndConnections(self) -> None:
        """
        An answered conversation can be gone on with.
        """
        world = World(self)
        world.script({"say": "One."})
        world.advance(1)
        samples = samplesOf(world)
        self.assertEqual(samples.get("openai_server_sessions", state="idle"), 1)
        self.assertEqual(samples.get("openai_server_connections"), 2)
        self.assertEqual(samples.get("openai_server_open_requests"), 1)

    def test_daemon(self) -> None:
        """
        Whether it is there, and how often it was reached.
        """
        world = World(self)
        world.daemon.cutConnections()
        world.flush()
        samples = samplesOf(world)
        self.assertEqual(samples.get("openai_server_daemon_connected"), 0)
        world.advance(6)
        samples = samplesOf(world)
        self.assertEqual(samples.get("openai_server_daemon_connected"), 1)
        self.assertEqual(samples.get("openai_server_daemon_connections_total"), 2)

    def test_counts(self) -> None:
        """
        What the daemon's room and all others have counted: tones under the
        reason for which they were dropped, the rest under its own name.
        """
        world = World(self)
        world.link.counts.update(late_tones=2, foreign_tones=3, unrouted_calls=4, double_calls=5)
        world.link.badTones["too-long"] = 6
        world.front.submitter.counters.add("store_degraded", "slow", 7)
        samples = samplesOf(world)
        dropped = samples.of("openai_server_tones_dropped_total", "reason")
        self.assertEqual(dropped, {"late": 2, "foreign": 3, "too-long": 6})
        self.assertEqual(samples.get("openai_server_unroutable_calls_total"), 4)
        events = samples.of("openai_server_events_total", "event")
        self.assertEqual(events, {"double_calls": 5, "store_degraded": 7})
        self.assertEqual(samples.get("openai_server_events_total", event="store_degraded", reason="slow"), 7)

    def test_store(self) -> None:
        """
        What waits to be written, and how long the database took.
        """
        folder = self.mktemp()
        world = World(self, store=f"sqlite:///{folder}.db")
        world.script({"say": "One."}, store=True)
        world.until(lambda: world.store.unsaved > 0)
        self.assertEqual(samplesOf(world).get("openai_server_store_unsaved"), world.store.unsaved)
        world.advance(2)
        self.successResultOf(world.store.state.find(SavedSession, limit=1))
        samples = samplesOf(world)
        self.assertEqual(samples.get("openai_server_store_unsaved"), 0)
        took = samples.of("openai_server_store_duration_seconds_count", "operation")
        self.assertGreater(took["write"], 0)
        self.assertGreater(took["read"], 0)
        self.assertEqual(samples.get("openai_server_store_degraded"), 0)

    def test_loop(self) -> None:
        """
        The loop is looked at all the time.
        """
        world = World(self)
        self.assertGreater(samplesOf(world).get("openai_server_loop_lag_seconds_count") or 0, 5)


class CostTests(FlowCase):
    """
    What it takes to count.
    """

    def calls(self, world: World, parts: int) -> int:
        """
        Return how many calls of functions it took for one stream.
        """
        found: list[str] = []

        def note(frame: Any, event: str, _: Any) -> None:
            if event == "call" and "/telemetry/" in frame.f_code.co_filename:
                found.append(frame.f_code.co_name)

        self.addCleanup(sys.setprofile, None)
        sys.setprofile(note)
        client = world.script({"say": "word " * 300, "parts": parts}, stream=True)
        world.advance(0.25, 0.25)
        sys.setprofile(None)
        self.assertEqual(len([each for each in client.deltas if each.get("content")]) > 50, parts > 50)
        return len([name for name in found if name not in ("_late", "_wait")])

    def test_tokens(self) -> None:
        """
        A stream of a hundred pieces takes no more than one of two: nothing is
        done for each token, and little for each request.
        """
        world = World(self)
        self.calls(world, 2)
        few, many = self.calls(world, 2), self.calls(world, 100)
        self.assertEqual(few, many)
        self.assertLess(few, 10)


class SecretTests(FlowCase):
    """
    What must never be told.
    """

    def test_noKeysAndTexts(self) -> None:
        """
        Neither keys nor words of clients or workers, wherever a client puts
        them: in the text, in the model's name, in the path, in headers.
        """
        key, word = "sk-hum-verysecret", "Schibboleth"
        world = World(self, apiKey=key)
        headers = {"authorization": f"Bearer {key}"}
        world.script({"say": word}, user=word, headers=headers)
        world.script({"say": word}, model=word, headers=headers)
        world.script({"say": word}, model=key, headers={**headers, "x_request_id": key})
        world.script({"say": word}, headers={"authorization": f"Bearer {word}"})
        world.client().post({"input": word}, path=f"/v1/{word}", **headers)
        get(world, f"/v1/models/{word}?{key}", **headers)
        world.advance(10)
        page = get(world, **headers).content.decode()
        self.assertGreater(len(Samples(page).of("openai_server_requests_total", "end")), 2)
        for secret in (key, word, word.lower(), "Bearer"):
            self.assertNotIn(secret, page)
