# -*- test-case-name: tests.daemon.test_turn -*-
"""
The states of a turn.

    asked ----> running <---> parked        the audience is told
      |            |            |
      |            +-> settling <+          still told, but never cancelled
      v            v     |
    draining <-----------+                  nobody is told, the worker goes on
      |
      v
    ended                                   C{finish}, C{error}, or loss
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from automat import TypeMachineBuilder

from openai_server.wire.ends import Loss, TurnEnd


class Inputs(Protocol):
    """
    What can happen to a turn.
    """

    def live(self) -> None:
        """
        The worker showed its first sign of life.
        """

    def park(self) -> None: ...

    def resume(self) -> None: ...

    def settle(self) -> None: ...

    def cancel(self) -> None:
        """
        Its audience wants it no more.
        """

    def giveUp(self, why: Loss) -> None:
        """
        A deadline has passed, or the audience failed.
        """

    def end(self, end: TurnEnd) -> None:
        """
        The worker is done with it, or is no more.
        """

    def unlink(self) -> None:
        """
        The connection was lost.
        """


class Living(Protocol):
    """
    What a turn does as its state changes.
    """

    def begin(self) -> None:
        """
        The worker is there: from now on its silence counts.
        """

    def rest(self) -> None:
        """
        Silence does not count.
        """

    def goOn(self) -> None:
        """
        Silence counts again.
        """

    def drain(self, why: Loss | None) -> None:
        """
        Say C{cancel}, and tell the audience nothing more, but for why if the
        wish was not its own.
        """

    def finish(self, end: TurnEnd) -> None:
        """
        The turn is over.
        """

    def forget(self, why: Loss) -> None:
        """
        The turn is over, and nothing can be known of it.
        """


_builder = TypeMachineBuilder(Inputs, Living)  # type: ignore[type-abstract]
_asked = _builder.state("asked")
_running = _builder.state("running")
_parked = _builder.state("parked")
_settling = _builder.state("settling")
_draining = _builder.state("draining")
_ended = _builder.state("ended")


@_asked.upon(Inputs.live).to(_running)
def _begin(life: Inputs, turn: Living) -> None:
    turn.begin()


@_asked.upon(Inputs.park).to(_parked)
@_running.upon(Inputs.park).to(_parked)
def _park(life: Inputs, turn: Living) -> None:
    turn.rest()


@_parked.upon(Inputs.resume).to(_running)
@_asked.upon(Inputs.settle).to(_settling)
@_running.upon(Inputs.settle).to(_settling)
@_parked.upon(Inputs.settle).to(_settling)
def _goOn(life: Inputs, turn: Living) -> None:
    turn.goOn()


@_asked.upon(Inputs.cancel).to(_draining)
@_running.upon(Inputs.cancel).to(_draining)
@_parked.upon(Inputs.cancel).to(_draining)
@_settling.upon(Inputs.cancel).to(_draining)
def _cancel(life: Inputs, turn: Living) -> None:
    turn.drain(None)


@_asked.upon(Inputs.giveUp).to(_draining)
@_running.upon(Inputs.giveUp).to(_draining)
@_parked.upon(Inputs.giveUp).to(_draining)
@_settling.upon(Inputs.giveUp).to(_draining)
def _giveUp(life: Inputs, turn: Living, why: Loss) -> None:
    turn.drain(why)


@_draining.upon(Inputs.giveUp).to(_ended)
def _forget(life: Inputs, turn: Living, why: Loss) -> None:
    turn.forget(why)


@_asked.upon(Inputs.end).to(_ended)
@_running.upon(Inputs.end).to(_ended)
@_parked.upon(Inputs.end).to(_ended)
@_settling.upon(Inputs.end).to(_ended)
@_draining.upon(Inputs.end).to(_ended)
def _end(life: Inputs, turn: Living, end: TurnEnd) -> None:
    turn.finish(end)


@_asked.upon(Inputs.unlink).to(_ended)
@_running.upon(Inputs.unlink).to(_ended)
@_settling.upon(Inputs.unlink).to(_ended)
@_draining.upon(Inputs.unlink).to(_ended)
def _unlink(life: Inputs, turn: Living) -> None:
    turn.forget(Loss.DAEMON_LOST)


# What changes nothing.
for _state in (_running, _parked, _settling, _draining, _ended):
    _state.upon(Inputs.live).loop().returns(None)
for _state in (_parked, _settling, _draining, _ended):
    _state.upon(Inputs.park).loop().returns(None)
for _state in (_asked, _running, _settling, _draining, _ended):
    _state.upon(Inputs.resume).loop().returns(None)
for _state in (_settling, _draining, _ended):
    _state.upon(Inputs.settle).loop().returns(None)
for _state in (_draining, _ended):
    _state.upon(Inputs.cancel).loop().returns(None)
_ended.upon(Inputs.giveUp).loop().returns(None)
_ended.upon(Inputs.end).loop().returns(None)
_ended.upon(Inputs.unlink).loop().returns(None)
_parked.upon(Inputs.unlink).loop().returns(None)

#: The life of a new turn.
newLife: Callable[[Living], Inputs] = _builder.build()
