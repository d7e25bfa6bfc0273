"""
Eight agents with different tools at once, on a worker whose processes start
slowly: each model is offered its own agent's tools, and each call reaches its
own agent.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from openai_server.embedded.content import givenResults, lastUserText
from openai_server.embedded.models import ModelPrompt
from openai_server.embedded.playback import Step
from tests.machinery.models import TEST_MODELS
from tests.machinery.steps import Call, CallTools, Fail, ListStartup, Say
from tests.oracle.loaded import LoadedWorld
from tests.recorder import StrictRecorder
from tests.support import SyncCase
from tests.world import Client

AGENTS = 8
MARK = "#rounds "

#: The same everywhere, and one that is another tool for each agent.
COMMON = {"type": "function", "function": {"name": "common", "description": "The same for all."}}


def model(question: ModelPrompt) -> Sequence[Step]:
    """
    Says the names of the tools that it was given, and calls some, in rounds.
    Where a prompt ends with results, it says these.
    """
    results = givenResults(question.content)
    if results:
        return [Say("".join(f"[{text}]" for _, text in results))]
    rounds, _ = json.JSONDecoder().raw_decode(lastUserText(question.content).rpartition(MARK)[2])
    own = f"of{rounds[0]['calls'][0]['args']['agent']}"
    rivals = [tool["inputSchema"]["properties"] for tool in question.tools if usual(tool["name"]) == "rival"]
    if not all(own in properties for properties in rivals):
        return [Fail("The model is offered another agent's tool.")]
    offered = {usual(tool["name"]): tool["name"] for tool in question.tools}
    return [ListStartup(), *(_round(offered, **each) for each in rounds)]


def usual(name: str) -> str:
    """
    Return the name that its client gave a tool.
    """
    return re.sub(r"_\d+\Z", "", name)


def _round(offered: Mapping[str, str], calls: Sequence[Mapping[str, Any]], gap: float) -> Step:
    made = []
    for call in calls:
        name = offered[call["name"]]
        made.append(Call(name, {**call, "chi": "tool-call", "toolName": name, "name": name}))
    return CallTools(made, gap)


class Watch:
    """
    Sees what models are offered and call.

    @ivar called: the number of each call that was made, and its sid.
    @ivar unrouted: those that the daemon could not route.
    @ivar wanted: by sid, the names that its first prompt's agent declared.
    @ivar offers: what the process of each sid was given, each time it said so.
    """

    def __init__(self, recorder: StrictRecorder, agents: Sequence[Agent]) -> None:
        self.wanted: dict[str, list[str]] = {}
        self.called: list[tuple[int, str]] = []
        self.unrouted: list[tuple[int, str]] = []
        self.offers: list[tuple[str, list[str]]] = []
        self._recorder = recorder
        self._agents = agents

    def connected(self, connection: int) -> None:
        self._recorder.connected(connection)

    def lineReceived(self, line: bytes, connection: int) -> None:
        self._recorder.lineReceived(line, connection)
        tone = json.loads(line)
        number = re.search(r'"agent": ?(\d+)', tone.get("content", ""))
        if number is not None:
            self.wanted.setdefault(tone["sid"], self._agents[int(number[1])].names)

    def toneSent(self, line: bytes, connection: int) -> None:
        self._recorder.toneSent(line, connection)
        tone = json.loads(line)
        if tone["chi"] == "tool-call":
            call = (tone["args"]["number"], tone["sid"])
            self.called.append(call)
            self.unrouted += [call] if "sigil" in tone else []
        elif tone["chi"] == "session-ready":
            names = [name.removeprefix("mcp__hum__") for name in tone["tools"] if name.startswith("mcp")]
            self.offers.append((tone["sid"], sorted(map(usual, names))))


@dataclass
class Agent:
    """
    One client, which asks, runs the tools that it is asked to, and asks again.

    @ivar tools: what it declares with its question.
    @ivar questions: how many it will ask yet.
    @ivar seen: the numbers of the calls that it was given.
    """

    number: int
    chance: Random
    questions: int = 3
    tools: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    client: Client | None = None
    wakesAt: float = 0.0

    @property
    def names(self) -> list[str]:
        """
        The names of its tools.
        """
        return sorted(tool["function"]["name"] for tool in self.tools)

    @property
    def isDone(self) -> bool:
        """
        It has asked all and has all answers.
        """
        return not self.questions and self.client is None and self.messages[-1]["role"] == "assistant"

    def chooseTools(self) -> None:
        """
        Some of its own, and perhaps some that others declare too.
        """
        own = [f"agent{self.number}_{letter}" for letter in "abc"[: self.chance.randint(1, 3)]]
        rival = {"type": "object", "properties": {f"of{self.number}": {"type": "string"}}}
        others = [COMMON, {"type": "function", "function": {"name": "rival", "parameters": rival}}]
        self.tools = [
            *({"type": "function", "function": {"name": name}} for name in own),
            *self.chance.sample(others, self.chance.randint(0, 2)),
        ]

    def question(self, numbers: Sequence[int]) -> dict[str, Any]:
        """
        A message that has the model call tools.

        @param numbers: of the calls.
        """
        rounds, left = [], list(numbers)
        while left:
            count = min(len(left), self.chance.randint(1, 3))
            made, left = left[:count], left[count:]
            calls = [
                {"name": self.chance.choice(self.names), "args": {"agent": self.number, "number": each}}
                for each in made
            ]
            rounds.append({"calls": calls, "gap": self.chance.choice((0.0, 0.01, 0.1))})
        return {"role": "user", "content": MARK + json.dumps(rounds)}


class AgentsTests(SyncCase):
    """
    Agents that all begin at once and take their time.
    """

    def test_whatTheServerSaysArrivesWhole(self) -> None:
        """
        Prompts and hellos of one write are read at once.
        """
        for seed in range(25):
            self._serve(Random(seed), isHalting=False)

    def test_whatTheServerSaysArrivesInPieces(self) -> None:
        """
        Turns begin and go on between a prompt and the hellos around it.
        """
        for seed in range(25):
            self._serve(Random(seed), isHalting=True)

    def _serve(self, chance: Random, *, isHalting: bool) -> None:
        daemonSettings = {"models": {**TEST_MODELS, "agent": model}, "startUp": 2.0, "idleTime": 8.0}
        world = LoadedWorld(self, chance, daemonSettings=daemonSettings, queueTimeout=1000)
        agents = [Agent(number, chance) for number in range(AGENTS)]
        watch = Watch(world.recorder, agents)
        world.daemon.observer = watch
        world.isHalting = isHalting
        while not all(agent.isDone for agent in agents):
            self.assertLess(world.clock.seconds(), 1000, "it does not come to an end")
            for agent in agents:
                self._act(world, agent)
            world.turn(chance.choice((0.001, 0.05, 0.2)))
        world.isHalting = False
        self._check(world, watch, agents)

    def _act(self, world: LoadedWorld, agent: Agent) -> None:
        now = world.clock.seconds()
        if agent.client is not None:
            agent.client.wire.read()
            if agent.client.isComplete:
                self._read(agent, agent.client)
                agent.client.leave()
                world.clients.remove(agent.client)
                agent.client = None
                agent.wakesAt = now + agent.chance.choice((0.0, 0.1, agent.chance.uniform(0, 12)))
        elif now >= agent.wakesAt and not agent.isDone:
            if not agent.messages or agent.messages[-1]["role"] == "assistant":
                self._ask(agent)
            self._post(world, agent)

    def _ask(self, agent: Agent) -> None:
        # The first two questions are one talk, the third has other tools.
        agent.questions -= 1
        if agent.questions != 1:
            agent.chooseTools()
        first = agent.number * 100 + agent.questions * 10
        agent.messages.append(agent.question(range(first, first + agent.chance.randint(1, 6))))

    def _post(self, world: LoadedWorld, agent: Agent) -> None:
        agent.client = world.client().post(
            {
                "model": "agent",
                "messages": agent.messages,
                "tools": agent.tools,
                "stream": agent.chance.random() < 0.5,
            },
            x_hum_session=f"agent{agent.number}",
        )

    def _read(self, agent: Agent, client: Client) -> None:
        self.assertEqual(client.status, 200, client.wire.received[-500:])
        text = client.text if client.isStream else client.message["content"] or ""
        if text.startswith('["'):
            self.assertEqual(sorted(map(usual, json.JSONDecoder().raw_decode(text)[0])), agent.names)
        answer: dict[str, Any] = {"role": "assistant", "content": text or None}
        results = []
        for call in client.calls:
            args = json.loads(call["function"]["arguments"])
            self.assertEqual(args["agent"], agent.number, "a call of another agent's")
            agent.seen.append(args["number"])
            results.append(
                {"role": "tool", "tool_call_id": call["id"], "content": f"result {args['number']}"}
            )
        if results:
            answer["tool_calls"] = [{"type": "function", **call} for call in client.calls]
        agent.messages += [answer, *results]

    def _check(self, world: LoadedWorld, watch: Watch, agents: Sequence[Agent]) -> None:
        seen = Counter(number for agent in agents for number in agent.seen)
        called = Counter(number for number, _ in watch.called)
        self.assertEqual(watch.unrouted, [], "a route was lost")
        self.assertEqual(seen - called, Counter(), "a call was given twice")
        self.assertEqual(called - seen, Counter(), "a call was lost")
        self.assertEqual(world.sent("cancel"), [])
        for sid, names in watch.offers:
            self.assertEqual(names, watch.wanted[sid])
        self.assertEqual(set(world.ends), {"ok"})
        world.settle()
