"""
Tests for L{openai_server.admin.keys}.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from openai_server.accounts.keys import digestOf
from openai_server.admin.program import run
from openai_server.store.keyrows import UseTokens
from openai_server.store.savedkeys import SavedKey
from tests.store.support import NOW, PostgreSQL, SQLiteFile
from tests.support import SyncCase


class Commands:
    """
    Runs commands.
    """

    where: str

    def ran(self, *arguments: str, code: int = 0, now: float = NOW) -> list[str]:
        """
        The lines of a command's output.
        """
        out, err = io.StringIO(), io.StringIO()
        environ = {"OPENAI_SERVER_STORE": self.where, "HOME": "/nowhere"}
        came = run(("keys", *arguments), environ, out, err, now)
        self.assertEqual(came, code, err.getvalue())  # type: ignore[attr-defined]
        return (err if code else out).getvalue().splitlines()


class KeysContract(Commands):
    """
    The commands, beside a server that has the same store open.
    """

    store: Any

    def keys(self) -> dict[str, SavedKey]:
        """
        What the server sees, by name; of several of one name the one that was
        replaced last.
        """
        table = self.successResultOf(self.store.accounts.keys())  # type: ignore[attr-defined]
        return {key.name: key for key in table.keys}

    def digests(self) -> set[bytes]:
        """
        What the server lets in.
        """
        table = self.successResultOf(self.store.accounts.keys())  # type: ignore[attr-defined]
        return {key.digest for key in table.keys}

    def assertSame(self, one: object, other: object) -> None:
        """
        Compare two things.
        """
        self.assertEqual(one, other)  # type: ignore[attr-defined]

    def test_add(self) -> None:
        """
        The key is printed, and of it only its digest and its beginning is kept.
        """
        (key,) = self.ran("add", "alice")
        self.assertRegex(key, r"\Ask-hum-[A-Za-z0-9_-]{43}\Z")  # type: ignore[attr-defined]
        kept = SavedKey(
            digest=digestOf(key.encode()), name="alice", shown=key[:11], account="alice", createdAt=NOW
        )
        self.assertSame(self.keys(), {"alice": kept})
        limits = ["--rpm", "1", "--tpm", "20", "--concurrent", "3", "--tokens-per-day", "400"]
        limits += ["--tokens-per-month", "5000"]
        self.ran("add", "bob", "--account", "team", *limits, "--models", "m, n/o,m", "--admin")
        expected = replace(
            self.keys()["bob"], account="team", models="m,n/o", isAdmin=True, rpm=1, tpm=20, concurrent=3,
            tokensPerDay=400, tokensPerMonth=5000,
        )  # fmt: skip
        self.assertSame(self.keys()["bob"], expected)
        self.ran("add", "carol", "--expires", "2026-06-01")
        self.assertSame(self.keys()["carol"].expiresAt, 1780272000.0)
        self.assertSame(
            self.ran("add", "bob", code=1)[0].rpartition(": ")[2], "there is a key named bob already"
        )

    def test_limitsOfOneAccount(self) -> None:
        """
        All keys of an account have the same, whichever of them they are said
        with.
        """
        self.ran("add", "a", "--account", "t", "--rpm", "1", "--tpm", "2")
        self.ran("add", "b", "--account", "t", "--tpm", "3")
        self.ran("add", "c")
        self.ran("set", "a", "--concurrent", "4", "--models", "m")
        for name in ("a", "b"):
            key = self.keys()[name]
            self.assertSame((key.rpm, key.tpm, key.concurrent), (1, 3, 4))
        self.assertSame(self.keys()["b"].models, None)
        self.assertSame(self.keys()["c"].concurrent, None)

    def test_set(self) -> None:
        """
        What is said is changed, and "none" takes away.
        """
        self.ran("add", "a", "--rpm", "1", "--models", "m", "--expires", "2026-06-01")
        before = self.keys()["a"]
        self.ran("set", "a", "--rpm", "none", "--models", "none", "--expires", "none", "--admin")
        after = replace(before, rpm=None, models=None, expiresAt=None, isAdmin=True)
        self.assertSame(self.keys()["a"], after)
        self.ran("set", "a", "--no-admin", "--tpm", "5")
        self.assertSame(self.keys()["a"], replace(after, isAdmin=False, tpm=5))

    def test_disable(self) -> None:
        """
        And let in again.
        """
        self.ran("add", "a")
        for arguments, isDisabled in ((("a",), True), (("a", "--undo"), False)):
            self.ran("disable", *arguments)
            self.assertSame(self.keys()["a"].isDisabled, isDisabled)

    def test_rotate(self) -> None:
        """
        The old one stays good for a while, and has the same account and
        limits; then it is forgotten.
        """
        (first,) = self.ran("add", "a", "--rpm", "5")
        (second,) = self.ran("rotate", "a", "--grace", "10m")
        old = self.keys()["a"]
        self.assertSame((old.digest, old.replacedUntil, old.rpm), (digestOf(first.encode()), NOW + 600, 5))
        self.assertSame(self.digests(), {digestOf(key.encode()) for key in (first, second)})
        self.ran("set", "a", "--rpm", "6")
        self.assertSame(self.keys()["a"].rpm, 6)
        (third,) = self.ran("rotate", "a", "--grace", "0", now=NOW + 600)
        self.assertSame(self.digests(), {digestOf(third.encode())})
        self.ran("rotate", "a")
        self.assertSame(self.keys()["a"].replacedUntil, NOW + 86_400)

    def test_remove(self) -> None:
        """
        With those that it has replaced.
        """
        self.ran("add", "a")
        self.ran("rotate", "a")
        self.ran("add", "b")
        self.ran("remove", "a")
        self.assertSame(list(self.keys()), ["b"])

    def test_list(self) -> None:
        """
        One line a key, with what is used of budgets.
        """
        self.assertSame(self.ran("list"), ["NAME  ACCOUNT  KEY  STATE  MODELS  LIMITS"])
        (first,) = self.ran("add", "a", "--account", "t", "--rpm", "1000", "--tokens-per-day", "5000")
        (second,) = self.ran("rotate", "a", "--grace", "60", now=NOW + 1)
        (third,) = self.ran("add", "b", "--models", "m,n", "--admin", "--expires", "2026-05-29")
        self.ran("add", "c")
        self.ran("disable", "c")
        self.store.changes.add(UseTokens("t", ["2026-05-28"], 1234))
        self.successResultOf(self.store.state.durable())  # type: ignore[attr-defined]
        lines = self.ran("list", now=NOW + 11)
        limits = "all     rpm 1,000, tokens-per-day 5,000 (1,234 used)"
        self.assertSame(
            lines[1:4],
            [
                f"a     t        {second[:11]}...  good                                    {limits}",
                f"a     t        {first[:11]}...  replaced, good until 2026-05-28T20:27Z  {limits}",
                f"b     b        {third[:11]}...  good until 2026-05-29T00:00Z, admin     m,n     none",
            ],
        )
        self.assertRegex(lines[4], r"^c +c +sk-hum-....\.\.\.  disabled +all +none$")  # type: ignore[attr-defined]
        lines = self.ran("list", now=NOW + 86_400)
        self.assertSame(len(lines), 4)
        self.assertIn("expired, admin", lines[2])  # type: ignore[attr-defined]

    def test_unknown(self) -> None:
        """
        What is not there is named, and nothing changes.
        """
        for arguments in (("set", "x", "--rpm", "1"), ("disable", "x"), ("rotate", "x"), ("remove", "x")):
            (line,) = self.ran(*arguments, code=1)
            self.assertSame(line.rpartition(": ")[2], "there is no key named x")


class FileKeysTests(KeysContract, SQLiteFile):
    """
    In a file of SQLite's.
    """

    def test_keyIsNotKept(self) -> None:
        """
        Nothing of it but its beginning is in any file of the store.
        """
        keys = [*self.ran("add", "alice"), *self.ran("rotate", "alice")]
        files = list(self.file.parent.iterdir())
        self.assertTrue(any(keys[0][:11].encode() in file.read_bytes() for file in files))
        for key in keys:
            self.assertFalse(any(key[11:].encode() in file.read_bytes() for file in files))

    def test_firstOfAll(self) -> None:
        """
        Keys can be made before there is a store; a server finds them there.
        """
        self.where = f"sqlite:///{Path(self.mktemp()).absolute()}/a/b.db"
        (key,) = self.ran("add", "alice")
        table = self.opened().accounts.atStart
        assert table is not None
        self.assertEqual([each.digest for each in table.keys], [digestOf(key.encode())])


class PostgreSQLKeysTests(KeysContract, PostgreSQL):
    """
    At a server of PostgreSQL's.
    """


class MistakeTests(Commands, SyncCase):
    """
    What is said of commands that cannot be done.
    """

    def test_memory(self) -> None:
        """
        Keys need a store that lasts.
        """
        self.where = "memory:"
        self.assertEqual(
            self.ran("list", code=1),
            ["admin: keys need a store that lasts, and the setting store says memory: set it to sqlite:"],
        )

    def test_commandLine(self) -> None:
        """
        What was not understood is named.
        """
        self.where = "sqlite:////nowhere/x.db"
        for said, why in (
            ("", "keys: add, list, set, disable, rotate or remove?"),
            ("add", "which key? say one NAME"),
            ("remove a b", "which key? say one NAME"),
            ("add a/b", "'a/b' is no name"),
            ("add default", "no account can be called 'default'"),
            ("add x --account 0123456789abcdef", "no account can be called '0123456789abcdef'"),
            ("add x --rpm 0", "'0' is no whole number above 0"),
            ("add x --tpm 1e3", "'1e3' is no whole number above 0"),
            ("add x --tpm none", "'none' is no whole number above 0"),
            ("add x --tokens-per-day 99999999999999999", "is no whole number above 0"),
            ("add x --models m,,n", "'m,,n' is no list of models"),
            ("add x --expires soon", "'soon' is no day and no moment"),
            ("set x", "nothing is to be changed"),
            ("set x --admin --no-admin", "--admin or --no-admin?"),
            ("rotate x --grace 1w", "'1w' is no duration"),
        ):
            (line,) = self.ran(*said.split(), code=2)
            self.assertEqual(line[: len("admin: ")], "admin: ")
            self.assertIn(why, line)
            self.assertNotIn("enforcement", line)
