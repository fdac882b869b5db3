"""The sandbox's own process: enters its namespaces once, then forks a fresh child in fresh namespaces for each job.

Started by client.Sandbox with a socket's number. Nothing runs before every
part of the isolation is in place and has been looked at.
"""

import os
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import isolation  # noqa: E402
import runner  # noqa: E402

# Nothing can be imported once the root is empty. Code under test may use these.
import __future__, abc, argparse, array, ast, asyncio, base64, binascii, bisect, calendar, cmath, codecs  # noqa
import collections.abc, colorsys, concurrent.futures, contextlib, contextvars, copy, csv, dataclasses, datetime  # noqa
import decimal, difflib, doctest, enum, fnmatch, fractions, functools, gettext, glob, graphlib, hashlib  # noqa
import heapq, hmac, html.parser, inspect, io, ipaddress, itertools, json, keyword, locale, logging, math  # noqa
import numbers, operator, pathlib, pickle, platform, pprint, queue, random, re, reprlib, sched, secrets  # noqa
import shlex, statistics, string, struct, sysconfig, tempfile, textwrap, threading, timeit, token, tokenize  # noqa
import traceback, types, typing, unicodedata, unittest.mock, urllib.parse, uuid, warnings, weakref  # noqa
import xml.etree.ElementTree, zlib, _strptime, encodings.ascii, encodings.base64_codec, encodings.cp1252  # noqa
import encodings.hex_codec, encodings.idna, encodings.latin_1, encodings.punycode, encodings.raw_unicode_escape  # noqa
import encodings.rot_13, encodings.unicode_escape, encodings.utf_16, encodings.utf_16_be, encodings.utf_16_le  # noqa
import encodings.utf_32, encodings.utf_7, encodings.utf_8_sig, encodings.zlib_codec  # noqa

# The numbers of a child's sockets begin here, after /dev/null three times.
FIRST = 3
HIGH = 200


class Child:
    """A process in namespaces of its own, under a parent that waits for it."""

    def __init__(self, keeps, serve, limits, others=()):
        """`keeps`: the sockets that it needs; `serve`: what it does with them; `others`: sockets that are not its own,
        whose end must be seen when those who have them end."""
        reading, writing = os.pipe()
        self.parent = os.fork()
        if self.parent == 0:
            self._become_parent(writing, keeps, serve, limits, others)
        os.close(writing)
        self.pid = int.from_bytes(os.read(reading, 4), "little")
        os.close(reading)
        if not self.pid:
            # No verdict on the code: the client starts afresh.
            raise OSError("the code could not be isolated")

    @staticmethod
    def _become_parent(writing, keeps, serve, limits, others):
        status = 1
        try:
            isolation.call("unshare", isolation.CLONE_NEWPID | isolation.CLONE_NEWIPC)
            pid = os.fork()
            if pid == 0:
                Child._become_child(keeps, serve, limits)
            for held in (*keeps, *others):
                held.close()
            os.write(writing, pid.to_bytes(4, "little"))
            _, ended = os.waitpid(pid, 0)
            status = os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else 0
        finally:
            os._exit(status)

    @staticmethod
    def _become_child(keeps, serve, limits):
        try:
            # A process group reaches beyond namespaces: a signal to "all of mine" must not end the keeper.
            os.setsid()
            # Nothing else that this process has open may be reached from there.
            for index, kept in enumerate(keeps):
                os.dup2(kept.detach(), HIGH + index)
            os.closerange(FIRST, HIGH)
            numbers = [os.dup2(HIGH + index, FIRST + index) for index in range(len(keeps))]
            os.closerange(HIGH, 1024)
            sockets = [socket.socket(fileno=number) for number in numbers]
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            isolation.drop_privileges()
            isolation.limit(limits["cpu_seconds"], limits["memory_bytes"])
            isolation.filter_system_calls()
            random.seed()
            serve(*sockets)
        except BaseException:
            pass
        finally:
            os._exit(0)

    def end(self):
        """Kills it, and all that it may have started, and returns the signal that ended it."""
        if self.pid:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        _, status = os.waitpid(self.parent, 0)
        return os.WEXITSTATUS(status)

    def wait(self, seconds):
        """As `end`, with a while for it to end by itself."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pid, status = os.waitpid(self.parent, os.WNOHANG)
            if pid:
                return os.WEXITSTATUS(status)
            time.sleep(0.0005)
        return self.end()


def run(connection):
    """One job, until the other side says that it is over. False when that side has gone.

    What the job is about goes through a socket that came with it, straight into the child: so nothing of a test is left
    in the memory that the next child is a copy of.
    """
    message, files, _, _ = socket.recv_fds(connection, 4096, 1)
    if not message or not files:
        return False
    job = json.loads(message)
    payload = socket.socket(fileno=files[0])
    if job["kind"] == "test":
        asking, answering = socket.socketpair()
        children = [Child([answering], runner.serve_candidate, job["limits"], others=[payload, asking])]
        answering.close()
        children.append(Child([payload, asking], runner.serve_test, job["limits"]))
        asking.close()
    else:
        children = [Child([payload], runner.serve_candidate, job["limits"])]
    payload.close()
    over = connection.recv(1)
    signals = [child.wait(0.05) if over == b"w" else child.end() for child in children]
    if over:
        connection.sendall(json.dumps({"signals": signals}).encode() + b"\n")
    return bool(over)


def look():
    """What is not as it must be."""
    faults = []
    if os.getpid() != 1:
        faults.append("the process numbers are the machine's")
    if os.listdir("/"):
        faults.append("the root is not empty")
    try:
        os.mkdir("/probe")
        faults.append("the root can be written")
    except OSError:
        pass
    if [name for _, name in socket.if_nameindex() if name != "lo"]:
        faults.append("there are network interfaces")
    return faults


def main():
    connection = socket.socket(fileno=int(sys.argv[1]))
    try:
        isolation.prctl(isolation.PR_SET_PDEATHSIG, signal.SIGKILL)
        null = os.open("/dev/null", os.O_RDWR)
        isolation.enter_user_namespace(
            isolation.CLONE_NEWPID
            | isolation.CLONE_NEWNS
            | isolation.CLONE_NEWNET
            | isolation.CLONE_NEWIPC
            | isolation.CLONE_NEWUTS
            | isolation.CLONE_NEWCGROUP
        )
        keeper = os.fork()
        if keeper:
            connection.close()
            os.waitpid(keeper, 0)
            os._exit(0)
        isolation.prctl(isolation.PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in range(3):
            os.dup2(null, number)
        if null > 2:
            os.close(null)
        socket.sethostname("sandbox")
        isolation.forbid_user_namespaces()
        isolation.enter_empty_root()
        # Programs' environment and path say nothing of the machine.
        os.environ.clear()
        sys.path[:] = []
        faults = look()
    except OSError as error:
        faults = [str(error)]
    connection.sendall(json.dumps({"ready": not faults, "faults": faults}).encode() + b"\n")
    if faults:
        os._exit(1)
    while run(connection):
        pass


main()
