"""
Tests for L{openai_server.admin.usage}.
"""

from __future__ import annotations

import io

import msgspec

from openai_server.admin.program import run
from tests.store.support import NOW, PostgreSQL, SQLiteFile
from tests.store.test_ledger import DAY, TURN


class UsageContract:
    """
    The command C{usage}, with turns of two days.
    """

    def setUp(self) -> None:
        super().setUp()
        for fields in ({}, {"account": "b"}, {"model": "n"}, {"model": "n"}):
            self.store.ledger.turnEnded(msgspec.structs.replace(TURN, **fields))
        self.clock.advance(DAY)
        self.store.ledger.turnEnded(msgspec.structs.replace(TURN, model="=1+1", inputTokens=1_000_000))
        self.assertTrue(self.successResultOf(self.store.state.durable()))

    def usage(self, *arguments: str, code: int = 0) -> list[str]:
        """
        The lines of the command's output.
        """
        out, err = io.StringIO(), io.StringIO()
        environ = {"OPENAI_SERVER_STORE": self.where, "HOME": "/nowhere"}
        done = run(["usage", *arguments], environ, out, err, NOW + DAY)
        self.assertEqual(done, code, err.getvalue())
        return (err if code else out).getvalue().splitlines()

    def test_table(self) -> None:
        """
        A line for each day, account and model, in columns.
        """
        self.assertEqual(
            self.usage(),
            [
                "day         account  model  turns    input  cached  output  calls  seconds",
                "2026-05-28  a        m          1      100      70      50      2        2",
                "2026-05-28  a        n          2      200     140     100      4        3",
                "2026-05-28  b        m          1      100      70      50      2        2",
                "2026-05-29  a        =1+1       1  1000000      70      50      2        2",
            ],
        )

    def test_columns(self) -> None:
        """
        Sums of what is wanted, in the order in which it was said.
        """
        lines = self.usage("--by", "model, account")
        self.assertEqual([line.split()[:3] for line in lines[2:4]], [["m", "a", "1"], ["m", "b", "1"]])
        [_, line] = self.usage("--by", "end")
        self.assertEqual(line.split()[:2], ["ok", "5"])
        lines = self.usage("--by", "hour")
        self.assertEqual(lines[1].split()[:2], ["2026-05-28T20:00Z", "4"])

    def test_times(self) -> None:
        """
        The first moment counts, the last one does not.
        """
        self.assertEqual(len(self.usage("--since", "2026-05-29")), 2)
        self.assertEqual(len(self.usage("--until", "2026-05-29")), 4)
        self.assertEqual(len(self.usage("--since", "2026-05-28T20:27", "--until", "2026-05-29T20:26:40")), 1)

    def test_csv(self) -> None:
        """
        No cell is a formula for a spreadsheet.
        """
        lines = self.usage("--csv", "--since", "2026-05-29")
        self.assertEqual(
            lines,
            [
                "day,account,model,turns,input,cached,output,calls,seconds",
                "2026-05-29,a,'=1+1,1,1000000,70,50,2,2",
            ],
        )

    def test_faults(self) -> None:
        """
        One line each.
        """
        known = "day, hour, account, api, model, end, each once, with commas in between"
        for by, said in (
            ("color", f"'color' is not some of {known}"),
            ("day,day", f"'day,day' is not some of {known}"),
            ("day,hour", "'day,hour' has both day and hour"),
        ):
            [line] = self.usage("--by", by, code=2)
            self.assertIn(said, line)


class FileUsageTests(UsageContract, SQLiteFile):
    """
    A file.
    """


class PostgreSQLUsageTests(UsageContract, PostgreSQL):
    """
    A server.
    """
