"""What validation chooses: the complement scale c and the λ of merged models. See Deploy/family/evaluate --choose.

c is the one with the best mean of those that keep every domain within the bound that is claimed of it; if none does, the one
that is least beyond. λ is the one with the best mean. Equal ones: what is nearest to 1.
"""

import json

from .arguments import Parser
from .gate import DOMAINS, MOST_BELOW_EXPERT, ROUNDING, accuracies

# A row's name is what stands before its value.
OPTIONS = {"c-": "--scale", "lambda-": "--lambda", "ties-": "--ties-lambda", "dare-": "--dare-lambda"}


def _value(name, prefix):
    return float(name[len(prefix) :])


def _mean(cells):
    return sum(cells.values()) / len(cells)


def beyond(cells, experts):
    """How far the domains are below their experts beyond what is allowed, summed."""
    below = (experts[domain] - MOST_BELOW_EXPERT - cells[domain] for domain in DOMAINS)
    return sum(amount for amount in below if amount > ROUNDING)


def choice(summary):
    """The chosen row's name by the option of Deploy/family/evaluate that takes its value. Rows without candidates are left
    out. Raises ValueError if the experts are missing."""
    rows = accuracies(summary)
    absent = [domain for domain in DOMAINS if domain not in rows]
    if absent:
        raise ValueError(f"the rows of the experts {', '.join(absent)} are missing")
    experts = {domain: rows[domain][domain] for domain in DOMAINS}
    chosen = {}
    for prefix, option in OPTIONS.items():
        found = [name for name in rows if name.startswith(prefix)]
        if not found:
            continue

        def rank(name, prefix=prefix):
            over = beyond(rows[name], experts) if prefix == "c-" else 0
            return round(over, 9), -round(_mean(rows[name]), 9), abs(_value(name, prefix) - 1)

        chosen[option] = min(found, key=rank)
    return chosen


def main(arguments=None):
    parser = Parser(prog="choice", description=__doc__)
    parser.add_argument("summary")
    options = parser.parse_args(arguments)
    with open(options.summary, encoding="utf-8") as file:
        summary = json.load(file)
    incomplete = [row["method"] for row in summary["methods"] if row["missing_answers"]]
    summary["methods"] = [row for row in summary["methods"] if row["method"] not in incomplete]
    if incomplete:
        print(f"not looked at, since answers are missing: {', '.join(incomplete)}")
    try:
        chosen = choice(summary)
    except ValueError as error:
        parser.exit(0, f"nothing is chosen yet: {error}\n")
    rows = accuracies(summary)
    for option, name in chosen.items():
        cells = ", ".join(f"{task} {value:.1%}" for task, value in rows[name].items())
        print(f"{option} {name.partition('-')[2]}: mean {_mean(rows[name]):.1%}; {cells}")
    print("experts: " + ", ".join(f"{domain} {rows[domain][domain]:.1%}" for domain in DOMAINS))


if __name__ == "__main__":
    main()
