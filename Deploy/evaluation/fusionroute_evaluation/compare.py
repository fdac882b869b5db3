"""The command Deploy/family/compare; see there."""

import json
import lzma
import os
import sys

from .arguments import Parser
from .files import BadInput, write
from .trained import unpack

AGAIN = "-again"


def common(first, second):
    """The rows that both have answers of, each with how many prompts of each task both answer. Raises BadInput where they do not
    answer the same prompts.

    `first`, `second`: prompts' names by task, by row, in their order.
    """
    found = {}
    for name in sorted(set(first) & set(second)):
        if set(first[name]) != set(second[name]):
            raise BadInput(f"the answers of {name} are for other tasks")
        pairs = [(first[name][task], second[name][task]) for task in first[name]]
        count = min(min(len(one), len(other)) for one, other in pairs)
        if any(one[:count] != other[:count] for one, other in pairs):
            raise BadInput(f"the answers of {name} are for other prompts")
        found[name] = count
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


def evaluation(tasks, grader, rows, first, second):
    """An evaluation file (YAML, which JSON is) with two rows of given answers for each row."""
    methods = {}
    for name, count in rows.items():
        methods[name] = {"answers": first[name], "limit": count}
        methods[name + AGAIN] = {"answers": second[name], "limit": count}
    return json.dumps({"tasks": tasks, "grader": grader, "methods": methods}, indent=1)


def differences(summary):
    """(task, prompts, first, second, difference, interval) of each task and of their mean; fractions. Of a summary whose reference
    is the first run's row."""
    name = summary["reference"]
    rows = {row["method"]: row for row in summary["methods"]}
    one, other = rows[name], rows[name + AGAIN]
    comparison = other["reference_minus_method"]

    def line(task, first, second, difference):
        low, high = difference["interval"]
        # Not a negative zero.
        return task, difference["prompts"], first, second, 0 - difference["difference"], (0 - high, 0 - low)

    cells = {cell["task"]: cell["accuracy"] for cell in one["tasks"]}
    cells_again = {cell["task"]: cell["accuracy"] for cell in other["tasks"]}
    lines = [line(part["task"], cells[part["task"]], cells_again[part["task"]], part) for part in comparison["tasks"]]
    return [*lines, line("mean", one["average"], other["average"], comparison)]


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
            for name in rows:
                rename(paths[1][name])
            tasks = [os.path.abspath(f"{options.tasks}/{task}.test.jsonl") for task in ("math", "code", "instruct", "mixed")]
            absolute = [{name: os.path.abspath(path) for name, path in found.items()} for found in paths]
            with open(f"{out}/compare.yaml", "w", encoding="utf-8") as file:
                file.write(evaluation(tasks, options.grader, rows, *absolute))
            print("\n".join(rows))
        else:
            compared = {}
            for file_name in sorted(os.listdir(f"{out}/summaries")):
                with open(f"{out}/summaries/{file_name}", encoding="utf-8") as file:
                    compared[file_name.removesuffix(".json")] = differences(json.load(file))
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
