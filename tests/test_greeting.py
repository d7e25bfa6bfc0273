"""
Tests for L{openai_server.greeting}.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from openai_server.greeting import Bound, Greeting
from tests.support import SyncCase

LOCAL = Bound("tcp:14620:interface=127.0.0.1", IPv4Address("TCP", "127.0.0.1", 14620))


class BoundTests(SyncCase):
    """
    An address as its reader wants it.
    """

    def test_urls(self) -> None:
        """
        With brackets around IPv6, with https where TLS is spoken, a path for a
        Unix socket.
        """
        six = IPv6Address("TCP", "::1", 80)
        self.assertEqual(str(LOCAL), "http://127.0.0.1:14620")
        self.assertEqual(str(Bound(r"tcp6:80:interface=\:\:1", six)), "http://[::1]:80")
        self.assertEqual(str(Bound("ssl:443", IPv4Address("TCP", "0.0.0.0", 443))), "https://0.0.0.0:443")
        self.assertEqual(str(Bound("unix:/run/x", UNIXAddress(b"/run/x"))), "unix:/run/x")

    def test_hostAndPort(self) -> None:
        """
        A Unix socket has none.
        """
        self.assertEqual(LOCAL.hostAndPort, ("127.0.0.1", 14620))
        self.assertIsNone(Bound("unix:/run/x", UNIXAddress(b"/run/x")).hostAndPort)


class GreetingTests(SyncCase):
    """
    The first lines say the address, the models, and how to go on.
    """

    def test_embedded(self) -> None:
        """
        How to get to a real daemon is said.
        """
        lines = list(Greeting("1.0", [LOCAL], ["echo", "script"], {}, hasKey=False).lines())
        self.assertEqual(
            lines[:4],
            [
                "openai-server 1.0 listens on http://127.0.0.1:14620; no API key is required",
                "base URL for OpenAI clients: http://127.0.0.1:14620/v1",
                "page to try it and to see what it does: http://127.0.0.1:14620/",
                "models: echo, script",
            ],
        )
        self.assertIn("start humd", lines[4])
        self.assertIn("HUM_THRUM_SOCK", lines[4])

    def test_everyAddress(self) -> None:
        """
        What is bound where all addresses are is no address that one can ask:
        the base URL is one for this machine, and says how others get here.
        """
        for host, near in (("0.0.0.0", "127.0.0.1"), ("::", "[::1]")):
            kind = IPv6Address if ":" in host else IPv4Address
            bound = [Bound("tcp:80", kind("TCP", host, 80))]
            lines = list(Greeting("1.0", bound, [], {}, hasKey=True).lines())
            self.assertEqual(
                lines[1],
                f"base URL for OpenAI clients: http://{near}:80/v1"
                f" (from other machines, this one's address in place of {near})",
            )

    def test_realDaemon(self) -> None:
        """
        Its socket is named, and an empty list of models explained.
        """
        bound = [LOCAL, Bound("unix:/run/x", UNIXAddress(b"/run/x"))]
        lines = list(Greeting("1.0", bound, [], {"": "/run/thrum.sock"}, hasKey=True).lines())
        self.assertIn("http://127.0.0.1:14620, unix:/run/x; an API key is required", lines[0])
        self.assertEqual(lines[3], "models: none yet; those of workers appear when they connect")
        self.assertEqual(lines[4], "the daemon's socket: /run/thrum.sock")

    def test_severalDaemons(self) -> None:
        """
        Each has a line.
        """
        lines = list(Greeting("1.0", [LOCAL], [], {"east": "/e", "west": "/w"}, hasKey=True).lines())
        self.assertEqual(lines[4:], ["the daemon east's socket: /e", "the daemon west's socket: /w"])

    def test_unixSocketAlone(self) -> None:
        """
        Then there is no base URL to give, and no page.
        """
        bound = [Bound("unix:/run/x", UNIXAddress(b"/run/x"))]
        lines = list(Greeting("1.0", bound, [], {}, hasKey=True).lines())
        self.assertFalse(any("http" in line for line in lines))
