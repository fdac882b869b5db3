"""The command Deploy/family/compare; see there."""

import json
import lzma
import os
import sys

from .arguments import Parser
from .files import BadInput, write
from .trained import unpack

AGAIN = "-again"
TASKS = ("math", "code", "instruct", "mixed")


def published(name, first):
    """Which of the first run's rows a second run's is compared with: the one of its name, or the one that it is a variant of, as
    "instruct.seed-2" is of "instruct". None: there is none."""
    return next((row for row in (name, name.partition(".")[0]) if row in first), None)


def common(first, second):
    """The second run's rows that the first has too: (its row there, tasks of both, how many prompts of each task both answer) by
    name. Raises BadInput where they do not answer the same prompts.

    `first`, `second`: prompts' names by task, by row, in their order.
    """
    found = {}
    for name in sorted(second):
        row = published(name, first)
        if row is None:
            continue
        tasks = [task for task in TASKS if task in first[row] and task in second[name]]
        if not tasks:
            raise BadInput(f"the answers of {name} are for other tasks")
        pairs = [(first[row][task], second[name][task]) for task in tasks]
        count = min(min(len(one), len(other)) for one, other in pairs)
        if any(one[:count] != other[:count] for one, other in pairs):
            raise BadInput(f"the answers of {name} are for other prompts")
        found[name] = row, tasks, count
    return found


def prompts(path):
    """Names of the prompts that a file of answers is for, by task."""
    found = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            answer = json.loads(line)
            found.setdefault(answer["task"], []).append(answer["id"])
    return {task: sorted(names) for task, names in found.items()}


def rename(path):
    """Has a file's answers be those of the second run's row: an evaluation takes a row's answers by its name."""
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    write(path, [{**line, "method": line["method"] + AGAIN} for line in lines])


def evaluation(tasks, grader, count, row, first, name, second):
    """An evaluation file (YAML, which JSON is) of two rows of given answers: files `first` and `second`."""
    methods = {row: {"answers": first, "limit": count}, name + AGAIN: {"answers": second, "limit": count}}
    return json.dumps({"tasks": tasks, "grader": grader, "methods": methods}, indent=1)


def differences(summary, name):
    """(task, prompts, first, second, difference, interval) of each task and, of several, of their mean; fractions. Of a summary whose
    reference is the first run's row, for the second's `name`."""
    rows = {row["method"]: row for row in summary["methods"]}
    one, other = rows[summary["reference"]], rows[name + AGAIN]
    comparison = other["reference_minus_method"]

    def line(task, first, second, difference):
        low, high = difference["interval"]
        # Not a negative zero.
        return task, difference["prompts"], first, second, 0 - difference["difference"], (0 - high, 0 - low)

    cells = {cell["task"]: cell["accuracy"] for cell in one["tasks"]}
    cells_again = {cell["task"]: cell["accuracy"] for cell in other["tasks"]}
    lines = [line(part["task"], cells[part["task"]], cells_again[part["task"]], part) for part in comparison["tasks"]]
    if len(lines) > 1:
        lines.append(line("mean", one["average"], other["average"], comparison))
    return lines


def report(compared):
    """The lines to print. `compared`: differences by row."""
    width = max(map(len, compared))
    yield f"{'row':{width}}  {'task':8}  prompts  published  again  difference"
    equal = total = 0
    for name, lines in compared.items():
        for index, (task, prompts_of_task, first, second, difference, (low, high)) in enumerate(lines):
            # Resampled means of fractions differ from zero in their last bits.
            holds = low <= 1e-9 and high >= -1e-9
            equal, total = equal + holds, total + 1
            yield (
                f"{name if index == 0 else '':{width}}  {task:8}  {prompts_of_task:7}  {100 * first:9.1f}  {100 * second:5.1f}  "
                f"{100 * difference:+.1f} ({100 * low:+.1f} … {100 * high:+.1f}){'' if holds else '  other'}"
            )
    yield ""
    yield f"{equal} of {total} differences have zero in their 95 % interval; of so many, {0.05 * total:.1f} lack it by chance"


def objects(compared):
    """The same for machines: fractions."""
    names = ("task", "prompts", "published", "again", "difference", "interval")
    return [{"row": name, **dict(zip(names, line, strict=True))} for name, lines in compared.items() for line in lines]


def main(arguments=None):
    parser = Parser(prog="compare", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare")
    prepare.add_argument("first")
    prepare.add_argument("second")
    prepare.add_argument("tasks")
    prepare.add_argument("grader")
    prepare.add_argument("out")
    show = commands.add_parser("show")
    show.add_argument("out")
    show.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args(arguments)
    out = options.out
    try:
        if options.command == "prepare":
            paths = [unpack(folder, f"{out}/{part}") for folder, part in ((options.first, "first"), (options.second, "second"))]
            named = [{name: prompts(path) for name, path in found.items()} for found in paths]
            rows = common(*named)
            if not rows:
                raise BadInput(f"{options.second} has no complete row that {options.first} has too")
            os.makedirs(f"{out}/evaluations", exist_ok=True)
            for name, (row, names, count) in rows.items():
                rename(paths[1][name])
                tasks = [os.path.abspath(f"{options.tasks}/{task}.test.jsonl") for task in names]
                first, second = (os.path.abspath(path) for path in (paths[0][row], paths[1][name]))
                with open(f"{out}/evaluations/{name}.yaml", "w", encoding="utf-8") as file:
                    file.write(evaluation(tasks, options.grader, count, row, first, name, second))
                print(name, row)
        else:
            compared = {}
            for file_name in sorted(os.listdir(f"{out}/summaries")):
                with open(f"{out}/summaries/{file_name}", encoding="utf-8") as file:
                    name = file_name.removesuffix(".json")
                    compared[name] = differences(json.load(file), name)
            if options.format == "json":
                print(json.dumps(objects(compared), indent=1))
            else:
                print("\n".join(report(compared)))
    except (BadInput, OSError, KeyError, ValueError, lzma.LZMAError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 65
    return 0


if __name__ == "__main__":
    sys.exit(main())
