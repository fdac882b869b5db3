"""The sandbox as the graders use it."""

import json
import os
import secrets
import select
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, replace

from .values import decode, encode


class SandboxUnavailable(Exception):
    """Generated code cannot be isolated here, so it is not run."""


@dataclass(frozen=True)
class Limits:
    """Limits of one job."""

    wall_seconds: float = 5.0
    cpu_seconds: int = 4
    memory_bytes: int = 512 << 20
    output_bytes: int = 4 << 20


@dataclass
class Outcome:
    """What became of a job: `passed` of a test; `results` of calls, in order, as ("value", v) or ("error", text)."""

    passed: bool = False
    reason: str = ""
    results: list = field(default_factory=list)


class Sandbox:
    """A process that runs code in isolation, started when it is first needed; use it in a `with`.

    Code runs in namespaces of its own (user, process, mount, network, IPC, UTS), on an empty read-only file system, as
    nobody, without capabilities, under a filter of system calls, with limits on time, memory, processes and files.
    Expected values stay outside: only arguments go in, only plain values come out.
    """

    START_SECONDS = 30
    # How many times longer a second try may take, after one that ran out of time but not of CPU time.
    PATIENCE = 4

    def __init__(self, limits=Limits()):
        self.limits = limits
        self._process = None
        self._socket = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # MARK: Jobs

    def call(self, code, function, arguments, limits=None):
        """Calls `function` of `code` with each list of arguments. One Outcome with as many results as calls."""
        requests = [{"code": code}]
        requests += [{"call": function, "arguments": encode(list(a)), "keywords": encode({})} for a in arguments]
        reply = self._job("calls", requests, limits)
        outcome = Outcome()
        for line in reply["replies"].split("\n")[: len(requests)]:
            message = _parse(line)
            if message is None:
                break
            outcome.results.append(_result(message))
        if outcome.results:
            kind, text = outcome.results.pop(0)
            if kind == "error":
                outcome.reason = text
        outcome.reason = outcome.reason or _stopped(reply)
        missing = len(arguments) - len(outcome.results)
        outcome.results += [("error", outcome.reason or "no result")] * missing
        return outcome

    def test(self, code, test, setup="", names=(), limits=None):
        """Runs the trusted `test` on functions of `code`.

        `setup` runs before it, beside the test, and before the code as far as it does without that; `names` are the functions
        that the test gets after that; if there are none, all but those that would hide what Python itself or the setup has
        (`abs`, `set`).
        """
        job = {"code": code, "test": test, "setup": setup, "names": list(names)}
        reply = self._job("test", [job], limits)
        message = _parse(reply["replies"].split("\n")[0])
        if isinstance(message, dict) and message.get("share") is True:
            return self._shared(job, limits)
        if not isinstance(message, dict) or not isinstance(message.get("passed"), bool):
            return Outcome(reason=_stopped(reply) or "no verdict")
        return Outcome(passed=message["passed"], reason=str(message.get("reason", ""))[:300])

    def _shared(self, job, limits):
        # The word tells the verdict from other lines that the code writes. It is no secret: code that is written for it
        # can read it, as it can whatever comes into its process.
        token = secrets.token_hex(16)
        reply = self._job("calls", [{"code": job["code"], "setup": job["setup"]}, {**job, "token": token}], limits)
        for line in reply["replies"].split("\n"):
            message = _parse(line)
            if isinstance(message, dict) and message.get("token") == token:
                return Outcome(passed=message.get("passed") is True, reason=str(message.get("reason", ""))[:300])
            if isinstance(message, dict) and "error" in message:
                return Outcome(reason=str(message["error"])[:300])
        return Outcome(reason=_stopped(reply) or "no verdict")

    # MARK: The process

    def start(self):
        """Starts the process. Raises SandboxUnavailable, saying why."""
        if self._process is not None:
            return
        if not sys.platform.startswith("linux"):
            raise SandboxUnavailable("generated code is run on Linux only, where it can be isolated by namespaces")
        ours, theirs = socket.socketpair()
        keeper = os.path.join(os.path.dirname(os.path.abspath(__file__)), "keeper.py")
        self._process = subprocess.Popen(
            [sys.executable, "-s", "-S", "-B", keeper, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # Sets are in the same order in each process: an answer that depends on it has one verdict. Nothing else of Python's
            # settings gets in.
            env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0"},
        )
        theirs.close()
        self._socket = ours
        try:
            reply = self._receive(self.START_SECONDS)
        except (OSError, ValueError) as error:
            reply = {"faults": [str(error)]}
        faults = list(reply.get("faults", ())) if reply.get("ready") is not True else self._trial()
        if reply.get("ready") is not True or faults:
            self.close()
            raise SandboxUnavailable(
                f"generated code cannot be isolated here, so it is not run: {'; '.join(faults) or 'its process ended'}. "
                "Needed are root or user namespaces for this user (sysctl kernel.unprivileged_userns_clone, "
                "user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), and seccomp filters in the kernel"
            )

    def _trial(self):
        """Faults that only a job's own process meets, such as a kernel without filters of system calls: without this each
        answer would count as wrong."""
        requests = [{"code": "def f(a): return a"}, {"call": "f", "arguments": encode([5]), "keywords": encode({})}]
        reply = self._once("calls", requests, replace(Limits(), wall_seconds=self.START_SECONDS))
        results = [_result(_parse(line)) for line in reply["replies"].split("\n")[: len(requests)]]
        if results[-1:] == [("value", 5)]:
            return []
        return [f"a function that gives back 5 did not do so ({_stopped(reply) or reply.get('error', 'no value')})"]

    def close(self):
        """Ends the process and everything in it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stderr.close()
            self._process = None

    def _job(self, kind, requests, limits):
        limits = limits or self.limits
        reply = self._sure(kind, requests, limits)
        if reply["stop"] == "time":
            # A busy machine must not make right code wrong; what computes for long meets the limit of CPU time first.
            patient = replace(limits, wall_seconds=limits.wall_seconds * self.PATIENCE)
            reply = self._sure(kind, requests, patient)
        return reply

    def _sure(self, kind, requests, limits):
        """Once more if the sandbox itself was lost: a fault of the machine is no verdict on the code."""
        for _ in range(2):
            reply = self._once(kind, requests, limits)
            if reply["stop"] != "lost":
                return reply
        raise SandboxUnavailable(f"the sandbox was lost twice: {reply['error']}")

    def _once(self, kind, requests, limits):
        self.start()
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                head = json.dumps({"kind": kind, "limits": asdict(limits)}).encode()
                try:
                    socket.send_fds(self._socket, [head], [theirs.fileno()])
                except OSError as error:
                    return self._lost(error)
            data, stop = _collect(ours, requests, limits)
        try:
            # At its end it may tell which signal it was; otherwise it is killed.
            self._socket.sendall(b"w" if stop == "end" else b"k")
            signals = self._receive(10)["signals"]
        except OSError as error:
            return self._lost(error)
        return {"stop": stop, "signals": signals, "replies": bytes(data).decode("utf-8", "replace")}

    def _lost(self, error):
        # It is started afresh for the next job.
        self.close()
        return {"stop": "lost", "signals": [], "replies": "", "error": str(error)}

    def _receive(self, seconds):
        deadline = time.monotonic() + seconds
        data = bytearray()
        while not data.endswith(b"\n"):
            if not select.select([self._socket], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the sandbox does not answer")
            piece = self._socket.recv(1 << 16)
            if not piece:
                raise ConnectionError("the sandbox has ended")
            data += piece
        return json.loads(data)


def _collect(connection, requests, limits):
    """Sends all requests and reads a reply for each, until the end or a limit: (bytes, what stopped it)."""
    deadline = time.monotonic() + limits.wall_seconds
    data = bytearray()
    pending = memoryview(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
    connection.setblocking(False)
    replies = 0
    while replies < len(requests):
        left = deadline - time.monotonic()
        if left <= 0:
            return data, "time"
        ready, writable, _ = select.select([connection], [connection] if pending else [], [], left)
        try:
            if writable:
                pending = pending[connection.send(pending) :]
        except OSError:
            # Whoever does not read may have written before it ended.
            pending = pending[:0]
        if not ready:
            continue
        try:
            piece = connection.recv(1 << 16)
        except BlockingIOError:
            continue
        except OSError:
            piece = b""
        if not piece:
            return data, "end"
        replies += piece.count(b"\n")
        data += piece
        if len(data) > limits.output_bytes:
            return data, "output"
    return data, "done"


def _parse(line):
    """A line of hostile JSON; None if it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _result(message):
    if not isinstance(message, dict):
        return ("error", "no result")
    if "value" in message:
        try:
            return ("value", decode(message["value"]))
        except (ValueError, TypeError, RecursionError, IndexError, OverflowError, MemoryError):
            return ("error", "no plain value")
    if "defines" in message:
        return ("value", None)
    return ("error", str(message.get("error", message.get("opaque", "no result")))[:200])


_SIGNALS = {9: "killed", 11: "crashed", 24: "used up its CPU time", 25: "wrote a file", 31: "made a forbidden call"}


def _stopped(reply):
    if reply["stop"] == "time":
        return "took too long"
    if reply["stop"] == "output":
        return "wrote too much"
    signal = next((s for s in reply["signals"] if s), 0) if reply["stop"] == "end" else 0
    return (
        _SIGNALS.get(signal, f"ended by signal {signal}")
        if signal
        else ("ended early" if reply["stop"] == "end" else "")
    )
