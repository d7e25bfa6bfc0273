# -*- test-case-name: tests.web.test_channel -*-
"""
A request on one of our own connections: what its head must say, its body, and
the bytes of its answer.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from openai_server.accounts.account import Account
from openai_server.errors import APIError
from openai_server.web.body import Body, bodyFor, tooLarge
from openai_server.web.bodybudget import BodyBudget, BodyShare
from openai_server.web.request import APIRequest, Channel, OpenResponses

_LABEL = rb"[A-Za-z0-9_-]{1,63}"
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:" + _LABEL + rb"\.)*" + _LABEL + rb"\.?)(?::[0-9]{1,5})?")
#: The first line of an answer by its status.
_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode("ascii"))
    for status in HTTPStatus
}
_SENT: Final[dict[bytes, bytes]] = {}
#: Looked up once: a member of an enumeration costs a call each time.
SWITCHING_PROTOCOLS: Final = HTTPStatus.SWITCHING_PROTOCOLS.value


@lru_cache(maxsize=256)
def _isHost(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


@lru_cache(maxsize=256)
def _line(name: bytes, value: bytes) -> bytes:
    """
    A header's line, its name as it is usually written.
    """
    return b"%b: %b\r\n" % (b"-".join(word.capitalize() for word in name.split(b"-")), value)


@lru_cache(maxsize=2)
def _dateLine(second: int) -> bytes:
    return b"Date: %b\r\n" % formatdate(second, usegmt=True).encode("ascii")


class HTTPRequest(APIRequest):
    """
    One request of an L{HTTPConnection<openai_server.web.http.HTTPConnection>}.

    @ivar clientproto: C{HTTP/1.1} or C{HTTP/1.0}.
    @ivar isReceived: whether all of it was read.
    @ivar isLast: whether its client wants the connection to end with it.
    @ivar brings: whether its head announces a body.
    @ivar waitsForContinue: whether the client sends that only after a word from us.
    """

    __slots__ = (
        "_body",
        "_budget",
        "_framing",
        "_given",
        "_limit",
        "_received",
        "_repeated",
        "_share",
        "brings",
        "clientproto",
        "isLast",
        "isReceived",
        "waitsForContinue",
    )

    def __init__(self, site: OpenResponses, channel: Channel, headers: list[tuple[bytes, bytes]]) -> None:
        """
        @param headers: in the order in which they came.
        """
        super().__init__(site, channel, b"", b"")
        self.clientproto = b"HTTP/1.1"
        self.isReceived = False
        self.isLast = False
        self.brings = False
        self.waitsForContinue = False
        self._given: Mapping[bytes, bytes] = {}
        self._repeated: dict[bytes, list[bytes]] | None = None
        self._body: Body | None = None
        self._budget: BodyBudget | None = None
        self._share: BodyShare | None = None
        self._received = b""
        self._limit = 0
        self._framing = b""
        given: dict[bytes, bytes] = {}
        for name, value in headers:
            key = name.lower()
            if key in given:
                self._repeat(key, given[key], value)
            given[key] = value
        self._given = given
        self.requestId = self.nameFrom(given.get(b"x-request-id") or given.get(b"x-client-request-id"))

    def _repeat(self, name: bytes, former: bytes, value: bytes) -> None:
        if self._repeated is None:
            self._repeated = {}
        self._repeated.setdefault(name, [former]).append(value)

    # The head.

    def getHeader(self, name: bytes) -> bytes | None:
        """
        Return the last header of this name.
        """
        return self._given.get(name)

    def valuesOf(self, name: bytes) -> list[bytes]:
        """
        Return all headers of this name.
        """
        if self._repeated is not None and name in self._repeated:
            return self._repeated[name]
        value = self._given.get(name)
        return [] if value is None else [value]

    def headReceived(self, target: bytes, isOld: bool) -> None:
        """
        Judge the head.

        @param isOld: whether it is one of HTTP/1.0.
        @raise APIError: the request is not wanted.
        """
        self.path, _, self.query = target.partition(b"?")
        self._limit = limit = self.site.bodyLimit
        if isOld:
            self.clientproto = b"HTTP/1.0"
        given, repeated = self._given, self._repeated or _SENT
        # Neither absolute-form nor the forms of CONNECT and OPTIONS name anything here.
        if target[:1] != b"/":
            raise APIError("bad_request", "The request target is not a path.")
        host = given.get(b"host")
        if b"host" in repeated or not ((isOld and host is None) or (host is not None and _isHost(host))):
            raise APIError("bad_request", "The request needs one valid Host header.")
        length, coding = given.get(b"content-length"), given.get(b"transfer-encoding")
        if coding is not None and (
            isOld or b"transfer-encoding" in repeated or coding.lower() != b"chunked" or length is not None
        ):
            raise APIError("bad_request", "The only transfer encoding that is taken here is chunked.")
        # Nothing in a coding of its own is something, too.
        self.brings = coding is not None or length not in (None, b"0") or b"content-encoding" in given
        if b"expect" in given and not isOld:
            self.waitsForContinue = given[b"expect"].lower() == b"100-continue"
            if not self.waitsForContinue:
                raise APIError("expectation_failed", "The only expectation that is met here is 100-continue.")
        if length is not None and (len(length) > 18 or int(length) > limit):
            raise tooLarge(limit)

    def framingLine(self) -> bytes:
        """
        Return the header that says where the body ends.
        """
        if b"transfer-encoding" in self._given:
            return b"Transfer-Encoding: chunked\r\n"
        return b"Content-Length: %b\r\n" % self._given.get(b"content-length", b"0")

    def expectBody(self, account: Account, budget: BodyBudget) -> None:
        """
        The body of an admitted request follows.

        @param budget: of what all bodies together may hold.
        @raise APIError: it comes in a coding that is not known here.
        """
        self.account = account
        self._budget = budget
        if b"content-encoding" in self._given:
            self._share = budget.share()
            self._body = bodyFor(b",".join(self.valuesOf(b"content-encoding")), self._limit, self._share)

    # The body.

    def bodyPieceReceived(self, data: bytes) -> None:
        """
        Take a piece of the body.

        @raise APIError: it is too large, or not what it says.
        """
        if self._body is None:
            if not self._received and len(data) <= self._limit:
                # Most bodies come in one piece.
                self._received = data
                return
            if self._budget is not None:
                self._share = self._budget.share()
            self._body = Body(self._limit, self._share)
            if self._received:
                self._body.write(self._received)
        self._body.write(data)

    def bodyReceived(self) -> None:
        """
        The body is complete.

        @raise APIError: it cannot be decoded to its end.
        """
        if self._body is not None:
            self._received = self._body.complete()
            self._body = None
            self.releaseBody()
        self.isReceived = True

    def releaseBody(self) -> None:
        """
        Hold nothing of the budget any more: the body is complete or given up.
        """
        if self._share is not None:
            self._share.release()

    def takeBody(self) -> bytes:
        """
        Return the whole body, decoded, and keep it no longer.
        """
        received, self._received = self._received, b""
        return received

    # The answer.

    def beginning(self, data: bytes) -> bytes:
        """
        Return the head with this piece of the body.
        """
        headers, channel = self.headers, self.channel
        isOld = self.clientproto == b"HTTP/1.0"
        if not self.hasBody:
            self._framing = b"none"
        elif b"content-length" not in headers:
            if isOld:
                channel.persistent = False
            else:
                self._framing = b"chunked"
                headers[b"transfer-encoding"] = b"chunked"
        if self.code == SWITCHING_PROTOCOLS:
            # Whether it stays open is the other protocol's affair.
            headers[b"connection"] = b"Upgrade"
        elif not channel.persistent:
            headers[b"connection"] = b"close"
        elif isOld:
            headers[b"connection"] = b"keep-alive"
        lines = [
            _STATUS_LINES.get(self.code) or b"HTTP/1.1 %d Unknown\r\n" % self.code,
            _dateLine(int(time.time())),
            b"X-Request-Id: %b\r\nOpenai-Processing-Ms: %d\r\n"
            % (self.requestId.encode("ascii"), self.milliseconds()),
            *[_line(name, value) for name, value in headers.items()],
            b"\r\n",
        ]
        if data:
            lines.append(self.framed(data))
        # An answer may last for an hour.
        self.headers = {}
        if self.isStream:
            self._given = _SENT
        return b"".join(lines)

    def framed(self, data: bytes) -> bytes:
        """
        Return a piece of the body as it is sent.
        """
        framing = self._framing
        if framing == b"chunked":
            # Formatting is slow with much data.
            return b"".join((b"%x\r\n" % len(data), data, b"\r\n"))
        return b"" if framing else data

    def ending(self) -> bytes:
        """
        Return the last chunk, where there are chunks.
        """
        return b"0\r\n\r\n" if self._framing == b"chunked" else b""
