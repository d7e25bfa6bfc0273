"""
Which session a request gets.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

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

from openai_server.api.inquiry import Call, Message
from openai_server.errors import APIError
from openai_server.sessions import chains
from openai_server.sessions import memory as memoryModule
from openai_server.sessions.chains import Transcript
from openai_server.sessions.contexts import contextFrom
from openai_server.sessions.entries import Entry
from openai_server.sessions.hints import NO_HINTS, SessionKeys, hintsFrom
from openai_server.sessions.ids import newPublicCallId
from openai_server.sessions.memory import MAX_WAITING, PATIENCE, Memory, SessionMemory
from openai_server.sessions.plans import Claim, SessionKind, SessionPlan, UserHint, Why
from tests.support import SyncCase, TestClock

SYSTEM = "be brief"


def said(*words: str) -> list[Message]:
    """
    A talk: a user and an assistant in turns.
    """
    return [Message("assistant" if at % 2 else "user", text) for at, text in enumerate(words)]


class MemoryCase(SyncCase):
    """
    A memory, and short words for what clients do.
    """

    SETTINGS = Memory()

    def setUp(self) -> None:
        super().setUp()
        self.clock = TestClock()
        self.memory = SessionMemory(self.clock, SessionKeys(b"secret"), self.SETTINGS)
        self.addCleanup(self.assertNoTimers)

    def assertNoTimers(self) -> None:
        """
        Nothing ticks when the memory was stopped.
        """
        self.memory.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def ask(
        self,
        *words: str,
        account: str = "a",
        system: str = "",
        model: str = "m",
        format: str = "",
        name: str | None = None,
        user: str | None = None,
        messages: list[Message] | None = None,
        isIsolated: bool = False,
    ) -> Deferred[SessionPlan]:
        """
        Claim a session for a talk.
        """
        head = [Message("system", system)] if system else []
        return maybeDeferred(
            self.memory.claim,
            Claim(
                account,
                hintsFrom(name, user),
                contextFrom(model, system, None, format=format),
                Transcript.fromMessages([*head, *(said(*words) if messages is None else messages)]),
                system,
                isIsolated,
            ),
        )

    def plan(self, *words: str, **kwargs: Any) -> SessionPlan:
        """
        Claim one that is there at once.
        """
        return self.successResultOf(self.ask(*words, **kwargs))

    def answer(self, plan: SessionPlan, text: str, mayGoOn: bool = True) -> SessionPlan:
        """
        Let the turn end with this answer.
        """
        self.memory.answered(plan.session, text)
        self.memory.release(plan.session, mayGoOn)
        return plan

    def talk(self, *words: str, **kwargs: Any) -> SessionPlan:
        """
        Ask all but the last of these words, and answer with that.
        """
        return self.answer(self.plan(*words[:-1], **kwargs), words[-1])

    def assertPlan(
        self, plan: SessionPlan, kind: SessionKind, start: int, before: SessionPlan | None = None
    ) -> None:
        """
        The plan is of this kind, sends from there, and is on the same sid as
        the one before exactly if it continues.
        """
        self.assertEqual((plan.kind, plan.start), (kind, start))
        if before is not None:
            self.assertEqual(plan.sid == before.sid, kind is SessionKind.CONTINUED)


class TranscriptTests(MemoryCase):
    def test_newTalk(self) -> None:
        """
        Nothing points anywhere: a new session with the whole transcript.
        """
        self.assertPlan(self.plan("hi"), SessionKind.NEW, 0)
        self.assertPlan(self.plan("hi", "ho", "he", system=SYSTEM), SessionKind.NEW, 0)

    def test_extendedTranscript(self) -> None:
        """
        What extends exactly what the session has seen is sent there alone, as
        often as it does.
        """
        first = self.talk("hi", "hello", system=SYSTEM)
        second = self.plan("hi", "hello", "more", system=SYSTEM)
        self.assertPlan(second, SessionKind.CONTINUED, 3, first)
        self.assertIsNone(second.systemPrompt)
        self.answer(second, "here")
        self.assertPlan(
            self.plan("hi", "hello", "more", "here", "go", system=SYSTEM), SessionKind.CONTINUED, 5, first
        )

    def hashed(self, *words: str, **kwargs: Any) -> int:
        """
        How many messages are hashed to find the session for these.
        """
        with mock.patch.object(chains, "_encode", wraps=chains._encode) as encode:
            self.plan(*words, **kwargs)
        return encode.call_count

    def test_eachMessageIsHashedOnce(self) -> None:
        """
        A long transcript that no session knows is hashed once, whether
        there is anything to compare it with or not; what goes on in a session
        is hashed there once more.
        """
        talk = [str(number) for number in range(99)]
        self.assertEqual(self.hashed(*talk), 99)
        self.talk("hi", "hello")
        self.assertEqual(self.hashed(*talk), 99)
        self.assertEqual(self.hashed("hi", "hello", *talk[1:]), 100 + 98)

    def test_nothingToCompareWith(self) -> None:
        """
        Where an account has no session of this context, and was never
        answered, only the digest of the whole is worked out.
        """
        self.talk("hi", "hello")
        with mock.patch.object(chains.Transcript, "answered", None):
            self.plan("hi", "hello", "more", account="b")

    def test_underAHint(self) -> None:
        """
        With a hint it is the same.
        """
        for hints in (
            {"name": "h"},
            {"user": "u"},
        ):
            first = self.talk("hi", "hello", **hints)
            self.assertPlan(self.plan("hi", "hello", "more", **hints), SessionKind.CONTINUED, 2, first)

    def test_severalNewMessages(self) -> None:
        """
        All that is new goes there, whoever said it.
        """
        first = self.talk("hi", "hello")
        self.assertPlan(self.plan("hi", "hello", "a", "said elsewhere", "b"), SessionKind.CONTINUED, 2, first)

    def test_edited(self) -> None:
        """
        A known earlier prefix is a fork: an edited message, an answer asked
        for once more.
        """
        first = self.talk("hi", "hello", "more", "here")
        self.talk("hi", "hello")
        self.memory.release(self.plan("hi", "hello", "mode").session, False)
        for words in (("hi", "hello", "other"), ("hi", "hello", "more")):
            self.assertPlan(self.plan(*words), SessionKind.FORKED, 0, first)

    def test_otherAnswerThanDelivered(self) -> None:
        """
        A client that shows another answer than it was given is not believed.
        """
        first = self.talk("hi", "hello")
        self.assertPlan(self.plan("hi", "Hello!", "more"), SessionKind.NEW, 0, first)

    def test_nothingNew(self) -> None:
        """
        A request that ends with the answer has nothing to send: fresh.
        """
        first = self.talk("hi", "hello")
        self.assertPlan(self.plan("hi", "hello"), SessionKind.FORKED, 0, first)

    def test_unrelatedUnderTheSameHint(self) -> None:
        """
        A title prompt or a sub-agent under the hint of a talk gets its own
        session, and the talk goes on in its.
        """
        first = self.talk("hi", "hello", name="h")
        self.assertPlan(self.talk("a", "b", "c", "d", name="h"), SessionKind.FORKED, 0, first)
        self.assertPlan(
            self.talk("title of this?", "T", system="titles", name="h"), SessionKind.FORKED, 0, first
        )
        self.assertPlan(self.plan("hi", "hello", "more", name="h"), SessionKind.CONTINUED, 2, first)

    def test_otherContext(self) -> None:
        """
        U33: another model or system prompt gets a fresh session with the
        whole transcript.
        """
        first = self.talk("hi", "hello", system=SYSTEM)
        self.assertPlan(self.plan("hi", "hello", "more", system="rhyme"), SessionKind.FORKED, 0, first)
        plan = self.plan("hi", "hello", "more", system=SYSTEM, model="n")
        self.assertPlan(plan, SessionKind.FORKED, 0, first)
        self.assertPlan(self.plan("hi", "hello", "more"), SessionKind.FORKED, 0, first)

    def test_otherAccount(self) -> None:
        """
        X7: the same words under another key have nothing to do with it, with
        and without hints.
        """
        for hints in ({}, {"name": "h"}, {"user": "u"}):
            first = self.talk("hi", "hello", **hints)
            for words in (("hi", "hello", "more"), ("more",)):
                plan = self.plan(*words, account="b", **hints)
                self.assertPlan(plan, SessionKind.NEW, 0, first)
                self.memory.release(plan.session, False)

    def test_sameFirstMessage(self) -> None:
        """
        X7: two talks that begin alike are two sessions; each goes on in one,
        and both never in the same.
        """
        sids = {self.talk("hi", "hello").sid for _ in range(2)}
        self.assertEqual(len(sids), 2)
        again = {self.plan("hi", "hello", "more").sid for _ in range(2)}
        self.assertEqual(again, sids)
        self.assertPlan(self.plan("hi", "hello", "more"), SessionKind.FORKED, 0)

    def test_otherHint(self) -> None:
        """
        The same transcript under another hint of the same kind is another
        talk.
        """
        first = self.talk("hi", "hello", user="u")
        self.assertPlan(self.plan("hi", "hello", "more", user="v"), SessionKind.FORKED, 0, first)
        self.assertPlan(self.plan("hi", "hello", "more", user="u"), SessionKind.CONTINUED, 2, first)

    def test_busyIsNotWaitedFor(self) -> None:
        """
        X5: a request that brings its transcript gets a fresh session when its
        own is in use.
        """
        first = self.talk("hi", "hello", name="h")
        self.assertPlan(self.plan("hi", "hello", "more", name="h"), SessionKind.CONTINUED, 2, first)
        self.assertPlan(self.plan("hi", "hello", "more", name="h"), SessionKind.FORKED, 0, first)

    def test_badEnd(self) -> None:
        """
        U26: a session that was cancelled, failed or cut at a stop string is
        never used again, not even on request.
        """
        first = self.answer(self.plan("hi", name="h"), "hello", mayGoOn=False)
        self.memory.release(first.session, True)
        self.assertTrue(first.session.isForgotten)
        again = self.plan("hi", "hello", "more", name="h")
        self.assertPlan(again, SessionKind.FORKED, 0, first)
        self.memory.release(again.session, False)
        self.assertPlan(self.plan("more", name="h"), SessionKind.NEW, 0, first)
        self.assertIsNone(self.goOn(first, "more"))

    def test_whyForked(self) -> None:
        """
        The plan says what kept the request from its session: the client, its
        history, or somebody else; a difference of the context before that.
        """
        self.talk("hi", "hello", system=SYSTEM)
        more = ("hi", "hello", "more")
        for asked, why in (
            (self.plan(*more, system="rhyme"), Why.SYSTEM),
            (self.plan(*more), Why.SYSTEM),
            (self.plan(*more, system=SYSTEM, model="n"), Why.MODEL),
            (self.plan(*more, system=SYSTEM, format="JSON"), Why.FORMAT),
            (self.plan("hi", "hello", system=SYSTEM), Why.HISTORY),
            (self.plan(*more, system=SYSTEM, name="h"), Why.HINT),
        ):
            self.assertEqual((asked.kind, asked.why), (SessionKind.FORKED, why))
        used = self.plan(*more, system=SYSTEM)
        self.assertIsNone(used.why)
        self.assertEqual(self.plan(*more, system=SYSTEM).why, Why.BUSY)
        self.answer(used, "here")
        self.assertEqual(self.plan("hi", "hello", "other", system=SYSTEM).why, Why.HISTORY)
        self.memory.release(self.plan(*more, "here", "so", system=SYSTEM).session, False)
        self.assertEqual(self.plan(*more, "here", "so", system=SYSTEM).why, Why.GONE)

    def test_whyForkedUnderAHint(self) -> None:
        """
        What a hint points to, where the transcript points nowhere.
        """
        self.memory.release(self.plan("hi", name="h", system=SYSTEM).session, True)
        self.assertEqual(self.plan("a", "b", "c", name="h", system=SYSTEM).why, Why.HISTORY)
        self.assertEqual(self.plan("hi", name="h", system="rhyme").why, Why.SYSTEM)
        self.assertEqual(self.plan("hi", name="h", model="n").why, Why.MODEL)
        self.assertEqual(self.plan("hi", user="u").why, None)
        self.assertEqual(self.plan("hi", user="u").why, Why.BUSY)
        self.assertEqual(self.plan("hi", user="u", name="i").why, Why.HINT)
        self.talk("hi", "hello", "more", "here", user="u")
        self.assertEqual(self.plan("hi", user="u").why, Why.HINT)

    def test_label(self) -> None:
        """
        What clients and the log are told.
        """
        first = self.talk("hi", "hello")
        self.assertEqual(first.label, "new")
        self.assertEqual(self.plan("hi", "hello", "more").label, "continued")
        self.assertEqual(self.plan("hi", "hello", "more").label, "forked; why=busy")

    def test_toolLoop(self) -> None:
        """
        The calls of a turn and their results are part of what the session has
        seen.
        """
        callId = newPublicCallId()
        first = self.plan("hi")
        self.memory.answered(first.session, "Let me see.", [callId])
        first.session.told([Entry("tool", "42", (), callId)])
        self.answer(first, "It is 42.")
        call = Call(callId, "f", "{}")
        shown = [
            Message("user", "hi"),
            Message("assistant", "Let me see.", calls=(call,)),
            Message("tool", "42", callId=callId),
            Message("assistant", "It is 42."),
            Message("user", "thanks"),
        ]
        other = [*shown[:2], Message("tool", "43", callId=callId), *shown[3:]]
        self.assertPlan(self.plan(messages=other), SessionKind.FORKED, 0, first)
        self.assertPlan(self.plan(messages=shown), SessionKind.CONTINUED, 4, first)

    def test_answerInParts(self) -> None:
        """
        A client that shows each call of an answer as a message of its own,
        with its result, goes on in its session; one that shows something else
        as well does not, nor one that shows other calls.
        """
        one, other = newPublicCallId(), newPublicCallId()

        def part(callId: str, text: str = "") -> list[Message]:
            calls = (Call(callId, "look", "{}"),)
            return [Message("assistant", text, calls=calls), Message("tool", "42", callId=callId)]

        shown = [*said("hi"), *part(one, "Let me see."), *part(other)]
        for messages, isSeen in (
            (shown, True),
            ([*shown[:3], Message("tool", "43", callId="another"), *shown[3:]], False),
            ([*said("ho"), *shown[1:]], False),
            ([*said("hi"), *part(other, "Let me see."), *part(one)], False),
        ):
            first = self.plan("hi")
            self.memory.answered(first.session, "Let me see.", [one, other])
            transcript = Transcript.fromMessages(messages)
            answer = [at for at, message in enumerate(messages) if message.role == "assistant"]
            told = [at for at, message in enumerate(messages) if message.callId in (one, other)]
            first.session.toldResults(transcript, answer, told)
            self.answer(first, "It is 42.")
            later = [*messages, Message("assistant", "It is 42."), *said("thanks")]
            plan = self.plan(messages=later)
            self.assertEqual((plan.sid == first.sid, plan.kind is SessionKind.CONTINUED), (isSeen, isSeen))

    def test_nothingWasSent(self) -> None:
        """
        A session whose request could not be asked stands where it stood; a
        fresh one is not kept for it.
        """
        first = self.talk("hi", "hello", name="h")
        for words in (("more",), ("hi", "hello", "more")):
            plan = self.plan(*words, name="h")
            self.memory.giveBack(plan)
            self.assertPlan(plan, SessionKind.CONTINUED, 2 if len(words) > 1 else 0, first)
            self.memory.giveBack(plan)
        fresh = self.plan("x", name="x")
        self.memory.giveBack(fresh)
        self.assertTrue(fresh.session.isForgotten)

    def goOn(self, plan: SessionPlan, *words: str, model: str = "m") -> SessionPlan | None:
        """
        Ask this in the session of a plan, whatever it has seen.
        """
        transcript = Transcript.fromMessages(said(*words))
        claim = Claim("a", NO_HINTS, contextFrom(model, "", None), transcript, "")
        return self.memory.goOn(plan.session, claim)

    def test_goneOnWithOnRequest(self) -> None:
        """
        X20: a session that settled takes a late result that shows no history;
        one that is in use, or of another model, does not.
        """
        first = self.talk("hi", "hello")
        self.assertIsNone(self.goOn(first, "late", model="other"))
        plan = self.goOn(first, "late")
        assert plan is not None
        self.assertPlan(plan, SessionKind.CONTINUED, 0, first)
        self.assertIsNone(self.goOn(first, "late"))
        self.assertPlan(self.plan("hi", "hello", "more"), SessionKind.FORKED, 0, first)
        self.memory.giveBack(plan)
        self.assertPlan(self.plan("hi", "hello", "more"), SessionKind.CONTINUED, 2, first)

    def test_daemonThatIsAway(self) -> None:
        """
        Its sessions are not gone on with, in whatever way, until it is back:
        they are gone, but one that is in use is busy.
        """
        away: set[str] = set()
        self.memory = SessionMemory(
            self.clock,
            SessionKeys(b"secret"),
            self.SETTINGS,
            canGoOn=lambda session: session.upstream not in away,
        )
        first = self.talk("hi", "hello", name="h", user="u")
        away.add(first.session.upstream)
        self.assertIsNone(self.goOn(first, "late"))
        whys = [self.plan("hi", "hello", "more").why, self.plan("more", name="h").why]
        self.assertEqual(whys, [Why.GONE, Why.GONE])
        away.clear()
        plan = self.plan("hi", "hello", "more")
        self.assertPlan(plan, SessionKind.CONTINUED, 2, first)
        away.add(plan.session.upstream)
        self.assertEqual(self.plan("hi", "hello", "other").why, Why.BUSY)
        self.memory.giveBack(plan)

    def test_givenBackTooLate(self) -> None:
        """
        A session that was released is not changed any more.
        """
        self.talk("hi", "hello")
        plan = self.talk("hi", "hello", "more", "here")
        self.memory.giveBack(plan)
        self.assertPlan(self.plan("hi", "hello", "more", "here", "go"), SessionKind.CONTINUED, 4, plan)
        self.assertEqual(plan.session.isBusy, True)

    def test_noHintGoesOnUnderOne(self) -> None:
        """
        A request without any hint goes on in any session of its account that
        has seen its transcript.
        """
        first = self.talk("hi", "hello", name="h")
        self.assertPlan(self.plan("hi", "hello", "more"), SessionKind.CONTINUED, 2, first)

    def test_hintThatIsNewLooksNowhere(self) -> None:
        """
        A hint that names no session leads to none.
        """
        first = self.talk("hi", "hello")
        self.assertPlan(self.plan("hi", "hello", "more", name="h"), SessionKind.FORKED, 0, first)

    def test_boundedMemory(self) -> None:
        """
        P20: what is forgotten is told to a fresh session; busy ones are not
        forgotten.
        """
        self.memory = SessionMemory(self.clock, SessionKeys(), Memory(sessions=2))
        busy = self.plan("busy")
        first = self.talk("hi", "hello", user="u")
        others = [self.talk(word, "hello") for word in "bc"]
        self.assertTrue(first.session.isForgotten)
        self.assertPlan(self.plan("hi", "hello", "more", user="u"), SessionKind.FORKED, 0, first)
        self.assertPlan(self.plan("b", "hello", "more"), SessionKind.CONTINUED, 2, others[0])
        self.answer(busy, "still here")
        self.assertPlan(self.plan("busy", "still here", "more"), SessionKind.CONTINUED, 2, busy)
        for word in map(str, range(20)):
            self.talk(word, "hello")
        self.assertEqual(len(self.memory._answered._sessions), 8)
        self.assertPlan(self.plan("c", "hello", "more"), SessionKind.NEW, 0)


class IsolatedTests(MemoryCase):
    """
    Requests whose sessions are used once.
    """

    def test_nothingIsGoneOnWith(self) -> None:
        """
        They are given no session that is there, whatever names it, and leave
        none behind; those that are there stay.
        """
        kept = self.talk("a", "b", name="n", user="u")
        for hints in ({}, {"name": "n"}, {"user": "u"}):
            for words in (("x",), ("a", "b", "c")):
                plan = self.plan(*words, isIsolated=True, **hints)
                self.assertEqual((plan.label, plan.start), ("new", 0))
                self.assertIsNot(plan.session, kept.session)
                self.answer(plan, "y")
                self.assertTrue(plan.session.isForgotten)
        self.assertEqual((len(self.memory._idle), len(self.memory._answered._sessions)), (1, 1))
        self.assertEqual(self.plan("x", "y", "z").label, "new")
        self.assertIs(self.plan("a", "b", "c").session, kept.session)


class SwitchedOffTests(MemoryCase):
    SETTINGS = Memory(continuation=False)

    def test_alwaysNew(self) -> None:
        """
        Without continuation every request is new, and nothing is kept.
        """
        for words in (("hi",), ("hi",), ("hi", "hello", "more")):
            self.assertPlan(self.talk(*words, "hello", name="h", user="u"), SessionKind.NEW, 0)
        self.assertEqual((len(self.memory._idle), len(self.memory._named)), (0, 1))


class LoneTests(MemoryCase):
    def test_sessionHintContinues(self) -> None:
        """
        Under a session hint the newest message alone goes on, and the whole
        transcript later finds the same session.
        """
        first = self.talk("hi", "hello", name="h")
        self.assertPlan(self.talk("more", "here", name="h"), SessionKind.CONTINUED, 0, first)
        plan = self.plan("hi", "hello", "more", "here", "go", name="h")
        self.assertPlan(plan, SessionKind.CONTINUED, 4, first)

    def test_nameDecidesBeforeTheUser(self) -> None:
        """
        A new name beside a known user begins a new talk; a known one goes on
        in its own, whoever the user is.
        """
        first = self.talk("hi", "hello", name="h", user="u")
        self.assertPlan(self.talk("more", "here", name="i", user="u"), SessionKind.FORKED, 0, first)
        self.assertPlan(self.plan("more", name="h", user="v"), SessionKind.CONTINUED, 0, first)

    def test_transcriptUnderAnotherName(self) -> None:
        """
        Under the same user the transcript does not lead into a session of
        another name.
        """
        first = self.talk("hi", "hello", name="h", user="u")
        plan = self.plan("hi", "hello", "more", name="i", user="u")
        self.assertPlan(plan, SessionKind.FORKED, 0, first)
        plan = self.plan("hi", "hello", "more", user="u")
        self.assertPlan(plan, SessionKind.CONTINUED, 2, first)

    def test_latestSession(self) -> None:
        """
        It is the session that was used last under the hint, of those with its
        context.
        """
        first = self.talk("hi", "hello", name="h")
        second = self.talk("a", "b", "c", "d", name="h")
        self.talk("title?", "T", system="titles", name="h")
        self.assertPlan(self.plan("more", name="h"), SessionKind.CONTINUED, 0, second)
        self.assertNotEqual(first.sid, second.sid)

    def test_userContinues(self) -> None:
        """
        C{user} names the talk of a client that never showed history.
        """
        first = self.talk("hi", "hello", user="u")
        self.assertPlan(self.plan("more", user="u"), SessionKind.CONTINUED, 0, first)
        self.assertPlan(self.plan("more", user="v"), SessionKind.NEW, 0, first)

    def test_userThatShowsHistory(self) -> None:
        """
        Once history was shown under a C{user}, a lone message is a new chat or
        a side prompt: for this account and C{user}.
        """
        self.talk("hi", "hello", user="u")
        first = self.talk("hi", "hello", "more", "here", user="u")
        self.assertPlan(self.plan("title?", user="u"), SessionKind.FORKED, 0, first)
        other = self.talk("hi", "hello", user="u", account="b")
        self.assertPlan(self.plan("more", user="u", account="b"), SessionKind.CONTINUED, 0, other)

    def test_otherContext(self) -> None:
        """
        U33: another system prompt or model begins anew, and says so.
        """
        first = self.talk("hi", "hello", system=SYSTEM, name="h")
        self.assertPlan(self.plan("more", system="rhyme", name="h"), SessionKind.FORKED, 0, first)
        self.assertPlan(self.plan("more", system=SYSTEM, model="n", name="h"), SessionKind.FORKED, 0, first)
        self.assertPlan(self.plan("more", system=SYSTEM, name="h"), SessionKind.CONTINUED, 1, first)

    def test_silentSystemPrompt(self) -> None:
        """
        A message that says nothing of a system prompt goes on under the one
        that the session has, and is told which.
        """
        first = self.talk("hi", "hello", system=SYSTEM, name="h")
        plan = self.plan("more", name="h")
        self.assertPlan(plan, SessionKind.CONTINUED, 0, first)
        self.assertEqual(plan.systemPrompt, SYSTEM)
        self.answer(plan, "here")
        self.assertPlan(
            self.plan("hi", "hello", "more", "here", "go", system=SYSTEM, name="h"),
            SessionKind.CONTINUED,
            5,
            first,
        )

    def test_systemPromptsAreBounded(self) -> None:
        """
        A system prompt that there is no room to keep has to be said again;
        room comes back with the sessions that go.
        """
        with mock.patch.object(memoryModule, "MAX_PROMPTS", len(SYSTEM)):
            first = self.talk("hi", "hello", system=SYSTEM, name="h")
            second = self.talk("hi", "hello", system=SYSTEM, user="u")
            self.assertPlan(self.plan("more", user="u"), SessionKind.FORKED, 0, second)
            self.assertPlan(self.plan("more", system=SYSTEM, user="u"), SessionKind.CONTINUED, 1, second)
            self.memory.release(self.plan("more", name="h").session, False)
            self.assertTrue(first.session.isForgotten)
            third = self.talk("hi", "hello", system=SYSTEM, name="h")
            self.assertPlan(self.plan("more", name="h"), SessionKind.CONTINUED, 0, third)


class UserHintTests(MemoryCase):
    def remember(self, policy: UserHint) -> None:
        """
        Work by this policy.
        """
        self.memory = SessionMemory(self.clock, SessionKeys(), Memory(userHint=policy))

    def test_always(self) -> None:
        """
        C{always}: also when history was shown.
        """
        self.remember(UserHint.ALWAYS)
        first = self.talk("a", "b", "c", "d", user="u")
        self.assertPlan(self.plan("more", user="u"), SessionKind.CONTINUED, 0, first)

    def test_never(self) -> None:
        """
        C{never}: a lone message begins anew, a transcript goes on.
        """
        self.remember(UserHint.NEVER)
        first = self.talk("hi", "hello", user="u")
        self.assertPlan(self.plan("more", user="u"), SessionKind.FORKED, 0, first)
        self.assertPlan(self.plan("hi", "hello", "more", user="u"), SessionKind.CONTINUED, 2, first)

    def test_busy(self) -> None:
        """
        X5: a lone message under C{user} waits only where that always names
        the talk: two at once are two chats else.
        """
        for policy, waits in ((UserHint.AUTO, False), (UserHint.ALWAYS, True)):
            self.remember(policy)
            self.plan("hi", user="u")
            asked = self.ask("more", user="u")
            self.assertEqual(not asked.called, waits)
            self.memory.stop()
            if waits:
                self.failureResultOf(asked, APIError)


class WaitingTests(MemoryCase):
    def setUp(self) -> None:
        super().setUp()
        self.first = self.plan("hi", name="h")

    def wait(self, *words: str, **kwargs: Any) -> Deferred[SessionPlan]:
        """
        Ask for the busy session.
        """
        asked = self.ask(*words, name="h", **kwargs)
        self.assertNoResult(asked)
        return asked

    def test_waitsForItsSession(self) -> None:
        """
        X5: a lone message under a session hint gets the session when it is
        free.
        """
        asked = self.wait("more")
        self.answer(self.first, "hello")
        self.assertPlan(self.successResultOf(asked), SessionKind.CONTINUED, 0, self.first)

    def test_tooLong(self) -> None:
        """
        X5: after 30 s a 409 C{session_busy}, which may be retried.
        """
        asked = self.wait("more")
        self.clock.advance(PATIENCE - 0.1)
        self.assertNoResult(asked)
        self.clock.advance(0.1)
        error = self.failureResultOf(asked, APIError).value
        self.assertEqual((error.kind.status, error.kind.code, error.mayRetry), (409, "session_busy", True))
        self.assertIsNotNone(error.retryAfter)
        self.answer(self.first, "hello")
        self.assertFalse(self.first.session.isBusy)

    def test_inOrder(self) -> None:
        """
        First come, first served, one at a time; a newcomer does not overtake,
        nor does a transcript.
        """
        one, two = self.wait("one"), self.wait("two")
        overtaking: list[Deferred[SessionPlan]] = []
        one.addCallback(lambda plan: (overtaking.append(self.ask("three", name="h")), plan)[1])
        self.answer(self.first, "hello")
        plan = self.successResultOf(one)
        self.assertNoResult(two)
        self.assertNoResult(overtaking[0])
        self.answer(plan, "1")
        self.answer(self.successResultOf(two), "2")
        self.answer(self.successResultOf(overtaking[0]), "3")
        self.assertPlan(
            self.plan("hi", "hello", "one", "1", "two", "2", "three", "3", "go", name="h"),
            SessionKind.CONTINUED,
            8,
            self.first,
        )

    def test_cancelled(self) -> None:
        """
        K6: who gives up waiting takes nothing.
        """
        one, two = self.wait("one"), self.wait("two")
        one.cancel()
        self.failureResultOf(one, CancelledError)
        self.answer(self.first, "hello")
        self.assertEqual(self.successResultOf(two).sid, self.first.sid)

    def test_sessionComesToABadEnd(self) -> None:
        """
        The first who waited begins anew, and the others follow there.
        """
        one, two = self.wait("one"), self.wait("two")
        self.answer(self.first, "hel", mayGoOn=False)
        fresh = self.successResultOf(one)
        self.assertPlan(fresh, SessionKind.NEW, 0, self.first)
        self.assertNoResult(two)
        self.answer(fresh, "1")
        self.assertPlan(self.successResultOf(two), SessionKind.CONTINUED, 0, fresh)

    def test_givenUpByTheOneBefore(self) -> None:
        """
        Of two who begin anew at one moment, the second may be given up by
        what the first does: no session stays in use for it.
        """
        self.memory.release(self.first.session, False)
        first = self.plan("x", system=SYSTEM, name="h")
        one, two = self.wait("one", system=SYSTEM), self.wait("two")
        one.addCallback(lambda plan: (two.cancel(), plan)[1])
        # Without room for the system prompt the second cannot follow the first.
        with mock.patch.object(memoryModule, "MAX_PROMPTS", 0):
            self.memory.release(first.session, False)
        self.failureResultOf(two, CancelledError)
        key = SessionKeys(b"secret").key("a", "header", "h")
        self.assertEqual(self.memory._named.of(key), [self.successResultOf(one).session])

    def test_tooMany(self) -> None:
        """
        Only so many wait for one session.
        """
        waiting = [self.wait("more") for _ in range(MAX_WAITING)]
        error = self.failureResultOf(self.ask("more", name="h"), APIError).value
        self.assertEqual(error.kind.code, "session_busy")
        self.memory.stop()
        for asked in waiting:
            self.assertEqual(self.failureResultOf(asked, APIError).value.name, "shutting_down")

    def test_stopGivesNobodyAnything(self) -> None:
        """
        What one of them leaves when it is turned away goes to none of the
        others, and who would have to wait later is turned away at once.
        """
        other = self.plan("hi", name="i")
        one, two = self.wait("one"), self.ask("two", name="i")
        one.addErrback(lambda failure: self.memory.release(other.session, True))
        self.memory.stop()
        self.successResultOf(one)
        for asked in (two, self.ask("three", name="h")):
            self.assertEqual(self.failureResultOf(asked, APIError).value.name, "shutting_down")

    def test_planAtOnce(self) -> None:
        """
        Where nothing has to be waited for, there is no Deferred.
        """
        context, talk = contextFrom("m", "", None), Transcript.fromMessages(said("hi"))
        for hints, kind in ((NO_HINTS, SessionPlan), (hintsFrom("h", None), Deferred)):
            found = self.memory.claim(Claim("a", hints, context, talk, ""))
            self.assertIsInstance(found, kind)
        self.memory.stop()
        assert isinstance(found, Deferred)
        self.failureResultOf(found, APIError)


class MemoryMachine(RuleBasedStateMachine):
    """
    Random clients, against an oracle that knows what each sid was told and
    what it answered, word for word.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = TestClock()
        self.memory = SessionMemory(self.clock, SessionKeys(), Memory(sessions=6))
        self.live: list[tuple[SessionPlan, list[str]]] = []
        # What each sid has seen, whose it is, and under which system prompt.
        self.seen: dict[str, list[str]] = {}
        self.owner: dict[str, tuple[str, str]] = {}
        self.dead: set[str] = set()
        self.history: list[list[str]] = [[]]
        self.wrong: list[str] = []

    def claim(self, account: str, system: str, words: list[str], lone: bool, hints: dict[str, Any]) -> None:
        talk = Transcript.fromMessages(
            [Message("system", system)] * bool(system) + said(*(words[-1:] if lone else words))
        )
        context = contextFrom("m", system, None)
        hints_ = hintsFrom(hints.get("name"), hints.get("user"))
        asked = maybeDeferred(self.memory.claim, Claim(account, hints_, context, talk, system))
        asked.addCallback(self.planned, account, system, words[-1:] if lone else words)
        asked.addErrback(lambda failure: failure.trap(APIError) and None)

    def planned(self, plan: SessionPlan, account: str, system: str, words: list[str]) -> None:
        sid = plan.sid
        if any(other.sid == sid for other, _ in self.live):
            self.wrong.append("two turns on one sid")
        if sid in self.dead:
            self.wrong.append("a sid that came to a bad end")
        said_ = plan.systemPrompt if plan.systemPrompt is not None else system
        if self.owner.setdefault(sid, (account, said_)) != (account, said_):
            self.wrong.append("a sid across accounts or contexts")
        sent = words[max(0, plan.start - bool(system)) :]
        before = self.seen.setdefault(sid, [])
        isLone = len(words) == 1
        if (plan.kind is SessionKind.CONTINUED) != bool(before):
            self.wrong.append("a used sid for a fresh plan, or the other way round")
        if not isLone and before + sent != words:
            self.wrong.append(f"{before} was told {sent} of {words}")
        before.extend(sent)
        self.live.append((plan, before))

    @rule(
        account=st.sampled_from("ab"),
        system=st.sampled_from(["", SYSTEM]),
        at=st.integers(0, 20),
        cut=st.integers(0, 3),
        word=st.sampled_from("xy"),
        lone=st.booleans(),
        hints=st.sampled_from(
            [
                {},
                {"name": "h"},
                {"name": "s", "user": "u"},
                {"user": "u"},
                {"user": "v"},
            ]
        ),
    )
    def ask(
        self, account: str, system: str, at: int, cut: int, word: str, lone: bool, hints: dict[str, Any]
    ) -> None:
        known = self.history[at % len(self.history)]
        # Some clients cut the last exchange away and ask anew.
        kept = known[: len(known) - 2 * cut] if cut < 2 else known
        self.claim(account, system, [*kept, word], lone, dict(hints))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), text=st.sampled_from("pq"), mayGoOn=st.booleans())
    def end(self, data: st.DataObject, text: str, mayGoOn: bool) -> None:
        plan, seen = turn = data.draw(st.sampled_from(self.live))
        self.live.remove(turn)
        self.memory.answered(plan.session, text)
        seen.append(text)
        self.history.append(list(seen))
        if not mayGoOn:
            self.dead.add(plan.sid)
        self.memory.release(plan.session, mayGoOn)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def giveBack(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self.live))
        plan = turn[0]
        # What was sent cannot be told from here: only fresh ones.
        if plan.kind is not SessionKind.CONTINUED:
            self.live.remove(turn)
            self.dead.add(plan.sid)
            self.memory.giveBack(plan)

    @rule(seconds=st.sampled_from([1, 20, 40]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @invariant()
    def nothingWrong(self) -> None:
        assert not self.wrong, self.wrong
        assert len(self.memory._idle) <= 6
        assert len(self.memory._named) <= 6

    def teardown(self) -> None:
        # Whoever waits is served, or turned away in time; then nothing ticks.
        self.clock.advance(PATIENCE)
        while self.live:
            plan, _ = self.live.pop()
            self.memory.release(plan.session, False)
        assert not self.wrong, self.wrong
        assert not self.memory._waiting and not self.clock.getDelayedCalls()


class MemoryPropertyTests(SyncCase):
    """
    L{MemoryMachine}.
    """

    def test_neverTwoTurnsOnASidNorAcrossAccountsOrContexts(self) -> None:
        """
        X5, X7, U26, U33: a session is always told exactly what it lacks of the
        transcript, by one request at a time, of its account and context.
        """
        run_state_machine_as_test(
            MemoryMachine,
            settings=settings(deadline=None, max_examples=100, stateful_step_count=40),
        )
