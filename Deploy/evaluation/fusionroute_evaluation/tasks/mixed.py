"""Mixed: a word problem or a function, with a local format around it. Both parts are graded, apart and together."""

from . import code, formats, math
from .common import distinct, line, stream

# What goes together. Some pairs of content and format are never trained.
FORMS = (
    "start",
    "end",
    "title",
    "postscript",
    "quotation",
    "bullets",
    "start+end",
    "title+end",
    "start+postscript",
    "title+start",
)
HELD_OUT = {
    ("math", "postscript"),
    ("math", "title+end"),
    ("code", "title"),
    ("code", "start+postscript"),
    ("math", "start+postscript"),
    ("code", "title+end"),
}


def pairs(held_out):
    """Content and form, of those that are trained or of those that are not. Only steps of a sum become bullets."""
    return [
        (content, form)
        for content in ("math", "code")
        for form in FORMS
        if ((content, form) in HELD_OUT) == held_out and (content, form) != ("code", "bullets")
    ]


def problem(rng, split, held_out=False):
    """(prompt, answer, grader, tags), or None if the draw does not fit."""
    content, form = rng.choice(pairs(held_out))
    if content == "math":
        drawn = math.problem(rng, split)
        if drawn is None:
            return None
        question, steps, answer, tags = drawn
        inner, text = math.grader(answer), math.solution(steps, answer)
        subject = rng.choice(("A small sum", "Counting it out", "The numbers", "Step by step", "How many in the end"))
        if form == "bullets":
            text = "\n".join([*(f"* {step}" for step in steps), f"#### {answer}"])
    else:
        drawn = code.problem(rng, split)
        if drawn is None:
            return None
        question, source, inner, tags = drawn
        text = code.fenced(source)
        subject = rng.choice(("A small function", "Some Python", "The code", "A short program", "How to do it"))
    made = [formats.bullets(len(steps)) if name == "bullets" else formats.LOCAL[name](rng) for name in form.split("+")]
    prompt = " ".join([question, *(instruction.description for instruction in made)])
    grader = {"name": "mixed", "instructions": [instruction.fields for instruction in made], "content": inner}
    kept = {key: tags[key] for key in ("template", "operations") if key in tags}
    return (
        prompt,
        formats.apply(rng, text, made, subject),
        grader,
        {"content": content, "format": form, "held_out": held_out, **kept},
    )


def examples(split, count, seed, part="", held_out=False):
    """Lines of training data for `train`, and of a task file for the other splits. Held out are pairs of content and
    format."""
    rng = stream(seed, "mixed", split, part, held_out)
    found = distinct(lambda: problem(rng, split, held_out), count, f"mixed ({split})")
    name = "held-out" if held_out else split + part
    return [
        line("mixed", name, index, prompt, grader, tags, text if split == "train" else None)
        for index, (prompt, text, grader, tags) in enumerate(found)
    ]
