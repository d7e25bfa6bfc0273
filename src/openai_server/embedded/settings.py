# -*- test-case-name: tests.embedded.test_daemon -*-
"""
How an embedded daemon and its worker behave: what differs between machines
and versions, and what tests put in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openai_server.embedded.models import MODELS, Model
from openai_server.wire.tones import PROTO_VERSION


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    What stays as it is while the daemon runs. The defaults are those of humd
    0.31.18 and the claude CLI, but for C{startUp}.

    @ivar models: what the worker serves, by model id.
    @ivar startUp: seconds that a process needs before its first tone; the real
        one needs about 2.
    @ivar pace: seconds between the words of the models that stream words.
    @ivar ownTools: names of tools that the worker runs itself.
    @ivar maxCells: processes that a worker keeps.
    @ivar idleTime: seconds after which an idle process ends.
    @ivar toolPatience: seconds that a model waits for the result of a call.
    @ivar workerReturn: seconds after the daemon's start until workers are back.
    @ivar kills: C{cancel} and eviction end the process, as newer workers may;
        those of 0.31.18 do nothing.
    @ivar waitsForClients: for benchmarks: a worker waits for a client that
        does not keep up. The real one never does: tones are lost.
    """

    models: Mapping[str, Model] = field(default_factory=lambda: dict(MODELS))
    startUp: float = 0.2
    pace: float = 0.02
    ownTools: tuple[str, ...] = ("Bash", "Read")
    maxCells: int = 8
    idleTime: float = 300.0
    toolPatience: float = 60.0
    workerReturn: float = 1.0
    kills: bool = False
    waitsForClients: bool = False


@dataclass(kw_only=True)
class Faults:
    """
    What is wrong with the daemon just now; tests change it as they go.

    @ivar muteBreath: no breath is sent.
    @ivar muteEchoes: no echo is sent.
    @ivar closeOnConnect: connections are accepted and closed at once.
    @ivar protoVersion: what the breath says.
    @ivar dropTone: asked for each line (C{bytes}, with its newline) that goes
        to a client; those it is true for are lost.
    @ivar rewrite: given each such line, and gives what goes to the client in
        its place: nothing, other lines, half a line.
    @ivar pieces: sizes in bytes: output goes out in pieces of these sizes, one
        a turn of the reactor, and in full when the sizes have run out.
    @ivar losesPrompt: asked for each prompt (its members): those it is true
        for are echoed and then forgotten.
    """

    muteBreath: bool = False
    muteEchoes: bool = False
    closeOnConnect: bool = False
    protoVersion: str = PROTO_VERSION
    dropTone: Callable[[bytes], bool] | None = None
    rewrite: Callable[[bytes], Sequence[bytes]] | None = None
    pieces: Iterable[int] = ()
    losesPrompt: Callable[[Mapping[str, Any]], bool] | None = None
