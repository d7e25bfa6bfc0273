# -*- test-case-name: tests.test_config -*-
"""
The values of all settings, as the rest of the server reads them.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from openai_server.config.exposure import descriptionFromAddress, descriptionOfProcess, withSocketMode
from openai_server.config.upstreams import UpstreamSettings

#: A wait of a year: more is a mistake, and timers overflow somewhere beyond.
_YEAR: Final = 31_536_000
#: No spaces at the ends, and nothing that is not seen: controls, marks of direction, lone surrogates.
_LINE: Final = (
    r"\A(?!\s)[^\x00-\x1f\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\ud800-\udfff]+(?<!\s)\Z"
)

_Text: TypeAlias = Annotated[str, Meta(pattern=_LINE)]
_Texts: TypeAlias = tuple[_Text, ...]
_Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=_YEAR)]
_SecondsOrNone: TypeAlias = Annotated[float, Meta(ge=0, le=_YEAR)]


def _does(what: str, **extra: Any) -> Meta:
    """
    @param what: half a sentence for C{--help} and the README.
    @param extra: fields of L{openai_server.config.settings.Setting} that the
        name and the type do not tell.
    """
    return Meta(description=what, extra=extra)


class Configuration(Struct, frozen=True, kw_only=True):
    """
    All settings, in the order of the README's table. The fields are spelled as
    the keys of the configuration file. Durations are in seconds, sizes in
    bytes, paths absolute.
    """

    port: Annotated[int, Meta(ge=0, le=65535), _does("HTTP port; 0 takes a free one")] = 14620
    host: Annotated[_Text, _does("HTTP address")] = "127.0.0.1"
    apiKey: Annotated[
        _Text | None, _does("bearer token that requests must bring; unset: none", isSecret=True)
    ] = None
    thrumSocket: Annotated[
        _Text | None,
        _does(
            "the daemon's socket; unset: looked for where daemons put it",
            ownVariable="HUM_THRUM_SOCK",
            places=("environment",),
            isPath=True,
        ),
    ] = None
    upstreams: Annotated[
        tuple[UpstreamSettings, ...],
        _does(
            "several daemons in place of that one, each with name, socket, weight (1) and registry (the path"
            " of its bees.json); unset: the one",
            places=("file",),
            isPath=True,
            isUpstreams=True,
        ),
    ] = ()
    firstLifeTimeout: Annotated[_Seconds, _does("from the daemon's echo to the first tone of a turn")] = 370
    stallTimeout: Annotated[_Seconds, _does("between two tones of a turn")] = 900
    turnTimeout: Annotated[_Seconds, _does("a whole turn")] = 3600
    maxTurns: Annotated[
        int, Meta(ge=0, le=100_000), _does("live and parked turns per worker; 0: unlimited")
    ] = 8
    cwd: Annotated[_Text | None, _does("folder in which the worker works")] = None
    cwdRoots: Annotated[
        _Texts, _does("folders below which a request may choose another (x-hum-cwd)", isPath=True)
    ] = ()
    allowedTools: Annotated[_Texts, _does("the worker's own tools that it may use")] = ()
    disallowedTools: Annotated[_Texts, _does("the worker's own tools that it must not use")] = ()
    ownTools: Annotated[
        Literal["auto", "always", "never"],
        _does("when the worker's own tools are there: auto (requests without tools), always, never"),
    ] = "auto"
    models: Annotated[_Texts, _does("model ids to list besides those that workers advertise")] = ()
    defaultModel: Annotated[
        _Text | None, _does("model of requests that name none; unset: the only one there is")
    ] = None
    allowedHosts: Annotated[
        _Texts, _does("further names that the Host header may have when no key is set")
    ] = ()
    corsOrigins: Annotated[_Texts, _does("origins whose pages may read answers in a browser")] = ()
    strict: Annotated[bool, _does("refuse requests with unknown fields")] = False
    reasoningField: Annotated[
        Literal["reasoning_content", "reasoning", "both", "none"],
        _does("where reasoning stands in a message: reasoning_content, reasoning, both, none"),
    ] = "reasoning_content"
    attachments: Annotated[
        Literal["tone", "file", "both"], _does("how images and files go to the worker: tone, file, both")
    ] = "both"
    bodyLimit: Annotated[int, Meta(ge=1, le=1 << 30), _does("largest request body", unit="bytes")] = 20 << 20
    bodyBudget: Annotated[
        int,
        Meta(ge=1, le=1 << 40),
        _does("all bodies that are being received together; one is always let in", unit="bytes"),
    ] = 256 << 20
    maxConnections: Annotated[
        int,
        Meta(ge=1, le=1_000_000),
        _does("open HTTP connections; always below the process's file limit"),
    ] = 4096
    keepAlive: Annotated[
        Literal["chunk", "comment", "off"], _does("what a silent stream sends: (empty) chunk, comment, off")
    ] = "chunk"
    keepAliveInterval: Annotated[_Seconds, _does("silence after which a stream sends it")] = 15
    drainTimeout: Annotated[_SecondsOrNone, _does("how long open answers may go on at a shutdown")] = 30
    logFileSize: Annotated[
        int,
        Meta(ge=0, le=1 << 40),
        _does("size at which the log file is put aside; 0: never, as with logrotate", unit="bytes"),
    ] = 10_000_000
    logFiles: Annotated[
        int, Meta(ge=1, le=10_000), _does("log files that are kept beside the one in use")
    ] = 10
    logLevel: Annotated[
        Literal["info", "warn", "error"],
        _does("the least that is logged: info (each request too), warn, error"),
    ] = "info"
    keyFile: Annotated[
        _Text | None,
        _does(
            "this bee's key, and of processes beside it NAME-2, NAME-3, ...; unset:"
            " hum/bees/openai-server.key in the state folder",
            isPath=True,
        ),
    ] = None
    registryFile: Annotated[
        _Text | None, _does("the daemon's registry; unset: hum/bees.json in the state folder", isPath=True)
    ] = None
    queueLength: Annotated[int, Meta(ge=0, le=1_000_000), _does("requests that may wait for a turn")] = 32
    queueTimeout: Annotated[_SecondsOrNone, _does("how long they may wait")] = 30
    parkTimeout: Annotated[_Seconds, _does("how long a model's tool call waits for its result")] = 50
    userHint: Annotated[
        Literal["auto", "always", "never"],
        _does("whether a lone message continues its user's session: auto, always, never"),
    ] = "auto"
    continuation: Annotated[bool, _does("let a conversation go on in its warm session")] = True
    schemaRepair: Annotated[
        bool, _does("ask once more when an answer does not match the JSON Schema asked for")
    ] = True
    registerTools: Annotated[bool, _does("tell the daemon the names of clients' tools")] = True
    onDisconnect: Annotated[
        Literal["cancel", "finish"],
        _does("what becomes of a turn whose clients have left: cancel, finish"),
    ] = "cancel"
    store: Annotated[
        _Text,
        _does(
            "where what outlasts a restart is kept: sqlite: (a file in the state folder), sqlite:///PATH,"
            " postgresql+psycopg://USER@HOST/DATABASE, memory: (nothing outlasts it)",
            isURL=True,
        ),
    ] = "sqlite:"
    keptResponses: Annotated[
        int, Meta(ge=0, le=1_000_000), _does("responses and chat completions that are kept; 0: none")
    ] = 10_000
    keptBytes: Annotated[int, Meta(ge=0, le=1 << 40), _does("all that are kept together", unit="bytes")] = (
        256 << 20
    )
    keptAge: Annotated[_Seconds, _does("how long each is kept after its last use")] = 2_592_000
    ledgerDays: Annotated[
        int, Meta(ge=0, le=36_500), _does("days for which it is kept what each turn cost; 0: nothing of that")
    ] = 90
    auditLog: Annotated[
        _Text | None,
        _does("file with a line of JSON for each request: who asked when for what; unset: none", isPath=True),
    ] = None
    workerTools: Annotated[bool, _does("show the worker's own tool use as reasoning")] = False
    listen: Annotated[
        _Texts, _does("Twisted endpoint string to listen on in place of host and port; repeatable")
    ] = ()
    metrics: Annotated[
        _Text | None,
        _does(
            "Twisted endpoint string to serve /metrics on without a key; unset: only beside the API, to keys"
            " of administrators"
        ),
    ] = None
    traces: Annotated[
        _Text | None,
        _does(
            "where OpenTelemetry's traces go: a collector's URL for OTLP over HTTP, or otlp (what its"
            " OTEL_ variables say); unset: there are none"
        ),
    ] = None
    processes: Annotated[
        int, Meta(ge=1, le=64), _does("processes that serve on these ports; above 1 only with PostgreSQL")
    ] = 1
    insecureNoAuth: Annotated[
        bool, _does("allow an address that others can reach without an API key", isFlag=True)
    ] = False
    embedded: Annotated[bool, _does("run a daemon with toy models in this process", isFlag=True)] = False

    @property
    def descriptions(self) -> tuple[str, ...]:
        """
        Where to listen, as Twisted's endpoint strings.
        """
        return tuple(map(withSocketMode, self.listen)) or (descriptionFromAddress(self.host, self.port),)

    def metricsDescription(self, number: int = 1) -> str | None:
        """
        Where to serve the metrics alone; None for nowhere.

        @param number: of the process, counted from 1.
        """
        return None if self.metrics is None else descriptionOfProcess(withSocketMode(self.metrics), number)
