# -*- test-case-name: tests.store.test_threads -*-
"""
Threads in which a database may take its time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

#: Threads that read; one more writes.
_READERS: Final = 3

P = ParamSpec("P")
T = TypeVar("T")


class Workers(Protocol):
    """
    Does what takes its time.
    """

    def start(self) -> None:
        """
        Begin to take work.
        """

    def write(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """
        Do this after all other writing.
        """

    def read(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """
        Do this beside the writing and some other reading.
        """

    def stop(self) -> None:
        """
        Take no more work.
        """


class DaemonThread(Thread):
    """
    A thread that ends with the process.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.daemon = True


class DaemonPool(ThreadPool):
    """
    Threads that end with the process, whatever they wait for.
    """

    threadFactory = DaemonThread


class ThreadWorkers:
    """
    See L{Workers}: one thread writes, a few others read.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._writer = DaemonPool(0, 1, "store-writer")
        self._readers = DaemonPool(0, _READERS, "store-reader")
        self._working = 0

    def start(self) -> None:
        """
        Begin to take work; threads are made with it.
        """
        self._writer.start()
        self._readers.start()

    def write(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """
        Do this after all other writing.
        """
        return self._do(self._writer, partial(work, *args, **kwargs))

    def read(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """
        Do this beside the writing.
        """
        return self._do(self._readers, partial(work, *args, **kwargs))

    def _do(self, pool: ThreadPool, work: Callable[[], T]) -> Deferred[T]:
        done: Deferred[T] = Deferred()

        def inThread(isDone: bool, result: Any) -> None:
            self._reactor.callFromThread(self._finish, done, result)

        self._working += 1
        pool.callInThreadWithCallback(inThread, work)
        return done

    def _finish(self, done: Deferred[Any], result: Any) -> None:
        # Also when nobody waits for it any more.
        self._working -= 1
        (done.errback if isinstance(result, Failure) else done.callback)(result)

    def stop(self) -> None:
        """
        End the threads. While one of them works they are left to the
        process's end: to wait for it would hold up the reactor.
        """
        if not self._working:
            self._writer.stop()
            self._readers.stop()
