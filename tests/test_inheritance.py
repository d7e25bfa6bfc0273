"""
Tests for L{openai_server.inheritance}.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import IService
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning

from openai_server import inheritance
from openai_server.greeting import Bound
from openai_server.inheritance import VARIABLE, Inheritance, ParentWatch, inheritanceFrom
from openai_server.service import Front
from tests.support import AsyncCase, SyncCase

ADDRESS = IPv4Address("TCP", "127.0.0.1", 80)


class StoppingReactor:
    """
    The reactor, but to stop it is only noted.

    @ivar stopped: fires then.
    """

    def __init__(self) -> None:
        self.stopped: Deferred[None] = Deferred()
        self.stops = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def stop(self) -> None:
        self.stops += 1
        if self.stops > 1:
            raise ReactorNotRunning
        self.stopped.callback(None)


class ParentWatchTests(AsyncCase):
    """
    (P44) The end of the one that started this process.
    """

    def setUp(self) -> None:
        super().setUp()
        self.reactor = StoppingReactor()
        here, self.there = os.pipe()
        self.watch = ParentWatch(self.reactor, here)
        self.here = here

    async def test_itEnds(self) -> None:
        """
        This process does the same, as at SIGTERM.
        """
        self.watch.startService()
        os.close(self.there)
        await self.reactor.stopped
        self.watch.stopService()
        self.assertRaises(OSError, os.fstat, self.here)

    async def test_itEndsWhileThisOneDrains(self) -> None:
        """
        Nothing is stopped twice.
        """
        self.reactor.stops = 1
        self.watch.startService()
        lost: Deferred[None] = Deferred()
        lifeline = self.watch._lifeline
        end = lifeline.connectionLost

        def note(reason: Any) -> None:
            end(reason)
            lost.callback(None)

        self.patch(lifeline, "connectionLost", note)
        os.close(self.there)
        await lost
        self.watch.stopService()
        self.assertEqual(self.reactor.stops, 2)

    def test_itLivesOn(self) -> None:
        """
        A byte from it means nothing, and whoever stops watches no more.
        """
        self.watch.startService()
        os.write(self.there, b"x")
        self.assertIsNone(self.watch._lifeline.doRead())
        self.watch.stopService()
        self.assertEqual(self.reactor.stops, 0)
        os.close(self.there)


class InheritanceTests(SyncCase):
    """
    What is told, and what is told back.
    """

    def setUp(self) -> None:
        super().setUp()
        self.inheritance = Inheritance(2, ("tcp:80", "ssl:443:privateKey=x"))

    def test_variable(self) -> None:
        """
        There and back; without it nobody has started this process.
        """
        self.assertEqual(inheritanceFrom({VARIABLE: self.inheritance.text()}), self.inheritance)
        self.assertIsNone(inheritanceFrom({}))

    def test_descriptions(self) -> None:
        """
        The ports' descriptors stand behind those of the pipes.
        """
        self.assertEqual(
            self.inheritance.inheritedDescriptions,
            ["inherited:5:tcp:80", "inherited:6:ssl:443:privateKey=x"],
        )

    def joined(self, compose: Callable[..., Front]) -> None:
        """
        Join the rooms.
        """
        lifeline, self.end = os.pipe()
        self.addCleanup(os.close, self.end)
        self.ready, ready = os.pipe()
        self.addCleanup(os.close, self.ready)
        self.patch(inheritance, "LIFELINE", lifeline)
        self.patch(inheritance, "READY", ready)
        started: list[IService] = []
        self.addCleanup(os.close, lifeline)
        bound = [Bound(each, ADDRESS) for each in self.inheritance.inheritedDescriptions]
        self.inheritance.composing(StoppingReactor(), compose)(bound, started.append)
        self.assertEqual([type(service) for service in started], [ParentWatch])

    def test_joined(self) -> None:
        """
        The rooms know the addresses as the operator said them; then this
        process says once that it serves.
        """
        seen: list[Sequence[Bound]] = []

        def compose(bound: Sequence[Bound], start: Any) -> Any:
            self.assertEqual(seen, [])
            seen.append(bound)

        self.joined(compose)
        (bound,) = seen
        self.assertEqual([each.description for each in bound], [*self.inheritance.descriptions])
        self.assertEqual([each.scheme for each in bound], ["http", "https"])
        self.assertEqual([os.read(self.ready, 10), os.read(self.ready, 10)], [b".", b""])

    def test_firstOneIsGone(self) -> None:
        """
        It is not waited for, nor is that a failure: the other pipe tells of it.
        """

        def compose(bound: Any, start: Any) -> Any:
            with open(os.devnull) as nobody:
                os.dup2(nobody.fileno(), self.ready)

        self.joined(compose)

    def test_roomsThatCannotBeJoined(self) -> None:
        """
        It says nothing.
        """

        def compose(bound: Any, start: Any) -> Any:
            raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, self.joined, compose)
        os.close(inheritance.READY)
        self.assertEqual(os.read(self.ready, 10), b"")
