"""
What answers are made of.
"""

from __future__ import annotations

from openai_server.api.output import (
    Failed,
    Finished,
    Output,
    Reasoning,
    Text,
    Usage,
    cutRowJSON,
    rowFromJSON,
    rowJSON,
)
from openai_server.errors import APIError
from tests.support import SyncCase


class UsageTests(SyncCase):
    """
    L{Usage}.
    """

    def test_sum(self) -> None:
        """
        Two turns of one answer cost what both of them cost.
        """
        self.assertEqual(Usage(1, 2, 3, 4) + Usage(10, 20, 30, 40), Usage(11, 22, 33, 44))


class RowTests(SyncCase):
    """
    Rows of events that are kept.
    """

    events: list[Output] = [Text(["a", "\u00e9\U0001f600"]), Reasoning("hm"), Text(["b"]), Finished("stop")]

    def test_cut(self) -> None:
        """
        A row without its text is whole again with it.
        """
        row = cutRowJSON(self.events)
        self.assertNotIn("\u00e9".encode(), row)
        self.assertEqual(rowFromJSON(row, "a\u00e9\U0001f600b"), self.events)

    def test_whole(self) -> None:
        """
        One with its text needs nothing else, though there be something.
        """
        for text in ("", "else"):
            self.assertEqual(rowFromJSON(rowJSON(self.events), text), self.events)

    def test_error(self) -> None:
        """
        Of an error that ends it, the words are kept.
        """
        error = APIError("worker_error", "No.", param="model", retryAfter=3)
        (failed,) = rowFromJSON(cutRowJSON([Failed(error, Usage(1))]))
        assert isinstance(failed, Failed)
        self.assertEqual(failed.usage, Usage(1))
        self.assertEqual(
            (failed.error.name, failed.error.message, failed.error.param, failed.error.retryAfter),
            ("worker_error", "No.", "model", 3),
        )
