"""
What answers cost, as clients are told.
"""

from __future__ import annotations

import json

from tests.dialects import inBothAPIs
from tests.flow.support import FlowCase, Talk, function, steps
from tests.world import Client, World

#: A turn's, as the worker reports it: 1,000 tokens in, 500 out.
REPORTED = {
    "input_tokens": 100,
    "cache_read_input_tokens": 700,
    "cache_creation_input_tokens": 200,
    "output_tokens": 500,
}


def usageOf(client: Client) -> tuple[int, int]:
    """
    Prompt and completion tokens of an answer.
    """
    usage = client.usage
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    return usage["prompt_tokens"], usage["completion_tokens"]


@inBothAPIs
class UsageTests(FlowCase):
    """
    C{usage} and C{x-hum-usage}.
    """

    def test_sumOfATurnIsTheWorkers(self) -> None:
        """
        (U11) Answers that end in calls have an estimate, which grows with the
        session; the last one gets the rest of what the worker reports.
        """
        call = {"tool": "look", "args": {"at": "x" * 400}}
        for fields in ({}, {"stream": True, "stream_options": {"include_usage": True}}):
            world = World(self)
            talk = Talk(world, tools=[function()], **fields)
            answers = [
                talk.ask(steps({"usage": REPORTED}, {"say": "y" * 40}, call, call)),
                talk.results("grey" * 100),
                talk.results("white"),
            ]
            if not fields:
                marks = [client.header("x-hum-usage") for client in answers]
                self.assertEqual(marks, ["estimated", "estimated", None])
            prompts, completions = zip(*map(usageOf, answers), strict=True)
            self.assertEqual((sum(prompts), sum(completions)), (1000, 500))
            asked = len(talk.messages[0]["content"])
            self.assertGreater(prompts[0], asked // 4)
            self.assertLess(prompts[0], asked // 4 + 60)
            arguments = json.dumps(call["args"], separators=(",", ":"))
            self.assertEqual(completions[0], -(-(40 + len("look") + len(arguments)) // 4))
            self.assertIn(prompts[1] - (prompts[0] + completions[0] + 100), (-1, 0))
            world.settle()

    def test_estimateThatIsTooHigh(self) -> None:
        """
        What was told cannot be taken back: the rest is nothing.
        """
        world = World(self)
        talk = Talk(world, tools=[function()])
        reported = {"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 1}
        first = talk.ask(steps({"usage": reported}, {"tool": "look", "args": {}}, {"say": "y"}))
        self.assertGreater(usageOf(first)[0], 5)
        last = talk.results("grey")
        self.assertEqual((usageOf(last), last.header("x-hum-usage")), ((0, 0), None))
        self.assertEqual(last.usage["prompt_tokens_details"]["cached_tokens"], 0)
        world.settle()

    def test_turnsAreCountedApart(self) -> None:
        """
        What one turn was told says nothing of the next one in its session.
        """
        world = World(self)
        talk = Talk(world, tools=[function()])
        talk.ask(steps({"usage": REPORTED}, {"tool": "look", "args": {}}))
        talk.results("grey")
        self.assertEqual(usageOf(talk.ask(steps({"usage": REPORTED}, {"say": "Yes."}))), (1000, 500))
        world.settle()

    def test_sessionThatIsNotShown(self) -> None:
        """
        The estimate counts what the session holds, not only what a client
        that keeps no history shows.
        """
        world = World(self)
        headers = {"x-hum-session": "notes"}
        told = []
        for _ in range(2):
            client = Talk(world, headers).ask(steps({"usage": None}, {"say": "y" * 400}))
            told.append(usageOf(client))
        (prompt, answer), (longer, _) = told
        self.assertEqual(client.header("x-hum-session"), "continued")
        self.assertEqual(answer, 100)
        self.assertIn(longer - (prompt + answer + prompt), (-1, 0))
        world.settle()

    def test_resultsAlone(self) -> None:
        """
        So does one that is brought the results of its calls and nothing else.
        """
        world = World(self)
        talk = Talk(world, tools=[function()])
        first = talk.ask(steps({"usage": None}, {"tool": "look", "args": {}}, {"say": "y"}))
        results = talk.resultsOf("grey" * 10)
        talk.messages = []
        last = talk.ask(*results)
        self.assertIn(usageOf(last)[0] - (sum(usageOf(first)) + 10), (-1, 0))
        world.settle()


class StopTests(FlowCase):
    """
    What only chat can ask for.
    """

    def test_stopString(self) -> None:
        """
        A turn that is cancelled tells nothing more: its answer is estimated.
        """
        world = World(self)
        client = Talk(world, stop="END").ask(steps({"say": "y" * 40 + "END and on"}))
        self.assertSaid(client, "y" * 40)
        self.assertEqual((usageOf(client)[1], client.header("x-hum-usage")), (10, "estimated"))
        world.settle()
