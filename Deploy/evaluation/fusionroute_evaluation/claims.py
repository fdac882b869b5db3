"""The verdict of the command Deploy/family/claims; see there."""

import json
import sys

from .arguments import Parser
from .gate import DOMAINS, MOST_BELOW_EXPERT, ROUNDING

REFERENCE = "fusionroute"
BASELINES = (
    *DOMAINS, "sequence-selection", "collab", "fine-tuned", "task-arithmetic", "task-arithmetic-tuned", "ties", "ties-tuned",
    "dare", "dare-tuned", "router", "per-prompt", "no-complement",
)
# Only with an option of Deploy/family/evaluate.
OPTIONAL = {"task-arithmetic-tuned", "ties-tuned", "dare-tuned"}
# No claim is made about these.
REPORTED = ("no-cdpo", "sft-continued", "no-complement-sft", "fusionroute-c-1", "union", "oracle")
# Followed by a seed.
REPORTED_OF_SEEDS = ("router-seed-", "no-cdpo-seed-", "sft-continued-seed-")
LEAST_WITH_SEVERAL_EXPERTS = 0.80
# Prompts per task that a claim rests on; of merged models and of Collab fewer.
LEAST_PROMPTS = 500
LEAST_PROMPTS_OF_MERGED = 300
LEAST_PROMPTS_OF_COLLAB = 50


def _cell(row, task):
    return next((cell for cell in row["tasks"] if cell["task"] == task and cell["accuracy"] is not None), None)


def _interval(comparison):
    return "no interval" if not comparison["interval"] else "{:+.1f} … {:+.1f}".format(*(100 * end for end in comparison["interval"]))


def _mixed(row):
    tasks = (row["reference_minus_method"] or {}).get("tasks", ())
    return next((difference for difference in tasks if difference["task"] == "mixed"), None)


def least_prompts(method):
    if method == "collab":
        return LEAST_PROMPTS_OF_COLLAB
    return LEAST_PROMPTS_OF_MERGED if method.startswith(("task-arithmetic", "ties", "dare")) else LEAST_PROMPTS


def _too_few(row):
    """How many prompts of a task were too few; None where there are enough of each."""
    least = min(cell["prompts"] for cell in row["tasks"])
    return least if least < least_prompts(row["method"]) else None


def _above(rows, what, comparison_of):
    """The claims that FusionRoute is above each baseline: in the mean with certainty, on a task by the point estimate."""
    found = []
    for name in BASELINES:
        row = rows.get(name)
        if row is None:
            if name not in OPTIONAL:
                found.append((f"{what} above {name}: not evaluated", None))
            continue
        comparison = comparison_of(row)
        if row["missing_answers"] or not comparison or comparison["difference"] is None:
            found.append((f"{what} above {name}: answers are missing", None))
            continue
        if (few := _too_few(row)) is not None:
            found.append((f"{what} above {name}: {few} prompts of a task, {least_prompts(name)} are needed", None))
            continue
        if what == "mean":
            holds = bool(comparison["interval"]) and comparison["interval"][0] > ROUNDING
        else:
            holds = comparison["difference"] > ROUNDING
        text = f"{what} above {name}: {100 * comparison['difference']:+.1f} ({_interval(comparison)})"
        found.append((text, holds))
    return found


def verdict(summary):
    """What is claimed, as (text, whether it holds; None where an answer is missing), of what `fusionroute eval` writes as
    summary.json."""
    rows = {row["method"]: row for row in summary["methods"]}
    own = rows.get(REFERENCE)
    if own is None or own["missing_answers"]:
        return [(f"{REFERENCE} has not answered all prompts yet", None)]
    if (few := _too_few(own)) is not None:
        return [(f"{REFERENCE} answered {few} prompts of a task, {LEAST_PROMPTS} are needed", None)]
    found = _above(rows, "mean", lambda row: row["reference_minus_method"])

    for domain in DOMAINS:
        cell, expert = _cell(own, domain), _cell(rows[domain], domain) if domain in rows else None
        if cell is None or expert is None or rows[domain]["missing_answers"]:
            found.append((f"{domain}: answers are missing", None))
            continue
        if expert["prompts"] < LEAST_PROMPTS:
            found.append((f"{domain}: {expert['prompts']} prompts of its expert, {LEAST_PROMPTS} are needed", None))
            continue
        text = f"{domain}: {cell['accuracy']:.1%}, its expert {expert['accuracy']:.1%}"
        found.append((text, cell["accuracy"] >= expert["accuracy"] - MOST_BELOW_EXPERT - ROUNDING))

    found += _above(rows, "mixed", _mixed)

    cell = _cell(own, "mixed")
    if cell is None or not cell["passed"]:
        found.append(("mixed: no right answer", None if cell is None else False))
    else:
        share = cell["passed_with_several_experts"] / cell["passed"]
        text = f"mixed: several experts in {cell['passed_with_several_experts']} of {cell['passed']} right answers, {share:.1%}"
        found.append((text, share >= LEAST_WITH_SEVERAL_EXPERTS - ROUNDING))
    return found


def reported(summary):
    """What is told without a claim: differences to variants and upper references, and the spread over seeds of the router."""
    lines = []
    for row in summary["methods"]:
        comparison = row["reference_minus_method"]
        if (row["method"] in REPORTED or row["method"].startswith(REPORTED_OF_SEEDS)) and comparison:
            if comparison["difference"] is not None:
                lines.append(f"mean minus {row['method']}: {100 * comparison['difference']:+.1f} ({_interval(comparison)})")
        if row["method"] == "routers" and row["average_spread"]:
            spread = row["average_spread"]
            lines.append(
                f"mean over the router's seeds: {row['average']:.1%}, {spread['lowest']:.1%} … {spread['highest']:.1%}, "
                f"standard deviation {100 * spread['standard_deviation']:.1f}"
            )
    return lines


def main(arguments=None):
    parser = Parser(prog="claims", description=__doc__)
    parser.add_argument("summary")
    options = parser.parse_args(arguments)
    again = "run `fusionroute eval` with --report-only"
    try:
        with open(options.summary, encoding="utf-8") as file:
            summary = json.load(file)
        if not all("missing_answers" in row for row in summary["methods"]):
            print(f"claims: {options.summary} is of an older fusionroute; {again}", file=sys.stderr)
            return 65
        if (reference := summary.get("reference", REFERENCE)) != REFERENCE:
            print(f"claims: {options.summary} compares with {reference}; {again} --reference {REFERENCE}", file=sys.stderr)
            return 65
        claimed, told = verdict(summary), reported(summary)
    except KeyError as error:
        print(f'claims: {options.summary} is no summary of an evaluation: it lacks "{error.args[0]}"; {again}', file=sys.stderr)
        return 65
    except (OSError, ValueError, TypeError, AttributeError) as error:
        print(f"claims: {options.summary} is no summary of an evaluation: {error}; {again}", file=sys.stderr)
        return 65
    marks = {True: "holds  ", False: "NOT MET", None: "open   "}
    for text, holds in claimed:
        print(f"{marks[holds]}  {text}")
    for text in told:
        print(f"         {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
