"""
Tests for L{openai_server.store.journal}.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred

from openai_server.store import journal, manyrows, unsaved
from openai_server.store.operations import SaveState, encode
from openai_server.store.saved import SavedAnswer, SavedCall, SavedSession
from tests.store.support import InlineWorkers, SQLiteFile
from tests.store.test_state import ANSWER, CALL, SESSION


class JournalTests(SQLiteFile):
    """
    (D44) What was promised is there after a crash, whether the database had it
    or not.
    """

    isAlone = True
    store: Any

    @property
    def path(self) -> Path:
        """
        Where promises are.
        """
        return Path(f"{self.file}-promised")

    def killed(self) -> None:
        """
        Let the process die, and start another one.
        """
        self.workers.kill()
        self.store.changes.journal.close()
        self.workers = InlineWorkers()
        self.store = self.opened()

    def durable(self) -> bool:
        """
        Whether all is promised at once.
        """
        return bool(self.successResultOf(self.store.state.durable()))

    def get(self, kind: Any, key: Any) -> Any:
        """
        What another process finds.
        """
        return self.successResultOf(self.store.state.get(kind, key))

    def test_promised(self) -> None:
        """
        Nobody waits for the database, and nothing is lost.
        """
        self.workers.isHolding = True
        self.store.state.save(CALL, ANSWER)
        self.store.records.put("a", "r", b"data", "q")
        self.assertTrue(self.durable())
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.killed()
        self.assertEqual(self.get(SavedCall, "call_1"), CALL)
        self.assertEqual(self.get(SavedAnswer, ANSWER.key), ANSWER)
        self.assertEqual(self.successResultOf(self.store.records.get("a", "r")), b"data")
        self.store.records.put("a", "q", b"first")
        self.assertEqual(self.successResultOf(self.store.records.chain("a", "r")), [b"first", b"data"])

    def test_notPromised(self) -> None:
        """
        What nobody has waited for, and what may be lost.
        """
        self.workers.isHolding = True
        self.store.state.save(SESSION)
        self.assertTrue(self.durable())
        self.store.state.save(CALL)
        self.killed()
        self.assertIsNone(self.get(SavedCall, "call_1"))
        self.assertIsNone(self.get(SavedSession, SESSION.sid))

    def test_order(self) -> None:
        """
        The last promise counts, whichever half it is in.
        """
        self.store.state.save(SESSION)
        self.clock.advance(0.1)
        self.workers.isHolding = True
        self.store.state.save(CALL)
        self.assertTrue(self.durable())
        self.clock.advance(0.1)
        self.store.state.save(replace(CALL, isOpen=False), ANSWER)
        self.store.state.forget(SavedSession, SESSION.sid)
        self.assertTrue(self.durable())
        self.store.state.forget(SavedAnswer, ANSWER.key)
        self.assertTrue(self.durable())
        self.killed()
        self.assertEqual(self.get(SavedCall, "call_1"), replace(CALL, isOpen=False))
        self.assertIsNone(self.get(SavedAnswer, ANSWER.key))
        self.assertIsNone(self.get(SavedSession, SESSION.sid))

    def test_written(self) -> None:
        """
        Once the database has it, it is made again no more: what came later
        stands.
        """
        self.store.state.save(CALL)
        self.store.records.put("a", "r", b"data")
        self.assertTrue(self.durable())
        self.clock.advance(0.1)
        self.store.state.forget(SavedCall, "call_1")
        self.successResultOf(self.store.records.remove("a", "r"))
        self.clock.advance(0.1)
        self.killed()
        self.assertIsNone(self.get(SavedCall, "call_1"))
        self.assertIsNone(self.successResultOf(self.store.records.get("a", "r")))

    def test_laterChange(self) -> None:
        """
        One of what was promised is there before the database has it: no crash
        between that and the clearing brings the former back.
        """
        self.store.state.save(CALL)
        self.store.records.put("a", "r", b"data")
        self.assertTrue(self.durable())
        self.workers.isHolding = True
        self.store.state.forget(SavedCall, "call_1")
        removing = self.store.records.remove("a", "r")
        [work] = self.workers.held
        work()
        self.killed()
        self.assertNoResult(removing)
        self.assertIsNone(self.get(SavedCall, "call_1"))
        self.assertIsNone(self.successResultOf(self.store.records.get("a", "r")))

    def test_again(self) -> None:
        """
        The next process is killed before it has written what it found, and the
        one behind it finds the same.
        """
        self.workers.isHolding = True
        self.store.state.save(CALL)
        self.assertTrue(self.durable())
        self.killed()
        self.workers.isHolding = True
        self.store.state.save(ANSWER)
        self.assertNoResult(self.store.state.durable())
        self.killed()
        self.assertEqual((self.get(SavedCall, "call_1"), self.get(SavedAnswer, ANSWER.key)), (CALL, None))
        self.store.state.save(ANSWER)
        self.workers.isHolding = True
        self.assertTrue(self.durable())

    def test_trouble(self) -> None:
        """
        What was promised before the database failed is kept, and what is
        promised between two attempts; all is well with the next batch.
        """
        self.workers.isHolding = True
        self.store.state.save(CALL)
        self.assertTrue(self.durable())
        self.clock.advance(0.1)
        with self.locked():
            self.workers.release()
            self.assertEqual(self.store.whyDegraded, "locked")
            self.store.state.save(ANSWER)
            self.assertTrue(self.durable())
            self.clock.advance(0.25)
            self.store.state.forget(SavedAnswer, ANSWER.key)
            self.assertTrue(self.durable())
            self.clock.advance(0.5)
            self.store.state.save(newer := replace(CALL, publicId="call_2"))
            self.assertTrue(self.durable())
            self.killed()
        self.clock.advance(1)
        found = [self.get(SavedCall, f"call_{number}") for number in (1, 2)]
        self.assertEqual((found, self.get(SavedAnswer, ANSWER.key)), ([CALL, newer], None))
        self.store.state.forget(SavedCall, "call_1")
        self.workers.isHolding = True
        self.assertTrue(self.durable())

    def test_recovered(self) -> None:
        """
        Nothing of what was promised before and after a failure is left when
        the database has it.
        """
        self.workers.isHolding = True
        self.store.state.save(CALL)
        self.assertTrue(self.durable())
        self.clock.advance(0.1)
        with self.locked():
            self.workers.release()
            self.store.state.save(ANSWER)
            self.assertTrue(self.durable())
        self.clock.advance(0.25)
        self.assertIsNone(self.store.whyDegraded)
        self.assertEqual(journal.Journal(str(self.path)).open(), [])

    def test_dropped(self) -> None:
        """
        A change for which there was no room in memory is not promised later:
        it would undo what came after it.
        """
        self.patch(unsaved, "MOST_UNSAVED", 2)
        with self.locked():
            self.store.state.save(ANSWER)
            self.clock.advance(0.1)
            self.store.state.save(CALL, replace(CALL, publicId="call_2"), replace(CALL, publicId="call_3"))
        self.store.state.forget(SavedCall, "call_1")
        self.clock.advance(0.25)
        self.assertIsNone(self.store.whyDegraded)
        self.workers.isHolding = True
        self.assertTrue(self.durable())
        self.killed()
        self.assertIsNone(self.get(SavedCall, "call_1"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """
        Another program writes.
        """
        other = sqlite3.connect(self.file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.close()

    def test_noRoom(self) -> None:
        """
        Whoever wants more promised than there is room for waits for the
        database, and so does the one after.
        """
        self.workers.isHolding = True
        self.store.records.put("a", "r", b"x" * journal.HALF)
        waiting: Deferred[bool] = self.store.state.durable()
        self.assertNoResult(waiting)
        self.workers.release()
        self.assertTrue(self.successResultOf(waiting))
        self.workers.isHolding = True
        self.store.state.save(CALL)
        self.assertTrue(self.durable())
        self.killed()
        self.assertEqual(self.get(SavedCall, "call_1"), CALL)

    def test_cut(self) -> None:
        """
        The process died while it wrote: what it wrote before counts.
        """
        self.workers.isHolding = True
        for number in range(3):
            self.store.state.save(replace(CALL, publicId=f"call_{number}"))
            self.assertTrue(self.durable())
        data = self.path.read_bytes()
        place = data.index(b"call_2")
        self.path.write_bytes(data[:place] + b"CALL" + data[place + 4 :])
        self.killed()
        found = [self.get(SavedCall, f"call_{number}") is not None for number in range(3)]
        self.assertEqual(found, [True, True, False])

    def test_otherVersion(self) -> None:
        """
        What another version has left and this one does not know is left out.
        """
        self.workers.isHolding = True
        change = journal.ForgetState(SavedCall, "call_1")
        for entry in map(encode, (("Other", "a"), ("SavedCall", ["a"]), (2, "a"), ("SavedCall",))):
            self.patch(journal.ForgetState, "entry", entry)
            self.store.changes.add(change)
            self.assertTrue(self.durable())
        self.store.state.save(CALL)
        self.assertTrue(self.durable())
        self.killed()
        self.assertEqual(self.get(SavedCall, "call_1"), CALL)

    def test_sameVersion(self) -> None:
        """
        What another version has added does not change what an entry means.
        """
        self.workers.isHolding = True
        self.store.state.save(CALL, ANSWER)
        self.store.records.put("a", "r", b"data")
        self.assertTrue(self.durable())
        data = self.path.read_bytes()
        for name in ("SavedCall", "SavedAnswer", "record"):
            self.assertIn(encode(name), data)

    def test_laterChangeWithoutRoom(self) -> None:
        """
        A half that is full does not let the former come back either.
        """
        self.workers.isHolding = True
        large = replace(CALL, details=bytes(journal.HALF // 2))
        left = journal.HALF - 16 - len(SaveState(large).entry or b"")
        self.store.state.save(replace(large, details=bytes(journal.HALF // 2 + left)))
        self.assertTrue(self.durable())
        self.store.state.forget(SavedCall, "call_1")
        self.clock.advance(0.1)
        [work] = self.workers.held
        work()
        self.killed()
        self.assertIsNone(self.get(SavedCall, "call_1"))

    def test_backwards(self) -> None:
        """
        A clock that goes backwards begins no half as it was begun before, also
        by another version.
        """
        self.workers.isHolding = True
        self.patch(journal.ForgetState, "entry", encode(("Other", "a")))
        self.store.state.forget(SavedCall, "call_1")
        self.assertTrue(self.durable())
        before = self.path.read_bytes()[:8]
        self.patch(time, "time_ns", lambda: 1)
        self.killed()
        self.workers.isHolding = True
        self.store.state.save(CALL)
        self.assertTrue(self.durable())
        begun = self.path.read_bytes()[:8]
        self.assertGreater(*[int.from_bytes(each, "little") for each in (begun, before)])

    def test_noFile(self) -> None:
        """
        Where there can be none, everybody waits for the database.
        """
        self.successResultOf(self.store.stopService())
        self.path.unlink()
        self.path.mkdir()
        self.store = self.opened()
        self.workers.isHolding = True
        self.store.state.save(CALL)
        waiting = self.store.state.durable()
        self.assertNoResult(waiting)
        self.workers.release()
        self.assertTrue(self.successResultOf(waiting))

    def test_cannotBeWritten(self) -> None:
        """
        The same when it shows later.
        """
        self.workers.isHolding = True

        def failing(*given: object) -> int:
            raise OSError("full")

        self.patch(os, "pwrite", failing)
        self.store.state.save(CALL)
        waiting = self.store.state.durable()
        self.assertNoResult(waiting)
        self.workers.release()
        self.assertTrue(self.successResultOf(waiting))

    def test_stopped(self) -> None:
        """
        Nothing is left behind a stop, and no file stays open.
        """
        self.store.state.save(CALL)
        self.assertTrue(self.durable())
        open_ = len(os.listdir("/proc/self/fd"))
        self.successResultOf(self.store.stopService())
        self.assertLess(len(os.listdir("/proc/self/fd")), open_)
        self.assertEqual(journal.Journal(str(self.path)).open(), [])


class ManyRowsTests(SQLiteFile):
    """
    Many of one kind at a time: L{manyrows}.
    """

    def test_many(self) -> None:
        """
        All of them are written and deleted, however many statements it takes.
        """
        # One statement of each length, and columns that all, some and none of its rows have.
        asked = [None] * 64 + [b"", b"asked"] * 16 + [b"asked", None] * 15 + [None]
        details = [b"", b"d" * manyrows.COPIED] * 32 + [b"d" * (manyrows.COPIED + 1), b""] * 31 + [b"d"]
        self.assertEqual((len(asked), len(details)), (sum(manyrows.PORTIONS),) * 2)
        calls = [
            replace(CALL, publicId=f"call_{number:03}", asked=each[0], details=each[1])
            for number, each in enumerate(zip(asked, details, strict=True))
        ]
        state = self.store.state
        state.save(*calls)
        found = self.successResultOf(state.find(SavedCall, limit=1000))
        self.assertEqual(sorted(found, key=lambda call: call.publicId), calls)
        for call in calls[1:]:
            state.forget(SavedCall, call.publicId)
        self.assertEqual(self.successResultOf(state.find(SavedCall, limit=1000)), [calls[0]])
