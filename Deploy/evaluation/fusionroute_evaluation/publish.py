"""The command Deploy/family/publish; see there."""

import json
import lzma
import os
import sys

from . import files
from .arguments import Parser
from .files import BadInput

# Their answers are those of other rows.
DERIVED = {"oracle"}
# Rows are answered on several machines, whose times say nothing about each other.
UNPUBLISHED = {"busy_seconds"}


def answers(lines, source):
    """Lines by method, in the order of prompts. Raises BadInput where a prompt has answers of two states of a method."""
    found = {}
    for line in lines:
        method = found.setdefault(line["method"], {})
        before = method.get(line["id"])
        if before is not None and before["key"] != line["key"]:
            raise BadInput(
                f"{source} has answers of two states of \"{line['method']}\" to {line['id']}: evaluate what is to be published into "
                "a folder of its own"
            )
        # Later lines replace earlier ones.
        method[line["id"]] = line
    return {name: sorted(method.values(), key=lambda line: (line["task"], line["id"])) for name, method in found.items()}


def write(folder, method, lines):
    """Writes NAME.jsonl.xz; the same answers give the same bytes. Returns how many."""
    # A key tells models and settings apart on the machine where they are.
    kept = ({name: value for name, value in line.items() if name not in UNPUBLISHED} | {"key": ""} for line in lines)
    text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in kept)
    with open(f"{folder}/{method}.jsonl.xz.new", "wb") as file:
        file.write(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    os.replace(f"{folder}/{method}.jsonl.xz.new", f"{folder}/{method}.jsonl.xz")
    return len(lines)


def main(arguments=None):
    parser = Parser(prog="publish", description=__doc__)
    parser.add_argument("results", help="folder of an evaluation")
    parser.add_argument("out")
    options = parser.parse_args(arguments)
    try:
        found = answers(files.read(f"{options.results}/results.jsonl"), f"{options.results}/results.jsonl")
        with open(f"{options.results}/summary.json", encoding="utf-8") as file:
            rows = json.load(file)["methods"]
    except (BadInput, OSError, KeyError, TypeError, ValueError) as error:
        print(f"publish: {options.results} is no evaluation that could be published: {error}", file=sys.stderr)
        return 65
    os.makedirs(options.out, exist_ok=True)
    for row in rows:
        name = row["method"]
        if name in DERIVED or name not in found:
            continue
        if row["missing_answers"]:
            print(f"publish: {name} lacks {row['missing_answers']} answers: left out", file=sys.stderr)
            continue
        print(f"{options.out}/{name}.jsonl.xz: {write(options.out, name, found[name])} answers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
