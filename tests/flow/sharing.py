"""
Several servers beside each other in one test, over one store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed

from openai_server.config import Configuration
from openai_server.metrics import Counters
from openai_server.store import membership
from openai_server.store.interfaces import PROCESS, Store
from openai_server.store.opening import VolatileStore, storeFrom
from openai_server.web.front import boundsFrom
from tests.flow.support import FlowCase, Talk, user
from tests.flow.test_restart import BOTH, apart, calling
from tests.machinery.models import TEST_MODELS
from tests.store.postgresql import server
from tests.store.support import InlineWorkers
from tests.support import TestClock
from tests.world import Client, Machine, World


class Messages:
    """
    What processes tell each other.

    @ivar isHeld: whether it waits for L{deliver}.
    """

    def __init__(self) -> None:
        self.isHeld = False
        self.listeners: list[tuple[SharedState, str, Callable[[str | None], None]]] = []
        self._held: list[tuple[str, str | None]] = []

    def tell(self, topic: str, text: str | None) -> None:
        """
        Let everybody hear a text.
        """
        if self.isHeld:
            self._held.append((topic, text))
            return
        for state, heard, listener in list(self.listeners):
            if heard == topic and not state.isDead:
                listener(text)

    def deliver(self) -> None:
        """
        Let everybody hear what was held.
        """
        self.isHeld = False
        held, self._held = self._held, []
        for topic, text in held:
            self.tell(topic, text)

    def lose(self) -> None:
        """
        Lose what was held, and say that something was lost.
        """
        topics = {topic for topic, _ in self._held}
        self.isHeld = False
        self._held = []
        for topic in sorted(topics):
            self.tell(topic, None)


class SharedState:
    """
    The shared state, as one process sees it.
    """

    lasts = True
    isShared = True

    def __init__(self, state: Any, messages: Messages) -> None:
        self.isDead = False
        self._state = state
        self._messages = messages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def durable(self) -> Deferred[bool]:
        return self._state.durable() if self._state.lasts else succeed(True)

    def tell(self, topic: str, text: str) -> None:
        self.durable().addCallback(lambda _: None if self.isDead else self._messages.tell(topic, text))

    def hear(self, topic: str, listener: Callable[[str | None], None]) -> Callable[[], None]:
        entry = (self, topic, listener)
        self._messages.listeners.append(entry)
        return lambda: self._messages.listeners.remove(entry)


class SharedStore:
    """
    The shared store, as one process has it.
    """

    def __init__(self, store: Any, messages: Messages, isOwn: bool) -> None:
        """
        @param isOwn: whether it is this process's to start and stop.
        """
        self._store = store
        self._isOwn = isOwn
        self.state = SharedState(store.state, messages)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def startService(self) -> None:
        if self._isOwn:
            self._store.startService()

    def stopService(self) -> Deferred[None]:
        return self._store.stopService() if self._isOwn else succeed(None)


class ProcessCase(FlowCase):
    """
    Servers over one store, at one daemon.

    @ivar a: one server.
    @ivar b: another one.
    """

    def setUp(self) -> None:
        super().setUp()
        # A database has a clock of its own.
        self.patch(membership, "TTL", 1e6)
        self.machine = Machine(self, {"models": {**TEST_MODELS, "calling": calling, "apart": apart}})
        self.messages = Messages()
        self.stores: dict[World, SharedStore] = {}
        self.setUpStore()
        self.a, self.b = self.process("a"), self.process("b")

    def setUpStore(self) -> None:
        """
        Make what is shared.
        """
        raise NotImplementedError

    def store(self, clock: TestClock, workers: InlineWorkers) -> Any:
        """
        The shared store, and whether it is this process's own object.
        """
        raise NotImplementedError

    def process(self, name: str, **settings: Any) -> World:
        """
        A server that is started now.

        @param name: one letter; the same one is the same process, started again.
        """
        hid = "fbee_" + name * 64
        clock, workers = TestClock(), InlineWorkers()
        store, isOwn = self.store(clock, workers)
        shared = SharedStore(store, self.messages, isOwn)
        shared.startService()
        world = World(
            self, machine=self.machine, hid=hid, opened=shared, clock=clock, workers=workers, **settings
        )
        self.stores[world] = shared
        self.hids = {**getattr(self, "hids", {}), world: hid}
        return world

    def kill(self, world: World) -> None:
        """
        Let a process die; it is thought to live for a while.
        """
        state = self.stores[world].state
        state.isDead = True
        world.kill()

    def isMissed(self, world: World) -> None:
        """
        Let the lease of a dead process be over, by whatever clock.
        """
        hid = self.hids[world]
        [other, *_] = self.machine.worlds
        self.stores[other].state.release(PROCESS + hid, hid)

    def completed(self, *clients: Client) -> Sequence[Client]:
        """
        These clients, when they have their answers.
        """
        [world, *_] = self.machine.worlds
        world.until(lambda: all(client.isComplete for client in clients))
        return clients

    def parked(self, world: World, **fields: Any) -> Talk:
        """
        A client of this server whose model waits for two results.
        """
        talk = Talk(world, **{"model": "calling", "tools": BOTH, **fields})
        self.assertCalls(talk.ask(user("Go.")), "look", "smell")
        return talk


class InOneMemory(ProcessCase):
    """
    They share an object.
    """

    def setUpStore(self) -> None:
        self.shared = VolatileStore(self.machine.clock, boundsFrom(Configuration()), self.machine.now)

    def store(self, clock: TestClock, workers: InlineWorkers) -> Any:
        return self.shared, False


class InPostgreSQL(ProcessCase):
    """
    They share a database.
    """

    def setUpStore(self) -> None:
        server().clear()

    def store(self, clock: TestClock, workers: InlineWorkers) -> Any:
        bounds = boundsFrom(Configuration())
        made: Store = storeFrom(
            server().url, bounds, clock=clock, counters=Counters(), workers=workers, now=self.machine.now
        )
        return made, True
