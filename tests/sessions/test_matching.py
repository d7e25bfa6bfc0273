"""
Which calls a request answers.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from openai_server.sessions import chains
from openai_server.sessions.calls import CallTable, ParkedCall
from openai_server.sessions.chains import Transcript
from openai_server.sessions.entries import Entry, callWithoutId
from openai_server.sessions.ids import newPublicCallId
from openai_server.sessions.matching import Outcome, matchFromTranscript
from openai_server.wire.tones import ToolCall
from tests.sessions.test_calls import FakeTerms, TableCase
from tests.support import TestClock


def user(text: str = "go on") -> Entry:
    """
    A user's message.
    """
    return Entry("user", text)


def calling(*calls: ParkedCall) -> Entry:
    """
    The answer that handed these out, as its client sends it back.
    """
    return Entry("assistant", "", tuple(call.publicId for call in calls))


def result(call: ParkedCall | str) -> Entry:
    """
    A tool's message.
    """
    return Entry("tool", "42", (), call if isinstance(call, str) else call.publicId)


class MatchTests(TableCase):
    def match(
        self, *entries: Entry, account: str = "a"
    ) -> tuple[Outcome, list[ParkedCall], list[int], list[int]]:
        """
        Outcome, missing calls, indexes of the results' messages, extra ones.
        """
        found = matchFromTranscript(self.table, account, Transcript(entries))
        hasOwner = found.outcome not in (Outcome.HISTORY, Outcome.AGAIN)
        self.assertEqual(found.owner, "turn" if hasOwner else None)
        return found.outcome, list(found.missing), [at for _, at in found.results], list(found.extra)

    def test_allResults(self) -> None:
        """
        X18: all that were shown are answered; one not shown is not missed.
        """
        one, other = self.shown(2)
        self.open()
        self.assertEqual(
            self.match(user(), calling(one, other), result(other), result(one)), (Outcome.ALL, [], [2, 3], [])
        )

    def test_allResultsAndText(self) -> None:
        """
        X18: what comes with all the results is told apart from them.
        """
        call = self.shown()[0]
        self.assertEqual(
            self.match(user(), calling(call), result(call), user(), Entry("system", "hm")),
            (Outcome.ALL, [], [2], [3, 4]),
        )
        self.assertEqual(self.match(user(), calling(call), user(), result(call)), (Outcome.ALL, [], [3], [2]))

    def test_resultsWithoutTheAnswer(self) -> None:
        """
        A client that leaves the history to the server sends the result alone,
        or behind messages that were said before.
        """
        call = self.shown()[0]
        self.assertEqual(self.match(result(call)), (Outcome.ALL, [], [0], []))
        self.assertEqual(self.match(user(), result(call), user()), (Outcome.ALL, [], [1], [2]))

    def test_someResults(self) -> None:
        """
        X19: some results and nothing else; nothing is changed by asking, and
        the complete request still works.
        """
        one, other = self.shown(2)
        head = (user(), calling(one, other))
        self.assertEqual(self.match(*head, result(one)), (Outcome.SOME, [other], [2], []))
        self.assertEqual(self.match(*head, result(one), result(other)), (Outcome.ALL, [], [2, 3], []))

    def test_givenUp(self) -> None:
        """
        X24: some results or none, and a user's message.
        """
        one, other = self.shown(2)
        head = (user(), calling(one, other))
        self.assertEqual(self.match(*head, result(one), user()), (Outcome.GIVEN_UP, [other], [2], [3]))
        self.assertEqual(self.match(*head, user()), (Outcome.GIVEN_UP, [one, other], [], [2]))

    def test_nothingSaid(self) -> None:
        """
        A request that ends with the calls, or answers another id, leaves the
        calls alone.
        """
        call = self.shown()[0]
        self.assertEqual(self.match(user(), calling(call)), (Outcome.HISTORY, [], [], []))
        self.assertEqual(self.match(user(), calling(call), result("call_x")), (Outcome.HISTORY, [], [], []))

    def test_unknownForgedForeign(self) -> None:
        """
        X21: unknown, forged and other accounts' ids are all the same: plain
        history.
        """
        call = self.shown()[0]
        for account, answered in [
            ("a", "call_1"),
            ("a", call.callId),
            ("a", newPublicCallId()),
            ("b", call.publicId),
        ]:
            tail = (result(answered), user())
            self.assertEqual(self.match(*tail, account=account), (Outcome.HISTORY, [], [], []))
            self.assertEqual(
                self.match(user(), Entry("assistant", "", (answered,)), *tail, account=account),
                (Outcome.HISTORY, [], [], []),
            )

    def test_again(self) -> None:
        """
        X22: the same results once more are told from made up ones.
        """
        call = self.shown()[0]
        request = (user(), calling(call), result(call))
        self.table.taken(call)
        self.assertEqual(self.match(*request), (Outcome.AGAIN, [], [], []))
        self.assertEqual(self.match(*request, user()), (Outcome.AGAIN, [], [], []))

    def test_twoResultsForOneCall(self) -> None:
        """
        The last one counts.
        """
        call = self.shown()[0]
        self.assertEqual(
            self.match(user(), calling(call), result(call), result(call)), (Outcome.ALL, [], [3], [])
        )

    def test_late(self) -> None:
        """
        X20: after the deadline the owner is still found, for some of the
        results too; without results the calls are history.
        """
        one, other = self.shown(2)
        for call in (one, other):
            self.table.expired(call)
        head = (user(), calling(one, other))
        self.assertEqual(self.match(*head, result(one), user())[0], Outcome.LATE)
        self.assertEqual(self.match(*head, result(one), result(other)), (Outcome.LATE, [], [2, 3], []))
        self.assertEqual(self.match(*head, user()), (Outcome.HISTORY, [], [], []))

    def test_callsInAMessageEach(self) -> None:
        """
        A client shows the calls of one answer as call, result, call, result,
        or as calls and then results: all are found, in their order.
        """
        one, other = self.shown(2)
        for request, results, extra in (
            ((calling(one), result(one), calling(other), result(other)), [2, 4], []),
            ((calling(one), calling(other), result(other), result(one)), [3, 4], []),
            ((calling(one), calling(other), result(one), user(), result(other)), [3, 5], [4]),
            ((calling(one), result(one), user(), calling(other), result(other)), [2, 5], [3]),
            ((calling(one), result(one), Entry("assistant"), calling(other), result(other)), [2, 5], []),
            ((calling(one, other), result(one), calling(one, other), result(other)), [2, 4], []),
        ):
            with self.subTest(roles=[entry.role for entry in request]):
                self.assertEqual(self.match(user(), *request), (Outcome.ALL, [], results, extra))

    def test_callsInAMessageEachAreOneAnswer(self) -> None:
        """
        The messages that show the answer are told.
        """
        one, other = self.shown(2)
        request = [user(), calling(one), result(one), calling(other), result(other)]
        found = matchFromTranscript(self.table, "a", Transcript(request))
        self.assertEqual(found.answer, [1, 3])
        self.assertEqual(found.results, [(one, 2), (other, 4)])

    def test_callsInAMessageEachAndNotAllResults(self) -> None:
        """
        X19: a call that was shown earlier and has no result behind it is
        missed; a result before its call is none.
        """
        one, other = self.shown(2)
        self.assertEqual(
            self.match(user(), calling(one), calling(other), result(other)), (Outcome.SOME, [one], [3], [])
        )
        self.assertEqual(
            self.match(user(), result(one), calling(one), calling(other), result(other)),
            (Outcome.SOME, [one], [4], []),
        )
        self.assertEqual(
            self.match(user(), calling(one), result(one), calling(other)), (Outcome.SOME, [other], [2], [])
        )

    def test_otherWordsBetweenTheCalls(self) -> None:
        """
        What the assistant never said cannot go into its turn: that is given
        its results, and up.
        """
        one, other = self.shown(2)
        request = (calling(one), result(one), Entry("assistant", "hm"), calling(other), result(other))
        self.assertEqual(self.match(user(), *request), (Outcome.GIVEN_UP, [], [2, 5], []))

    def test_earlierCallsAreHistory(self) -> None:
        """
        Only what follows the last answer counts.
        """
        one, other = self.shown(2)
        request = (user(), calling(one), result(one), calling(other), result(other))
        self.table.taken(one)
        self.assertEqual(self.match(*request), (Outcome.ALL, [], [4], []))
        self.assertEqual(self.match(*request, Entry("assistant", "done"), user())[0], Outcome.HISTORY)

    def test_sameCallIdInTwoSessions(self) -> None:
        """
        X14: workers count alike; each result goes to its own turn.
        """
        self.shown(owner="one", sid="1")
        other = self.shown(owner="other", sid="2")[0]
        match = matchFromTranscript(self.table, "a", Transcript([user(), calling(other), result(other)]))
        self.assertEqual((match.owner, match.results), ("other", [(other, 2)]))

    def test_resultsOfTwoTurns(self) -> None:
        """
        One request goes on with one turn: that of the last result.
        """
        foreign = self.shown(owner="other", sid="o")[0]
        call = self.shown()[0]
        self.assertEqual(self.match(result(foreign), result(call)), (Outcome.ALL, [], [1], []))

    def test_nothingIsHashedForIds(self) -> None:
        """
        Where no call was shown without an id, a transcript of any length is
        only looked through.
        """
        call = self.shown()[0]
        foreign = Entry("assistant", "", ("call_1\0f\0{}", callWithoutId("f", "{}")))
        value = Entry("tool", "42", (), None, "f")
        with mock.patch.object(chains, "_encode", None):
            self.assertEqual(self.match(user(), foreign, value, user())[0], Outcome.HISTORY)
            self.assertEqual(self.match(user(), calling(call), result(call))[0], Outcome.ALL)

    def test_deprecatedShape(self) -> None:
        """
        A function's message answers the open call of that name whose
        transcript the request shows: no other conversation's.
        """
        question = user("what is 6 * 7?")
        asked = Transcript([question]).whole.digest
        call = self.open()
        self.table.shown([call], asked)
        answer = Entry("assistant", "", (callWithoutId("client.f", "{}"),))
        value = Entry("tool", "42", (), None, "client.f")
        self.assertEqual(self.match(question, answer, value), (Outcome.ALL, [], [2], []))
        self.assertEqual(self.match(user("other"), answer, value)[0], Outcome.HISTORY)
        self.assertEqual(self.match(question, answer, value, account="b")[0], Outcome.HISTORY)
        self.assertEqual(self.match(value)[0], Outcome.HISTORY)
        named = Entry("tool", "42", (), None, "g")
        self.assertEqual(self.match(question, answer, named)[0], Outcome.HISTORY)
        self.table.taken(call)
        self.assertEqual(self.match(question, answer, value)[0], Outcome.HISTORY)
        self.assertFalse(self.table.hasWithoutId)

    def test_deprecatedShapeOfTwins(self) -> None:
        """
        Two conversations with one transcript: each result goes to one of
        them.
        """
        question = user()
        asked = Transcript([question]).whole.digest
        twins = [self.open(owner) for owner in ("one", "other")]
        for call in twins:
            self.table.shown([call], asked)
        request = Transcript([question, Entry("assistant"), Entry("tool", "42", (), None, "client.f")])
        for call in twins:
            match = matchFromTranscript(self.table, "a", request)
            self.assertEqual(match.results, [(call, 2)])
            self.assertTrue(self.table.taken(call))

    def test_deprecatedShapeGivenUp(self) -> None:
        """
        X24: without ids too, a user's message in place of the result gives the
        call up; the answer alone, or another conversation's, does not.
        """
        question = user("what is 6 * 7?")
        call = self.open()
        self.table.shown([call], Transcript([question]).whole.digest)
        answer = Entry("assistant", "", (callWithoutId("client.f", '{"n": 1}'),))
        self.assertEqual(self.match(question, answer, user()), (Outcome.GIVEN_UP, [call], [], [2]))
        self.assertEqual(self.match(question, answer)[0], Outcome.HISTORY)
        self.assertEqual(self.match(user("other"), answer, user())[0], Outcome.HISTORY)
        self.assertEqual(self.match(question, Entry("assistant", "no"), user())[0], Outcome.HISTORY)
        self.table.closed(call)
        self.assertEqual(self.match(question, answer, user())[0], Outcome.HISTORY)

    def test_deprecatedShapeOfTwinsWithOtherArguments(self) -> None:
        """
        The arguments that the client was shown say which of two calls it
        answers, or gives up.
        """
        question = user()
        calls = []
        for owner in ("one", "other"):
            tone = ToolCall(sid="s", callId="c", toolName="f", args={"of": owner})
            call = self.table.opened(owner, FakeTerms(), tone, 0)
            self.table.shown([call], Transcript([question]).whole.digest)
            calls.append(call)
        value = Entry("tool", "42", (), None, "client.f")
        for call in calls:
            answer = Entry("assistant", "", (callWithoutId("client.f", call.arguments),))
            match = matchFromTranscript(self.table, "a", Transcript([question, answer, value]))
            self.assertEqual((match.outcome, match.results), (Outcome.ALL, [(call, 2)]))
            match = matchFromTranscript(self.table, "a", Transcript([question, answer, user()]))
            self.assertEqual((match.outcome, match.owner), (Outcome.GIVEN_UP, call.owner))

    @settings(deadline=None, max_examples=150)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.sampled_from(["take", "expire", "close", "show"]), st.integers(0, 5)),
                st.tuples(st.just("post"), st.lists(st.integers(0, 7), max_size=4)),
            ),
            max_size=30,
        ),
        st.sampled_from(["a", "b"]),
    )
    def test_eachCallOnceAndForgedOnesNever(self, steps: list[tuple[str, Any]], account: str) -> None:
        """
        X21, X22: whatever is posted in whatever order, a call takes one result
        at most, its own account's, and ids that were not given match nothing.
        """
        table = CallTable(TestClock())
        calls = []
        for number in range(6):
            terms = FakeTerms(account="ab"[number % 2], sid=str(number // 3))
            calls.append(table.opened(number // 3, terms, ToolCall(sid="s", callId="c", toolName="f"), 0))
        ids = [call.publicId for call in calls] + ["call_1", newPublicCallId()]
        results = dict.fromkeys(ids, 0)
        shown: set[str] = set()
        for what, which in steps:
            if what == "post":
                match = matchFromTranscript(table, account, Transcript([result(ids[at]) for at in which]))
                for call, at in match.results:
                    self.assertEqual((call.account, call.publicId), (account, ids[which[at]]))
                    self.assertEqual(call.owner, match.owner)
                    self.assertIn(call.publicId, shown)
                    results[call.publicId] += table.taken(call)
            elif what == "take":
                results[ids[which]] += table.taken(calls[which])
            elif what == "show":
                table.shown([calls[which]])
                shown.add(ids[which])
            else:
                (table.expired if what == "expire" else table.closed)(calls[which])
        self.assertLessEqual(max(results.values()), 1)
        for call in calls:
            table.closed(call)
        self.assertEqual((len(table), table._open), (0, {}))
