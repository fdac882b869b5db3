"""What can befall a replica: each fault begins, lasts, and is undone."""

import pathlib
import signal
import subprocess
import threading
import time

CGROUPS = [pathlib.Path("/sys/fs/cgroup/cpu"), pathlib.Path("/sys/fs/cgroup")]


def quiet(*arguments):
    return subprocess.run(arguments, capture_output=True, text=True).returncode == 0


class Processor:
    """Limits how much processor time a process gets, by a cgroup of its own."""

    PERIOD = 100_000

    def __init__(self, net):
        self.root = None
        for base in CGROUPS:
            folder = base / f"{net}-slow"
            try:
                folder.mkdir()
            except OSError:
                continue
            if (folder / "cpu.cfs_quota_us").exists() or (folder / "cpu.max").exists():
                self.root = folder
                return
            folder.rmdir()

    def available(self):
        return self.root is not None

    def limit(self, pid, share):
        group = self.root / str(pid)
        group.mkdir(exist_ok=True)
        quota = int(self.PERIOD * share)
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{quota} {self.PERIOD}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(self.PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        (group / "cgroup.procs").write_text(str(pid))
        return group

    def free(self, group):
        for _ in range(50):
            for pid in (group / "cgroup.procs").read_text().split():
                try:
                    (self.root.parent / "cgroup.procs").write_text(pid)
                except OSError:
                    pass
            try:
                group.rmdir()
                return
            except OSError:
                time.sleep(0.02)

    def remove(self):
        if self.root:
            for group in self.root.iterdir():
                if group.is_dir():
                    self.free(group)
            self.root.rmdir()
            self.root = None


class Faults:
    def __init__(self, cluster, net, random):
        self.cluster, self.net, self.random = cluster, net, random
        self.processor = Processor(net)
        self.kinds = ["kill", "suspend", "partition", "slow network", "restart"]
        if self.processor.available():
            self.kinds.append("slow processor")
        self.ailing = set()
        self.lock = threading.Lock()
        self.log = []
        self.threads = []

    def inject(self):
        """Begins a fault of a healthy replica, if there is one; returns whether it did."""
        with self.lock:
            # Half of them at a time: the other half shows what failing over takes.
            if 2 * len(self.ailing) >= len(self.cluster.replicas):
                return False
            healthy = [replica for replica in self.cluster.replicas if replica.host not in self.ailing and replica.alive]
            if not healthy:
                return False
            replica = self.random.choice(healthy)
            kind = self.random.choice(self.kinds)
            lasts = self.random.uniform(0.3, 4)
            self.ailing.add(replica.host)
        thread = threading.Thread(target=self.run, args=(kind, replica, lasts))
        self.threads.append(thread)
        thread.start()
        return True

    def run(self, kind, replica, lasts):
        began = time.monotonic()
        switch = f"{self.net}-sw"
        try:
            if kind == "kill":
                replica.signal(signal.SIGKILL)
                replica.process.wait()
                time.sleep(lasts / 5)
                replica.start()
            elif kind == "restart":
                replica.signal(signal.SIGTERM)
                code = replica.process.wait()
                replica.start()
                # One that was only just starting knows nothing of draining yet.
                if code not in (0, -signal.SIGTERM):
                    raise RuntimeError(f"a worker that was told to end ended with {code}")
            elif kind == "suspend":
                replica.signal(signal.SIGSTOP)
                time.sleep(lasts)
                replica.signal(signal.SIGCONT)
            elif kind == "partition":
                quiet("ip", "-n", switch, "link", "set", replica.port, "down")
                time.sleep(lasts)
                quiet("ip", "-n", switch, "link", "set", replica.port, "up")
            elif kind == "slow network":
                shape = ["tbf", "rate", "64kbit", "burst", "4kb", "latency", "2s"]
                quiet("tc", "-n", switch, "qdisc", "add", "dev", replica.port, "root", *shape)
                time.sleep(lasts)
                quiet("tc", "-n", switch, "qdisc", "del", "dev", replica.port, "root")
            elif kind == "slow processor":
                group = self.processor.limit(replica.process.pid, 0.02)
                time.sleep(lasts)
                self.processor.free(group)
            self.log.append({"kind": kind, "replica": replica.name, "began": began, "ended": time.monotonic()})
        except Exception as error:  # The run has failed.
            print(f"FAILED: {kind} of {replica.name}: {error!r}", flush=True)
            self.log.append({"kind": kind, "replica": replica.name, "began": began, "error": repr(error)})
        finally:
            with self.lock:
                self.ailing.discard(replica.host)

    def finish(self):
        for thread in self.threads:
            thread.join()
        self.processor.remove()


