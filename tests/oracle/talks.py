"""
What clients say, what a model makes of it, and what an answer may therefore
hold: a reference for the whole server that knows nothing of how it works.

A I{talk} is one client's conversation. Everything that is said in it, by the
client, by the model or by a tool, carries the talk's name, and each of the
client's messages a plan for the model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from openai_server.embedded.content import givenResults, lastUserText, sectionsOf
from openai_server.embedded.models import ModelPrompt
from openai_server.embedded.playback import Step
from tests.machinery.steps import Call, CallTools, Exit, Fail, Say, Silence, Vanish, reaching
from tests.oracle import tagged
from tests.world import Client

Message: TypeAlias = dict[str, Any]

_MARK = "#plan "
_ALSO = "\n\n[The user adds to this result:]\n"


@dataclass(frozen=True)
class Plan:
    """
    What the model does with a message: it says C{before} deltas, calls tools,
    says their results and C{after} deltas.

    @ivar gap: seconds between two calls.
    @ivar pace: seconds after each delta.
    @ivar fate: C{well}; otherwise what happens behind the first text.
    """

    tag: str
    before: int = 2
    calls: tuple[str, ...] = ()
    gap: float = 0.0
    after: int = 1
    pace: float = 0.0
    fate: str = "well"

    @property
    def message(self) -> Message:
        """
        The user's message that says so.
        """
        members = {"plan": self.tag, "before": self.before, "calls": self.calls, "gap": self.gap}
        text = _MARK + json.dumps({**members, "after": self.after, "pace": self.pace, "fate": self.fate})
        return {"role": "user", "content": text}

    @property
    def opening(self) -> str:
        """
        What is said before any call.
        """
        return "" if self.fate == "vanishing" else tagged.text(self.tag, self.before)

    @property
    def closing(self) -> str:
        """
        What is said when all results were.
        """
        return tagged.text(f"{self.tag}z", self.after)

    def steps(self) -> Sequence[Step]:
        """
        What the model does.
        """
        fates: Mapping[str, Step] = {"failing": Fail("It broke."), "dying": Exit(1), "hanging": Silence()}
        if self.fate == "vanishing":
            return [Vanish()]
        opening = tagged.Tell(self.tag, self.before, 0, self.pace)
        if self.fate != "well":
            return [opening, fates[self.fate]]
        if not self.calls:
            return [opening]
        args = {"of": self.tag}
        made = [Call(name, {"chi": "tool-call", "toolName": name, "args": args}) for name in self.calls]
        calls = CallTools(made, self.gap, "[{result}]", "[error {result}]")
        return [opening, calls, tagged.Tell(f"{self.tag}z", self.after, 0, self.pace)]


def agent(question: ModelPrompt) -> Sequence[Step] | None:
    """
    A model that does as planned. Where a prompt ends with results, it says
    these.
    """
    results = givenResults(question.content)
    if results:
        return [Say("".join(f"[{text}]" for _, text in results), 1)]
    _, _, written = lastUserText(question.content).rpartition(_MARK)
    members, _ = json.JSONDecoder().raw_decode(written)
    plan = Plan(members.pop("plan"), **{**members, "calls": tuple(members["calls"])})
    return reaching(plan.steps())


def plansIn(content: str) -> list[str]:
    """
    The names of the plans that the user's messages in a prompt have, in order.
    """
    sections = sectionsOf(content)
    said = [section.text for section in sections if section.header == "user"] if sections else [content]
    return [plan for text in said for plan in re.findall(r'\{"plan": "(\w+)"', text)]


def talksIn(text: str) -> set[str]:
    """
    The names of the talks that a text is of.
    """
    return set(re.findall(r"\b(talk\d+)q", text))


@dataclass(eq=False)
class Asked:
    """
    One request of a talk's.

    @ivar id: under which its end is logged.
    @ivar tag: of the plan that the model follows.
    @ivar texts: what a complete answer may be.
    @ivar isCertain: nothing is wrong that would excuse another outcome.
    @ivar sure: which of them it is, then.
    @ivar isPartial: it does not bring all results.
    @ivar mayComplete: its turn can come to a good end.
    @ivar hasLeft: its client went away.
    @ivar isDone: its outcome was looked at.
    """

    talk: Talk
    client: Client
    id: str
    tag: str
    messages: Sequence[Message]
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    texts: Sequence[str]
    isCertain: bool
    sure: str | None = None
    isPartial: bool = False
    mayComplete: bool = True
    hasLeft: bool = False
    isDone: bool = False
    leftAt: float = 0.0

    @property
    def text(self) -> str:
        """
        What it was told so far.
        """
        client = self.client
        if client.isStream:
            return client.text
        if client.isComplete and client.status == 200:
            return client.message["content"] or ""
        return ""

    @property
    def looksComplete(self) -> bool:
        """
        A client would take this for a whole answer.
        """
        return self.client.looksComplete

    @property
    def isOver(self) -> bool:
        """
        Nothing more will come.
        """
        return self.client.wire.how is not None or self.client.isComplete

    def check(self) -> None:
        """
        All that it was told is its own.
        """
        text = self.text
        assert talksIn(text) <= {self.talk.name}, (self.id, text)
        texts = [self.sure] if self.isCertain and self.sure is not None else self.texts
        assert any(own.startswith(text) for own in texts), (self.id, text, texts)
        if self.looksComplete:
            assert self.mayComplete and text in texts, (self.id, text, texts)
            for call in self.client.calls:
                assert json.loads(call["function"]["arguments"]) == {"of": self.tag}, (self.id, call)


@dataclass(eq=False)
class Talk:
    """
    One client's conversation.

    @ivar name: nobody else's.
    @ivar isLone: the client sends only what is new.
    @ivar tools: names.
    @ivar hints: what of its requests may name the session: headers and members.
    @ivar messages: what the client has of it.
    @ivar tag: of the last plan.
    @ivar pending: ids of calls that the last answer ended with.
    @ivar results: of the last plan, by call id, in the order of the calls.
    @ivar beganAt: when the last plan was sent.
    @ivar wasGiven: results for these calls have been posted before.
    """

    name: str
    isLone: bool
    tools: tuple[str, ...]
    hints: Mapping[str, str]
    messages: list[Message] = field(default_factory=list)
    plan: Plan = field(default_factory=lambda: Plan(""))
    count: int = 0
    pending: list[str] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)
    beganAt: float = 0.0
    wasGiven: bool = False
    asked: Asked | None = None

    @property
    def tag(self) -> str:
        return self.plan.tag

    @property
    def isNamed(self) -> bool:
        """
        A single message of it may be one more of a session.
        """
        return bool(self.hints.keys() & {"x-hum-session", "user"})

    @property
    def isBusy(self) -> bool:
        """
        It waits for an answer.
        """
        return self.asked is not None and not self.asked.isDone

    def nextPlan(self, **members: Any) -> Plan:
        """
        A plan for the next message.
        """
        self.count += 1
        return Plan(f"{self.name}q{self.count}", **members)

    def history(self, cut: int) -> Sequence[Message]:
        """
        What its client sends before a new message.

        @param cut: how many of the user's messages are taken back.
        """
        if self.isLone:
            return []
        places = [at for at, message in enumerate(self.messages) if message["role"] == "user"]
        return self.messages[: places[-cut:][0]] if cut and places else self.messages

    def begin(self, plan: Plan, now: float) -> None:
        """
        The client says something.
        """
        self.plan, self.beganAt = plan, now
        self.pending, self.results = [], {}

    def result(self, callId: str) -> str:
        """
        What a tool has found out.
        """
        return self.results.setdefault(callId, f"{self.tag}r{len(self.results)}")

    def resumedText(self, added: str = "") -> str:
        """
        What the waiting turn says when it has been given the results.

        @param added: what the user says besides, in the last of them.
        """
        found = list(self.results.values())
        if len(found) < len(self.plan.calls):
            return ""
        last = [f"[{found[-1]}{added and _ALSO + added}]"]
        return "".join([f"[{result}]" for result in found[:-1]] + last) + self.plan.closing

    def answered(self, asked: Asked) -> None:
        """
        The client has an answer: it is part of what was said.
        """
        calls = asked.client.calls
        answer: Message = {"role": "assistant", "content": asked.text or None}
        if calls:
            answer["tool_calls"] = [{"type": "function", **call} for call in calls]
        self.messages = [*asked.messages, answer]
        self.pending = [call["id"] for call in calls]
        self.wasGiven = False
