"""
Slots, the line for them, and the gate behind it.
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
from twisted.internet.defer import CancelledError, Deferred

from openai_server.errors import APIError
from openai_server.sessions.contexts import Catalogue
from openai_server.sessions.gate import SILENCE
from openai_server.sessions.slots import IDLE_POOLS, Limits, Slot, Slots
from tests.sessions.test_gate import ONE, OTHER, catalogue
from tests.support import SyncCase, TestClock


class SlotsTests(SyncCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.slots = Slots(self.clock, Limits(maxTurns=2, queueLength=3))
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def ask(self, account: str = "a", tools: Catalogue | None = None, pool: str = "p") -> Deferred[Slot]:
        """
        Ask for a slot.
        """
        return self.slots.acquire(pool, account, tools)

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
        self.assertEqual((self.slots.taken, self.slots.waiting), (2, 1))
        first.release()
        slot = self.successResultOf(third)
        self.assertEqual((self.slots.taken, self.slots.waiting), (2, 0))
        slot.release()
        second.release()
        self.assertEqual(self.slots.taken, 0)

    def test_releasedTwice(self) -> None:
        """
        U23: only the first release counts, whatever comes behind it.
        """
        first, second = self.fill()
        for _ in range(2):
            first.release()
            first.drain()
            first.showedLife()
        self.assertEqual(self.slots.taken, 1)
        second.release()

    def test_poolsAreApart(self) -> None:
        """
        Another pool has its own slots.
        """
        slots = self.fill()
        slots.append(self.successResultOf(self.ask(pool="q")))
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
        self.assertEqual(self.slots.waiting, 0)

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
        self.assertEqual(self.slots.taken, 0)

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
        self.slots = Slots(self.clock, Limits(maxTurns=1, queueLength=1000))
        first = self.successResultOf(self.ask())
        waiting = [self.ask().addCallback(lambda slot: slot.release()) for _ in range(1000)]
        first.release()
        for asked in waiting:
            self.successResultOf(asked)
        self.assertEqual((self.slots.taken, self.slots.waiting), (0, 0))

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
        self.assertEqual(self.slots.taken, 0)

    def test_drainedInTime(self) -> None:
        """
        The end of a draining turn frees its slot at once.
        """
        first, second = self.fill()
        first.drain()
        first.release()
        self.assertEqual(self.slots.taken, 1)
        second.release()

    def test_unlimited(self) -> None:
        """
        Without a limit everybody gets a slot.
        """
        self.slots = Slots(self.clock, Limits(maxTurns=0))
        slots = [self.successResultOf(self.ask()) for _ in range(100)]
        self.assertEqual(self.slots.taken, 100)
        for slot in slots:
            slot.release()

    def test_unlimitedGateIsBounded(self) -> None:
        """
        Without a limit of slots the line at the gate has one.
        """
        self.slots = Slots(self.clock, Limits(maxTurns=0, queueLength=2))
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
        self.slots = Slots(self.clock, Limits(maxTurns=0, queueLength=0))
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
        third = self.ask("b", catalogue("k"))
        self.slots.stop()
        for asked in (inLine, third, self.ask()):
            self.assertEqual(self.failed(asked).name, "shutting_down")
        gated.release()
        self.assertEqual((self.slots.taken, self.slots.waiting), (0, 0))

    def test_stopAtTheGate(self) -> None:
        """
        Who waits at the gate is turned away too, and frees the slot.
        """
        first = self.successResultOf(self.ask(tools=ONE))
        atGate = self.ask(tools=OTHER)
        self.slots.stop()
        self.assertEqual(self.failed(atGate).name, "shutting_down")
        first.release()
        self.assertEqual(self.slots.taken, 0)

    def test_idlePoolsAreForgotten(self) -> None:
        """
        Pools come and go with the workers: those without turns do not pile up.
        """
        held = self.successResultOf(self.ask(pool="held"))
        for number in range(3 * IDLE_POOLS):
            self.successResultOf(self.ask(pool=str(number))).release()
        self.assertLess(len(self.slots._pools), IDLE_POOLS + 2)
        self.assertEqual(self.slots.taken, 1)
        held.release()


class GateAndSlotsTests(SyncCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.slots = Slots(self.clock, Limits(maxTurns=3))
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def ask(self, tools: Catalogue | None = None) -> Deferred[Slot]:
        """
        Ask for a slot.
        """
        return self.slots.acquire("p", "a", tools)

    def test_otherToolsWaitForLife(self) -> None:
        """
        U31: with a free slot, a prompt with other tools waits for the first
        sign of life of those before it, however often that comes.
        """
        first = self.successResultOf(self.ask(ONE))
        other = self.ask(OTHER)
        self.assertNoResult(other)
        self.assertEqual((self.slots.taken, self.slots.waiting), (2, 1))
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
        slots = Slots(self.clock, Limits(maxTurns=0, gateTimeout=100))
        waiting = [slots.acquire("p", "a", catalogue(str(number))) for number in range(20)]
        for _ in range(20):
            self.clock.advance(5)
        started = [self.successResultOf(asked) for asked in waiting[:7]]
        for asked in waiting[7:]:
            self.assertEqual(self.failureResultOf(asked, APIError).value.name, "line_full")
        self.assertEqual((slots.waiting, slots.taken), (0, 7))
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
        self.assertEqual((self.slots.taken, self.slots.waiting), (0, 0))

    def test_gateLimitRunsFromTheGate(self) -> None:
        """
        Who waited in the line first has the whole time at the gate.
        """
        slots = Slots(self.clock, Limits(maxTurns=2, gateTimeout=10))
        first = self.successResultOf(slots.acquire("p", "a", ONE))
        first.showedLife()
        second = self.successResultOf(slots.acquire("p", "a", ONE))
        waiting = slots.acquire("p", "a", OTHER)
        self.clock.advance(4)
        first.release()
        self.clock.advance(9)
        self.assertNoResult(waiting)
        self.clock.advance(1)
        self.failureResultOf(waiting, APIError)
        second.release()
        self.assertEqual(slots.taken, 0)


class SlotsMachine(RuleBasedStateMachine):
    """
    Random requests, ends, signs of life, cancels and time, against what must
    hold at every moment.
    """

    LIMIT = 3

    def __init__(self) -> None:
        super().__init__()
        self.clock = TestClock()
        self.slots = Slots(self.clock, Limits(self.LIMIT, 4, 30, 60, 10))
        self.live: list[Slot] = []
        self.starting: dict[Slot, tuple[Catalogue | None, float]] = {}
        self.waiting: list[Deferred[None]] = []
        self.last: Catalogue | None = None
        self.wrong: list[str] = []

    @rule(account=st.sampled_from("abc"), tools=st.sampled_from([None, ONE, OTHER]))
    def ask(self, account: str, tools: Catalogue | None) -> None:
        asked = self.slots.acquire("p", account, tools)
        waits = asked.addCallback(self.started, tools)
        waits.addErrback(self.refused)
        if not waits.called:
            self.waiting.append(waits)

    def started(self, slot: Slot, tools: Catalogue | None) -> None:
        now = self.clock.monotonic()
        if tools is not None and tools != self.last:
            young = [began for _, began in self.starting.values() if began + SILENCE > now]
            if young:
                self.wrong.append("a prompt with other tools went out while others were starting")
        if tools is not None:
            self.last = tools
        elif self.last is not None and not self.last.names <= set(slot.hiddenNames):
            self.wrong.append("a model sees tools of others")
        self.live.append(slot)
        self.starting[slot] = (tools, now)

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
        gated = self.slots.taken - len(self.live)
        assert not self.wrong, self.wrong
        assert gated >= 0 and self.slots.taken <= self.LIMIT
        assert len(self.waiting) == self.slots.waiting <= 4 + self.LIMIT
        # Nobody waits for a slot while one is free.
        assert self.slots.taken == self.LIMIT or len(self.waiting) == gated

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
        assert self.slots.taken == 0
        assert not self.clock.getDelayedCalls()


class SlotsPropertyTests(SyncCase):
    """
    L{SlotsMachine}.
    """

    def test_neverTooManyNobodyStuckNothingLeaks(self) -> None:
        """
        U22, U23, U31: whatever happens, in whatever order.
        """
        run_state_machine_as_test(
            SlotsMachine,
            settings=settings(deadline=None, max_examples=60, stateful_step_count=40),
        )
