"""
The server on real sockets, for clients that know nothing of it: as a service
in this process, with the daemon in the test's hands.

Nothing is at a fixed place: ports are free ones, and all folders of the user's
lie in one that goes away with the test.
"""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import openai
from openai.types.chat import ChatCompletionChunk
from twisted.application.service import IService
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.logger import LogEvent, globalLogPublisher

from openai_server.clock import MonotonicClock
from openai_server.daemon.link import Link
from openai_server.embedded.models import Model, ModelPrompt, echo
from openai_server.embedded.playback import PlayedTurn, Step, Wait
from openai_server.greeting import Bound
from openai_server.joining import Joining
from openai_server.service import Front, OpenAIService
from openai_server.tap import Options
from openai_server.web.front import WebFront
from tests.machinery.daemon import DaemonSettings, FaultyDaemon
from tests.machinery.models import TEST_MODELS
from tests.recorder import StrictRecorder
from tests.support import AsyncCase

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Case = TypeVar("_Case")

#: Seconds after which a test that waits for something has failed.
PATIENCE = 20.0

#: What a server leaves in the user's folders: its key.
USUAL_FILES = {
    "runtime",
    "state",
    "state/hum",
    "state/hum/bees",
    "state/hum/bees/openai-server.key",
}


class SkippingClock(MonotonicClock):
    """
    Real time that can be put forward.
    """

    def __init__(self) -> None:
        super().__init__(reactor)  # type: ignore[arg-type]
        self._skipped = 0.0
        self._calls: list[IDelayedCall] = []

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any) -> IDelayedCall:
        self._calls = [call for call in self._calls if call.active()]
        self._calls.append(super().callLater(delay, callable, *args, **kw))
        return self._calls[-1]

    def seconds(self) -> float:
        return super().seconds() + self._skipped

    def skip(self, seconds: float) -> None:
        """
        Let everything that is due within these seconds be due now.
        """
        self._skipped += seconds
        for call in self._calls:
            if call.active():
                call.reset(max(0.0, call.getTime() - reactor.seconds() - seconds))  # type: ignore[attr-defined]


class Gate:
    """
    A step of a model's that holds it back until the test opens the gate.

    @ivar reached: fires when a model stands before it.
    """

    def __init__(self) -> None:
        self.isOpen = False
        self.reached: Deferred[None] = Deferred()
        self._isReached = False

    def play(self, turn: PlayedTurn) -> Iterator[Wait]:
        """
        See L{Step.play}.
        """
        if not self._isReached:
            self._isReached = True
            reactor.callLater(0, self.reached.callback, None)  # type: ignore[attr-defined]
        while not self.isOpen:
            yield 0.01


class Watch(StrictRecorder):
    """
    A recorder that one can wait for.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[tuple[str, int, Deferred[None]]] = []

    def lineReceived(self, line: bytes, connection: int = 0) -> None:
        super().lineReceived(line, connection)
        self._look()

    def whenSent(self, chi: str, count: int = 1) -> Deferred[None]:
        """
        Fires when the server has sent so many tones of this kind.
        """
        sent: Deferred[None] = Deferred()
        sent.addTimeout(PATIENCE, reactor)  # type: ignore[arg-type]
        self._waiting.append((chi, count, sent))
        self._look()
        return sent

    def _look(self) -> None:
        for waiting in list(self._waiting):
            chi, count, sent = waiting
            if len(self.sent(chi)) >= count or sent.called:
                self._waiting.remove(waiting)
                if not sent.called:
                    sent.callback(None)


class Serving:
    """
    The server as a service in this process, connected to a daemon that is the
    test's.

    @ivar url: what clients take for their base URL.
    @ivar watch: sees all that the server sends to the daemon.
    @ivar clock: that of the server and of the daemon.
    @ivar logged: every log event.
    @ivar folder: the only place where files may be.
    """

    link: Link
    front: WebFront

    def __init__(self, models: Mapping[str, Model], **settings: Any) -> None:
        self.clock = SkippingClock()
        self.logged: list[LogEvent] = []
        # Short, since it holds the path of a socket.
        self.folder = Path(tempfile.mkdtemp(prefix="openai-server-tests-"))
        self.watch = Watch()
        self.daemon = FaultyDaemon(
            clock=self.clock,
            settings=DaemonSettings(
                **{"models": {**TEST_MODELS, **models}, "startUp": 0.0, "workerReturn": 0.0} | settings
            ),
            directory=self.folder,
            reactor=reactor,  # type: ignore[arg-type]
        )
        self.watch.watch(self.daemon)
        self._service: OpenAIService
        self._logWaiting: list[tuple[Callable[[LogEvent], bool], Deferred[None]]] = []

    async def start(self, **settings: str) -> None:
        """
        Start all, and wait until the server is connected.

        @param settings: those of the server, as its environment has them.
        """
        globalLogPublisher.addObserver(self._observe)
        self.daemon.start()
        environ = userFolders(self.folder) | {
            "HUM_THRUM_SOCK": str(self.daemon.socketPath),
            "OPENAI_SERVER_REGISTRY_FILE": str(self.daemon.registryPath),
            "OPENAI_SERVER_PORT": "0",
            "OPENAI_SERVER_STORE": "memory:",
            **{f"OPENAI_SERVER_{name}": value for name, value in settings.items()},
        }
        options = Options(environ)
        options.parseOptions([])
        configuration = options.loaded.configuration
        self._joining = Joining(reactor, self.clock, options.loaded, environ)
        self._service = OpenAIService(
            reactor, self.clock, configuration.descriptions, configuration.drainTimeout, self._compose
        )
        connected = self.whenLogged(lambda event: event.get("log_format") == "connected to the daemon")
        self._service.startService()
        await connected
        await deferLater(reactor, 0)  # type: ignore[arg-type]
        # Past the time in which "no worker" means "not yet".
        self.clock.skip(6)

    def _compose(self, bound: Sequence[Bound], start: Callable[[IService], None]) -> Front:
        self.url = f"{bound[0]}/v1"

        def noteAndStart(service: IService) -> None:
            if isinstance(service, Link):
                self.link = service
            elif isinstance(service, WebFront):
                self.front = service
            start(service)

        return self._joining.join(bound, noteAndStart)

    def stopService(self) -> Deferred[None]:
        """
        Stop the server as a signal would.
        """
        return self._service.stopService()

    async def stop(self, test: AsyncCase) -> None:
        """
        Stop all, and look whether anything is left.
        """
        self._service.endNow()
        await self._service.stopService()
        await self.daemon.stop()
        globalLogPublisher.removeObserver(self._observe)
        left = {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*")}
        shutil.rmtree(self.folder)
        test.assertEqual(self.watch.violations, [])
        test.assertEqual(left - USUAL_FILES, set(), "files are left")
        submitter = self.front.submitter
        slots = submitter.upstreams
        test.assertEqual(
            (self.link.turnCount, slots.taken, slots.waiting, len(submitter.calls)), (0, 0, 0, 0)
        )

    # What happens.

    def whenLogged(self, isIt: Callable[[LogEvent], bool]) -> Deferred[None]:
        """
        Fires when there is, or was, a log event for which this is true.
        """
        logged: Deferred[None] = Deferred()
        logged.addTimeout(PATIENCE, reactor)  # type: ignore[arg-type]
        self._logWaiting.append((isIt, logged))
        for event in self.logged:
            self._look(event)
        return logged

    def whenDisconnected(self) -> Deferred[None]:
        """
        Fires when the server has noticed that its daemon is gone.
        """
        return self.whenLogged(lambda event: "no connection" in (event.get("log_format") or ""))

    def whenEnded(self, end: str) -> Deferred[None]:
        """
        Fires when a request has ended with this end code.
        """
        return self.whenLogged(lambda event: "requestId" in event and event.get("end") == end)

    @property
    def ends(self) -> list[str]:
        """
        The end code of each request so far.
        """
        return [event["end"] for event in self.logged if "end" in event and "requestId" in event]

    def _observe(self, event: LogEvent) -> None:
        self.logged.append(event)
        self._look(event)

    def _look(self, event: LogEvent) -> None:
        for waiting in list(self._logWaiting):
            isIt, logged = waiting
            if logged.called:
                self._logWaiting.remove(waiting)
            elif isIt(event):
                self._logWaiting.remove(waiting)
                logged.callback(None)


def inThread(
    method: Callable[Concatenate[_Case, _P], _T],
) -> Callable[Concatenate[_Case, _P], Deferred[_T]]:
    """
    A test method that may block: it runs in a thread, beside the server.
    """

    @functools.wraps(method)
    def run(case: _Case, *args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]:
        return deferToThread(method, case, *args, **kwargs)

    return run


def inLoop(
    method: Callable[[_Case], Coroutine[Any, Any, None]],
) -> Callable[[_Case], Deferred[None]]:
    """
    A test method that is a coroutine of asyncio's: it runs in a loop of its
    own, in a thread, beside the server.
    """

    @functools.wraps(method)
    def run(case: _Case) -> Deferred[None]:
        return deferToThread(lambda: asyncio.run(method(case)))

    return run


class ServingCase(AsyncCase):
    """
    A test with the server in this process and the official client.

    @cvar environment: settings of the server, by the names that they have in
        the environment after C{OPENAI_SERVER_}.
    @ivar client: a client that never asks again by itself.
    """

    environment: Mapping[str, str] = {}

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.gate = Gate()
        self.serving = Serving(self.models())
        self.addCleanup(self.serving.stop, self)
        await self.serving.start(**self.environment)
        self.client = self.newClient()

    def models(self) -> Mapping[str, Model]:
        """
        Further models. C{gated} says C{one}, waits for L{gate}, says C{two};
        C{late} waits for it and says C{late}.
        """
        return {
            "gated": lambda question: [*said("one "), self.gate, *said("two")],
            "late": lambda question: [self.gate, *said("late")],
        }

    def newClient(self, **options: Any) -> openai.OpenAI:
        """
        A client of this server, closed at the end.
        """
        client = openai.OpenAI(**self._terms(options), http_client=openai.DefaultHttpxClient(trust_env=False))
        self.addCleanup(client.close)
        return client

    def newAsyncClient(self, **options: Any) -> openai.AsyncOpenAI:
        """
        The same for asyncio; whoever makes it closes it.
        """
        http = openai.DefaultAsyncHttpxClient(trust_env=False)
        return openai.AsyncOpenAI(**self._terms(options), http_client=http)

    def _terms(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "base_url": self.serving.url,
            "api_key": "unused",
            "max_retries": 0,
            "timeout": PATIENCE,
            **options,
        }

    def inReactor(self, call: Callable[..., Any], *args: Any) -> Any:
        """
        From a test's thread: call this in the reactor's, and wait for its
        Deferred if it returns one.
        """
        return blockingCallFromThread(reactor, call, *args)

    def sent(self, *chis: str) -> list[dict[str, Any]]:
        """
        The tones of these kinds that the server has sent to the daemon.
        """
        return self.serving.watch.sent(*chis)

    def whenCancelled(self, count: int = 1) -> None:
        """
        From a test's thread: wait for so many C{cancel} tones.
        """
        self.inReactor(self.serving.watch.whenSent, "cancel", count)


def said(text: str) -> Sequence[Step]:
    """
    The steps of a model that says this.
    """
    return echo(ModelPrompt(text))


def user(content: Any) -> Any:
    """
    A transcript of one message.
    """
    return [{"role": "user", "content": content}]


def script(*steps: Mapping[str, Any]) -> Any:
    """
    A transcript that makes the model C{script} do these steps.
    """
    return user("#script " + json.dumps(steps))


def textOf(chunks: list[ChatCompletionChunk]) -> str:
    """
    What a stream has said.
    """
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def reasonsOf(chunks: list[ChatCompletionChunk]) -> list[str]:
    """
    The finish reasons of a stream: one when it is complete.
    """
    return [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]


def userFolders(folder: Path) -> dict[str, str]:
    """
    An environment in which all folders of the user's lie in this one.
    """
    (folder / "runtime").mkdir(mode=0o700, exist_ok=True)
    return {
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_RUNTIME_DIR": str(folder / "runtime"),
    }
