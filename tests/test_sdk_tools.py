"""
Function calling with the official C{openai} package: the loop that agents
run, over real sockets.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import openai
from openai.types.chat import ChatCompletionMessageToolCall
from pydantic import BaseModel

from tests.serving import ServingCase, inLoop, inThread, reasonsOf, script, textOf, user


class Weather(BaseModel):
    """
    Arguments of a tool.
    """

    city: str


def function(name: str, **properties: Any) -> dict[str, Any]:
    """
    A tool whose arguments are all required.
    """
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": "x", "parameters": parameters}}


TEXT = {"type": "string"}
WEATHER = function("get_weather", city=TEXT)
CLOCK = function("get_time", zone=TEXT)

#: What the tools give back.
Answers = Callable[[str, Mapping[str, Any]], str]


def worked(name: str, args: Mapping[str, Any]) -> str:
    """
    A result that tells of its call.
    """
    return f"{name}({', '.join(map(str, args.values()))})"


class ToolCase(ServingCase):
    """
    A client that answers the calls it is given.

    @ivar rounds: for each answer with calls, the name and arguments of each.
    @ivar messages: the whole conversation.
    """

    def setUp(self) -> Any:
        self.rounds: list[list[tuple[str, dict[str, Any]]]] = []
        self.messages: list[Any] = []
        return super().setUp()

    def message(self, isStream: bool, **request: Any) -> Any:
        """
        The message of one answer, put together by hand when it is streamed.
        """
        if not isStream:
            (choice,) = self.client.chat.completions.create(**request).choices
            self.assertEqual(choice.finish_reason, "tool_calls" if choice.message.tool_calls else "stop")
            return choice.message.to_dict()
        chunks = list(self.client.chat.completions.create(**request, stream=True))
        calls: dict[int, dict[str, Any]] = {}
        for piece in [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or ()]:
            assert piece.function is not None
            if piece.index not in calls:
                self.assertEqual((piece.index, piece.type), (len(calls), "function"))
                named = {"name": piece.function.name, "arguments": ""}
                calls[piece.index] = {"id": piece.id, "type": "function", "function": named}
            else:
                self.assertEqual((piece.id, piece.type, piece.function.name), (None, None, None))
            calls[piece.index]["function"]["arguments"] += piece.function.arguments or ""
        self.assertEqual(reasonsOf(chunks), ["tool_calls" if calls else "stop"])
        message: dict[str, Any] = {"role": "assistant", "content": textOf(chunks) or None}
        return message | ({"tool_calls": list(calls.values())} if calls else {})

    def converse(
        self, model: str, isStream: bool, messages: Any = None, answer: Answers = worked, **request: Any
    ) -> str:
        """
        Ask, answer calls until there are none, and return the last text.
        """
        self.rounds = []
        messages = user("How is it in Ulm?") if messages is None else messages
        while True:
            message = self.message(isStream, model=model, messages=messages, **request)
            self.messages = messages = [*messages, message]
            calls = message.get("tool_calls")
            if not calls:
                return str(message["content"])
            told = [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]
            self.rounds.append(told)
            results = [
                {"role": "tool", "tool_call_id": call["id"], "content": answer(*each)}
                for call, each in zip(calls, told, strict=True)
            ]
            # The order of the results is the client's business.
            messages += reversed(results)

    def bothWays(self, model: str, **request: Any) -> str:
        """
        The last text of a loop, which is the same streamed and not.
        """
        texts, rounds = [], []
        for isStream in (False, True):
            texts.append(self.converse(model, isStream, **request))
            rounds.append(self.rounds)
        self.assertEqual((texts[0], rounds[0]), (texts[1], rounds[1]))
        return texts[0]


class LoopTests(ToolCase):
    """
    Ask, be asked, answer, be answered.
    """

    @inThread
    def test_oneCall(self) -> None:
        """
        The call, its result and the text are of one turn: the model was
        prompted once.
        """
        for isStream in (False, True):
            before = len(self.sent("prompt"))
            text = self.converse("tool-one", isStream, tools=[WEATHER])
            self.assertEqual(self.rounds, [[("get_weather", {"city": "Ulm"})]])
            self.assertEqual(text, "get_weather says: get_weather(Ulm)\n")
            self.assertEqual(len(self.sent("prompt")), before + 1)
        self.assertEqual([tone["isError"] for tone in self.sent("tool-result")], [False, False])

    @inThread
    def test_answerWithACall(self) -> None:
        """
        Every field as the package has it: no text, ids that fit.
        """
        completion = self.client.chat.completions.create(
            model="tool-one", messages=user("Ulm"), tools=[WEATHER]
        )
        (choice,) = completion.choices
        self.assertEqual((choice.finish_reason, choice.message.content), ("tool_calls", None))
        (call,) = choice.message.tool_calls or ()
        assert isinstance(call, ChatCompletionMessageToolCall)
        self.assertEqual((call.type, call.function.name), ("function", "get_weather"))
        self.assertEqual(json.loads(call.function.arguments), {"city": "Ulm"})
        self.assertRegex(call.id, r"^call_[A-Za-z0-9_-]{16,35}$")

    @inThread
    def test_callsAtOnce(self) -> None:
        """
        Two calls in one answer, their results in any order.
        """
        text = self.bothWays("tool-parallel", tools=[WEATHER, CLOCK])
        self.assertEqual(self.rounds, [[("get_weather", {"city": "Ulm"}), ("get_time", {"zone": "Ulm"})]])
        self.assertEqual(text, "get_weather says: get_weather(Ulm)\nget_time says: get_time(Ulm)\n")

    @inThread
    def test_oneAtATime(self) -> None:
        """
        C{parallel_tool_calls} false: each in an answer of its own.
        """
        text = self.bothWays("tool-parallel", tools=[WEATHER, CLOCK], parallel_tool_calls=False)
        self.assertEqual(self.rounds, [[("get_weather", {"city": "Ulm"})], [("get_time", {"zone": "Ulm"})]])
        self.assertEqual(text, "get_weather says: get_weather(Ulm)\nget_time says: get_time(Ulm)\n")

    @inThread
    def test_lateCall(self) -> None:
        """
        A call that comes after the answer was given opens the next one; the
        turn is the same.
        """
        text = self.bothWays("tool-late", tools=[WEATHER, CLOCK])
        self.assertEqual(self.rounds, [[("get_weather", {"city": "Ulm"})], [("get_time", {"zone": "Ulm"})]])
        self.assertEqual(text, "get_weather says: get_weather(Ulm)\nget_time says: get_time(Ulm)\n")
        self.assertEqual(len(self.sent("prompt")), 2)

    @inThread
    def test_callOfAnothersTool(self) -> None:
        """
        A call of a tool that another request declared: the model is told that
        there is none, and the client sees nothing of it.
        """
        other = self.client.chat.completions.create(
            model="tool-one", messages=user("x"), tools=[function("undeclared_tool")]
        )
        self.assertEqual(other.choices[0].finish_reason, "tool_calls")
        text = self.bothWays("tool-undeclared", tools=[WEATHER])
        self.assertEqual(self.rounds, [])
        results = self.sent("tool-result")
        self.assertEqual([tone["isError"] for tone in results], [True, True])
        self.assertEqual(text, results[0]["output"])

    @inThread
    def test_callNobodyDeclared(self) -> None:
        """
        The daemon would drop any result of it: the answer fails, and nobody is
        to retry.
        """
        with self.assertRaises(openai.InternalServerError) as caught:
            self.converse("tool-undeclared", False, tools=[WEATHER])
        error = caught.exception
        self.assertEqual((error.status_code, error.code), (502, "tool_route_lost"))
        self.assertEqual(error.response.headers["x-should-retry"], "false")
        with self.assertRaises(openai.APIError):
            self.converse("tool-undeclared", True, tools=[WEATHER])

    @inThread
    def test_megabyteOfArguments(self) -> None:
        """
        Nothing of them is lost.
        """
        text = self.bothWays("tool-megabyte", tools=[WEATHER], answer=lambda name, args: "fine")
        (((_, args),),) = self.rounds
        self.assertEqual((args["city"], args["padding"]), ("Ulm", "x" * 1024 * 1024))
        self.assertEqual(text, "get_weather says: fine\n")

    @inThread
    def test_textBeforeTheCall(self) -> None:
        """
        It is in the same answer, before the call.
        """
        asked = script({"say": "Let me see."}, {"tool": "get_weather", "args": {"city": "Ulm"}})
        for isStream in (False, True):
            message = self.message(isStream, model="script", messages=asked, tools=[WEATHER])
            self.assertEqual(message["content"], "Let me see.")
            self.assertEqual(len(message["tool_calls"]), 1)

    @inThread
    def test_argumentsThatAreNoObject(self) -> None:
        """
        What the model made goes through as it is.
        """
        asked = script({"tool": "get_weather", "args": '{"city": Ulm'})
        message = self.message(True, model="script", messages=asked, tools=[WEATHER])
        self.assertEqual(message["tool_calls"][0]["function"]["arguments"], '{"city": Ulm')

    @inThread
    def test_resultInParts(self) -> None:
        """
        A result that is a list of texts reaches the model as one text.
        """
        message = self.message(False, model="tool-one", messages=user("Ulm"), tools=[WEATHER])
        parts = [{"type": "text", "text": "rain"}, {"type": "text", "text": "and wind"}]
        result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": parts}
        messages = [*user("Ulm"), message, result]
        final = self.message(True, model="tool-one", messages=messages, tools=[WEATHER])
        self.assertEqual(final["content"], "get_weather says: rain\nand wind\n")

    @inThread
    def test_severalTurns(self) -> None:
        """
        The conversation goes on after a loop, in the same session.
        """
        self.converse("tool-one", True, tools=[WEATHER])
        text = self.converse(
            "tool-one", True, messages=[*self.messages, *user("And in Bonn?")], tools=[WEATHER]
        )
        self.assertEqual(text, "get_weather says: get_weather(Bonn)\n")
        first, second = self.sent("prompt")
        self.assertEqual((first["sid"], second["content"]), (second["sid"], "And in Bonn?"))

    @inThread
    def test_oddNames(self) -> None:
        """
        A name that the daemon cannot carry comes back as it was given.
        """
        tool = function("mcp.server/get weather", city=TEXT)
        text = self.bothWays("tool-one", tools=[tool])
        self.assertEqual(self.rounds, [[("mcp.server/get weather", {"city": "Ulm"})]])
        self.assertIn("mcp.server/get weather(Ulm)", text)
        (offered,) = self.sent("prompt")[0]["tools"]
        self.assertRegex(offered["name"], r"^[A-Za-z0-9_-]{1,54}$")


class ChoiceTests(ToolCase):
    """
    C{tool_choice}.
    """

    def offered(self, **request: Any) -> tuple[set[str], str]:
        """
        The tools that the model was offered, and its system prompt.
        """
        self.client.chat.completions.create(
            model="echo", messages=user("x"), tools=[WEATHER, CLOCK], **request
        )
        prompt = self.sent("prompt")[-1]
        return {tool["name"] for tool in prompt.get("tools", ())}, prompt.get("systemPrompt", "")

    @inThread
    def test_offers(self) -> None:
        """
        None, all, those that are allowed; a wish is said in words.
        """
        both = {"get_weather", "get_time"}
        time: Any = {"type": "function", "function": {"name": "get_time"}}
        allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [time]}}
        self.assertEqual(self.offered(tool_choice="none"), (set(), ""))
        self.assertEqual(self.offered(), (both, ""))
        self.assertEqual(self.offered(tool_choice="auto"), (both, ""))
        self.assertEqual(self.offered(tool_choice=allowed)[0], {"get_time"})
        names, wish = self.offered(tool_choice=time)
        self.assertEqual(names, both)
        self.assertIn("get_time", wish)
        names, wish = self.offered(tool_choice="required")
        self.assertEqual(names, both)
        self.assertNotEqual(wish, "")

    @inThread
    def test_noneIsOffered(self) -> None:
        """
        A model that would like to call something has nothing to call.
        """
        text = self.bothWays("tool-one", tools=[WEATHER], tool_choice="none")
        self.assertEqual((text, self.rounds), ("I was offered no tool.", []))

    @inThread
    def test_toolThatIsNotThere(self) -> None:
        """
        400 names the field.
        """
        choice: Any = {"type": "function", "function": {"name": "other"}}
        with self.assertRaises(openai.BadRequestError) as caught:
            self.offered(tool_choice=choice)
        self.assertEqual(caught.exception.param, "tool_choice")


class ShapeTests(ToolCase):
    """
    Other shapes of tools than the usual one.
    """

    @inThread
    def test_pydanticTool(self) -> None:
        """
        C{.parse()} makes an object of the arguments.
        """
        completion = self.client.chat.completions.parse(
            model="tool-one", messages=user("Ulm"), tools=[openai.pydantic_function_tool(Weather)]
        )
        (call,) = completion.choices[0].message.tool_calls or ()
        self.assertEqual(
            (call.function.name, call.function.parsed_arguments), ("Weather", Weather(city="Ulm"))
        )

    @inThread
    def test_streamHelper(self) -> None:
        """
        C{.stream()} tells of the arguments and puts the calls together.
        """
        tools = [openai.pydantic_function_tool(Weather), CLOCK]
        for model, count in (("tool-one", 1), ("tool-parallel", 2)):
            with self.client.chat.completions.stream(
                model=model, messages=user("Ulm"), tools=tools
            ) as stream:
                events = list(stream)
                final = stream.get_final_completion()
            done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
            self.assertEqual([event.index for event in done], list(range(count)))
            self.assertEqual(done[0].parsed_arguments, Weather(city="Ulm"))
            choice = final.choices[0]
            self.assertEqual(
                (choice.finish_reason, len(choice.message.tool_calls or ())), ("tool_calls", count)
            )

    @inThread
    def test_customTool(self) -> None:
        """
        Free text in and out.
        """
        tool: Any = {"type": "custom", "custom": {"name": "run_code", "description": "Runs it."}}
        messages = user("run this")
        completion = self.client.chat.completions.create(model="tool-one", messages=messages, tools=[tool])
        message = completion.choices[0].message
        (call,) = message.tool_calls or ()
        assert call.type == "custom"
        self.assertEqual((call.custom.name, call.custom.input), ("run_code", "this"))
        messages += [message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "42"}]
        completion = self.client.chat.completions.create(model="tool-one", messages=messages, tools=[tool])
        self.assertEqual(completion.choices[0].message.content, "run_code says: 42\n")
        self.assertEqual(len(self.sent("prompt")), 1)

    @inThread
    def test_legacyFunctions(self) -> None:
        """
        The deprecated pair gets its own shape, whole and streamed, and its
        result finds the call by the name.
        """
        functions = [WEATHER["function"]]
        ask: Any = self.client.chat.completions.create
        for isStream in (False, True):
            messages: Any = user("Ulm")
            if isStream:
                chunks = list(ask(model="tool-one", messages=messages, functions=functions, stream=True))
                pieces = [chunk.choices[0].delta.function_call for chunk in chunks]
                self.assertEqual([piece.name for piece in pieces if piece and piece.name], ["get_weather"])
                arguments = "".join(piece.arguments or "" for piece in pieces if piece)
                reason = reasonsOf(chunks)[0]
            else:
                (choice,) = ask(model="tool-one", messages=messages, functions=functions).choices
                self.assertEqual(choice.message.function_call.name, "get_weather")
                self.assertIsNone(choice.message.tool_calls)
                arguments, reason = choice.message.function_call.arguments, choice.finish_reason
            self.assertEqual((json.loads(arguments), reason), ({"city": "Ulm"}, "function_call"))
            called = {"name": "get_weather", "arguments": arguments}
            messages += [{"role": "assistant", "content": None, "function_call": called}]
            messages += [{"role": "function", "name": "get_weather", "content": "dry"}]
            completion = ask(model="tool-one", messages=messages, functions=functions)
            self.assertEqual(completion.choices[0].message.content, "get_weather says: dry\n")
        self.assertEqual(len(self.sent("prompt")), 2)


class ParkedTests(ToolCase):
    """
    A turn that waits for results.
    """

    def parked(self, model: str = "tool-parallel") -> tuple[list[Any], list[Any]]:
        """
        The messages up to an answer with calls, and a result for each.
        """
        message = self.message(False, model=model, messages=user("Ulm"), tools=[WEATHER, CLOCK])
        results = [
            {"role": "tool", "tool_call_id": call["id"], "content": f"result {place}"}
            for place, call in enumerate(message["tool_calls"])
        ]
        return [*user("Ulm"), message], results

    def answered(self, messages: Sequence[Any], model: str = "tool-parallel") -> str:
        """
        The text that these messages bring.
        """
        message = self.message(True, model=model, messages=messages, tools=[WEATHER, CLOCK])
        self.assertNotIn("tool_calls", message)
        return str(message["content"])

    @inThread
    def test_someResults(self) -> None:
        """
        400 names what is missing, and all of them are welcome afterwards.
        """
        messages, results = self.parked()
        with self.assertRaises(openai.BadRequestError) as caught:
            self.answered([*messages, results[0]])
        self.assertIn(results[1]["tool_call_id"], caught.exception.message)
        self.assertNotIn(results[0]["tool_call_id"], caught.exception.message)
        text = self.answered([*messages, *results])
        self.assertEqual(text, "get_weather says: result 0\nget_time says: result 1\n")
        self.assertEqual(len(self.sent("prompt")), 1)

    @inThread
    def test_userGoesOn(self) -> None:
        """
        A user who does not wait for results gets an answer to what he says.
        """
        messages, results = self.parked()
        text = self.answered([*messages, results[0], *user("never mind")], model="echo")
        self.assertEqual(text, "never mind")
        self.whenCancelled()

    @inThread
    def test_resultsAndMore(self) -> None:
        """
        What the user adds to the results is read with the last of them.
        """
        messages, results = self.parked("tool-one")
        text = self.answered([*messages, *results, *user("and be brief")], "tool-one")
        self.assertIn("result 0", text)
        self.assertIn("and be brief", text)
        self.assertEqual(len(self.sent("prompt")), 1)

    @inThread
    def test_anotherClient(self) -> None:
        """
        The client goes away with its connection while the turn waits; nothing
        is cancelled, and its results may come over another one.
        """
        messages, results = self.parked()
        self.client.close()
        self.client = self.newClient()
        self.assertIn("result 1", self.answered([*messages, *results]))
        self.assertEqual((len(self.sent("prompt")), self.sent("cancel")), (1, []))

    @inThread
    def test_slowTool(self) -> None:
        """
        A result that comes after the park's deadline goes to the same session
        as a message of its own, and is answered.
        """
        messages, results = self.parked("tool-one")
        self.inReactor(self.serving.clock.skip, 50.5)
        text = self.answered([*messages, *results], "tool-one")
        self.assertIn("result 0", text)
        first, second = self.sent("prompt")
        self.assertEqual(first["sid"], second["sid"])
        self.assertEqual([tone["isError"] for tone in self.sent("tool-result")], [True])

    @inThread
    def test_resultsTwice(self) -> None:
        """
        The second time they are history, and answered from it.
        """
        messages, results = self.parked("tool-one")
        for _ in range(2):
            self.assertIn("result 0", self.answered([*messages, *results], "tool-one"))
        self.assertEqual(len(self.sent("tool-result")), 1)

    @inThread
    def test_forgedId(self) -> None:
        """
        Results for a call that was never made are history.
        """
        call = {"id": "call_forged", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
        messages = [
            *user("Ulm"),
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_forged", "content": "hail"},
        ]
        self.assertEqual(self.answered(messages, "tool-one"), "get_weather says: hail\n")
        self.assertEqual(self.sent("tool-result"), [])

    @inThread
    def test_workerDiesWhileTheTurnWaits(self) -> None:
        """
        The loop comes to its end all the same: the results are read from the
        transcript.
        """
        messages, results = self.parked("tool-one")
        self.inReactor(self.serving.daemon.killWorkers)
        # The registry file is looked at now.
        self.inReactor(self.serving.clock.skip, 1)
        self.inReactor(self.serving.daemon.addWorker, "tool-one")
        self.assertEqual(self.answered([*messages, *results], "tool-one"), "get_weather says: result 0\n")


class AgentsTests(ToolCase):
    """
    Several agents at a time, each with tools of its own.
    """

    @inLoop
    async def test_agents(self) -> None:
        """
        Each is asked for its own tools alone, and reads its own results.
        """

        async def agent(number: int) -> str:
            tools: Any = [function(f"agent{number}_{place}", word=TEXT) for place in range(2)]
            messages: Any = user(f"word{number}")
            while True:
                async with client.chat.completions.stream(
                    model="tool-parallel", messages=messages, tools=tools
                ) as stream:
                    message = (await stream.get_final_completion()).choices[0].message
                if not message.tool_calls:
                    return message.content or ""
                messages.append(message.to_dict())
                for call in message.tool_calls:
                    self.assertTrue(call.function.name.startswith(f"agent{number}_"), call.function.name)
                    said = f"{number}:{call.function.arguments}"
                    messages.append({"role": "tool", "tool_call_id": call.id, "content": said})

        async with self.newAsyncClient() as client:
            texts = await asyncio.gather(*map(agent, range(6)))
        for number, text in enumerate(texts):
            told = f'{number}:{{"word":"word{number}"}}'
            self.assertEqual(text, "".join(f"agent{number}_{place} says: {told}\n" for place in range(2)))
