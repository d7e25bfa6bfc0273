"""
Tests for L{openai_server.web.routes}.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any
from unittest.mock import ANY

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost

from openai_server.errors import KINDS, APIError, End
from openai_server.web.mistakes import Bug
from openai_server.web.routes import UNSUPPORTED
from tests.web.support import Answer, Asked, WebCase, answersIn, get, post

#: Path -> the methods that it takes, with any of GET's routes for HEAD too.
TABLE = {
    "/": "GET, HEAD",
    "/healthz": "GET, HEAD",
    "/readyz": "GET, HEAD",
    "/v1/models": "GET, HEAD",
    "/models": "GET, HEAD",
    "/v1/models/echo": "GET, HEAD",
    "/models/echo": "GET, HEAD",
    "/v1/chat/completions": "POST",
    "/chat/completions": "POST",
    "/openai/v1/chat/completions": "POST",
    "/openai/v1/models": "GET, HEAD",
    "/openai/models/echo": "GET, HEAD",
    "/openai/deployments/echo/chat/completions": "POST",
    "/openai/deployments/vendor%2Flarge/chat/completions": "POST",
    "/openai/deployments/vendor/large/chat/completions": "POST",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


class RouteTests(WebCase):
    """
    Which path answers what.
    """

    def test_everyRouteAndMethod(self) -> None:
        """
        C20: a method that a path does not take is 405 and told which it
        takes; slashes at the end and queries change nothing.
        """
        for path, allowed in TABLE.items():
            for method in METHODS:
                for suffix in ("", "/", "?api-version=1&beta=true"):
                    if path == "/" and suffix == "/":
                        continue
                    # What needs no key takes no body.
                    isOpen = method == "OPTIONS" or path in ("/", "/healthz", "/readyz")
                    data = post(path + suffix, b"" if isOpen else b"{}")
                    data = data.replace(b"POST", method.encode(), 1)
                    wire = self.connect()
                    wire.send(data)
                    if method in allowed:
                        self.assertTrue(b" 200 " in wire.read()[:20] or self.chat.asked, (path, method))
                    elif method == "HEAD":
                        self.assertIn(b" 405 ", wire.read()[:20])
                    else:
                        (answer,) = answersIn(wire.read())
                        refusal = (answer.status, answer.header("allow"))
                        self.assertEqual(refusal, (405, allowed), (path, method))
                        self.assertEqual(answer.error["code"], "method_not_supported")
        self.assertEqual(len(self.chat.asked), 3 * [*TABLE.values()].count("POST"))

    def test_head(self) -> None:
        """
        HEAD is GET without the body, errors too.
        """
        for path in ("/v1/models", "/healthz", "/nowhere"):
            whole = self.ask(get(path))
            wire = self.connect()
            wire.send(get(path, method="HEAD"))
            head, _, body = wire.read().partition(b"\r\n\r\n")
            self.assertIn(b"Content-Length: %d" % len(whole.body), head)
            self.assertIn(str(whole.status).encode(), head.split(b"\r\n")[0])
            self.assertEqual(body, b"")

    def test_unknownPaths(self) -> None:
        """
        C20, C21: JSON 404, never a redirect, never HTML.
        """
        for path in (
            "/nowhere",
            "/v1",
            "/v2/models",
            "/metrics",
            "/v1/chat",
            "/v1/chat/completions/id",
            "//",
            "//v1/models",
            "/v1//models",
            "/v1/models//",
            "///v1/models",
            "/v1/../v1/models",
            "/v1/models/../echo",
            "/v1/models/%2e",
            "/v1/%2Fmodels",
            "/v1/%2e%2e/models",
            "/./v1/models",
            "/%2E/models",
            "/v1/healthz",
            "/openai",
            "/openai/healthz",
            "/openai/deployments/chat/completions",
            "/openai/deployments//chat/completions",
            "/v1%2Fmodels%2F",
            "/<script>",
            "/%3Cscript%3E",
        ):
            answer = self.ask(get(path))
            self.assertEqual((answer.status, answer.error["code"]), (404, "unknown_url"), path)
            self.assertNotIn(b"<", answer.body)

    def test_v1Twice(self) -> None:
        """
        C20: a base URL with C{/v1} at the end of which a client puts another
        is what most of these are: the message says so.
        """
        for path in ("/v1/v1/chat/completions", "/v1/v1/models", "/openai/v1/v1/models", "/v1/v1/nowhere"):
            for data in (get(path), post(path)):
                answer = self.ask(data)
                self.assertEqual((answer.status, answer.error["code"]), (404, "unknown_url"), path)
                self.assertIn("/v1 twice", answer.error["message"])

    def test_unknownPathIsAnsweredOnce(self) -> None:
        """
        Klein finishes a request that it has no route for, although it has been
        answered: Twisted would warn of it, and log an error when the client
        has left.
        """
        self.flushWarnings()
        self.assertEqual(self.ask(get("/nowhere")).status, 404)
        wire = self.connect()
        wire.send(get("/nowhere"))
        wire.leave()
        self.assertEqual([warning["message"] for warning in self.flushWarnings()], [])

    def test_notUTF8(self) -> None:
        """
        C21: a path that is no text is 400.
        """
        for path in ("/%ff", "/v1/models/%C3%28", "/\x80"):
            answer = self.ask(get(path))
            self.assertEqual((answer.status, answer.error["code"]), (400, None), path)

    def test_unsupportedEndpoints(self) -> None:
        """
        C20: what OpenAI has and this server has not is named, with any
        method and below it too.
        """
        for name in UNSUPPORTED:
            for path in (
                f"/v1/{name}",
                f"/{name}",
                f"/v1/{name}/x/y",
                f"/openai/v1/{name}",
                f"/openai/deployments/vendor/large/{name}",
            ):
                for data in (get(path), post(path), get(path, method="DELETE")):
                    answer = self.ask(data)
                    refusal = (answer.status, answer.error["code"])
                    self.assertEqual(refusal, (404, "unsupported_endpoint"), path)
                    self.assertIn(name, answer.error["message"])

    def test_accessLogHasTheTemplate(self) -> None:
        """
        V6: what is logged of a path is our own words, and no query.
        """
        self.ask(get("/v1/models/vendor/large?key=canary"))
        self.ask(get("/canary"))
        self.assertEqual([event["route"] for event in self.log()], ["/v1/models/<path:model>", "unmatched"])
        self.assertNotIn("canary", repr(self.log()))


class StubTests(WebCase):
    """
    The answers of the small routes, as a client of HTTP sees them.
    """

    def fetch(self, path: str, method: str = "GET") -> tuple[int, Any]:
        """
        Status and JSON of one request.
        """
        stub = self.stub()
        response = self.successResultOf(stub.request(method, "http://localhost" + path))
        self.assertEqual(response.headers.getRawHeaders("content-type"), ["application/json"])
        self.assertEqual(response.headers.getRawHeaders("cache-control"), ["no-store"])
        status = response.code
        return status, json.loads(self.successResultOf(response.content()))

    def test_models(self) -> None:
        """
        The list, as OpenAI's SDKs read it.
        """
        status, body = self.fetch("/v1/models")
        self.assertEqual((status, body["object"]), (200, "list"))
        self.assertEqual([model["id"] for model in body["data"]], ["echo", "vendor/large"])
        entry = {"id": "echo", "object": "model", "created": 1700000000, "owned_by": ANY}
        self.assertEqual(body["data"][0], entry)

    def test_model(self) -> None:
        """
        One model, with its slash encoded or not, with C{/v1} or without.
        """
        for path in ("/v1/models/vendor/large", "/v1/models/vendor%2Flarge", "/models/vendor%2flarge/"):
            status, body = self.fetch(path)
            self.assertEqual((status, body["id"]), (200, "vendor/large"))

    def test_encodedSlashesMayBeTwo(self) -> None:
        """
        An id is decoded once and not normalised.
        """
        status, body = self.fetch("/v1/models/a%2F%2Fb%252F")
        self.assertEqual(status, 404)
        self.assertIn("a//b%2F", body["error"]["message"])

    def test_unknownModel(self) -> None:
        """
        404 in OpenAI's words; a long id is not echoed in full.
        """
        status, body = self.fetch("/v1/models/nothing")
        error = body["error"]
        self.assertEqual((status, error["code"], error["param"]), (404, "model_not_found", "model"))
        _, body = self.fetch("/v1/models/" + "x" * 5000)
        self.assertLess(len(body["error"]["message"]), 300)

    def test_banner(self) -> None:
        """
        The root says what this is.
        """
        status, body = self.fetch("/")
        self.assertEqual((status, body["name"]), (200, "openai-server"))

    def test_health(self) -> None:
        """
        Alive, whatever the daemon does.
        """
        self.whyNotReady = "no daemon"
        self.assertEqual(self.fetch("/healthz"), (200, {"status": "ok"}))

    def test_readiness(self) -> None:
        """
        503 with the reason until the daemon is there.
        """
        self.assertEqual(self.fetch("/readyz"), (200, {"status": "ready"}))
        self.whyNotReady = "the socket is missing"
        status, body = self.fetch("/readyz")
        self.assertEqual((status, body["error"]["message"]), (503, "the socket is missing"))
        self.assertEqual(self.ends(), ["ok", "up-down"])

    def test_completion(self) -> None:
        """
        The body that the completion gives is the answer.
        """
        stub = self.stub()
        answer = stub.post(
            "http://localhost/v1/chat/completions", b"{}", headers={"content-type": "application/json"}
        )
        stub.flush()
        self.assertNoResult(answer)
        self.chat.asked[0].answer.callback(b'{"id":"chatcmpl-1"}')
        stub.flush()
        response = self.successResultOf(answer)
        self.assertEqual((response.code, response.length), (200, 19))
        self.assertEqual(self.successResultOf(response.content()), b'{"id":"chatcmpl-1"}')


class ErrorTests(WebCase):
    """
    What becomes of an exception, before the first byte and after it.
    """

    def failing(self, reason: BaseException) -> Answer:
        """
        The answer to a completion that fails before its first byte.
        """
        wire = self.connect()
        self.begin(wire).answer.errback(reason)
        (answer,) = answersIn(wire.read())
        return answer

    def test_apiError(self) -> None:
        """
        Status, type, code, param, and when to ask again.
        """
        answer = self.failing(
            APIError("line_full", "This model later.", retryAfter=3, headers={"x-extra": "1"}, param="model")
        )
        self.assertEqual(answer.status, 429)
        self.assertEqual(
            list(answer.error.values()),
            ["This model later.", "rate_limit_error", "model", "server_is_overloaded"],
        )
        self.assertEqual((answer.header("retry-after"), answer.header("x-extra")), ("3", "1"))
        self.assertNotIn("x-should-retry", answer.headers)
        self.assertEqual(self.ends(), ["shed"])

    def test_everyStatusHasItsWords(self) -> None:
        """
        Whatever the table of errors has, the status line says what it means.
        """
        for name, kind in KINDS.items():
            wire = self.connect()
            self.begin(wire).answer.errback(APIError(name, "No."))
            line = f"HTTP/1.1 {kind.status} {HTTPStatus(kind.status).phrase}\r\n"
            self.assertTrue(wire.read().startswith(line.encode()), name)

    def test_mayNotRetry(self) -> None:
        """
        Where a worker may have acted, the SDKs are told not to ask again.
        """
        answer = self.failing(APIError("daemon_lost", "Gone.", mayRetry=False))
        self.assertEqual((answer.status, answer.header("x-should-retry")), (502, "false"))
        self.assertNotIn("retry-after", answer.headers)

    def test_bug(self) -> None:
        """
        P8: 500 with the request id, nothing of the exception, which is
        logged once, and not its text either (V7).
        """
        answer = self.failing(KeyError("canary"))
        self.assertEqual((answer.status, answer.error["code"]), (500, "internal_error"))
        self.assertIn(answer.header("x-request-id") or "?", answer.error["message"])
        self.assertNotIn("canary", answer.body.decode())
        self.assertEqual(self.ends(), ["bug"])
        (logged,) = self.flushLoggedErrors()
        self.assertEqual(logged.type, Bug)
        self.assertIn("KeyError", logged.getTraceback())
        self.assertIn("support.py", logged.getTraceback())
        self.assertNotIn("canary", logged.getTraceback())

    def test_bugAtOnce(self) -> None:
        """
        P8: the same for an exception before anything was awaited, and for one
        that is no C{Exception} subclass of ours.
        """

        def script(asked: Asked) -> None:
            raise RuntimeError("canary")

        self.chat.script = script
        answer = self.ask(post())
        self.assertEqual((answer.status, self.ends()), (500, ["bug"]))
        self.assertEqual(len(self.flushLoggedErrors(Bug)), 1)

    def test_cancelledByNobody(self) -> None:
        """
        P8: a CancelledError that neither the client nor we have caused is a
        bug like others.
        """
        self.assertEqual(self.failing(CancelledError()).status, 500)
        self.assertEqual(len(self.flushLoggedErrors(Bug)), 1)

    def test_nothing(self) -> None:
        """
        P11: a route that answers nothing is a bug, never an empty 200.
        """
        wire = self.connect()
        self.begin(wire).answer.callback(None)
        self.assertEqual([answer.status for answer in answersIn(wire.read())], [500])
        self.assertEqual(self.ends(), ["bug"])
        self.assertEqual(len(self.flushLoggedErrors(Bug)), 1)

    def test_streamLeftOpen(self) -> None:
        """
        P11: a route that gives nothing while its stream is open has forgotten
        it: the stream is cut, not ended.
        """
        wire = self.connect()
        asked = self.begin(wire)
        asked.stream().write(b"data: 1\n\n")
        asked.answer.callback(None)
        self.assertFalse(wire.read().endswith(b"0\r\n\r\n"))
        self.assertEqual((wire.how, self.ends()), ("closed", ["bug"]))
        self.assertEqual(len(self.flushLoggedErrors(Bug)), 1)

    def test_bugAfterTheFirstByte(self) -> None:
        """
        P9: one error event, no JSON body, no last chunk.
        """
        wire = self.connect()
        asked = self.begin(wire)
        asked.stream().write(b"data: 1\n\n")
        asked.answer.errback(ValueError("canary"))
        received = wire.read()
        body = received.partition(b"\r\n\r\n")[2]
        first, second = [chunk for chunk in body.split(b"\r\n") if chunk.startswith(b"data: ")]
        self.assertEqual(first, b"data: 1\n\n")
        self.assertEqual(json.loads(second[6:])["error"]["code"], "internal_error")
        self.assertFalse(received.endswith(b"0\r\n\r\n"))
        self.assertEqual(received.count(b"HTTP/1.1"), 1)
        self.assertNotIn(b"canary", received)
        self.assertEqual((wire.how, self.ends(), asked.gone), ("closed", ["bug"], [End.BUG]))
        self.assertEqual(len(self.flushLoggedErrors(Bug)), 1)

    def test_apiErrorAfterTheFirstByte(self) -> None:
        """
        P9: the same for an error that the client may know.
        """
        wire = self.connect()
        asked = self.begin(wire)
        asked.stream().write(b"data: 1\n\n")
        asked.answer.errback(APIError("upstream_timeout", "Too long."))
        received = wire.read()
        self.assertIn(b'data: {"error":{"message":"Too long."', received)
        self.assertFalse(received.endswith(b"0\r\n\r\n"))
        self.assertEqual(self.ends(), ["up-stall"])

    def test_errorBetweenBeginAndFirstEvent(self) -> None:
        """
        A stream that has been decided for but has sent nothing can still
        fail with a status; its client is then no business of the stream's.
        """
        wire = self.connect()
        asked = self.begin(wire)
        stream = asked.stream()
        asked.answer.errback(APIError("model_not_found", "No such model."))
        stream.write(b"data: late\n\n")
        stream.finish()
        (answer,) = answersIn(wire.read())
        wire.leave()
        self.assertEqual((answer.status, answer.error["code"]), (404, "model_not_found"))
        self.assertEqual((self.ends(), asked.gone), (["up-nowork"], []))

    def test_errorAfterTheEnd(self) -> None:
        """
        What fails when the answer is complete changes nothing of it.
        """
        wire = self.connect()
        asked = self.begin(wire)
        stream = asked.stream()
        stream.write(b"data: [DONE]\n\n")
        stream.finish()
        asked.answer.errback(ValueError())
        self.assertTrue(wire.read().endswith(b"0\r\n\r\n"))
        self.assertEqual(self.ends(), ["ok"])
        self.flushLoggedErrors()


class LeavingTests(WebCase):
    """
    The client goes before the answer is complete.
    """

    def test_workIsCancelledInTheSameTurn(self) -> None:
        """
        K3, K14, K19: the completion sees C{CancelledError} at once, whether
        or not anything was sent, and nothing is logged but the end.
        """
        for reason in (ConnectionLost(), ConnectionLost("reset")):
            wire = self.connect()
            asked = self.begin(wire)
            wire.leave(reason)
            self.assertTrue(asked.wasCancelled)
        self.assertEqual(self.ends(), ["cl-gone", "cl-gone"])
        self.assertEqual({event["status"] for event in self.log()}, {499})
        self.assertEqual([event for event in self.events if event["log_level"].name == "critical"], [])

    def test_lateResultIsNoError(self) -> None:
        """
        K5: work that ends well although it was cancelled is not answered and
        no error.
        """
        late: Deferred[bytes] = Deferred()
        self.chat.script = lambda asked: setattr(asked, "answer", late)
        wire = self.connect()
        self.begin(wire)
        late.addErrback(lambda _: b"{}")
        wire.leave()
        self.assertEqual(self.ends(), ["cl-gone"])

    def test_leavesWhileTheAnswerIsTaken(self) -> None:
        """
        K5: gone before a complete large answer was taken: gone, once.
        """
        wire = self.connect(kernelSize=1000)
        self.begin(wire).answer.callback(b"x" * 300_000)
        wire.run()
        wire.leave()
        self.assertEqual(self.ends(), [End.CLIENT_GONE.value])
