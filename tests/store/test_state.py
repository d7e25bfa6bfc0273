"""
What every store of state does.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Engine, event
from twisted.internet.defer import Deferred

from openai_server.store.interfaces import PROCESS
from openai_server.store.saved import (
    KINDS,
    LOOKUPS,
    SavedAnswer,
    SavedCall,
    SavedHint,
    SavedMessage,
    SavedSession,
    keyOf,
)
from tests.store.support import NOW, InMemory, PostgreSQL, SQLiteFile, SQLiteInMemory

SESSION = SavedSession("s1", "a", b"c", b"t", b"n", None, "Be brief.", 5, b"\0\xff", NOW, NOW + 100)
HINT = SavedHint(b"h", True, NOW + 100)
CALL = SavedCall(
    "call_1", "a", "s1", "toolu_1", "w", "c", b"d", None, True, "42", b"x", NOW, NOW + 50, NOW + 100, "p1"
)
ANSWER = SavedAnswer(b"k", "a", b"r", b"all", NOW + 100)
MESSAGE = SavedMessage("m1", b"for you", NOW + 100)
ALL = (SESSION, HINT, CALL, ANSWER, MESSAGE)


class StateContract:
    """
    What is saved, found and forgotten.
    """

    store: Any

    def result(self, deferred: Deferred[Any]) -> Any:
        """
        What came of it, at once.
        """
        return self.successResultOf(deferred)

    def get(self, kind: Any, key: Any) -> Any:
        """
        What is saved under a key.
        """
        return self.result(self.store.state.get(kind, key))

    def sids(self, limit: int = 9, **fields: Any) -> str:
        """
        The numbers of the sessions that are found.
        """
        found = self.result(self.store.state.find(SavedSession, limit=limit, **fields))
        return "".join([each.sid[1:] for each in found])

    def test_kinds(self) -> None:
        """
        Each kind comes back as it was, with nothing in place of what it has
        not.
        """
        empty = msgspec.structs.replace(SESSION, sid="s2", name=None, systemPrompt=None)
        self.store.state.save(*ALL, empty, msgspec.structs.replace(ANSWER, key=b"l", data=None))
        for saved in (*ALL, empty):
            self.assertEqual(self.get(type(saved), keyOf(saved)), saved)
        self.assertIsNone(self.get(SavedAnswer, b"l").data)
        self.assertEqual(
            [self.get(kind, b"" if kind in (SavedHint, SavedAnswer) else "") for kind in KINDS], [None] * 5
        )

    def test_again(self) -> None:
        """
        What is saved under a key takes the place of what was.
        """
        state = self.store.state
        state.save(SESSION, msgspec.structs.replace(SESSION, seen=b"u"))
        self.assertEqual(self.get(SavedSession, "s1").seen, b"u")
        state.save(SESSION)
        self.assertEqual(self.get(SavedSession, "s1"), SESSION)
        state.forget(SavedSession, "s1")
        self.assertIsNone(self.get(SavedSession, "s1"))
        state.save(SESSION)
        state.forget(SavedSession, "s1")
        state.save(SESSION)
        self.assertEqual(self.get(SavedSession, "s1"), SESSION)

    def test_find(self) -> None:
        """
        By one field, by several, and all; what expires last comes first.
        """
        for number in range(4):
            changed: dict[str, Any] = {"sid": f"s{number}", "expiresAt": NOW + 10 + number}
            self.store.state.save(msgspec.structs.replace(SESSION, **changed, context=b"%d" % (number % 2)))
        self.assertEqual((self.sids(), self.sids(limit=2)), ("3210", "32"))
        self.assertEqual(self.sids(account="a", context=b"1", seen=b"t"), "31")
        self.assertEqual(
            (self.sids(name=b"n"), self.sids(user=None), self.sids(name=None)), ("3210", "3210", "")
        )
        self.store.state.save(CALL)
        calls = self.result(self.store.state.find(SavedCall, limit=9, sid="s1", isOpen=True))
        self.assertEqual(calls, [CALL])
        for kind, lookups in LOOKUPS.items():
            for fields in lookups:
                self.assertLessEqual(set(fields), set(kind.__struct_fields__))

    def test_expired(self) -> None:
        """
        It is not there any more.
        """
        self.store.state.save(*ALL)
        self.clock.advance(100)
        self.assertEqual([self.get(type(saved), keyOf(saved)) for saved in ALL], [None] * 5)
        self.assertEqual(self.sids(), "")
        self.assertFalse(self.result(self.store.state.take(SavedCall, "call_1")))

    def test_take(self) -> None:
        """
        Once.
        """
        state = self.store.state
        self.assertFalse(self.result(state.take(SavedCall, "call_1")))
        state.save(CALL)
        self.assertTrue(self.result(state.take(SavedCall, "call_1")))
        self.assertFalse(self.result(state.take(SavedCall, "call_1")))
        state.save(CALL)
        self.assertTrue(self.result(state.take(SavedCall, "call_1")))
        self.assertIsNone(self.get(SavedCall, "call_1"))

    def test_claim(self) -> None:
        """
        Who comes first keeps his; the others are shown it, until it expires or
        is forgotten.
        """
        state, result = self.store.state, self.result
        other = msgspec.structs.replace(ANSWER, request=b"other", expiresAt=NOW + 300)
        self.assertIsNone(result(state.claim(ANSWER)))
        self.assertEqual((result(state.claim(other)), self.get(SavedAnswer, b"k")), (ANSWER, ANSWER))
        state.forget(SavedAnswer, b"k")
        self.assertIsNone(result(state.claim(other)))
        state.save(ANSWER)
        self.assertEqual(result(state.claim(other)), ANSWER)
        self.clock.advance(100)
        self.assertIsNone(result(state.claim(other)))
        self.assertEqual(self.get(SavedAnswer, b"k"), other)

    def test_takeAll(self) -> None:
        """
        All that was asked for, as it was believed to be; or nothing.
        """
        state, result = self.store.state, self.result
        other = msgspec.structs.replace(CALL, publicId="call_2")
        state.save(CALL, other, SESSION)
        for keys, fields in (
            (["call_1", "call_2"], {"owner": "p2"}),
            (["call_1", "call_2"], {"owner": "p1", "isOpen": False}),
            (["call_1", "call_3"], {"owner": "p1"}),
            (["s1"], {}),
        ):
            self.assertFalse(result(state.takeAll(SavedCall, keys, **fields)))
        self.assertEqual((self.get(SavedCall, "call_1"), self.get(SavedCall, "call_2")), (CALL, other))
        self.assertTrue(result(state.takeAll(SavedCall, ["call_2", "call_1"], owner="p1", isOpen=True)))
        self.assertFalse(result(state.takeAll(SavedCall, ["call_2", "call_1"])))
        self.assertEqual(result(state.find(SavedCall, limit=9)), [])
        self.assertFalse(result(state.takeAll(SavedSession, ["s1"], seen=b"u")))
        self.assertTrue(result(state.takeAll(SavedSession, ["s1"], seen=b"t")))
        self.clock.advance(100)
        state.save(CALL)
        self.assertFalse(result(state.takeAll(SavedCall, ["call_1"])))

    def test_change(self) -> None:
        """
        All that are so, and no others.
        """
        state, result = self.store.state, self.result
        changes: list[dict[str, Any]] = [{}, {"publicId": "call_2"}, {"publicId": "call_3", "sid": "s2"}]
        state.save(*[msgspec.structs.replace(CALL, **each) for each in changes])
        self.assertTrue(result(state.change(SavedCall, {"owner": "p2"}, sid="s1", owner="p1", isOpen=True)))
        self.assertFalse(result(state.change(SavedCall, {"owner": "p3"}, sid="s1", owner="p1", isOpen=True)))
        found = result(state.find(SavedCall, limit=9))
        self.assertEqual(
            {call.publicId: call.owner for call in found}, {"call_1": "p2", "call_2": "p2", "call_3": "p1"}
        )
        self.assertTrue(result(state.change(SavedCall, {"isOpen": False, "details": b""}, sid="s2")))
        closed = msgspec.structs.replace(CALL, publicId="call_3", sid="s2", isOpen=False, details=b"")
        self.assertEqual(self.get(SavedCall, "call_3"), closed)

    def test_abandoned(self) -> None:
        """
        Open calls of processes that are gone, however these went.
        """
        state, result = self.store.state, self.result
        for number in range(1, 5):
            state.save(msgspec.structs.replace(CALL, publicId=f"call_{number}", owner=f"p{number}"))
        others: list[dict[str, Any]] = [{"isOpen": False}, {"incarnation": "43"}]
        for number, other in enumerate(others, 5):
            state.save(msgspec.structs.replace(CALL, publicId=f"call_{number}", owner="p3", **other))
        for owner, ttl in (("p1", 50), ("p2", -1), ("p4", 50)):
            self.assertTrue(result(state.acquire(PROCESS + owner, owner, ttl)))
        self.assertTrue(result(state.acquire("p3", "p3", 50)))
        names = [[call.publicId for call in result(state.abandoned(limit, "42"))] for limit in (9, 1)]
        self.assertEqual(names, [["call_2", "call_3"], ["call_2"]])
        self.assertTrue(result(state.release(PROCESS + "p1", "p1")))
        [first, *_] = result(state.abandoned(9, "42"))
        self.assertEqual(first, CALL)

    def test_parkedSids(self) -> None:
        """
        Those of open calls of one owner.
        """
        others: list[dict[str, Any]] = [{}, {"sid": "s2"}, {"sid": "s3", "isOpen": False}, {"owner": "p2"}]
        for number, other in enumerate(others):
            changed = {"publicId": f"call_{number}", "sid": f"s{number}", **other}
            self.store.state.save(msgspec.structs.replace(CALL, **changed))
        self.assertEqual(set(self.result(self.store.state.parkedSids("p1")) or ()), {"s0", "s2"})

    def test_leases(self) -> None:
        """
        One owner at a time, until the lease is over or given back.
        """
        state, result = self.store.state, self.result
        self.assertTrue(result(state.acquire("sid:1", "p1", 5)))
        self.assertTrue(result(state.acquire("sid:1", "p1", 5)))
        self.assertFalse(result(state.acquire("sid:1", "p2", 5)))
        self.assertTrue(result(state.acquire("sid:2", "p2", 5)))
        self.assertEqual(
            (result(state.renew("sid:1", "p1", 5)), result(state.renew("sid:1", "p2", 5))), (True, False)
        )
        self.assertEqual(
            [result(state.release("sid:1", owner)) for owner in ("p2", "p1", "p1")], [False, True, False]
        )
        self.assertFalse(result(state.renew("sid:1", "p1", 5)))
        self.assertTrue(result(state.acquire("sid:1", "p2", -1)))
        self.assertTrue(result(state.acquire("sid:1", "p3", 5)))
        self.assertFalse(result(state.renew("sid:1", "p2", 5)))

    def test_allLeases(self) -> None:
        """
        Those of one owner are renewed and given back together.
        """
        state, result = self.store.state, self.result
        for name, owner in (("a", "p1"), ("b", "p1"), ("c", "p2")):
            self.assertTrue(result(state.acquire(name, owner, 5)))
        self.assertEqual([result(state.holder(name)) for name in "abcd"], ["p1", "p1", "p2", None])
        self.assertEqual((result(state.renewAll("p1", 99)), result(state.renewAll("p3", 99))), (2, 0))
        self.assertEqual(result(state.renewAll("p2", -1)), 1)
        self.assertEqual([result(state.holder(name)) for name in "abc"], ["p1", "p1", None])
        self.assertEqual((result(state.releaseAll("p1")), result(state.releaseAll("p1"))), (2, 0))
        self.assertEqual([result(state.holder(name)) for name in "abc"], [None] * 3)
        self.assertFalse(result(state.renew("a", "p1", 5)))

    def test_messages(self) -> None:
        """
        Who listens to a topic is told, as often as it listens and no longer
        than it does.
        """
        heard: list[str | None] = []
        stop = self.store.state.hear("t", heard.append)
        stopTwice = self.store.state.hear("t", heard.append)
        self.store.state.tell("t", "one")
        self.store.state.tell("other", "two")
        stop()
        stop()
        self.store.state.tell("t", "\0\u00e4")
        self.assertEqual(heard, ["one", "one", "\0\u00e4"])
        stopTwice()
        self.store.state.tell("t", "three")
        self.assertEqual(len(heard), 3)

    def test_longMessage(self) -> None:
        """
        One that PostgreSQL would not take is refused by all.
        """
        self.store.state.tell("t", "x" * 7500)
        with self.assertRaises(ValueError):
            self.store.state.tell("t", "\u00e4" * 4000)

    def test_secrets(self) -> None:
        """
        One for each name.
        """
        secret = self.store.state.secret
        self.assertEqual((len(secret("a")), secret("a")), (32, secret("a")))
        self.assertNotEqual(secret("a"), secret("b"))


class LastingContract(StateContract):
    """
    What is there after a restart, and what another process sees.
    """

    def test_durable(self) -> None:
        """
        Once that is said, another process has it.
        """
        other = self.opened()
        self.store.state.save(*ALL)
        self.assertIsNone(self.result(other.state.get(SavedCall, "call_1")))
        self.assertTrue(self.result(self.store.state.durable()))
        self.assertEqual(self.result(other.state.get(SavedCall, "call_1")), CALL)
        self.assertTrue(self.result(self.store.state.durable()))

    def test_restart(self) -> None:
        """
        A stop saves what is unsaved; secrets stay what they were.
        """
        secret = self.store.state.secret("a")
        self.store.state.save(*ALL)
        self.store.records.put("a", "r", b"data")
        self.result(self.store.stopService())
        self.store = self.opened()
        self.assertEqual([self.get(type(saved), keyOf(saved)) for saved in ALL], list(ALL))
        self.assertEqual(self.result(self.store.records.get("a", "r")), b"data")
        self.assertEqual(self.store.state.secret("a"), secret)

    def test_others(self) -> None:
        """
        A lease and a call are one process's.
        """
        other = self.opened()
        self.assertTrue(self.result(self.store.state.acquire("sid:1", "p1", 5)))
        self.assertFalse(self.result(other.state.acquire("sid:1", "p2", 5)))
        self.assertIsNone(self.result(self.store.state.claim(ANSWER)))
        self.assertEqual(self.result(other.state.claim(msgspec.structs.replace(ANSWER, data=None))), ANSWER)
        self.store.state.save(CALL)
        self.assertTrue(self.result(self.store.state.durable()))
        self.assertTrue(self.result(other.state.take(SavedCall, "call_1")))
        self.assertFalse(self.result(self.store.state.take(SavedCall, "call_1")))

    def test_writtenBefore(self) -> None:
        """
        Who is told finds what was saved before.
        """
        heard: list[object] = []
        other = self.opened()
        self.store.state.hear("t", lambda _: heard.append(self.result(other.state.get(SavedCall, "call_1"))))
        self.store.state.save(CALL)
        self.store.state.tell("t", "")
        self.assertEqual(heard, [CALL])

    def test_sweep(self) -> None:
        """
        What has expired is deleted some time later.
        """
        self.store.state.save(*ALL)
        self.assertTrue(self.result(self.store.state.durable()))
        self.clock.advance(200)
        self.store.state.save(msgspec.structs.replace(SESSION, sid="s9", expiresAt=NOW + 900))
        self.assertTrue(self.result(self.store.state.durable()))
        self.clock.pump([-200])
        self.assertEqual(
            (self.sids(), self.get(SavedCall, "call_1"), self.get(SavedHint, b"h")), ("9", None, None)
        )


class MemoryStateTests(StateContract, InMemory):
    """
    State in memory.
    """

    def test_durable(self) -> None:
        """
        Nothing ever is.
        """
        self.assertFalse(self.successResultOf(self.store.state.durable()))


class SQLiteStateTests(StateContract, SQLiteInMemory):
    """
    State in SQLite.
    """


class FileStateTests(LastingContract, SQLiteFile):
    """
    State in a file.
    """


class PostgreSQLStateTests(LastingContract, PostgreSQL):
    """
    State in PostgreSQL.
    """

    def isTaken(self, number: str = "1") -> list[bool]:
        """
        Whether this process may take what it believes to be there, in both ways.
        """
        state = self.store.state
        takes = state.takeAll(SavedCall, [f"call_{number}"]), state.take(SavedMessage, f"m{number}")
        return [self.result(take) for take in takes]

    def broken(self, when: str) -> None:
        """
        Let the database go away at a point of each transaction.
        """

        def breaks(connection: object) -> None:
            raise OSError("gone")

        event.listen(Engine, when, breaks)
        self.addCleanup(self.mended, when, breaks)
        self.breaks = breaks

    def mended(self, when: str, breaks: Any) -> None:
        """
        Let it be back.
        """
        if event.contains(Engine, when, breaks):
            event.remove(Engine, when, breaks)

    def test_takeWhileAway(self) -> None:
        """
        (D54) What another process may have taken is not taken while the
        database cannot be asked; what this one alone knows of is, once.
        """
        state = self.store.state
        state.save(CALL, MESSAGE)
        self.assertTrue(self.result(state.durable()))
        self.broken("begin")
        self.assertEqual(self.isTaken(), [False, False])
        new = [msgspec.structs.replace(CALL, publicId="call_2"), msgspec.structs.replace(MESSAGE, key="m2")]
        for seconds in (0, 0.25):
            state.save(*new)
            self.clock.advance(seconds)
            self.assertEqual(self.store.whyDegraded, "unreachable")
            self.assertEqual(self.isTaken("2"), [True, True])
            self.assertEqual(self.isTaken("2"), [False, False])

    def test_takeBehindALostCommit(self) -> None:
        """
        What may have been written, as far as is known, is not taken either,
        nor what is kept in its place.
        """
        state = self.store.state
        self.broken("commit")
        state.save(CALL, MESSAGE)
        self.assertFalse(self.result(state.durable()))
        self.assertEqual(self.isTaken(), [False, False])
        state.save(CALL, MESSAGE)
        self.assertEqual(self.isTaken(), [False, False])
        self.mended("commit", self.breaks)
        self.clock.advance(0.25)
        self.assertIsNone(self.store.whyDegraded)

    def test_takeWhileItIsWritten(self) -> None:
        """
        The same while it is not known whether it is written.
        """
        state = self.store.state
        self.workers.isHolding = True
        state.save(CALL, MESSAGE)
        self.assertNoResult(state.durable())
        self.clock.advance(5)
        self.assertEqual(self.store.whyDegraded, "slow")
        state.save(CALL, MESSAGE)
        self.assertEqual(self.isTaken(), [False, False])
        self.workers.release()
