"""
Tests for L{openai_server.telemetry.page}: beside the API, and on a port of its
own.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address

from openai_server.accounts.account import Account
from openai_server.telemetry.families import Growing
from openai_server.telemetry.metrics import Metrics
from openai_server.telemetry.page import metricsSite
from tests.flow.support import FlowCase
from tests.support import SyncCase, TestClock
from tests.telemetry.support import Samples, get
from tests.web.transports import WireTransport
from tests.world import World

KEY = "sk-one-that-is-right"


class BesideTests(FlowCase):
    """
    Beside the API.
    """

    def test_withoutKeys(self) -> None:
        """
        This machine may read them, and no other one; a page that came by
        another name may not.
        """
        world = World(self)
        client = get(world)
        self.assertEqual((client.status, client.isComplete), (200, True))
        self.assertEqual(client.header("content-type"), "text/plain; version=0.0.4; charset=utf-8")
        self.assertEqual(get(world, accept="application/openmetrics-text").content[-6:], b"# EOF\n")
        stranger = world.client()
        stranger.send(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        stranger.wire.read()
        self.assertEqual(stranger.status, 421)
        self.patch(WireTransport, "getPeer", lambda _: IPv4Address("TCP", "192.0.2.1", 5))
        self.assertEqual(get(world).status, 403)

    def test_withKey(self) -> None:
        """
        It takes the key, as all the rest does, whose account is called by its
        name.
        """
        world = World(self, apiKey=KEY)
        self.assertEqual(get(world).status, 401)
        self.assertEqual(get(world, authorization=f"Bearer {KEY}").status, 200)
        page = Samples(get(world, authorization=f"Bearer {KEY}").content.decode())
        self.assertEqual(page.of("openai_server_account_requests_total", "account"), {"default": 1})

    def test_keyOfNoAdministrator(self) -> None:
        """
        A key that is good for asking is not good for this.
        """
        world = World(self, apiKey=KEY)
        plain = Account("ann", "ann")
        self.patch(world.front.site.admission, "admit", lambda request: plain)
        client = get(world, authorization=f"Bearer {KEY}")
        self.assertEqual((client.status, client.error["code"]), (403, "admin_key_required"))

    def test_methods(self) -> None:
        """
        It cannot be posted to, and its head can be had alone.
        """
        world = World(self)
        posting = world.client().post({}, path="/metrics")
        posting.wire.read()
        self.assertEqual(posting.status, 405)
        client = world.client()
        client.send(b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.wire.read()
        self.assertEqual((client.status, client.content), (200, b""))


class OwnPortTests(SyncCase):
    """
    On a port of its own.
    """

    def ask(self, line: str, host: str, allowedHosts: list[str] | None) -> bytes:
        """
        Return the answer to a request.
        """
        metrics = Metrics(lambda: [Growing("things", "things that there are", series={(): 3})])
        site = metricsSite(metrics, TestClock(), allowedHosts)
        wire = WireTransport(site.buildProtocol(None))
        wire.send(f"{line} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        wire.run()
        wire.read()
        site.closeIdle()
        return wire.received

    def test_withoutKey(self) -> None:
        """
        Nobody is asked for a key.
        """
        answer = self.ask("GET /metrics", "localhost:9464", [])
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer)
        self.assertIn(b"\nthings_total 3.0\n", answer)

    def test_otherNames(self) -> None:
        """
        Where only this machine gets in, a page of a browser's must not; where
        others do anyway, any name is good.
        """
        for allowed, status in (([], b"421"), (["prom.example"], b"200"), (None, b"200")):
            answer = self.ask("GET /metrics", "prom.example:9464", allowed)
            self.assertEqual(answer.split()[1], status)

    def test_nothingElse(self) -> None:
        """
        No other path, and no other method.
        """
        for line, status in (
            ("GET /v1/models", b"404"),
            ("GET /", b"404"),
            ("DELETE /metrics", b"405"),
            ("HEAD /metrics", b"200"),
        ):
            self.assertEqual(self.ask(line, "localhost", []).split()[1], status, line)
