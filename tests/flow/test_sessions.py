"""
What continues when: which session each request gets, as its client is told
and as the daemon sees it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openai_server.embedded.models import ModelPrompt
from openai_server.embedded.playback import Step
from openai_server.sessions.memory import Memory
from openai_server.web import asking, repair
from openai_server.web.mistakes import Bug
from tests.dialects import inBothAPIs
from tests.flow.support import FlowCase, Talk, function, steps, user
from tests.machinery.models import TEST_MODELS
from tests.machinery.steps import Say
from tests.world import Client, World

SYSTEM = {"role": "system", "content": "Whisper."}


def say(text: str) -> dict[str, Any]:
    """
    A user's message that is answered with this text.
    """
    return steps({"say": text})


@inBothAPIs
class TranscriptTests(FlowCase):
    """
    Clients that show their transcript.
    """

    def test_onlyTheNewMessageIsSent(self) -> None:
        """
        A transcript that extends an answered one goes on in its warm session,
        which is told no more than what is new; whole and streamed.
        """
        for stream in (False, True):
            world = World(self)
            talk = Talk(world, stream=stream)
            self.assertSaid(talk.ask(SYSTEM, say("One.")), "One.", "new")
            self.assertSaid(talk.ask(say("Two.")), "Two.", "continued")
            self.assertSaid(talk.ask(say("Three.")), "Three.", "continued")
            self.assertEqual(len(set(self.sids(world))), 1)
            self.assertEqual(self.contents(world)[2], say("Three.")["content"])
            world.settle()

    def test_slashAtTheBeginning(self) -> None:
        """
        (X29) A message that the CLI would take for a command of its own, of
        which the model sees nothing, reaches it, in a fresh session and in a
        warm one.
        """
        world = World(self)
        talk = Talk(world, model="echo")
        self.assertSaid(talk.ask(user("/compact now")), " /compact now", "new")
        self.assertSaid(talk.ask(user("/cost")), " /cost", "continued")
        self.assertEqual(self.contents(world), [" /compact now", " /cost"])
        world.settle()

    def test_severalNewMessages(self) -> None:
        """
        All that is new, and nothing else.
        """
        world = World(self)
        talk = Talk(world)
        talk.ask(say("One."))
        later = {"role": "system", "content": "Sing."}
        self.assertSaid(talk.ask(user("And then:"), later, say("Two.")), "Two.", "continued")
        content = self.contents(world)[1]
        self.assertIn("And then:", content)
        self.assertIn("Sing.", content)
        self.assertNotIn("One.", content)
        world.settle()

    def test_systemPromptIsSentAgain(self) -> None:
        """
        A process that was idle for too long is started anew, and reads what
        the latest prompt says.
        """
        world = World(self)
        talk = Talk(world)
        talk.ask(SYSTEM, say("One."))
        world.advance(301)
        client = talk.ask(steps({"options": 1}))
        self.assertEqual(client.header("x-hum-session"), "continued")
        self.assertEqual(json.loads(client.message["content"])["system"], "Whisper.")
        world.settle()

    def test_sameWordsInAnotherForm(self) -> None:
        """
        Parts for a string, C{developer} for C{system}, white space around.
        """
        world = World(self)
        talk = Talk(world)
        talk.ask(SYSTEM, say("One."))
        first = say("One.")["content"]
        talk.messages = [
            {"role": "developer", "content": "Whisper."},
            user([{"type": "text", "text": first}]),
            {"role": "assistant", "content": [{"type": "text", "text": " One.\n"}]},
        ]
        self.assertSaid(talk.ask(say("Two.")), "Two.", "continued")
        world.settle()

    def test_editedTranscript(self) -> None:
        """
        Another question, another answer, or a message left out: a fresh
        session that is told everything.
        """
        for edited in range(4):
            world = World(self)
            talk = Talk(world)
            talk.ask(say("One."))
            talk.ask(say("Two."))
            role = talk.messages[edited]["role"]
            talk.messages[edited] = {"role": role, "content": f"Edited {edited}."}
            # What precedes the edit is known, where something does.
            kind = "forked" if edited >= 2 else "new"
            self.assertSaid(talk.ask(say("Three.")), "Three.", kind)
            first, _, third = self.sids(world)
            self.assertNotEqual(first, third)
            self.assertIn(f"Edited {edited}.", self.contents(world)[2])
            self.assertIn("Three.", self.contents(world)[2])
            world.settle()

    def test_anotherAnswerToTheSameQuestion(self) -> None:
        """
        A transcript that ends where an answer was given already.
        """
        world = World(self)
        talk = Talk(world)
        talk.ask(say("One."))
        talk.ask(say("Two."))
        del talk.messages[3:]
        question = talk.messages.pop()
        self.assertSaid(talk.ask(question), "Two.", "forked")
        self.assertEqual(len(set(self.sids(world))), 2)
        self.assertSaid(talk.ask(say("Three.")), "Three.", "continued")
        self.assertEqual(self.sids(world)[3], self.sids(world)[2])
        world.settle()

    def test_bothBranchesGoOn(self) -> None:
        """
        After an edit there are two warm sessions, and each request finds its
        own.
        """
        world = World(self)
        talk = Talk(world)
        talk.ask(say("One."))
        branch = Talk(world)
        branch.messages = [*talk.messages]
        talk.ask(say("Left."))
        self.assertSaid(branch.ask(say("Right.")), "Right.", "forked; why=history")
        self.assertSaid(talk.ask(say("Left again.")), "Left again.", "continued")
        self.assertSaid(branch.ask(say("Right again.")), "Right again.", "continued")
        left, right = self.sids(world)[1:3]
        self.assertEqual(self.sids(world)[3:], [left, right])
        world.settle()

    def test_whatAWarmProcessWouldIgnore(self) -> None:
        """
        U33: another system prompt, model, set of tools, format of the answer
        or wish about calls holds: fresh session, whole transcript.
        """
        schema = {"name": "a", "schema": {"type": "object"}}
        for change, why in (
            ({"model": "tool-one"}, "model"),
            ({"tools": [function("smell")]}, "tools"),
            ({"tools": [function("look", at={"type": "string"})]}, "tools"),
            ({"tools": []}, "tools"),
            ({"tool_choice": "required"}, "tools"),
            ({"tool_choice": "none"}, "tools"),
            ({"parallel_tool_calls": False}, "tools"),
            ({"response_format": {"type": "json_object"}}, "format"),
            ({"response_format": {"type": "json_schema", "json_schema": schema}}, "format"),
            ({"system": {"role": "system", "content": "Shout."}}, "system"),
            ({"system": None}, "system"),
        ):
            fields: dict[str, Any] = {**change}
            world = World(self)
            talk = Talk(world, tools=[function()])
            talk.ask(SYSTEM, say("One."))
            if "system" in fields:
                system = fields.pop("system")
                talk.messages[:1] = [] if system is None else [system]
            client = talk.post(user("Two."), **fields)
            world.advance(1)
            said = client.status, client.header("x-hum-session")
            self.assertEqual(said, (200, f"forked; why={why}"), change)
            first, second, *_ = self.sids(world)
            self.assertNotEqual(first, second, change)
            self.assertIn("One.", self.contents(world)[1])
            world.advance(61)
            world.settle()

    def test_wishesThatDoNotStick(self) -> None:
        """
        What goes out with each prompt may change.
        """
        for change in ({"temperature": 0.5}, {"max_tokens": 5}, {"seed": 1}, {"stream": True}, {"stop": "x"}):
            if not self.api.knows(*change):
                continue
            world = World(self)
            talk = Talk(world)
            talk.ask(say("One."))
            self.assertSaid(talk.ask(say("Two."), **change), "Two.", "continued")
            world.settle()

    def test_toolsInAnotherOrder(self) -> None:
        """
        It is a set.
        """
        world = World(self)
        talk = Talk(world, tools=[function("look"), function("smell")])
        talk.ask(say("One."))
        tools = [function("smell"), function("look")]
        self.assertSaid(talk.ask(say("Two."), tools=tools), "Two.", "continued")
        world.settle()

    def test_busySession(self) -> None:
        """
        X5: a request with its transcript never waits: while its session
        answers another one it gets a fresh one.
        """
        world = World(self)
        talk = Talk(world)
        talk.ask(say("One."))
        branch = Talk(world)
        branch.messages = [*talk.messages]
        slow = talk.post(steps({"say": "Slow"}, {"sleep": 2}, {"say": "ly."}))
        self.assertSaid(branch.ask(say("Fast.")), "Fast.", "forked; why=busy")
        world.advance(3)
        self.assertSaid(slow, "Slowly.", "continued")
        world.settle()

    def test_sameRequestTwiceAtOnce(self) -> None:
        """
        X5, X7: two clients with the very same words, each in a session of its
        own, where both go on.
        """
        world = World(self)
        one, other = Talk(world), Talk(world)
        for talk in (one, other):
            talk.post(say("Hi."))
        world.advance(1)
        for talk in (one, other):
            assert talk.last is not None
            self.assertSaid(talk.heard(talk.last), "Hi.", "new")
        self.assertEqual(len(set(self.sids(world))), 2)
        self.assertSaid(one.ask(say("Me.")), "Me.", "continued")
        self.assertSaid(other.ask(say("And me.")), "And me.", "continued")
        self.assertEqual(set(self.sids(world)[:2]), set(self.sids(world)[2:]))
        world.settle()

    def test_otherKeysNeverShare(self) -> None:
        """
        X7: the same transcript under another key is unknown, under the same
        name of a session too.
        """
        self.withAccounts()
        world = World(self)
        mine = Talk(world, {"x-account": "mine", "x-hum-session": "default"})
        mine.ask(say("One."))
        theirs = Talk(world, {"x-account": "theirs", "x-hum-session": "default"})
        theirs.messages = [*mine.messages]
        self.assertSaid(theirs.ask(say("Two.")), "Two.", "new")
        theirs.messages = []
        self.assertSaid(theirs.ask(say("Three.")), "Three.", "continued")
        self.assertSaid(mine.ask(say("Four.")), "Four.", "continued")
        first, second, third, fourth = self.sids(world)
        self.assertEqual((first, second), (fourth, third))
        self.assertNotEqual(first, second)
        world.settle()

    def test_continuationOff(self) -> None:
        """
        C{continuation} off: a fresh session each time, whatever is said.
        """
        world = World(self, continuation=False)
        talk = Talk(world, {"x-hum-session": "notes"}, user="me")
        self.assertSaid(talk.ask(say("One.")), "One.", "new")
        self.assertSaid(talk.ask(say("Two.")), "Two.", "new")
        talk.messages = []
        self.assertSaid(talk.ask(say("Three.")), "Three.", "new")
        self.assertEqual(len(set(self.sids(world))), 3)
        self.assertIn("One.", self.contents(world)[1])
        world.settle()

    def test_lostMemory(self) -> None:
        """
        Another process of this server knows nothing, and answers right all
        the same: only colder.
        """
        earlier = World(self)
        talk = Talk(earlier, {"x-hum-session": "notes"})
        talk.ask(say("One."))
        talk.world = world = World(self)
        self.assertSaid(talk.ask(say("Two.")), "Two.", "new")
        self.assertIn("One.", self.contents(world)[0])
        self.assertSaid(talk.ask(say("Three.")), "Three.", "continued")
        world.settle()

    def test_memoryIsBounded(self) -> None:
        """
        The session that was used longest ago makes place.
        """
        self.patch(asking, "_memoryFrom", lambda configuration: Memory(sessions=2))
        world = World(self)
        talks = [Talk(world, {"x-hum-session": f"s{n}"}) for n in range(3)]
        for talk in talks:
            talk.ask(say("One."))
        kinds = [talk.ask(say("Two.")).header("x-hum-session") for talk in reversed(talks)]
        self.assertEqual(kinds[:2], ["continued", "continued"])
        self.assertNotEqual(kinds[2], "continued")
        self.assertIn("One.", self.contents(world)[-1])
        world.settle()


@inBothAPIs
class AnswerTests(FlowCase):
    """
    What the client shows as the earlier answer must be what it was given.
    """

    def test_fence(self) -> None:
        """
        A fence that was cut off is not missed.
        """
        for stream in (False, True):
            world = World(self)
            talk = Talk(world, response_format={"type": "json_object"}, stream=stream)
            self.assertSaid(talk.ask(steps({"say": '```json\n{"a": 1}\n```', "parts": 5})), '{"a": 1}', "new")
            self.assertSaid(talk.ask(say('{"b": 2}')), '{"b": 2}', "continued")
            world.settle()

    def test_repairedAnswer(self) -> None:
        """
        The repair is asked in the same session and counted with the first
        turn; the answer that is given is what the session has seen.
        """

        def model(question: ModelPrompt) -> Sequence[Step]:
            return [Say('{"a": 1}' if "is not valid against" in question.content else "{}")]

        world = World(self, daemonSettings={"models": {**TEST_MODELS, "sloppy": model}})
        wanted = {"name": "a", "schema": {"type": "object", "required": ["a"]}}
        format = {"type": "json_schema", "json_schema": wanted}
        talk = Talk(world, model="sloppy", response_format=format)
        client = talk.ask(user("Go."))
        self.assertSaid(client, '{"a": 1}', "new")
        self.assertEqual(client.header("x-hum-schema"), "repaired")
        self.assertEqual(client.usage["total_tokens"], 2 * (10 + 30 + 20 + 42))
        first, second = self.sids(world)
        self.assertEqual(first, second)
        # The answer given is what the session has seen: it goes on.
        self.assertSaid(talk.ask(user("Again.")), '{"a": 1}', "continued")
        self.assertEqual((self.sids(world)[2], self.contents(world)[2]), (first, "Again."))
        world.settle()

    def test_mistakeInARepair(self) -> None:
        """
        The client is told, and does not wait for ever.
        """
        checks = iter(("invalid",))
        self.patch(repair, "checkAnswer", lambda *_: next(checks))
        world = World(self)
        wanted = {"name": "a", "schema": {"type": "object"}}
        format = {"type": "json_schema", "json_schema": wanted}
        client = world.ask([user("{}")], model="echo", response_format=format)
        world.advance(5)
        self.assertRefused(client, 500, "internal_error")
        self.assertEqual(len(self.flushLoggedErrors(Bug)), 1)
        world.settle()

    def test_clientThatLeavesDuringARepair(self) -> None:
        """
        The second turn is cancelled as the first would be.
        """
        world = World(self)
        wanted = {"name": "a", "schema": {"type": "object", "required": ["a"]}}
        format = {"type": "json_schema", "json_schema": wanted}
        client = world.script({"say": "{}"}, response_format=format)
        world.until(lambda: len(world.sent("prompt")) == 2)
        client.leave()
        self.assertEqual(len(world.sent("cancel")), 1)
        world.advance(40)
        world.settle()

    def test_reasoningIsNoPartOfIt(self) -> None:
        """
        Clients may send it back or not.
        """
        for echoed in ({}, {"reasoning_content": "Hm."}, {"reasoning": "Hm."}):
            world = World(self)
            talk = Talk(world)
            talk.ask(steps({"think": "Hm."}, {"say": "One."}))
            talk.messages[-1] = {"role": "assistant", "content": "One.", **echoed}
            self.assertSaid(talk.ask(say("Two.")), "Two.", "continued")
            world.settle()

    def test_failedTurn(self) -> None:
        """
        Its sid is never used again, though the client may show half of its
        answer.
        """
        world = World(self)
        talk = Talk(world, stream=True)
        client = talk.post(steps({"say": "Half."}, {"exit": 1}))
        world.advance(1)
        self.assertEqual(client.failure and client.failure["code"], self.api.code("worker_error"))
        talk.messages.append({"role": "assistant", "content": "Half."})
        self.assertSaid(talk.ask(say("Two.")), "Two.")
        self.assertEqual(len(set(self.sids(world))), 2)
        world.settle()

    def test_cancelledTurn(self) -> None:
        """
        U24, U26: nor is that of a client that left.
        """
        world = World(self)
        talk = Talk(world, {"x-hum-session": "notes"}, stream=True)
        talk.ask(say("One."))
        client = talk.post(steps({"say": "Half."}, {"sleep": 1}))
        world.advance(0.5)
        client.leave()
        talk.messages.append({"role": "assistant", "content": "Half."})
        self.assertSaid(talk.ask(say("Two.")), "Two.")
        talk.messages = []
        first, _, fresh = self.sids(world)
        self.assertNotEqual(first, fresh)
        self.assertSaid(talk.ask(say("Three.")), "Three.", "continued")
        self.assertEqual(self.sids(world)[3], fresh)
        world.settle()

    def test_requestThatWasRefused(self) -> None:
        """
        Nothing was asked: the session is as it was.
        """
        world = World(self)
        talk = Talk(world)
        talk.ask(say("One."))
        before = list(talk.messages)
        broken = {"type": "image_url", "image_url": {"url": "data:image/png;base64,!!"}}
        self.assertEqual(talk.ask(user([broken])).status, 400)
        talk.messages = before
        self.assertSaid(talk.ask(say("Two.")), "Two.", "continued")
        world.settle()


class StopTests(FlowCase):
    """
    Stop strings, which only chat can ask for.
    """

    def test_stopString(self) -> None:
        """
        The worker said more than the client knows: that session is not gone
        on with, and its sid never used again.
        """
        for stream in (False, True):
            world = World(self)
            talk = Talk(world, stop="STOP", stream=stream)
            self.assertSaid(talk.ask(say("One. STOP Two.")), "One. ", "new")
            self.assertEqual(len(world.sent("cancel")), 1)
            self.assertSaid(talk.ask(say("Three.")), "Three.", "forked; why=gone")
            first, second = self.sids(world)
            self.assertNotEqual(first, second)
            self.assertNotIn("Two.", self.contents(world)[1].replace(say("One. STOP Two.")["content"], ""))
            world.settle()

    def test_stopStringThatIsNotMet(self) -> None:
        """
        A wish for one does no harm.
        """
        world = World(self)
        talk = Talk(world, stop="STOP")
        self.assertSaid(talk.ask(say("One. ST")), "One. ST", "new")
        self.assertSaid(talk.ask(say("Two.")), "Two.", "continued")
        world.settle()


@inBothAPIs
class LoneMessageTests(FlowCase):
    """
    Clients that leave the history to the server.
    """

    def lone(self, world: World, text: str, headers: Any = None, **fields: Any) -> Client:
        """
        Ask with one user's message.
        """
        return Talk(world, headers, **fields).ask(say(text))

    def test_underANameOfASession(self) -> None:
        """
        The session last used under that name goes on, and is told the new
        message alone.
        """
        world = World(self)
        headers = {"x-hum-session": "notes"}
        self.assertSaid(self.lone(world, "One.", headers), "One.", "new")
        self.assertSaid(self.lone(world, "Two.", headers), "Two.", "continued")
        self.assertEqual(len(set(self.sids(world))), 1)
        self.assertEqual(self.contents(world)[1], say("Two.")["content"])
        world.settle()

    def test_underWhatNamesNoSession(self) -> None:
        """
        Chat ids of clients and session ids of tracers come with title prompts
        and unrelated calls too: a lone message with one begins anew, and a
        transcript goes on as without.
        """
        for headers, fields in (
            ({"x-session-id": "notes"}, {}),
            ({"x-openwebui-chat-id": "notes"}, {}),
            ({"x-litellm-session-id": "notes"}, {}),
            ({}, {"metadata": {"session_id": "notes", "chat_id": "notes"}}),
            ({}, {"session_id": "notes", "chat_id": "notes", "prompt_cache_key": "notes"}),
        ):
            world = World(self)
            talk = Talk(world, headers, **fields)
            self.assertSaid(talk.ask(say("One.")), "One.", "new")
            self.assertSaid(self.lone(world, "A title", headers, **fields), "A title", "new")
            self.assertSaid(talk.ask(say("Two.")), "Two.", "continued")
            self.assertEqual(len(set(self.sids(world))), 2)
            world.settle()

    def test_underAnotherName(self) -> None:
        """
        X7: two names, two sessions; and a user of the same name is neither.
        """
        world = World(self)
        self.lone(world, "One.", {"x-hum-session": "notes"})
        self.assertSaid(self.lone(world, "Two.", {"x-hum-session": "other"}), "Two.", "new")
        self.assertSaid(self.lone(world, "Three.", user="notes"), "Three.", "new")
        world.settle()

    def test_underNothingAtAll(self) -> None:
        """
        A lone message is a new chat.
        """
        world = World(self)
        self.lone(world, "One.")
        self.assertSaid(self.lone(world, "Two."), "Two.", "new")
        world.settle()

    def test_underACacheKey(self) -> None:
        """
        C{prompt_cache_key} alone never continues a lone message.
        """
        world = World(self)
        self.lone(world, "One.", prompt_cache_key="k")
        client = self.lone(world, "Two.", prompt_cache_key="k")
        self.assertNotEqual(client.header("x-hum-session"), "continued")
        self.assertEqual(len(set(self.sids(world))), 2)
        world.settle()

    def test_underAUser(self) -> None:
        """
        C{userHint} C{auto}: it goes on as long as this user's client has
        never shown history.
        """
        world = World(self)
        self.lone(world, "One.", user="me")
        self.assertSaid(self.lone(world, "Two.", user="me"), "Two.", "continued")
        self.assertSaid(self.lone(world, "Three.", user="you"), "Three.", "new")
        world.settle()

    def test_sidePromptOfAUserWithHistory(self) -> None:
        """
        The client resends its transcripts: its title prompt gets a fresh
        session, and the chat goes on as if there had been none.
        """
        world = World(self)
        talk = Talk(world, user="me")
        talk.ask(say("One."))
        talk.ask(say("Two."))
        title = self.lone(world, "A title", user="me")
        self.assertSaid(title, "A title", "forked; why=hint")
        self.assertSaid(talk.ask(say("Three.")), "Three.", "continued")
        first, second, side, last = self.sids(world)
        self.assertEqual((first, second), (second, last))
        self.assertNotEqual(side, first)
        world.settle()

    def test_userAlways(self) -> None:
        """
        C{userHint} C{always}: it goes on whatever was shown.
        """
        world = World(self, userHint="always")
        talk = Talk(world, user="me")
        talk.ask(say("One."))
        talk.ask(say("Two."))
        self.assertSaid(self.lone(world, "Three.", user="me"), "Three.", "continued")
        world.settle()

    def test_userNever(self) -> None:
        """
        C{userHint} C{never}: a transcript goes on, a lone message does not.
        """
        world = World(self, userHint="never")
        self.lone(world, "One.", user="me")
        self.assertSaid(self.lone(world, "Two.", user="me"), "Two.", "forked; why=hint")
        talk = Talk(world, user="me")
        talk.ask(say("Three."))
        self.assertSaid(talk.ask(say("Four.")), "Four.", "continued")
        world.settle()

    def test_systemPromptOfTheSessionIsKept(self) -> None:
        """
        A lone message that says nothing of one has not changed it: it goes
        out again.
        """
        world = World(self)
        Talk(world, {"x-hum-session": "notes"}).ask(SYSTEM, say("One."))
        world.advance(301)
        client = Talk(world, {"x-hum-session": "notes"}).ask(steps({"options": 1}))
        self.assertEqual(client.header("x-hum-session"), "continued")
        self.assertEqual(json.loads(client.message["content"])["system"], "Whisper.")
        world.settle()

    def test_otherTermsUnderTheSameName(self) -> None:
        """
        U33: what the request says holds, though the session knows more.
        """
        wanted = {"type": "json_object"}
        for change, why in (
            ({"model": "echo"}, "model"),
            ({"tools": [function()]}, "tools"),
            ({"response_format": wanted}, "format"),
        ):
            world = World(self)
            self.lone(world, "One.", {"x-hum-session": "notes"})
            fields: dict[str, Any] = {**change}
            client = Talk(world, {"x-hum-session": "notes"}, **fields).ask(say("Two."))
            self.assertEqual(client.header("x-hum-session"), f"forked; why={why}")
            self.assertEqual(len(set(self.sids(world))), 2)
            world.settle()

    def test_toolsWithoutHistory(self) -> None:
        """
        The results of calls find their turn by its ids alone, and the talk
        goes on behind them.
        """
        world = World(self)
        talk = Talk(world, {"x-hum-session": "notes"}, tools=[function()])
        talk.ask(steps({"tool": "look", "args": {}}, {"say": "."}))
        results = talk.resultsOf("grey")
        talk.messages = []
        self.assertSaid(talk.ask(*results), "[grey].", "continued")
        talk.messages = []
        self.assertSaid(talk.ask(say("Next.")), "Next.", "continued")
        self.assertEqual(len(set(self.sids(world))), 1)
        world.settle()

    def test_messageInPlaceOfResults(self) -> None:
        """
        X24: without history nothing says that the message is instead of the
        results: it waits, at last for the park's deadline.
        """
        world = World(self, parkTimeout=10)
        talk = Talk(world, {"x-hum-session": "notes"}, tools=[function()])
        talk.ask(steps({"tool": "look", "args": {}}))
        talk.messages = []
        client = talk.post(say("Never mind."))
        world.advance(9)
        self.assertIsNone(client.status)
        world.advance(2)
        self.assertSaid(client, "Never mind.", "continued")
        world.settle()

    def test_waitsForItsSession(self) -> None:
        """
        X5: one live turn a sid; the message is asked when the one before it
        has been answered.
        """
        world = World(self)
        headers = {"x-hum-session": "notes"}
        slow = Talk(world, headers).post(steps({"say": "Slow."}, {"sleep": 5}))
        later = Talk(world, headers).post(say("Later."))
        world.advance(4)
        self.assertEqual(len(self.sids(world)), 1)
        world.advance(3)
        self.assertSaid(slow, "Slow.", "new")
        self.assertSaid(later, "Later.", "continued")
        self.assertEqual(len(set(self.sids(world))), 1)
        world.settle()

    def test_waitsInOrder(self) -> None:
        """
        X5: first come, first served.
        """
        world = World(self)
        headers = {"x-hum-session": "notes"}
        for n in range(4):
            Talk(world, headers).post(steps({"say": f"{n}"}, {"sleep": 1}))
        world.advance(8)
        self.assertEqual([client.message["content"] for client in world.clients], ["0", "1", "2", "3"])
        order = [content.partition('"say": "')[2][0] for content in self.contents(world)]
        self.assertEqual(order, ["0", "1", "2", "3"])
        self.assertEqual(len(set(self.sids(world))), 1)
        world.settle()

    def test_waitsNoLongerThanHalfAMinute(self) -> None:
        """
        X5: then 409, which an SDK may try again.
        """
        world = World(self)
        headers = {"x-hum-session": "notes"}
        slow = Talk(world, headers).post(steps({"say": "Slow."}, {"sleep": 40}))
        later = Talk(world, headers).post(say("Later."))
        world.advance(29)
        self.assertIsNone(later.status)
        world.advance(2)
        self.assertRefused(later, 409, "session_busy")
        self.assertIsNotNone(later.header("retry-after"))
        self.assertEqual(len(self.sids(world)), 1)
        world.advance(15)
        self.assertSaid(slow, "Slow.", "new")
        world.settle()

    def test_leavesWhileItWaits(self) -> None:
        """
        K6: nothing is asked for it.
        """
        world = World(self)
        headers = {"x-hum-session": "notes"}
        Talk(world, headers).post(steps({"say": "Slow."}, {"sleep": 5}))
        later = Talk(world, headers).post(say("Later."))
        world.advance(1)
        later.leave()
        world.advance(6)
        self.assertEqual(len(self.sids(world)), 1)
        self.assertSaid(self.lone(world, "Next.", headers), "Next.", "continued")
        world.settle()

    def test_underABusyUser(self) -> None:
        """
        It does not wait: C{user} may mean more than one conversation.
        """
        world = World(self)
        slow = Talk(world, user="me").post(steps({"say": "Slow."}, {"sleep": 5}))
        self.assertSaid(self.lone(world, "Fast.", user="me"), "Fast.", "forked; why=busy")
        world.advance(6)
        self.assertSaid(slow, "Slow.")
        world.settle()

    def test_afterTheClientBeforeItLeft(self) -> None:
        """
        U26: the session drains; the message waits for nobody and gets a fresh
        one.
        """
        world = World(self)
        headers = {"x-hum-session": "notes"}
        Talk(world, headers, stream=True).post(steps({"say": "Half."}, {"sleep": 20}))
        world.advance(0.5)
        waits = Talk(world, headers).post(say("Now."))
        world.advance(0.5)
        self.assertIsNone(waits.status)
        world.clients[0].leave()
        world.advance(1)
        self.assertSaid(waits, "Now.")
        self.assertEqual(len(set(self.sids(world))), 2)
        world.advance(25)
        world.settle()


@inBothAPIs
class HintTests(FlowCase):
    """
    What clients choose never goes anywhere.
    """

    def test_wildHints(self) -> None:
        """
        X8: no id of a client's choice is seen in a tone or in the log; each
        names a session all the same.
        """
        for hint in ("../CANARY", "CANARY:\r\n\r\nx", "CANARY\0", "CANARY" * 200_000, "CANARY'\"%s{x}"):
            world = World(self)
            talk = Talk(world, user=hint)
            talk.ask(say("One."))
            talk.messages = []
            self.assertSaid(talk.ask(say("Two.")), "Two.", "continued")
            self.assertNotIn("CANARY", json.dumps(world.recorder.tones))
            logged = [value for event in world.logged for value in event.values()]
            self.assertFalse(any("CANARY" in str(value) for value in logged))
            world.settle()


@inBothAPIs
class StrayTests(FlowCase):
    """
    Tones that are nobody's.
    """

    def test_tonesOfNobody(self) -> None:
        """
        X1, X3, X4: of a foreign session, of none, with an empty sid or one
        that is no string: nothing of them is shown or logged, and they are
        counted.
        """
        world = World(self)
        assert world.daemon.state is not None
        [ours] = world.daemon.state.clients
        client = world.script({"say": "Mine"}, {"sleep": 1}, {"say": " alone."}, stream=True)
        world.advance(0.5)
        text = {"chunkType": "text_delta", "blockIdx": 0, "delta": "CANARY"}
        for sid in ("foreign", "", None, 5, ["x"], {}):
            ours.sendTone(chi="chunk", sid=sid, **text)
            ours.sendTone(chi="finish", sid=sid, finishReason="success")
            ours.sendTone(chi="error", sid=sid, message="CANARY")
        ours.sendTone(chi="chunk", **text)
        world.advance(2)
        self.assertSaid(client, "Mine alone.")
        self.assertNotIn("CANARY", str(world.logged))
        self.assertGreater(world.link.counts["foreign_tones"], 0)
        world.settle()

    def test_strangersAnswer(self) -> None:
        """
        X3: a bee that owns nothing is given what nobody owns.
        """
        world = World(self)
        assert world.daemon.state is not None
        line = json.dumps({"chi": "chunk", "sid": "x", "chunkType": "text_delta", "delta": "CANARY"})
        world.daemon.state.deliver("x", [line.encode() + b"\n"])
        client = Talk(world).ask(say("Mine."))
        self.assertSaid(client, "Mine.")
        self.assertEqual(world.link.counts["foreign_tones"], 1)
        world.settle()

    def test_tonesOfAFinishedTurn(self) -> None:
        """
        X2, U13: what comes behind the end reaches nobody, and not the next
        request of that conversation.
        """
        world = World(self)
        assert world.daemon.state is not None
        talk = Talk(world)
        talk.ask(say("One."))
        [sid] = self.sids(world)
        late = {"chi": "chunk", "sid": sid, "chunkType": "text_delta", "delta": "CANARY"}
        world.daemon.state.deliver(sid, [json.dumps(late).encode() + b"\n"])
        self.assertSaid(talk.ask(say("Two.")), "Two.", "continued")
        self.assertEqual(world.link.counts["late_tones"], 1)
        world.settle()

    def test_manyTurnsAtOnce(self) -> None:
        """
        X6: twelve streams whose words come in turn; each client reads its own.
        """
        world = World(self, maxTurns=0)
        said = [" ".join(f"w{n}.{k}" for k in range(20)) for n in range(12)]
        for n, words in enumerate(said):
            world.script({"words": words, "pace": 0.01 + n / 1000}, stream=True)
        world.advance(2, 0.005)
        for client, words in zip(world.clients, said, strict=True):
            self.assertSaid(client, words)
        world.settle()


@inBothAPIs
class FolderTests(FlowCase):
    """
    C35: the folder that a worker works in.
    """

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(self.mktemp()).absolute()
        for name in ("one", "two"):
            (self.root / name).mkdir(parents=True)
        self.one, self.two = str(self.root / "one"), str(self.root / "two")

    def folders(self, world: World) -> list[Any]:
        """
        The folders of the prompts so far.
        """
        return [prompt.get("cwd") for prompt in world.sent("prompt")]

    def test_anotherFolderIsAnotherSession(self) -> None:
        """
        A conversation goes on in its folder, wherever that is said.
        """
        world = World(self, cwd="/usual", cwdRoots=(str(self.root),))
        talk = Talk(world)
        self.assertSaid(talk.ask(say("a")), "a", "new")
        self.assertSaid(talk.ask(say("b"), headers={"x-hum-cwd": self.one}), "b", "forked; why=cwd")
        self.assertSaid(talk.ask(say("c"), metadata={"cwd": self.one + "/"}), "c", "continued")
        self.assertSaid(talk.ask(say("d"), headers={"x-hum-cwd": self.two}), "d", "forked; why=cwd")
        both = {"headers": {"x-hum-cwd": self.two}, "metadata": {"cwd": self.one}}
        self.assertSaid(talk.ask(say("e"), **both), "e", "continued")
        self.assertEqual(self.folders(world), ["/usual", self.one, self.one, self.two, self.two])
        world.settle()

    def test_notAllowed(self) -> None:
        """
        403, and nothing is asked: outside, or where nothing is allowed.
        """
        for roots, said in (
            ((self.one,), {"x-hum-cwd": self.two}),
            ((self.one,), {"x-hum-cwd": f"{self.one}/../two"}),
            ((), {"x-hum-cwd": self.one}),
        ):
            world = World(self, cwdRoots=roots)
            self.assertRefused(Talk(world).post(say("a"), headers=said), 403, "cwd_not_allowed")
            asked = Talk(world).post(say("a"), metadata={"cwd": said["x-hum-cwd"]})
            self.assertRefused(asked, 403, "cwd_not_allowed")
            self.assertEqual(self.folders(world), [])
            world.settle()
