"""
Slots, the line for them, and the barrier behind it.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred

from openai_server import constants
from openai_server.errors import APIError
from openai_server.sessions.catalogue import Catalogue
from openai_server.sessions.catalogue.toollist import SILENCE, Passage, ToolList
from openai_server.sessions.catalogue.wirenames import PromptTools
from openai_server.sessions.pool import Limits, Slot
from openai_server.sessions.scheduler import Scheduler, SharedWorkers
from tests.sessions.catalogue.test_toollist import ONE, OTHER, toolSet
from tests.sessions.test_sharedworkers import FakeRegistry, worker
from tests.support import SyncCase, TestClock


def schedulerOf(clock: TestClock, limits: Limits, *workers: str, patience: float = 120) -> Scheduler:
    """
    A scheduler, with these workers registered: a letter for each model.
    """
    registry = FakeRegistry(True, *(worker(*models) for models in workers))
    return Scheduler(clock, limits, registry, Catalogue(clock, patience=patience))


def acquired(scheduler: Scheduler, model: str, account: str, tools: PromptTools | None) -> Deferred[Slot]:
    """
    Ask for a slot, which may be there at once.
    """
    return maybeDeferred(scheduler.acquire, model, account, tools)


class SchedulerCase(SyncCase):
    """
    A scheduler, of which no timer is left.
    """

    scheduler: Scheduler

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """
        Nothing may tick then.
        """
        self.scheduler.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SchedulerTests(SchedulerCase):
    def setUp(self) -> None:
        super().setUp()
        self.scheduler = schedulerOf(self.clock, Limits(maxTurns=2, queueLength=3))

    def ask(self, account: str = "a", tools: PromptTools | None = None, model: str = "p") -> Deferred[Slot]:
        """
        Ask for a slot.
        """
        return acquired(self.scheduler, model, account, tools)

    def fill(self) -> list[Slot]:
        """
        Take all slots of the pool.
        """
        return [self.successResultOf(self.ask()) for _ in range(2)]

    def failed(self, asked: Deferred[Slot]) -> APIError:
        """
        Why a slot was refused.
        """
        return self.failureResultOf(asked, APIError).value

    def test_limit(self) -> None:
        """
        U21: no more turns than slots; a released one goes to who waits.
        """
        first, second = self.fill()
        third = self.ask()
        self.assertNoResult(third)
        self.assertEqual((self.scheduler.taken, self.scheduler.waiting), (2, 1))
        first.release()
        slot = self.successResultOf(third)
        self.assertEqual((self.scheduler.taken, self.scheduler.waiting), (2, 0))
        slot.release()
        second.release()
        self.assertEqual(self.scheduler.taken, 0)

    def test_releasedTwice(self) -> None:
        """
        U23: only the first release counts, whatever comes behind it.
        """
        first, second = self.fill()
        for _ in range(2):
            first.release()
            first.drain()
            first.showedLife()
        self.assertEqual(self.scheduler.taken, 1)
        second.release()

    def test_poolsAreApart(self) -> None:
        """
        Another pool has its own slots.
        """
        self.scheduler = schedulerOf(self.clock, Limits(maxTurns=2), "q")
        slots = self.fill()
        slots.append(self.successResultOf(self.ask(model="q")))
        for slot in slots:
            slot.release()

    def test_lineFull(self) -> None:
        """
        U22: who finds the line full is turned away at once, with a 429.
        """
        slots = self.fill()
        waiting = [self.ask() for _ in range(3)]
        refused = self.failed(self.ask())
        self.assertEqual((refused.kind.status, refused.kind.code), (429, "server_is_overloaded"))
        self.assertEqual((refused.retryAfter, refused.mayRetry), (5, True))
        self.giveUp(waiting)
        for slot in slots:
            slot.release()

    def giveUp(self, waiting: list[Deferred[Slot]]) -> None:
        """
        Cancel what waits.
        """
        for asked in waiting:
            asked.cancel()
            self.failureResultOf(asked, CancelledError)
        self.assertEqual(self.scheduler.waiting, 0)

    def test_fullLineMakesPlaceForOthers(self) -> None:
        """
        An account that fills the line does not shut the others out: its last
        one makes place.
        """
        slots = self.fill()
        waiting = [self.ask("a") for _ in range(3)]
        other = self.ask("b")
        self.assertNoResult(other)
        self.assertEqual(self.failed(waiting[2]).name, "line_full")
        self.giveUp([*waiting[:2], other])
        for slot in slots:
            slot.release()

    def test_waitedTooLong(self) -> None:
        """
        U22: after 30 s in the line, a 429.
        """
        slots = self.fill()
        waiting = self.ask()
        self.clock.advance(29.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.1)
        self.assertEqual(self.failed(waiting).name, "line_full")
        for slot in slots:
            slot.release()
        self.assertEqual(self.scheduler.taken, 0)

    def test_accountsTakeTurns(self) -> None:
        """
        U22: first come first served within an account, fair between them.
        """
        slots = self.fill()
        served: list[str] = []
        for account in ("a", "a", "b"):
            self.ask(account).addCallback(lambda slot, name: (served.append(name), slot.release()), account)
        slots[0].release()
        self.assertEqual(served, ["a", "b", "a"])
        slots[1].release()

    def test_longLineThatIsOverAtOnce(self) -> None:
        """
        However many release their slot the moment they have it, it is one
        after the other.
        """
        self.scheduler = schedulerOf(self.clock, Limits(maxTurns=1, queueLength=1000))
        first = self.successResultOf(self.ask())
        waiting = [self.ask().addCallback(lambda slot: slot.release()) for _ in range(1000)]
        first.release()
        for asked in waiting:
            self.successResultOf(asked)
        self.assertEqual((self.scheduler.taken, self.scheduler.waiting), (0, 0))

    def test_cancelledInLine(self) -> None:
        """
        K6: who gives up waiting leaves the line.
        """
        slots = self.fill()
        first, second = self.ask(), self.ask()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        slots[0].release()
        self.successResultOf(second).release()
        slots[1].release()

    def test_draining(self) -> None:
        """
        U24: a draining turn holds its slot for 30 s at most.
        """
        first, second = self.fill()
        first.drain()
        self.clock.advance(20)
        first.drain()
        waiting = self.ask()
        self.clock.advance(9.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.1)
        self.successResultOf(waiting).release()
        first.release()
        second.release()
        self.assertEqual(self.scheduler.taken, 0)

    def test_drainedInTime(self) -> None:
        """
        The end of a draining turn frees its slot at once.
        """
        first, second = self.fill()
        first.drain()
        first.release()
        self.assertEqual(self.scheduler.taken, 1)
        second.release()

    def test_unlimited(self) -> None:
        """
        Without a limit everybody gets a slot.
        """
        self.scheduler = schedulerOf(self.clock, Limits(maxTurns=0))
        slots = [self.successResultOf(self.ask()) for _ in range(100)]
        self.assertEqual(self.scheduler.taken, 100)
        for slot in slots:
            slot.release()

    def test_unlimitedGateIsBounded(self) -> None:
        """
        Without a limit of slots the line at the gate has one.
        """
        self.scheduler = schedulerOf(self.clock, Limits(maxTurns=0, queueLength=2))
        first = self.successResultOf(self.ask(tools=ONE))
        waiting = [self.ask(tools=OTHER) for _ in range(2)]
        self.assertEqual(self.failed(self.ask(tools=OTHER)).name, "line_full")
        first.release()
        for asked in waiting:
            self.successResultOf(asked).release()

    def test_unlimitedWithoutALine(self) -> None:
        """
        Without a limit of slots and without a line only those are turned away
        who would have to wait at the gate.
        """
        self.scheduler = schedulerOf(self.clock, Limits(maxTurns=0, queueLength=0))
        slots = [self.successResultOf(self.ask(tools=ONE)) for _ in range(3)]
        self.assertEqual(self.failed(self.ask(tools=OTHER)).name, "line_full")
        for slot in slots:
            slot.showedLife()
        slots.append(self.successResultOf(self.ask(tools=OTHER)))
        for slot in slots:
            slot.release()

    def test_stop(self) -> None:
        """
        At the end everybody who waits is turned away, draining turns are left,
        and nobody is let in.
        """
        first = self.successResultOf(self.ask(tools=ONE))
        atGate, inLine = self.ask(tools=OTHER), self.ask()
        first.drain()
        gated = self.successResultOf(atGate)
        third = self.ask("b", toolSet("k"))
        self.scheduler.stop()
        for asked in (inLine, third, self.ask()):
            self.assertEqual(self.failed(asked).name, "shutting_down")
        gated.release()
        self.assertEqual((self.scheduler.taken, self.scheduler.waiting), (0, 0))

    def test_stopAtTheGate(self) -> None:
        """
        Who waits at the gate is turned away too, and frees the slot.
        """
        first = self.successResultOf(self.ask(tools=ONE))
        atGate = self.ask(tools=OTHER)
        self.scheduler.stop()
        self.assertEqual(self.failed(atGate).name, "shutting_down")
        first.release()
        self.assertEqual(self.scheduler.taken, 0)

    def test_stopGrantsNothing(self) -> None:
        """
        Nobody who waits is let through because another one was turned away:
        neither behind it at the gate, nor in another pool.
        """
        self.scheduler = schedulerOf(self.clock, Limits(maxTurns=3), "q", "p")
        first = self.successResultOf(self.ask(tools=ONE))
        behind = [self.ask(tools=OTHER), self.ask(tools=ONE)]
        slots = [self.successResultOf(self.ask(model="q")) for _ in range(3)]
        elsewhere = self.ask(model="q")
        behind[0].addErrback(lambda failure: (slots[0].release(), failure)[1])
        self.scheduler.stop()
        for asked in (*behind, elsewhere):
            self.assertEqual(self.failed(asked).name, "shutting_down")
        for slot in (first, *slots):
            slot.release()
        self.assertEqual(self.scheduler.taken, 0)

    def test_drainedAfterTheStop(self) -> None:
        """
        No slot is held for a turn that is given up then.
        """
        first, second = self.fill()
        self.scheduler.stop()
        first.drain()
        self.assertEqual(self.scheduler.taken, 1)
        first.release()
        second.release()

    def test_slotAtOnce(self) -> None:
        """
        Where nothing has to be waited for, there is no Deferred.
        """
        found = [self.scheduler.acquire("p", "a", None) for _ in range(3)]
        self.assertEqual([type(each) for each in found], [Slot, Slot, Deferred])
        for each in found:
            slot = each if isinstance(each, Slot) else self.successResultOf(each)
            slot.release()


class BarrierAndSlotsTests(SchedulerCase):
    def setUp(self) -> None:
        super().setUp()
        self.scheduler = schedulerOf(self.clock, Limits(maxTurns=3))

    def ask(self, tools: PromptTools | None = None) -> Deferred[Slot]:
        """
        Ask for a slot.
        """
        return acquired(self.scheduler, "p", "a", tools)

    def test_mistakeAtTheGateHoldsUpNobodyElse(self) -> None:
        """
        It fails one request, gives its slot back, and the pool goes on.
        """
        patch = self.patch(ToolList, "started", lambda *_: 1 / 0)
        self.failureResultOf(self.ask(), ZeroDivisionError)
        patch.restore()
        self.assertEqual(self.scheduler.taken, 0)
        for _ in range(3):
            self.assertIsInstance(self.successResultOf(self.ask()), Slot)
        for slot in list(self.scheduler._poolOf("p")._slots):
            slot.release()

    def test_mistakeWithOneThatWaited(self) -> None:
        """
        It fails that request alone: neither who let it through nor who stands
        behind it notices.
        """
        first = self.successResultOf(self.ask(ONE))
        waiting = [self.ask(OTHER), self.ask(OTHER)]
        original = ToolList.started
        calls: list[object] = []

        def started(this: ToolList, turn: Slot, tools: PromptTools | None) -> Passage:
            calls.append(turn)
            if len(calls) == 1:
                raise ZeroDivisionError
            return original(this, turn, tools)

        self.patch(ToolList, "started", started)
        first.showedLife()
        self.failureResultOf(waiting[0], ZeroDivisionError)
        self.successResultOf(waiting[1]).release()
        first.release()
        self.assertEqual((self.scheduler.taken, self.scheduler.waiting), (0, 0))

    def test_otherToolsWaitForLife(self) -> None:
        """
        U31: with a free slot, a prompt with other tools waits for the first
        sign of life of those before it, however often that comes.
        """
        first = self.successResultOf(self.ask(ONE))
        other = self.ask(OTHER)
        self.assertNoResult(other)
        self.assertEqual((self.scheduler.taken, self.scheduler.waiting), (2, 1))
        first.showedLife()
        second = self.successResultOf(other)
        first.showedLife()
        first.release()
        second.release()

    def test_sameToolsTogether(self) -> None:
        """
        U31: prompts with the same tools start together, those with none as
        well.
        """
        slots = [self.successResultOf(self.ask(tools)) for tools in (ONE, ONE, None)]
        self.assertEqual([slot.hiddenNames for slot in slots], [(), (), ("f", "g")])
        for slot in slots:
            slot.release()

    def test_nobodyOvertakesAtTheGate(self) -> None:
        """
        Prompts with the same tools as the last one's cannot hold up one with
        other tools for ever.
        """
        first = self.successResultOf(self.ask(ONE))
        other, same = self.ask(OTHER), self.ask(ONE)
        self.assertNoResult(same)
        first.showedLife()
        second = self.successResultOf(other)
        self.assertNoResult(same)
        second.showedLife()
        for slot in (first, second, self.successResultOf(same)):
            slot.release()

    def test_silentTurnIsWaitedForNoLonger(self) -> None:
        """
        U31: after 15 s without any sign the next one goes.
        """
        first = self.successResultOf(self.ask(ONE))
        other = self.ask(OTHER)
        self.clock.advance(SILENCE - 0.1)
        self.assertNoResult(other)
        self.clock.advance(0.1)
        self.successResultOf(other).release()
        first.release()

    def test_cancelledTurnIsWaitedForNoLonger(self) -> None:
        """
        A draining turn opens the gate: its model's list matters to nobody.
        """
        first = self.successResultOf(self.ask(ONE))
        other = self.ask(OTHER)
        first.drain()
        self.successResultOf(other).release()
        first.release()

    def test_ownLimitAtTheGate(self) -> None:
        """
        U31: the time at the gate does not count towards the line's 30 s, and
        has its own end after 120 s, with a 429; the slot is free again.
        """
        self.scheduler = schedulerOf(self.clock, Limits(maxTurns=0), patience=100)
        waiting = [self.ask(toolSet(str(number))) for number in range(20)]
        for _ in range(20):
            self.clock.advance(5)
        started = [self.successResultOf(asked) for asked in waiting[:7]]
        for asked in waiting[7:]:
            self.assertEqual(self.failureResultOf(asked, APIError).value.name, "line_full")
        self.assertEqual((self.scheduler.waiting, self.scheduler.taken), (0, 7))
        for slot in started:
            slot.release()

    def test_cancelledAtTheGate(self) -> None:
        """
        K6: who gives up at the gate frees the slot and lets the next one on.
        """
        first = self.successResultOf(self.ask(ONE))
        other, same = self.ask(OTHER), self.ask(ONE)
        other.cancel()
        self.failureResultOf(other, CancelledError)
        self.successResultOf(same).release()
        first.release()
        self.assertEqual((self.scheduler.taken, self.scheduler.waiting), (0, 0))

    def test_gateLimitRunsFromTheGate(self) -> None:
        """
        Who waited in the line first has the whole time at the gate.
        """
        self.scheduler = schedulerOf(self.clock, Limits(maxTurns=2), patience=10)
        first = self.successResultOf(self.ask(ONE))
        first.showedLife()
        second = self.successResultOf(self.ask(ONE))
        waiting = self.ask(OTHER)
        self.clock.advance(4)
        first.release()
        self.clock.advance(9)
        self.assertNoResult(waiting)
        self.clock.advance(1)
        self.failureResultOf(waiting, APIError)
        second.release()
        self.assertEqual(self.scheduler.taken, 0)


class RegroupingTests(SchedulerCase):
    """
    Workers that come and go while turns run.
    """

    def setUp(self) -> None:
        super().setUp()
        self.registry = FakeRegistry(True)
        self.register("b", "c")
        limits = Limits(maxTurns=2, queueLength=3)
        self.scheduler = Scheduler(self.clock, limits, self.registry, Catalogue(self.clock))

    def ask(self, model: str, tools: PromptTools | None = None) -> Deferred[Slot]:
        """
        Ask for a slot.
        """
        return acquired(self.scheduler, model, "a", tools)

    def started(self, *models: str, tools: PromptTools | None = None) -> list[Slot]:
        """
        Ask for slots that are there at once.
        """
        return [self.successResultOf(self.ask(model, tools)) for model in models]

    def register(self, *workers: str) -> None:
        """
        These workers are there now: a letter for each model.
        """
        self.registry.current = tuple(worker(*models) for models in workers)

    def release(self, *slots: Slot) -> None:
        """
        The turns are over.
        """
        for slot in slots:
            slot.release()

    def assertNothingLeft(self) -> None:
        """
        Nobody has a slot or waits for one.
        """
        self.assertEqual((self.scheduler.taken, self.scheduler.waiting), (0, 0))

    def test_workerThatJoinsBringsNoSlots(self) -> None:
        """
        U21: nor does it when its model's id becomes the name of the pool.
        """
        slots = self.started("b", "b")
        self.register("b", "c", "ab")
        waiting = [self.ask("a"), self.ask("b")]
        self.assertEqual((self.scheduler.taken, self.scheduler.waiting), (2, 2))
        for slot, asked in zip(slots, waiting, strict=True):
            slot.release()
            self.successResultOf(asked).release()
        self.assertNothingLeft()

    def test_joinedPoolsCountTogether(self) -> None:
        """
        U21: of two pools that become one, all turns count, and who waited in
        either goes on waiting.
        """
        slots = self.started("b", "b", "c", "c")
        waiting = [self.ask("b"), self.ask("c")]
        self.register("bc")
        waiting.append(self.ask("c"))
        self.release(*slots[:2])
        for asked in waiting:
            self.assertNoResult(asked)
        self.release(*slots[2:])
        self.assertEqual((self.scheduler.taken, self.scheduler.waiting), (2, 1))
        for asked in waiting:
            self.successResultOf(asked).release()
        self.assertNothingLeft()

    def test_partedPoolsCountTheirOwn(self) -> None:
        """
        Where models no longer share a worker, who waited for a turn of the
        other's waits no longer.
        """
        self.register("bc")
        slots = self.started("b", "b")
        waiting = self.ask("c")
        self.register("b", "c")
        last = self.ask("b")
        slots.append(self.successResultOf(waiting))
        self.assertNoResult(last)
        self.release(*slots)
        self.successResultOf(last).release()
        self.assertNothingLeft()

    def test_fileThatAppears(self) -> None:
        """
        Turns that were asked before anything was known count with those of
        their models, and their gate holds.
        """
        self.registry.isKnown = False
        slots = self.started("b", "b", tools=ONE)
        waiting = self.ask("c", OTHER)
        self.assertNoResult(waiting)
        self.registry.isKnown = True
        inLine = self.ask("b")
        self.assertNoResult(inLine)
        slots.append(self.successResultOf(waiting))
        self.release(*slots)
        self.successResultOf(inLine).release()
        self.assertNothingLeft()

    def test_fileThatIsGone(self) -> None:
        """
        The turns of a worker count on.
        """
        slots = self.started("b", "b")
        self.registry.isKnown = False
        self.assertNoResult(waiting := self.ask("b"))
        self.release(*slots)
        self.successResultOf(waiting).release()
        self.assertNothingLeft()

    def test_workerThatIsGone(self) -> None:
        """
        Its turns count until they are over, for the models that it shared with
        others too.
        """
        self.register("bc", "c")
        slots = self.started("b", "b")
        self.register("c")
        self.assertNoResult(waiting := self.ask("c"))
        slots[0].release()
        self.assertNoResult(last := self.ask("b"))
        self.successResultOf(waiting).release()
        self.release(self.successResultOf(last), slots[1])
        self.assertNothingLeft()

    def test_gatesBecomeOne(self) -> None:
        """
        U31: turns that start in either pool are waited for, by who is at the
        gate already too, and their tools are hidden.
        """
        [first] = self.started("b", tools=ONE)
        [second] = self.started("c", tools=toolSet("k"))
        waiting = self.ask("b", OTHER)
        self.register("bc")
        self.assertNoResult(inLine := self.ask("c"))
        first.showedLife()
        self.assertNoResult(waiting)
        second.showedLife()
        third = self.successResultOf(waiting)
        self.release(first, second)
        fourth = self.successResultOf(inLine)
        self.assertEqual(fourth.hiddenNames, ("f", "g", "h", "k"))
        self.release(third, fourth)
        self.assertNothingLeft()

    def test_sameToolsInBoth(self) -> None:
        """
        Where both pools' workers have the same list, that is the joint one's.
        """
        slots = self.started("b", "c", tools=ONE)
        self.register("abc")
        slots[0].release()
        slots += self.started("a", tools=ONE)
        self.release(*slots)

    def test_listOfAnIdlePool(self) -> None:
        """
        What a worker's list holds is known although nothing runs there.
        """
        [first] = self.started("b", tools=ONE)
        first.showedLife()
        first.release()
        self.register("ab")
        [second] = self.started("a")
        self.assertEqual(second.hiddenNames, ("f", "g"))
        second.release()

    def test_limitsGoOn(self) -> None:
        """
        Time that was waited counts, and who gives up leaves the pool in which
        it waits now; draining turns free their slots there.
        """
        slots = self.started("b", "b")
        slots[0].drain()
        self.clock.advance(10)
        leaving, late = self.ask("b"), self.ask("b")
        self.clock.advance(19)
        self.register("ab")
        last = self.ask("a")
        leaving.cancel()
        self.failureResultOf(leaving, CancelledError)
        self.clock.advance(1)
        slots.append(self.successResultOf(late))
        self.assertNoResult(last)
        self.release(*slots)
        self.successResultOf(last).release()
        self.assertNothingLeft()

    def test_changeWhileASlotIsGiven(self) -> None:
        """
        Who is given a slot may ask at once for another, whatever the registry
        says then.
        """
        slots = self.started("b", "b")

        def more(slot: Slot) -> None:
            self.register("bc")
            slots.append(slot)
            slots.extend(self.started("c", "c"))

        self.ask("b").addCallback(more)
        slots[0].release()
        self.assertEqual([slot.model for slot in slots], ["b", "b", "b", "c", "c"])
        self.assertNoResult(waiting := self.ask("c"))
        self.release(*slots)
        self.successResultOf(waiting).release()
        self.assertNothingLeft()


class SchedulerMachine(RuleBasedStateMachine):
    """
    Random requests, ends, signs of life, cancels and time, against what must
    hold at every moment.
    """

    LIMIT = 3

    def __init__(self) -> None:
        super().__init__()
        self.clock = TestClock()
        self.scheduler = schedulerOf(self.clock, Limits(self.LIMIT, 4, 30), patience=60)
        self.live: list[Slot] = []
        self.starting: dict[Slot, float] = {}
        self.waiting: list[Deferred[None]] = []
        self.listed: set[str] = set()
        self.wrong: list[str] = []

    @rule(account=st.sampled_from("abc"), tools=st.sampled_from([None, ONE, OTHER]))
    def ask(self, account: str, tools: PromptTools | None) -> None:
        asked = acquired(self.scheduler, "p", account, tools)
        waits = asked.addCallback(self.started)
        waits.addErrback(self.refused)
        if not waits.called:
            self.waiting.append(waits)

    def started(self, slot: Slot) -> None:
        now = self.clock.seconds()
        self.starting[slot] = now
        self.live.append(slot)
        if slot.tools is not None:
            self.listed = set(slot.tools.own)
        for each, began in self.starting.items():
            own = set() if each.tools is None else set(each.tools.own)
            if began + SILENCE > now and self.listed - set(each.hiddenNames) != own:
                self.wrong.append("a model sees other tools than its own")

    def refused(self, failure: object) -> None:
        failure.trap(APIError, CancelledError)  # type: ignore[attr-defined]

    @precondition(lambda self: self.live)
    @rule(data=st.data(), what=st.sampled_from(["life", "release", "drain"]))
    def turn(self, data: st.DataObject, what: str) -> None:
        slot = data.draw(st.sampled_from(self.live))
        self.starting.pop(slot, None)
        if what == "life":
            slot.showedLife()
        elif what == "drain":
            slot.drain()
        else:
            self.live.remove(slot)
            slot.release()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.waiting)).cancel()

    @rule(seconds=st.sampled_from([0.5, 5, 15, 40]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def withinLimits(self) -> None:
        self.waiting = [waits for waits in self.waiting if not waits.called]
        self.live = [slot for slot in self.live if not slot._isReleased]
        gated = self.scheduler.taken - len(self.live)
        assert not self.wrong, self.wrong
        assert gated >= 0 and self.scheduler.taken <= self.LIMIT
        assert len(self.waiting) == self.scheduler.waiting <= 4 + self.LIMIT
        # Nobody waits for a slot while one is free.
        assert self.scheduler.taken == self.LIMIT or len(self.waiting) == gated

    def teardown(self) -> None:
        # Nothing is stuck: with time alone everybody who waits gets a slot or
        # an answer, and nothing is left of it.
        self.clock.advance(30)
        for _ in range(3):
            self.clock.advance(60)
        self.withinLimits()
        assert not self.waiting
        for slot in self.live:
            slot.release()
        assert self.scheduler.taken == 0
        assert not self.clock.getDelayedCalls()


class RegroupingMachine(RuleBasedStateMachine):
    """
    Random requests, ends and changes of the registry.
    """

    LIMIT = 2

    def __init__(self) -> None:
        super().__init__()
        self.clock = TestClock()
        self.registry = FakeRegistry(True)
        self.sharing = SharedWorkers(self.registry)
        self.scheduler = Scheduler(
            self.clock, Limits(self.LIMIT, 6, 30), self.registry, Catalogue(self.clock, patience=60)
        )
        self.live: list[Slot] = []
        self.waiting: list[Deferred[None]] = []

    @rule(workers=st.lists(st.text("abcd", min_size=1, max_size=3), max_size=3), isKnown=st.booleans())
    def change(self, workers: list[str], isKnown: bool) -> None:
        self.registry.current = tuple(worker(*models) for models in workers)
        self.registry.isKnown = isKnown

    @rule(model=st.sampled_from("abcd"), tools=st.sampled_from([None, ONE, OTHER]))
    def ask(self, model: str, tools: PromptTools | None) -> None:
        groups = self.sharing.current()
        running = [slot for slot in self.live if groups.get(slot.model) == groups.get(model)]
        asked = acquired(self.scheduler, model, "a", tools).addCallback(self.live.append)
        asked.addErrback(lambda failure: failure.trap(APIError, CancelledError) and None)
        if not asked.called:
            self.waiting.append(asked)
        elif self.live and self.live[-1].model == model and self.live[-1] not in running:
            assert len(running) < self.LIMIT, "more turns than slots"

    @precondition(lambda self: self.live)
    @rule(data=st.data(), isOver=st.booleans())
    def turn(self, data: st.DataObject, isOver: bool) -> None:
        slot = data.draw(st.sampled_from(self.live))
        if isOver:
            self.live.remove(slot)
            slot.release()
        else:
            slot.showedLife()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.waiting)).cancel()

    @invariant()
    def allAreCounted(self) -> None:
        self.waiting = [asked for asked in self.waiting if not asked.called]
        assert self.scheduler.waiting == len(self.waiting)
        assert len(self.live) <= self.scheduler.taken <= len(self.live) + len(self.waiting)

    def teardown(self) -> None:
        while self.live:
            self.live.pop().release()
        assert (self.scheduler.taken, self.scheduler.waiting) == (0, 0)
        self.scheduler.stop()
        assert not self.clock.getDelayedCalls()


class SchedulerPropertyTests(SyncCase):
    """
    L{SchedulerMachine} and L{RegroupingMachine}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.patch(constants, "DRAIN_SLOT", 10)

    def test_neverTooManyNobodyStuckNothingLeaks(self) -> None:
        """
        U22, U23, U31: whatever happens, in whatever order.
        """
        run_state_machine_as_test(
            SchedulerMachine,
            settings=settings(deadline=None, max_examples=60, stateful_step_count=40),
        )

    def test_everyTurnCountsWhereItsModelIs(self) -> None:
        """
        U21, U23: whatever workers come and go.
        """
        run_state_machine_as_test(
            RegroupingMachine,
            settings=settings(deadline=None, max_examples=60, stateful_step_count=30),
        )
