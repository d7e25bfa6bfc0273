# -*- test-case-name: tests.web.test_page -*-
"""
The page as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from openai_server.accounts.keyring import KeyRing
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
        submitter: Submitter,
        models: Callable[[], Sequence[str]],
        whyDegraded: Callable[[], str | None],
        keys: KeyRing,
    ) -> None:
        """
        @param now: the wall clock, in seconds since 1970.
        @param activity: hears of turns and requests.
        """
        self.files = PageFiles()
        view = View(now(), submitter, activity, models, whyDegraded, lambda: keys.accounts)
        self._feed = Feed(submitter.clock, view.sections, activity, keys.isHeld)

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
