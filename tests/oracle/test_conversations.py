"""
Conversations, in any order of what can be done with them, against a plain
model: a list of texts for each.

C{ORACLE_EXAMPLES=1000} in the environment plays that many other games, and
looks for the shortest one that fails.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.flow.test_conversations import ConversationCase
from tests.flow.test_responses import plays, says, textOf
from tests.oracle.test_machine import Stand
from tests.support import SyncCase
from tests.world import Client, World


@dataclass
class Running:
    """
    A response that was asked for.

    @ivar said: what is added when it ends well; None where it will fail.
    """

    client: Client
    asked: str
    said: str | None


@dataclass
class Modelled:
    """
    What a conversation must be.

    @ivar texts: what its items say, in order.
    @ivar running: those that answer in it or wait for that, in order.
    """

    metadata: dict[str, str]
    texts: list[str]
    isDeleted: bool = False
    running: list[Running] = field(default_factory=list)


class ConversationMachine(RuleBasedStateMachine):
    """
    One client that knows what it has done.
    """

    def __init__(self, stand: Any) -> None:
        super().__init__()
        self._stand = stand
        self._world = World(stand)
        self._case = ConversationCase()
        self._known: dict[str, Modelled] = {}
        self._numbers = count()

    def _text(self) -> str:
        return f"text {next(self._numbers)}"

    def _one(self, data: st.DataObject) -> tuple[str, Modelled]:
        id = data.draw(st.sampled_from(sorted(self._known, key=list(self._known).index)), "conversation")
        return id, self._known[id]

    def _call(self, method: str, path: str, body: object = None, *, isGone: bool = False) -> Any:
        client = self._case.call(self._world, method, path, body)
        assert client.status == (404 if isGone else 200), (client.status, client.content)
        return client.json

    # What a client does.

    @rule(
        items=st.integers(0, 3),
        metadata=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    )
    def make(self, items: int, metadata: dict[str, str]) -> None:
        """
        Make one.
        """
        texts = [self._text() for _ in range(items)]
        made = self._call("POST", "", {"items": list(map(says, texts)), "metadata": metadata})
        self._known[made["id"]] = Modelled(metadata, texts)
        self._compare()

    @precondition(lambda self: self._known)
    @rule(data=st.data(), items=st.integers(1, 3))
    def add(self, data: st.DataObject, items: int) -> None:
        """
        Add items.
        """
        id, modelled = self._one(data)
        texts = [self._text() for _ in range(items)]
        self._call("POST", f"/{id}/items", {"items": list(map(says, texts))}, isGone=modelled.isDeleted)
        modelled.texts += texts
        self._compare()

    @precondition(lambda self: self._known)
    @rule(data=st.data())
    def takeAway(self, data: st.DataObject) -> None:
        """
        Delete an item.
        """
        id, modelled = self._one(data)
        if modelled.isDeleted or not modelled.texts:
            return
        at = data.draw(st.integers(0, len(modelled.texts) - 1), "item")
        item = self._case.itemsOf(self._world, id)[at]
        self._call("DELETE", f"/{id}/items/{item['id']}")
        self._call("DELETE", f"/{id}/items/{item['id']}", isGone=True)
        del modelled.texts[at]
        self._compare()

    @precondition(lambda self: self._known)
    @rule(data=st.data(), metadata=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2))
    def change(self, data: st.DataObject, metadata: dict[str, str]) -> None:
        """
        Give one other metadata.
        """
        id, modelled = self._one(data)
        self._call("POST", f"/{id}", {"metadata": metadata}, isGone=modelled.isDeleted)
        modelled.metadata = metadata
        self._compare()

    @precondition(lambda self: self._known)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """
        Delete one.
        """
        id, modelled = self._one(data)
        self._call("DELETE", f"/{id}", isGone=modelled.isDeleted)
        modelled.isDeleted = True
        self._compare()

    @precondition(lambda self: self._known)
    @rule(
        data=st.data(),
        end=st.sampled_from(["well", "well", "well", "fails", "leaves"]),
        isStreamed=st.booleans(),
        store=st.booleans(),
        duration=st.sampled_from([0.1, 1.0, 3.0]),
        wait=st.sampled_from([0.0, 0.1, 2.0, 8.0]),
    )
    def respond(
        self, data: st.DataObject, end: str, isStreamed: bool, store: bool, duration: float, wait: float
    ) -> None:
        """
        Ask in one, and wait for a while.
        """
        id, modelled = self._one(data)
        said = self._text()
        steps = plays({"sleep": duration}, {"result_error": "It broke"} if end == "fails" else {"say": said})
        # What is kept after its client has left ends when it likes.
        store = store and end != "leaves"
        client = self._case.post(self._world, steps, conversation=id, stream=isStreamed, store=store)
        if modelled.isDeleted:
            assert client.status == 404, client.content
            return
        asked: str = steps["content"]
        if end == "leaves":
            self._world.advance(0.05)
            client.leave()
        else:
            modelled.running.append(Running(client, asked, said if end == "well" else None))
        self.wait(wait)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        """
        Let time pass.
        """
        self._world.advance(seconds, 0.05)
        for modelled in self._known.values():
            while modelled.running and modelled.running[0].client.isComplete:
                self._ended(modelled, modelled.running.pop(0))
            assert not any(each.client.isComplete for each in modelled.running), "out of turn"
        self._compare()

    def _ended(self, modelled: Modelled, running: Running) -> None:
        client, said = running.client, running.said
        if client.status in (404, 409):
            assert modelled.isDeleted if client.status == 404 else said, client.content
        elif said is not None:
            assert textOf(client) == said
            modelled.texts += [running.asked, said]

    # What must be true.

    def _compare(self) -> None:
        for id, modelled in self._known.items():
            shown = self._call("GET", f"/{id}", isGone=modelled.isDeleted)
            self._call("GET", f"/{id}/items", isGone=modelled.isDeleted)
            if not modelled.isDeleted:
                assert shown["metadata"] == modelled.metadata, shown
                found = self._case.textsOf(self._world, id)
                assert found == modelled.texts, (found, modelled.texts)

    def teardown(self) -> None:
        """
        Wait for everything, and look whether anything is left.
        """
        for _ in range(20):
            self.wait(5.0)
        assert not any(modelled.running for modelled in self._known.values())
        assert "bug" not in self._world.ends
        self._world.settle()
        self._stand.close()


class ConversationMachineTests(SyncCase):
    """
    The game, played.
    """

    def test_anythingInAnyOrder(self) -> None:
        """
        Each conversation has what was said in it, in order and once.
        """
        given = os.environ.get("ORACLE_EXAMPLES")
        run_state_machine_as_test(
            lambda: ConversationMachine(Stand(self)),
            settings=settings(
                max_examples=int(given or 12),
                stateful_step_count=20,
                deadline=None,
                derandomize=given is None,
                database=None,
                phases=[Phase.generate, Phase.shrink] if given else [Phase.generate],
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
