"""
What answers are made of.
"""

from __future__ import annotations

from openai_server.api.output import Usage
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
