"""
One browser for all tests, and what a test sees and does in it.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.serving import PATIENCE, ServingCase, inThread

#: Of the window, in pixels.
WIDE = (1280, 860)
PHONE = (360, 740)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


def _options() -> Options:
    options = Options()
    options.binary_location = CHROMIUM or ""
    for argument in (
        "--headless=new",
        # In a container there is no user to run its sandbox as, and little shared memory.
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--no-first-run",
        "--no-proxy-server",
        "--disable-background-networking",
        "--disable-component-update",
        "--force-color-profile=srgb",
        "--lang=en-US",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return options


class Browser:
    """
    A chromium and its profile, which goes away with it.
    """

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="openai-server-browser-")
        environ = {**os.environ, "TMPDIR": self._folder, "HOME": self._folder, "TZ": "UTC"}
        self.driver = webdriver.Chrome(_options(), Service(DRIVER or "", env=environ))
        self.driver.set_page_load_timeout(PATIENCE)
        self.driver.set_script_timeout(PATIENCE)

    def quit(self) -> None:
        """
        End it.
        """
        self.driver.quit()
        shutil.rmtree(self._folder, ignore_errors=True)


@functools.cache
def theBrowser() -> Browser:
    """
    The one browser of all tests of this process.
    """
    browser = Browser()
    atexit.register(browser.quit)
    return browser


class BrowserCase(ServingCase):
    """
    A test with the page in a browser. Its console must stay free of errors.

    @cvar expected: pieces of the console's messages that the test is about.
    """

    timeout = 120
    expected: ClassVar[tuple[str, ...]] = ()

    if CHROMIUM is None or DRIVER is None:
        skip = "needs chromium and chromedriver"

    @property
    def driver(self) -> webdriver.Chrome:
        """
        The browser, which is started for the first test.
        """
        return theBrowser().driver

    @property
    def address(self) -> str:
        """
        Where the page is.
        """
        return self.serving.url.removesuffix("v1")

    # What a test does. All of this blocks, and is called in the test's thread.

    def open(self, fragment: str = "", size: tuple[int, int] = WIDE) -> None:
        """
        Open the page in a window of this size, and wait until it is ready.
        """
        self.resize(size)
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(self.address + fragment)
        self.until(lambda: self.text("#status-text") != "Connecting")

    def resize(self, size: tuple[int, int]) -> None:
        """
        Give the page so many pixels, whatever a window takes at least.
        """
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme: str) -> None:
        """
        Have the user like C{light} or C{dark} pages.
        """
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def say(self, text: str, model: str = "echo") -> None:
        """
        Choose a model and send a message to it.
        """
        self.choose(model)
        self.fill("#message", text)
        self.find("#message").send_keys(Keys.ENTER)

    def fill(self, selector: str, text: str) -> None:
        """
        Have a field hold this text, as if it was pasted.
        """
        fill = "const [it, text] = arguments; it.value = text; it.dispatchEvent(new Event('input'))"
        self.script(fill, self.find(selector), text)

    def choose(self, model: str) -> None:
        """
        Choose a model.
        """
        self.find(f"#model option[value='{model}']").click()

    def answers(self, count: int) -> list[str]:
        """
        Wait for so many answers that are complete, and return their texts.
        """
        complete = ".answer:not([aria-busy]) .markdown"
        self.until(lambda: len(self.all(complete)) >= count)
        return [each.text for each in self.all(complete)]

    # What a test sees.

    def find(self, selector: str) -> WebElement:
        """
        Wait for an element, and return it.
        """
        return self.until(lambda: next(iter(self.all(selector)), None))

    def all(self, selector: str) -> list[WebElement]:
        """
        All elements that there are now.
        """
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """
        The text of an element, hidden or not.
        """
        return self.script("return document.querySelector(arguments[0])?.textContent ?? ''", selector)

    def script(self, code: str, *args: object) -> Any:
        """
        Run this in the page.
        """
        return self.driver.execute_script(code, *args)

    def task(self, code: str, *args: object) -> Any:
        """
        Run this in the page, where it may wait.
        """
        done = "const done = arguments[arguments.length - 1], given = [...arguments];"
        wrapped = f"{done}(async () => {{ {code} }})().then(done, (error) => done(`${{error}}`));"
        return self.driver.execute_async_script(wrapped, *args)

    def until(self, condition: Callable[[], Any]) -> Any:
        """
        Wait until this is true, and return what it is.
        """
        return WebDriverWait(self.driver, PATIENCE, 0.03).until(lambda _: condition())

    def press(self, *keys: str) -> None:
        """
        Press these keys, wherever the keyboard is.
        """
        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self) -> str:
        """
        The id of the element that has the keyboard, or its name.
        """
        return self.script("const it = document.activeElement; return it.id || it.tagName.toLowerCase()")

    def checkConsole(self) -> None:
        """
        See that the console has no message but those that the test expects.
        """
        messages = [entry["message"] for entry in self.driver.get_log("browser")]
        wrong = [said for said in messages if not any(piece in said for piece in self.expected)]
        self.assertEqual(wrong, [])

    def screenshot(self, path: Path) -> None:
        """
        Keep what is seen now.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(path))


def inBrowser(method: Callable[[Any], None]) -> Callable[[Any], Any]:
    """
    A test method that drives the browser: in a thread, beside the server. The
    console is looked at when it is done.
    """
    @functools.wraps(method)
    def run(case: Any) -> None:
        method(case)
        case.checkConsole()

    return inThread(run)
