# -*- test-case-name: tests.embedded.test_daemon -*-
"""
How an embedded worker behaves: what differs between machines and versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from openai_server.embedded.models import MODELS, Model


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """
    What stays as it is while the daemon runs. The defaults are those of humd
    0.31.18 and the claude CLI, but for C{startUp}.

    @ivar models: what the worker serves, by model id.
    @ivar startUp: seconds that a process needs before its first tone; the real
        one needs about 2.
    @ivar pace: seconds after each delta.
    @ivar ownTools: names of tools that the worker runs itself.
    @ivar maxProcesses: processes that a worker keeps.
    @ivar idleTime: seconds after which an idle process ends.
    @ivar toolPatience: seconds that a model waits for the result of a call.
    @ivar kills: C{cancel} and eviction end the process, as newer workers may;
        those of 0.31.18 do nothing.
    """

    models: Mapping[str, Model] = field(default_factory=lambda: dict(MODELS))
    startUp: float = 0.2
    pace: float = 0.02
    ownTools: tuple[str, ...] = ("Bash", "Read")
    maxProcesses: int = 8
    idleTime: float = 300.0
    toolPatience: float = 60.0
    kills: bool = False
