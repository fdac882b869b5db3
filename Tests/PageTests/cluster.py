"""A real cluster behind the page: `fusionroute up` on this machine."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request

from browser import BrowserError, free_port

EXPERTS = ["alpha", "beta", "gamma"]
TEXT = """The river was higher than usual that spring. Farmers along its banks moved their animals to the hills.
A computer stores numbers as patterns of bits. Adding two numbers means combining their bits from right to left.
To make a simple bread you need flour, water, salt and a little yeast. Can you explain what a verb is?
"""


def make_models(program, folder):
    """Small models that the program writes itself: the text means nothing, the way it is decided is real."""

    def make(*arguments):
        made = subprocess.run([program, "make-model", *arguments], capture_output=True, text=True)
        if made.returncode != 0:
            raise BrowserError(f"make-model {arguments[0]} failed: {made.stderr}")

    path = lambda name: os.path.join(folder, f"{name}.gguf")
    with open(os.path.join(folder, "text.txt"), "w") as file:
        file.write(TEXT)
    make("random", path("router"), "--width", "128", "--vocabulary-size", "2048", "--context", "4096")
    for seed, name in enumerate(EXPERTS, 1):
        make("perturb", path("router"), path(name), "--strength", "0.2", "--seed", str(seed))
    make(
        "head",
        path("head"),
        "--experts",
        ",".join(EXPERTS),
        "--model",
        path("router"),
        "--text",
        os.path.join(folder, "text.txt"),
    )
    return {name: path(name) for name in ["router", "head", *EXPERTS]}


def demo_models(folder):
    """The demo's models, which are made of SmolLM2-135M-Instruct."""
    path = lambda name: os.path.join(folder, f"{name}.gguf")
    return {"router": path("router-q8_0"), "head": path("head"), **{name: path(f"{name}-q8_0") for name in EXPERTS}}


class Cluster:
    def __init__(self, program, folder, models, context=2048):
        self.program, self.folder = program, folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.file = os.path.join(folder, "cluster.yaml")
        self.models, self.context = models, context
        self.process = None
        self.log = open(os.path.join(folder, "up.log"), "ab")

    def start(self, keys=None, seconds=120):
        engine = f"context: {self.context}, slots: 4"
        lines = [f"router: {{ model: {self.models['router']}, head: {self.models['head']}, {engine} }}", "experts:"]
        lines += [f"  {name}: {{ model: {self.models[name]}, {engine} }}" for name in EXPERTS]
        lines.append(f'listen: {{ http: "127.0.0.1:{self.port}" }}')
        if keys:
            lines.append(f"gateway: {{ api_keys: {keys} }}")
        with open(self.file, "w") as file:
            file.write("\n".join(lines) + "\n")
        self.process = subprocess.Popen(
            [self.program, "up", "-c", self.file], stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL
        )
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self.get("ready")[0] == 200:
                    return
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                with open(self.log.name, errors="replace") as log:
                    raise BrowserError("the cluster does not start:\n" + "".join(log.readlines()[-20:]))
            time.sleep(0.1)

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise BrowserError("the cluster did not stop within a minute") from None
        self.process = None

    def get(self, path, headers=None):
        """Status, headers and body of a request."""
        return self.send(urllib.request.Request(self.url + path, headers=headers or {}))

    def post(self, path, body, headers=None):
        request = urllib.request.Request(
            self.url + path,
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json", **(headers or {})},
        )
        status, _, answer = self.send(request)
        if status != 200:
            raise BrowserError(f"{path}: {status} {answer[:300]}")
        return json.loads(answer)

    @staticmethod
    def send(request):
        try:
            response = urllib.request.urlopen(request, timeout=120)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return response.status, headers, response.read()
