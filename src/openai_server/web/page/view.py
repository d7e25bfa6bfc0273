# -*- test-case-name: tests.web.test_page -*-
"""
What the server is and does at this moment, for who looks at the page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from msgspec.structs import asdict

import openai_server
from openai_server.accounts.account import NO_LIMITS, Account
from openai_server.web.page.activity import ACCOUNTS, AccountUse, Activity
from openai_server.web.submission import Submitter


@dataclass(frozen=True)
class View:
    """
    Looks at the rooms, and says what it sees in sections. None holds a text of
    a prompt or an answer, nor a key.

    @ivar startedAt: seconds since 1970.
    @ivar models: gives the ids that are offered.
    @ivar whyDegraded: gives one word for why what is to last is in memory only.
    @ivar accounts: gives those that have keys, by what people call them.
    """

    startedAt: float
    submitter: Submitter
    activity: Activity
    models: Callable[[], Sequence[str]]
    whyDegraded: Callable[[], str | None]
    accounts: Callable[[], Mapping[str, Account]]

    def sections(self) -> dict[str, object]:
        """
        Return each section by its name. The requests are no section, since
        they are told one by one.
        """
        return {
            "server": self._server(),
            "daemon": self._daemon(),
            "turns": self._turns(),
            "minutes": self.activity.minutes(),
            "accounts": self._accounts(),
        }

    def _server(self) -> Mapping[str, object]:
        return {
            "version": openai_server.__version__,
            "startedAt": int(self.startedAt),
            "models": self.models(),
            "degraded": self.whyDegraded(),
        }

    def _daemon(self) -> Mapping[str, object]:
        upstreams = self.submitter.upstreams
        registry = upstreams.registry
        workers = [
            {"name": bee.name, "models": bee.models, "tools": len(bee.tools)}
            for bee in registry.bees()
            if bee.models
        ]
        return {"why": upstreams.whyNotReady, "isKnown": registry.isKnown, "workers": workers}

    def _accounts(self) -> Sequence[Mapping[str, object]]:
        """
        Those that have used something, then the others, not too many of them.
        """
        uses = {use.account: use for use in self.activity.uses()}
        accounts = self.accounts()
        for label in islice(accounts, ACCOUNTS):
            uses.setdefault(label, AccountUse(label))
        told = []
        for label, use in uses.items():
            account = accounts.get(label)
            limits = NO_LIMITS if account is None else account.limits
            told.append({"limits": asdict(limits), **asdict(use)})
        return told

    def _turns(self) -> Mapping[str, int]:
        submitter = self.submitter
        parked = len(submitter.calls.owners)
        return {
            # A parked turn has a slot, too.
            "live": max(0, submitter.upstreams.taken - parked),
            "parked": parked,
            "queued": submitter.upstreams.waiting,
            "calls": len(submitter.calls),
            "sessions": submitter.memory.idleSessions,
        }
