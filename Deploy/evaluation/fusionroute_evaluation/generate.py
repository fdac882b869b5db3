"""The command Deploy/evaluation/generate; see there."""

import os
import sys

from . import contamination, files
from .arguments import parsed, parser_of
from .files import BadInput
from .tasks import code, instruct, math, mixed
from .tasks.common import stream

TASKS = {"math": math, "code": code, "instruct": instruct, "mixed": mixed}
# Numbers of lines: of each task's files; of each expert's data; of requests; of the router's mix, by task, less than a quarter of
# what the experts see and the most of what is hardest to learn; of training prompts to sample pairs for, the most where answers are right
# at one time and wrong at another, and for the reward model.
FULL = {
    "test": 600,
    # The first prompts of each test stream measured an earlier router, after which the mix was changed: not asked again.
    "spent": 600,
    "held_out": 150,
    "validation": 200,
    "math": 6000,
    "code": 4500,
    "instruct": 2500,
    "requests": 1096,
    "router_math": 1200,
    "router_code": 300,
    "router_instruct": 600,
    "router_mixed": 800,
    "stage2": 400,
    "pairs_math": 240,
    "pairs_code": 60,
    "pairs_instruct": 100,
    "pairs_mixed": 240,
    "reward": 100,
}
SHORT = {
    "test": 20,
    "spent": 0,
    "held_out": 10,
    "validation": 10,
    "math": 60,
    "code": 40,
    "instruct": 30,
    "requests": 24,
    "router_math": 12,
    "router_code": 12,
    "router_instruct": 12,
    "router_mixed": 12,
    "stage2": 16,
    "pairs_math": 6,
    "pairs_code": 6,
    "pairs_instruct": 6,
    "pairs_mixed": 6,
    "reward": 4,
}


def tasks(folder, seed, sizes):
    """Task files, the experts' data but the instruct expert's, prompts to sample pairs for, and the report."""
    for name, task in TASKS.items():
        files.write(f"{folder}/tasks/{name}.validation.jsonl", task.examples("validation", sizes["validation"], seed))
        test = task.examples("test", sizes["spent"] + sizes["test"], seed)
        files.write(f"{folder}/tasks/{name}.test.jsonl", test[sizes["spent"] :])
        files.write(
            f"{folder}/tasks/{name}.held-out.jsonl", task.examples("test", sizes["held_out"], seed, held_out=True)
        )
    asked = {name: sizes[f"pairs_{name}"] + sizes["reward"] for name in TASKS}
    prompts = {"instruct": instruct.examples("train", asked["instruct"], seed)}
    for name in ("math", "code", "mixed"):
        # One stream, so that the router's and the prompts' lines are none of the expert's.
        expert, router = sizes.get(name, 0), sizes[f"router_{name}"]
        whole = TASKS[name].examples("train", expert + router + asked[name], seed)
        if expert:
            files.write(f"{folder}/data/{name}.jsonl", whole[:expert])
        files.write(f"{folder}/data/router.{name}.jsonl", whole[expert : expert + router])
        prompts[name] = [_as_prompt(line) for line in whole[expert + router :]]
    for part in ("pairs", "reward"):
        chosen = []
        for name in TASKS:
            pairs = sizes[f"pairs_{name}"]
            chosen += prompts[name][:pairs] if part == "pairs" else prompts[name][pairs:]
        stream(seed, "prompts", part).shuffle(chosen)
        files.write(f"{folder}/prompts/{part}.jsonl", chosen)
    files.write(f"{folder}/requests.jsonl", instruct.requests(sizes["requests"], seed))


def _as_prompt(line):
    fields = {**line, "messages": line["prompt"]}
    del fields["prompt"], fields["completion"]
    return fields


def answers(folder, seed, sizes, path):
    """The instruct data and the router's mix, from what `fusionroute sample` wrote for requests.jsonl."""
    by_prompt = {line["messages"][0]["content"]: line for line in files.read(f"{folder}/requests.jsonl")}
    sampled = []
    for number, line in enumerate(files.read(path), 1):
        prompt = line.get("prompt")
        content = prompt if isinstance(prompt, str) else contamination.prompt_of(line) if prompt else None
        if content not in by_prompt or not isinstance(line.get("completion"), str):
            raise BadInput(f"{path}:{number}: this is no answer to a prompt of {folder}/requests.jsonl")
        sampled.append((by_prompt[content], line["completion"]))
    each = sizes["router_instruct"]
    wanted = sizes["instruct"] + each
    # An answer comes in several forms: those of the router's lines are others than the expert's.
    cut = len(sampled) * sizes["instruct"] // wanted
    expert, refused = instruct.training(sampled[:cut], sizes["instruct"], seed)
    router, more = instruct.training(sampled[cut:], each, seed, part="router", first=sizes["instruct"])
    refused += more
    if len(expert) + len(router) < wanted:
        print(
            f"generate: only {len(expert) + len(router)} of {wanted} instruct examples from {len(sampled)} answers; "
            "sample more answers",
            file=sys.stderr,
        )
    files.write(f"{folder}/data/instruct.jsonl", expert)
    files.write(f"{folder}/data/router.instruct.jsonl", router)
    mix = [line for name in TASKS for line in files.read(f"{folder}/data/router.{name}.jsonl")]
    stream(seed, "router").shuffle(mix)
    files.write(f"{folder}/data/router.jsonl", mix)
    files.write(f"{folder}/data/stage2.jsonl", mix[: sizes["stage2"]])
    print(f"{len(expert)} instruct examples, {len(mix)} for the router; {refused} answers or forms were not fit")


def report(folder):
    """Prints how far the splits are apart, and writes it beside them. 1 if they share what they must not."""

    def load(names):
        return [line for name in names if os.path.exists(f"{folder}/{name}") for line in files.read(f"{folder}/{name}")]

    rows, faults = [], 0
    for name in TASKS:
        train = load([f"data/{name}.jsonl", f"data/router.{name}.jsonl"])
        train += [line for line in load(["prompts/pairs.jsonl", "prompts/reward.jsonl"]) if line["task"] == name]
        others = {
            "train": train,
            "validation": load([f"tasks/{name}.validation.jsonl"]),
            "all training": load([f"data/{n}.jsonl" for n in (*TASKS, *(f"router.{t}" for t in TASKS))]),
        }
        for file, against in (
            ("validation", ("train",)),
            ("test", ("train", "validation", "all training")),
            ("held-out", ("train", "validation")),
        ):
            lines = load([f"tasks/{name}.{file}.jsonl"])
            for other in against:
                if not others[other]:
                    continue
                shared = None
                if (name, file) != ("instruct", "held-out"):
                    shared = len(contamination.keys(lines) & contamination.keys(others[other]))
                row = {
                    "file": f"{name} {file}",
                    "against": other,
                    **contamination.compare(lines, others[other]),
                    "keys": shared,
                }
                faults += row["exact"] + (shared or 0 if file != "held-out" else 0)
                rows.append(row)
    print(contamination.table(rows))
    files.write(f"{folder}/contamination.jsonl", rows)
    if faults:
        print("generate: the splits share prompts or what they are split by", file=sys.stderr)
    return 1 if faults else 0


def main(arguments=None):
    parser = parser_of("generate")
    parser.add_argument("--answers", metavar="FILE")
    options = parsed(parser, arguments, FULL)
    sizes = {**(SHORT if options.short else FULL), **options.sizes}
    try:
        if options.answers:
            answers(options.folder, options.seed, sizes, options.answers)
        elif not options.report:
            tasks(options.folder, options.seed, sizes)
        return report(options.folder)
    except (BadInput, ValueError) as error:
        print(f"generate: {error}", file=sys.stderr)
        return 65


if __name__ == "__main__":
    sys.exit(main())
