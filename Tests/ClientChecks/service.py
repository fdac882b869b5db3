"""A service under check: `fusionroute up` on this machine, its address, and what its processes hold."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request


class ServiceError(Exception):
    pass


class Service:
    """Started with `up` and `arguments`; a context manager. Models that are not there yet are made first."""

    def __init__(self, program, *arguments, seconds=600):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [program, "up", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        try:
            self.url = self._address()
            self._wait(seconds)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        status = self.stop()
        if failure[0] is None and status != 0:
            raise ServiceError(f"`fusionroute up` ended with {status}:\n{self.log_tail()}")

    def _address(self):
        for line in self.process.stdout:
            if line.startswith("API"):
                return line.split()[1].removesuffix("/v1")
        raise ServiceError(f"`fusionroute up` ended before it served:\n{self.log_tail()}")

    def _wait(self, seconds):
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.get("/ready")
            except urllib.error.HTTPError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise ServiceError(
                        f"the cluster does not become ready: {error.read()}\n{self.log_tail()}"
                    ) from None
                time.sleep(0.2)

    def log_tail(self):
        self.log.seek(max(0, self.log.seek(0, os.SEEK_END) - 2000))
        return self.log.read().decode(errors="replace")

    def stop(self):
        """Asks it to end, as a service manager does; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise ServiceError(f"`fusionroute up` did not end within a minute:\n{self.log_tail()}") from None

    # Requests.

    def get(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def text(self, path):
        with urllib.request.urlopen(self.url + path) as response:
            return response.read().decode()

    def status(self):
        return self.get("/fusionroute/status")

    def encode(self, text):
        return self.get("/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]

    def decode(self, tokens):
        return self.get("/detokenize", {"tokens": tokens})["content"]

    def models(self):
        """The directory that its models are in."""
        return pathlib.Path(self.status()["router"]["model"]).parent

    # Processes.

    def processes(self):
        """Process ids by name: the coordinator, and each worker by its expert."""
        workers = {
            expert["name"] + (f".{index}" if index else ""): replica["pid"]
            for expert in self.status()["experts"]
            for index, replica in enumerate(expert["replicas"])
        }
        return {"coordinator": self.process.pid, **workers}


def resident(pid):
    """Megabytes of memory that a process has resident, now and at most so far."""
    values = {}
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            values[name] = int(value.split()[0]) / 1024
    return values["VmRSS"], values["VmHWM"]


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


EXPERTS = ("alpha", "beta", "gamma")


def make_cluster(program, folder, name="cluster", slots=4, context=1024, **sections):
    """A cluster file in `folder`, of small models that the program writes itself; they are made once."""

    def make(*arguments):
        made = subprocess.run([program, "make-model", *arguments], capture_output=True, text=True)
        if made.returncode != 0:
            raise ServiceError(f"make-model {arguments[0]} failed: {made.stderr}")

    path = lambda name: str(folder / f"{name}.gguf")
    if not (folder / "head.gguf").exists():
        make("random", path("router"), "--width", "128", "--vocabulary-size", "2048", "--context", "4096")
        for seed, expert in enumerate(EXPERTS, 1):
            make("perturb", path("router"), path(expert), "--strength", "0.2", "--seed", str(seed))
        make("head", path("head"), "--experts", ",".join(EXPERTS), "--model", path("router"))
    engine = {"context": context, "slots": slots}
    cluster = {
        "router": {"model": "router.gguf", "head": "head.gguf", **engine},
        "experts": {expert: {"model": f"{expert}.gguf", **engine} for expert in EXPERTS},
        "listen": {"http": "127.0.0.1:*"},
        **sections,
    }
    file = folder / f"{name}.yaml"
    # JSON is YAML.
    file.write_text(json.dumps(cluster, indent=2))
    return str(file)


class Table:
    """Rows of cells as Markdown, each column as wide as its widest cell."""

    def __init__(self, *heads):
        self.rows = [list(heads)]

    def add(self, *cells):
        self.rows.append([str(cell) for cell in cells])

    def show(self):
        widths = [max(len(row[column]) for row in self.rows) for column in range(len(self.rows[0]))]
        line = lambda row: "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
        print(line(self.rows[0]))
        print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
        for row in self.rows[1:]:
            print(line(row))
        sys.stdout.flush()
