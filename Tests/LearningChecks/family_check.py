"""The check Deploy/checks/family; see there."""

import argparse
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FAMILY = Path(__file__).resolve().parents[2] / "Deploy/family/gemma2"
EXPERTS = ("sort", "close", "sum")
MODELS = ("start.gguf", *(f"{name}/model.gguf" for name in ("base", *EXPERTS)))
ADAPTERS = tuple(
    f"{name}/adapter.gguf" for name in ("sft", "cdpo", "sft-continued", "fine-tuned-sft", "fine-tuned", "reward")
)
HEADS = tuple(f"{name}/head.gguf" for name in ("sft", "cdpo", "sft-continued", "reward"))
# Seconds within which the children of a killed process have ended.
PATIENCE = 60.0
# What a step says that asks for answers.
ASKED = re.compile(r"^sampling (\d+) answers", re.MULTILINE)


class Fault(Exception):
    """Something does not hold."""


def check(condition, text):
    if not condition:
        raise Fault(text)


def say(text):
    print(f"family: {text}", flush=True)


def lines_of(path):
    """Complete lines of a file; none if it is not there."""
    try:
        return Path(path).read_text(encoding="utf-8").split("\n")[:-1]
    except FileNotFoundError:
        return []


def log_of(folder, run):
    """What a training run logged for its steps, without evaluations."""
    found = [json.loads(line) for line in lines_of(folder / run / "log.jsonl")]
    return [line for line in found if "held_out" not in line and "head_warmup" not in line]


def watched(folder, run):
    """What a training run said of held-out data before its first step and after its last."""
    found = [json.loads(line) for line in lines_of(folder / run / "log.jsonl")]
    found = [line for line in found if "held_out" in line]
    check(len(found) >= 2 and found[0]["step"] == 0, f"{run} did not evaluate held-out data before and after")
    return found[0], found[-1]


def at_work(folder):
    """Command lines of the processes that work in the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in text and "fusionroute" in text and "family_check" not in text:
                found.append(text)
    return found


def command(name, folder, *options):
    return [str(FAMILY / name), *options, str(folder)]


def run(arguments, what):
    """Runs to the end. Returns what it wrote, output and messages together."""
    done = subprocess.run(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    check(done.returncode == 0, f"{what} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


def killed(arguments, folder, when, what):
    """Starts, and kills (SIGKILL) that process as soon as `when` holds; its children must then end by themselves."""
    with tempfile.TemporaryFile("w+") as messages:
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=messages, stderr=subprocess.STDOUT)
        try:
            while not when():
                if process.poll() is not None:
                    messages.seek(0)
                    raise Fault(
                        f"{what} ended with {process.returncode} before it could be killed:\n{messages.read()[-4000:]}"
                    )
                time.sleep(0.005)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    deadline = time.monotonic() + PATIENCE
    while at_work(folder):
        check(time.monotonic() < deadline, f"{what} was killed, and this goes on: {at_work(folder)}")
        time.sleep(0.02)


def digests(folder):
    """Of every file, what is in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def interrupted_training(folder, train):
    """Training that is killed twice and then ends. Returns its last messages."""
    base, answers = folder / "base", folder / "pairs.jsonl.answers"
    killed(train, folder, lambda: any((base / "checkpoints").glob("checkpoint-*.gguf")), "training the base")
    check(not (base / "model.gguf").exists(), "the base was done before it could be killed")
    first = min((base / "checkpoints").glob("checkpoint-*.gguf"))
    known = lines_of(base / "log.jsonl")[: int(re.sub(r"\D", "", first.stem))]
    say(f"killed after {len(known)} steps of the base")

    killed(train, folder, lambda: len(lines_of(answers)) > 20, "sampling")
    check(not (folder / "pairs.jsonl").exists(), "the pairs were there before sampling could be killed")
    kept = len(lines_of(answers)) - 1
    say(f"killed after {kept} answers")
    # Steps carry the seconds that they took, so done again they would not be the same lines.
    check(lines_of(base / "log.jsonl")[: len(known)] == known, "steps before the checkpoint were done again")

    messages = run(train, "training")
    asked = int(ASKED.search(messages).group(1))
    whole = 4 * len(lines_of(folder / "prompts/pairs.jsonl"))
    check(kept + asked == whole, f"{kept} of {whole} answers were on disk, and {asked} more were asked")
    return messages


def results_are_there(folder, fusionroute):
    files = [folder / name for name in (*MODELS, *ADAPTERS, *HEADS)]
    merged = sorted((folder / "merged").glob("*.gguf"))
    check(len(merged) == 8, f"the merged models are {', '.join(path.name for path in merged)}")
    files += merged
    text = run([fusionroute, "inspect", "--format", "json", *map(str, files)], "inspect")
    facts = {fact["file"]: fact for fact in map(json.loads, text.splitlines())}
    for path in files:
        fact = facts[str(path)]
        kind = {"model.gguf": "model", "adapter.gguf": "adapter", "head.gguf": "routing-head"}.get(path.name, "model")
        check(fact["kind"] == kind, f"{path} is a {fact['kind']}, no {kind}")
        if kind != "routing-head":
            check(fact["architecture"] == "gemma2", f"{path} is of architecture {fact['architecture']}")
        check(0 < fact["parameters"] <= 1_000_000, f"{path} has {fact['parameters']} parameters")
    for name in ("sft", "cdpo", "sft-continued"):
        rows = tuple(row["expert"] for row in facts[str(folder / name / "head.gguf")]["head"]["rows"])
        check(rows == EXPERTS, f"{name}/head.gguf has the experts {rows}")
    pairs = [json.loads(line) for line in lines_of(folder / "pairs.jsonl")]
    check(len(pairs) >= 4, f"there are only {len(pairs)} pairs")
    check(all(pair["chosen"] != pair["rejected"] for pair in pairs), "a pair has the same answer twice")
    say(f"{len(files)} models, adapters and heads; {len(pairs)} pairs")


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def it_learnt(folder):
    """What must be so even after so few steps."""
    for name in ("base", *EXPERTS, "sft", "fine-tuned-sft"):
        log = log_of(folder, name)
        check(
            [line["step"] for line in log] == list(range(1, log[0]["of"] + 1)),
            f"{name} logged other steps than its own",
        )
        check(all(math.isfinite(line["loss"]) for line in log), f"{name} has a loss that is no number")
        # Batches differ in length, and with it in loss: a fifth of the run has some of each.
        fifth = max(1, len(log) // 5)
        before, after = (mean(line["lm"] for line in part) for part in (log[:fifth], log[-fifth:]))
        check(after < before, f"{name}: the loss went from {before} to {after}")
        say(f"{name}: loss {before:.2f} → {after:.2f} in {len(log)} steps")

    for name in ("sft", "fine-tuned-sft"):
        before, after = watched(folder, name)
        check(after["lm"] < before["lm"], f"{name}: the held-out loss went from {before['lm']} to {after['lm']}")
    before, after = watched(folder, "sft")
    entropy = before["routing_entropy"]
    check(abs(entropy - math.log(len(EXPERTS))) < 1e-4, f"a head of zeros has the routing entropy {entropy}")
    gap = before["route"] - before["route_floor"]
    check(
        before["route"] - after["route"] > gap / 4,
        f"stage 1: the routing loss went from {before['route']} to {after['route']}",
    )
    # Which expert is best where, whichever was selected: the rows are the selected ones.
    best = [sum(after["confusion"][at :: len(EXPERTS)]) for at in range(len(EXPERTS))]
    accuracies = before["routing_accuracy"], after["routing_accuracy"], max(best) / sum(best)
    check(
        accuracies[1] > max(accuracies[0], accuracies[2]) + 0.05,
        "stage 1: routing accuracy went from {} to {}; one expert everywhere would have {}".format(*accuracies),
    )
    say(
        "sft: routing loss {:.2f} → {:.2f} of at least {:.2f}".format(
            before["route"], after["route"], before["route_floor"]
        )
    )
    say("sft: routing accuracy {:.2f} → {:.2f}; one expert everywhere: {:.2f}".format(*accuracies))

    first = next(line for line in log_of(folder, "cdpo") if line.get("pairs"))
    check(first["largest_margin"] <= 1e-5, f"stage 2 begins with a margin of {first['largest_margin']}")
    first = next(line for line in log_of(folder, "fine-tuned") if line.get("pairs"))
    check(abs(first["preference"] - math.log(2)) < 1e-4, f"DPO begins with a loss of {first['preference']}")
    log = [line for line in log_of(folder, "reward") if line.get("pairs")]
    check(log[-1]["preference"] < log[0]["preference"], "the reward model's loss did not fall")
    check(
        (folder / "cdpo/adapter.gguf").read_bytes() != (folder / "sft/adapter.gguf").read_bytes(),
        "stage 2 changed nothing",
    )


def nothing_is_done_again(folder, train):
    before = digests(folder)
    messages = run(train, "training again")
    steps = [line for line in messages.splitlines() if line.startswith("step ") and " of " in line.split(":")[0]]
    check(len(steps) == 18, f"the plan has {len(steps)} steps:\n{messages}")
    check(all(line.endswith(": done already") for line in steps), f"a step was done again:\n{messages}")
    after = digests(folder)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    check(not changed, f"training again changed {changed}")
    say("training again does nothing")


def it_is_evaluated(folder, evaluate):
    results = folder / "results.table/results.jsonl"
    killed(evaluate, folder, lambda: len(lines_of(results)) > 30, "the evaluation")
    kept = [json.loads(line)["key"] for line in lines_of(results)]
    say(f"killed after {len(kept)} answers of the evaluation")
    run(evaluate, "the evaluation")
    tasks = {}
    for name in (*EXPERTS, "mixed"):
        for line in lines_of(folder / f"tasks/{name}.test.jsonl"):
            task = json.loads(line)
            tasks[task["id"]] = task
    records = [json.loads(line) for line in lines_of(results)]
    check([record["key"] for record in records[: len(kept)]] == kept, "answers were asked again after a kill")
    table = (folder / "table.yaml").read_text(encoding="utf-8")
    named = re.findall(r"^  ([a-z0-9-]+): \{(?! mean)", table, re.MULTILINE)
    check(len(named) == 20, f"the table has the methods {named}")
    wanted = sorted((method, identifier) for method in named for identifier in tasks)
    found = sorted((record["method"], record["id"]) for record in records)
    check(
        found == wanted,
        f"answers are missing or there twice: {set(wanted) ^ set(found)}; {len(found)} of {len(wanted)}",
    )
    for record in records:
        is_right = record["text"].rstrip() == tasks[record["id"]]["grader"]["answer"]
        check(record["passed"] == is_right, f"a grade is wrong: {record}")
    check(any(len(set(r["decided_by"])) > 1 for r in records if r["method"] == "fusionroute"), "one expert decided all")
    summary = json.loads((folder / "results.table/summary.json").read_text(encoding="utf-8"))
    methods = {method["method"]: method for method in summary["methods"]}
    for name in named:
        for row in methods[name]["tasks"]:
            passed = sum(r["passed"] for r in records if r["method"] == name and r["task"] == row["task"])
            check(
                row["passed"] == passed,
                f"{name} on {row['task']}: {row['passed']} in the table, {passed} in the answers",
            )
    check("<html" in (folder / "results.table/report.html").read_text(encoding="utf-8"), "the report is no page")
    before = results.read_bytes()
    run(evaluate, "the evaluation again")
    check(results.read_bytes() == before, "the evaluation again asked for answers")
    say(f"{len(records)} answers of {len(named)} methods, one for each prompt")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("fusionroute")
    parser.add_argument("folder")
    parser.add_argument("--cache", required=True)
    parser.add_argument("--seed", default="1")
    options = parser.parse_args()
    os.environ["FUSIONROUTE"] = options.fusionroute
    folder = Path(options.folder).resolve() / "family"
    # A family that someone has trained may have this name.
    if folder.exists() and not {entry.name for entry in folder.iterdir()} <= {"cache", "trained"}:
        print(f"family: {folder} is not of an earlier check; choose another folder", file=sys.stderr)
        return 64
    shutil.rmtree(folder, ignore_errors=True)
    # What experts said is kept in the cache. With that of an earlier run nobody would be asked.
    cache = folder / "cache"
    cache.mkdir(parents=True)
    (cache / "python").symlink_to(Path(options.cache) / "python")
    os.environ["FUSIONROUTE_CACHE"] = str(cache)
    folder = folder / "trained"
    train = command("train", folder, "--short", "--seed", options.seed)
    evaluate = command("evaluate", folder)
    begin = time.monotonic()
    try:
        interrupted_training(folder, train)
        results_are_there(folder, options.fusionroute)
        it_learnt(folder)
        nothing_is_done_again(folder, train)
        it_is_evaluated(folder, evaluate)
    except Fault as fault:
        print(f"family: {fault}", file=sys.stderr)
        return 1
    say(f"the whole chain in {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
