"""
Which daemon a turn gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed

from openai_server.daemon.interfaces import Bee
from openai_server.errors import APIError
from openai_server.sessions.catalogue.wirenames import PromptTools
from openai_server.sessions.chains import Chain
from openai_server.sessions.contexts import contextFrom
from openai_server.sessions.plans import Session, SessionKind, SessionPlan
from openai_server.sessions.pool import Limits, Slot
from openai_server.sessions.upstreams import JoinedRegistries, NamedDaemon, Upstream, Upstreams
from tests.support import SyncCase, TestClock

AWAY = "no such file"


class ListedModels:
    """
    A registry with the models that a test says.
    """

    def __init__(self, *models: str, isKnown: bool = True, seen: Sequence[str] = ()) -> None:
        self.isKnown = isKnown
        self._seen = {*models, *seen}
        self.workers: tuple[Bee, ...] = (Bee("w", "h", models, ("tool",)),) if models else ()

    def bees(self) -> Sequence[Bee]:
        """
        See L{openai_server.daemon.interfaces.Registry}.
        """
        return self.workers

    def models(self) -> Sequence[str]:
        """
        See L{openai_server.daemon.interfaces.Registry}.
        """
        return [model for bee in self.workers for model in bee.models]

    def hasSeen(self, model: str) -> bool:
        """
        See L{openai_server.daemon.interfaces.Registry}.
        """
        return model in self._seen


class FakeDaemon:
    """
    A daemon that is there or not.

    @ivar tries: how often somebody has tried to reach it.
    @ivar comesBack: whether that succeeds.
    """

    liveTools: dict[str, Any] = {}
    incarnation: str | None = "1"

    def __init__(self, registry: ListedModels | None = None, why: str | None = None) -> None:
        self.registry = registry or ListedModels("m")
        self.whyNotReady = why
        self.tries = 0
        self.comesBack = False

    def whenTried(self) -> Deferred[None] | None:
        """
        Try.
        """
        self.tries += 1
        if self.comesBack:
            self.whyNotReady = None
        return succeed(None)


def session(upstream: str = "") -> Session:
    """
    A session of an upstream's.
    """
    found = Session("a", contextFrom("m", "", None), Chain())
    found.upstream = upstream
    return found


def named(daemon: Any, name: str = "", weight: float = 1.0) -> NamedDaemon:
    """
    A daemon as the settings have it.
    """
    return NamedDaemon(daemon, name, weight)


def fresh() -> SessionPlan:
    """
    What a request does that begins anew.
    """
    return SessionPlan(SessionKind.NEW, session())


class UpstreamCase(SyncCase):
    """
    Upstreams, of which no timer is left.
    """

    def upstreams(self, *daemons: NamedDaemon, maxTurns: int = 8) -> Upstreams:
        """
        These, called a, b and so on unless they have names.
        """
        clock = TestClock()
        limits = Limits(maxTurns=maxTurns)
        made = Upstreams([Upstream(each, clock, limits, 1000) for each in daemons])
        self.addCleanup(lambda: self.assertEqual(clock.getDelayedCalls(), []))
        self.addCleanup(made.stop)
        return made

    def of(self, *daemons: FakeDaemon, maxTurns: int = 8) -> Upstreams:
        """
        These, called a, b and so on, of one weight.
        """
        return self.upstreams(*map(named, daemons, "abcdef"), maxTurns=maxTurns)

    def chosen(self, upstreams: Upstreams, plan: SessionPlan | None = None, model: str = "m") -> Upstream:
        """
        The one that a plan gets.
        """
        return self.successResultOf(Deferred.fromCoroutine(upstreams.forPlan(plan or fresh(), model)))

    def take(self, upstream: Upstream, model: str = "m", tools: PromptTools | None = None) -> Slot:
        """
        A slot that is free.
        """
        slot = upstream.scheduler.acquire(model, "a", tools)
        assert isinstance(slot, Slot)
        return slot


class ChoiceTests(UpstreamCase):
    def test_onlyOne(self) -> None:
        """
        There is nothing to choose, whether it is there or not, and what had no
        name is its.
        """
        for name in ("", "east"):
            daemon = FakeDaemon(ListedModels("other"), AWAY)
            upstreams = self.upstreams(named(daemon, name))
            self.assertIs(self.chosen(upstreams).daemon, daemon)
            self.assertEqual((daemon.tries, upstreams.whyNotReady), (0, AWAY))
            self.assertIs(upstreams.registry, daemon.registry)
            self.assertTrue(upstreams.canGoOn(session("")))
            self.assertTrue(upstreams.canGoOn(session(name)))
            self.assertFalse(upstreams.canGoOn(session("west")))
            self.assertIsNone(upstreams.named("west"))

    def test_freeSlotsFirst(self) -> None:
        """
        One that is heavy and full comes behind one that has a place.
        """
        heavy, light = FakeDaemon(), FakeDaemon()
        upstreams = self.upstreams(named(heavy, "heavy", 8.0), named(light, "light", 0.5), maxTurns=2)
        names = []
        for _ in range(4):
            chosen = self.chosen(upstreams)
            names.append(chosen.name)
            self.take(chosen)
        self.assertEqual(names, ["heavy", "heavy", "light", "light"])
        self.assertEqual(self.chosen(upstreams).name, "heavy")
        self.assertEqual((upstreams.taken, upstreams.waiting), (4, 0))

    def test_whoWaitsCounts(self) -> None:
        """
        Where all are full, the shortest line is joined.
        """
        upstreams = self.of(FakeDaemon(), FakeDaemon(), maxTurns=1)
        lines = []
        for _ in range(6):
            chosen = self.chosen(upstreams)
            lines.append(chosen.name)
            slot = chosen.scheduler.acquire("m", "a", None)
            if isinstance(slot, Deferred):
                slot.addErrback(lambda failure: failure.trap(APIError))
        self.assertEqual("".join(lines), "ababab")
        self.assertEqual(upstreams.waiting, 4)

    def test_onlyItsOwnWorkersCount(self) -> None:
        """
        What other models keep busy says nothing of this one.
        """
        both = [FakeDaemon(ListedModels("m")), FakeDaemon(ListedModels("m"))]
        both[0].registry.workers += (Bee("v", "h", ("other",), ()),)
        upstreams = self.of(*both)
        first = next(iter(upstreams))
        for _ in range(3):
            self.take(first, "other")
        self.assertEqual(self.chosen(upstreams).name, "a")
        self.take(first)
        self.assertEqual(self.chosen(upstreams).name, "b")

    def test_whoServesTheModel(self) -> None:
        """
        Who lists it or lists nothing; else who did; else anybody: workers
        elsewhere in the mesh are in no file.
        """
        upstreams = self.of(
            FakeDaemon(ListedModels("x")),
            FakeDaemon(ListedModels("y", seen=["z"])),
            FakeDaemon(ListedModels("x", "y")),
        )
        for model, names in {"x": "ac", "y": "bc", "z": "bb", "w": "ab"}.items():
            chosen = self.chosen(upstreams, model=model)
            slot = self.take(chosen, model)
            self.assertEqual(chosen.name + self.chosen(upstreams, model=model).name, names)
            slot.release()
        upstreams = self.of(FakeDaemon(ListedModels("x")), FakeDaemon(ListedModels(isKnown=False)))
        self.assertEqual(self.chosen(upstreams, model="z").name, "b")

    def test_awayIsTriedWhereNobodyElseCan(self) -> None:
        """
        It is asked when that succeeds.
        """
        there, away = FakeDaemon(ListedModels("x")), FakeDaemon(ListedModels("y"), AWAY)
        upstreams = self.of(there, away)
        coroutine = upstreams.forPlan(fresh(), "y")
        self.failureResultOf(Deferred.fromCoroutine(coroutine), APIError)
        self.assertEqual((there.tries, away.tries), (0, 1))
        away.comesBack = True
        self.assertEqual(self.chosen(upstreams, model="y").name, "b")

    def test_goingAwayBeforeItIsAsked(self) -> None:
        """
        Another one is wanted for a fresh session alone, where there is one.
        """
        daemons = [FakeDaemon(), FakeDaemon()]
        upstreams = self.of(*daemons)
        first, _ = upstreams
        continued = SessionPlan(SessionKind.CONTINUED, session("a"))
        self.assertFalse(upstreams.isAnotherOneWanted(first, fresh()))
        daemons[0].whyNotReady = AWAY
        self.assertTrue(upstreams.isAnotherOneWanted(first, fresh()))
        self.assertFalse(upstreams.isAnotherOneWanted(first, continued))
        self.assertFalse(upstreams.canGoOn(continued.session))
        alone = self.of(FakeDaemon(why=AWAY))
        self.assertFalse(alone.isAnotherOneWanted(next(iter(alone)), fresh()))

    @settings(deadline=None, max_examples=200)
    @given(
        st.lists(
            st.tuples(st.sampled_from([0.25, 1.5, 4.0]), st.booleans(), st.sampled_from(["m", "n", "?"])),
            min_size=2,
            max_size=5,
        ),
        st.lists(st.one_of(st.none(), st.integers(0, 4)), max_size=30),
        st.integers(1, 4),
    )
    def test_neverADeadOneNeverElsewhere(
        self, shapes: Sequence[tuple[float, bool, str]], asked: Sequence[int | None], maxTurns: int
    ) -> None:
        """
        A fresh session goes to one that is there, serves the model, and has a
        free slot if any such one has; a session that can go on stays.
        """
        daemons = [
            FakeDaemon(ListedModels(model, isKnown=model != "?"), None if isThere else AWAY)
            for _, isThere, model in shapes
        ]
        weighed = [
            named(daemon, str(at), weight)
            for at, (daemon, (weight, _, _)) in enumerate(zip(daemons, shapes, strict=True))
        ]
        upstreams = self.upstreams(*weighed, maxTurns=maxTurns)
        fit = [
            each
            for each, (_, isThere, model) in zip(upstreams, shapes, strict=True)
            if isThere and model != "n"
        ]
        assume(fit)
        for own in asked:
            if own is None:
                chosen = self.chosen(upstreams)
                self.assertIn(chosen, fit)
                isFull = chosen.scheduler.taken >= maxTurns
                self.assertLessEqual(isFull, all(each.scheduler.taken >= maxTurns for each in fit))
                if not isFull:
                    self.take(chosen)
            elif upstreams.canGoOn(session(str(own))):
                plan = SessionPlan(SessionKind.CONTINUED, session(str(own)))
                self.assertEqual(self.chosen(upstreams, plan).name, str(own))
                self.assertIsNone(daemons[own].whyNotReady)
            else:
                self.assertTrue(own >= len(daemons) or daemons[own].whyNotReady)

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(1, 120))
    def test_sharesFollowTheWeights(self, weights: Sequence[int], number: int) -> None:
        """
        Where all have place, no one has a turn that another one had less to do
        with.
        """
        weighed = [named(FakeDaemon(), str(at), float(each)) for at, each in enumerate(weights)]
        upstreams = self.upstreams(*weighed, maxTurns=0)
        for _ in range(number):
            self.take(self.chosen(upstreams))
        taken = [each.scheduler.taken for each in upstreams]
        self.assertEqual(sum(taken), number)
        for mine, weight in zip(taken, weights, strict=True):
            for theirs, other in zip(taken, weights, strict=True):
                self.assertLessEqual(mine * other, (theirs + 1) * weight)


class ReadinessTests(UpstreamCase):
    def test_anyIsEnough(self) -> None:
        """
        All are named where all are away, with their reasons.
        """
        daemons = [FakeDaemon(why="refused"), FakeDaemon(why=AWAY)]
        upstreams = self.of(*daemons)
        self.assertEqual(upstreams.whyNotReady, f"a: refused; b: {AWAY}")
        daemons[1].whyNotReady = None
        self.assertIsNone(upstreams.whyNotReady)
        self.assertEqual(upstreams.away(), {"a": "refused"})

    def test_reach(self) -> None:
        """
        All that are away are tried; one that is there then is enough.
        """
        daemons = [FakeDaemon(why=AWAY), FakeDaemon(why=AWAY), FakeDaemon(why=AWAY)]
        upstreams = self.of(*daemons)
        failure = self.failureResultOf(Deferred.fromCoroutine(upstreams.reach()), APIError)
        self.assertEqual(failure.value.name, "daemon_unavailable")
        daemons[1].comesBack = True
        self.successResultOf(Deferred.fromCoroutine(upstreams.reach()))
        self.successResultOf(Deferred.fromCoroutine(upstreams.reach()))
        self.assertEqual([each.tries for each in daemons], [3, 2, 3])

    def test_turnsOfADaemonProcess(self) -> None:
        """
        Where it cannot be known, none is.
        """
        daemon = FakeDaemon()
        (upstream,) = self.of(daemon)
        self.assertEqual([upstream.hasTurn("1"), upstream.hasTurn("2")], [True, False])
        daemon.incarnation = None
        self.assertFalse(upstream.hasTurn(""))


class JoinedRegistriesTests(SyncCase):
    def test_all(self) -> None:
        """
        What one of them says, in order and once.
        """
        first, second = ListedModels("x", "y"), ListedModels("y", "z", seen=["w"])
        joined = JoinedRegistries([first, second])
        self.assertEqual(joined.models(), ("x", "y", "z"))
        self.assertEqual([joined.hasSeen(model) for model in "xwv"], [True, True, False])
        self.assertTrue(joined.isKnown)
        second.isKnown = False
        self.assertFalse(joined.isKnown)

    def test_beesAreTheSameUntilTheyChange(self) -> None:
        """
        Who keeps what was worked out of them need not look into them.
        """
        first, second = ListedModels("x"), ListedModels("y")
        joined = JoinedRegistries([first, second])
        bees = joined.bees()
        self.assertEqual(bees, (*first.workers, *second.workers))
        self.assertIs(joined.bees(), bees)
        second.workers = ()
        self.assertEqual(joined.bees(), first.workers)
