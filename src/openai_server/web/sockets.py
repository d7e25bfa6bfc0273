# -*- test-case-name: tests.web.test_websocket -*-
"""
C{GET /v1/responses} as a WebSocket: its handshake, and the way of its requests.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from wsproto.utilities import generate_accept_token

from openai_server.accounts.account import Account
from openai_server.api.dialect import Dialect
from openai_server.api.inquiry import Inquiry
from openai_server.api.keeping import RecordsFound
from openai_server.api.output import Finished, Usage
from openai_server.errors import APIError
from openai_server.web.bodybudget import BodyBudget
from openai_server.web.completion import Completion
from openai_server.web.http import HTTPConnection
from openai_server.web.httprequest import HTTPRequest
from openai_server.web.interfaces import Head
from openai_server.web.kept import KeptAnswers
from openai_server.web.lanememory import LaneMemory, Remembered
from openai_server.web.message import MessageRequest
from openai_server.web.routes import pathsOf, settled
from openai_server.web.websocket import SocketSite, WebSocketConnection

ROUTE: Final = "/v1/responses"
_PATHS: Final = frozenset(path.encode() for path in pathsOf(ROUTE))
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
#: Bytes of unstored responses that all connections together remember.
MEMORY_BYTES: Final = 128 * 2**20
#: The end of a response that has no output.
_NOTHING: Final = Finished("tool_calls", Usage())


class ResponsesSockets:
    """
    The WebSockets of a site.
    """

    def __init__(
        self,
        completion: Completion,
        dialect: Dialect,
        kept: KeptAnswers,
        admit: Callable[[Head], Account],
        *,
        keeps: bool,
    ) -> None:
        """
        @param dialect: of the Responses API.
        @param kept: the responses that are kept.
        @param admit: judges each request by the handshake's headers, as that
            was: keys come and go.
        @param keeps: whether they are kept that do not say otherwise.
        """
        self._completion = completion
        self._dialect = dialect
        self._kept = kept
        self._admit = admit
        self._keeps = keeps
        self._memory = BodyBudget(MEMORY_BYTES, 0)

    # The handshake.

    def takes(self, request: HTTPRequest) -> bool:
        """
        Return whether a request asks for a WebSocket where there is one.
        """
        protocols = b",".join(request.valuesOf(b"upgrade")).lower().split(b",")
        return (
            request.method == b"GET"
            and request.path.removesuffix(b"/") in _PATHS
            and request.clientproto == b"HTTP/1.1"
            and not request.isLast
            and b"websocket" in [protocol.strip() for protocol in protocols]
        )

    def open(self, request: HTTPRequest) -> None:
        """
        Answer a handshake, as RFC 6455 has it in its section 4.2.

        @raise APIError: 426 for another version, 400 for a key that is none.
        """
        request.route = ROUTE
        if request.valuesOf(b"sec-websocket-version") != [b"13"]:
            said = "The version of the WebSocket protocol must be 13."
            raise APIError("upgrade_required", said, headers={"sec-websocket-version": "13"})
        keys = request.valuesOf(b"sec-websocket-key")
        if len(keys) != 1 or _KEY.fullmatch(keys[0]) is None:
            raise APIError("bad_request", "The request needs one valid Sec-WebSocket-Key header.")
        request.setHeader(b"upgrade", b"websocket")
        request.setHeader(b"sec-websocket-accept", generate_accept_token(keys[0]))
        request.answer(b"", 101)

    def successor(self, channel: HTTPConnection, request: HTTPRequest) -> WebSocketConnection:
        """
        Return the WebSocket that a connection becomes.
        """
        site: SocketSite = channel.site
        memory = LaneMemory(self._memory)
        return WebSocketConnection(site, channel, request, self.answer, memory, keeps=self._keeps)

    # Requests.

    def answer(self, request: MessageRequest) -> None:
        """
        Answer a request as a POST is answered.
        """
        answering = Deferred.fromCoroutine(self._answered(request))
        if not request.isOver:
            request.doing(answering)
        answering.addBoth(settled, request)

    async def _answered(self, request: MessageRequest) -> None:
        event = request.event
        assert event is not None
        request.account = self._admit(request)
        request.parent = parent = request.memory.find(event.previous)
        if not event.generates:
            await self._prepare(request, await self._read(request.account.name, event.body, parent))
        elif parent is None:
            await self._completion.answer(request, self._dialect)
        else:
            inquiry = await self._read(request.account.name, event.body, parent)
            await self._completion.answer(request, _ReadDialect(self._dialect, inquiry))

    async def _read(self, account: str, body: bytes, parent: Remembered | None) -> Inquiry:
        """
        Return what a request asks.

        @param parent: what it goes on from that is not stored.
        """
        parsed = self._dialect.parse(body)
        if isinstance(parsed, Inquiry):
            return parsed
        if parent is not None:
            read = partial(_readBehind, parent, parsed.read)
            parsed = replace(parsed, previous=parent.root, read=read)
        return await self._kept.resolved(account, parsed)

    async def _prepare(self, request: MessageRequest, inquiry: Inquiry) -> None:
        """
        Answer a request for a response without output, from which others go on.
        """
        assert request.account is not None
        dialect = self._dialect
        request.model = inquiry.model
        keeping = dialect.keeping(inquiry)
        if keeping is not None:
            record = keeping.record([_NOTHING])
            await self._kept.store.put(request.account.name, keeping.id, record, keeping.previous)
        renderer = dialect.renderer(inquiry)
        request.begin(renderer)
        request.complete(renderer.start() + renderer.feed([_NOTHING]))


def _readBehind(
    parent: Remembered,
    read: Callable[[RecordsFound], Inquiry],
    found: RecordsFound,
) -> Inquiry:
    # Nothing is gone on from where the beginning is gone.
    isWhole = found.chain or parent.root is None
    return read(replace(found, chain=[*found.chain, *parent.records] if isWhole else ()))


class _ReadDialect:
    """
    The dialect of a request that was read already.
    """

    def __init__(self, dialect: Dialect, inquiry: Inquiry) -> None:
        self.name = dialect.name
        self.renderer = dialect.renderer
        self.keeping = dialect.keeping
        self._inquiry = inquiry

    def parse(self, body: bytes, model: str | None = None) -> Inquiry:
        """
        Return what the request asks.
        """
        return self._inquiry
