"""
The page in chromium: how it loads, how it looks, who can use it, and what other
sites can do with it.

C{SCREENSHOTS=docs python -m twisted.trial tests.browser.test_look} writes the
pictures of the README.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any

from twisted.logger import Logger

from openai_server.embedded.models import Model
from openai_server.reports import TurnReport
from openai_server.web.page.folder import FILES
from tests.browser.support import PHONE, WIDE, BrowserCase, inBrowser
from tests.machinery.steps import Say
from tests.serving import said
from tests.web.test_page import LARGEST, requestReport

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"

#: Bytes until the page is loaded, with headers.
LARGEST_TO_SHOW = 70_000

#: Times that the page is loaded, of which the log says half.
LOADS = 5

#: Bytes of one picture: the README is to load quickly, too.
LARGEST_PICTURE = 150_000

_log = Logger()

ANSWER = """Three things decide it:

1. **Freshness.** Beans lose most of their aroma within *four weeks*.
2. **Grind.** Finer means more taste, until it is bitter.
3. **Water**, at about `93 °C`.

| method | grind | time |
| --- | --- | --- |
| espresso | fine | 25 s |
| filter | medium | 3 min |
"""


class LookCase(BrowserCase):
    """
    A page with something on it.
    """

    def models(self) -> Mapping[str, Model]:
        """
        A model that has something to say.
        """
        return {"barista": lambda question: [Say("They want it short.", 1, "reasoning"), *said(ANSWER)]}

    def talk(self) -> None:
        """
        Have a conversation with a tool call in it.
        """
        self.say("How do I make good coffee?", model="barista")
        self.answers(1)
        self.find("#options summary").click()
        self.find("#example").click()
        self.say("What is the weather in Oslo?", model="tool-one")
        self.find(".calls textarea")

    def work(self) -> None:
        """
        Tell of an hour's requests.
        """
        activity = self.serving.front.activity
        now, activity._now = activity._now, lambda: time
        for minute in range(58, -1, -1):
            time = now() - 60 * minute
            for each in range((minute * 7) % 4):
                seconds = 0.2 + (minute * 37 + each * 11) % 23 / 20
                tokens = (100 + minute * 13 % 300) * (each + 1)
                account = ("alice", "editor", "nightly")[each]
                activity.turnEnded(
                    TurnReport(account, "chat", "echo", "00", tokens * 2, 0, tokens, 0, 2.0, "ok", False)
                )
                activity.requestEnded(
                    requestReport(firstTokenSeconds=seconds, seconds=seconds * 4, outputTokens=tokens)
                )
        time = now()
        failed: Any = {"status": 503, "end": "up-nowork", "firstTokenSeconds": None, "outputTokens": None}
        activity.requestEnded(requestReport(model="other", seconds=0.01, **failed))
        activity._now = now


class LoadTests(LookCase):
    """
    What the browser loads.
    """

    # Of the bare page's, which has no icon.
    expected = ("favicon.ico",)

    @inBrowser
    def test_fewAndSmall(self) -> None:
        """
        One request, and the page is there; all others come after it, each file
        once. All are from this server alone, and the second time none is sent.
        """
        self.open()
        first = self.loaded()
        self.assertEqual({name for name in first if not name.startswith(self.address)}, set())
        self.assertEqual(len(first), len(FILES) + 1)
        self.assertLess(sum(first.values()), LARGEST + 1000 * len(first))
        needed = self.needed()
        shown = {self.address}
        self.assertEqual(set(needed), shown)
        self.assertLess(sum(needed.values()), LARGEST_TO_SHOW)
        self.driver.refresh()
        self.assertLess(max(self.loaded().values()), 1000)
        self.assertEqual(set(self.needed()), shown)

    @inBrowser
    def test_formattersComeLater(self) -> None:
        """
        What formats numbers is made when there is one to show: the first takes
        a browser longer than all else that the page's script begins with.
        """
        count = """
        const Usual = Intl.NumberFormat;
        globalThis.made = 0;
        Intl.NumberFormat = class extends Usual {
          constructor(...given) { super(...given); made++; }
        };
        addEventListener("load", () => (globalThis.madeBefore = made));
        """
        added = self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": count})
        try:
            self.open()
            self.until(lambda: self.script("return made") > 0)
            self.assertEqual(self.script("return madeBefore"), 0)
        finally:
            self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)

    @inBrowser
    def test_time(self) -> None:
        """
        Say in the log how long it takes, beside a page with nothing in it.
        """
        self.driver.get(f"{self.address}readyz")
        self.driver.get("about:blank")
        bare = [self.timed("readyz", isNew=True) for _ in range(LOADS)]
        new = [self.timed(isNew=True) for _ in range(LOADS)]
        known = [self.timed() for _ in range(LOADS)]
        _log.info(
            "milliseconds until the load event, half of the times: {new} in a browser that is new to the "
            "page, {known} in one that has it, {bare} for a page with nothing in it; all: {all}",
            new=median(new),
            known=median(known),
            bare=median(bare),
            all={"new": new, "known": known, "bare": bare},
        )
        self.assertGreater(min(*bare, *new, *known), 0)

    def timed(self, path: str = "", isNew: bool = False) -> int:
        """
        Load a page in a tab of its own, and return the milliseconds that this
        took by the browser's own clock.
        """
        (first,) = self.driver.window_handles
        self.driver.switch_to.new_window("tab")
        if isNew:
            self.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
        # The browser starts a process for the next page meanwhile.
        self.task("await new Promise((done) => setTimeout(done, 500))")
        self.driver.get(self.address + path)
        loaded = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
        milliseconds = round(self.until(lambda: self.script(loaded)))
        self.driver.close()
        self.driver.switch_to.window(first)
        return milliseconds

    def needed(self) -> dict[str, int]:
        """
        The bytes of each request that was made before the page was loaded.
        """
        return self.requests("entry.startTime < performance.getEntriesByType('navigation')[0].loadEventStart")

    def loaded(self) -> dict[str, int]:
        """
        The bytes that came for each file, once all are there.
        """
        isFile = "!/v1|events/.test(entry.name)"
        last = {f"{self.address}page/{name}" for name in ("marked.js", "purify.js", "icon.svg")}
        self.until(lambda: last <= set(self.requests(isFile)))
        return self.requests(isFile)

    def requests(self, condition: str) -> dict[str, int]:
        """
        The bytes that came for each request for which this is true.
        """
        entries = f"""
        const isOne = (entry) => "transferSize" in entry && {condition};
        return performance.getEntries().filter(isOne).map((entry) => [entry.name, entry.transferSize]);
        """
        return dict(self.script(entries))


class AccessTests(LookCase):
    """
    What axe-core finds.
    """

    if not AXE.is_file():
        skip = "needs npm install in tests/browser"

    def check(self) -> None:
        """
        Look for faults that keep somebody out.
        """
        self.script(AXE.read_text())
        found = self.task("return (await axe.run()).violations")
        faults = [
            (each["id"], each["impact"], [node["html"][:120] for node in each["nodes"]])
            for each in found
            if each["impact"] in ("serious", "critical")
        ]
        self.assertEqual(faults, [])

    @inBrowser
    def test_noSeriousFault(self) -> None:
        """
        None is serious: with everything open, light and dark, on a phone, and
        in both views.
        """
        self.inReactor(self.work)
        for scheme, size in (("light", WIDE), ("dark", PHONE)):
            self.prefer(scheme)
            self.open(size=size)
            self.talk()
            self.script("for (const each of document.querySelectorAll('details')) each.open = true")
            self.find("#key-button").click()
            self.script("document.getElementById('key-problem').textContent = 'This key is wrong.'")
            self.check()
            self.script("location.hash = '#see'")
            self.until(lambda: self.find("#tiles").is_displayed())
            self.check()
            self.script("location.hash = '#try'")
            self.find("#clear").click()
            self.check()
        self.prefer("light")

    @inBrowser
    def test_phone(self) -> None:
        """
        Nothing is wider than a phone, and the field for the message is seen.
        """
        self.inReactor(self.work)
        self.open(size=PHONE)
        self.talk()
        width, height = PHONE
        for fragment in ("#try", "#see"):
            self.script("location.hash = arguments[0]", fragment)
            self.find(fragment)
            extent = "const it = document.scrollingElement; return [it.scrollWidth, it.scrollHeight]"
            self.until(lambda extent=extent: self.script(extent) == [width, height])
        self.script("location.hash = '#try'")
        where = self.until(lambda: self.find("#send").rect)
        self.assertLessEqual(where["y"] + where["height"], height)


class PictureTests(LookCase):
    """
    The pictures of the README.
    """

    @inBrowser
    def test_pictures(self) -> None:
        """
        They are taken, and are not large.
        """
        folder = Path(os.environ.get("SCREENSHOTS") or self.mktemp())
        if not folder.is_absolute() and "SCREENSHOTS" in os.environ:
            folder = Path(__file__).parent.parent.parent / folder
        self.inReactor(self.work)
        self.open()
        self.talk()
        self.takePicture(folder / "page-light.png")
        self.resize(PHONE)
        self.script("document.getElementById('log').scrollTop = 0")
        self.takePicture(folder / "page-phone.png")
        self.resize(WIDE)
        self.prefer("dark")
        self.script("location.hash = '#see'")
        self.until(lambda: len(self.all("#requests tr")) > 20)
        self.takePicture(folder / "page-dark.png")
        self.prefer("light")

    def takePicture(self, path: Path) -> None:
        """
        Take one, and see that it is not large.
        """
        self.script("document.activeElement.blur(); return new Promise(requestAnimationFrame)")
        self.screenshot(path)
        self.assertLess(path.stat().st_size, LARGEST_PICTURE)


class ForeignTests(BrowserCase):
    """
    What pages of another site can do with this server: nothing.
    """

    expected = ("frame-ancestors", "X-Frame-Options", "blocked by CORS policy", "Failed to load resource")

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        page = f'<!doctype html><title>foreign</title><iframe src="{self.address}"></iframe>'.encode()

        class Foreign(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, format: str, *args: object) -> None:
                pass

        site = ThreadingHTTPServer(("127.0.0.1", 0), Foreign)
        serving = Thread(target=site.serve_forever, args=(0.05,))
        serving.start()
        self.addCleanup(site.server_close)
        self.addCleanup(serving.join)
        self.addCleanup(site.shutdown)
        self.foreign = f"http://127.0.0.1:{site.server_port}/"

    @inBrowser
    def test_framed(self) -> None:
        """
        C50: the page is shown in nobody's frame.
        """
        self.driver.get(self.foreign)
        self.until(lambda: self.all("iframe"))
        self.driver.switch_to.frame(self.find("iframe"))
        self.until(lambda: self.script("return document.readyState") == "complete")
        self.assertEqual(self.all("#main"), [])
        self.driver.switch_to.default_content()
        messages = [entry["message"] for entry in self.driver.get_log("browser")]
        self.assertTrue([message for message in messages if "frame-ancestors" in message], messages)

    @inBrowser
    def test_foreignRequests(self) -> None:
        """
        C50: whatever a foreign page asks is refused, and nothing is asked of a
        model; nor can it take the places of those who listen.
        """
        self.driver.get(self.foreign)
        asked = self.task(
            """
            const [address] = given;
            const body = JSON.stringify({ model: "echo", messages: [{ role: "user", content: "x" }] });
            const attempts = [
              ["v1/models"], ["page/events"], ["page/events", { headers: { "x-page": "1" } }],
              ["v1/chat/completions", { method: "POST", body }],
              ["v1/chat/completions", { method: "POST", body, mode: "no-cors" }],
              ["v1/chat/completions", { method: "POST", body, headers: { "content-type": "text/json" } }],
              ...Array(20).fill(["page/events", { mode: "no-cors" }]),
            ];
            return Promise.all(attempts.map(([path, how]) => fetch(address + path, how)
              .then((answer) => answer.type, () => "refused")));
            """,
            self.address,
        )
        self.assertEqual(set(asked), {"refused", "opaque"})
        self.assertEqual(asked[:4] + asked[5:6], ["refused"] * 5)
        self.assertEqual(self.sent("prompt"), [])
        self.open("#see")
        self.until(lambda: self.text("#status-text") == "Ready")
