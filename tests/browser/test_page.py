"""
The page in chromium: what a person does with it.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any

from selenium.webdriver.common.keys import Keys

from openai_server.reports import TurnReport
from tests.browser.support import BrowserCase, inBrowser
from tests.serving import PATIENCE
from tests.web.test_page import requestReport

#: A picture of one pixel.
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

DROP = """
const [selector, kind, name, type, data] = arguments;
const transfer = new DataTransfer();
const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
transfer.items.add(new File([bytes], name, { type }));
const about = kind === "paste" ? { clipboardData: transfer } : { dataTransfer: transfer };
const Kind = kind === "paste" ? ClipboardEvent : DragEvent;
const event = new Kind(kind, { bubbles: true, cancelable: true, ...about });
document.querySelector(selector).dispatchEvent(event);
"""

#: What a model may say to do harm.
HARMFUL = """<script>window.harmed = 1</script>
<img src=x onerror="window.harmed = 2"> <b onclick="x()">bold</b>

<svg onload="window.harmed = 3"></svg>
[link](javascript:window.harmed=4) [data](data:text/html,<script>window.harmed=5</script>)
![pixel](http://127.0.0.1:9/pixel.png) [good](https://example.org/a?b=1)

`<script>` and <https://example.org> and <iframe srcdoc="<script>parent.harmed=6</script>">

```html
<script>window.harmed = 7</script>
```
"""


class TalkTests(BrowserCase):
    """
    A conversation with a model.
    """

    @inBrowser
    def test_streamedAnswer(self) -> None:
        """
        Words are shown as they come, and the end says how long it took.
        """
        self.open()
        self.say("hello", model="gated")
        self.until(lambda: self.text(".markdown").strip() == "one")
        self.assertTrue(self.find("#stop").is_displayed())
        self.assertEqual(self.find(".answer").get_attribute("aria-busy"), "true")
        self.gate.isOpen = True
        self.assertEqual(self.answers(1), ["one two"])
        self.assertIn("first token after", self.text(".about"))
        self.assertTrue(self.find("#send").is_displayed())
        self.say("and then?")
        self.assertEqual(self.answers(2)[1], "and then?")

    @inBrowser
    def test_markdownAndReasoning(self) -> None:
        """
        Markdown is shown as such, reasoning behind a line that opens it.
        """
        self.open()
        words = "# Title\n\n1. one\n2. **two**\n\n```\ncode\n\nmore\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
        steps = [{"think": "Let me see."}, {"words": words}]
        self.say("#script " + json.dumps(steps), model="script")
        self.answers(1)
        parts = ("h3", "ol > li:last-child strong", "pre code", "td")
        shown = [self.text(f".markdown {part}") for part in parts]
        self.assertEqual(shown, ["Title", "two", "code\n\nmore\n", "1"])
        self.assertFalse(self.find(".reasoning pre").is_displayed())
        self.find(".reasoning summary").click()
        self.assertEqual(self.find(".reasoning pre").text, "Let me see.")

    @inBrowser
    def test_toolCallAnswered(self) -> None:
        """
        A call is shown with its arguments and a form; what is put in there is
        the model's result.
        """
        self.open()
        self.find("#options summary").click()
        self.find("#example").click()
        self.say("What is the weather in Oslo?", model="tool-one")
        field = self.find(".calls textarea")
        self.assertIn("get_weather", self.text(".calls"))
        self.assertIn("city", json.loads(self.text(".calls pre")))
        self.until(lambda: self.focused().startswith("result-"))
        # Until then nothing else can be said.
        self.fill("#message", "well?")
        self.find("#message").send_keys(Keys.ENTER)
        self.assertIn("waits for the result", self.text("#composer-problem"))
        field.send_keys("sunny, 21 degrees", Keys.CONTROL, Keys.ENTER)
        self.assertEqual(self.answers(2)[1], "get_weather says: sunny, 21 degrees")
        self.assertIn("sunny, 21 degrees", self.text(".calls"))
        self.assertEqual(self.all(".calls textarea"), [])
        (result,) = self.sent("tool-result")
        self.assertIn("sunny, 21 degrees", json.dumps(result))

    @inBrowser
    def test_severalCalls(self) -> None:
        """
        Calls that the model makes at once have one form with a field each.
        """
        self.open()
        functions = [{"name": name, "parameters": {}} for name in ("left", "right")]
        tools = [{"type": "function", "function": function} for function in functions]
        self.fill("#tools", json.dumps(tools))
        self.say("both", model="tool-parallel")
        self.find(".calls")
        first, second = self.all(".calls textarea")
        first.send_keys("one")
        second.send_keys("two")
        self.find(".calls button").click()
        text = self.answers(2)[1]
        self.assertIn("one", text)
        self.assertIn("two", text)

    @inBrowser
    def test_badTools(self) -> None:
        """
        Tools that are no JSON are said to be none, where they are written.
        """
        self.open()
        self.fill("#tools", "{nonsense")
        self.say("hello")
        self.assertIn("not a JSON list", self.text("#tools-problem"))
        self.assertEqual(self.focused(), "tools")
        self.assertEqual(self.all(".message"), [])

    @inBrowser
    def test_pictures(self) -> None:
        """
        A picture is dropped, pasted, or picked as a file, can be removed, and
        goes to the model. What is no picture is refused.
        """
        self.open()
        file = self.serving.folder / "runtime" / "three.png"
        file.write_bytes(base64.b64decode(PICTURE))
        self.addCleanup(file.unlink)
        self.script(DROP, "#log", "drop", "one.png", "image/png", PICTURE)
        self.script(DROP, "#message", "paste", "two.png", "image/png", PICTURE)
        self.find("#files").send_keys(str(file))
        self.until(lambda: len(self.all("#pictures li")) == 3)
        self.find("#pictures button[aria-label='Remove picture 2']").click()
        self.assertEqual(len(self.all("#pictures li")), 2)
        self.script(DROP, "#log", "drop", "notes.txt", "text/plain", PICTURE)
        self.until(lambda: "notes.txt is no PNG" in self.text("#composer-problem"))
        self.say("What is this?")
        self.answers(1)
        self.assertEqual(len(self.all(".user img")), 2)
        self.assertEqual(self.all("#pictures li"), [])
        (prompt,) = self.sent("prompt")
        self.assertEqual(json.dumps(prompt).count(".png"), 2)

    @inBrowser
    def test_stop(self) -> None:
        """
        The button, and Escape, stop an answer: the worker is told, and what
        had come stays.
        """
        self.open()
        for count, stop in enumerate((lambda: self.find("#stop").click(), self.pressEscape), 1):
            self.say("hello", model="gated")
            self.until(lambda count=count: [each.text for each in self.all(".markdown")] == ["one"] * count)
            stop()
            self.assertEqual(self.answers(count)[-1], "one")
            self.assertIn("stopped", self.all(".about")[-1].text)
            self.whenCancelled(count)
        self.gate.isOpen = True
        self.assertEqual(self.focused(), "message")

    @inBrowser
    def test_newChat(self) -> None:
        """
        Nothing of an answer that was under way is in the chat that is begun then.
        """
        self.open()
        self.say("hello", model="gated")
        self.until(lambda: [each.text for each in self.all(".markdown")] == ["one"])
        self.find("#clear").click()
        self.whenCancelled(1)
        self.gate.isOpen = True
        self.say("again", model="echo")
        self.assertEqual(self.answers(1), ["again"])
        self.assertNotIn("one", self.text("#curl"))

    def pressEscape(self) -> None:
        """
        Press that key, wherever the keyboard is.
        """
        self.script("document.activeElement.blur()")
        self.press(Keys.ESCAPE)

    @inBrowser
    def test_harmfulAnswer(self) -> None:
        """
        C51: HTML and script of a model's are text; nothing of it runs, and nothing
        is fetched. So it is while it comes, and when it is complete.
        """
        self.open()
        steps = [{"words": HARMFUL}, {"sleep": 0.2}, {"words": HARMFUL}]
        self.say("#script " + json.dumps(steps), model="script")
        self.answers(1)
        self.assertIsNone(self.script("return window.harmed ?? null"))
        tags = "script, img, svg, iframe, b, object, style, form, input, [onclick], [onerror], [style]"
        self.assertEqual(self.script(f"return document.querySelectorAll('.markdown :is({tags})').length"), 0)
        shown = self.text(".markdown")
        for tag in ("<script>window", "<img src=x onerror", "<b onclick", "<svg onload", "<iframe"):
            self.assertIn(tag, shown)
        links = "return [...document.querySelectorAll('.markdown a')].map((link) => link.href)"
        self.assertEqual(
            set(self.script(links)) - {""},
            {"http://127.0.0.1:9/pixel.png", "https://example.org/a?b=1", "https://example.org/"},
        )
        loaded = self.script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
        self.assertEqual([name for name in loaded if not name.startswith(self.address)], [])

    @inBrowser
    def test_failedAnswer(self) -> None:
        """
        C54: what the server says of a failure is shown, and the same can be asked
        again.
        """
        self.open()
        self.say('#script [{"words": "half"}, {"result_error": "it broke"}]', model="script")
        self.assertIn("it broke", self.find(".failed").text)
        self.assertIn("half", self.text(".markdown"))
        self.choose("echo")
        self.find(".failed button").click()
        self.until(lambda: len(self.all(".answer:not([aria-busy])")) == 2)
        self.assertEqual(self.all(".failed"), [])

    @inBrowser
    def test_codeRuns(self) -> None:
        """
        The command and the program do what the page has just done.
        """
        self.open()
        text = "it's \"one\" $HOME `two` \\n three"
        self.say(text)
        self.answers(1)
        for command in (["bash", "-c", self.text("#curl")], [sys.executable, "-c", self.text("#python")]):
            done = subprocess.run(command, capture_output=True, timeout=2 * PATIENCE, check=False, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            said = done.stdout
            if "data: " in said:
                chunks = [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: {")]
                deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
                said = "".join(delta.get("content") or "" for delta in deltas)
            self.assertEqual(said.strip(), text)

    @inBrowser
    def test_keyboard(self) -> None:
        """
        All can be done without a mouse: the first key skips the head, Shift
        breaks a line, and the order of the fields is that of the page.
        """
        self.open()
        self.press(Keys.TAB)
        self.assertEqual(self.script("return document.activeElement.className"), "skip")
        self.press(Keys.ENTER)
        self.assertEqual(self.focused(), "main")
        seen = []
        for _ in range(8):
            self.press(Keys.TAB)
            seen.append(self.focused())
        self.assertEqual(seen, ["model", "clear", "summary", "log", "message", "files", "send", "summary"])
        message = self.find("#message")
        message.send_keys("one", Keys.SHIFT, Keys.ENTER, Keys.NULL, "two", Keys.ENTER)
        self.assertEqual(self.answers(1), ["one\ntwo"])
        self.assertEqual(self.focused(), "message")
        self.assertEqual(message.get_attribute("value"), "")

    @inBrowser
    def test_manyMessages(self) -> None:
        """
        C53: a chat goes on to 10,000 messages, as many as a request may have: the document holds few, the
        earlier ones come on demand, and all of them go to the model.
        """
        self.open()
        self.task(
            """
            for (let at = 0; at < 4999; at++) {
              chat.add({ role: "user", content: `question ${at}` });
              chat.add({ role: "assistant", content: `answer **${at}**` });
            }
            """
        )
        self.assertEqual(len(self.all(".message")), 200)
        self.say("the last one")
        self.until(lambda: self.all(".answer")[-1].text.splitlines()[1:2] == ["the last one"])
        (prompt,) = self.sent("prompt")
        asked = json.dumps(prompt)
        self.assertIn("question 17", asked)
        self.assertIn("answer **4998**", asked)
        self.find("#earlier").click()
        self.assertEqual(len(self.all(".message")), 400)
        self.find("#clear").click()
        self.assertEqual(self.all(".message"), [])
        self.assertTrue(self.find("#welcome").is_displayed())


class KeyTests(BrowserCase):
    """
    A server with a key.
    """

    environment = {"API_KEY": "sk-right"}
    expected = ("status of 401",)

    @inBrowser
    def test_wrongKey(self) -> None:
        """
        The key is asked for, a wrong one is said to be wrong, and the right
        one opens all, until there is another one. It stays in the tab, and is
        in no address.
        """
        self.open()
        self.until(lambda: self.find("#key").is_displayed())
        self.until(lambda: "wants an API key" in self.text("#key-problem"))
        self.assertEqual(self.focused(), "key")
        self.find("#key").send_keys("sk-wrong", Keys.ENTER)
        self.until(lambda: "This key is wrong" in self.text("#key-problem"))
        self.find("#key").send_keys("sk-w\u2026", Keys.ENTER)
        self.until(lambda: "This is no key" in self.text("#key-problem"))
        self.find("#key").clear()
        self.driver.get(self.address + "#see")
        self.until(lambda: "shown to administrators" in self.text("#see-empty"))
        self.find("#key").send_keys("sk-right", Keys.ENTER)
        self.until(lambda: self.find("#tiles").is_displayed() and not self.find("#key").is_displayed())
        self.driver.get(self.address + "#try")
        self.say("hello")
        self.assertEqual(self.answers(1), ["hello"])
        self.driver.refresh()
        self.until(lambda: self.all("#model option"))
        self.assertEqual(self.script("return [localStorage.length, document.cookie]"), [0, ""])
        self.assertNotIn("sk-", self.driver.current_url)
        self.say("again")
        self.answers(1)
        self.assertIn("$OPENAI_API_KEY", self.text("#curl"))
        self.assertNotIn("sk-right", self.text("body"))
        self.inReactor(self.serving.front.site.admission.changeKey, "sk-other")
        self.until(lambda: "is good no longer" in self.text("#key-problem"))
        self.assertEqual(self.focused(), "key")


class DaemonTests(BrowserCase):
    """
    A daemon that goes, and comes back.
    """

    expected = ("status of 503",)

    @inBrowser
    def test_goneAndBack(self) -> None:
        """
        The page says so at once, with what can be done, in both views; and
        goes on when the daemon is back, by itself.
        """
        self.open()
        self.inReactor(self.serving.daemon.crash)
        self.until(lambda: self.text("#status-text") == "No daemon")
        self.assertIn("Start humd", self.find("#notice").text)
        self.say("hello")
        self.find(".failed")
        self.driver.get(self.address + "#see")
        self.assertIn("away", self.find("#tiles").text)
        self.assertTrue(self.find("#notice").is_displayed())
        self.inReactor(self.serving.daemon.comeBack)
        self.until(lambda: self.text("#status-text") == "Ready")
        self.assertFalse(self.find("#notice").is_displayed())
        self.driver.get(self.address + "#try")
        self.until(lambda: self.all("#model option[value='echo']"))
        self.find(".failed button").click()
        self.assertEqual(self.answers(1), ["hello"])


class OverviewTests(BrowserCase):
    """
    What the server does.
    """

    expected = ("ERR_CONNECTION_REFUSED",)

    @inBrowser
    def test_live(self) -> None:
        """
        Turns, requests, tokens and times appear as they happen.
        """
        self.open("#see")
        # The page itself has asked for the models.
        self.until(lambda: len(self.all("#requests tr:not(.none)")) == 1)
        self.inReactor(self.report)
        self.until(lambda: len(self.all("#requests tr")) == 4)
        rows = [row.text for row in self.all("#requests tr")]
        self.assertIn("up-down", rows[0])
        self.assertIn("0.25 s", rows[2])
        self.assertIn("GET /v1/models", rows[3])
        self.assertIn("1,000 tokens in and 40 out", self.text("#tokens-about"))
        self.assertEqual(len(self.all("#tokens rect")), 2)
        self.assertIn("last 2 answers began within 0.75 s", self.text("#firsts-about"))
        self.assertEqual(len(self.all("#firsts circle")), 2)
        self.assertIn("echo", self.text("#workers"))
        self.script("location.hash = '#try'")
        self.say("hello", model="gated")
        self.until(lambda: self.text(".markdown").strip() == "one")
        self.script("location.hash = '#see'")
        self.until(lambda: "Live turns\n1" in self.find("#tiles").text)
        self.gate.isOpen = True
        self.until(lambda: "Live turns\n0" in self.find("#tiles").text)
        self.until(lambda: len(self.all("#requests tr")) == 5)
        newest = self.all("#requests tr")[0].text
        self.assertRegex(newest, r"POST /v1/chat/completions gated 200 ok \d+\.\d\d s \d+\.\d\d s \d+")

    def report(self) -> None:
        """
        Tell of some requests and a turn.
        """
        activity = self.serving.front.activity
        activity.requestEnded(requestReport(firstTokenSeconds=0.25))
        activity.requestEnded(requestReport(firstTokenSeconds=0.75))
        failed: Any = {"status": 503, "end": "up-down", "firstTokenSeconds": None, "outputTokens": None}
        activity.requestEnded(requestReport(**failed))
        activity.turnEnded(TurnReport("anonymous", "chat", "echo", "00", 1000, 0, 40, 0, 1.0, "ok", False))

    @inBrowser
    def test_serverGone(self) -> None:
        """
        A page that has lost its server says so.
        """
        self.open()
        self.inReactor(self.serving.stopService)
        self.until(lambda: self.text("#status-text") == "No server")
        self.assertIn("lost its server", self.find("#notice").text)
