"""
The list of faults in C{docs/failures.md} and the tests that name its rows.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

from tests.support import SyncCase

TESTS = Path(__file__).parent
FAILURES = TESTS.parent / "docs" / "failures.md"

_NAMED = re.compile(r"\b[CDKPSUXV][0-9]{1,2}\b")
_TEST = re.compile(r"^- ([CDKPSUXV][0-9]{1,2}): `(\S+)\.(\w+)\.(test_\w+)`$", re.MULTILINE)
_ROW = re.compile(r"^\| ([CDKPSUXV][0-9]{1,2}) \|", re.MULTILINE)


def namedIn(source: str) -> set[str]:
    """
    The rows that the docstrings of tests name.
    """
    docstrings = re.findall(r'"""(.*?)"""', source, re.DOTALL)
    return {row for docstring in docstrings for row in _NAMED.findall(docstring)}


class FailuresTests(SyncCase):
    """
    The list and the tests agree.
    """

    def setUp(self) -> None:
        super().setUp()
        self.listed = _ROW.findall(FAILURES.read_text())
        self.named: set[str] = set()
        for path in TESTS.rglob("test_*.py"):
            if path != Path(__file__):
                self.named |= namedIn(path.read_text())

    def test_everyRowHasATest(self) -> None:
        """
        A fault that nobody tests is not listed as survived.
        """
        self.assertEqual(sorted(set(self.listed) - self.named), [])

    def test_everyNameIsARow(self) -> None:
        """
        A reader of a test finds what its row means.
        """
        self.assertEqual(sorted(self.named - set(self.listed)), [])

    def test_rowsAreListedOnce(self) -> None:
        """
        Each has one meaning.
        """
        self.assertEqual(len(self.listed), len(set(self.listed)))

    def test_everyRowSaysWhichTestHoldsIt(self) -> None:
        """
        One of those that are run.
        """
        tests = _TEST.findall(FAILURES.read_text())
        self.assertEqual([row for row, *_ in tests], self.listed)
        for row, module, case, test in tests:
            self.assertTrue(hasattr(getattr(import_module(module), case, None), test), row)
