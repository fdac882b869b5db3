"""Whether the tables in Deploy/family/README.md are what an evaluation of the published answers gives, and what is claimed of them
holds. See Deploy/checks/table."""

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "Deploy/family/README.md"
sys.path.insert(0, str(ROOT / "Deploy/evaluation"))

from fusionroute_evaluation import claims

# How the table calls the rows of table.yaml.
ROWS = {
    "expert math alone": "math",
    "expert code alone": "code",
    "expert instruct alone": "instruct",
    "Sequence Selection": "sequence-selection",
    "Collab, rollouts of 12 tokens, 50 prompts of each task": "collab",
    "one fine-tuned model (SFT, then DPO mixed with SFT)": "fine-tuned",
    "merged: task arithmetic, λ = 1": "task-arithmetic",
    "merged: task arithmetic, λ = 0.7": "task-arithmetic-tuned",
    "merged: TIES, λ = 1": "ties",
    "merged: DARE, λ = 1, mean of three seeds": "dare",
    "merged: DARE, λ = 0.5, one seed": "dare-tuned",
    "router alone": "router",
    "per-prompt routing": "per-prompt",
    "oracle expert per prompt (upper reference)": "oracle",
    "without complementary logits": "no-complement",
    # Of the second run alone.
    "without complementary logits, after stage 1": "no-complement.after-stage-1",
    "without CDPO (after stage 1), c = 0.75": "no-cdpo",
    "FusionRoute, c = 1": "fusionroute-c-1",
    "FusionRoute, c = 0.75": "fusionroute",
    "FusionRoute, c = 0.75, mean of three routers": "routers",
    "one model on all data (upper reference)": "union",
}
# Those of routers with other seeds.
SEEDS = (
    (r"FusionRoute, c = 0.75, router of seed (\d+)", "router-seed-"),
    (r"without CDPO, router of seed (\d+)", "no-cdpo-seed-"),
    (r"SFT continued, router of seed (\d+)", "sft-continued-seed-"),
)
# The instruct experts of the second run's machine.
VARIANTS = {
    "seed 1, the second run's": "instruct",
    "seed 2": "instruct.seed-2",
    "seed 3": "instruct.seed-3",
}
# Figures have one decimal; intervals are resampled, in the order of prompts.
ROUNDING, RESAMPLING = 0.0501, 0.1501


def method_of(name):
    for pattern, method in SEEDS:
        if match := re.fullmatch(pattern, name):
            return method + match[1]
    return ROWS.get(name)


def cells(line):
    """Of a line of the table, the cells without emphasis."""
    return [cell.strip().replace("*", "") for cell in line.strip().strip("|").split("|")]


def numbers(text):
    """A figure and, where there is one, its interval."""
    return [float(number.replace("−", "-")) for number in re.findall(r"[+−-]?\d+\.\d", re.sub(r"(?<=\d)–", " ", text))]


def told(text, heading="\n## The table\n", columns=6):
    """The rows of the table of so many columns below a heading: (name, cells)."""
    table = text.split(heading)[1].split("\n### ")[0]
    rows = [cells(line) for line in table.splitlines() if line.startswith("| ") and line.count("|") == columns + 2]
    # Not the line with the names of the columns.
    return [(row[0], row[1:]) for row in rows if numbers(row[1])]


def found(row):
    """The same cells of a row of the summary, as figures."""
    by_task = {cell["task"]: cell for cell in row["tasks"]}
    cells = [[by_task[task]["accuracy"]] for task in ("math", "code", "instruct", "mixed")]
    cells.append([row["average"], *(row["average_interval"] or ())])
    comparison = row["reference_minus_method"]
    cells.append([comparison["difference"], *comparison["interval"]] if comparison else [])
    return [[100 * number for number in cell] for cell in cells]


def differ(stated, computed):
    """Whether a cell's figures are others."""
    allowed = [ROUNDING, RESAMPLING, RESAMPLING]
    return len(stated) != len(computed) or any(
        abs(a - b) > limit for a, b, limit in zip(stated, computed, allowed, strict=False)
    )


def faults_of(row, stated, computed):
    """Of a row's cells, those that are otherwise than the answers give."""
    for text, figures in zip(stated, computed, strict=True):
        if differ(numbers(text), figures):
            yield f'{row}: the README has "{text}" where the answers give {", ".join(f"{number:.2f}" for number in figures) or "nothing"}'


def faults(text, summary):
    """What the README says otherwise than the summary."""
    computed = {row["method"]: row for row in summary["methods"]}
    listed, said = told(text), set()
    for name, stated in listed:
        method = method_of(name)
        if method is None:
            yield f'"{name}" is a row that this check does not know'
        elif method not in computed:
            yield f'"{name}": the evaluation has no row {method}'
        else:
            said.add(method)
            yield from faults_of(f'"{name}"', stated, found(computed[method]))
    # What a mean is made of has no line of its own.
    parts = {"dare-1", "dare-2", "dare-3"}
    for method in sorted(set(computed) - said - parts):
        yield f"the README has no line for {method}"


def faults_of_claims(text, summary):
    """Whether all that is claimed of the table holds, as the README says with a count."""
    verdict = claims.verdict(summary)
    for claim, holds in verdict:
        if not holds:
            yield f'"{claim}" {"is open" if holds is None else "does not hold"}'
    told = re.search(r"all (\d+) lines of it", text)
    if not told or int(told[1]) != len(verdict):
        yield f'the README tells of {told[1] if told else "no"} claims, {len(verdict)} are made'


def faults_again(text, lines):
    """What the README says of the second run of the chain otherwise than the command Deploy/family/compare."""
    computed = {}
    for line in lines:
        computed.setdefault(line["row"], []).append(line)
    heading = "\n### The chain once more\n"
    rows = [(name, method_of(name), stated, None) for name, stated in told(text, heading)]
    rows += [(name, VARIANTS.get(name), stated, "instruct") for name, stated in told(text, heading, columns=2)]
    for name, method, stated, task in rows:
        if method not in computed:
            yield f'the chain once more: there is no row for "{name}"'
            continue
        lines = [line for line in computed[method] if task in (None, line["task"])]
        cells = [[100 * line["again"]] for line in lines]
        # Of all tasks it is the mean that is compared.
        cells.append([100 * figure for figure in (lines[-1]["difference"], *lines[-1]["interval"])])
        yield from faults_of(f'the chain once more, "{name}"', stated, cells)
    for method in sorted(set(computed) - {row[1] for row in rows}):
        yield f"the chain once more: the README has no line for {method}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("summary", type=Path, help="of all published answers")
    parser.add_argument("--again", type=Path, help="what Deploy/family/compare --format json printed")
    parser.add_argument("--readme", type=Path, default=README)
    options = parser.parse_args()
    summary = json.loads(options.summary.read_text(encoding="utf-8"))
    text = options.readme.read_text(encoding="utf-8")
    wrong = [*faults(text, summary), *faults_of_claims(text, summary)]
    if options.again:
        wrong += faults_again(text, json.loads(options.again.read_text(encoding="utf-8")))
    for fault in wrong:
        print(f"table: {fault}", file=sys.stderr)
    if not wrong:
        print("table: the README's figures are what the answers give")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
