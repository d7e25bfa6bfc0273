"""
Tests for L{openai_server.web.site}: the end of all connections, and the log.
"""

from __future__ import annotations

import json

from openai_server.errors import End
from tests.web.support import WebCase, answersIn, get, post


class StoppingTests(WebCase):
    """
    The site comes to its end in steps.
    """

    def test_newRequestsOnKeptConnections(self) -> None:
        """
        P2: a connection whose request is answered stays for it; what comes
        after is 503 and the connection's end.
        """
        wire = self.connect()
        asked = self.begin(wire)
        self.site.stopAccepting()
        asked.answer.callback(b"{}")
        first = wire.read()
        self.assertIn(b"Connection: close", first)
        self.assertEqual(wire.how, "closed")

        late = self.connect()
        late.send(get("/v1/models"))
        (answer,) = answersIn(late.read())
        self.assertEqual((answer.status, answer.error["code"]), (503, "shutting_down"))
        self.assertEqual((answer.header("connection"), answer.header("retry-after")), ("close", "1"))
        self.assertEqual((late.how, self.ends()), ("closed", ["ok", "drain"]))

    def test_idleConnectionsAreClosed(self) -> None:
        """
        P2: a connection that waits for a request is closed at once, one whose
        request is on its way gets its 503.
        """
        fresh, used, uploading = self.connect(), self.connect(), self.connect()
        used.send(get("/healthz"))
        uploading.send(post()[:30])
        self.site.stopAccepting()
        for wire in (fresh, used, uploading):
            wire.run()
        self.assertEqual((fresh.how, used.how, uploading.how), ("closed", "closed", None))
        uploading.send(post()[30:])
        self.assertEqual([answer.status for answer in answersIn(uploading.read())], [503])
        self.assertEqual(self.chat.asked, [])

    def test_handedOver(self) -> None:
        """
        P24: each connection gets one more answer, whatever it has had, and the
        end is told when all are gone.
        """
        fresh, used, busy = self.connect(), self.connect(), self.connect()
        used.send(get("/healthz"))
        used.read()
        asked = self.begin(busy)
        left = self.site.handOver()
        for wire in (fresh, used):
            wire.send(get("/healthz"))
        asked.answer.callback(b"{}")
        self.assertNoResult(left)
        for wire in (fresh, used, busy):
            (answer,) = answersIn(wire.read())
            self.assertEqual((answer.status, answer.header("connection")), (200, "close"))
            wire.run()
        self.assertEqual([wire.how for wire in (fresh, used, busy)], ["closed"] * 3)
        self.successResultOf(left)
        self.successResultOf(self.site.handOver())

    def test_readinessOnKeptConnections(self) -> None:
        """
        P21: a balancer whose question was under way when the drain began is
        told that this server is not ready, however ready the daemon is.
        """
        kept = self.connect()
        kept.send(get("/readyz"))
        self.assertEqual([answer.status for answer in answersIn(kept.read())], [200])
        kept.send(get("/readyz")[:10])
        self.site.stopAccepting()
        kept.send(get("/readyz")[10:])
        (answer,) = answersIn(kept.read())
        self.assertEqual((answer.status, answer.error["code"]), (503, "shutting_down"))
        self.assertEqual((answer.header("connection"), kept.how), ("close", "closed"))

    def test_streamsGoOn(self) -> None:
        """
        P2: an open stream is not touched, and ends well.
        """
        wire = self.connect()
        asked = self.begin(wire)
        stream = asked.stream()
        stream.write(b"data: 1\n\n")
        self.site.stopAccepting()
        idle = self.site.whenIdle()
        stream.write(b"data: 2\n\n")
        self.assertNoResult(idle)
        stream.finish()
        asked.answer.callback(None)
        self.successResultOf(idle)
        received = wire.read()
        self.assertIn(b"data: 2", received)
        self.assertTrue(received.endswith(b"0\r\n\r\n"))
        self.assertEqual((wire.how, self.ends()), ("closed", ["ok"]))

    def test_whenIdle(self) -> None:
        """
        Fires at once when nothing is open, and for everybody who waits.
        """
        self.successResultOf(self.site.whenIdle())
        wire = self.connect()
        asked = self.begin(wire)
        waiting = [self.site.whenIdle(), self.site.whenIdle()]
        self.assertNoResult(waiting[0])
        asked.answer.callback(b"{}")
        for idle in waiting:
            self.successResultOf(idle)

    def test_cutBeforeTheFirstByte(self) -> None:
        """
        P3: an answer that has not begun becomes a 503 that must not be asked
        again, and its work is cancelled.
        """
        wire = self.connect()
        asked = self.begin(wire)
        asked.request.mayHaveRun = True
        asked.stream()
        self.site.stopAccepting()
        self.site.cut()
        (answer,) = answersIn(wire.read())
        self.assertEqual((answer.status, answer.error["code"]), (503, "shutting_down"))
        self.assertEqual(answer.header("x-should-retry"), "false")
        self.assertTrue(asked.wasCancelled)
        self.assertEqual((self.ends(), asked.gone), (["drain"], [End.DRAINED]))

    def test_cutBeforeAnythingRan(self) -> None:
        """
        P3: what no worker has seen may be asked again at once.
        """
        wire = self.connect()
        asked = self.begin(wire)
        self.site.stopAccepting()
        self.site.cut()
        (answer,) = answersIn(wire.read())
        self.assertEqual((answer.status, answer.error["code"]), (503, "shutting_down"))
        self.assertEqual((answer.header("x-should-retry"), answer.header("retry-after")), (None, "1"))
        self.assertEqual((asked.wasCancelled, self.ends()), (True, ["drain"]))

    def test_cutAfterTheFirstByte(self) -> None:
        """
        P3: a stream gets the error event, no last chunk, and its work is
        cancelled; all is quiet when the event is sent.
        """
        wire = self.connect()
        asked = self.begin(wire)
        asked.stream().write(b"data: 1\n\n")
        wire.read()
        self.site.stopAccepting()
        self.site.cut()
        self.site.cut()
        idle = self.site.whenIdle()
        self.assertTrue(asked.wasCancelled)
        received = wire.read()
        event = received.split(b"\r\n")[1]
        self.assertEqual(json.loads(event.removeprefix(b"data: "))["error"]["code"], "shutting_down")
        self.assertFalse(received.endswith(b"0\r\n\r\n"))
        self.assertEqual((wire.how, self.ends(), asked.gone), ("closed", ["drain"], [End.DRAINED]))
        self.successResultOf(idle)

    def test_cutWhileACompleteAnswerIsTaken(self) -> None:
        """
        P3: nobody waits for a slow reader of a complete answer, which is
        short of its length.
        """
        wire = self.connect(kernelSize=1000)
        self.begin(wire).answer.callback(b"x" * 500_000)
        wire.run()
        self.site.cut()
        wire.run()
        self.assertEqual((wire.how, self.ends()), ("aborted", ["drain"]))

    def test_closeIdle(self) -> None:
        """
        At last every connection without an answer is closed, also one in the
        midst of a request.
        """
        uploading, answering = self.connect(), self.connect()
        uploading.send(post()[:30])
        asked = self.begin(answering)
        self.site.stopAccepting()
        self.site.closeIdle()
        uploading.run()
        answering.run()
        self.assertEqual((uploading.how, answering.how), ("closed", None))
        asked.answer.callback(b"{}")
        answering.run()
        self.assertEqual(answering.how, "closed")


class LogTests(WebCase):
    """
    One access event a request.
    """

    def test_fields(self) -> None:
        """
        I1: who asked what, how it ended, how long it took, how much it was.
        """
        wire = self.connect()
        asked = self.begin(wire, post("/v1/chat/completions?k=canary", b'"canary"', "X-Request-Id: r1"))
        asked.request.model = "echo"
        asked.request.session = "forked"
        asked.request.retry = 2
        self.clock.advance(2)
        stream = asked.stream()
        stream.write(b"data: canary\n\n")
        stream.finish()
        asked.answer.callback(None)
        (event,) = self.log()
        fields = {name: event[name] for name in event if not name.startswith("log_")}
        for added in ("message", "time", "system", "format", "isError"):
            fields.pop(added, None)
        self.assertEqual(
            fields,
            {
                "requestId": "r1",
                "method": "POST",
                "route": "/v1/chat/completions",
                "status": 200,
                "end": "ok",
                "ms": 2000,
                "bytes": 14,
                "stream": True,
                "model": "echo",
                "session": "forked",
                "retry": 2,
            },
        )
        self.assertNotIn("canary", repr(event))

    def test_hostileFieldsStayOutOfTheFormat(self) -> None:
        """
        V6: the format is constant, whatever the request says.
        """
        self.ask(get("/%7Blog_source%7D%0A%s\x1b".replace("\x1b", "%1B"), "User-Agent: {log_source}"))
        self.ask(get("/x", method="M{log_source}".replace("{", "").replace("}", "")))
        self.assertEqual({event["log_format"] for event in self.log()}, {"{method} {route} {status} {end}"})
        self.assertEqual([event["method"] for event in self.log()], ["GET", "other"])

    def test_firstEndCounts(self) -> None:
        """
        I1: an end that was said is not changed by what follows.
        """
        wire = self.connect()
        asked = self.begin(wire)
        stream = asked.stream()
        stream.write(b"data: 1\n\n")
        stream.finish()
        wire.leave()
        self.assertEqual(self.ends(), ["ok"])
        self.assertEqual(asked.gone, [])
        asked.answer.callback(None)


class ManyConnectionsTests(WebCase):
    """
    Nothing is left of connections that are gone.
    """

    def test_storm(self) -> None:
        """
        K17: a thousand clients come, ask, and go at different moments.
        """
        for number in range(1000):
            wire = self.connect()
            wire.send(post()[: number % 150] if number % 3 else post())
            wire.leave()
            self.wires.clear()
        self.assertEqual(len(self.site._channels), 0)
        self.assertEqual(self.site.openResponses, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
