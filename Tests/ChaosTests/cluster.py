"""A cluster spread over network namespaces: the coordinator on host 1, each replica on a host of its own."""

import json
import os
import pathlib
import signal
import subprocess
import time
import urllib.error
import urllib.request

EXPERTS = ["math", "code"]
CONTEXT = 1024
COORDINATOR = "tcp://10.77.0.1:5570"
TEXT = """The river was higher than usual that spring. Farmers along its banks moved their animals to the hills.
A computer stores numbers as patterns of bits. Adding two numbers means combining their bits from right to left.
To make a simple bread you need flour, water, salt and a little yeast. Can you explain what a verb is?
"""


class ChaosError(Exception):
    pass


class Replica:
    """One worker process on a host of its own, kept running."""

    def __init__(self, program, net, host, expert, folder):
        self.program, self.net, self.host, self.expert, self.folder = program, net, host, expert, folder
        self.namespace = f"{net}-{host}"
        self.port = f"p{host}"
        self.log = open(folder / f"worker-{host}.log", "ab")
        self.process = None

    @property
    def name(self):
        return f"{self.expert} on host {self.host}"

    def start(self):
        arguments = [self.program, "worker", "--expert", self.expert, "--model", f"{self.expert}.gguf"]
        arguments += ["--coordinator", COORDINATOR, "--context", str(CONTEXT), "--slots", "4"]
        arguments += ["--host-name", f"h{self.host}", "--keys", "keys", "--key", f"h{self.host}"]
        arguments += ["--orphan-after", "60s", "--drain-time", "5s"]
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        if self.alive:
            self.process.send_signal(number)

    def stop(self):
        if self.alive:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()


class Cluster:
    def __init__(self, program, net, replicas, folder):
        self.program, self.folder = program, pathlib.Path(folder)
        self.url = "http://127.0.0.1:8080"
        self.replicas = []
        for index in range(2 * replicas):
            host = index + 2
            self.replicas.append(Replica(program, net, host, EXPERTS[index % 2], self.folder))
        self.log = open(self.folder / "coordinator.log", "ab")
        self.coordinator = None

    def prepare(self):
        self.make("random", "router.gguf", "--width", "128", "--vocabulary-size", "2048", "--context", "4096")
        for seed, name in enumerate(EXPERTS, 1):
            self.make("perturb", "router.gguf", f"{name}.gguf", "--strength", "0.3", "--seed", str(seed))
        (self.folder / "text.txt").write_text(TEXT)
        self.make("head", "head.gguf", "--experts", ",".join(EXPERTS), "--model", "router.gguf", "--text", "text.txt")
        engine = f"context: {CONTEXT}, slots: 4"
        lines = [f"router: {{ model: router.gguf, head: head.gguf, {engine} }}", "experts:"]
        for name in EXPERTS:
            hosts = [f"h{replica.host}" for replica in self.replicas if replica.expert == name]
            lines.append(
                f"  {name}: {{ model: {name}.gguf, {engine}, replicas: {len(hosts)}, host: [{', '.join(hosts)}] }}"
            )
        lines.append("hosts:")
        lines += [f"  - {{ name: h{replica.host}, address: 10.77.0.{replica.host} }}" for replica in self.replicas]
        lines.append(f'listen: {{ http: "127.0.0.1:8080", workers: "{COORDINATOR}" }}')
        lines.append("security: { keys: keys }")
        lines.append("expert_wait: 60s")
        (self.folder / "cluster.yaml").write_text("\n".join(lines) + "\n")
        self.run("keys", "keys", "--cluster", "cluster.yaml")

    def make(self, *arguments):
        self.run("make-model", *arguments)

    def run(self, *arguments):
        done = subprocess.run([self.program, *arguments], cwd=self.folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise ChaosError(f"fusionroute {arguments[0]} failed: {done.stderr}")

    def start(self):
        self.coordinator = subprocess.Popen(
            [self.program, "coordinator", "-c", "cluster.yaml", "--log-level", "info"],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        for replica in self.replicas:
            replica.start()
        self.wait(len(self.replicas))

    def status(self):
        with urllib.request.urlopen(f"{self.url}/fusionroute/status", timeout=10) as answer:
            return json.load(answer)

    def serving(self):
        return sum(replica["state"] == "serving" for expert in self.status()["experts"] for replica in expert["replicas"])

    def wait(self, count, seconds=120):
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self.serving() >= count:
                    return
            except (OSError, urllib.error.URLError):
                pass
            if self.coordinator.poll() is not None or time.monotonic() > deadline:
                raise ChaosError(f"{count} replicas never served: see {self.folder}")
            time.sleep(0.05)

    def stop(self):
        for replica in self.replicas:
            replica.stop()
        if self.coordinator and self.coordinator.poll() is None:
            self.coordinator.terminate()
            try:
                self.coordinator.wait(20)
            except subprocess.TimeoutExpired:
                self.coordinator.kill()
                self.coordinator.wait()

    def errors(self):
        """Lines that no fault excuses."""
        text = (self.folder / "coordinator.log").read_text(errors="replace")
        return [line for line in text.splitlines() if "quarantined" in line or "Fatal" in line or "crash" in line]


def sequences_left(status):
    return sum(replica["sequences"] for expert in status["experts"] for replica in expert["replicas"])


def environment(folder):
    """Nothing of the machine's own, and the probes' cache shared by all processes."""
    os.environ["FUSIONROUTE_CACHE"] = str(pathlib.Path(folder) / "cache")
    os.environ["SWIFT_BACKTRACE"] = "enable=no"
