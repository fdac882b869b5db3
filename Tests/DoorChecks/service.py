"""The coordinator and workers under attack, and a client that asks all the while."""

import json
import os
import signal
import socket
import statistics
import subprocess
import threading
import time
import urllib.request

EXPERTS = ["one", "two"]
TEXT = """The river was higher than usual that spring. A computer stores numbers as patterns of bits.
To make a simple bread you need flour, water, salt and a little yeast. Can you explain what a verb is?
"""


class Failure(Exception):
    pass


def require(condition, what):
    if not condition:
        raise Failure(what)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, seconds, condition):
    end = time.monotonic() + seconds
    while not condition():
        require(time.monotonic() < end, f"{what} did not happen within {seconds} s")
        time.sleep(0.02)


class Service:
    """`fusionroute coordinator` with keys on loopback, and a worker for each expert."""

    def __init__(self, program, folder, extra="", slots=4):
        self.program, self.folder, self.slots = program, folder, slots
        self.keys = os.path.join(folder, "keys")
        self.http, self.port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http}"
        self.endpoint = f"tcp://127.0.0.1:{self.port}"
        self.processes = []
        self.make_models()
        self.run("keys", self.keys, "--worker", "a", "--worker", "b")
        lines = [f"router: {{ model: router.gguf, head: head.gguf, context: 1024, slots: {slots} }}", "experts:"]
        lines += [f"  {name}: {{ model: {name}.gguf, context: 1024, slots: {slots} }}" for name in EXPERTS]
        lines += [
            f'listen: {{ http: "127.0.0.1:{self.http}", workers: "{self.endpoint}" }}',
            "security: { keys: keys }",
            "expert_wait: 5s",
            extra,
        ]
        self.file = os.path.join(folder, "cluster.yaml")
        with open(self.file, "w") as file:
            file.write("\n".join(lines) + "\n")

    def make_models(self):
        path = lambda name: os.path.join(self.folder, f"{name}.gguf")
        with open(os.path.join(self.folder, "text"), "w") as file:
            file.write(TEXT)
        self.run("make-model", "random", path("router"), "--width", "64", "--vocabulary-size", "2048")
        for seed, name in enumerate(EXPERTS, 1):
            self.run("make-model", "perturb", path("router"), path(name), "--strength", "0.2", "--seed", str(seed))
        self.run(
            "make-model", "head", path("head"), "--experts", ",".join(EXPERTS), "--model", path("router"), "--text",
            os.path.join(self.folder, "text"))

    def run(self, *arguments):
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True, cwd=self.folder)
        require(done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def spawn(self, *arguments, log):
        file = open(os.path.join(self.folder, log), "ab")
        process = subprocess.Popen(
            [self.program, *arguments], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        self.processes.append(process)
        return process

    def start_coordinator(self):
        self.coordinator = self.spawn("coordinator", "-c", self.file, log="coordinator.log")
        return self.coordinator

    def start_worker(self, expert, key, keys=None, log=None, endpoint=None, more=()):
        return self.spawn(
            "worker", "--expert", expert, "--model", f"{expert}.gguf", "--coordinator", endpoint or self.endpoint,
            "--context", "1024", "--slots", str(self.slots), "--keys", keys or self.keys, "--key", key, *more,
            log=log or f"worker-{key}.log")

    def log(self, name):
        with open(os.path.join(self.folder, name)) as file:
            return file.read()

    def get(self, path, seconds=10):
        with urllib.request.urlopen(self.url + path, timeout=seconds) as response:
            return json.load(response)

    def is_ready(self):
        try:
            with urllib.request.urlopen(self.url + "/ready", timeout=2) as response:
                return response.status == 200
        except OSError:
            return False

    def replicas(self):
        return {r["id"] for expert in self.get("/fusionroute/status")["experts"] for r in expert["replicas"]}

    def complete(self, prompt, tokens=16, seconds=60):
        body = json.dumps(
            {"model": "fusionroute", "prompt": prompt, "max_tokens": tokens, "temperature": 0.7, "seed": 5}).encode()
        request = urllib.request.Request(
            self.url + "/v1/completions", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=seconds) as response:
            return json.load(response)["choices"][0]["text"]

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.coordinator.pid}/fd"))

    def resident(self):
        """KiB."""
        with open(f"/proc/{self.coordinator.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))

    def stop(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
        for process in self.processes:
            process.wait()


class Client:
    """Asks the same questions over and over and remembers every answer that is not the first one."""

    PROMPTS = ["The river", "A computer stores", "To make bread", "Can you explain"]

    def __init__(self, service):
        self.service = service
        self.reference = {prompt: service.complete(prompt) for prompt in self.PROMPTS}
        self.times, self.wrong, self.lock, self.ending = [], [], threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self.ask, daemon=True)
        self.thread.start()

    def ask(self):
        at = 0
        while not self.ending.is_set():
            prompt = self.PROMPTS[at % len(self.PROMPTS)]
            at += 1
            start = time.monotonic()
            try:
                answer = self.service.complete(prompt)
                problem = None if answer == self.reference[prompt] else f"another answer: {answer!r}"
            except Exception as error:  # noqa: BLE001 - whatever it is, the client was not served
                problem = repr(error)
            with self.lock:
                self.times.append(time.monotonic() - start)
                if problem:
                    self.wrong.append(problem)

    def take(self):
        """Times in seconds and problems since the last call, after at least three more answers."""
        before = len(self.times)
        until("an answer", 60, lambda: len(self.times) >= before + 3)
        with self.lock:
            times, wrong = self.times, self.wrong
            self.times, self.wrong = [], []
        return times, wrong

    def end(self):
        self.ending.set()
        self.thread.join()


def milliseconds(times):
    ordered = sorted(times)
    return f"median {1000 * statistics.median(ordered):.0f} ms, most {1000 * ordered[-1]:.0f} ms of {len(ordered)}"
