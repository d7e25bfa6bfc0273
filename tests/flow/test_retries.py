"""
Requests that come again: no agent runs twice for one of them.
"""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.error import ConnectionDone

from openai_server import constants
from openai_server.daemon.turn import PromptedTurn
from openai_server.sessions import retries
from openai_server.web import response
from openai_server.web.submission import Submission
from tests.dialects import inBothAPIs
from tests.flow.support import FlowCase, Talk, function, steps
from tests.world import Client, World

#: What an SDK says with its first attempt.
FIRST = {"x-stainless-retry-count": "0"}
#: A second's silence before the first word, and behind it.
SLOW = ({"sleep": 1}, {"say": "Slow"}, {"sleep": 1}, {"say": "ly."})


def retry(count: int = 1) -> dict[str, str]:
    """
    What it says with a later one.
    """
    return {"x-stainless-retry-count": str(count)}


def close(client: Client) -> None:
    """
    Hang up in good order.
    """
    client.wire.leave(ConnectionDone())


class RetryCase(FlowCase):
    """
    A client that is lost while it waits.
    """

    def lost(
        self, world: World, *played: Any, after: float = 0.5, headers: Any = FIRST, **fields: Any
    ) -> Client:
        """
        Ask, and leave after so many seconds.
        """
        client = world.script(*(played or SLOW), headers=headers, **fields)
        world.advance(after, 0.05)
        client.leave()
        return client

    def again(self, world: World, *played: Any, headers: Any = None, **fields: Any) -> Client:
        """
        The same once more.
        """
        return world.script(*(played or SLOW), headers=headers or retry(), **fields)


@inBothAPIs
class JoiningTests(RetryCase):
    """
    Retries that find their answer in the making.
    """

    def test_joinsTheRunningTurn(self) -> None:
        """
        K15: the answer comes whole from its beginning, whole or streamed,
        and one prompt was asked.
        """
        for stream in (False, True):
            world = World(self)
            self.lost(world, stream=stream)
            client = self.again(world, stream=stream)
            world.advance(3)
            self.assertSaid(client, "Slowly.", "new")
            self.assertEqual(len(self.sids(world)), 1)
            self.assertEqual(world.sent("cancel"), [])
            self.assertEqual(world.ends, ["cl-gone", "ok"])
            world.settle()

    def test_joinsWhileTheOldConnectionLooksAlive(self) -> None:
        """
        A proxy was dropped and nobody has told us: the retry gets the answer
        from its beginning, streamed or not, the old connection is ended, and
        no agent runs twice.
        """
        for stream in (False, True):
            world = World(self)
            first = world.script(*SLOW, stream=stream, headers=FIRST)
            world.advance(1.5)
            client = self.again(world, stream=stream)
            self.assertEqual(first.wire.how, "aborted")
            self.assertFalse(first.isComplete)
            world.advance(3)
            self.assertSaid(client, "Slowly.", "new")
            self.assertEqual((len(self.sids(world)), world.sent("cancel")), (1, []))
            self.assertEqual(world.ends, ["cl-gone", "ok"])
            world.settle()

    def test_keptAnswerKeepsNothingElse(self) -> None:
        """
        Neither the question nor the prompt, which may be of megabytes and are
        not counted.
        """
        for headers in (FIRST, {"idempotency-key": "k"}):
            world = World(self)
            world.script({"say": "There."}, headers=headers)
            world.advance(3)
            self.assertEqual(world.front.retries.bytesKept, len("There."))
            gc.collect()
            found = gc.get_objects()
            self.assertEqual([each for each in found if isinstance(each, Submission)], [])
            turns = [each for each in found if isinstance(each, PromptedTurn)]
            self.assertEqual({each.prompt for each in turns}, {None})
            world.settle()

    def test_streamThatRunsKeepsNoQuestion(self) -> None:
        """
        Its body and its messages are not held for as long as it lasts.
        """
        world = World(self)
        client = world.script({"say": "Slow"}, {"sleep": 5}, {"say": "ly."}, stream=True)
        world.advance(1)
        gc.collect()
        found = gc.get_objects()
        self.assertEqual([each for each in found if isinstance(each, Submission)], [])
        self.assertEqual([each.prompt for each in found if isinstance(each, PromptedTurn)], [None])
        world.advance(6)
        self.assertSaid(client, "Slowly.")
        world.settle()

    def test_streamThatIsTooLongToBeGivenAgain(self) -> None:
        """
        Its beginning is not there any more: the retry is told so, since a part
        would look like the whole, and the agent does not run again.
        """
        self.patch(response, "WHOLE_LIMIT", 10)
        world = World(self)
        long = ({"say": "x" * 8}, {"sleep": 0.2}, {"say": "y" * 8}, {"sleep": 2}, {"say": "."})
        first = world.script(*long, stream=True, headers=FIRST)
        world.advance(1)
        self.assertRefused(self.again(world, *long, stream=True), 502, "worker_error")
        world.advance(3)
        self.assertTrue(first.isComplete)
        self.assertEqual(len(self.sids(world)), 1)
        world.settle()

    def test_tooLongUnderAKey(self) -> None:
        """
        A key means one run, also when its answer cannot be given once more.
        """
        self.patch(response, "WHOLE_LIMIT", 10)
        world = World(self)
        long = ({"say": "x" * 8}, {"sleep": 0.2}, {"say": "y" * 8})
        key = {"idempotency-key": "k"}
        first = world.script(*long, stream=True, headers=key)
        world.advance(3)
        self.assertTrue(first.isComplete)
        self.assertRefused(world.script(*long, stream=True, headers=key), 502, "worker_error")
        self.assertEqual(len(self.sids(world)), 1)
        world.settle()

    def test_joinsAWholeAnswerThatHasBegun(self) -> None:
        """
        K15: nothing of it was sent; what was said meanwhile comes too.
        """
        world = World(self)
        self.lost(world, after=1.5)
        client = self.again(world)
        world.advance(2)
        self.assertSaid(client, "Slowly.")
        self.assertEqual(len(self.sids(world)), 1)
        world.settle()

    def test_headersThatWereHeldBack(self) -> None:
        """
        A stream whose headers were due while nobody was there begins with the
        retry.
        """
        self.patch(constants, "HEADERS_HOLD", 1)
        world = World(self)
        self.lost(world, {"sleep": 3}, {"say": "There."}, stream=True)
        world.advance(1)
        client = self.again(world, {"sleep": 3}, {"say": "There."}, stream=True)
        world.advance(0)
        self.assertEqual(client.status, 200)
        self.assertFalse(client.isComplete)
        world.advance(3)
        self.assertSaid(client, "There.")
        world.settle()

    def test_retryOfARetry(self) -> None:
        """
        K15: lost again, and joined again.
        """
        world = World(self)
        self.lost(world)
        second = self.again(world)
        world.advance(0.2)
        second.leave()
        third = self.again(world, headers=retry(2))
        world.advance(3)
        self.assertSaid(third, "Slowly.")
        self.assertEqual(len(self.sids(world)), 1)
        self.assertEqual(world.ends, ["cl-gone", "cl-gone", "ok"])
        world.settle()

    def test_getsTheFinishedAnswerOnce(self) -> None:
        """
        K15: the turn ended within the grace: the retry gets what nobody
        received; one more is a new request.
        """
        for stream in (False, True):
            world = World(self)
            self.lost(world, {"sleep": 1}, {"say": "There."}, stream=stream)
            world.advance(20)
            client = self.again(world, {"sleep": 1}, {"say": "There."}, stream=stream)
            world.advance(0)
            self.assertSaid(client, "There.")
            self.assertEqual(len(self.sids(world)), 1)
            self.again(world, {"sleep": 1}, {"say": "There."}, stream=stream)
            self.assertEqual(len(self.sids(world)), 2)
            world.advance(3)
            world.settle()

    def test_conversationGoesOnAfterARetry(self) -> None:
        """
        What the retry was given is what the session has said.
        """
        world = World(self)
        talk = Talk(world)
        talk.post(steps(*SLOW), headers=FIRST)
        world.advance(0.5)
        assert talk.last is not None
        talk.last.leave()
        self.assertSaid(talk.ask(headers=retry()), "Slowly.")
        self.assertSaid(talk.ask(steps({"say": "Next."})), "Next.", "continued")
        self.assertEqual(len(set(self.sids(world))), 1)
        world.settle()

    def test_callsThatNobodyReceived(self) -> None:
        """
        X22: the calls are handed to the retry, under the same ids, and its
        results go on with the turn.
        """
        world = World(self)
        talk = Talk(world, tools=[function()])
        talk.post(steps({"sleep": 1}, {"tool": "look", "args": {"n": 1}}), headers=FIRST)
        world.advance(0.5)
        assert talk.last is not None
        talk.last.leave()
        world.advance(3)
        self.assertCalls(talk.ask(headers=retry()), "look")
        self.assertEqual(talk.calls[0]["function"]["arguments"], '{"n":1}')
        self.assertSaid(talk.results("grey"), "[grey]", "continued")
        self.assertEqual(len(self.sids(world)), 1)
        world.settle()

    def test_retriedResults(self) -> None:
        """
        X22: the retry of a request that brought results joins the turn; no
        result is sent twice.
        """
        world = World(self)
        talk = Talk(world, tools=[function()])
        talk.ask(steps({"tool": "look", "args": {}}, {"sleep": 1}, {"say": "."}))
        talk.post(*talk.resultsOf("grey"), headers=FIRST)
        world.advance(0.5)
        assert talk.last is not None
        talk.last.leave()
        self.assertSaid(talk.ask(headers=retry()), "[grey].", "continued")
        self.assertResults(world, ("grey", False))
        self.assertEqual(len(self.sids(world)), 1)
        self.assertEqual(world.sent("cancel"), [])
        world.settle()

    def test_oldestFirst(self) -> None:
        """
        Two clients lost with the same words: each retry takes one.
        """
        world = World(self)
        self.lost(world, after=0.2)
        self.lost(world, after=0.2)
        clients = [self.again(world), self.again(world)]
        self.assertEqual(len(self.sids(world)), 2)
        world.advance(3)
        for client in clients:
            self.assertSaid(client, "Slowly.")
        self.assertEqual(len(self.sids(world)), 2)
        world.settle()


@inBothAPIs
class OtherTests(RetryCase):
    """
    What is no retry.
    """

    def assertAskedAnew(self, world: World, client: Client) -> None:
        """
        It has a turn of its own.
        """
        self.assertEqual(len(set(self.sids(world))), 2)
        world.advance(5)
        self.assertEqual((client.status, client.isComplete), (200, True))
        world.settle()

    def test_sameRequestWithoutACount(self) -> None:
        """
        Who says nothing of a retry asks anew; also with a count that is none.
        """
        for headers in ({"x-other": "1"}, FIRST, retry(-1), {"x-stainless-retry-count": "one"}):
            world = World(self)
            self.lost(world)
            self.assertAskedAnew(world, self.again(world, headers=headers))

    def test_otherBody(self) -> None:
        """
        One byte is enough.
        """
        world = World(self)
        self.lost(world)
        self.assertAskedAnew(world, self.again(world, temperature=0.5))

    def test_otherSession(self) -> None:
        """
        The same body under another name of a session.
        """
        world = World(self)
        self.lost(world, headers={**FIRST, "x-hum-session": "one"})
        self.assertAskedAnew(world, self.again(world, headers={**retry(), "x-hum-session": "other"}))

    def test_otherFolder(self) -> None:
        """
        C35: the same body, for a worker in another folder.
        """
        world = World(self, cwdRoots=("/",))
        self.lost(world, headers={**FIRST, "x-hum-cwd": "/"})
        self.assertAskedAnew(world, self.again(world, headers={**retry(), "x-hum-cwd": str(world.folder)}))

    def test_otherKey(self) -> None:
        """
        X21: another key's answer is not to be had.
        """
        self.withAccounts()
        world = World(self)
        self.lost(world, headers={**FIRST, "x-account": "mine"})
        self.assertAskedAnew(world, self.again(world, headers={**retry(), "x-account": "theirs"}))

    def test_finishedAnswerOfAnotherKey(self) -> None:
        """
        X21: nor when it is finished.
        """
        self.withAccounts()
        world = World(self)
        self.lost(world, {"sleep": 1}, {"say": "CANARY"}, headers={**FIRST, "x-account": "mine"})
        world.advance(2)
        headers = {**retry(), "x-account": "theirs"}
        client = self.again(world, {"sleep": 1}, {"say": "CANARY"}, headers=headers)
        world.advance(0)
        self.assertIsNone(client.status)
        self.assertAskedAnew(world, client)

    def test_attendedAnswer(self) -> None:
        """
        While its client counts no further, an answer is that client's.
        """
        world = World(self)
        first = world.script(*SLOW, headers=retry())
        self.assertAskedAnew(world, self.again(world))
        self.assertSaid(first, "Slowly.")

    def test_receivedAnswer(self) -> None:
        """
        Nor is one kept that was received: its connection went on, or was
        closed in good order.
        """
        for goOn in (lambda first: first.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"), close):
            world = World(self)
            first = world.script(*SLOW, headers=FIRST)
            world.advance(3)
            goOn(first)
            self.assertAskedAnew(world, self.again(world))

    def test_answerThatMayNotHaveBeenReceived(self) -> None:
        """
        The bytes have left and nothing shows that they arrived: the retry gets
        the same answer, and the agent does not run again.
        """
        world = World(self)
        first = world.script(*SLOW, headers=FIRST)
        world.advance(3)
        self.assertSaid(self.again(world), "Slowly.")
        self.assertEqual(len(self.sids(world)), 1)
        first.leave()
        world.settle()

    def test_after300Seconds(self) -> None:
        """
        A finished answer waits for so long.
        """
        for seconds, prompts in ((290, 1), (305, 2)):
            world = World(self)
            self.lost(world, {"sleep": 1}, {"say": "There."})
            world.advance(5)
            world.advance(seconds - 5, 5)
            client = self.again(world, {"sleep": 1}, {"say": "There."})
            self.assertEqual(len(self.sids(world)), prompts)
            world.advance(3)
            self.assertSaid(client, "There.")
            world.settle()

    def test_failureThatMayBeAskedAgain(self) -> None:
        """
        Nothing ran: the retry is asked anew, not told of the old failure.
        """
        world = World(self)
        refused = ({"sleep": 1}, {"result_error": "API Error: 529 Overloaded"})
        self.lost(world, *refused)
        world.advance(1)
        client = self.again(world, *refused)
        self.assertEqual(len(self.sids(world)), 2)
        world.advance(2)
        self.assertRefused(client, 503, "server_is_overloaded")
        world.settle()

    def test_failureBehindWhichAnAgentMayHaveActed(self) -> None:
        """
        It is told to the retry: nothing runs twice.
        """
        world = World(self)
        failing = ({"say": "Half."}, {"sleep": 1}, {"exit": 1})
        self.lost(world, *failing)
        world.advance(1)
        client = self.again(world, *failing)
        world.advance(0)
        self.assertRefused(client, 502, "worker_error")
        self.assertEqual(client.header("x-should-retry"), "false")
        self.assertEqual(len(self.sids(world)), 1)
        world.settle()


@inBothAPIs
class GraceTests(RetryCase):
    """
    How long a turn waits for a retry.
    """

    def test_twoSeconds(self) -> None:
        """
        Then the turn is cancelled, and a later retry gets a fresh one (K15).
        """
        for stream in (False, True):
            world = World(self)
            self.lost(world, {"sleep": 30}, stream=stream)
            world.advance(1.8, 0.05)
            self.assertEqual(world.sent("cancel"), [])
            world.advance(0.4, 0.05)
            self.assertEqual(len(world.sent("cancel")), 1)
            self.again(world, {"sleep": 30}, stream=stream)
            self.assertEqual(len(set(self.sids(world))), 2)
            world.advance(60)
            world.settle()

    def test_graceIsAConstant(self) -> None:
        """
        C{RETRY_GRACE}; 0 cancels at once.
        """
        for grace in (0, 10):
            self.patch(constants, "RETRY_GRACE", grace)
            world = World(self)
            self.lost(world, {"sleep": 5}, {"say": "x"})
            self.assertEqual(len(world.sent("cancel")), 0 if grace else 1)
            world.advance(8)
            world.settle()

    def test_clientThatNeverRetries(self) -> None:
        """
        Without the header its turn is cancelled at once.
        """
        for stream in (False, True):
            world = World(self)
            self.lost(world, headers=None, stream=stream)
            self.assertEqual(len(world.sent("cancel")), 1)
            world.advance(3)
            world.settle()

    def test_streamThatHasBegun(self) -> None:
        """
        SDKs never retry those: at once, and a retry all the same is a new
        request.
        """
        world = World(self)
        client = self.lost(world, after=1.5, stream=True)
        self.assertEqual(client.text, "Slow")
        self.assertEqual(len(world.sent("cancel")), 1)
        again = self.again(world, stream=True)
        self.assertEqual(len(set(self.sids(world))), 2)
        world.advance(3)
        self.assertSaid(again, "Slowly.")
        world.settle()

    def test_streamWhoseHeadersHaveGone(self) -> None:
        """
        The first chunk, which says nothing, is a beginning too.
        """
        self.patch(constants, "HEADERS_HOLD", 0.2)
        world = World(self)
        self.lost(world, after=0.5, stream=True)
        self.assertEqual(len(world.sent("cancel")), 1)
        world.advance(3)
        world.settle()

    def test_clientThatIsLostInTheLine(self) -> None:
        """
        K6: nothing runs for it, so nothing waits for a retry.
        """
        world = World(self, maxTurns=1)
        world.script({"sleep": 2}, {"say": "First."})
        self.lost(world, {"say": "Second."})
        client = self.again(world, {"say": "Second."})
        world.advance(5)
        self.assertSaid(client, "Second.")
        self.assertEqual(len(self.sids(world)), 2)
        world.settle()

    def test_serverThatStops(self) -> None:
        """
        It waits for nobody's retry.
        """
        world = World(self)
        world.script(*SLOW, headers=FIRST)
        world.advance(0.5)
        world.front.site.cut()
        world.flush()
        self.assertEqual(len(world.sent("cancel")), 1)
        self.assertEqual(world.ends, ["drain"])
        world.advance(3)
        world.settle()


@inBothAPIs
class IdempotencyTests(RetryCase):
    """
    C{Idempotency-Key}: the same for clients that send one.
    """

    def key(self, value: str = "k1") -> dict[str, str]:
        """
        The header.
        """
        return {"idempotency-key": value}

    def test_joinsTheRunningTurn(self) -> None:
        """
        Without a word of a retry.
        """
        world = World(self)
        self.lost(world, headers=self.key())
        self.assertEqual(world.sent("cancel"), [])
        client = self.again(world, headers=self.key())
        world.advance(3)
        self.assertSaid(client, "Slowly.")
        self.assertEqual(len(self.sids(world)), 1)
        world.settle()

    def test_getsTheFinishedAnswer(self) -> None:
        """
        Once.
        """
        world = World(self)
        self.lost(world, {"sleep": 1}, {"say": "There."}, headers=self.key())
        world.advance(10)
        client = self.again(world, {"sleep": 1}, {"say": "There."}, headers=self.key())
        world.advance(0)
        self.assertSaid(client, "There.")
        self.assertEqual(len(self.sids(world)), 1)
        world.settle()

    def test_otherKeyForTheSameBody(self) -> None:
        """
        Another key, another request.
        """
        world = World(self)
        self.lost(world, headers=self.key())
        client = self.again(world, headers={**self.key("k2"), **retry()})
        self.assertEqual(len(self.sids(world)), 2)
        world.advance(5)
        self.assertSaid(client, "Slowly.")
        world.settle()

    def test_sameKeyForAnotherBody(self) -> None:
        """
        409, which no SDK tries again; nothing is asked.
        """
        world = World(self)
        world.script({"say": "One."}, headers=self.key())
        world.advance(1)
        client = world.script({"say": "Two."}, headers=self.key())
        self.assertRefused(client, 409, "idempotency_key_reused")
        self.assertEqual(client.header("x-should-retry"), "false")
        self.assertEqual(len(self.sids(world)), 1)
        self.assertEqual(world.ends, ["ok", "bad"])
        world.settle()

    def test_keysOfOtherAccounts(self) -> None:
        """
        A key is bound to the API key.
        """
        self.withAccounts()
        world = World(self)
        world.script({"say": "One."}, headers={**self.key(), "x-account": "mine"})
        world.advance(1)
        client = world.script({"say": "Two."}, headers={**self.key(), "x-account": "theirs"})
        world.advance(1)
        self.assertSaid(client, "Two.")
        world.settle()

    def test_keyIsForgotten(self) -> None:
        """
        300 s after its answer it may be used again.
        """
        world = World(self)
        world.script({"say": "One."}, headers=self.key())
        world.advance(310, 5)
        client = world.script({"say": "Two."}, headers=self.key())
        world.advance(1)
        self.assertSaid(client, "Two.")
        world.settle()


@inBothAPIs
class BoundTests(RetryCase):
    """
    What is kept for retries.
    """

    def small(self, size: int) -> World:
        """
        A world that keeps no more than so many bytes of answers.
        """
        self.patch(retries, "MAX_BYTES", size)
        return World(self)

    def test_answersAreBounded(self) -> None:
        """
        The one that was lost first makes place.
        """
        world = self.small(250)
        for n in range(3):
            self.lost(world, {"sleep": 1}, {"say": f"{n}" * 100})
        world.advance(5)
        self.assertLessEqual(world.front.retries.bytesKept, 250)
        for n, prompts in ((2, 3), (1, 3), (0, 4)):
            client = self.again(world, {"sleep": 1}, {"say": f"{n}" * 100})
            self.assertEqual(len(self.sids(world)), prompts)
            world.advance(2)
            self.assertSaid(client, f"{n}" * 100)
            close(client)
        self.assertEqual(world.front.retries.bytesKept, 0)
        world.settle()

    def test_streamThatHasBegunIsNotKept(self) -> None:
        """
        It may be of any length; only what is kept whole is bounded.
        """
        self.patch(response, "WHOLE_LIMIT", 1000)
        world = World(self)
        said = ({"say": "x" * 500}, {"sleep": 0.1}, {"say": "y" * 5000, "parts": 5})
        stream, whole = world.script(*said, stream=True), world.script(*said)
        world.advance(2)
        self.assertSaid(stream, "x" * 500 + "y" * 5000)
        self.assertRefused(whole, 502, "worker_error")
        self.assertEqual(whole.header("x-should-retry"), "false")
        world.settle()

    def test_argumentsCountToo(self) -> None:
        """
        An answer that is a call is as large as its arguments.
        """
        world = self.small(1000)
        talk = Talk(world, tools=[function()])
        talk.post(steps({"sleep": 1}, {"tool": "look", "args": {"text": "x" * 2000}}), headers=FIRST)
        world.advance(0.5)
        assert talk.last is not None
        talk.last.leave()
        world.advance(2)
        self.assertEqual(world.front.retries.bytesKept, 0)
        talk.post(headers=retry())
        self.assertEqual(len(self.sids(world)), 2)
        world.advance(60)
        world.settle()
