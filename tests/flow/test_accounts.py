"""
Requests with keys of the store: who is let in, to which models, how often.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from openai_server.admin.program import run
from tests.flow.support import FlowCase, function, result, steps
from tests.flow.test_websocket import SocketCase, WorldClient
from tests.world import NOW, Client, World


class AccountCase(FlowCase):
    """
    A server with a store, whose operator uses the command for keys.
    """

    def setUp(self) -> None:
        super().setUp()
        self.url = f"sqlite:///{Path(self.mktemp()).absolute()}/store.db"
        self.keys: dict[str, str] = {}
        self.now = lambda: NOW

    def world(self, **settings: Any) -> World:
        """
        A server with that store.
        """
        world = World(self, store=self.url, **settings)
        self.now = world.machine.now
        return world

    def admin(self, *arguments: str) -> str:
        """
        What the command prints.
        """
        out, err = io.StringIO(), io.StringIO()
        code = run(("--store", self.url, "keys", *arguments), {"HOME": "/nowhere"}, out, err, self.now())
        self.assertEqual((code, err.getvalue()), (0, ""))
        return out.getvalue().strip()

    def add(self, name: str, *limits: str) -> None:
        """
        Make a key.
        """
        self.keys[name] = self.admin("add", name, *limits)

    def bearer(self, name: str) -> dict[str, str]:
        """
        The header with a key.
        """
        return {"authorization": f"Bearer {self.keys[name]}"}

    def ask(self, world: World, name: str, said: Any = "Hello.", **fields: Any) -> Client:
        """
        Ask with a key, and wait for the answer.
        """
        client = world.ask(said, **{"model": "echo", "headers": self.bearer(name), **fields})
        world.until(lambda: client.status is not None)
        return client

    def get(self, world: World, name: str, path: str) -> Client:
        """
        Ask for what is at a path.
        """
        client = world.client()
        key = self.bearer(name)["authorization"]
        client.send(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: {key}\r\n\r\n".encode())
        world.until(lambda: client.status is not None)
        return client

    def assertLimited(self, client: Client, code: str = "rate_limit_exceeded") -> None:
        """
        It was refused because of a limit.
        """
        self.assertEqual((client.status, client.error["code"]), (429, code), client.json)


class KeyTests(AccountCase):
    """
    Who is let in.
    """

    def test_changesWithoutARestart(self) -> None:
        """
        C43: a key that is made, disabled, replaced or removed is one, or none, two
        seconds later; and its answers never say more of it than its beginning.
        """
        world = self.world()
        self.assertEqual(world.ask("Hello.", model="echo").status, None)
        world.advance(2)
        self.add("alice")
        world.advance(2)
        self.assertEqual(world.ask("x", model="echo").status, 401)
        self.assertEqual(self.ask(world, "alice").status, 200)
        self.admin("disable", "alice")
        world.advance(2)
        refused = self.ask(world, "alice")
        self.assertEqual((refused.status, refused.error["code"]), (401, "invalid_api_key"))
        self.assertIn("is disabled", refused.error["message"])
        self.admin("disable", "alice", "--undo")
        old = dict(self.keys)
        self.keys["alice"] = self.admin("rotate", "alice", "--grace", "10")
        world.advance(2)
        self.assertEqual(self.ask(world, "alice").status, 200)
        self.keys, new = old, self.keys
        self.assertEqual(self.ask(world, "alice").status, 200)
        world.advance(10)
        self.assertIn("was replaced", self.ask(world, "alice").error["message"])
        self.keys = new
        self.admin("remove", "alice")
        world.advance(2)
        self.assertEqual(self.ask(world, "alice").status, 401)
        # Nobody is let in by that.
        self.assertEqual(world.ask("x", model="echo").status, 401)
        told = str(world.logged) + "".join(str(client.wire.received) for client in world.clients)
        for key in (*old.values(), *new.values()):
            self.assertNotIn(key[11:], told)
        world.settle()

    def test_atStart(self) -> None:
        """
        The first request of a server that is started needs one.
        """
        self.add("alice")
        world = self.world()
        self.assertEqual(world.ask("x", model="echo").status, 401)
        self.assertEqual(self.ask(world, "alice").status, 200)

    def test_expires(self) -> None:
        """
        From a moment on, in words.
        """
        self.add("alice", "--expires", "2026-05-28T20:26:50")
        world = self.world(apiKey="sk-own")
        self.assertEqual(self.ask(world, "alice").status, 200)
        world.advance(10)
        self.assertIn("has expired", self.ask(world, "alice").error["message"])
        self.keys["own"] = "sk-own"
        self.assertEqual(self.ask(world, "own").status, 200)

    def test_apart(self) -> None:
        """
        No account sees what another one keeps; two keys of one account do,
        and so does a key that takes another's place.
        """
        for name, account in (("a", "t"), ("b", "t"), ("c", "c")):
            self.add(name, "--account", account)
        world = self.world()
        kept = self.ask(world, "a", store=True).json["id"]
        for name, status in (("a", 200), ("b", 200), ("c", 404)):
            client = world.client()
            lines = [f"GET /v1/chat/completions/{kept} HTTP/1.1", "host: localhost"]
            lines += [f"{header}: {value}" for header, value in self.bearer(name).items()]
            client.send("\r\n".join([*lines, "", ""]).encode())
            client.wire.read()
            self.assertEqual(client.status, status, name)

    def test_models(self) -> None:
        """
        Those that a key may not use are not there for it.
        """
        self.add("alice", "--models", "echo")
        self.add("bob")
        world = self.world(models=("echo", "script"))
        self.assertEqual(self.ask(world, "alice").status, 200)
        refused = self.ask(world, "alice", model="script")
        self.assertEqual((refused.status, refused.error["code"]), (404, "model_not_found"))
        unknown = self.ask(world, "bob", model="nosuch")
        self.assertEqual(
            str(refused.json).replace("script", "nosuch"), str(unknown.json), "not like an unknown one"
        )
        for name, ids in (("alice", {"echo"}), ("bob", {"echo", "script"})):
            listed = {each["id"] for each in self.get(world, name, "/v1/models").json["data"]}
            self.assertEqual(listed & {"echo", "script"}, ids)
        self.assertEqual(self.get(world, "alice", "/v1/models/script").error["code"], "model_not_found")
        self.assertEqual(self.get(world, "alice", "/v1/models/echo").status, 200)


class LimitTests(AccountCase):
    """
    How much an account may have.
    """

    def test_requests(self) -> None:
        """
        What is left is said with each answer; what is beyond is refused for
        as long as is said, and not a moment longer.
        """
        self.add("alice", "--rpm", "2")
        world = self.world()
        first = self.ask(world, "alice")
        self.assertEqual(first.status, 200)
        self.assertEqual(
            [first.header(f"x-ratelimit-{what}-requests") for what in ("limit", "remaining", "reset")],
            ["2", "1", "1m0s"],
        )
        self.assertIsNone(first.header("x-ratelimit-limit-tokens"))
        listed = self.get(world, "alice", "/v1/models")
        self.assertEqual((listed.status, listed.header("x-ratelimit-remaining-requests")), (200, "1"))
        world.advance(9)
        self.assertEqual(self.ask(world, "alice").header("x-ratelimit-remaining-requests"), "0")
        refused = self.ask(world, "alice")
        self.assertLimited(refused)
        wait = int(refused.header("retry-after-ms") or "0") / 1000
        self.assertEqual(refused.header("retry-after"), str(-(-int(wait * 1000) // 1000)))
        self.assertEqual(refused.header("x-ratelimit-remaining-requests"), "0")
        self.assertIsNone(refused.header("x-should-retry"))
        self.assertEqual(world.ends[-1], "limit")
        world.advance(wait - 0.1, 0.1)
        self.assertLimited(self.ask(world, "alice"))
        world.advance(0.2)
        self.assertEqual(self.ask(world, "alice").status, 200)
        world.settle()

    def test_tokens(self) -> None:
        """
        They are estimated before the model is asked.
        """
        self.add("alice", "--tpm", "100")
        world = self.world()
        self.assertEqual(self.ask(world, "alice", "x" * 240).header("x-ratelimit-remaining-tokens"), "40")
        self.assertLimited(self.ask(world, "alice", "x" * 240))
        tooLarge = self.ask(world, "alice", "x" * 404)
        self.assertLimited(tooLarge)
        self.assertEqual((tooLarge.header("x-should-retry"), tooLarge.header("retry-after")), ("false", None))
        self.assertEqual(len(self.sids(world)), 1)

    def test_settled(self) -> None:
        """
        What the worker says it has cost takes the place of the estimate.
        """
        self.add("alice", "--tpm", "1000")
        world = self.world()
        client = self.ask(world, "alice", "x" * 2000)
        self.assertEqual(client.header("x-ratelimit-remaining-tokens"), "500")
        world.settle()
        used = client.json["usage"]["total_tokens"]
        limiter = world.front.accounts.limiter
        meter = limiter._known["alice"].meter
        self.assertEqual((meter.tokens.used, meter.reserved, meter.bySession), (used, 0, {}))

    def test_budgetOutlastsARestart(self) -> None:
        """
        A budget that is used up stays so in the next process, and is said in
        OpenAI's words for it.
        """
        self.add("alice")
        world = self.world()
        used = self.ask(world, "alice").json["usage"]["total_tokens"]
        world.settle()
        world.stop()
        self.admin("set", "alice", "--tokens-per-day", str(used))
        self.assertIn(f"({used} used)", self.admin("list"))
        world = self.world()
        refused = self.ask(world, "alice")
        self.assertLimited(refused, "insufficient_quota")
        self.assertEqual((refused.header("x-should-retry"), refused.header("retry-after")), ("false", None))
        self.admin("set", "alice", "--tokens-per-day", "none")
        world.advance(2)
        self.assertEqual(self.ask(world, "alice").status, 200)

    def test_toolCalls(self) -> None:
        """
        A request with results goes on with the turn of the one before, and is
        settled with it.
        """
        self.add("alice", "--tpm", "1000")
        world = self.world()
        asked = steps({"tool": "look", "args": {}}, {"say": "x"})
        fields = {"model": "script", "tools": [function("look")]}
        first = self.ask(world, "alice", [asked], **fields)
        meter = world.front.accounts.limiter._known["alice"].meter
        self.assertEqual((meter.running, len(meter.bySession)), (0, 1))
        self.assertGreater(meter.reserved, 0)
        (call,) = first.calls
        shown = [asked, first.message, result(call["id"], "seen")]
        self.assertEqual(self.ask(world, "alice", shown, **fields).status, 200)
        world.settle()
        self.assertEqual((meter.running, meter.reserved, meter.bySession), (0, 0, {}))
        self.assertEqual(meter.requests.used, 2)

    def test_concurrent(self) -> None:
        """
        A place is given back when an answer is over, and when its client leaves.
        """
        self.add("alice", "--concurrent", "2")
        self.add("bob")
        world = self.world()
        headers = self.bearer("alice")
        running = [world.script({"sleep": 2}, {"say": "x"}, headers=headers) for _ in range(2)]
        refused = self.ask(world, "alice")
        self.assertLimited(refused)
        self.assertEqual(refused.header("retry-after"), "1")
        self.assertEqual(self.ask(world, "bob").status, 200)
        running[0].leave()
        self.assertEqual(self.ask(world, "alice").status, 200)
        world.until(lambda: running[1].isComplete)
        world.settle()

    def test_nothingIsKeptOfRefused(self) -> None:
        """
        What never gets to a worker takes no tokens.
        """
        self.add("alice", "--tpm", "1000", "--concurrent", "1")
        world = self.world()
        for _ in range(3):
            self.assertEqual(self.ask(world, "alice", model="nosuch").status, 404)
        meter = world.front.accounts.limiter._known["alice"].meter
        self.assertEqual((meter.running, meter.unbound), (0, {}))

    def test_background(self) -> None:
        """
        An answer that is made with nobody attached has a place until it ends.
        """
        self.add("alice", "--concurrent", "1", "--tpm", "1000")
        world = self.world()
        body = {"model": "script", "input": '#script [{"sleep": 2}, {"say": "x"}]', "background": True}
        client = world.client().post(body, "/v1/responses", **self.bearer("alice"))
        world.until(lambda: client.status is not None)
        self.assertEqual(client.status, 200)
        self.assertLimited(self.ask(world, "alice"))
        world.advance(4)
        self.assertEqual(self.ask(world, "alice").status, 200)
        world.settle()

    def test_backgroundThatIsNotAsked(self) -> None:
        """
        One that no daemon can be asked for has no place, and takes no tokens.
        """
        self.add("alice", "--concurrent", "1", "--tpm", "1000")
        world = self.world()
        world.daemon.faults.muteBreath = True
        world.daemon.cutConnections()
        world.flush()
        body = {"model": "echo", "input": "Hello.", "background": True}
        client = world.client().post(body, "/v1/responses", **self.bearer("alice"))
        world.advance(6)
        self.assertEqual(client.status, 200)
        meter = world.front.accounts.limiter.meterOf("alice")
        self.assertEqual((meter.requests.used, meter.running, meter.reserved), (1, 0, 0))
        world.daemon.faults.muteBreath = False
        world.advance(10)

    def test_backgroundThatIsRefused(self) -> None:
        """
        One whose idempotency key was used for something else has no place, and
        takes no tokens, from then on.
        """
        self.add("alice", "--concurrent", "1", "--tpm", "1000")
        world = self.world()
        headers = {**self.bearer("alice"), "idempotency-key": "k"}
        for said, status in (("Hello.", 200), ("Something else.", 409)):
            body = {"model": "echo", "input": said, "background": True}
            client = world.client().post(body, "/v1/responses", **headers)
            world.advance(2)
            self.assertEqual(client.status, status)
        meter = world.front.accounts.limiter.meterOf("alice")
        self.assertEqual((meter.running, meter.reserved), (0, 0))
        world.settle()

    def test_severalQuestions(self) -> None:
        """
        All questions of a request count before it is let in.
        """
        self.add("alice", "--tpm", "100")
        world = self.world()
        for prompt, status in ("x" * 40, 200), (["x" * 40] * 20, 429):
            body = {"model": "echo", "prompt": prompt}
            client = world.client().post(body, "/v1/completions", **self.bearer("alice"))
            world.advance(61)
            self.assertEqual(client.status, status)
        self.assertIn("too large", client.error["message"])

    def test_unlimited(self) -> None:
        """
        Nothing is said to keys without limits, nor to that of the settings.
        """
        self.add("alice")
        self.keys["own"] = "sk-own"
        world = self.world(apiKey="sk-own")
        for name in self.keys:
            client = self.ask(world, name)
            self.assertEqual(client.status, 200)
            self.assertNotIn("x-ratelimit", "\n".join(client.head))


class SocketTests(AccountCase, SocketCase):
    """
    On a WebSocket.
    """

    def test_limits(self) -> None:
        """
        Each response is a request, and the wait is said in its error.
        """
        self.add("alice", "--rpm", "1")
        client = WorldClient(self.world(), f"authorization: Bearer {self.keys['alice']}")
        client.chat("One.")
        event = client.ask("Two.")
        self.assertError(event, 429, "rate_limit_exceeded")
        self.assertRegex(event["headers"]["retry-after-ms"], r"\A[1-9]\d*\Z")

    def test_disabledWhileOpen(self) -> None:
        """
        C43: a key that is disabled is let in no more on a WebSocket that is open.
        """
        self.add("alice")
        world = self.world()
        client = WorldClient(world, f"authorization: Bearer {self.keys['alice']}")
        client.chat("One.")
        self.admin("disable", "alice")
        world.advance(2)
        self.assertError(client.ask("Two."), 401, "invalid_api_key")
