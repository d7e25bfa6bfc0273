"""
Tests for L{openai_server.accounts.labels}.
"""

from __future__ import annotations

from openai_server.accounts.keyring import KeyRing, settingsAccount
from openai_server.accounts.labels import LabelledReports
from openai_server.reports import TurnReport
from tests.accounts.support import NOW, report
from tests.support import SyncCase


class LabelTests(SyncCase):
    """
    Names of accounts in reports.
    """

    def test_labels(self) -> None:
        """
        The account of the key in the settings is called default; all others
        are called what they are.
        """
        heard: list[TurnReport] = []

        class Listener:
            def turnEnded(self, report: TurnReport) -> None:
                heard.append(report)

        ring = KeyRing(b"secret", lambda: NOW, "sk-own")
        reports = LabelledReports(ring.labelOf, Listener())
        for name in (settingsAccount("sk-own", b"secret").name, "alice"):
            reports.turnEnded(report("s", 1, name))
        self.assertEqual(heard, [report("s", 1, "default"), report("s", 1, "alice")])
