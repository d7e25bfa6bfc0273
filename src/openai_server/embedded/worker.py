# -*- test-case-name: tests.embedded.test_worker -*-
"""
The embedded daemon's worker: behaves as humd's claude-cli worker does, with a
toy model in place of the CLI.

What it is faithful in, all seen with humd 0.31.18: one process for a sid,
started by its first prompt and warm until it has been idle for long; a warm
process keeps its system prompt, model and tools; one list of tools for the
whole worker, overwritten by every prompt that brings some and read by each
process when it has started; prompts that vanish; C{cancel} that does nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime

from openai_server.embedded.playback import Audience
from openai_server.embedded.process import WorkerProcess
from openai_server.embedded.runqueue import RunQueue
from openai_server.embedded.settings import WorkerSettings
from openai_server.wire.ids import base36

#: Bytes that do not fit into one argument of a command line.
ARGUMENT_LIMIT: Final = 131072

#: The tools of its own that a worker does without, by the capability that a bee provides.
CAPABILITIES: Final[Mapping[str, Sequence[str]]] = {
    "fs": ("Bash", "Edit", "Glob", "Grep", "MultiEdit", "Read", "Write"),
}

#: The sid becomes a path segment of a URL in the worker.
_GOOD_SID: Final = re.compile(r"[^/ %?#\x00-\x1f\x7f-\U0010ffff]+")


class EmbeddedWorker:
    """
    A worker of the embedded daemon.

    @ivar name: the daemon's id for its connection.
    @ivar queue: its turns that go on next.
    @ivar catalogue: names of the tools in the one list that it keeps.
    """

    def __init__(
        self, name: str, models: Sequence[str], settings: WorkerSettings, clock: IReactorTime, startTime: int
    ) -> None:
        self.name = name
        self.models = models
        self.settings = settings
        self.clock = clock
        self.queue = RunQueue(clock)
        self.catalogue: list[str] = []
        self._time = base36(startTime)
        self._calls = 0
        #: By sid, the longest unused first.
        self._listed: dict[str, WorkerProcess] = {}
        #: Those that are alive, listed above or not.
        self._alive: set[WorkerProcess] = set()

    @property
    def processes(self) -> int:
        """
        How many processes are alive.
        """
        return len(self._alive)

    @property
    def isIdle(self) -> bool:
        """
        Whether no turn is running or waiting in any process.
        """
        return not any(process.isBusy for process in self._alive)

    def manifest(self) -> dict[str, Any]:
        """
        Return what the registry file says about this worker.
        """
        return {
            "name": "claude-cli",
            "version": "0.31.18",
            "proto_version": "0.7.0",
            "bee": ["worker"],
            "models": list(self.models),
            "hid": "fbee_" + sha256(self.name.encode()).hexdigest(),
        }

    # From the daemon.

    def prompt(
        self,
        tone: Mapping[str, Any],
        offers: Sequence[Mapping[str, Any]],
        provided: Iterable[str],
        audience: Audience,
    ) -> None:
        """
        Take a prompt for one of this worker's models.

        @param tone: its members; C{tools} without what a capability took out.
        @param offers: what all bees list in their hellos (C{foragerTools}).
        @param provided: the capabilities that bees provide.
        @param audience: where the answer goes: the daemon that asked, and no later one.
        """
        tools = definitions(tone.get("tools"))
        if offers or tools:
            self.catalogue = [tool["name"] for tool in (*offers, *tools)]
        process = self._listed.get(tone["sid"])
        if process is None or not process.isUp:
            hidden = sorted({name for each in provided for name in CAPABILITIES.get(each, ())})
            process = WorkerProcess(self, tone, hidden)
            if not canStart(process.sid, process.options):
                return
        steps = process.stepsOf(tone, [*tools, *offers])
        if steps is not None:
            self._use(process)
            process.take(steps, audience)

    def cancel(self, sid: str) -> None:
        """
        Do nothing, as in 0.31.18, unless the setting says that this worker kills.
        """
        if self.settings.kills:
            for process in [process for process in self._alive if process.sid == sid]:
                process.kill()

    def stop(self) -> None:
        """
        Die, and the processes with it, without a word.
        """
        for process in list(self._alive):
            process.die()
        self.queue.stop()

    # From its processes.

    def newCallId(self) -> str:
        """
        Return a call id that this worker has not used.
        """
        self._calls += 1
        return f"call-{self._time}-{self._calls - 1}"

    def ended(self, process: WorkerProcess) -> None:
        """
        Forget a process that is gone.
        """
        if self.isListed(process):
            del self._listed[process.sid]
        self._alive.discard(process)

    def isListed(self, process: WorkerProcess) -> bool:
        """
        Whether prompts on its sid still go to this process.
        """
        return self._listed.get(process.sid) is process

    # Inside.

    def _use(self, process: WorkerProcess) -> None:
        self._listed.pop(process.sid, None)
        self._listed[process.sid] = process
        if process not in self._alive:
            self._alive.add(process)
            process.start()
        if len(self._listed) > self.settings.maxProcesses:
            self._evict(next(iter(self._listed)))

    def _evict(self, sid: str) -> None:
        process = self._listed.pop(sid)
        if self.settings.kills:
            process.kill()
        elif not process.isBusy:
            process.die()


def definitions(tools: Any) -> list[Mapping[str, Any]]:
    """
    Return the tool definitions in a member of a tone that should be a list of them.
    """
    if not isinstance(tools, list):
        return []
    return [tool for tool in tools if isinstance(tool, dict) and isinstance(tool.get("name"), str)]


def canStart(sid: str, options: Mapping[str, str | None]) -> bool:
    """
    Whether a process can be started for a prompt. When not, the worker logs it
    and nobody is told.
    """
    given = [value for value in options.values() if value is not None]
    fits = all(len(value.encode()) < ARGUMENT_LIMIT and "\0" not in value for value in given)
    return fits and _GOOD_SID.fullmatch(sid) is not None
