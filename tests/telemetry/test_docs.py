"""
That C{docs/metrics.md} and the dashboard are true: against a server's metrics.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import openai_server
from openai_server.telemetry.families import Current, Distributed, Family, Growing
from tests.flow.support import FlowCase, function
from tests.support import SyncCase
from tests.telemetry.support import Samples, samplesOf
from tests.world import World

DOCS = Path(__file__).parent.parent.parent / "docs"
SOURCE = Path(openai_server.__file__).parent
KINDS = {Growing: "counter", Current: "gauge", Distributed: "histogram"}
#: Labels that Prometheus itself adds.
ADDED = {"instance", "job"}


def cells(text: str, head: str) -> Iterator[list[str]]:
    """
    Yield the rows of all tables whose heads begin like this.
    """
    for table in re.findall(rf"^\| {head} .*\n\| ---.*\n((?:\|.*\n)+)", text, re.MULTILINE):
        for line in table.splitlines():
            yield [cell.strip() for cell in line.strip("|").split("|")]


def exercised(test: SyncCase) -> World:
    """
    Return a server in which everything has happened that is measured.
    """
    world = World(test, store=f"sqlite:///{test.mktemp()}.db")
    world.script({"say": "One, two, three, four."}, stream=True)
    world.script({"tool": "look", "args": {}}, tools=[function("look")])
    world.advance(120)
    world.link.badTones["too-long"] += 1
    world.link.counts["double_calls"] += 1
    world.front.submitter.counters.timed("store_read", 0.01)
    return world


class DocumentTests(FlowCase):
    """
    The tables.
    """

    def test_metrics(self) -> None:
        """
        Each metric has its row, with its kind and its labels, and no row is of
        a metric that is not there. Units are those of the names.
        """
        world = exercised(self)
        telemetry = world.telemetry
        families: dict[str, Family] = {}
        for source in telemetry.sources:
            families |= {
                each.name + ("_total" if isinstance(each, Growing) else ""): each for each in source()
            }
        rows = {row[0].strip("`"): row[1:] for row in cells((DOCS / "metrics.md").read_text(), "metric")}
        self.assertEqual(set(rows) ^ set(families), set())
        for name, (kind, unit, labels, what) in rows.items():
            family = families[name]
            fixed = family.fixed if isinstance(family, Distributed) else {}
            self.assertEqual(kind, KINDS[type(family)], name)
            self.assertEqual(set(re.findall(r"`(\w+)`", labels)), {*family.labels, *fixed}, name)
            self.assertEqual(unit == "seconds", name.endswith("_seconds"), name)
            self.assertEqual(unit == "tokens", "tokens_" in name or "token_usage" in name, name)
            self.assertTrue(what, name)

    def test_everyFamilyIsOnThePage(self) -> None:
        """
        What is documented is what is served.
        """
        page = samplesOf(exercised(self))
        rows = {row[0].strip("`") for row in cells((DOCS / "metrics.md").read_text(), "metric")}
        self.assertEqual({name for name in page.families if not name.startswith("process_")}, rows)

    def test_events(self) -> None:
        """
        Each counter of the source has its row among the events, unless it has
        a metric of its own.
        """
        found = set(counterNames()) - {"late_tones", "foreign_tones", "unrouted_calls"}
        rows = {row[0].strip("`") for row in cells((DOCS / "metrics.md").read_text(), "event")}
        self.assertEqual(rows, found)


def counterNames() -> Iterator[str]:
    """
    Yield the names of all that is counted: C{counters.add("...")} and
    C{counts["..."]}.
    """
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            named: ast.expr | None = None
            if isinstance(node, ast.Call) and re.search(r"counters\.add$", ast.unparse(node.func)):
                named = node.args[0]
            elif isinstance(node, ast.Subscript) and re.search(r"counts$", ast.unparse(node.value)):
                named = node.slice
            names = [] if named is None else [named]
            if isinstance(named, ast.IfExp):
                names = [named.body, named.orelse]
            yield from (each.value for each in names if isinstance(each, ast.Constant))


class DashboardTests(FlowCase):
    """
    The queries of the dashboard.
    """

    def queries(self) -> Iterator[tuple[str, str]]:
        """
        Yield each query with its legend.
        """
        dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                yield target["expr"], target["legendFormat"]
        for variable in dashboard["templating"]["list"]:
            found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"])
            if found is not None:
                yield f"sum by ({found[2]}) ({found[1]})", ""

    def check(self, query: str, legend: str, page: Samples) -> None:
        """
        See that all that a query names is there.
        """
        names = set(re.findall(r"\b((?:openai_server|gen_ai|process)_\w+)", query))
        self.assertTrue(names, query)
        self.assertEqual(names - set(page.labels), set(), query)
        for name, selector in re.findall(r"(\w+)\{([^}]*)\}", query):
            wanted = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', selector))
            self.assertEqual(wanted - page.labels[name] - ADDED, set(), query)
        grouped = {label for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(", ")}
        self.assertEqual(grouped - set().union(*(page.labels[name] for name in names)) - ADDED, set(), query)
        self.assertEqual(set(re.findall(r"\{\{(\w+)\}\}", legend)) - grouped, set(), (query, legend))

    def test_queries(self) -> None:
        """
        Every metric and label in them is on the page of a server.
        """
        page = samplesOf(exercised(self))
        queries = list(self.queries())
        self.assertGreater(len(queries), 20)
        for query, legend in queries:
            self.check(query, legend, page)

    def test_wrongQueriesAreFound(self) -> None:
        """
        A name, a label, a group and a legend that are not there.
        """
        page = Samples("# TYPE openai_server_x gauge\nopenai_server_x{model=\"a\"} 1\n")
        self.check('sum by (model) (openai_server_x{model!="b"})', "{{model}}", page)
        for query, legend in (
            ("sum(openai_server_y)", ""),
            ('sum(openai_server_x{modell="b"})', ""),
            ("sum by (modell) (openai_server_x)", ""),
            ("sum by (model) (openai_server_x)", "{{modell}}"),
        ):
            self.assertRaises(self.failureException, self.check, query, legend, page)

    def test_panelsDoNotOverlap(self) -> None:
        """
        Each panel has a place and an id of its own.
        """
        panels: list[Mapping[str, Any]] = json.loads((DOCS / "grafana-dashboard.json").read_text())["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        places: set[tuple[int, int]] = set()
        for panel in panels:
            at = panel["gridPos"]
            columns, lines = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
            place = {(x, y) for x in columns for y in lines}
            self.assertEqual(places & place, set(), panel["title"])
            places |= place
