"""
Tests for L{openai_server.web.admission}.
"""

from __future__ import annotations

import gzip
import hmac
from collections.abc import Sequence

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from openai_server.accounts import keyring
from openai_server.errors import APIError
from openai_server.web.admission import Admission
from openai_server.web.httprequest import HTTPRequest
from tests.web.support import Answer, WebCase, answersIn, get, post, ring

KEY = "sk-canary-key"


class HostTests(WebCase):
    """
    Without a key the Host header must name this server.
    """

    allowedHosts = ("gpu-box.lan", "Other.Example.")

    def statusFor(self, host: str, path: str = "/v1/models") -> int:
        """
        What a request with this Host header gets.
        """
        answer = self.ask(get(path).replace(b"Host: localhost", b"Host: " + host.encode()))
        if answer.status != 200:
            self.assertEqual(answer.error["code"], "host_not_allowed")
        return answer.status

    def test_ours(self) -> None:
        """
        C14: loopback names and addresses, with any port, in any case, and the
        names that were allowed.
        """
        for host in (
            "localhost",
            "localhost:14620",
            "LOCALHOST:80",
            "localhost.",
            "localhost.:14620",
            "127.0.0.1",
            "127.0.0.1:14620",
            "127.9.9.9",
            "[::1]",
            "[::1]:14620",
            "[::ffff:127.0.0.1]:14620",
            "gpu-box.lan",
            "GPU-box.lan:14620",
            "gpu-box.lan.",
            "other.example",
        ):
            self.assertEqual(self.statusFor(host), 200, host)

    def test_notOurs(self) -> None:
        """
        C14: every other name is 421, on every path, also one that looks like
        ours.
        """
        for host in (
            "evil.example",
            "127.0.0.1.nip.io",
            "localhost.evil.example",
            "evil.localhost.example:14620",
            "gpu-box.lan.evil.example",
            "192.168.1.5",
            "0.0.0.0",
            "[::]",
            "[fe80::1]",
            "2130706433",
            "1.1.1.1:80",
        ):
            for path in ("/v1/models", "/", "/healthz", "/nowhere"):
                self.assertEqual(self.statusFor(host, path), 421, host)
        self.assertEqual(set(self.ends()), {"host"})

    def test_addressOfTheConnection(self) -> None:
        """
        C14: the address that the client connected to is ours.
        """
        for address, host in (
            (IPv4Address("TCP", "192.168.1.5", 14620), b"192.168.1.5:14620"),
            (IPv6Address("TCP", "fd00::5", 14620), b"[FD00::5]:14620"),
            # A client of IPv4 on a socket that takes both.
            (IPv6Address("TCP", "::ffff:192.168.1.5", 14620), b"192.168.1.5:14620"),
        ):
            data = get().replace(b"Host: localhost", b"Host: " + host)
            self.assertEqual(self.ask(data, address).status, 200)

    def test_allowedAddresses(self) -> None:
        """
        C14: an operator may allow an address as it stands in a URL, or plain.
        """
        admission = Admission(ring(), allowedHosts=("::", "[fd00::7]", "0.0.0.0"))
        self.assertEqual(admission._allowedHosts, {"::", "fd00::7", "0.0.0.0"})

    def test_unixSocketHasNoAddress(self) -> None:
        """
        On a Unix socket the names that clients make up are not ours.
        """
        data = get().replace(b"Host: localhost", b"Host: socket")
        self.assertEqual(self.ask(data, UNIXAddress("/run/x.sock")).status, 421)

    def test_bodyIsNotLookedAt(self) -> None:
        """
        C14: a stranger's prompt is never asked, or even read.
        """
        data = post().replace(b"Host: localhost", b"Host: evil.example").removesuffix(b"{}")
        self.assertEqual(self.ask(data).status, 421)
        self.assertEqual(self.chat.asked, [])


class KeyedHostTests(WebCase):
    """
    With a key the name does not matter.
    """

    apiKey = KEY

    def test_anyHost(self) -> None:
        """
        C14: whoever has the key is no page that came by rebinding.
        """
        data = get("/v1/models", f"Authorization: Bearer {KEY}")
        self.assertEqual(self.ask(data.replace(b"localhost", b"api.example.com")).status, 200)


class NoOriginTests(WebCase):
    """
    By default no web page may use the server.
    """

    def test_foreignOrigins(self) -> None:
        """
        C15: a page is refused, C{null} and local ones too, without any CORS
        header, and nothing is asked.
        """
        for origin in ("http://evil.example", "null", "http://localhost:3000", "file://", ""):
            answer = self.ask(post("/v1/chat/completions", b"{}", f"Origin: {origin}"))
            self.assertEqual((answer.status, answer.error["code"]), (403, "origin_not_allowed"), origin)
            self.assertNotIn("access-control-allow-origin", answer.headers)
            self.assertNotIn("vary", answer.headers)
        self.assertEqual(self.chat.asked, [])
        self.assertEqual(set(self.ends()), {"host"})

    def test_preflight(self) -> None:
        """
        C16: a preflight gets no CORS header either; OPTIONS without a page is
        a method like any other.
        """
        answer = self.ask(preflight("http://evil.example"))
        self.assertEqual(answer.status, 403)
        self.assertEqual([name for name in answer.headers if name.startswith("access-control")], [])
        answer = self.ask(get("/v1/models", method="OPTIONS"))
        self.assertEqual((answer.status, answer.header("allow")), (405, "GET, HEAD"))


class OwnOriginTests(WebCase):
    """
    The server's own page may use it.
    """

    allowedHosts = ("gpu-box.lan",)

    def statusFor(self, origin: str, host: str) -> int:
        """
        What a page of this origin gets when it asks this host.
        """
        asked = get("/v1/models", f"Origin: {origin}")
        answer = self.ask(asked.replace(b"Host: localhost", b"Host: " + host.encode()))
        self.assertNotIn("access-control-allow-origin", answer.headers)
        return answer.status

    def test_own(self) -> None:
        """
        C15: a page that asks the address that it came from, also through a
        proxy that does the encryption.
        """
        for origin, host in (
            ("http://localhost:14620", "localhost:14620"),
            ("http://127.0.0.1:14620", "127.0.0.1:14620"),
            ("http://[::1]:14620", "[::1]:14620"),
            ("http://localhost", "localhost"),
            ("http://gpu-box.lan:14620", "GPU-box.lan:14620"),
            ("https://gpu-box.lan", "gpu-box.lan"),
        ):
            self.assertEqual(self.statusFor(origin, host), 200, origin)

    def test_others(self) -> None:
        """
        C15: another name, port or scheme is another origin, though it be this
        machine's.
        """
        for origin, host in (
            ("http://localhost:3000", "localhost:14620"),
            ("http://localhost", "localhost:14620"),
            ("http://localhost:14620", "127.0.0.1:14620"),
            ("http://evil.example", "localhost:14620"),
            ("http://localhost:14620.evil.example", "localhost:14620"),
            ("http://evil.example/localhost:14620", "localhost:14620"),
            ("file://localhost:14620", "localhost:14620"),
            ("ws://localhost:14620", "localhost:14620"),
            ("localhost:14620", "localhost:14620"),
            ("//localhost:14620", "localhost:14620"),
            ("null", "null"),
        ):
            self.assertIn(self.statusFor(origin, host), (403, 421), origin)
        data = get("/v1/models", "Origin: http://localhost", "Origin: http://localhost")
        self.assertEqual(self.ask(data).status, 403)
        data = get("/v1/models", "Origin: http://localhost", version="HTTP/1.0")
        self.assertEqual(self.ask(data.replace(b"Host: localhost\r\n", b"")).status, 403)

    def test_rebinding(self) -> None:
        """
        C14: a page that came by DNS rebinding has the origin of the name that
        it asks, and that is not this server's.
        """
        self.assertEqual(self.statusFor("http://evil.example:14620", "evil.example:14620"), 421)

    def test_encrypted(self) -> None:
        """
        A page that came without encryption may be anybody's, and is none of an
        encrypted server.
        """
        admission = Admission(ring())
        for isSecure, origin in ((True, b"https"), (False, b"http"), (False, b"https")):
            admission.admit(PageHead(origin + b"://localhost", isSecure))
        self.assertRaises(APIError, admission.admit, PageHead(b"http://localhost", True))


class PageHead:
    """
    The head of a request of a page's.
    """

    method, path, query = b"GET", b"/healthz", b""

    def __init__(self, origin: bytes, isSecure: bool) -> None:
        self._headers = {b"host": b"localhost", b"origin": origin}
        self.isSecure = lambda: isSecure

    def getHeader(self, name: bytes) -> bytes | None:
        return self._headers.get(name)

    def valuesOf(self, name: bytes) -> list[bytes]:
        return [self._headers[name]] if name in self._headers else []


class KeyedOwnOriginTests(WebCase):
    """
    With a key the name does not matter, and the key does.
    """

    apiKey = KEY

    def test_key(self) -> None:
        """
        The page under a name that only a proxy knows; one that came by DNS
        rebinding knows no key.
        """
        for headers, status in (((), 401), ((f"Authorization: Bearer {KEY}",), 200)):
            data = get("/v1/models", "Origin: https://api.example", *headers)
            self.assertEqual(self.ask(data.replace(b"localhost", b"api.example")).status, status)


def preflight(origin: str, *headers: str, path: str = "/v1/chat/completions") -> bytes:
    """
    What a browser asks before a page may send JSON.
    """
    return get(path, f"Origin: {origin}", "Access-Control-Request-Method: POST", *headers, method="OPTIONS")


class ListedOriginTests(WebCase):
    """
    Pages of listed origins may.
    """

    corsOrigins = ("https://chat.example", "*")

    def test_answersCanBeRead(self) -> None:
        """
        C15: success and errors carry the exact origin and what a page may
        read of them.
        """
        for path, status in (("/v1/models", 200), ("/nowhere", 404)):
            answer = self.ask(get(path, "Origin: https://chat.example"))
            self.assertEqual(answer.status, status)
            self.assertEqual(answer.header("access-control-allow-origin"), "https://chat.example")
            self.assertIn("x-request-id", answer.header("access-control-expose-headers") or "")
            self.assertEqual(answer.header("vary"), "Origin")
            self.assertNotIn("access-control-allow-credentials", answer.headers)

    def test_preflight(self) -> None:
        """
        C16: the headers that are asked for are reflected.
        """
        wanted = "authorization,content-type,x-stainless-lang"
        answer = self.ask(
            preflight(
                "https://chat.example",
                f"Access-Control-Request-Headers: {wanted}",
                "Access-Control-Request-Private-Network: true",
            )
        )
        self.assertEqual((answer.status, answer.body), (204, b""))
        self.assertEqual(answer.header("access-control-allow-origin"), "https://chat.example")
        self.assertEqual(answer.header("access-control-allow-headers"), wanted)
        self.assertEqual(answer.header("access-control-allow-private-network"), "true")
        self.assertEqual(answer.header("access-control-max-age"), "600")
        self.assertIn("POST", answer.header("access-control-allow-methods") or "")
        self.assertEqual(answer.header("vary"), "Origin")
        self.assertEqual(self.ends(), ["ok"])

    def test_starNeedsAKey(self) -> None:
        """
        C15: "any origin" is not heeded where anybody may ask.
        """
        answer = self.ask(get("/v1/models", "Origin: http://evil.example"))
        self.assertEqual((answer.status, answer.header("vary")), (403, "Origin"))

    def test_prefixesAndCaseAreOthers(self) -> None:
        """
        C15: an origin is compared as a whole; two of them are none.
        """
        for header in (
            "Origin: https://chat.example.evil",
            "Origin: http://chat.example",
            "Origin: https://chat.example:8443",
            "Origin: https://chat.example\r\nOrigin: https://chat.example",
        ):
            self.assertEqual(self.ask(get("/v1/models", header)).status, 403)


class AnyOriginTests(WebCase):
    """
    With a key any page may be allowed.
    """

    apiKey = KEY
    corsOrigins = ("*",)

    def test_star(self) -> None:
        """
        The preflight needs no key, what follows does; an error can be read.
        """
        answer = self.ask(preflight("https://anything.example"))
        self.assertEqual((answer.status, answer.header("access-control-allow-origin")), (204, "*"))
        origin = "Origin: https://anything.example"
        for data in (get("/v1/models", origin), post("/v1/chat/completions", b"{}", origin)):
            answer = self.ask(data)
            self.assertEqual((answer.status, answer.header("access-control-allow-origin")), (401, "*"))


class ContentTypeTests(WebCase):
    """
    Without a key a body must say that it is JSON.
    """

    def ask_(self, *types: str) -> Answer | None:
        """
        Post with these Content-Type headers. None: it was let in.
        """
        data = post().replace(b"Content-Type: application/json\r\n", b"")
        headers = "".join(f"Content-Type: {kind}\r\n" for kind in types).encode()
        wire = self.connect()
        wire.send(data.replace(b"Host:", headers + b"Host:", 1))
        return answersIn(wire.read())[0] if wire.unsent else None

    def test_whatABrowserSendsUnasked(self) -> None:
        """
        C17: types that need no preflight, none at all, and two, are 415.
        """
        for types in (
            ("text/plain",),
            ("text/plain;application/json",),
            ("application/x-www-form-urlencoded",),
            ("multipart/form-data; boundary=x",),
            ("text/json",),
            ("",),
            (),
            ("application/json", "text/plain"),
        ):
            answer = self.ask_(*types)
            assert answer is not None, types
            self.assertEqual((answer.status, answer.error["code"]), (415, "unsupported_content_type"))

    def test_json(self) -> None:
        """
        C17: JSON in all its spellings.
        """
        for kind in ("application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"):
            self.assertIsNone(self.ask_(kind), kind)


class KeyedContentTypeTests(WebCase):
    """
    With a key the type of the body does not matter.
    """

    apiKey = KEY

    def test_form(self) -> None:
        """
        C17: curl -d sends a form type; the body arrives as it is.
        """
        data = post("/v1/chat/completions", b'{"a":1}', f"Authorization: Bearer {KEY}")
        data = data.replace(b"application/json", b"application/x-www-form-urlencoded")
        self.assertEqual(self.begin(self.connect(), data).request.takeBody(), b'{"a":1}')


class KeyTests(WebCase):
    """
    With a key set, every request must bring it.
    """

    apiKey = KEY

    def comparisons(self, *headers: str, data: bytes | None = None) -> tuple[Answer, int]:
        """
        Ask with these headers; count how often digests are compared.

        @param data: the request, when it is another than for the models.
        """
        compared: list[tuple[bytes, bytes]] = []
        original = hmac.compare_digest

        def compare(left: bytes, right: bytes) -> bool:
            compared.append((left, right))
            return original(left, right)

        self.patch(keyring.hmac, "compare_digest", compare)
        answer = self.ask(data or get("/v1/models", *headers))
        for left, right in compared:
            self.assertEqual((len(left), len(right)), (32, 32))
        return answer, len(compared)

    def test_rightKey(self) -> None:
        """
        C18: in any of three headers, the scheme in any case, blanks around
        it.
        """
        for header in (
            f"Authorization: Bearer {KEY}",
            f"authorization: bearer {KEY}",
            f"Authorization:   BEARER    {KEY}  ",
            f"x-api-key: {KEY}",
            f"api-key: {KEY}",
        ):
            answer, count = self.comparisons(header)
            self.assertEqual((answer.status, count), (200, 1), header)

    def test_wrongKey(self) -> None:
        """
        C18: whatever is wrong, the answer is the same, and one comparison is
        made.
        """
        bodies = set()
        for headers in (
            (),
            ("Authorization: Bearer wrong",),
            ("Authorization: Bearer ",),
            ("Authorization: Bearer",),
            ("Authorization:",),
            (f"Authorization: {KEY}",),
            (f"Authorization: Basic {KEY}",),
            (f"Authorization: Bearer {KEY}x",),
            (f"Authorization: Bearer {KEY[:-1]}",),
            (f"Authorization: Bearer {KEY.upper()}",),
            (f"Authorization: Bearer {KEY}", f"Authorization: Bearer {KEY}"),
            (f"x-api-key: {KEY}", f"x-api-key: {KEY}"),
            (f"Authorization: Bearer wrong\r\nx-api-key: {KEY}",),
            ("Authorization: Bearer \xe9\xff",),
            ("Authorization: Bearer " + "k" * 15000,),
        ):
            answer, count = self.comparisons(*headers)
            self.assertEqual((answer.status, count), (401, 1), headers)
            self.assertEqual(answer.error["code"], "invalid_api_key")
            self.assertEqual(answer.header("www-authenticate"), "Bearer")
            bodies.add(answer.body)
        self.assertEqual(len(bodies), 1)
        self.assertEqual(set(self.ends()), {"auth"})

    def test_keyInTheURLIsNoKey(self) -> None:
        """
        V7: a key in a query is not taken, and the query is not logged.
        """
        self.assertEqual(self.ask(get(f"/v1/models?api_key={KEY}")).status, 401)
        self.assertNotIn(KEY, repr(self.log()))

    def test_checkedBeforeTheRoute(self) -> None:
        """
        C18: without the key nobody learns which paths there are, or whether a
        body could be read.
        """
        for data in (get("/nowhere"), get("/v1/models", method="DELETE"), get("/v1/embeddings")):
            self.assertEqual(self.ask(data).status, 401)
        self.assertEqual(self.ask(post("/v1/chat/completions", b"{")).status, 401)
        self.assertEqual(self.chat.asked, [])

    def test_checkedBeforeTheBody(self) -> None:
        """
        C18: whoever has no key need not send a body, be its length said or
        not, and is not told to; what comes all the same is thrown away.
        """
        head = post("/v1/chat/completions", b"").replace(b"Content-Length: 0\r\n", b"")
        for size in (b"Content-Length: 900000", b"Transfer-Encoding: chunked"):
            for expects in (b"", b"\r\nExpect: 100-continue"):
                wire = self.connect()
                wire.send(head.replace(b"\r\n\r\n", b"\r\n" + size + expects + b"\r\n\r\n"))
                received = wire.read()
                self.assertTrue(received.startswith(b"HTTP/1.1 401 Unauthorized\r\n"), received)
                (answer,) = answersIn(received)
                self.assertEqual(answer.error["code"], "invalid_api_key")
                self.assertEqual((answer.header("connection"), wire.finSent), ("close", True))
                for _ in range(17):
                    wire.send(bytes(65536))
                wire.run()
                self.assertEqual(wire.how, "aborted")
        self.assertEqual(set(self.ends()), {"auth"})

    def test_comparedOnceWithABody(self) -> None:
        """
        C18: with a body, too, the key is compared once, be it right or wrong.
        """
        for header, status in ((f"x-api-key: {KEY}", 404), ("x-api-key: no", 401)):
            answer, count = self.comparisons(data=post("/v1/embeddings", b"{}", header))
            self.assertEqual((answer.status, count), (status, 1))

    def test_pathsAreNotJudgedFirst(self) -> None:
        """
        C18: nor is a path that cannot be one.
        """
        for path in ("/v1//models", "/v1/../models", "/v1/%ff"):
            self.assertEqual(self.ask(get(path)).status, 401)
            self.assertIn(self.ask(get(path, f"x-api-key: {KEY}")).status, (400, 404))

    def test_openPathsTakeNoBody(self) -> None:
        """
        C18: what needs no key brings no body, packed or not: its head is
        refused, before a byte of the body is unpacked or asked for.
        """
        unpacked: list[bytes] = []
        self.patch(HTTPRequest, "bodyPieceReceived", lambda request, data: unpacked.append(data))
        for method, path in (
            ("OPTIONS", "/"),
            ("OPTIONS", "/v1/chat/completions"),
            ("POST", "/"),
            ("POST", "/healthz"),
            ("GET", "/readyz"),
        ):
            for body in (b"{}", gzip.compress(bytes(1 << 20))):
                length = f"Content-Length: {len(body)}"
                for framing in (length, f"{length}\r\nContent-Encoding: gzip", "Transfer-Encoding: chunked"):
                    with self.subTest(method=method, path=path, framing=framing):
                        wire = self.connect()
                        head = get(path, framing, "Expect: 100-continue", method=method)
                        wire.send(head + body)
                        (answer,) = answersIn(wire.read())
                        self.assertEqual((answer.status, answer.error["code"]), (413, "request_too_large"))
                        self.assertEqual((answer.header("connection"), wire.finSent), ("close", True))
        self.assertEqual(unpacked, [])
        self.assertEqual(self.ask(get("/", "Content-Length: 0", method="OPTIONS")).status, 405)

    def test_openPaths(self) -> None:
        """
        C18: the banner and the operator's paths need no key.
        """
        for path in ("/", "/healthz", "/readyz"):
            self.assertEqual(self.ask(get(path)).status, 200)


class AccountOfRequestTests(WebCase):
    """
    Which account a completion is asked for.
    """

    apiKey: str | None = KEY
    allowedHosts: Sequence[str] = ()

    def test_keyed(self) -> None:
        """
        The account of the key.
        """
        asked = self.begin(self.connect(), post("/v1/chat/completions", b"{}", f"x-api-key: {KEY}"))
        self.assertNotEqual(asked.account.name, "anonymous")


class AnonymousTests(WebCase):
    """
    Without a key everybody is the same.
    """

    def test_anyKeyWillDo(self) -> None:
        """
        Clients without a key send something anyway.
        """
        for header in ("Authorization: Bearer EMPTY", "Authorization: Bearer ", "x-api-key: dummy", "A: b"):
            asked = self.begin(self.connect(), post("/v1/chat/completions", b"{}", header))
            self.assertEqual(asked.account.name, "anonymous")
