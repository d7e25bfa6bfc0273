# -*- test-case-name: tests.web.test_admission -*-
"""
Who may ask, and from where: host, origin, content type, key.

Without a key every web page that a person on this machine opens could reach a
server on a loopback port. Three checks keep pages out: the Host header must
name this server (a page that got here by DNS rebinding names its own), the
Origin must be this server's own or on the list, and the content type must be
one that a browser does not send without asking first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from openai_server.accounts.account import Account
from openai_server.accounts.keyring import ANONYMOUS, KeyRing
from openai_server.accounts.limiter import Limiter
from openai_server.config.exposure import isLoopback
from openai_server.errors import APIError
from openai_server.web.interfaces import Head, Request
from openai_server.web.page.folder import FILES
from openai_server.web.wrongkeys import WrongKeys

#: Paths for which no key is needed, and whose requests have no body.
OPEN_PATHS: Final = frozenset({b"/", b"/healthz", b"/readyz"}) | {path.encode() for path in FILES}

_EXPOSED: Final = (
    b"x-request-id, retry-after, retry-after-ms, openai-processing-ms, x-should-retry, x-hum-session, "
    b"x-hum-ignored, x-hum-schema, x-hum-usage, "
    b"x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    b"x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)
_PREFLIGHT_SECONDS: Final = b"600"
_KEY_HEADERS: Final = (b"authorization", b"x-api-key", b"api-key")

#: The same few names come with every request.
_isLoopback = lru_cache(maxsize=256)(isLoopback)


class Admission:
    """
    Lets a request in, or raises.
    """

    def __init__(
        self,
        keys: KeyRing,
        allowedHosts: Sequence[str] = (),
        corsOrigins: Sequence[str] = (),
        limiter: Limiter | None = None,
    ) -> None:
        """
        @param keys: those that requests must bring one of, where one is
            required; else anybody is let in.
        @param allowedHosts: names and addresses that this server has beside
            loopback ones and the one that a connection came in on, without
            ports.
        @param corsOrigins: origins of web pages that may ask; C{*} means any,
            and is only heeded where a key is required.
        @param limiter: knows what is left of the limits of accounts.
        """
        self.changeKey = keys.changeKey
        self._keys = keys
        self._limiter = limiter
        self._allowedHosts = frozenset(_plainHost(host.encode("utf-8")) for host in allowedHosts)
        self._origins = frozenset(origin.encode("utf-8") for origin in corsOrigins if origin != "*")
        self._hasAnyOrigin = "*" in corsOrigins
        self._wrongKeys = WrongKeys()

    @property
    def _anyOrigin(self) -> bool:
        return self._hasAnyOrigin and self._keys.isRequired

    def admit(self, request: Head) -> Account:
        """
        Judge a request by its head, once, before its body is read. Headers for
        pages of allowed origins are set in passing, so that they can read
        errors too.

        @raise APIError: it is not let in.
        """
        self._checkHost(request)
        self._checkOrigin(request)
        if isOpen(request):
            return ANONYMOUS
        account = self._accountOf(request)
        self._checkContentType(request)
        if self._limiter is not None:
            for name, value in self._limiter.headers(account):
                request.setHeader(name, value)
        return account

    def isPreflight(self, request: Head) -> bool:
        """
        Whether a browser asks what a page may send.
        """
        return (
            request.method == b"OPTIONS"
            and request.getHeader(b"origin") is not None
            and request.getHeader(b"access-control-request-method") is not None
        )

    def answerPreflight(self, request: Request) -> None:
        """
        Tell the browser of an admitted page that it may send what it wants.
        """
        request.setHeader(b"access-control-allow-methods", b"GET, POST, OPTIONS")
        request.setHeader(b"access-control-max-age", _PREFLIGHT_SECONDS)
        wanted = request.getHeader(b"access-control-request-headers")
        if wanted:
            request.setHeader(b"access-control-allow-headers", wanted)
        if request.getHeader(b"access-control-request-private-network") == b"true":
            request.setHeader(b"access-control-allow-private-network", b"true")
        request.answer(b"", 204)

    # The checks.

    def _checkHost(self, request: Head) -> None:
        # HTTP/1.0 needs no Host header; a browser always sends one.
        given = request.getHeader(b"host")
        if self._keys.isRequired or given is None:
            return
        host = _plainHost(given)
        if _isLoopback(host) or host in self._allowedHosts or host == _boundHost(request):
            return
        raise APIError(
            "host_not_allowed",
            "This server is not known by the name in the Host header. Its operator can allow more names "
            "with the setting allowedHosts, or set an API key.",
        )

    def _checkOrigin(self, request: Head) -> None:
        if self._origins or self._anyOrigin:
            request.setHeader(b"vary", b"Origin")
        origins = request.valuesOf(b"origin")
        if not origins:
            return
        if len(origins) == 1 and _isOwn(origins[0], request):
            return
        if len(origins) > 1 or not (self._anyOrigin or origins[0] in self._origins):
            raise APIError(
                "origin_not_allowed",
                "Web pages of this origin may not use this server. Its operator can allow origins with the "
                "setting corsOrigins.",
            )
        allowed = b"*" if self._anyOrigin and origins[0] not in self._origins else origins[0]
        request.setHeader(b"access-control-allow-origin", allowed)
        request.setHeader(b"access-control-expose-headers", _EXPOSED)

    def _accountOf(self, request: Head) -> Account:
        try:
            return self._keys.accountOf(_keyIn(request))
        except APIError:
            self._checkHowOften(request)
            raise

    def _checkHowOften(self, request: Head) -> None:
        address = getattr(request.getClientAddress(), "host", "")
        wait = self._wrongKeys.note(address, request.clock.seconds())
        if wait:
            said = "This address has sent too many wrong API keys."
            raise APIError("too_many_wrong_keys", said, retryAfter=wait)

    def _checkContentType(self, request: Head) -> None:
        if self._keys.isRequired or request.method != b"POST":
            return
        types = request.valuesOf(b"content-type")
        if len(types) != 1 or not (types[0] == b"application/json" or _isJSON(types[0])):
            raise APIError("unsupported_content_type", "The content type must be application/json.")


def isOpen(request: Head) -> bool:
    """
    Return whether a request needs no key. None of these has a body.
    """
    return request.method == b"OPTIONS" or request.path in OPEN_PATHS


def _isOwn(origin: bytes, request: Head) -> bool:
    """
    Return whether a page is one of this server's: its origin is the address
    that it sends its request to, by the Host header. That is checked before; or
    there is a key, which no page that came by DNS rebinding knows.

    A page that came without encryption is no page of an encrypted address. The
    other way round it may be one, through a proxy that does the encryption.
    """
    host = request.getHeader(b"host")
    scheme, separator, rest = origin.lower().partition(b"://")
    schemes = (b"https",) if request.isSecure() else (b"http", b"https")
    return bool(separator) and scheme in schemes and host is not None and rest == host.lower()


def _keyIn(request: Head) -> bytes:
    # The first header that is there counts; twice the same header is no key.
    for name in _KEY_HEADERS:
        values = request.valuesOf(name)
        if values:
            if len(values) > 1:
                return b""
            return _bearerIn(values[0]) if name == b"authorization" else values[0].strip()
    return b""


def _bearerIn(value: bytes) -> bytes:
    scheme, _, key = value.strip().partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else b""


@lru_cache(maxsize=256)
def _plainHost(host: bytes) -> str:
    # Without port, brackets, the dot of the root, and case.
    text = host.decode("ascii", "replace").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    # An address with more than one colon is one of IPv6's that has no port.
    return text if text.count(":") > 1 else text.partition(":")[0].removesuffix(".")


def _boundHost(request: Head) -> str | None:
    # What the connection came in on, also where all addresses are bound. One
    # of IPv4 looks like this on a socket that takes both kinds.
    host = getattr(request.getHost(), "host", None)
    return host.lower().removeprefix("::ffff:") if isinstance(host, str) else None


def _isJSON(contentType: bytes) -> bool:
    kind = contentType.partition(b";")[0].strip().lower()
    return kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json"))
