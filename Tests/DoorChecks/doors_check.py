"""Hostile peers against running processes; see Deploy/checks/doors.

    doors_check.py PROGRAM [--connections N] [--seed N]

Exits with 1 at the first attack that gets in, breaks something, or is felt by others.
"""

import argparse
import os
import random
import resource
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time

import zmq

import wire
from service import Client, Failure, Service, milliseconds, require, until


def key(path):
    with open(path, "rb") as file:
        return file.read().strip()


class Attack:
    """What every attack needs, and what must be true after each."""

    def __init__(self, program, folder, arguments):
        self.arguments = arguments
        self.service = Service(program, folder)
        self.context = zmq.Context()
        self.folder = folder

    def start(self):
        service = self.service
        service.start_coordinator()
        service.start_worker("one", "a")
        service.start_worker("two", "b")
        until("readiness", 60, service.is_ready)
        self.client = Client(service)
        self.client.take()
        self.replicas = service.replicas()
        self.server = key(f"{service.keys}/coordinator.pub")
        self.descriptors, self.resident = service.descriptors(), service.resident()
        print(f"undisturbed: answers take {milliseconds(self.client.take()[0])}", flush=True)

    def pair(self, name):
        """A listed worker's key, made now."""
        keys = self.service.keys
        if not os.path.exists(f"{keys}/workers/{name}.key"):
            self.service.run("keys", "add", keys, name)
        return key(f"{keys}/workers/{name}.pub"), key(f"{keys}/workers/{name}.key")

    def peer(self, pair=None):
        return wire.Peer(self.context, self.service.endpoint, self.server, pair)

    def run(self, name, attack):
        start = time.monotonic()
        what = attack()
        times, wrong = self.client.take()
        require(not wrong, f"{name}: the client was not served: {wrong[:3]}")
        require(self.service.coordinator.poll() is None, f"{name}: the coordinator has ended")
        require(self.service.replicas() == self.replicas, f"{name}: the replicas are {self.service.replicas()}")
        print(f"ok   {name}: {what} ({time.monotonic() - start:.0f} s; answers: {milliseconds(times)})", flush=True)

    # ---- Keys and roles

    def without_key(self):
        peer = self.peer()
        require(not peer.is_connected(2), "a peer without a key was let in")
        peer.close()
        return "not let in"

    def unlisted_key(self):
        peer = self.peer(zmq.curve_keypair())
        require(not peer.is_connected(2), "a key that is not listed was let in")
        peer.close()
        return "not let in"

    def revoked_key(self):
        pair = self.pair("gone")
        peer = self.peer(pair)
        require(peer.is_connected(5), "a listed key was not let in")
        peer.send(wire.heartbeat())
        require(wire.REGISTER_AGAIN in peer.heard(1), "a listed key was not heard")
        self.service.run("keys", "revoke", self.service.keys, "gone")
        for _ in range(20):
            peer.send(wire.heartbeat())
        require(not peer.heard(1), "a revoked key was heard")
        other = self.peer(pair)
        require(not other.is_connected(2), "a revoked key was let in")
        peer.close()
        other.close()
        # The same with a real worker that is registered and at work.
        self.pair("leaver")
        worker = self.service.start_worker("one", "leaver")
        until("registration", 30, lambda: len(self.service.replicas()) == 3)
        self.service.run("keys", "revoke", self.service.keys, "leaver")
        until("the end of its registration", 5, lambda: self.service.replicas() == self.replicas)
        require(worker.wait(30) == 69, f"a revoked worker ended with {worker.returncode}")
        require("allow-list" in self.service.log("worker-leaver.log"), "a revoked worker was not told why")
        return "unheard from the next message on; a registered worker was given up and told"

    def as_coordinator(self):
        peer = self.peer(self.pair("mallory"))
        require(peer.is_connected(5), "a listed key was not let in")
        step = wire.fixed(1, 1) + wire.fixed(2, 1) + wire.fixed(3, 1)
        for kind, body in [
            (wire.CREDIT, wire.number(1, 1 << 30)), (wire.CANCEL, wire.fixed(1, 1)), (wire.RELEASE, wire.fixed(1, 1)),
            (wire.DRAIN, b""), (wire.REGISTER_AGAIN, b""), (wire.VOCABULARY_QUERY, wire.number(1, 0) + wire.number(2, 9)),
            (wire.STEP, step), (wire.REFUSED, wire.data(1, b"model") + wire.data(2, b"go away")),
        ]:
            peer.send(wire.envelope(kind, body))
        heard = set(peer.heard(1))
        require(heard <= {wire.REGISTER_AGAIN}, f"a worker's key as a coordinator was answered with {heard}")
        peer.close()
        # And as a coordinator that workers are lured to.
        lure = self.context.socket(zmq.ROUTER)
        lure.linger = 0
        lure.curve_server = True
        lure.curve_secretkey = self.pair("mallory")[1]
        port = lure.bind_to_random_port("tcp://127.0.0.1")
        worker = self.service.start_worker(
            "one", "a", endpoint=f"tcp://127.0.0.1:{port}", log="lured.log", more=["--orphan-after", "3s"])
        require(not lure.poll(3000), "a worker spoke to a coordinator that is not its own")
        require(worker.wait(30) == 69, f"a lured worker ended with {worker.returncode}")
        lure.close()
        return "unheard; a worker that was lured to it said nothing and ended with 69"

    def as_other_expert(self):
        keys = self.service.keys
        self.service.run("keys", "add", keys, "narrow", "--expert", "one")
        worker = self.service.start_worker("two", "narrow")
        require(worker.wait(30) == 69, f"another expert's key ended with {worker.returncode}")
        require("may not serve expert" in self.service.log("worker-narrow.log"), "it was not told why")
        self.pair("boss")
        self.service.run(
            "keys", "allow", keys, "boss", f"{keys}/workers/boss.pub", "--role", "coordinator", "--force")
        worker = self.service.start_worker("one", "boss")
        require(worker.wait(30) == 69, f"a coordinator's key as a worker ended with {worker.returncode}")
        # By hand, with a registration that would fit.
        peer = self.peer((key(f"{keys}/workers/narrow.pub"), key(f"{keys}/workers/narrow.key")))
        require(peer.is_connected(5), "a listed key was not let in")
        peer.send(wire.registration("two", 77))
        require(peer.heard(1) == [wire.REFUSED], "a key registered for another's expert")
        peer.close()
        return "refused, with the reason"

    # ---- Handshakes

    def overhear(self):
        """Bytes that an honest worker's host sends for one message, frame by frame."""
        listener = socket.create_server(("127.0.0.1", 0))
        sent = bytearray()

        def pass_on():
            client = listener.accept()[0]
            server = socket.create_connection(("127.0.0.1", self.service.port))
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    try:
                        chunk = ready.recv(65536)
                    except OSError:
                        chunk = b""
                    if not chunk:
                        return client.close(), server.close()
                    if ready is client:
                        sent.extend(chunk)
                    (server if ready is client else client).sendall(chunk)

        thread = threading.Thread(target=pass_on, daemon=True)
        thread.start()
        endpoint = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        peer = wire.Peer(self.context, endpoint, self.server, self.pair("overheard"))
        require(peer.is_connected(5), "a listed key was not let in")
        peer.send(wire.heartbeat())
        require(peer.heard(1) == [wire.REGISTER_AGAIN], "a listed key was not heard")
        peer.close()
        thread.join(5)
        listener.close()
        frames, at = [bytes(sent[:64])], 64
        while at < len(sent):
            size = int.from_bytes(sent[at + 1 : at + 9], "big") + 9 if sent[at] & 2 else sent[at + 1] + 2
            frames.append(bytes(sent[at : at + size]))
            at += size
        return frames

    def raw(self, source="127.0.0.1"):
        return socket.create_connection(("127.0.0.1", self.service.port), timeout=5, source_address=(source, 0))

    @staticmethod
    def hangs_up(connection, seconds=6):
        """Everything that comes until the other side hangs up; None if it does not."""
        connection.settimeout(seconds)
        heard = b""
        try:
            while chunk := connection.recv(65536):
                heard += chunk
        except TimeoutError:
            return None
        except ConnectionError:
            pass
        return heard

    def replayed(self):
        frames = self.overhear()
        log = self.service.log("coordinator.log").count("message")
        for pause in [0, 0.05, 0.2]:
            connection = self.raw()
            try:
                for frame in frames:
                    connection.sendall(frame)
                    time.sleep(pause)
            except ConnectionError:
                pass
            heard = self.hangs_up(connection)
            require(heard is not None, "a replayed handshake was not hung up on")
            # The greeting (64 bytes) and WELCOME (170): what follows a handshake that succeeds is longer.
            require(len(heard) <= 64 + 170 + 64, f"a replayed handshake was answered with {len(heard)} bytes")
            connection.close()
        require(self.service.log("coordinator.log").count("message") == log, "a replayed message was read")
        return f"{sum(map(len, frames))} overheard bytes at three speeds: hung up on"

    def truncated(self):
        handshake = b"".join(self.overhear()[:3])
        waiting = []
        for length in range(len(handshake)):
            connection = self.raw(f"127.0.1.{length % 250 + 1}")
            connection.sendall(handshake[:length])
            if length % 2:
                connection.close()
            else:
                waiting.append(connection)
        for connection in waiting:
            require(self.hangs_up(connection) is not None, "a handshake that was cut off was not hung up on")
            connection.close()
        return f"all {len(handshake)} lengths"

    # ---- Numbers

    def half_open(self):
        count, service = self.arguments.connections, self.service
        before, most, made, stays = service.descriptors(), 0, 0, []
        worker, end = None, time.monotonic() + 120
        while made < count:
            require(time.monotonic() < end, f"only {made} connections could be made")
            for _ in range(100):
                connection = socket.socket()
                connection.setblocking(False)
                # One address of the attacker's; honest workers come from another.
                connection.bind(("127.0.0.2", 0))
                connection.connect_ex(("127.0.0.1", service.port))
                stays.append(connection)
                made += 1
            most = max(most, service.descriptors())
            if worker is None and made >= count // 2:
                self.pair("newcomer")
                worker = service.start_worker("two", "newcomer")
            time.sleep(0.02)
        until("a new worker's registration meanwhile", 30, lambda: len(service.replicas()) == 3)
        worker.send_signal(signal.SIGTERM)
        require(worker.wait(30) == 0, "the new worker did not end in order")
        # More at once, from a whole network of addresses.
        for index in range(count // 4):
            connection = socket.socket()
            connection.setblocking(False)
            connection.bind((f"127.0.{2 + index % 200}.{1 + index % 250}", 0))
            connection.connect_ex(("127.0.0.1", service.port))
            stays.append(connection)
            if index % 100 == 0:
                most = max(most, service.descriptors())
        until("the end of half-open connections", 20, lambda: service.descriptors() <= before + 4)
        for connection in stays:
            connection.close()
        until("the end of their descriptors", 20, lambda: service.descriptors() <= before + 4)
        return f"{made} from one address and {count // 4} from many: {most - before} open at most, a new worker registered"

    def floods(self):
        peer = self.peer(self.pair("flood"))
        require(peer.is_connected(5), "a listed key was not let in")
        sent = 0
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                for _ in range(100):
                    peer.send(wire.registration("one", sent + 1) if sent % 2 else wire.heartbeat())
                    sent += 1
            except zmq.Again:
                time.sleep(0.01)
        answers = peer.heard(1)
        peer.close()
        require(len(answers) < 400, f"{sent} messages had {len(answers)} answers")
        return f"{sent} registrations and heartbeats in 10 s had {len(answers)} answers"

    def noise(self):
        seed = self.arguments.seed if self.arguments.seed is not None else random.getrandbits(32)
        rng = random.Random(seed)
        samples = [wire.registration("one", 5), wire.registration("nobody", 6), wire.heartbeat()] + [
            wire.envelope(kind, rng.randbytes(rng.randrange(60))) for kind in range(2, 21)
        ]
        sent, peer = 0, None
        for index in range(20_000):
            if index % 500 == 0:
                if peer:
                    peer.close()
                peer = self.peer(self.pair("noise"))
                require(peer.is_connected(5), "a listed key was not let in")
            frame = bytearray(rng.choice(samples))
            for _ in range(rng.randrange(1, 4)):
                frame[rng.randrange(len(frame))] = rng.randrange(256)
            frames = [bytes(frame)] + [rng.randbytes(rng.randrange(100)) for _ in range(rng.choice([0, 0, 1, 3]))]
            try:
                peer.send(*frames)
                sent += 1
            except zmq.Again:
                time.sleep(0.01)
        # More frames, and larger ones, than a message may have.
        peer.send(*[b"x"] * 2_000)
        peer.send(bytes(6 << 20))
        peer.close()
        return f"{sent} messages, seed {seed}"

    def nothing_grew(self):
        until("the end of their descriptors", 20, lambda: self.service.descriptors() <= self.descriptors + 8)
        grown = self.service.resident() - self.resident
        require(grown < 64 << 10, f"the coordinator grew by {grown} KiB")
        return f"{self.service.descriptors() - self.descriptors:+d} descriptors, {grown:+d} KiB"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files < arguments.connections * 5 // 4 + 500:
        print(f"doors: this process may open {files} files: too few for {arguments.connections} connections", file=sys.stderr)
        return 69
    folder = tempfile.mkdtemp(prefix="fr-doors-")
    attack = Attack(os.path.abspath(arguments.program), folder, arguments)
    try:
        attack.start()
        for name, method in [
            ("no key", attack.without_key),
            ("a key that is not listed", attack.unlisted_key),
            ("a revoked key", attack.revoked_key),
            ("a worker's key as coordinator", attack.as_coordinator),
            ("a worker's key as another expert", attack.as_other_expert),
            ("a replayed handshake", attack.replayed),
            ("truncated handshakes", attack.truncated),
            ("half-open connections", attack.half_open),
            ("floods", attack.floods),
            ("random messages", attack.noise),
            ("nothing is left behind", attack.nothing_grew),
        ]:
            attack.run(name, method)
        attack.client.end()
        print("doors: nobody got in, nobody else noticed", flush=True)
        return 0
    except Failure as failure:
        print(f"FAIL {failure}", file=sys.stderr)
        for name in sorted(os.listdir(folder)):
            if name.endswith(".log"):
                print(f"--- {name}\n" + "\n".join(attack.service.log(name).splitlines()[-8:]), file=sys.stderr)
        return 1
    finally:
        attack.service.stop()
        attack.context.destroy(0)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
