# -*- test-case-name: tests.web.test_routes -*-
"""
What answers which path.

A request whose sender is admitted passes the door, where its path is judged,
and then Klein finds its route. A route returns a JSON body, or None when a
stream has said everything; errors are raised and rendered in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeAlias

import msgspec
from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from zope.interface import implementer

import openai_server
from openai_server.api.dialect import Dialect
from openai_server.api.models import Model, modelBody, modelListBody
from openai_server.errors import APIError
from openai_server.web.admission import Account, Admission
from openai_server.web.answers import answerJSON
from openai_server.web.request import APIRequest

#: First segments of OpenAI's paths that are not served here.
UNSUPPORTED: Final = frozenset(
    """
    assistants audio batches chatkit completions containers conversations edits embeddings engines evals
    files fine-tunes fine_tuning images moderations organization realtime responses skills threads uploads
    vector_stores videos
    """.split()  # noqa: SIM905 - one name a line would be a page of names
)

_SHOWN_ID: Final = 200


class Completions(Protocol):
    """
    What answers requests of any dialect.
    """

    async def complete(self, request: APIRequest, account: Account, dialect: Dialect) -> bytes | None:
        """
        Give the body of a whole answer; or answer with an L{EventStream
        <openai_server.web.streaming.EventStream>} and give None when that has
        been ended, in whatever way.

        Cancelled when the client leaves and when the server stops: then the
        request is answered already, and C{CancelledError} is to be let out.

        @raise APIError: shown to the client, as a status or as an event.
        """


class Models(Protocol):
    """
    What can be asked for.
    """

    def ids(self) -> Sequence[str]:
        """
        The ids of all models, in the order in which they are shown.
        """

    def created(self, model: str) -> int:
        """
        When it was first seen, in seconds since 1970.
        """

    def isKnown(self, model: str) -> bool:
        """
        It is, or was, on offer.
        """


_P = ParamSpec("_P")
_Answer: TypeAlias = Coroutine[Any, Any, "bytes | None"]
_Route: TypeAlias = Callable[Concatenate["Routes", APIRequest, _P], _Answer]

#: Template, method and function of each route that is no dialect's.
_routes: list[tuple[str, str, Callable[..., _Answer]]] = []


def _route(template: str, method: str = "GET") -> Callable[[_Route[_P]], _Route[_P]]:
    """
    Have a method answer a path, with C{/v1} in front of it and without.
    """

    def declare(route: _Route[_P]) -> _Route[_P]:
        _routes.append((template, method, route))
        return route

    return declare


def _declare(app: Klein, template: str, method: str, work: Callable[..., _Answer]) -> None:
    async def answer(request: APIRequest, **kwargs: str) -> bytes | None:
        request.route = template
        await _answer(request, work(request, **kwargs))
        return None

    for path in {template, template.removeprefix("/v1")}:
        app.route(path, methods=[method], endpoint=f"{method} {path}")(answer)


async def _answer(request: APIRequest, work: _Answer) -> None:
    """
    Answer with what comes of the work. Ends when the request is over: Klein
    finishes whatever is not finished by then.
    """
    body = await request.doing(work)
    if isinstance(body, bytes):
        answerJSON(request, body)
    elif body is not None or request.stream is None or not request.stream.hasEnded:
        raise TypeError(f"the route gave {type(body).__name__} and no complete stream")
    await request.whenOver()


class Routes:
    """
    All routes.
    """

    def __init__(
        self,
        completions: Completions,
        dialects: Mapping[str, Dialect],
        models: Models,
        admission: Admission,
        whyNotReady: Callable[[], str | None],
    ) -> None:
        """
        @param dialects: what is spoken at which path.
        @param whyNotReady: gives a reason for the operator, or None when
            prompts can be asked.
        """
        self._completions = completions
        self._dialects = dialects
        self._models = models
        self._admission = admission
        self._whyNotReady = whyNotReady

    def resource(self) -> IResource:
        """
        The root of the site.
        """
        app = Klein()
        # Otherwise // in a path is answered with a redirect, in HTML.
        app.url_map.merge_slashes = False
        for path, dialect in self._dialects.items():
            _declare(app, path, "POST", partial(self.complete, dialect=dialect))
        for template, method, route in _routes:
            _declare(app, template, method, partial(route, self))
        app.handle_errors(Exception)(self.failed)
        return _Door(self._admission, app.resource())

    # OpenAI's.

    async def complete(self, request: APIRequest, dialect: Dialect) -> bytes | None:
        """
        The main path, in whichever dialect.
        """
        return await self._completions.complete(request, _accountOf(request), dialect)

    @_route("/v1/models")
    async def listModels(self, request: APIRequest) -> bytes:
        """
        All models.
        """
        return modelListBody(Model(id, self._models.created(id)) for id in self._models.ids())

    @_route("/v1/models/<path:model>")
    async def retrieveModel(self, request: APIRequest, model: str) -> bytes:
        """
        One model. Its id may have slashes, encoded or not.
        """
        if not self._models.isKnown(model):
            missing = f"The model {model[:_SHOWN_ID]!r} does not exist."
            raise APIError("model_not_found", missing, param="model")
        return modelBody(Model(model, self._models.created(model)))

    # The operator's.

    @_route("/")
    async def banner(self, request: APIRequest) -> bytes:
        """
        What this is.
        """
        about = {"name": "openai-server", "version": openai_server.__version__, "api": "/v1"}
        return msgspec.json.encode(about)

    @_route("/healthz")
    async def health(self, request: APIRequest) -> bytes:
        """
        The process is alive.
        """
        return b'{"status":"ok"}'

    @_route("/readyz")
    async def readiness(self, request: APIRequest) -> bytes:
        """
        Prompts can be asked; 503 and the reason when they cannot.
        """
        why = self._whyNotReady()
        if why is not None:
            raise APIError("daemon_unavailable", why, retryAfter=1)
        return b'{"status":"ready"}'

    # Errors.

    async def failed(self, request: Any, failure: Failure) -> bytes | None:
        """
        The one place where errors become answers. A request that was cut has
        been answered before its work was cancelled.
        """
        error = failure.value
        if isinstance(error, HTTPException):
            error = _errorFromRouting(error, request)
        if isinstance(error, APIError):
            request.fail(error)
        elif not (isinstance(error, CancelledError) and request.hasFailed):
            request.processingFailed(failure)
        await request.whenOver()
        return None


def _accountOf(request: APIRequest) -> Account:
    account = request.account
    assert account is not None
    return account


def _errorFromRouting(error: HTTPException, request: APIRequest) -> APIError:
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return APIError(
            "method_not_supported",
            f"This path takes {allowed} only.",
            headers={"allow": allowed},
        )
    segments = [segment.decode("utf-8", "replace") for segment in request.path.split(b"/") if segment]
    if segments[:1] == ["v1"]:
        del segments[0]
    if segments and segments[0] in UNSUPPORTED:
        return APIError(
            "unsupported_endpoint",
            f"This server does not offer {segments[0]}: it offers chat completions and models.",
        )
    return APIError("unknown_url", "There is nothing at this path.")


@implementer(IResource)
class _Door(Resource):
    """
    What each request passes before its route is looked for.
    """

    isLeaf = True

    def __init__(self, admission: Admission, inside: IResource) -> None:
        super().__init__()
        self._admission = admission
        self._inside = inside

    def render(self, request: Any) -> int:
        """
        Have a path answered that can be one. Always C{NOT_DONE_YET}: Twisted
        would give other results a body of its own.
        """
        try:
            request.postpath = _segments(request.path, request.postpath)
        except APIError as error:
            request.fail(error)
            return NOT_DONE_YET
        if self._admission.isPreflight(request):
            request.route = "preflight"
            self._admission.answerPreflight(request)
        else:
            self._inside.render(request)
        return NOT_DONE_YET


def _segments(path: bytes, decoded: list[bytes]) -> list[bytes]:
    """
    The decoded segments of a path, without the empty one that a trailing
    slash makes.

    @raise APIError: no path can have these. Slashes are counted before
        decoding, since the id of a model may have two in a row.
    """
    inner = path[1:].split(b"/")[:-1]
    if b"" in inner or not {b".", b".."}.isdisjoint(decoded):
        raise APIError("unknown_url", "There is nothing at this path.")
    try:
        b"/".join(decoded).decode("utf-8")
    except UnicodeDecodeError:
        raise APIError("bad_request", "The path is not UTF-8.") from None
    return decoded[:-1] if len(decoded) > 1 and not decoded[-1] else decoded
