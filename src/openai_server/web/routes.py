# -*- test-case-name: tests.web.test_routes -*-
"""
What answers which path.

A request whose sender is admitted passes the door, where its path is judged,
and then Klein finds its route. A route returns a JSON body, or None when a
stream has said everything; errors are raised and rendered in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Concatenate, Final, ParamSpec, TypeAlias
from urllib.parse import unquote_to_bytes

import msgspec
from klein import Klein
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import HTTPException, MethodNotAllowed

import openai_server
from openai_server.api.dialect import Dialect
from openai_server.api.inquiry import Inquiry
from openai_server.api.keeping import RecordsWanted
from openai_server.api.models import Model, modelBody, modelListBody
from openai_server.errors import APIError
from openai_server.web.admission import Admission
from openai_server.web.completion import Completion
from openai_server.web.interfaces import Request
from openai_server.web.models import OfferedModels
from openai_server.web.request import APIRequest

#: First segments of OpenAI's paths that are not served here.
UNSUPPORTED: Final = frozenset(
    """
    assistants audio batches chatkit containers edits embeddings engines evals
    files fine-tunes fine_tuning images moderations organization realtime responses skills threads uploads
    vector_stores videos
    """.split()  # noqa: SIM905 - one name a line would be a page of names
)

#: What stands before the paths of Azure's clients.
_AZURE: Final = "/openai"

_SHOWN_ID: Final = 200


_P = ParamSpec("_P")
#: Answers a request with a body; with None where it has answered it by itself.
#: It takes the ids in the path by their names.
Answer: TypeAlias = Callable[..., Coroutine[Deferred[Any], Any, bytes | None]]
_Route: TypeAlias = Callable[Concatenate["Routes", Request, _P], bytes | None]

#: Template and function of each route that is no dialect's.
_routes: list[tuple[str, Callable[..., bytes | None]]] = []


def _route(template: str) -> Callable[[_Route[_P]], _Route[_P]]:
    """
    Have what a method returns be the answer to a C{GET} of a path.
    """

    def declare(route: _Route[_P]) -> _Route[_P]:
        _routes.append((template, route))
        return route

    return declare


def pathsOf(template: str) -> set[str]:
    """
    Return the paths that are answered alike: with C{/v1} in front of them and
    without, and both behind Azure's C{/openai}.
    """
    paths = {template}
    if template.startswith("/v1/"):
        bare = template.removeprefix("/v1")
        paths |= {bare, _AZURE + template, _AZURE + bare}
    return paths


def _declare(app: Klein, template: str, method: str, answer: Callable[..., Deferred[None]]) -> None:
    app.route(template, methods=[method], endpoint=f"{method} {template}")(answer)


class Routes:
    """
    All routes.
    """

    def __init__(
        self,
        completion: Completion,
        dialects: Mapping[str, Dialect],
        models: OfferedModels,
        admission: Admission,
        whyNotReady: Callable[[], str | None],
        further: Sequence[tuple[str, str, Answer]] = (),
        whyDegraded: Callable[[], str | None] = lambda: None,
        answerBrowser: Callable[[Request], bool] = lambda request: False,
        away: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """
        @param whyNotReady: gives a reason for the operator, or None when
            prompts can be asked.
        @param further: method, template and function of routes that are no
            dialect's and not here either.
        @param whyDegraded: gives one word for why what is to last is in memory
            only, or None when it is not.
        @param answerBrowser: answers with a page where the client is a browser,
            and tells whether it is.
        @param away: gives the names of daemons that cannot be asked.
        """
        self._completion = completion
        self._dialects = dialects
        self._models = models
        self._admission = admission
        self._whyNotReady = whyNotReady
        self._further = further
        self._whyDegraded = whyDegraded
        self._answerBrowser = answerBrowser
        self._away = away

    def resource(self) -> IResource:
        """
        The root of the site.
        """
        app = Klein()
        # Otherwise // in a path is answered with a redirect, in HTML.
        app.url_map.merge_slashes = False
        for path, dialect in self._dialects.items():
            self._declareDialect(app, path, dialect)
        for template, route in _routes:
            self._declareRoute(app, template, route)
        for method, template, further in self._further:
            _declare(app, template, method, _answeringWith(template, further))
        app.handle_errors(Exception)(self.failed)
        return _Resource(app, self._admission)

    def _declareDialect(self, app: Klein, path: str, dialect: Dialect) -> None:
        def answer(request: APIRequest, model: str | None = None) -> Deferred[None]:
            request.route = path
            asked = dialect if model is None else _Deployment(dialect, model)
            return self._completion.answer(request, asked)

        _declare(app, path, "POST", answer)
        deployed = _AZURE + "/deployments/<path:model>" + path.removeprefix("/v1")
        app.route(deployed, methods=["POST"], endpoint=deployed)(answer)

    def _declareRoute(self, app: Klein, template: str, route: Callable[..., bytes | None]) -> None:
        def answer(request: APIRequest, **kwargs: str) -> Deferred[None]:
            request.route = template
            body = route(self, request, **kwargs)
            if body is not None:
                request.answer(body)
            return request.whenOver()

        _declare(app, template, "GET", answer)

    # OpenAI's.

    @_route("/v1/models")
    def listModels(self, request: Request) -> bytes:
        """
        All models.
        """
        mayUse = _mayUse(request)
        return modelListBody(Model(id, self._models.created(id)) for id in self._models.ids() if mayUse(id))

    @_route("/v1/models/<path:model>")
    def retrieveModel(self, request: Request, model: str) -> bytes:
        """
        One model. Its id may have slashes, encoded or not.
        """
        if not (self._models.isKnown(model) and _mayUse(request)(model)):
            missing = f"The model {model[:_SHOWN_ID]!r} does not exist."
            raise APIError("model_not_found", missing, param="model")
        return modelBody(Model(model, self._models.created(model)))

    # The operator's.

    @_route("/")
    def banner(self, request: Request) -> bytes | None:
        """
        What this is; for a browser, the page.
        """
        if self._answerBrowser(request):
            return None
        about = {"name": "openai-server", "version": openai_server.__version__, "api": "/v1"}
        return msgspec.json.encode(about)

    @_route("/healthz")
    def health(self, request: Request) -> bytes:
        """
        The process is alive.
        """
        return b'{"status":"ok"}'

    @_route("/readyz")
    def readiness(self, request: Request) -> bytes:
        """
        Prompts can be asked; 503 and the reason when they cannot. Said too is
        when what is to last is in memory only, and which daemons are away.
        """
        why = self._whyNotReady()
        if why is not None:
            raise APIError("daemon_unavailable", why, retryAfter=1)
        why = self._whyDegraded()
        said: dict[str, object] = (
            {"status": "ready"} if why is None else {"status": "degraded", "store": why}
        )
        if away := list(self._away()):
            said["away"] = away
        return msgspec.json.encode(said)

    # Errors.

    async def failed(self, request: Any, failure: Failure) -> bytes | None:
        """
        Tell the client what went wrong in a route that Klein found.
        """
        _tell(failure, request)
        await request.whenOver()
        return None


def _mayUse(request: Request) -> Callable[[str], bool]:
    assert request.account is not None
    return request.account.mayUse


def _answeringWith(template: str, answer: Answer) -> Callable[..., Deferred[None]]:
    async def answered(request: APIRequest, ids: Mapping[str, str]) -> None:
        request.route = template
        body = await answer(request, **ids)
        if body is not None:
            request.answer(body)
        await request.whenOver()

    def begin(request: APIRequest, **ids: str) -> Deferred[None]:
        return Deferred.fromCoroutine(answered(request, ids))

    return begin


class _Deployment:
    """
    A dialect in which a request's path names the model, as Azure's do.
    """

    def __init__(self, dialect: Dialect, model: str) -> None:
        self.name = dialect.name
        self.renderer = dialect.renderer
        self.keeping = dialect.keeping
        self._parse = dialect.parse
        self._model = model

    def parse(self, body: bytes, model: str | None = None) -> Inquiry | RecordsWanted:
        """
        Return what a request asks of this model.
        """
        return self._parse(body, self._model)


def settled(result: object, request: APIRequest) -> None:
    """
    The work for a request is done: then its answer was given.
    """
    if isinstance(result, Failure):
        _tell(result, request)
    elif not request.hasEnded:
        _tell(Failure(TypeError("the route gave no complete answer")), request)


def _tell(failure: Failure, request: APIRequest) -> None:
    """
    The one place where errors become answers. A request that was cut has been
    answered before its work was cancelled.
    """
    error = failure.value
    if isinstance(error, HTTPException):
        error = _errorFromRouting(error, request)
    if isinstance(error, APIError):
        request.fail(error)
    elif not (isinstance(error, CancelledError) and (request.hasFailed or request.isOver)):
        request.processingFailed(failure)


def _errorFromRouting(error: HTTPException, request: APIRequest) -> APIError:
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return APIError(
            "method_not_supported",
            f"This path takes {allowed} only.",
            headers={"allow": allowed},
        )
    segments = [segment.decode("utf-8", "replace") for segment in request.path.split(b"/") if segment]
    if segments[:1] == ["openai"]:
        del segments[0]
    if segments[:2] == ["v1", "v1"]:
        return APIError("unknown_url", "There is nothing at this path: the client's base URL has /v1 twice.")
    if segments[:1] == ["v1"]:
        del segments[0]
    elif segments[:1] == ["deployments"]:
        # The model's id may have slashes.
        del segments[:2]
        del segments[: next((at for at, name in enumerate(segments) if name in UNSUPPORTED), 0)]
    if segments and segments[0] in UNSUPPORTED:
        return APIError(
            "unsupported_endpoint",
            f"This server does not offer {segments[0]}: it offers chat and legacy completions, responses, "
            "conversations and models.",
        )
    return APIError("unknown_url", "There is nothing at this path.")


class _Resource(KleinResource):
    """
    Finds exact paths in a table, and leaves the others to Klein, which knows
    each by one of L{pathsOf} alone: a rule of Klein's takes a millisecond to
    make.
    """

    def __init__(self, app: Klein, admission: Admission) -> None:
        super().__init__(app)
        self._admission = admission
        self._klein = app
        rules = list(app.url_map.iter_rules())
        # By path and method: each rule of Klein's that has no variable.
        self._exact: dict[tuple[bytes, bytes], str] = {
            (path.encode(), method.encode()): rule.endpoint
            for rule in rules
            if not rule.arguments
            for path in pathsOf(rule.rule)
            for method in rule.methods or ()
        }
        # What follows /v1 in a path.
        self._families = {rule.rule.split("/")[2].encode() for rule in rules if rule.rule.startswith("/v1/")}

    def render(self, request: Any) -> Any:
        """
        Have a path answered that can be one. Always C{NOT_DONE_YET}: Twisted
        would give other results a body of its own.
        """
        endpoint = self._exact.get((request.path, request.method))
        if endpoint is not None and not self._admission.isPreflight(request):
            try:
                answering: Any = self._klein.execute_endpoint(endpoint, request)
                answering.addBoth(settled, request)
            except Exception:
                _tell(Failure(), request)
            return NOT_DONE_YET
        try:
            request.prepath, request.postpath = [], self._usual(_segments(request.path))
        except APIError as error:
            request.fail(error)
            return NOT_DONE_YET
        if self._admission.isPreflight(request):
            request.route = "preflight"
            self._admission.answerPreflight(request)
        else:
            super().render(request)
        return NOT_DONE_YET

    def _usual(self, segments: list[bytes]) -> list[bytes]:
        """
        Return the path of L{pathsOf} that Klein knows.
        """
        bare = segments[1:] if segments[0] == _AZURE[1:].encode() else segments
        if bare[:1] == [b"v1"]:
            return bare
        return [b"v1", *bare] if bare and bare[0] in self._families else segments


def _segments(path: bytes) -> list[bytes]:
    """
    The decoded segments of a path, without the empty one that a trailing
    slash makes.

    @raise APIError: no path can have these. Slashes are counted before
        decoding, since the id of a model may have two in a row.
    """
    inner = path[1:].split(b"/")
    decoded = [unquote_to_bytes(segment) for segment in inner]
    if b"" in inner[:-1] or not {b".", b".."}.isdisjoint(decoded):
        raise APIError("unknown_url", "There is nothing at this path.")
    try:
        b"/".join(decoded).decode("utf-8")
    except UnicodeDecodeError:
        raise APIError("bad_request", "The path is not UTF-8.") from None
    return decoded[:-1] if len(decoded) > 1 and not decoded[-1] else decoded
