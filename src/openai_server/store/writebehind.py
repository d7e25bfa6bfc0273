# -*- test-case-name: tests.store.test_writebehind -*-
"""
Changes that are written a little later than they are made: in batches, in
order, one batch at a time, and again when it failed.

When the database is in trouble, or takes too long, the store is I{degraded}:
nobody waits for it any more, changes stay here, and a batch is tried again and
again until one succeeds. There may be too many then: the oldest ones that
nobody was to wait for are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from openai_server.clock import Deadline
from openai_server.metrics import Counters
from openai_server.store.journal import Journal
from openai_server.store.operations import Operation
from openai_server.store.troubles import Trouble
from openai_server.store.unsaved import MOST_BYTES, UnsavedChanges

#: Seconds for which a change may be unsaved, and how many may be.
DELAY: Final = 0.1
BATCH: Final = 1000
#: Seconds that a batch may take.
PATIENCE: Final = 5.0
#: Seconds until a batch is tried again, at first and at most.
FIRST_RETRY: Final = 0.25
LAST_RETRY: Final = 8.0


class _Waiting(NamedTuple):
    """
    Somebody who waits for a change to be written.

    @ivar number: of the change.
    @ivar isForResult: whether what came of it is wanted.
    @ivar otherwise: the answer when it is not known in time.
    """

    number: int
    deferred: Deferred[Any]
    isForResult: bool
    otherwise: Any


class WriteBehind:
    """
    The changes that are still to be written.

    @ivar whyDegraded: one word for why none can be; None when all is well.
    @ivar counters: of what becomes of them.
    @ivar journal: keeps promises until the database has them; None for a
        database that has to keep them itself.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        write: Callable[[Sequence[Operation]], Deferred[Sequence[Any]]],
        counters: Counters,
    ) -> None:
        """
        @param write: writes a batch; fires with what came of each change, or
            fails with L{Trouble}, and none was written, or all, as far as that
            is unsure.
        """
        self.whyDegraded: str | None = None
        self.journal: Journal | None = None
        self._clock = clock
        self._write = write
        self.counters = counters
        self._queue = UnsavedChanges()
        self._batch: dict[int, Operation] = {}
        self._isWriting = False
        self._waiting: list[_Waiting] = []
        self._timer: IDelayedCall | None = None
        self._retryIn = FIRST_RETRY
        self._begunAt = 0.0
        self._degradedAt = 0.0
        self._dropped = 0
        self._stopping: Deferred[None] | None = None
        self._isStopped = False

    def __len__(self) -> int:
        """
        Return how many changes are unsaved.
        """
        return len(self._queue.changes) + len(self._batch)

    def pending(self) -> Iterator[Operation]:
        """
        Yield the changes that are unsaved, in order.
        """
        yield from self._batch.values()
        yield from self._queue.changes.values()

    def unseen(self) -> Iterator[Operation]:
        """
        Yield the changes of which no database can know, nor of others of the
        same key that are not confirmed.
        """
        seen = {change.key for change in self._batch.values()}
        seen.update([change.key for change in self._queue.changes.values() if change.mayBeWritten])
        for change in self._queue.changes.values():
            if change.key not in seen:
                yield change

    # What is done with changes.

    def add(self, change: Operation) -> int:
        """
        Write this change later.

        @return: its number.
        """
        queue = self._queue
        number = queue.add(change)
        if self.journal is not None:
            self.journal.added(number, change)
        isMuch = len(queue.changes) >= BATCH or queue.size > MOST_BYTES
        if isMuch or self._timer is None or self.whyDegraded is not None:
            self._added()
        return number

    def _added(self) -> None:
        self._dropTooMany()
        if self.whyDegraded is None and not self._isStopped:
            if len(self._queue.changes) >= BATCH:
                self._flush()
            elif self._timer is None:
                self._timer = self._clock.callLater(DELAY, self._due)

    def ask(self, change: Operation, otherwise: Any) -> Deferred[Any]:
        """
        Write this change at once.

        @param otherwise: what counts as its result when it is not known in time.
        @return: fires with what came of it; never fails.
        """
        change.isPromised = True
        number = self.add(change)
        if self.whyDegraded is not None:
            return succeed(otherwise)
        return self._wait(_Waiting(number, Deferred(), True, otherwise))

    def written(self) -> Deferred[bool]:
        """
        Write all changes that were made up to now at once.

        @return: fires with whether they are written; never fails.
        """
        self._queue.promise()
        if self.whyDegraded is not None or not len(self):
            return succeed(self.whyDegraded is None)
        last = self._queue.last if self._queue.changes else next(reversed(self._batch))
        return self._wait(_Waiting(last, Deferred(), False, False))

    def promised(self) -> Deferred[bool]:
        """
        Let all changes of state up to now outlast this process.

        @return: fires with whether they do; never fails.
        """
        if self.journal is not None and self.journal.promise():
            return succeed(True)
        return self.written()

    def _wait(self, waiting: _Waiting) -> Deferred[Any]:
        self._waiting.append(waiting)
        self._flush()
        return waiting.deferred

    def stop(self) -> Deferred[None]:
        """
        Write what is unsaved; once, when the store is degraded.

        @return: fires when all is written, or cannot be.
        """
        stopping = self._stopping = Deferred()
        if not self._isWriting:
            self._cancelTimer()
            self._begin() if self._queue.changes else self._stopped()
        return stopping

    # Batches.

    def _due(self) -> None:
        self._timer = None
        self._flush()

    def _flush(self) -> None:
        if self._queue.changes and not self._isWriting and self.whyDegraded is None and not self._isStopped:
            self._cancelTimer()
            self._begin()

    def _begin(self) -> None:
        """
        Write a batch; an empty one just tries.
        """
        self._batch = self._queue.take(BATCH)
        if self.journal is not None:
            self.journal.begun(not self._queue.changes)
        self._isWriting = True
        self._begunAt = self._clock.seconds()
        deadline = Deadline(self._clock, PATIENCE, lambda: self._degrade("slow", f"not done in {PATIENCE} s"))
        writing = self._write(list(self._batch.values()))
        writing.addBoth(_passing(deadline.cancel))
        writing.addCallbacks(self._succeeded, self._failed)
        writing.addErrback(lambda failure: self._log.failure("the store met a mistake of ours", failure))

    def _succeeded(self, came: Sequence[Any]) -> None:
        self._isWriting = False
        self.counters.timed("store_write", self._clock.seconds() - self._begunAt)
        results = dict(zip(self._batch, came, strict=True))
        if self.journal is not None:
            self.journal.written(self._batch)
        self._batch = {}
        refused = sum([isinstance(each, Exception) for each in came])
        if refused:
            self.counters.add("store_refused", times=refused)
        first = self._queue.first
        done = [each for each in self._waiting if each.number < first]
        self._waiting = [each for each in self._waiting if each.number >= first]
        if self.whyDegraded is not None:
            self._recover()
        self._goOn()
        for waiting in done:
            result = results.get(waiting.number) if waiting.isForResult else True
            waiting.deferred.callback(waiting.otherwise if isinstance(result, Exception) else result)

    def _goOn(self) -> None:
        if self._queue.changes and (self._waiting or self._stopping or len(self._queue.changes) >= BATCH):
            self._cancelTimer()
            self._begin()
        elif self._queue.changes and self._timer is None:
            self._timer = self._clock.callLater(DELAY, self._due)
        elif self._stopping is not None and not self._queue.changes:
            self._stopped()

    def _failed(self, failure: Failure) -> None:
        self._isWriting = False
        batch, self._batch = self._batch, {}
        trouble = failure.value
        if not isinstance(trouble, Trouble) or trouble.isUnsure:
            for change in batch.values():
                change.mayBeWritten = True
        self._queue.putBack(batch)
        if self.journal is not None:
            self.journal.failed()
        if isinstance(trouble, Trouble):
            self._degrade(trouble.word, str(trouble))
        else:
            self._log.failure("the store met a mistake of ours", failure)
            self._degrade("failing", "a mistake of ours")
        if self._stopping is not None:
            self._stopped()
            return
        self._cancelTimer()
        self._timer = self._clock.callLater(self._retryIn, self._retry)
        self._retryIn = min(2 * self._retryIn, LAST_RETRY)

    def _retry(self) -> None:
        self._timer = None
        self._begin()

    # Degraded, and well again.

    def readFailed(self, trouble: Trouble) -> None:
        """
        Note that the database is in trouble, and try it.
        """
        if self.whyDegraded is None and not self._stopping and not self._isStopped:
            self._degrade(trouble.word, str(trouble))
            if not self._isWriting:
                self._cancelTimer()
                self._timer = self._clock.callLater(self._retryIn, self._retry)

    def _degrade(self, word: str, said: str) -> None:
        if self.whyDegraded is None:
            self._degradedAt = self._clock.seconds()
            self.counters.add("store_degraded", word)
            self._log.warn("the store is degraded, {word}: {said}", word=word, said=said)
        self.whyDegraded = word
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.deferred.callback(each.otherwise)
        self._dropTooMany()

    def _recover(self) -> None:
        self.whyDegraded = None
        self._retryIn = FIRST_RETRY
        self._log.info(
            "the store is well again after {seconds:.0f} s; {dropped} changes were dropped",
            seconds=self._clock.seconds() - self._degradedAt,
            dropped=self._dropped,
        )
        self._dropped = 0

    def _dropTooMany(self) -> None:
        dropped = self._queue.dropTooMany()
        if dropped:
            if self.journal is not None:
                self.journal.dropped(dropped)
            self._dropped += len(dropped)
            self.counters.add("store_dropped", times=len(dropped))

    # The end.

    def _cancelTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _stopped(self) -> None:
        self._cancelTimer()
        self._isStopped = True
        if self._queue.changes:
            self._log.warn("{count} changes of the store were not saved", count=len(self._queue.changes))
        stopping, self._stopping = self._stopping, None
        if stopping is not None:
            stopping.callback(None)


def _passing(call: Callable[[], object]) -> Callable[[Any], Any]:
    def passed(result: Any) -> Any:
        call()
        return result

    return passed
