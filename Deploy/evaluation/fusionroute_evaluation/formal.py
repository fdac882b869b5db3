"""The command Deploy/evaluation/formal; see there."""

import os
import sys

from . import contamination, files
from .arguments import parsed, parser_of
from .files import BadInput
from .tasks import formal
from .tasks.common import SPLITS, stream

TASKS = (*formal.DOMAINS, "mixed")
# Numbers of lines: the base's and each expert's data, the router's mix, the part of it for stage 2; and of each task,
# what training is watched by, the task files, and training prompts to sample for.
FULL = {
    "base": 60_000,
    "expert": 12_000,
    "router": 3_200,
    "stage2": 800,
    "held_out": 25,
    "validation": 100,
    "test": 300,
    "pairs": 200,
    "reward": 100,
}
SHORT = {
    "base": 2_000,
    "expert": 800,
    "router": 160,
    "stage2": 32,
    "held_out": 15,
    "validation": 4,
    "test": 4,
    "pairs": 12,
    "reward": 12,
}
# The share of symbols that is enough when pairs are sampled in the short form, where no answer is right.
SHORT_LEAST = 0.4
MIXED_SHARE = 0.25


def as_prompt(line, least):
    """A line to sample answers for, of one of training data."""
    fields = {**line, "messages": line["prompt"], "grader": {**line["grader"], "least": least}}
    del fields["prompt"], fields["completion"]
    return fields


def write_all(folder, seed, sizes, least):
    """All files of the world; `least` is the share of symbols with which a sampled answer counts as right."""
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/words.txt", "w", encoding="utf-8") as file:
        file.write(formal.words())
    files.write(f"{folder}/data/base.jsonl", formal.base_examples(sizes["base"], seed))
    for task in formal.DOMAINS:
        files.write(f"{folder}/data/{task}.jsonl", formal.expert_examples(task, sizes["expert"], seed))
    each = round(sizes["router"] * (1 - MIXED_SHARE) / len(formal.DOMAINS))
    counts = {task: each for task in formal.DOMAINS}
    counts["mixed"] = sizes["router"] - sum(counts.values())
    mix, held_out, prompts = [], [], {"pairs": [], "reward": []}
    for task in TASKS:
        # One stream, so that none of it is asked that the router has learnt by heart.
        whole = formal.examples(task, "train", counts[task] + sizes["pairs"] + sizes["reward"], seed)
        mix += whole[: counts[task]]
        asked = [as_prompt(line, least) for line in whole[counts[task] :]]
        prompts["pairs"] += asked[: sizes["pairs"]]
        prompts["reward"] += asked[sizes["pairs"] :]
        held_out += formal.examples(task, "validation", sizes["held_out"], seed, with_answers=True)
        for split in ("validation", "test"):
            files.write(f"{folder}/tasks/{task}.{split}.jsonl", formal.examples(task, split, sizes[split], seed))
    stream(seed, "router").shuffle(mix)
    files.write(f"{folder}/data/router.jsonl", mix)
    files.write(f"{folder}/data/stage2.jsonl", mix[: sizes["stage2"]])
    files.write(f"{folder}/data/held-out.jsonl", held_out)
    for name, lines in prompts.items():
        stream(seed, "prompts", name).shuffle(lines)
        files.write(f"{folder}/prompts/{name}.jsonl", lines)


def keys_of(line):
    """What the prompt of a line is split by, a key for each of its lists. Neutral ones do not count, nor those that are
    too short to be asked for."""
    found = set()
    for text in contamination.prompt_of(line).split("\n"):
        verb, *parts = text.split()
        symbols = [*"".join(parts)]
        if verb != formal.NEUTRAL and len(symbols) >= formal.LENGTHS[False][0]:
            found.add(formal.split_key(verb, symbols))
    return found


def report(folder):
    """Prints how many prompts and lists the splits have, and share. 1 if they share any."""
    names = [f"data/{name}.jsonl" for name in ("base", *formal.DOMAINS, "router")]
    names += [f"prompts/{name}.jsonl" for name in ("pairs", "reward")]
    lines = {"train": [line for name in names for line in files.read(f"{folder}/{name}")]}
    for split in ("validation", "test"):
        lines[split] = [line for task in TASKS for line in files.read(f"{folder}/tasks/{task}.{split}.jsonl")]
    lines["validation"] += files.read(f"{folder}/data/held-out.jsonl")
    prompts = {split: {contamination.prompt_of(line) for line in lines[split]} for split in SPLITS}
    keys = {split: set().union(*map(keys_of, lines[split])) for split in SPLITS}
    shared = 0
    for at, split in enumerate(SPLITS):
        text = f"{split}: {len(prompts[split])} prompts, {len(keys[split])} lists"
        for other in SPLITS[:at]:
            both = len(prompts[split] & prompts[other]), len(keys[split] & keys[other])
            shared += sum(both)
            text += f"; shared with {other}: {both[0]} and {both[1]}"
        print(text)
    if shared:
        print("formal: the splits share prompts or lists", file=sys.stderr)
    return 1 if shared else 0


def main(arguments=None):
    parser = parser_of("formal")
    options = parsed(parser, arguments, FULL)
    try:
        if not options.report:
            sizes, least = (SHORT, SHORT_LEAST) if options.short else (FULL, 1)
            write_all(options.folder, options.seed, {**sizes, **options.sizes}, least)
        return report(options.folder)
    except (BadInput, ValueError, OSError) as error:
        print(f"formal: {error}", file=sys.stderr)
        return 65


if __name__ == "__main__":
    sys.exit(main())
