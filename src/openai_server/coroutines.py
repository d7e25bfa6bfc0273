# -*- test-case-name: tests.test_coroutines -*-
"""
Coroutines that most often have nothing to wait for.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any

from twisted.internet.defer import Deferred


def begun(work: Coroutine[Any, Any, None]) -> Deferred[None] | None:
    """
    Run a coroutine up to its first wait. What never waits is done when this
    returns, and costs no Deferred.

    @return: None when it is done; else a Deferred that fires when it is.
        Cancelling it cancels what is waited for.
    @raise Exception: what the coroutine raises before its first wait.
    """
    try:
        awaited = work.send(None)
    except StopIteration:
        return None
    return Deferred.fromCoroutine(_followed(work, awaited))


def _followed(
    work: Coroutine[Any, Any, None], awaited: Deferred[Any]
) -> Generator[Deferred[Any], Any, None]:
    try:
        while True:
            try:
                value = yield awaited
            except GeneratorExit:
                # Nobody holds this any more; the coroutine may be closed already.
                work.close()
                raise
            except BaseException as error:
                awaited = work.throw(error)
            else:
                awaited = work.send(value)
    except StopIteration:
        pass
