"""Load and leaving clients, against a real service. See Deploy/checks/http-load."""

import argparse
import asyncio
import pathlib
import random
import sys
import tempfile
import time

import http_limits
from holdings import Holdings, forget_peak, held_by_requests, numbers, settled
from load_client import client, leave, question, streamed, whole
from service import Service, Table, make_cluster, resident

SLOTS = 8
# Megabytes that a process may have more resident while hundreds of streams run, and keep of it afterwards.
MOST_DURING, MOST_KEPT = 100, 30


class Report:
    def __init__(self):
        self.table, self.failures = Table("what", "measured", "must be", "holds"), []

    def add(self, what, measured, bound, holds):
        self.table.add(what, measured, bound, "yes" if holds else "NO")
        print(f"{'ok  ' if holds else 'FAIL'} {what}: {measured}", file=sys.stderr, flush=True)
        if not holds:
            self.failures.append(what)


async def fill(session, service):
    """Fills every slot of every model with known sequences, all at once; the tokens in their caches afterwards.

    What requests leave there serves later ones as a prefix until its room is needed, so that a cache has only then what it
    had before when the same is asked again.
    """

    def body(index):
        # No text may end before the others have their slots.
        return {
            "prompt": f"slot {index} of them",
            "max_tokens": 48,
            "temperature": 0,
            "logit_bias": bias,
            "fusionroute": {"fanout": "all"},
        }

    bias = {str(token): -100 for token in await asyncio.to_thread(end_tokens, service)}
    answers = await asyncio.gather(*(whole(session, service.url, body(index)) for index in range(SLOTS)))
    if any(len(answer[2]) != 48 for answer in answers):
        raise RuntimeError(f"the probes did not end as they should: {answers}")
    await settled(lambda: held_by_requests(service))
    # Workers tell with their heartbeats.
    await asyncio.sleep(1.5)
    status = await asyncio.to_thread(service.status)
    return {
        "router": status["router"]["kv_tokens"],
        **{expert["name"]: expert["replicas"][0]["kv_tokens"] for expert in status["experts"]},
    }


def end_tokens(service):
    information = service.get("/tokenizer_info")
    tokens = {0, 1, 2}
    if information["eos_token"]:
        tokens |= set(service.encode(information["eos_token"]))
    return tokens


async def check_streams(service, report, count):
    questions = [question(index) for index in range(count)]
    async with client() as session:
        alone = []
        began = time.monotonic()
        for body in questions:
            alone.append(await whole(session, service.url, body))
        seconds = time.monotonic() - began
        tokens = sum(len(answer[2]) for answer in alone)
        print(f"alone: {tokens} tokens, {tokens / seconds:.0f}/s", file=sys.stderr, flush=True)
        before = Holdings(service)
        forget_peak(service)
        for turn in ("first", "second"):
            began = time.monotonic()
            together = await asyncio.gather(*(streamed(session, service.url, body) for body in questions))
            seconds = time.monotonic() - began
            equal = sum(a == b for a, b in zip(alone, together))
            speed = f"{tokens / seconds:.0f} tokens/s"
            report.add(
                f"{count} streams at once, {turn} time: equal to their texts alone",
                f"{equal}, {speed}",
                count,
                equal == count,
            )
        for body, a, b in [entry for entry in zip(questions, alone, together) if entry[1] != entry[2]][:3]:
            print(f"{body}\n  alone    {a}\n  together {b}", file=sys.stderr)
    different = len({answer[0] for answer in alone})
    report.add(
        "their texts differ from each other", different, f"at least {count * 9 // 10}", different >= count * 9 // 10
    )
    peaks = {name: resident(pid)[1] - before.memory[name] for name, pid in before.processes.items()}
    report.add(
        "memory at the peak, MB more than before",
        numbers(peaks),
        f"at most {MOST_DURING}",
        max(peaks.values()) <= MOST_DURING,
    )
    after = Holdings(service)
    print(f"resident, MB: {numbers(after.memory)}", file=sys.stderr)


async def check_leaving(service, report, count, seed):
    generator = random.Random(seed)
    async with client() as session:
        caches = await fill(session, service)
        await settled(lambda: held_by_requests(service))
        before = Holdings(service)
        moments, limit = {}, asyncio.Semaphore(50)

        async def one(generator):
            async with limit:
                moment = await leave(service, generator)
                moments[moment] = moments.get(moment, 0) + 1

        await asyncio.gather(*(one(random.Random(generator.random())) for _ in range(count)))
        print(f"clients left: {numbers(moments)}", file=sys.stderr)
        held = await settled(lambda: held_by_requests(service))
        report.add(f"{count} clients left: held by requests afterwards", held or "nothing", "nothing", not held)

        def more():
            after = Holdings(service)
            return {
                f"{name}'s {what}": now[name] - then[name]
                for what, now, then in (
                    ("descriptors", after.descriptors, before.descriptors),
                    ("threads", after.threads, before.threads),
                )
                for name in after.processes
                if now[name] > then[name]
            }

        extra = await settled(more)
        shown = f"{numbers(before.descriptors)}; threads {numbers(before.threads)}"
        report.add("descriptors and threads", f"{extra} more" if extra else shown, "as before", not extra)
        again = await fill(session, service)
        report.add("tokens in the caches with the same asked again", numbers(again), numbers(caches), again == caches)
        after = Holdings(service)
        kept = {name: after.memory[name] - before.memory[name] for name in after.processes}
        report.add(
            "memory, MB more than before", numbers(kept), f"at most {MOST_KEPT}", max(kept.values()) <= MOST_KEPT
        )
        answer, same = await streamed(session, service.url, question(1)), await whole(session, service.url, question(1))
        report.add("an answer afterwards, streamed", f"{len(answer[2])} tokens", "the same as whole", answer == same)


async def run(arguments, folder, report):
    options = ["--log-level", "error"]
    file = make_cluster(arguments.program, folder, slots=SLOTS)
    with Service(arguments.program, "-c", file, *options) as service:
        await check_streams(service, report, arguments.streams)
        await check_leaving(service, report, arguments.disconnects, arguments.seed)
        await http_limits.check_large(service, report)
    limits = {"queue_limit": 4, "client_queue_limit": 2, "max_connections": 150}
    file = make_cluster(arguments.program, folder, "limits", slots=1, gateway=limits)
    with Service(arguments.program, "-c", file, *options) as service:
        await http_limits.check_queue(service, report)
        await http_limits.check_connections(service, report, limits["max_connections"])
        await http_limits.check_slow(service, report)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--disconnects", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", file=sys.stderr)
    report = Report()
    with tempfile.TemporaryDirectory(prefix="fusionroute-load-") as folder:
        asyncio.run(run(arguments, pathlib.Path(folder), report))
    report.table.show()
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
