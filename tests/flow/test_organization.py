"""
What administrators are told of all turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec
from twisted.internet.address import IPv4Address

from openai_server.reports import TurnReport
from openai_server.store.memoryledger import MemoryLedger
from openai_server.store.troubles import Trouble
from openai_server.web import organization
from openai_server.web.httprequest import HTTPRequest
from tests.flow.support import FlowCase
from tests.world import NOW, Client, World

DAY = 86400
TURN = TurnReport("a", "chat", "m", "ff" * 16, 100, 70, 50, 2, 1.5, "ok", False)
#: When the day of L{NOW} begins.
TODAY = int(NOW) - int(NOW) % DAY


class OrganizationCase(FlowCase):
    """
    An administrator of a server.
    """

    def usage(
        self, world: World, query: Sequence[tuple[str, object]] = (), key: str | None = None, **fields: object
    ) -> Client:
        """
        Ask for what turns have cost.
        """
        said = urlencode([*query, *fields.items()])
        lines = [f"GET /v1/organization/usage/completions?{said} HTTP/1.1", "host: 127.0.0.1"]
        if key is not None:
            lines.append(f"authorization: Bearer {key}")
        client = world.client()
        client.send("\r\n".join(lines).encode() + b"\r\n\r\n")
        client.wire.read()
        return client

    def note(self, world: World, daysAgo: float = 0, **fields: Any) -> None:
        """
        Let the ledger have a turn that ended some days ago.
        """
        ledger = world.store.ledger
        assert isinstance(ledger, MemoryLedger)
        now, ledger._now = ledger._now, lambda: NOW - daysAgo * DAY
        ledger.turnEnded(msgspec.structs.replace(TURN, **fields))
        ledger._now = now

    def buckets(self, client: Client) -> list[tuple[int, list[int]]]:
        """
        The buckets of a page: how many days ago each begins, and the turns of
        its results.
        """
        self.assertEqual(client.status, 200, client.content)
        data = client.json["data"]
        return [
            (
                (TODAY - bucket["start_time"]) // DAY,
                [result["num_model_requests"] for result in bucket["results"]],
            )
            for bucket in data
        ]


class UsageTests(OrganizationCase):
    """
    C{GET /v1/organization/usage/completions}.
    """

    def test_turnsAreCounted(self) -> None:
        """
        What a turn has cost is there as soon as it is over, in OpenAI's shape.
        """
        world = World(self)
        world.script({"usage": {"input_tokens": 30, "cache_read_input_tokens": 12, "output_tokens": 5}})
        world.advance(1)
        client = self.usage(world, start_time=TODAY)
        [bucket] = client.json["data"]
        self.assertEqual((client.json["object"], client.json["has_more"]), ("page", False))
        self.assertEqual(client.json["next_page"], None)
        self.assertEqual(
            (bucket["object"], bucket["start_time"], bucket["end_time"]), ("bucket", TODAY, TODAY + DAY)
        )
        [result] = bucket["results"]
        figures = ("input_tokens", "input_cached_tokens", "output_tokens", "num_model_requests")
        self.assertEqual([result[name] for name in figures], [42, 12, 5, 1])
        self.assertEqual(result["object"], "organization.usage.completions.result")
        self.assertEqual((result["project_id"], result["model"], result["batch"]), (None, None, None))
        world.settle()

    def test_groups(self) -> None:
        """
        By one or several, said in each of the ways in which clients say lists.
        An account is a project, and its key.
        """
        world = World(self)
        for fields in ({}, {"account": "b"}, {"model": "n"}, {"model": "n"}):
            self.note(world, **fields)
        for query in (
            [("group_by[]", "project_id"), ("group_by[]", "model")],
            [("group_by", "project_id"), ("group_by", "model")],
            [("group_by", "project_id,model")],
        ):
            [bucket] = self.usage(world, query, start_time=TODAY).json["data"]
            found = [
                (each["project_id"], each["model"], each["num_model_requests"]) for each in bucket["results"]
            ]
            self.assertEqual(found, [("a", "m", 1), ("a", "n", 2), ("b", "m", 1)])
        query = [("group_by", name) for name in ("api_key_id", "user_id", "batch", "service_tier")]
        [bucket] = self.usage(world, query, start_time=TODAY).json["data"]
        names = ("api_key_id", "project_id", "user_id", "batch", "service_tier")
        found = [tuple(each[name] for name in names) for each in bucket["results"]]
        self.assertEqual(found, [("a", None, None, False, None), ("b", None, None, False, None)])

    def test_filters(self) -> None:
        """
        Those of these models and accounts; there are no batches and no users.
        """
        world = World(self)
        for fields in ({}, {"account": "b"}, {"account": "c", "model": "n"}):
            self.note(world, **fields)
        for query, turns in (
            ([("models[]", "m")], [2]),
            ([("models", "m"), ("models", "n"), ("project_ids", "b")], [1]),
            ([("api_key_ids", "a"), ("api_key_ids", "c"), ("project_ids", "c")], [1]),
            ([("api_key_ids", "a"), ("project_ids", "c")], []),
            ([("user_ids", "a")], []),
            ([("batch", "true")], []),
            ([("batch", "false")], [3]),
        ):
            self.assertEqual(self.buckets(self.usage(world, query, start_time=TODAY)), [(0, turns)], query)

    def test_buckets(self) -> None:
        """
        They begin with minutes, hours and days in UTC; those without turns are
        there too, and turns before the start or behind the end do not count.
        """
        world = World(self)
        for daysAgo in (3, 2, 0):
            self.note(world, daysAgo)
        start = int(NOW) - 2 * DAY
        self.assertEqual(self.buckets(self.usage(world, start_time=start)), [(2, [1]), (1, []), (0, [1])])
        self.assertEqual(self.buckets(self.usage(world, start_time=start + 1))[0], (2, []))
        ended = self.usage(world, start_time=start, end_time=start + DAY)
        self.assertEqual(self.buckets(ended), [(2, [1]), (1, [])])
        hours = self.usage(world, start_time=TODAY, bucket_width="1h").json["data"]
        self.assertEqual([bucket["end_time"] - bucket["start_time"] for bucket in hours], [3600] * len(hours))
        self.assertEqual(hours[-1]["start_time"], int(NOW) - int(NOW) % 3600)
        self.assertEqual(len(hours[-1]["results"]), 1)
        minutes = self.usage(world, start_time=int(NOW) - 119, bucket_width="1m").json["data"]
        self.assertIn(len(minutes), (2, 3))

    def test_pages(self) -> None:
        """
        As many buckets as are wanted at a time, each once.
        """
        world = World(self)
        for daysAgo in range(10):
            self.note(world, daysAgo)
        found: list[Any] = []
        page: dict[str, object] = {}
        sizes = []
        while True:
            client = self.usage(world, start_time=TODAY - 9 * DAY, limit=4, **page)
            found += self.buckets(client)
            sizes.append(len(client.json["data"]))
            if not client.json["has_more"]:
                break
            page = {"page": client.json["next_page"]}
        self.assertEqual(sizes, [4, 4, 2])
        self.assertEqual(found, [(daysAgo, [1]) for daysAgo in range(9, -1, -1)])
        usual = self.usage(world, start_time=TODAY - 9 * DAY)
        self.assertEqual((len(usual.json["data"]), usual.json["has_more"]), (7, True))

    def test_nothing(self) -> None:
        """
        What is still to come has no buckets.
        """
        world = World(self)
        client = self.usage(world, start_time=TODAY + 2 * DAY)
        self.assertEqual((client.json["data"], client.json["has_more"]), ([], False))

    def test_faults(self) -> None:
        """
        Each names the parameter, and what is wanted.
        """
        world = World(self)
        start = ("start_time", TODAY)
        for param, query in (
            ("start_time", []),
            ("start_time", [("start_time", "yesterday")]),
            ("end_time", [start, ("end_time", TODAY)]),
            ("bucket_width", [start, ("bucket_width", "1w")]),
            ("limit", [start, ("limit", 32)]),
            ("limit", [start, ("limit", 0)]),
            ("group_by", [start, ("group_by", "color")]),
            ("batch", [start, ("batch", "perhaps")]),
            ("page", [start, ("page", "page_5")]),
            ("page", [start, ("page", f"page_{TODAY + 1}")]),
            ("page", [start, ("page", "x")]),
        ):
            client = self.usage(world, query)
            self.assertEqual((client.status, client.error["param"]), (400, param), query)
        self.patch(organization, "_MOST", 2)
        for account in "abc":
            self.note(world, account=account)
        client = self.usage(world, start_time=TODAY, group_by="project_id")
        self.assertEqual((client.status, client.error["param"]), (400, "limit"))

    def test_storeInTrouble(self) -> None:
        """
        Nothing is told that is not known.
        """
        world = World(self, store="sqlite://")
        changes: Any = world.store
        changes.changes.readFailed(Trouble("unreachable"))
        client = self.usage(world, start_time=TODAY)
        self.assertRefused(client, 503, "store_unavailable")
        world.advance(10)
        self.assertEqual(self.usage(world, start_time=TODAY).status, 200)


class AdministratorTests(OrganizationCase):
    """
    Who is told.
    """

    def test_key(self) -> None:
        """
        Whoever has the API key.
        """
        world = World(self, apiKey="a-key-of-the-test")
        self.assertRefused(self.usage(world, start_time=TODAY), 401, "invalid_api_key")
        self.assertEqual(self.usage(world, start_time=TODAY, key="a-key-of-the-test").status, 200)

    def test_noKey(self) -> None:
        """
        Without one, this machine alone.
        """
        world = World(self)
        self.assertEqual(self.usage(world, start_time=TODAY).status, 200)
        self.patch(HTTPRequest, "getClientAddress", lambda self: IPv4Address("TCP", "192.0.2.7", 4000))
        self.assertRefused(self.usage(world, start_time=TODAY), 403, "admin_key_required")
