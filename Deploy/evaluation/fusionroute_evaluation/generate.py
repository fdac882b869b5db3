"""The command Deploy/evaluation/generate; see there."""

import json
import os
import sys

from . import contamination, files
from .arguments import parsed, parser_of
from .files import BadInput
from .tasks import code, formats, instruct, math, mixed
from .tasks.common import stream
from .tasks.math_templates import TEMPLATES

TASKS = {"math": math, "code": code, "instruct": instruct, "mixed": mixed}
# All that is trained on: what is always written, and what need not be there.
TRAINING = (
    "data/router.math.jsonl",
    "data/router.code.jsonl",
    "data/router.mixed.jsonl",
    "prompts/pairs.jsonl",
    "prompts/reward.jsonl",
)
MAYBE_TRAINING = (
    "data/math.jsonl",
    "data/code.jsonl",
    "data/instruct.jsonl",
    "data/router.instruct.jsonl",
    "data/router.jsonl",
    "data/stage2.jsonl",
)
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
    by_prompt = {contamination.prompt_of(line): line for line in files.read(f"{folder}/requests.jsonl")}
    sampled = []
    for number, line in enumerate(files.read(path), 1):
        content = line.get("prompt")
        if not isinstance(content, str):
            try:
                content = contamination.prompt_of({"messages": content})
            except ValueError:
                content = None
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


def _lines(folder, name):
    """Lines of a file of prompts, each with what the report looks at. Raises BadInput."""
    path = f"{folder}/{name}"
    lines = files.read(path)
    for number, line in enumerate(lines, 1):
        try:
            contamination.prompt_of(line)
        except ValueError as error:
            raise BadInput(f"{path}:{number}: {error}") from error
        if line.get("task") not in [*TASKS] or not isinstance(line.get("tags"), dict):
            raise BadInput(f"{path}:{number}: the line has no task of {', '.join(TASKS)}, or no tags")
    return lines


def is_held_out(line):
    """Whether a line is of a kind that nothing is trained on, by what it is made of as well as by what it says of itself."""
    tags, grader = line["tags"], line.get("grader") or {}
    form = tags.get("format")
    unseen = formats.UNSEEN_STARTS + formats.UNSEEN_ENDS
    return bool(
        tags.get("held_out")
        or any(template.is_held_out and template.name == tags.get("template") for template in TEMPLATES)
        or tags.get("operations", "").count("+") > 1
        or (tags.get("content"), form) in mixed.HELD_OUT
        or (line["task"] == "instruct" and form in map("+".join, instruct.HELD_OUT_PAIRS))
        or any(value in unseen for made in grader.get("instructions", ()) for value in made["arguments"].values())
    )


def report(folder):
    """Prints how far the splits are apart, and writes it beside them. 1 if they share what they must not, or if what is held out
    stands in training data."""
    # An expert that is given no lines has no file, and what answers are for is not there before them.
    names = [name for name in MAYBE_TRAINING if os.path.exists(f"{folder}/{name}") and os.path.getsize(f"{folder}/{name}")]
    lines = [line for name in (*TRAINING, *names) for line in _lines(folder, name)]
    # The router's mix has the lines of its parts once more.
    training = list({json.dumps(line, sort_keys=True): line for line in lines}.values())

    rows, faults = [], 0
    for name in TASKS:
        others = {
            "train": [line for line in training if line["task"] == name],
            "validation": _lines(folder, f"tasks/{name}.validation.jsonl"),
            "all training": training,
        }
        for file, against in (
            ("validation", ("train",)),
            ("test", ("train", "validation", "all training")),
            ("held-out", ("train", "validation")),
        ):
            lines = _lines(folder, f"tasks/{name}.{file}.jsonl")
            for other in against:
                if not others[other]:
                    continue
                shared = kinds = None
                if file == "held-out":
                    kinds = sum(map(is_held_out, others[other]))
                if (name, file) != ("instruct", "held-out"):
                    shared = len(contamination.keys(lines) & contamination.keys(others[other]))
                row = {
                    "file": f"{name} {file}",
                    "against": other,
                    **contamination.compare(lines, others[other]),
                    "keys": shared,
                    "kinds": kinds,
                }
                faults += row["exact"] + (kinds if file == "held-out" else shared or 0)
                rows.append(row)
    print(contamination.table(rows))
    files.write(f"{folder}/contamination.jsonl", rows)
    if faults:
        print(
            "generate: the splits share prompts or what they are split by, or training has kinds that are held out",
            file=sys.stderr,
        )
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
    except (BadInput, ValueError, OSError) as error:
        print(f"generate: {error}", file=sys.stderr)
        return 65


if __name__ == "__main__":
    sys.exit(main())
