"""
Tests of the whole server behind C{--listen ssl:}: real sockets, a real
handshake, a certificate that the test has made.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from openai_server.service import OpenAIService
from openai_server.tap import Options, makeService
from tests.serving import PATIENCE, userFolders
from tests.support import AsyncCase


def makeCertificate(path: Path) -> None:
    """
    Write a key and a certificate for 127.0.0.1, signed by that key.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "openai-server test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))


class TLSTests(AsyncCase):
    """
    Clients that know nothing of this server, over TLS.
    """

    def setUp(self) -> None:
        super().setUp()
        home = Path(self.mktemp()).absolute()
        home.mkdir()
        self.pem = home / "server.pem"
        makeCertificate(self.pem)
        options = Options(userFolders(home) | {"HUM_THRUM_SOCK": "/nowhere/thrum.sock"})
        description = f"ssl:0:interface=127.0.0.1:privateKey={self.pem}:certKey={self.pem}"
        options.parseOptions(["--listen", description])
        self.service: OpenAIService = makeService(options)
        self.service.startService()
        self.addCleanup(self.service.stopService)
        (port,) = self.service._ports
        self.port = port.getHost().port  # type: ignore[attr-defined]

    def ask(self, *protocols: str) -> Deferred[tuple[int, str | None]]:
        """
        Ask whether the server lives, from a thread.

        @param protocols: what the client offers in the handshake.
        @return: fires with the status and what the handshake agreed on.
        """
        return deferToThread(self._ask, protocols)

    def _ask(self, protocols: Sequence[str]) -> tuple[int, str | None]:
        context = ssl.create_default_context(cafile=str(self.pem))
        if protocols:
            context.set_alpn_protocols(protocols)
        connection = HTTPSConnection("127.0.0.1", self.port, context=context, timeout=PATIENCE)
        try:
            connection.request("GET", "/healthz", headers={"Connection": "close"})
            agreed = connection.sock.selected_alpn_protocol()
            answer = connection.getresponse()
            answer.read()
            return answer.status, agreed
        finally:
            connection.close()

    async def test_clientThatOffersProtocols(self) -> None:
        """
        curl, browsers and SDKs offer HTTP/2 and HTTP/1.1: they get the latter.
        """
        self.assertEqual(await self.ask("h2", "http/1.1"), (200, "http/1.1"))

    async def test_clientThatOffersNone(self) -> None:
        """
        Gets an answer too.
        """
        self.assertEqual(await self.ask(), (200, None))
