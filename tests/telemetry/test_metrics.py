"""
Tests for L{openai_server.telemetry.metrics}, and for what is counted of
reports.
"""

from __future__ import annotations

import sys

from prometheus_client import REGISTRY

from openai_server.metrics import OTHER, Distribution
from openai_server.telemetry.families import MOST_NAMES, KnownNames
from openai_server.telemetry.metrics import Metrics
from openai_server.telemetry.reported import MOST_ACCOUNTS, MOST_PLACES, TIMES, ReportedFigures
from tests.support import SyncCase
from tests.telemetry.support import Samples, requestReport, turnReport

CHAT = {"operation": "chat", "model": "opus"}
GEN_AI = {
    "gen_ai_operation_name": "chat",
    "gen_ai_request_model": "opus",
    "gen_ai_provider_name": "hum",
}


class ReportedCase(SyncCase):
    """
    A server that knows two models.
    """

    def setUp(self) -> None:
        super().setUp()
        self.figures = ReportedFigures({"opus", "haiku"}.__contains__)
        self.metrics = Metrics(self.figures.families)

    @property
    def samples(self) -> Samples:
        """
        What Prometheus is told.
        """
        return Samples(self.metrics.page("")[1].decode())


class RequestTests(ReportedCase):
    """
    What is counted of requests.
    """

    def test_counts(self) -> None:
        """
        By method, route, status and end.
        """
        for end in ("ok", "ok", "cl-gone"):
            self.figures.requestEnded(requestReport(end=end))
        labels = {"method": "POST", "route": "/v1/chat/completions", "status": "200"}
        name = "openai_server_requests_total"
        self.assertEqual(self.samples.get(name, end="ok", **labels), 2)
        self.assertEqual(self.samples.get(name, end="cl-gone", **labels), 1)
        self.assertEqual(self.samples.get("openai_server_account_requests_total", account="ann"), 3)

    def test_times(self) -> None:
        """
        5.5 s, of which 1.5 s are up to the first of 21 tokens: 0.2 s each for
        the others. In OpenTelemetry's words it is the same.
        """
        self.figures.requestEnded(requestReport())
        samples = self.samples
        took = "openai_server_request_duration_seconds_sum"
        self.assertEqual(samples.get(took, method="POST", route="/v1/chat/completions"), 5.5)
        for prefix, labels in (("openai_server", CHAT), ("gen_ai_server", GEN_AI)):
            first, each = f"{prefix}_time_to_first_token_seconds", f"{prefix}_time_per_output_token_seconds"
            self.assertEqual(samples.get(f"{first}_sum", **labels), 1.5)
            self.assertEqual(samples.get(f"{each}_sum", **labels), 0.2)
            self.assertEqual(samples.get(f"{first}_bucket", le="1.0", **labels), 0)
            self.assertEqual(samples.get(f"{first}_bucket", le="2.5", **labels), 1)
            self.assertEqual(samples.get(f"{first}_bucket", le="+Inf", **labels), 1)
        self.assertEqual(
            samples.get("gen_ai_server_request_duration_seconds_sum", error_type="", **GEN_AI), 5.5
        )

    def test_timePerTokenNeedsAGoodEnd(self) -> None:
        """
        One that was cut says nothing of how fast its worker is, and neither
        does a single token.
        """
        self.figures.requestEnded(requestReport(end="up-lost"))
        self.figures.requestEnded(requestReport(outputTokens=1))
        self.figures.requestEnded(requestReport(outputTokens=None))
        samples = self.samples
        self.assertEqual(samples.get("openai_server_time_to_first_token_seconds_count", **CHAT), 3)
        self.assertEqual(samples.get("openai_server_time_per_output_token_seconds_count", **CHAT), 0)
        self.assertEqual(
            samples.get("gen_ai_server_request_duration_seconds_count", error_type="up-lost", **GEN_AI), 1
        )

    def test_requestsOfNoModel(self) -> None:
        """
        Lists, and what is refused before it is read, are no work of a model;
        who is not let in has no account.
        """
        self.figures.requestEnded(requestReport(route="/v1/models", method="GET"))
        self.figures.requestEnded(requestReport(model=None, account="", end="auth", status=401))
        samples = self.samples
        self.assertNotIn("gen_ai_server_request_duration_seconds_count", samples.labels)
        self.assertEqual(samples.of("openai_server_account_requests_total", "account"), {"ann": 1})

    def test_hours(self) -> None:
        """
        A request may take an hour, and is told from one that takes longer.
        """
        self.assertEqual(TIMES[-1], 3600)
        for seconds in (3600.0, 3600.1):
            self.figures.requestEnded(requestReport(seconds=seconds))
        found = self.samples.of("openai_server_request_duration_seconds_bucket", "le")
        self.assertEqual((found["3600.0"], found["+Inf"]), (1, 2))


class TurnTests(ReportedCase):
    """
    What is counted of turns.
    """

    def test_tokens(self) -> None:
        """
        Cached ones are among those of the input.
        """
        for end in ("ok", "drain"):
            self.figures.turnEnded(turnReport(end=end))
        samples = self.samples
        for name, labels in (
            ("openai_server_tokens_total", {"model": "opus"}),
            ("openai_server_account_tokens_total", {"account": "ann"}),
        ):
            found = [samples.get(name, kind=kind, **labels) for kind in ("input", "cached", "output")]
            self.assertEqual(found, [200, 120, 40])
        self.assertEqual(samples.of("openai_server_turns_total", "end"), {"ok": 1, "drain": 1})
        self.assertEqual(samples.get("openai_server_tool_calls_total", model="opus"), 4)
        self.assertEqual(samples.get("openai_server_turn_duration_seconds_sum", model="opus"), 14)
        usage = "gen_ai_client_token_usage_sum"
        self.assertEqual(samples.get(usage, gen_ai_token_type="input", **GEN_AI), 200)
        self.assertEqual(samples.get(usage, gen_ai_token_type="output", **GEN_AI), 40)

    def test_operation(self) -> None:
        """
        Legacy completions are called otherwise.
        """
        self.figures.turnEnded(turnReport(api="completions"))
        found = self.samples.of("gen_ai_client_token_usage_count", "gen_ai_operation_name")
        self.assertEqual(set(found), {"text_completion"})


class BoundTests(ReportedCase):
    """
    No client can make the page grow.
    """

    def test_unknownModels(self) -> None:
        """
        (P32) They are all one.
        """
        for number in range(100):
            self.figures.requestEnded(requestReport(model=f"sk-{number}"))
            self.figures.turnEnded(turnReport(model=f"sk-{number}"))
        self.assertEqual(self.samples.of("openai_server_tokens_total", "model"), {OTHER: 2000})
        self.assertNotIn("sk-", self.metrics.page("")[1].decode())

    def test_modelThatBecomesKnown(self) -> None:
        """
        It is called by its name from then on.
        """
        known = {"haiku"}
        figures = ReportedFigures(known.__contains__)
        for _ in range(2):
            figures.requestEnded(requestReport())
            figures.turnEnded(turnReport())
            known.add("opus")
        samples = Samples(Metrics(figures.families).page("")[1].decode())
        self.assertEqual(samples.of("openai_server_tool_calls_total", "model"), {OTHER: 2, "opus": 2})
        counted = samples.of("openai_server_time_to_first_token_seconds_count", "model")
        self.assertEqual(counted, {OTHER: 1, "opus": 1})

    def test_places(self) -> None:
        """
        Where to count is not kept for all time, and nothing is lost when it is
        looked up again.
        """
        for status in range(2 * MOST_PLACES + 10):
            self.figures.requestEnded(requestReport(status=status))
            self.figures.turnEnded(turnReport(api=str(status)))
        samples = self.samples
        self.assertEqual(
            samples.get("openai_server_account_requests_total", account="ann"), 2 * MOST_PLACES + 10
        )
        self.assertEqual(
            samples.get("openai_server_turn_duration_seconds_count", model="opus"), 2 * MOST_PLACES + 10
        )

    def test_accounts(self) -> None:
        """
        Those beyond the bound are one, and nothing is lost from the sum.
        """
        for number in range(MOST_ACCOUNTS + 50):
            self.figures.requestEnded(requestReport(account=f"a{number}"))
        found = self.samples.of("openai_server_account_requests_total", "account")
        self.assertEqual((len(found), found[OTHER]), (MOST_ACCOUNTS + 1, 50))

    def test_names(self) -> None:
        """
        A name that was let in stays, whoever comes later.
        """
        names = KnownNames(lambda name: name != "unknown")
        self.assertEqual(names.of("unknown"), OTHER)
        for number in range(MOST_NAMES):
            self.assertEqual(names.of(str(number)), str(number))
        self.assertEqual((names.of("late"), names.of("0")), (OTHER, "0"))


class PageTests(ReportedCase):
    """
    The page, in the forms that there are.
    """

    def test_text(self) -> None:
        """
        The plain form, unless another one is asked for.
        """
        for accept in ("", "*/*", "text/html"):
            contentType, body = self.metrics.page(accept)
            self.assertEqual(contentType, "text/plain; version=0.0.4; charset=utf-8")
            self.assertIn(b"# TYPE openai_server_requests_total counter\n", body)

    def test_openMetrics(self) -> None:
        """
        OpenMetrics, as Prometheus asks for it; its end says that it is whole.
        """
        contentType, body = self.metrics.page("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
        self.assertEqual(contentType.partition(";")[0], "application/openmetrics-text")
        self.assertIn(b"# TYPE openai_server_requests counter\n", body)
        self.assertTrue(body.endswith(b"# EOF\n"))

    def test_versionsThatAreNone(self) -> None:
        """
        Nonsense in the header gets one of the forms, which versions of the
        library differ on.
        """
        for accept in ("application/openmetrics-text;version=x.y", "text/plain;version=", ";;,=,"):
            contentType, body = self.metrics.page(accept)
            self.assertEqual("openmetrics" in contentType, body.endswith(b"# EOF\n"), accept)

    def test_labelsAreEscaped(self) -> None:
        """
        Names of accounts may have any characters.
        """
        name = 'a\\n "b"\nc'
        self.figures.requestEnded(requestReport(account=name))
        self.assertEqual(self.samples.get("openai_server_account_requests_total", account=name), 1)

    def test_cost(self) -> None:
        """
        A page that was asked for before costs hardly anything a line: all
        streams wait for it.
        """
        for number in range(100):
            for model in ("opus", "haiku"):
                self.figures.requestEnded(requestReport(account=f"a{number}", model=model))
                self.figures.turnEnded(turnReport(account=f"a{number}", model=model))
        lines = self.metrics.page("")[1].count(b"\n")
        calls: list[str] = []
        sys.setprofile(lambda frame, event, _: calls.append(event) if event == "call" else None)
        try:
            self.metrics.page("")
        finally:
            sys.setprofile(None)
        # The first page, which makes what lines begin with, takes ten of them a line.
        self.assertLess(len(calls), 3 * lines)

    def test_ownRegistry(self) -> None:
        """
        Nothing of it is in the library's own, so that there can be several
        servers in a process.
        """
        other = ReportedFigures({"opus"}.__contains__)
        Metrics(other.families)
        other.requestEnded(requestReport())
        self.assertNotIn("openai_server_requests_total", self.samples.labels)
        names = {metric.name for metric in REGISTRY.collect()}
        self.assertFalse([name for name in names if name.startswith(("openai_server", "gen_ai"))])

    def test_process(self) -> None:
        """
        What is known of every process is there too.
        """
        self.assertGreater(self.samples.get("process_resident_memory_bytes") or 0, 1e6)


class DistributionTests(SyncCase):
    """
    Values in buckets.
    """

    def test_bounds(self) -> None:
        """
        A bound belongs to the bucket below it.
        """
        found = Distribution((1.0, 2.0))
        for value in (0.5, 1.0, 1.5, 2.0, 2.5):
            found.add(value)
        self.assertEqual((found.counts, found.total), ([2, 2, 1], 7.5))
