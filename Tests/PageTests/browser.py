"""Headless Chromium by the W3C WebDriver protocol, with nothing but Python's own library."""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

KEYS = {
    "enter": "\ue007",
    "escape": "\ue00c",
    "tab": "\ue004",
    "right": "\ue014",
    "left": "\ue012",
    "down": "\ue015",
    "up": "\ue013",
    "home": "\ue011",
    "end": "\ue010",
    "shift": "\ue008",
    "control": "\ue009",
}
QUERIES = """
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
"""
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class BrowserError(Exception):
    pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Browser:
    def __init__(self, folder, width=1280, height=820):
        driver = shutil.which("chromedriver")
        if driver is None:
            raise BrowserError("chromedriver is missing: install chromium and chromium-driver")
        self.port = free_port()
        self.log = open(os.path.join(folder, "chromedriver.log"), "wb")
        self.process = subprocess.Popen([driver, f"--port={self.port}"], stdout=self.log, stderr=self.log)
        self.session = None
        self.all_requests = []
        arguments = [
            "--headless=new",
            f"--window-size={width},{height}",
            f"--user-data-dir={folder}/profile",
            "--no-first-run",
            "--disable-gpu",
            "--hide-scrollbars",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--force-color-profile=srgb",
            # Checks follow links faster than a person; Chromium would ignore some of them.
            "--disable-ipc-flooding-protection",
        ]
        # Chromium's sandbox needs user namespaces, which containers and root seldom have. Only our own page is opened.
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")
        options = {"args": arguments, "perfLoggingPrefs": {"enableNetwork": True, "enablePage": False}}
        capabilities = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        try:
            self._wait_for_driver()
            answer = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
            self.session = f"/session/{answer['sessionId']}"
            self.version = answer["capabilities"]["browserVersion"]
        except BaseException:
            self.close()
            raise

    def _wait_for_driver(self, seconds=20):
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._call("GET", "/status")
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise BrowserError("chromedriver does not start") from None
                time.sleep(0.05)

    def _call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=data,
            method=method,
            headers={"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            value = json.load(error)["value"]
            raise BrowserError(f"{value['error']}: {value['message'].splitlines()[0]}") from None

    def post(self, path, body=None):
        return self._call("POST", self.session + path, body or {})

    def open(self, url):
        self.post("/url", {"url": url})

    def run(self, script, *arguments):
        """The value of `script`, the body of a function, in the page; `$` and `$$` find one or all elements."""
        return self.post("/execute/sync", {"script": QUERIES + script, "args": list(arguments)})

    def run_async(self, script, *arguments):
        """The value that `script`, the body of an async function, resolves to."""
        wrapped = (
            "const done = arguments[arguments.length - 1]; const args = [...arguments].slice(0, -1);"
            f"(async (...args) => {{ {script} }})(...args).then("
            "(value) => done({ value }), (error) => done({ error: `${error}\\n${error.stack}` }));"
        )
        answer = self.post("/execute/async", {"script": wrapped, "args": list(arguments)})
        if "error" in answer:
            raise BrowserError(answer["error"])
        return answer.get("value")

    def wait(self, what, script, *arguments, seconds=60):
        """Waits until `script` gives something true, and returns it."""
        deadline = time.monotonic() + seconds
        while True:
            value = self.run(script, *arguments)
            if value:
                return value
            if time.monotonic() > deadline:
                raise BrowserError(f"after {seconds} s still not: {what}")
            time.sleep(0.05)

    def element(self, selector):
        return self.post("/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        self.post(f"/element/{self.element(selector)}/click")

    def type(self, *keys):
        """Presses keys one after the other; a tuple is pressed together."""
        actions = []
        for key in keys:
            chord = [KEYS.get(part, part) for part in (key if isinstance(key, tuple) else (key,))]
            actions += [{"type": "keyDown", "value": part} for part in chord]
            actions += [{"type": "keyUp", "value": part} for part in reversed(chord)]
        self.post("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def write(self, text):
        self.type(*text)

    def hover(self, selector):
        origin = {ELEMENT: self.element(selector)}
        move = {"type": "pointerMove", "duration": 0, "origin": origin, "x": 0, "y": 0}
        self.post("/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [move]}]})

    def unhover(self):
        move = {"type": "pointerMove", "duration": 0, "origin": "viewport", "x": 2, "y": 2}
        self.post("/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [move]}]})

    def devtools(self, method, **parameters):
        return self.post("/goog/cdp/execute", {"cmd": method, "params": parameters})

    def emulate(self, *, width=1280, height=820, scale=1, phone=False, dark=False, calm=False):
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"},
        ]
        self.devtools("Emulation.setEmulatedMedia", media="", features=features)

    def in_another_tab(self, work):
        """Runs `work` while the page is hidden behind a new tab."""
        page = self._call("GET", self.session + "/window")
        self.post("/window", {"handle": self.post("/window/new", {"type": "tab"})["handle"]})
        try:
            work()
        finally:
            self._call("DELETE", self.session + "/window")
            self.post("/window", {"handle": page})

    def screenshot(self, path):
        data = self._call("GET", self.session + "/screenshot")
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def console(self):
        """Console messages and errors since the last call."""
        return self.post("/se/log", {"type": "browser"})

    def requests(self):
        """Addresses that the page asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.post("/se/log", {"type": "performance"})]
        urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        self.all_requests += urls
        return urls

    def close(self):
        if self.session:
            try:
                self._call("DELETE", self.session)
            except (OSError, BrowserError):
                pass
        self.process.terminate()
        self.process.wait(timeout=20)
        self.log.close()
