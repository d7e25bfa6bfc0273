# -*- test-case-name: tests.web.test_page -*-
"""
The page as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from openai_server.accounts.account import Account
from openai_server.daemon.interfaces import Daemon
from openai_server.web.page.activity import Activity
from openai_server.web.page.feed import Feed
from openai_server.web.page.files import PageFiles
from openai_server.web.page.view import View
from openai_server.web.routes import Answer
from openai_server.web.submission import Submitter


class Page:
    """
    The files, the stream, and what that tells of.

    @ivar files: what a browser loads.
    """

    def __init__(
        self,
        now: Callable[[], float],
        activity: Activity,
        daemon: Daemon,
        submitter: Submitter,
        models: Callable[[], Sequence[str]],
        whyDegraded: Callable[[], str | None],
        accounts: Callable[[], Iterable[Account]],
    ) -> None:
        """
        @param now: the wall clock, in seconds since 1970.
        @param activity: hears of turns and requests.
        """
        self.files = PageFiles()
        view = View(now(), daemon, submitter, activity, models, whyDegraded, accounts)
        self._feed = Feed(submitter.clock, view.sections, activity)

    def routes(self) -> list[tuple[str, str, Answer]]:
        """
        Return method, template and function of each.
        """
        return [*self.files.routes(), *self._feed.routes()]

    def stop(self) -> None:
        """
        End all streams.
        """
        self._feed.stop()
