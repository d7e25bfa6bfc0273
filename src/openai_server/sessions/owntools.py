# -*- test-case-name: tests.sessions.test_owntools -*-
"""
The tools that a worker runs itself, on its own machine, and which of them a
prompt takes away.

A client that brings tools expects them to be used, where the client is. A
prompt takes a tool of the worker's away by its name in C{disallowedTools}, so
what can be taken is what is known: the built-in tools of the claude CLI, and
whatever C{session-ready} has named on earlier turns, those of MCP servers of
the worker's among them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

from openai_server.wire.hiding import OUR_PREFIX, roomBeside

#: When a worker's own tools are there: unless the request brings some, or as
#: the word says.
Policy: TypeAlias = Literal["auto", "always", "never"]

#: Of the claude CLI, up to 2.1; names that it does not know do no harm.
BUILT_IN: Final = (
    "Agent", "Artifact", "AskUserQuestion", "Bash", "BashOutput", "CronCreate", "CronDelete", "CronList",
    "Edit", "EnterPlanMode", "EnterWorktree", "ExitPlanMode", "ExitWorktree", "Glob", "Grep", "KillBash",
    "KillShell", "LS", "LSP", "ListMcpResourcesTool", "Monitor", "MultiEdit", "NotebookEdit", "NotebookRead",
    "PowerShell", "PushNotification", "Read", "ReadMcpResourceTool", "RemoteTrigger", "ScheduleWakeup",
    "SendMessage", "Skill", "SlashCommand", "Task", "TaskCreate", "TaskGet", "TaskList", "TaskOutput",
    "TaskStop", "TaskUpdate", "TeamCreate", "TeamDelete", "TodoRead", "TodoWrite", "WebFetch", "WebSearch",
    "Workflow", "Write",
)  # fmt: skip
#: What opens the files that images and documents are given in.
READER: Final = "Read"
#: With many tools the CLI shows its model the client's through this one.
_FINDER: Final = "ToolSearch"

#: What is left of a worker's own tools.
Left: TypeAlias = Literal["all", "reader", "none"]

#: Bytes of names that are learned from workers.
MAX_LEARNED: Final = 16_384

_plain = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class OwnTools:
    """
    The own tools of all workers.
    """

    def __init__(
        self, policy: Policy = "always", allowed: Iterable[str] = (), disallowed: Sequence[str] = ()
    ) -> None:
        """
        @param allowed: tools that the policy does not take away; what follows a
            name in parentheses does not count.
        @param disallowed: tools that always are.
        """
        self._policy = policy
        self._disallowed = tuple(disallowed)
        self._spared = {*(name.partition("(")[0] for name in allowed), *disallowed, _FINDER}
        self._known: dict[str, None] = {}
        self._room = MAX_LEARNED
        self._known.update(dict.fromkeys(name for name in BUILT_IN if name not in self._spared))

    @property
    def roomBeside(self) -> int:
        """
        Bytes of the argument for disallowed tools that are left for other names,
        whatever workers will name.
        """
        if self._policy == "always":
            # What takes them away nevertheless has no tools of the client's.
            return roomBeside(self._disallowed)
        return roomBeside((*self._disallowed, *self._known)) - self._room

    def learn(self, tools: object) -> None:
        """
        Note what a process says that its model can call.

        @param tools: names, or nothing that can be used.
        """
        if not isinstance(tools, list):
            return
        for name in tools:
            if isinstance(name, str) and name not in self._known and name not in self._spared:
                self._add(name)

    def _add(self, name: str) -> None:
        isOurs = name.startswith(OUR_PREFIX)
        if not isOurs and _plain.fullmatch(name) and len(name) < self._room:
            self._known[name] = None
            self._room -= len(name) + 1

    def left(self, bringsTools: bool, bringsFiles: bool, mayAct: bool = True) -> Left:
        """
        Return which tools of its own a worker has for a request, but for those
        that the settings name.

        @param bringsTools: whether the request has tools of the client's.
        @param bringsFiles: whether it has images or files, which the model can
            but read from where they are written.
        @param mayAct: whether it may have them at all.
        """
        if self._policy == "never":
            return "none"
        if mayAct and (self._policy == "always" or not bringsTools):
            return "all"
        return "reader" if bringsFiles else "none"

    def disallowed(self, left: Left) -> Sequence[str]:
        """
        Return what a prompt disallows of its worker's own tools.
        """
        if left == "all":
            return self._disallowed
        return (*self._disallowed, *(name for name in self._known if left == "none" or name != READER))
