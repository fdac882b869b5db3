"""Answers while replicas fail at random, compared with those without faults. See Deploy/checks/chaos."""

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time

import load
from cluster import ChaosError, Cluster, environment, sequences_left
from faults import Faults

STREAMS = 4
PROMPTS = 12
TOKENS = 300
HEARTBEAT = 0.5
# A pause longer than this, and than ten usual ones, is a fault's doing.
STALL = 0.06


def make_prompts(random):
    words = "river bread number computer animal hill water yeast verb spring bits farmer left salt flour".split()
    prompts = []
    for index in range(PROMPTS):
        text = " ".join(random.choice(words) for _ in range(random.randint(3, 60)))
        sampled = index % 2 == 1
        prompts.append(
            {
                "prompt": text,
                "max_tokens": random.randint(TOKENS // 2, TOKENS),
                "temperature": round(random.uniform(0.5, 1.3), 2) if sampled else 0,
                "seed": random.randrange(2**31),
            }
        )
    return prompts


def run_streams(prompts, order, next_index, results, until):
    """Sends requests one after another until `until` says so."""
    while True:
        index = next_index()
        if until(index):
            return
        which = order[index % len(order)]
        results.append((which, load.stream(prompts[which])))


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def delays(results, faults, usual):
    """For each kind of fault, how long the answers that it held up stood still."""
    found = {}
    for _, answer in results:
        for when, gap in answer.gaps:
            if gap < max(STALL, 10 * usual):
                continue
            # The latest of the faults that were there during the pause, or had only just been undone.
            causes = [
                fault for fault in faults if fault["began"] <= when - 0.02 and when - gap - 1.0 <= fault["ended"]
            ]
            cause = max(causes, key=lambda fault: fault["began"])["kind"] if causes else "none found"
            found.setdefault(cause, []).append(gap)
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--net", required=True)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--report")
    options = parser.parse_args()
    print(f"chaos: seed {options.seed}", flush=True)
    source = random.Random(options.seed)
    folder = tempfile.mkdtemp(prefix="fusionroute-chaos-")
    environment(folder)
    cluster = Cluster(options.program, options.net, options.replicas, folder)
    faults = None
    failed = True
    try:
        cluster.prepare()
        cluster.start()
        prompts = make_prompts(source)
        # Twice: the second time shows the speed, and that two runs without faults agree.
        for _ in range(2):
            calm = [load.stream(prompt) for prompt in prompts]
            for prompt, answer in zip(prompts, calm):
                if answer.error:
                    raise ChaosError(f"without faults: {answer.error}")
        references = [answer.key for answer in calm]
        calm_gaps = [gap for answer in calm for _, gap in answer.gaps]
        print(
            f"without faults: {len(prompts)} answers, {sum(len(key[0]) for key in references)} tokens, "
            f"median {1000 * statistics.median(calm_gaps):.1f} ms a token",
            flush=True,
        )

        faults = Faults(cluster, options.net, source)
        order = [source.randrange(PROMPTS) for _ in range(1000)]
        lock, counter, results = threading.Lock(), [0], []
        begun = [0]

        def next_index():
            with lock:
                counter[0] += 1
                return counter[0] - 1

        def done(index):
            return index >= options.requests and begun[0] >= options.faults

        streams = [
            threading.Thread(target=run_streams, args=(prompts, order, next_index, results, done))
            for _ in range(STREAMS)
        ]
        start = time.monotonic()
        for thread in streams:
            thread.start()
        while any(thread.is_alive() for thread in streams):
            # Also when there are faults enough: the requests that are left get theirs, too.
            if faults.inject():
                begun[0] += 1
            time.sleep(source.uniform(0.2, 0.9))
        took = time.monotonic() - start
        faults.finish()
        for replica in cluster.replicas:
            if not replica.alive:
                replica.start()
        cluster.wait(len(cluster.replicas))
        failed = not report(cluster, faults, results, references, calm_gaps, took, prompts, options)
    except ChaosError as error:
        print(f"FAILED: {error}", file=sys.stderr)
    finally:
        if faults:
            faults.finish()
        cluster.stop()
        if failed:
            print(f"logs: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


def report(cluster, faults, results, references, calm_gaps, took, prompts, options):
    wrong = [(which, answer) for which, answer in results if answer.error or answer.key != references[which]]
    for which, answer in wrong[:10]:
        same = sum(1 for a, b in zip(answer.tokens, references[which][0]) if a == b)
        print(
            f"FAILED: prompt {which}: {answer.error or 'another answer'}, {len(answer.tokens)} tokens of "
            f"{len(references[which][0])}, the first {same} the same"
        )
    broken = [fault for fault in faults.log if "error" in fault]
    sampled = sum(1 for which, _ in results if prompts[which]["temperature"] > 0)
    moved = sum(answer.failovers for _, answer in results)
    touched = sum(1 for _, answer in results if answer.failovers)
    print(
        f"{len(results)} requests ({len(results) - sampled} greedy, {sampled} sampled), {len(faults.log)} faults in "
        f"{took:.0f} s: {len(results) - len(wrong)} answers complete and the same; {moved} sequences moved, in "
        f"{touched} answers"
    )
    usual = statistics.median(calm_gaps)
    found = delays(results, [fault for fault in faults.log if "ended" in fault], usual)
    counts = {kind: sum(fault["kind"] == kind for fault in faults.log) for kind in faults.kinds}
    table = {}
    print(f"{'fault':<16}{'faults':>8}{'answers held up':>17}{'median ms':>11}{'p90 ms':>9}{'most ms':>9}")
    for kind in [*faults.kinds, "none found"]:
        gaps = found.get(kind, [])
        row = {"faults": counts.get(kind), "held_up": len(gaps)}
        cells = ["-", "-", "-"]
        if gaps:
            row.update(median_ms=1000 * statistics.median(gaps), p90_ms=1000 * percentile(gaps, 0.9), most_ms=1000 * max(gaps))
            cells = [f"{row[name]:.0f}" for name in ("median_ms", "p90_ms", "most_ms")]
        table[kind] = row
        number = "" if counts.get(kind) is None else counts[kind]
        print(f"{kind:<16}{number:>8}{len(gaps):>17}{cells[0]:>11}{cells[1]:>9}{cells[2]:>9}")
    everything = [gap for gaps in found.values() for gap in gaps]
    median = statistics.median(everything) if everything else 0
    print(f"held up in all: median {1000 * median:.0f} ms; two heartbeats are {2000 * HEARTBEAT:.0f} ms")

    problems = cluster.errors()
    for line in problems[:5]:
        print(f"FAILED: {line}")
    deadline = time.monotonic() + 10
    while (left := sequences_left(cluster.status())) and time.monotonic() < deadline:
        time.sleep(0.1)
    if left:
        print(f"FAILED: {left} sequences are still placed on replicas though no request runs")
    enough = len(results) >= options.requests and len(faults.log) >= options.faults
    good = not wrong and not broken and not problems and not left and enough
    if options.report:
        with open(options.report, "w") as file:
            json.dump(
                {
                    "seed": options.seed,
                    "requests": len(results),
                    "same": len(results) - len(wrong),
                    "faults": len(faults.log),
                    "seconds": took,
                    "moved": moved,
                    "median_token_ms": 1000 * usual,
                    "median_delay_ms": 1000 * median,
                    "kinds": table,
                    "cores": os.cpu_count(),
                },
                file,
                indent=2,
            )
            file.write("\n")
    print("passed" if good else "failed")
    return good


if __name__ == "__main__":
    sys.exit(main())
