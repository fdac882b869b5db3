"""What a service holds: requests, memory, descriptors, threads."""

import asyncio
import pathlib
import time

from service import descriptors, resident, threads


def gauges(service):
    lines = service.text("/metrics").splitlines()
    values = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in values}


def held_by_requests(service):
    """What requests hold of router, experts and HTTP; nothing in a service that nobody asks."""
    status, metrics = service.status(), gauges(service)
    replicas = [replica for expert in status["experts"] for replica in expert["replicas"]]
    held = {
        "requests running": status["requests"]["running"],
        "requests waiting": status["requests"]["waiting"],
        "answers running": metrics["fusionroute_answers_running"],
        # This one's own is open.
        "connections": metrics["fusionroute_http_connections"] - 1,
        "body bytes": metrics["fusionroute_http_body_bytes"],
        "router's queue": status["router"]["queued"],
        "sequences placed": sum(replica["sequences"] for replica in replicas),
        "steps under way": sum(replica["under_way"] for replica in replicas),
        "experts' queue": sum(replica["queued"] for replica in replicas),
    }
    return {name: value for name, value in held.items() if value}


async def settled(condition, seconds=30):
    """Waits until `condition` gives nothing; what it gives at the end."""
    deadline = time.monotonic() + seconds
    while (found := await asyncio.to_thread(condition)) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return found


class Holdings:
    """Memory, descriptors and threads of every process."""

    def __init__(self, service):
        self.processes = service.processes()
        # The connection that told of them is still being closed.
        time.sleep(0.5)
        self.memory = {name: resident(pid)[0] for name, pid in self.processes.items()}
        self.descriptors = {name: descriptors(pid) for name, pid in self.processes.items()}
        self.threads = {name: threads(pid) for name, pid in self.processes.items()}


def forget_peak(service):
    """From here on a process's peak of memory counts anew."""
    for pid in service.processes().values():
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")


def numbers(values, form="{:.0f}"):
    return ", ".join(f"{name} {form.format(value)}" for name, value in values.items())
