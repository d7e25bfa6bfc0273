"""
Clients, a daemon and time, in any order: whatever happens, no session's text
is in another's answer, every call is answered once, and nothing is left.

C{ORACLE_EXAMPLES=1000} in the environment plays that many other games, and
looks for the shortest one that fails.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from openai_server import constants
from openai_server.daemon.waitlimits import WaitLimits
from tests.dialects import RESPONSES
from tests.machinery.models import TEST_MODELS
from tests.oracle.loaded import LoadedWorld
from tests.oracle.talks import Asked, Message, Plan, Talk, agent, plansIn, talksIn
from tests.recorder import StrictRecorder
from tests.support import SyncCase

MODELS = {**TEST_MODELS, "agent": agent}
TIMEOUTS = WaitLimits(firstLife=30, stall=70, drain=60)
TOOLS: dict[str, Any] = {
    name: {"type": "function", "function": {"name": name, "description": f"Does {name}."}}
    for name in ("alpha", "beta", "gamma")
}
#: What of a request names its session, in its head or body; None is the talk's own name.
HINTS: dict[str, dict[str, str | None]] = {
    "none": {},
    "header": {"x-hum-session": None},
    "user": {"user": None},
    "ignored": {"prompt_cache_key": "shared", "session_id": "shared"},
}
#: Seconds that everything needs to be well again after something went wrong.
CONVALESCENCE = 8.0


class Watch:
    """
    Sees all tones, and what of the talks goes to which session.

    @ivar told: by sid, the plans that its worker has been told.
    @ivar unwanted: sids that were cancelled.
    @ivar spoilt: sids that must not be asked again.
    @ivar excused: sids with calls that perhaps nobody could answer.
    """

    def __init__(self, recorder: StrictRecorder, talks: dict[str, Talk]) -> None:
        self.told: dict[str, list[str]] = {}
        self.unwanted: set[str] = set()
        self.spoilt: set[str] = set()
        self.excused: set[str] = set()
        self._recorder = recorder
        self._talks = talks
        self._of: dict[str, Talk] = {}
        self._before: dict[str, int] = {}

    def wrong(self) -> None:
        """
        Something has happened that no turn survives.
        """
        self.spoilt |= self._recorder.liveSids
        self.excused |= self._recorder.liveSids

    def connected(self, connection: int) -> None:
        self._recorder.connected(connection)

    def lineReceived(self, line: bytes, connection: int) -> None:
        self._recorder.lineReceived(line, connection)
        tone = json.loads(line)
        if tone["chi"] == "prompt":
            self._prompted(tone)
        elif tone["chi"] == "cancel":
            self.unwanted.add(tone["sid"])
        elif tone["chi"] == "tool-result" and not tone["isError"]:
            assert talksIn(tone["output"]) <= {self._of[tone["sid"]].name}, tone
            self.told[tone["sid"]] += plansIn(tone["output"])

    def toneSent(self, line: bytes, connection: int) -> None:
        self._recorder.toneSent(line, connection)
        tone = json.loads(line) if b'"chi":"chunk"' not in line else {"chi": "chunk"}
        if tone["chi"] == "session-ready" and tone["sid"] not in self.unwanted:
            names = [name.removeprefix("mcp__hum__") for name in tone["tools"] if name.startswith("mcp")]
            assert sorted(names) == sorted(self._of[tone["sid"]].tools), (tone, self._of[tone["sid"]].name)
        elif tone["chi"] == "error" and tone["message"].startswith("no worker"):
            # Nobody was told anything.
            del self.told[tone["sid"]][self._before[tone["sid"]] :]
        elif tone["chi"] == "error" or (tone["chi"] == "finish" and "exitCode" in tone):
            self.spoilt.add(tone["sid"])

    def _prompted(self, tone: dict[str, Any]) -> None:
        sid, content = tone["sid"], tone["content"]
        assert sid not in self.spoilt, f"{sid} was spoilt and is asked again"
        (name,) = talksIn(content)
        talk = self._of[sid] = self._talks[name]
        told = self.told.setdefault(sid, [])
        self._before[sid] = len(told)
        told += plansIn(content)
        assert talk.asked is not None
        asked = _plansOf(talk.asked.messages)
        if len(talk.asked.messages) > 1 or not talk.isNamed:
            assert told == asked, (told, talk.asked.id)
        # A single message under a session's name goes on in that session.
        assert told[-len(asked) :] == asked, (told, talk.asked.id)
        assert len(set(told)) == len(told), told


def _plansOf(messages: Sequence[Message]) -> list[str]:
    return [plan for each in messages if each["role"] == "user" for plan in plansIn(each["content"])]


plans = st.fixed_dictionaries(
    {"before": st.integers(0, 4), "after": st.integers(0, 3)},
    optional={
        "pace": st.sampled_from([0.02, 0.4]),
        "gap": st.sampled_from([0.01, 0.05]),
        "fate": st.sampled_from([*["well"] * 12, "failing", "dying", "hanging", "vanishing"]),
    },
)
hows = st.sampled_from(["all", "all", "reversed", "twice", "some", "none", "forged"])
waits = st.sampled_from([0.0, 0.01, 0.05, 0.3, 0.5, 1.0])


class Machine(RuleBasedStateMachine):
    """
    The game. A rule that has nothing to act upon does nothing.
    """

    def __init__(self, stand: Stand) -> None:
        super().__init__()
        self._stand = stand
        self._world = LoadedWorld(stand, Random(0), daemonSettings={"models": MODELS}, timeouts=TIMEOUTS)
        self._talks: dict[str, Talk] = {}
        self._asked: list[Asked] = []
        self._watch = Watch(self._world.recorder, self._talks)
        self._world.daemon.observer = self._watch
        self._wellAt = 0.0
        self._wrongAt = 0.0
        self._meetTheWorker()

    def _meetTheWorker(self) -> None:
        # A model that was never asked for while its worker was there is not
        # known to share one with others.
        talk = self._newTalk((), "none", False)
        self._say(talk, [(plan := talk.nextPlan()).message], plan, True, False)
        self._wait(1)

    # Questions.

    @rule(
        at=st.integers(0, 9),
        plan=plans,
        tools=st.sampled_from([(), ("alpha",), ("alpha", "beta"), ("gamma",)]),
        callCount=st.sampled_from([1, 2, 1, 0]),
        cut=st.sampled_from([0, 0, 0, 0, 0, 1, 2]),
        hint=st.sampled_from(sorted(HINTS)),
        isLone=st.booleans(),
        isStream=st.booleans(),
        mayRetry=st.booleans(),
        wait=waits,
    )
    def say(
        self,
        at: int,
        plan: dict[str, Any],
        tools: tuple[str, ...],
        callCount: int,
        cut: int,
        hint: str,
        isLone: bool,
        isStream: bool,
        mayRetry: bool,
        wait: float,
    ) -> None:
        """
        A new talk, or one more message in one, or something that was said
        before in another way.
        """
        free = [talk for talk in self._talks.values() if not talk.isBusy and (cut or not talk.pending)]
        if at < 5 and free:
            talk = free[-1 - at % len(free)]
        else:
            talk = self._newTalk(tools, hint, isLone)
        names = talk.tools * 2
        made = talk.nextPlan(**plan, calls=names[: callCount if names else 0])
        self._say(talk, [*talk.history(cut), made.message], made, isStream, mayRetry)
        self._wait(wait)

    def _newTalk(self, tools: tuple[str, ...], hint: str, isLone: bool) -> Talk:
        name = f"talk{len(self._talks)}"
        hints = {key: value or name for key, value in HINTS["header" if isLone else hint].items()}
        self._talks[name] = Talk(name, isLone, tools, hints)
        return self._talks[name]

    def _say(
        self, talk: Talk, messages: Sequence[Message], plan: Plan, isStream: bool, mayRetry: bool
    ) -> None:
        talk.begin(plan, self._now)
        self._post(
            talk,
            messages,
            [plan.opening],
            isStream,
            mayRetry,
            isCertain=plan.fate == "well",
            mayComplete=plan.fate == "well",
        )

    # Results.

    @rule(
        plan=plans,
        tools=st.sampled_from([("alpha",), ("alpha", "beta"), ("gamma",)]),
        callCount=st.integers(1, 2),
        how=hows,
        isStream=st.booleans(),
        mayRetry=st.booleans(),
        wait=waits,
    )
    def useTools(
        self,
        plan: dict[str, Any],
        tools: tuple[str, ...],
        callCount: int,
        how: str,
        isStream: bool,
        mayRetry: bool,
        wait: float,
    ) -> None:
        """
        A new talk in which tools are called, and have been run a second later.
        """
        talk = self._newTalk(tools, "none", False)
        made = talk.nextPlan(**plan, calls=(tools * 2)[:callCount])
        self._say(talk, [made.message], made, isStream, mayRetry)
        self._wait(1)
        self.eachIsToldItsOwn()
        if talk in self._waiting:
            self._result(talk, how, None, isStream, mayRetry, wait)

    @precondition(lambda self: self._waiting)
    @rule(
        at=st.integers(0, 9),
        how=hows,
        plan=st.none() | plans,
        isStream=st.booleans(),
        mayRetry=st.booleans(),
        wait=waits,
    )
    def result(
        self, at: int, how: str, plan: dict[str, Any] | None, isStream: bool, mayRetry: bool, wait: float
    ) -> None:
        """
        The client brings results in any order, or too many or too few of
        them, or does not care.
        """
        self._result(self._waiting[at % len(self._waiting)], how, plan, isStream, mayRetry, wait)

    def _result(
        self, talk: Talk, how: str, plan: dict[str, Any] | None, isStream: bool, mayRetry: bool, wait: float
    ) -> None:
        pending = talk.pending
        for callId in pending:
            talk.result(callId)
        orders = {
            # What the user adds goes to the last result.
            "reversed": pending[::-1] if plan is None else pending,
            "twice": [*pending, pending[0]] if plan is None else [pending[0], *pending],
            "some": pending[1:],
            "none": [],
            "forged": [f"call_{number:024d}" for number in range(len(pending))],
        }
        given = orders.get(how, pending)
        isWhole = set(given) == set(pending)
        if not given and plan is None:
            return
        results = [self._resultMessage(talk, callId) for callId in given]
        afresh = "".join(f"[{each['content']}]" for each in results)
        isAlive = (
            not talk.wasGiven
            and self._wrongAt < talk.beganAt
            and self._now - talk.beganAt < 40
            and how != "forged"
        )
        if plan is None or (isWhole and len(talk.results) < len(talk.plan.calls)):
            self._give(talk, results, afresh, isWhole, isAlive, isStream, mayRetry)
        else:
            self._giveAndSay(talk, results, isWhole, isAlive, talk.nextPlan(**plan), isStream)
        self._wait(wait)

    @property
    def _waiting(self) -> list[Talk]:
        return [talk for talk in self._talks.values() if not talk.isBusy and talk.pending]

    @staticmethod
    def _resultMessage(talk: Talk, callId: str) -> Message:
        text = talk.results.get(callId, f"{talk.tag}forged")
        return {"role": "tool", "tool_call_id": callId, "content": text}

    def _give(
        self,
        talk: Talk,
        results: Sequence[Message],
        afresh: str,
        isWhole: bool,
        isAlive: bool,
        isStream: bool,
        mayRetry: bool,
    ) -> None:
        resumed = talk.resumedText() if isWhole else ""
        talk.wasGiven |= isWhole
        self._post(
            talk,
            [*talk.messages, *results],
            [resumed, afresh],
            isStream,
            mayRetry,
            isCertain=isAlive,
            sure=resumed if isWhole else None,
            isPartial=not isWhole,
        )

    def _giveAndSay(
        self,
        talk: Talk,
        results: Sequence[Message],
        isWhole: bool,
        isAlive: bool,
        plan: Plan,
        isStream: bool,
    ) -> None:
        messages = [*talk.messages, *results, plan.message]
        texts = [talk.resumedText(plan.message["content"]), plan.opening] if isWhole else [plan.opening]
        talk.begin(plan, self._now)
        self._post(
            talk,
            messages,
            texts,
            isStream,
            False,
            isCertain=isAlive and plan.fate == "well",
            sure=texts[0],
        )

    # Clients.

    def _post(
        self,
        talk: Talk,
        messages: Sequence[Message],
        texts: Sequence[str],
        isStream: bool,
        mayRetry: bool,
        *,
        isCertain: bool,
        sure: str | None = None,
        isPartial: bool = False,
        mayComplete: bool = True,
    ) -> None:
        tools = {"tools": [TOOLS[name] for name in talk.tools]} if talk.tools else {}
        body = {"model": "agent", "messages": messages, "stream": isStream, **tools}
        headers = {"x-stainless-retry-count": "0"} if mayRetry else {}
        for key, value in talk.hints.items():
            (headers if key.startswith("x-") else body)[key] = value
        self._send(
            Asked(
                talk,
                self._world.client(),
                f"{talk.name}-{len(self._asked)}",
                talk.tag,
                messages,
                body,
                headers,
                texts,
                isCertain and self._isWell,
                sure,
                isPartial,
                mayComplete,
            )
        )

    def _send(self, asked: Asked) -> None:
        self._asked.append(asked)
        asked.talk.asked = asked
        asked.client.post(asked.body, **asked.headers, **{"x-request-id": asked.id})

    @precondition(lambda self: self._open)
    @rule(at=st.integers(0, 9), wait=waits)
    def leave(self, at: int, wait: float) -> None:
        """
        A client goes away.
        """
        asked = self._open[at % len(self._open)]
        asked.hasLeft, asked.leftAt = True, self._now
        asked.client.leave()
        self._wait(wait)

    @rule(plan=plans, isStream=st.booleans(), waits=st.tuples(waits, waits, waits))
    def comeAgain(self, plan: dict[str, Any], isStream: bool, waits: tuple[float, float, float]) -> None:
        """
        A new talk whose client loses its connection and asks the same again.
        """
        talk = self._newTalk((), "none", False)
        made = talk.nextPlan(**plan)
        self._say(talk, [made.message], made, isStream, True)
        self._wait(waits[0])
        self.eachIsToldItsOwn()
        if talk.isBusy:
            self.leave(len(self._open) - 1, waits[1])
            self.retry(len(self._lost) - 1, 1, waits[2])

    @property
    def _open(self) -> list[Asked]:
        return [asked for asked in self._asked if not asked.isDone]

    @precondition(lambda self: self._lost)
    @rule(at=st.integers(0, 9), count=st.integers(1, 2), wait=waits)
    def retry(self, at: int, count: int, wait: float) -> None:
        """
        A client's library asks the same again.
        """
        old = self._lost[at % len(self._lost)]
        self._send(
            replace(
                old,
                client=self._world.client(),
                id=f"{old.id}-{count}-{len(self._asked)}",
                headers={**old.headers, "x-stainless-retry-count": str(count)},
                isCertain=False,
                hasLeft=False,
                isDone=False,
            )
        )
        self._wait(wait)

    @property
    def _lost(self) -> list[Asked]:
        return [
            asked
            for asked in self._asked
            if asked.hasLeft
            and asked.talk.asked is asked
            and "x-stainless-retry-count" in asked.headers
            and self._now - asked.leftAt < 3
        ]

    # The daemon.

    @precondition(lambda self: self._world.daemon.state is not None)
    @rule(what=st.sampled_from([*[""] * 8, "cut", "cut", "restart", "crash", "kill"]))
    def fail(self, what: str) -> None:
        """
        Something goes wrong, now and then.
        """
        if not what:
            return
        daemon = self._world.daemon
        self._wrong()
        if what == "cut":
            daemon.cutConnections()
        elif what == "restart":
            daemon.restart()
        elif what == "crash":
            daemon.crash()
        else:
            daemon.killWorkers()
            self._wait(1.0)
            daemon.addWorker(*MODELS)
        if what != "cut":
            self._watch.wrong()
        self._wait(0)

    @precondition(lambda self: self._world.daemon.state is None)
    @rule(wait=waits)
    def comeBack(self, wait: float) -> None:
        """
        It is there again.
        """
        self._wrong()
        self._world.daemon.comeBack()
        self._wait(wait)

    def _wrong(self) -> None:
        self._wrongAt = self._now
        self._wellAt = self._now + CONVALESCENCE
        self._watch.excused |= self._world.recorder.liveSids
        for asked in self._asked:
            asked.isCertain = False

    # Time.

    @rule(seconds=st.sampled_from([0.02, 0.3, 2.5, 9.0, 20.0, 55.0, 130.0]))
    def passTime(self, seconds: float) -> None:
        """
        Nothing else happens.
        """
        self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        self._world.advance(seconds, max(0.01, seconds / 50))

    @property
    def _now(self) -> float:
        return self._world.clock.seconds()

    @property
    def _isWell(self) -> bool:
        return self._world.daemon.state is not None and self._now >= self._wellAt

    # What must hold.

    @invariant()
    def eachIsToldItsOwn(self) -> None:
        """
        Every answer so far is the beginning of what was asked for.
        """
        for asked in self._open:
            asked.check()
            self._conclude(asked)

    def _conclude(self, asked: Asked) -> None:
        if not (asked.isOver or asked.hasLeft):
            return
        asked.isDone = True
        if asked.hasLeft:
            return
        if asked.looksComplete:
            asked.talk.answered(asked)
        if asked.isCertain:
            expected = {400, 429} if asked.isPartial else {200, 429}
            if len(asked.messages) == 1 and asked.talk.isNamed:
                # It waits for the session that it names.
                expected.add(409)
            assert asked.client.status in expected, (asked.id, asked.client.wire.received)
            assert asked.looksComplete or asked.client.status != 200, asked.id

    def teardown(self) -> None:
        """
        All go, and nothing is left.
        """
        if self._world.daemon.state is None:
            self._world.daemon.comeBack()
        for asked in self._asked:
            asked.client.leave()
        self._wait(250)
        self._world.settle()
        self._checkEnds()
        lost = {sid for sid, _ in self._world.recorder.unanswered}
        assert lost <= self._watch.excused, lost - self._watch.excused
        self._stand.close()

    def _checkEnds(self) -> None:
        found = [
            (event["requestId"], event["end"])
            for event in self._world.logged
            if "end" in event and "requestId" in event
        ]
        assert Counter(identity for identity, _ in found) == Counter(asked.id for asked in self._asked)
        ends = dict(found)
        for asked in self._asked:
            asked.check()
            assert ends[asked.id] == "ok" or not asked.looksComplete, (asked.id, ends[asked.id])
            assert ends[asked.id] != "bug", asked.id


class Stand:
    """
    What a world needs of a test, for one game of many in it.
    """

    def __init__(self, test: SyncCase) -> None:
        self._test = test
        self._cleanups: list[Callable[[], object]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._test, name)

    def addCleanup(self, function: Callable[[], object]) -> None:
        self._cleanups.append(function)

    def close(self) -> None:
        """
        Do what the test would do at its end.
        """
        while self._cleanups:
            self._cleanups.pop()()


class MachineTests(SyncCase):
    """
    The game, played.

    @cvar games: how often.
    """

    games = 60

    def test_anythingInAnyOrder(self) -> None:
        """
        Nothing that clients, the daemon and time do breaks a rule.
        """
        self.patch(constants, "HEADERS_HOLD", 2.0)
        given = os.environ.get("ORACLE_EXAMPLES")
        run_state_machine_as_test(
            lambda: Machine(Stand(self)),
            settings=settings(
                max_examples=int(given or self.games),
                stateful_step_count=25,
                deadline=None,
                derandomize=given is None,
                database=None,
                # Making a failing game shorter takes minutes.
                phases=[Phase.generate, Phase.shrink] if given else [Phase.generate],
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )


class MachineResponsesTests(MachineTests):
    """
    The same with clients of the Responses API.
    """

    api = RESPONSES
    games = 10
