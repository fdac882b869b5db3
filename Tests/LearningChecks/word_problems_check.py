"""Trains adapters on two-step word problems, answers unseen ones through a cluster, and grades the answers."""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys

import word_problems

MAXIMUM_TOKENS = 80


def write_records(path, problems):
    with open(path, "w", encoding="utf-8") as file:
        for prompt, completion, _ in problems:
            file.write(json.dumps({"prompt": prompt, "completion": completion}) + "\n")


def train(options, folder, seed, steps):
    """Trains in `folder`, or goes on there; returns seconds of all steps and the final loss on held-out problems."""
    os.makedirs(folder, exist_ok=True)
    data, held_out = f"{folder}/train.jsonl", f"{folder}/held-out.jsonl"
    write_records(data, word_problems.problems(steps * options.batch, seed, test=False))
    write_records(held_out, word_problems.problems(48, 10_000 + seed, test=True))
    subprocess.run(
        [options.fusionroute, "train", "lm", options.model, "--data", data, "--held-out", held_out, "--out",
         f"{folder}/run", "--batch", str(options.batch), "--sequences-per-pass", "4", "--learning-rate",
         str(options.learning_rate), "--warmup", "15", "--decay", "linear", "--weight-decay", "0", "--seed", str(seed),
         "--evaluate-every", "0", "--threads", str(options.threads)],
        check=True, stdout=subprocess.DEVNULL, stderr=None if options.verbose else subprocess.DEVNULL)
    with open(f"{folder}/run/log.jsonl", encoding="utf-8") as file:
        entries = [json.loads(line) for line in file]
    seconds = sum(entry["seconds"] for entry in entries if not entry.get("held_out"))
    return seconds, [entry["lm"] for entry in entries if entry.get("held_out")][-1]


def answers(options, folder, adapter, problems):
    """Greedy answers of the model with `adapter` (None: as it is), by a cluster of real processes."""
    lora = f", lora: {json.dumps(os.path.abspath(adapter))}" if adapter else ""
    model = json.dumps(os.path.abspath(options.model))
    head, cluster = f"{folder}/head.gguf", f"{folder}/cluster.yaml"
    if not os.path.exists(head):
        subprocess.run([options.fusionroute, "make-model", "head", head, "--model", options.model, "--experts", "plain"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(cluster, "w", encoding="utf-8") as file:
        file.write(f"router: {{ model: {model}{lora}, head: head.gguf, threads: {options.threads}, context: 512, slots: 8 }}\n"
                   f"experts:\n  plain: {{ model: {model}, threads: 1, context: 512 }}\n"
                   f"listen: {{ http: \"127.0.0.1:{options.port}\", workers: \"tcp://127.0.0.1:{options.port + 1}\" }}\n")
    prompts = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt, _, _ in problems)
    result = subprocess.run(
        [options.fusionroute, "run", "-c", cluster, "--mode", "router", "--temperature", "0", "--max-tokens",
         str(MAXIMUM_TOKENS), "--format", "json", "--no-summary"],
        check=True, input=prompts, text=True, stdout=subprocess.PIPE,
        stderr=None if options.verbose else subprocess.DEVNULL)
    return [json.loads(line)["text"] for line in result.stdout.splitlines()]


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_answers(path, source, problems):
    """The answers in `path`, if they are of just these files to these problems."""
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    wanted = [(source, prompt) for prompt, _, _ in problems]
    return [line["text"] for line in lines] if [(line.get("source"), line["prompt"]) for line in lines] == wanted else None


def score(options, folder, adapter, problems):
    path = f"{folder}/answers.jsonl"
    source = "+".join(digest(file) for file in (options.model, adapter) if file)
    texts = known_answers(path, source, problems)
    if texts is None:
        texts = answers(options, folder, adapter, problems)
        if len(texts) != len(problems):
            sys.exit(f"{len(problems)} problems got {len(texts)} answers")
        with open(path, "w", encoding="utf-8") as file:
            for (prompt, completion, answer), text in zip(problems, texts):
                file.write(json.dumps({"source": source, "prompt": prompt, "right": completion, "text": text,
                                       "passed": word_problems.is_right(text, answer)}) + "\n")
    return sum(word_problems.is_right(text, answer) for text, (_, _, answer) in zip(texts, problems)) / len(problems)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fusionroute")
    parser.add_argument("model")
    parser.add_argument("--steps", type=int, action="append", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--port", type=int, default=22000)
    parser.add_argument("--out", required=True)
    parser.add_argument("--least", type=float, help="fail below this mean share after the first number of steps")
    parser.add_argument("--no-before", action="store_true", help="leave out the answers of the model as it is")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    problems = word_problems.problems(options.problems, 1, test=True)
    print(f"{len(problems)} unseen problems, greedy answers of at most {MAXIMUM_TOKENS} tokens, mode router")
    print(f"{'steps':>6} {'seed':>4} {'right':>7}   minutes  held-out loss", flush=True)
    if not options.no_before:
        print(f"{0:>6} {'':>4} {score(options, options.out, None, problems):7.1%}", flush=True)
    means = []
    for steps in options.steps:
        shares = []
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            folder = f"{options.out}/{steps}-{seed}"
            seconds, loss = train(options, folder, seed, steps)
            shares.append(score(options, folder, f"{folder}/run/adapter.gguf", problems))
            print(f"{steps:>6} {seed:>4} {shares[-1]:7.1%}  {seconds / 60:8.1f}  {loss:13.4f}", flush=True)
        means.append(statistics.mean(shares))
        print(f"{steps:>6} mean {means[-1]:7.1%}", flush=True)
    if options.least is not None and means[0] < options.least:
        sys.exit(f"after {options.steps[0]} steps {means[0]:.1%} are right, and {options.least:.0%} were expected")
    if any(later <= earlier for earlier, later in zip(means, means[1:])):
        sys.exit("more steps did not bring more right answers")


if __name__ == "__main__":
    main()
