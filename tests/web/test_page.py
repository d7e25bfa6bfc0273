"""
Tests for L{openai_server.web.page}: the files, the stream, and what it tells.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address

from openai_server.reports import RequestReport, TurnReport
from openai_server.web.page import feed
from openai_server.web.page.activity import ACCOUNTS, MINUTES, REQUESTS, Activity
from openai_server.web.page.folder import FILES, INDEX, MODULES, STYLE
from openai_server.web.page.joined import insert, join, modulesOf
from tests.flow.test_accounts import AccountCase
from tests.support import SyncCase
from tests.world import Client, World

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}

#: Bytes of all files together: the page is to be light.
LARGEST = 150_000


def get(world: World, path: str = "/", **headers: str) -> Client:
    """
    Ask for a path.
    """
    client = world.client()
    given = {"host": "127.0.0.1", **headers}
    lines = [f"GET {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in given.items())]
    client.send("\r\n".join(lines).encode() + b"\r\n\r\n")
    client.wire.read()
    return client


def requestReport(**fields: Any) -> RequestReport:
    """
    The report of a request.
    """
    usual: dict[str, Any] = {
        "requestId": "req_1",
        "account": "anonymous",
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 200,
        "end": "ok",
        "model": "echo",
        "seconds": 1.5,
        "firstTokenSeconds": 0.25,
        "inputTokens": 30,
        "outputTokens": 7,
        "traceparent": None,
    }
    return RequestReport(**usual | fields)


def turnReport(inputTokens: int, outputTokens: int, account: str = "anonymous") -> TurnReport:
    """
    The report of a turn that cost this.
    """
    return TurnReport(
        account=account,
        api="chat",
        model="echo",
        session="00",
        inputTokens=inputTokens,
        cachedTokens=0,
        outputTokens=outputTokens,
        calls=0,
        seconds=1.0,
        end="ok",
        isEstimated=False,
    )


class FileTests(SyncCase):
    """
    What a browser loads.
    """

    def test_pageForBrowsers(self) -> None:
        """
        Whoever wants HTML is given the page, anybody else what the server says
        of itself; caches know that these are two.
        """
        world = World(self)
        page = get(world, **HTML)
        self.assertEqual((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"))
        self.assertTrue(page.content.startswith(b"<!doctype html>"))
        for headers in ({}, {"accept": "*/*"}, {"accept": "application/json"}, {"accept": "text/html-not"}):
            other = get(world, **headers)
            self.assertEqual(other.json["name"], "openai-server")
            self.assertIn("Accept", other.header("vary") or "")
        self.assertIn("Accept", page.header("vary") or "")

    def test_whoComesFromAnotherPage(self) -> None:
        """
        That page has no hold of this one, nor has any where the browser does
        not say.
        """
        world = World(self)
        for said, isKeptOff in (("none", False), ("cross-site", True), ("same-origin", True), (None, True)):
            page = get(world, **HTML, **({"sec-fetch-site": said} if said else {}))
            self.assertEqual(
                page.header("cross-origin-opener-policy"), "same-origin" if isKeptOff else None
            )

    def test_allFiles(self) -> None:
        """
        Each is served with its type, and with headers that let it load from
        here alone and be framed nowhere.
        """
        world = World(self)
        types = {".js": "text/javascript", ".svg": "image/svg+xml"}
        for place, path in [*FILES.items(), ("/", INDEX)]:
            file = get(world, place, **HTML)
            self.assertEqual(file.status, 200)
            if path != INDEX:
                self.assertEqual(file.content, path.read_bytes())
            self.assertIn(types.get(path.suffix, "text/html"), file.header("content-type") or "")
            policy = file.header("content-security-policy") or ""
            own = "^default-src 'none'; script-src 'self' 'sha256-[^ ]+'; style-src 'sha256-[^ ]+'; "
            self.assertRegex(policy, own)
            self.assertIn("frame-ancestors 'none'", policy)
            self.assertNotIn("unsafe", policy)
            self.assertEqual(file.header("x-frame-options"), "DENY")
            self.assertEqual(file.header("x-content-type-options"), "nosniff")
            self.assertEqual(file.header("referrer-policy"), "no-referrer")

    def test_unchangedFilesAreNotSentAgain(self) -> None:
        """
        A browser that has a file asks whether it is still good; so does one
        behind a proxy that compresses.
        """
        world = World(self)
        for place in ("/", *FILES):
            first = get(world, place, **HTML)
            self.assertEqual(first.header("cache-control"), "no-cache")
            tag = first.header("etag") or ""
            for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
                again = get(world, place, if_none_match=known, **HTML)
                self.assertEqual((again.status, again.content), (304, b""), known)
                self.assertEqual(again.header("etag"), tag)
            self.assertEqual(get(world, place, if_none_match='"other"', **HTML).status, 200)

    def test_noKeyIsNeeded(self) -> None:
        """
        A browser that opens an address can send none; the stream wants it.
        """
        world = World(self, apiKey="sk-secret")
        for place in ("/", *FILES):
            self.assertEqual(get(world, place, **HTML).status, 200)
        for headers in ({}, {"authorization": "Bearer wrong"}):
            refused = get(world, "/page/events", x_page="1", **headers)
            self.assertEqual((refused.status, refused.error["code"]), (401, "invalid_api_key"))
        let = get(world, "/page/events", x_page="1", authorization="Bearer sk-secret")
        self.assertEqual(let.status, 200)

    def test_size(self) -> None:
        """
        All files together are light.
        """
        world = World(self)
        sizes = {place: len(get(world, place, **HTML).content) for place in ("/", *FILES)}
        self.assertLess(sum(sizes.values()), LARGEST, sizes)

    def test_nothingForeign(self) -> None:
        """
        The page names no other host, holds nothing that runs but its one script,
        and each file that it loads is there.
        """
        self.assertEqual(re.findall(r"https?://|<style|\sstyle=|\son\w+=|<script>", INDEX.read_text()), [])
        world = World(self)
        text = get(world, **HTML).content.decode()
        self.assertEqual(re.findall(r"<(?:style|script)\b.*?>", text), ["<style>", '<script type="module">'])
        loaded = {f"/{name}" for name in re.findall(r'(?:src|href)="(page/[^"]+)"', text)}
        loaded |= {f"/{name}" for name in re.findall(r'\bimport\("\./([^"]+)"\)', text)}
        for place in FILES:
            if place.endswith(".js"):
                names = re.findall(r'\b(?:from|import) ?"\./([^"]+)"', get(world, place).content.decode())
                loaded |= {f"/page/{name}" for name in names}
        self.assertEqual(loaded, set(FILES))

    def test_policy(self) -> None:
        """
        It lets the page's own style and script be, by what they hold.
        """
        page = get(World(self), **HTML)
        policy = page.header("content-security-policy") or ""
        for element, directive in (("style", "style-src"), ("script", "script-src 'self'")):
            found = re.search(rf"<{element}[^>]*>(.*?)</{element}>", page.content.decode(), re.DOTALL)
            assert found is not None
            digest = b64encode(sha256(found[1].encode()).digest()).decode()
            self.assertIn(f"; {directive} 'sha256-{digest}';", policy)

    def test_licences(self) -> None:
        """
        What others have written is named with its version, beside its licence.
        """
        folder = INDEX.parent.parent / "licences"
        about = (folder / "README.md").read_text()
        for name, library in (("marked", "marked v"), ("purify", "DOMPurify ")):
            found = re.search(re.escape(library) + r"([0-9.]+)", FILES[f"/page/{name}.js"].read_text()[:500])
            assert found is not None
            self.assertIn(f"| {found[1]} |", about)
        for licence in re.findall(r"`(\w+\.txt)`", about):
            self.assertIn("Copyright", (folder / licence).read_text())

    def test_shipped(self) -> None:
        """
        The wheel has the folders.
        """
        settings = (Path(__file__).parent.parent.parent / "setup.cfg").read_text()
        self.assertIn("web/page/static/*, web/page/licences/*", settings)


class Listening:
    """
    A page that listens.
    """

    def __init__(self, world: World, kernelSize: int = 1 << 30, **headers: str) -> None:
        self.client = world.client(kernelSize)
        lines = ["GET /page/events HTTP/1.1", "Host: 127.0.0.1", "X-Page: 1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.client.send("\r\n".join(lines).encode() + b"\r\n\r\n")
        if kernelSize > 1000:
            self.client.wire.read()

    @property
    def events(self) -> list[tuple[str, Any]]:
        """
        Name and data of each event so far.
        """
        self.client.wire.read()
        found = []
        for event in self.client.content.decode().split("\n\n")[:-1]:
            if not event.startswith(":"):
                name, _, data = event.partition("\ndata: ")
                found.append((name.removeprefix("event: "), json.loads(data)))
        return found

    @property
    def state(self) -> dict[str, Any]:
        """
        All that it has been told, as the page puts it together.
        """
        state: dict[str, Any] = {}
        for _, told in self.events:
            requests = [*state.get("requests", ()), *told.pop("requests", ())]
            state = {**state, **told, "requests": requests}
        return state


class JoinTests(SyncCase):
    """
    Files that are served within the page.
    """

    def write(self, **modules: str) -> Path:
        """
        Write modules, and return the folder.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        for name, text in modules.items():
            (folder / f"{name}.js").write_text(text)
        return folder

    def test_oneRequest(self) -> None:
        """
        The page comes with its style and all that starts it: a browser need not
        follow imports from module to module.
        """
        text = get(World(self), **HTML).content.decode()
        self.assertEqual(re.findall(r"^(?:import|export)\b.*", text, re.MULTILINE), [])
        self.assertIn(STYLE.read_text(), text)
        for path in MODULES:
            self.assertIn(path.read_text().splitlines()[0], text)

    def test_each(self) -> None:
        """
        Each module is there once, after those that it needs, and shows no more
        of its names than it exports.
        """
        folder = self.write(
            last='import { two } from "./left.js";\nimport { one } from "./base.js";\nshow(one + two);\n',
            left='import { one } from "./base.js";\nconst own = 1;\nexport const two = one + own;\n',
            base="export const one = 1;\nexport async function* many() {}\nexport class Thing {}\n",
            other="export const unused = 1;\n",
        )
        modules = modulesOf(folder / "last.js")
        self.assertEqual([path.stem for path in modules], ["base", "left", "last"])
        self.assertEqual(
            join(modules),
            "const $base = (() => {\nconst one = 1;\nasync function* many() {}\nclass Thing {}\n"
            "return { one, many, Thing };\n})();\n"
            "const $left = (() => {\nconst { one } = $base;\nconst own = 1;\nconst two = one + own;\n"
            "return { two };\n})();\n"
            "const $last = (() => {\nconst { two } = $left;\nconst { one } = $base;\nshow(one + two);\n"
            "return {  };\n})();\n",
        )

    def test_unreadable(self) -> None:
        """
        What cannot be joined is named.
        """
        for line in (
            'import "./base.js";',
            'import * as base from "./base.js";',
            'import { one as two } from "./base.js";',
            "export default 1;",
            "export { one };",
            "export let one = 1;",
        ):
            folder = self.write(entry=f"{line}\n")
            refused = self.assertRaises(ValueError, join, [folder / "entry.js"])
            self.assertEqual(str(refused), f"entry.js cannot be joined: {line}")
        folder = self.write(one='import { two } from "./two.js";\n', two='import { one } from "./one.js";\n')
        refused = self.assertRaises(ValueError, modulesOf, folder / "one.js")
        self.assertEqual(str(refused), "one.js needs itself by two.js")

    def test_insert(self) -> None:
        """
        A file takes the place of the line that names it, unless HTML would take
        it for something else.
        """
        page = '<head>\n<link href="page/it.css">\n</head>\n'
        whole, source = insert(page, "it.css", "p { color: red }", "style")
        self.assertEqual(whole, "<head>\n<style>p { color: red }</style>\n</head>\n")
        self.assertEqual(source, "'sha256-" + b64encode(sha256(b"p { color: red }").digest()).decode() + "'")
        for name, content, problem in (
            ("its.css", "", "the page names its.css 0 times, not once"),
            ("it.css", "</STYLE >", "it.css cannot be within the page, since it holds </style or <!--"),
            ("it.css", "<!--", "it.css cannot be within the page, since it holds </style or <!--"),
        ):
            refused = self.assertRaises(ValueError, insert, page, name, content, "style")
            self.assertEqual(str(refused), problem)
        refused = self.assertRaises(ValueError, insert, page * 2, "it.css", "", "style")
        self.assertEqual(str(refused), "the page names it.css 2 times, not once")


class FeedTests(SyncCase):
    """
    The stream of what the server does.
    """

    def test_snapshot(self) -> None:
        """
        The first event says all that there is.
        """
        world = World(self)
        world.front.activity.requestEnded(requestReport())
        world.front.activity.turnEnded(turnReport(30, 4))
        page = Listening(world)
        self.assertEqual(page.client.header("content-type"), "text/event-stream; charset=utf-8")
        ((name, told),) = page.events
        self.assertEqual(name, "snapshot")
        self.assertIn("echo", told["server"]["models"])
        self.assertIsNone(told["server"]["degraded"])
        self.assertIsNone(told["daemon"]["why"])
        (worker,) = told["daemon"]["workers"]
        self.assertIn("echo", worker["models"])
        none = {"live": 0, "parked": 0, "queued": 0, "calls": 0, "sessions": 0}
        self.assertEqual(told["turns"], none)
        self.assertEqual([request["requestId"] for request in told["requests"]], ["req_1"])
        self.assertEqual([minute["outputTokens"] for minute in told["minutes"]], [4])
        (use,) = told["accounts"]
        self.assertEqual((use["account"], use["turns"], use["inputTokens"]), ("anonymous", 1, 30))

    def test_requests(self) -> None:
        """
        What was asked, how it ended and how long it took is told when it is
        over; the page's own requests are not.
        """
        world = World(self)
        page = Listening(world)
        get(world, "/page/icon.svg")
        world.ask("one two", model="echo", stream=True)
        get(world, "/nowhere")
        world.advance(3)
        told = {request["route"]: request for request in page.state["requests"]}
        self.assertEqual(set(told), {"/v1/chat/completions", "unmatched"})
        chat = told["/v1/chat/completions"]
        self.assertEqual((chat["status"], chat["end"], chat["model"]), (200, "ok", "echo"))
        self.assertGreater(chat["firstTokenSeconds"], 0)
        self.assertGreaterEqual(chat["seconds"], chat["firstTokenSeconds"])
        self.assertEqual((told["unmatched"]["status"], told["unmatched"]["end"]), (404, "bad"))

    def test_tokens(self) -> None:
        """
        What a turn has cost is told when it is over.
        """
        world = World(self)
        page = Listening(world)
        world.script({"words": "one two"}, {"usage": {"input_tokens": 11, "output_tokens": 5}})
        world.advance(3)
        (minute,) = page.state["minutes"]
        self.assertEqual((minute["turns"], minute["inputTokens"], minute["outputTokens"]), (1, 11, 5))

    def test_changes(self) -> None:
        """
        What changes is told within a second and at most once a second, and
        what stays as it is is not told again.
        """
        world = World(self)
        page = Listening(world)
        held = world.ask("wait", model="silence", stream=True)
        for at in range(5):
            world.front.activity.requestEnded(requestReport(requestId=f"req_{at}"))
            world.advance(0.1, 0.1)
        world.advance(0.6, 0.1)
        (_, (name, told)) = page.events
        self.assertEqual((name, set(told)), ("change", {"turns", "requests"}))
        self.assertEqual(told["turns"]["live"], 1)
        ids = [request["requestId"] for request in told["requests"]]
        self.assertEqual(ids, [f"req_{at}" for at in range(5)])
        world.advance(5)
        self.assertEqual(len(page.events), 2)
        held.leave()
        world.advance(40)
        self.assertEqual(page.state["turns"]["live"], 0)

    def test_turnsThatWaitForResults(self) -> None:
        """
        A parked turn is no live one; one that ended leaves a session.
        """
        world = World(self)
        tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
        asked = world.ask("look", model="tool-one", tools=[tool])
        world.until(lambda: asked.isComplete)
        page = Listening(world)
        turns = page.state["turns"]
        self.assertEqual((turns["live"], turns["parked"], turns["calls"]), (0, 1, 1))
        result = {"role": "tool", "tool_call_id": asked.calls[0]["id"], "content": "seen"}
        messages = [{"role": "user", "content": "look"}, asked.message, result]
        world.ask(messages, model="tool-one", tools=[tool])
        world.advance(3)
        turns = page.state["turns"]
        self.assertEqual((turns["live"], turns["parked"], turns["sessions"]), (0, 0, 1))

    def test_eachRequestIsToldOnce(self) -> None:
        """
        Also to a page that comes between two looks.
        """
        world = World(self)
        activity = world.front.activity
        first = Listening(world)
        activity.requestEnded(requestReport(requestId="req_a"))
        second = Listening(world)
        world.advance(1)
        activity.requestEnded(requestReport(requestId="req_b"))
        world.advance(1)
        for page in (first, second):
            self.assertEqual([told["requestId"] for told in page.state["requests"]], ["req_a", "req_b"])

    def test_daemonGoneAndBack(self) -> None:
        """
        The reason that /readyz gives is told, and when there is none any more.
        """
        world = World(self)
        page = Listening(world)
        world.daemon.stop()
        world.advance(2)
        why = page.state["daemon"]["why"]
        self.assertEqual(get(world, "/readyz").error["message"], why)
        self.assertTrue(why)
        world.daemon.start()
        world.advance(10)
        self.assertIsNone(page.state["daemon"]["why"])

    def test_lineSeparators(self) -> None:
        """
        An event stays one line for every reader.
        """
        world = World(self)
        world.front.activity.requestEnded(requestReport(model="a\u2028b\nc"))
        self.assertEqual(Listening(world).state["requests"][0]["model"], "a\u2028b\nc")
        page = Listening(world)
        self.assertNotIn("\u2028".encode(), page.client.content)

    def test_silence(self) -> None:
        """
        A stream says something now and then, so that nothing in between closes
        it, and a page that is gone without a word is noticed.
        """
        world = World(self)
        page = Listening(world)
        world.advance(16)
        self.assertIn(b": still here\n\n", page.client.content)

    def test_bound(self) -> None:
        """
        C52: so many may listen, and a place is free when one leaves.
        """
        world = World(self)
        pages = [Listening(world) for _ in range(feed.LISTENERS)]
        self.assertEqual({page.client.status for page in pages}, {200})
        late = Listening(world)
        self.assertEqual((late.client.status, late.client.header("retry-after")), (429, "5"))
        pages[3].client.leave()
        self.assertEqual(Listening(world).client.status, 200)

    def test_slowPageIsCut(self) -> None:
        """
        C52: what a page does not read is not kept without end: it is cut, and the
        others go on.
        """
        world = World(self)
        Listening(world, kernelSize=1000)
        quick = Listening(world)
        for _ in range(60):
            for _ in range(REQUESTS):
                world.front.activity.requestEnded(requestReport(requestId="x" * 100))
            world.clock.advance(1)
            world.flush()
            quick.client.wire.read()
            if "cl-stuck" in world.ends:
                break
        self.assertEqual(world.ends, ["cl-stuck"])
        self.assertGreater(len(quick.events), 2)
        self.assertEqual(Listening(world).client.status, 200)

    def test_strangersTakeNoPlaces(self) -> None:
        """
        C50: a page of another site can have its browser ask, without reading the
        answer: without the header that it cannot send, it takes no place.
        """
        world = World(self)
        refused = get(world, "/page/events")
        self.assertEqual(refused.status, 400)
        self.assertIn("X-Page", refused.error["message"])
        foreign = get(world, "/page/events", x_page="1", origin="http://evil.example")
        self.assertEqual((foreign.status, foreign.error["code"]), (403, "origin_not_allowed"))

    def test_end(self) -> None:
        """
        All streams end well when the server stops, and none is begun.
        """
        world = World(self)
        page = Listening(world)
        world.front.site.stopAccepting()
        world.flush()
        self.assertEqual(page.events[-1], ("end", {}))
        self.assertTrue(page.client.isComplete)
        self.assertEqual(world.ends, ["ok"])
        self.assertEqual(world.front.site.openResponses, 0)

    def test_nobodyListens(self) -> None:
        """
        Then nothing is looked at.
        """
        world = World(self)
        page = Listening(world)
        page.client.leave()
        before = len(world.clock.getDelayedCalls())
        self.assertEqual(before, len(World(self).clock.getDelayedCalls()))


class AdministratorTests(AccountCase):
    """
    Who may watch where there are several keys.
    """

    def test_keys(self) -> None:
        """
        An administrator, and no other account; what is told has the names that
        people know accounts by.
        """
        self.add("alice")
        self.add("bob", "--rpm", "60")
        self.add("root", "--admin")
        world = self.world(apiKey="sk-settings")
        for key, status in ((self.keys["alice"], 403), (self.keys["root"], 200), ("sk-settings", 200)):
            page = get(world, "/page/events", x_page="1", authorization=f"Bearer {key}")
            self.assertEqual(page.status, status)
            if status == 403:
                self.assertEqual(page.error["code"], "admin_key_required")
        for headers in (self.bearer("alice"), {"authorization": "Bearer sk-settings"}):
            world.ask("x", model="echo", headers=headers)
            world.advance(2)
        page = Listening(world, authorization=f"Bearer {self.keys['root']}")
        told = {use["account"]: (use["turns"], use["limits"]["rpm"]) for use in page.state["accounts"]}
        used, unused = {"alice": (1, None), "default": (1, None)}, {"bob": (0, 60), "root": (0, None)}
        self.assertEqual(told, used | unused)
        for key in (*self.keys.values(), "sk-settings"):
            self.assertNotIn(key.encode(), page.client.content)

    def test_keyGone(self) -> None:
        """
        C43: whoever watches with a key that is disabled, or an administrator's no
        more, watches no longer, and is told why.
        """
        self.add("root", "--admin")
        self.add("other", "--admin")
        world = self.world()
        pages = [Listening(world, **self.bearer(name)) for name in ("root", "other")]
        world.advance(3)
        self.assertEqual([page.client.isComplete for page in pages], [False, False])
        self.admin("disable", "root")
        world.advance(4)
        self.assertEqual([page.client.isComplete for page in pages], [True, False])
        self.assertIn(b'"code":"invalid_api_key"', pages[0].client.content)
        self.assertEqual(world.ends, ["auth"])

    def test_keyReplaced(self) -> None:
        """
        C43: whoever watches with a key that was replaced watches no longer, though
        its account has another one.
        """
        self.add("root", "--admin")
        world = self.world()
        page = Listening(world, **self.bearer("root"))
        self.admin("rotate", "root", "--grace", "5")
        world.advance(3)
        self.assertFalse(page.client.isComplete)
        world.advance(4)
        self.assertTrue(page.client.isComplete)
        self.assertEqual(world.ends, ["auth"])

    def test_otherMachines(self) -> None:
        """
        Where no key is needed, this machine's alone.
        """
        world = World(self)
        client = world.client()
        elsewhere = IPv4Address("TCP", "192.168.1.7", 50000)
        self.patch(type(client.wire), "getPeer", lambda wire: elsewhere)
        client.send(b"GET /page/events HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Page: 1\r\n\r\n")
        client.wire.read()
        self.assertEqual((client.status, client.error["code"]), (403, "admin_key_required"))


class FailureTests(SyncCase):
    """
    How an answer to the page fails.
    """

    def test_lastWords(self) -> None:
        """
        C54: a stream that fails ends well for the page, behind the error, and
        is cut for everybody else.
        """
        world = World(self)
        steps = json.dumps([{"words": "half"}, {"result_error": "it broke"}])
        messages = [{"role": "user", "content": f"#script {steps}"}]
        body = {"model": "script", "stream": True, "messages": messages}
        page, other = (
            world.client().post(body, "/v1/chat/completions", **headers) for headers in ({"x_page": "1"}, {})
        )
        world.advance(3)
        for client, isComplete in ((page, True), (other, False)):
            self.assertIn("it broke", client.events[-1]["error"]["message"])
            self.assertEqual(client.isComplete, isComplete)
            self.assertNotIn("[DONE]", client.events)


class ActivityTests(SyncCase):
    """
    What is remembered.
    """

    def setUp(self) -> None:
        super().setUp()
        self.time = 1_000_000.0
        self.activity = Activity(lambda: self.time)

    def test_lastRequests(self) -> None:
        """
        The last ones, each as it was told and when; no more than so many.
        """
        for at in range(REQUESTS + 5):
            self.activity.requestEnded(requestReport(requestId=f"req_{at}"))
        self.assertEqual(self.activity.count, REQUESTS + 5)
        kept = self.activity.requests(0, self.activity.count)
        self.assertEqual([kept[0]["requestId"], kept[-1]["requestId"]], ["req_5", f"req_{REQUESTS + 4}"])
        self.assertEqual((len(kept), kept[0]["at"]), (REQUESTS, 1_000_000.0))
        self.assertEqual([each["requestId"] for each in self.activity.requests(203, 204)], ["req_203"])
        self.assertEqual(self.activity.requests(self.activity.count, self.activity.count), [])

    def test_longNamesAreCut(self) -> None:
        """
        A client may name a model as it likes.
        """
        self.activity.requestEnded(requestReport(model="x" * 1000))
        self.activity.requestEnded(requestReport(model=None))
        first, second = self.activity.requests(0, 2)
        self.assertEqual((first["model"], first["account"]), ("x" * 100, "anonymous"))
        self.assertEqual((second["model"], second["account"]), (None, "anonymous"))

    def test_probesAreNotRemembered(self) -> None:
        """
        What asks all the time would leave no room for anything else.
        """
        for route in ("/", "/healthz", "/readyz", "/metrics", "/page/app.js", "/page/events"):
            self.activity.requestEnded(requestReport(route=route))
        self.assertEqual(self.activity.count, 0)
        self.activity.requestEnded(requestReport(route="/v1/models"))
        self.assertEqual(self.activity.count, 1)

    def test_accounts(self) -> None:
        """
        What each account has used, the last one first, as long as there are
        not very many.
        """
        for at in range(ACCOUNTS):
            self.activity.turnEnded(turnReport(1, 2, f"account-{at}"))
        self.time += 5
        self.activity.turnEnded(turnReport(10, 20, "account-0"))
        first, second = self.activity.uses()[:2]
        told = (first.account, first.turns, first.inputTokens, first.outputTokens, first.lastAt)
        self.assertEqual(told, ("account-0", 2, 11, 22, 1_000_005))
        self.assertEqual(second.account, f"account-{ACCOUNTS - 1}")
        self.activity.turnEnded(turnReport(1, 2, "another"))
        names = {use.account for use in self.activity.uses()}
        self.assertEqual((len(names), "account-1" in names, "account-0" in names), (ACCOUNTS, False, True))

    def test_minutes(self) -> None:
        """
        Tokens are counted by the minute, for an hour; a wall clock that steps
        back does no harm.
        """
        self.activity.turnEnded(turnReport(10, 1))
        self.activity.turnEnded(turnReport(20, 2))
        self.time += 60
        self.activity.turnEnded(turnReport(5, 3))
        self.time -= 600
        self.activity.turnEnded(turnReport(1, 1))
        told = [(minute.turns, minute.inputTokens, minute.outputTokens) for minute in self.activity.minutes()]
        self.assertEqual(told, [(2, 30, 3), (2, 6, 4)])
        self.assertEqual([minute.at % 60 for minute in self.activity.minutes()], [0, 0])
        self.time += 600 + MINUTES * 60 - 100
        self.assertEqual(len(self.activity.minutes()), 1)
        for _ in range(2 * MINUTES):
            self.time += 60
            self.activity.turnEnded(turnReport(1, 1))
        self.assertLessEqual(len(self.activity.minutes()), MINUTES)
