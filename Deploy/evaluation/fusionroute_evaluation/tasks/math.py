"""Math: word problems of two and three steps with written-out steps and a final `#### N`."""

from .common import distinct, lead, line, split_of, stream
from .math_templates import TEMPLATES

NAMES = (
    "Tom",
    "Anna",
    "Ben",
    "Lucy",
    "Max",
    "Emma",
    "Jack",
    "Mia",
    "Paul",
    "Sara",
    "Leo",
    "Nina",
    "Omar",
    "Kate",
    "Ivan",
    "Rosa",
    "Adam",
    "Lily",
    "Noah",
    "Ella",
    "Hugo",
    "Maria",
    "Finn",
    "Grace",
)
ITEMS = (
    "apples",
    "shells",
    "stamps",
    "coins",
    "cards",
    "stones",
    "plums",
    "beads",
    "nuts",
    "candles",
    "buttons",
    "eggs",
    "pears",
    "balls",
    "keys",
    "rings",
    "tiles",
    "roses",
    "cookies",
    "marbles",
)
LEAD_SHARE = 0.3


def problem(rng, split, held_out=False, condition=lambda template: True):
    """A problem whose numbers belong to `split`: (question, steps, answer, tags); None if the draw does not fit."""
    template = rng.choice([t for t in TEMPLATES if t.is_held_out == held_out and condition(t)])
    numbers = {key: rng.randint(*bounds) for key, bounds in template.ranges.items()}
    if not eval(template.condition, {"len": len}, dict(numbers)):
        return None
    if template.name == "split_equally":
        numbers["x"] = numbers["a"] * numbers["b"] + numbers["c"]
        given = [numbers[key] for key in "axc"]
    else:
        given = list(numbers.values())
    # By the numbers, in whatever order and template they come.
    if split_of("math", *sorted(given)) != split:
        return None
    name, other = rng.sample(NAMES, 2)
    words = {"name": name, "other": other, "items": rng.choice(ITEMS)}
    values, steps = {}, []
    for index, step in enumerate(template.steps):
        text = step.format(**words, **numbers, **values)
        value = eval(text.rpartition(": ")[2])
        if value != int(value):
            raise ValueError(f"the template {template.name} has a step that is no whole number: {text}")
        values[f"v{index}"] = int(value)
        steps.append(f"{text}={int(value)}")
    answer = values[f"v{len(steps) - 1}"]
    question = rng.choice(template.wordings).format(**words, **numbers)
    # A number of the prompt is never the answer, so none is found by copying.
    if answer in given or answer <= 0:
        return None
    tags = {"template": template.name, "steps": len(steps), "held_out": held_out}
    return question, steps, answer, tags


def solution(steps, answer):
    """The written-out steps and the answer."""
    return "\n".join([*steps, f"#### {answer}"])


def grader(answer):
    """What the grader needs."""
    return {"name": "math", "answer": answer}


def examples(split, count, seed, part="", held_out=False):
    """Lines of training data for `train`, and of a task file for the other splits."""
    rng = stream(seed, "math", split, part, held_out)
    found = distinct(lambda: problem(rng, split, held_out), count, f"math ({split})")
    name = "held-out" if held_out else split + part
    lines = []
    for index, (question, steps, answer, tags) in enumerate(found):
        completion = None
        if split == "train":
            completion = solution(steps, answer)
            if rng.random() < LEAD_SHARE:
                completion = f"{lead(rng)}\n{completion}"
        lines.append(line("math", name, index, question, grader(answer), tags, completion))
    return lines
