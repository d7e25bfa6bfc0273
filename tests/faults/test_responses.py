"""
Faults in mid-answer as a client of the Responses API sees them: the very tests
of chat's, with requests of the other dialect.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.api.responses.grammar import Grammar, eventsFrom
from tests.faults import test_thrum, test_turns
from tests.faults.support import FaultCase
from tests.world import Client, World

PATH = "/v1/responses"


def textOf(client: Client) -> str:
    """
    The text of a stream so far.
    """
    events = [each.partition("data: ")[2] for each in client.content.decode().split("\n\n")]
    told = [json.loads(event) for event in events if event.startswith("{")]
    return "".join(event["delta"] for event in told if event["type"] == "response.output_text.delta")


class ResponsesFaultCase(FaultCase):
    """
    Asks for responses.
    """

    def half(self, world: World, *steps: Any) -> None:
        """
        See L{FaultCase.half}.
        """
        asked = "#script " + json.dumps([{"say": "half"}, *(steps or ({"silence": 1},))])
        for isStreamed in (True, False):
            client = world.client().post({"model": "script", "input": asked, "stream": isStreamed}, PATH)
            client.wire.read()
        stream = world.clients[-2]
        world.until(lambda: textOf(stream) == "half")

    def assertCut(self, client: Client, code: str, text: str) -> None:
        """
        A stream that was begun, gave just this text, and says itself that it
        has failed; it is whole.
        """
        self.assertEqual((client.status, client.isComplete), (200, True), client.wire.received[:500])
        response = Grammar().check(eventsFrom(client.content))
        self.assertEqual((response["status"], textOf(client)), ("failed", text))
        known = ("rate_limit_exceeded", "insufficient_quota", "context_length_exceeded")
        self.assertEqual(response["error"]["code"], code if code in known else "server_error")
        self.assertTrue(response["error"]["message"])
        (message,) = response["output"]
        self.assertEqual((message["status"], message["content"][0]["text"]), ("incomplete", text))


def _same(test: Any) -> Callable[[Any], None]:
    """
    A test of another class.
    """
    found: Callable[[Any], None] = test
    return found


class MidAnswerTests(ResponsesFaultCase):
    """
    What happens to an answer that has begun.
    """

    test_silence = _same(test_turns.SilenceTests.test_inMidAnswer)
    test_workerDies = _same(test_turns.SilenceTests.test_workerDies)
    test_anotherWorkerIsThere = _same(test_turns.SilenceTests.test_anotherWorkerIsThere)
    test_errorAfterText = _same(test_turns.ErrorTests.test_afterText)
    test_daemonIsLost = _same(test_thrum.LossTests.test_inMidAnswer)
    test_daemonIsRestarted = _same(test_thrum.LossTests.test_lostAgainAndAgain)
    test_daemonStandsStill = _same(test_thrum.SlowDaemonTests.test_daemonStandsStill)
    test_failingFinish = _same(test_turns.ErrorTests.test_failingFinish)
    test_firstEndCounts = _same(test_turns.FinishTests.test_firstEndCounts)
