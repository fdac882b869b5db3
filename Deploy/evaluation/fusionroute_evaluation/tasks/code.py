"""Code: a small Python function from a description, one to three operations in a row."""

import itertools
import re

from .code_operations import NUMBERS, TEXTS
from .common import distinct, lead, line, split_of, stream

FUNCTIONS = (
    "solve",
    "compute",
    "process",
    "run",
    "convert",
    "apply",
    "handle",
    "work",
    "calc",
    "make",
    "task",
    "change",
    "build",
    "result",
    "answer",
    "step",
    "fix",
    "treat",
    "func",
    "helper",
)
LETTERS = "aeioutrnsl"
WORDS = (
    "red",
    "Apple",
    "river",
    "Tree",
    "sun",
    "Moon",
    "stone",
    "light",
    "Green",
    "bird",
    "cloud",
    "House",
    "seven",
    "blue",
    "Ocean",
    "salt",
    "Paper",
    "ink",
    "road",
    "Garden",
    "owl",
    "Iron",
    "under",
    "east",
    "Table",
)
CASES = 6
LEAD_SHARE = 0.3


def fenced(source):
    """Source text as an answer shows it."""
    return f"```python\n{source}\n```"


def _value(rng, kind):
    if kind == "list":
        return [rng.randint(-12, 20) for _ in range(rng.randint(5, 9))]
    words = [rng.choice(WORDS) for _ in range(rng.randint(2, 5))]
    if rng.random() < 0.5:
        words.insert(rng.randrange(len(words) + 1), str(rng.randint(1, 999)))
    return " ".join(words)


def source_of(function, variable, expressions):
    """One line an operation; the last one returns."""
    lines = [f"    {variable} = {expression}" for expression in expressions[:-1]]
    return "\n".join([f"def {function}({variable}):", *lines, f"    return {expressions[-1]}"])


def _function(variable, expressions):
    namespace = {}
    exec(source_of("f", variable, expressions), namespace)
    return namespace["f"]


def _drawn(rng, kind, function, count, attempts):
    """Up to `count` pairs of arguments, out of so many attempts, and what a function that takes them gives."""
    found = []
    for _ in range(attempts):
        argument = _value(rng, kind)
        try:
            found.append(([argument], function(argument)))
        except (ValueError, IndexError):
            continue
        if len(found) == count:
            break
    return found


def _wide(expressions):
    """The operations with a bound off by one, and the other way round."""
    changed = [
        [*expressions[:at], expression.replace(exact, wide), *expressions[at + 1 :]]
        for at, expression in enumerate(expressions)
        for exact, wide in ((" > ", " >= "), (" < ", " <= "))
        if exact in expression
    ]
    return changed + ([expressions[::-1]] if len(expressions) > 1 else [])


def _off_by_one(expressions):
    """The operations with one of their numbers one more or less, and in any other order."""
    changed = [
        [*expressions[:at], f"{text[: number.start()]}{int(number[0]) + step}{text[number.end() :]}", *expressions[at + 1 :]]
        for at, text in enumerate(expressions)
        for number in re.finditer(r"\b\d+\b", text)
        for step in (-1, 1)
    ]
    return changed + [list(order) for order in itertools.permutations(expressions)][1:]


def _near(rng, kind, variable, expressions):
    """Wrong functions that are near, none that is never wrong."""
    probes = _drawn(rng, kind, _function(variable, expressions), 200, 200)
    changed = (_function(variable, c) for c in _wide(expressions))
    return [function for function in changed if not _agrees(function, probes)]


def _telling(kind, variable, expressions, found):
    """Further cases: one for each function near by that is right on those found, on arguments where it is not."""
    # Of a stream of its own, so that what is drawn next does not depend on how many are needed.
    probes = _drawn(stream("telling", kind, *expressions), kind, _function(variable, expressions), 400, 400)
    more = []
    for changed in _wide(expressions) + _off_by_one(expressions):
        function = _function(variable, changed)
        if _agrees(function, found + more):
            more += [probe for probe in probes if not _agrees(function, [probe])][:1]
    return more


def cases(rng, kind, variable, expressions, is_strict=False):
    """Hidden cases on which no constant, no unchanged argument and no part of the operations is right; None if the
    operations have none.

    - `is_strict`: nor the same with a bound or another number off by one, or in another order, unless no argument tells
      them apart. That can take more than `CASES`.
    """
    whole = _function(variable, expressions)
    parts = [
        _function(variable, expressions[:i] + expressions[i + 1 :])
        for i in range(len(expressions))
        if len(expressions) > 1
    ]
    wrong = [lambda value: value, *parts]
    if is_strict:
        wrong += _near(rng, kind, variable, expressions)
    for _ in range(12):
        found = _drawn(rng, kind, whole, CASES, 60)
        if len(found) < CASES or sum(not expected for _, expected in found) > 1:
            continue
        results = [expected for _, expected in found]
        if max(results.count(result) for result in results) > CASES // 2:
            continue
        if any(_agrees(function, found) for function in wrong):
            continue
        return found + (_telling(kind, variable, expressions, found) if is_strict else [])
    return None


def _agrees(function, found):
    try:
        return all(function(*arguments) == expected for arguments, expected in found)
    except (ValueError, IndexError, TypeError, AttributeError, ArithmeticError):
        return False


def problem(rng, split, count=None):
    """A function to write: (prompt, source, grader, tags); None if the draw does not fit.

    - `split`: by which operations follow one another; no pair of the test is in the training data.
    - `count`: operations; one in ten is single otherwise, of the training split only.
    """
    kind, variable, operations = rng.choice((("list", "numbers", NUMBERS), ("text", "text", TEXTS)))
    if count is None:
        count = 1 if split == "train" and rng.random() < 0.1 else 2
    chosen = [rng.choice([o for o in operations if not o.is_final]) for _ in range(count - 1)]
    chosen.append(rng.choice(operations))
    names = [operation.name for operation in chosen]
    if len(set(names)) < count or (count == 2 and split_of("code", *names) != split):
        return None
    values = [{"k": rng.randint(*o.range) if o.range else 0, "c": rng.choice(LETTERS)} for o in chosen]
    expressions = [_fill(o.expression, v) for o, v in zip(chosen, values)]
    phrases = [_fill(rng.choice(o.wordings), v) for o, v in zip(chosen, values)]
    if not chosen[-1].is_final:
        phrases.append("return the result")
    function = rng.choice(FUNCTIONS)
    # Training prompts' answers are only chosen from; what is reported is measured on the others.
    found = cases(rng, kind, variable, expressions, is_strict=split != "train")
    if found is None:
        return None
    what = "a list of integers" if kind == "list" else "a text"
    text = ", then ".join(phrases)
    prompt = rng.choice(
        (
            f"Write a Python function `{function}({variable})` for {what}: {text}.",
            f"Write `{function}({variable})` in Python. For {what}, {text}.",
        )
    )
    grader = {
        "name": "code",
        "function": function,
        "cases": [{"arguments": arguments, "expected": expected} for arguments, expected in found],
    }
    tags = {"operations": "+".join(names), "kind": kind, "count": count, "held_out": count > 2}
    return prompt, source_of(function, variable, expressions), grader, tags


def _fill(text, values):
    return text.replace("{k}", str(values["k"])).replace("{c}", values["c"])


def examples(split, count, seed, part="", held_out=False):
    """Lines of training data for `train`, and of a task file for the other splits. Held out are three operations."""
    rng = stream(seed, "code", split, part, held_out)
    found = distinct(lambda: problem(rng, split, 3 if held_out else None), count, f"code ({split})")
    name = "held-out" if held_out else split + part
    lines = []
    for index, (prompt, source, grader, tags) in enumerate(found):
        completion = None
        if split == "train":
            completion = fenced(source)
            if rng.random() < LEAD_SHARE:
                completion = f"{lead(rng)}\n{completion}"
        lines.append(line("code", name, index, prompt, grader, tags, completion))
    return lines
