"""
The table of failures.
"""

from __future__ import annotations

from openai_server.errors import KINDS, APIError, End
from tests.support import SyncCase


class KindTests(SyncCase):
    """
    L{KINDS} against OpenAI's rules.
    """

    def test_everyStatusHasOneTypeButForTheDocumentedExceptions(self) -> None:
        """
        Clients choose their exception by status; types agree with it.
        """
        types: dict[int, set[str]] = {}
        for kind in KINDS.values():
            types.setdefault(kind.status, set()).add(kind.type)
        several = {status: found for status, found in types.items() if len(found) > 1}
        self.assertEqual(several, {429: {"rate_limit_error", "insufficient_quota"}})

    def test_noStatusThatClientsMisread(self) -> None:
        """
        No 422 (FastAPI's accent), no 501 (the SDKs would retry it).
        """
        statuses = {kind.status for kind in KINDS.values()}
        self.assertEqual(statuses & {422, 501}, set())

    def test_onlyOurOwnFaultEndsAsBug(self) -> None:
        """
        C{bug} is left for what was not foreseen.
        """
        self.assertEqual([name for name, kind in KINDS.items() if kind.end is End.BUG], ["internal_error"])


class APIErrorTests(SyncCase):
    """
    L{APIError}.
    """

    def test_carriesItsKind(self) -> None:
        """
        The row is found by name, and the rest has harmless defaults.
        """
        error = APIError("session_busy", "Busy.")
        self.assertIs(error.kind, KINDS["session_busy"])
        self.assertEqual((str(error), error.message), ("Busy.", "Busy."))
        self.assertEqual((error.param, error.retryAfter, error.headers), (None, None, {}))
        self.assertTrue(error.mayRetry)

    def test_unknownName(self) -> None:
        """
        A kind that is not in the table is a programming error.
        """
        self.assertRaises(KeyError, APIError, "teapot", "no")
