"""The verdict of the command Deploy/family/gate; see there."""

import json
import sys

from .arguments import Parser

DOMAINS = ("math", "code", "instruct")
MOST_BELOW_EXPERT = 0.03
LEAST_ABOVE_FINE_TUNED = 0.15
LEAST_MIXED = 0.10
# Shares are fractions of counts: a bound met exactly is met.
ROUNDING = 1e-9


def verdict(accuracies):
    """What must hold, as (text, whether it does), of accuracies by method and task."""
    found = []
    for domain in DOMAINS:
        routed, expert = accuracies["no-complement"][domain], accuracies[domain][domain]
        text = f"{domain}: without complementary logits {routed:.1%}, its expert {expert:.1%}"
        found.append((text, routed >= expert - MOST_BELOW_EXPERT - ROUNDING))
    expert, tuned = accuracies["math"]["math"], accuracies["fine-tuned"]["math"]
    found.append((f"math: its expert {expert:.1%}, fine-tuned {tuned:.1%}", expert >= tuned + LEAST_ABOVE_FINE_TUNED - ROUNDING))
    mixed = accuracies["fusion"]["mixed"]
    found.append((f"mixed: fused {mixed:.1%}", mixed >= LEAST_MIXED - ROUNDING))
    return found


def accuracies(summary):
    """Accuracy by method and task, of what `fusionroute eval` writes as summary.json."""
    return {row["method"]: {cell["task"]: cell["accuracy"] for cell in row["tasks"]} for row in summary["methods"]}


def main(arguments=None):
    parser = Parser(prog="gate", description=__doc__)
    parser.add_argument("summary")
    parser.add_argument("--lenient", action="store_true")
    options = parser.parse_args(arguments)
    with open(options.summary, encoding="utf-8") as file:
        found = verdict(accuracies(json.load(file)))
    for text, holds in found:
        print(f"{'ok     ' if holds else 'NOT MET'}  {text}")
    if not options.lenient and not all(holds for _, holds in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
