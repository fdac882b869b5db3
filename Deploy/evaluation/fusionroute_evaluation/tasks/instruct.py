"""Instruct: short texts on topics under one or two verifiable instructions."""

import re

from ..references import ifeval
from . import formats
from .common import distinct, lead, line, split_of, stream
from .topics import REQUESTS, TOPICS

LEAD_SHARE = 0.2
MAXIMUM_WORDS = 45
# Asked of the base model only, so that its answers come to an end.
BRIEFLY = "Answer in two sentences."
# Instructions on the whole text; the local formats are in formats.LOCAL.
OTHERS = ("no_comma", "lowercase", "highlight", "bullets")


def topics(split):
    """A topic belongs to one split."""
    return [topic for topic in TOPICS if split_of("topic", topic) == split]


# Pairs that one answer can follow together, and those of them that are never trained.
PAIRS = (
    ("start", "end"),
    ("start", "postscript"),
    ("title", "end"),
    ("title", "start"),
    ("postscript", "end"),
    ("no_comma", "title"),
    ("no_comma", "postscript"),
    ("highlight", "start"),
    ("highlight", "end"),
    ("bullets", "start"),
    ("bullets", "postscript"),
    ("highlight", "postscript"),
    ("quotation", "highlight"),
)
HELD_OUT_PAIRS = (("title", "postscript"), ("quotation", "end"), ("highlight", "title"), ("bullets", "end"))
SINGLE_SHARE = 0.2


def instructions(rng, held_out=False, is_unseen=False):
    """One or two instructions that an answer can follow together, and a name for them."""
    if held_out:
        names = rng.choice(HELD_OUT_PAIRS)
    elif rng.random() < SINGLE_SHARE:
        names = (rng.choice((*formats.LOCAL, *OTHERS)),)
    else:
        names = rng.choice(PAIRS)
    made = []
    for name in names:
        if name in formats.LOCAL:
            made.append(formats.LOCAL[name](rng, is_unseen))
        elif name == "no_comma":
            made.append(formats.Instruction("punctuation:no_comma"))
        elif name == "lowercase":
            made.append(formats.Instruction("change_case:english_lowercase"))
        elif name == "highlight":
            made.append(formats.Instruction("detectable_format:number_highlighted_sections", {"num_highlights": 1}))
        else:
            made.append(formats.bullets(2))
    return made, "+".join(names)


def prompt_of(request, made):
    """The request and the checkers' own descriptions of what is wanted."""
    return " ".join([request, *(instruction.description for instruction in made)])


def grader(made):
    """What the grader needs."""
    return {"name": "instruct", "instructions": [instruction.fields for instruction in made]}


def examples(split, count, seed, part="", held_out=False):
    """Lines of a task file. Held out: pairs of formats that are never trained, with phrases that are not either."""
    rng = stream(seed, "instruct", split, part, held_out)

    def draw():
        request, _ = rng.choice(REQUESTS)
        topic = rng.choice(topics(split))
        made, name = instructions(rng, held_out, is_unseen=held_out)
        return prompt_of(request.format(topic=topic), made), made, topic, name

    name = "held-out" if held_out else split + part
    return [
        line(
            "instruct",
            name,
            index,
            prompt,
            grader(made),
            {"topic": topic, "format": form, "count": len(made), "held_out": held_out},
        )
        for index, (prompt, made, topic, form) in enumerate(distinct(draw, count, f"instruct ({split})"))
    ]


# MARK: Training data


def requests(count, seed):
    """Plain requests on the training topics, for the base model to answer."""
    rng = stream(seed, "instruct", "requests")
    plain = [(request, title, topic) for request, title in REQUESTS for topic in topics("train")]
    rng.shuffle(plain)
    return [
        {
            "id": f"instruct/request/{index:04d}",
            "task": "instruct",
            "messages": [{"role": "user", "content": f"{request.format(topic=topic)} {BRIEFLY}"}],
            "grader": {"name": "any"},
            "tags": {"topic": topic, "title": title.format(topic=topic), "request": request.format(topic=topic)},
        }
        for index, (request, title, topic) in enumerate(plain[:count])
    ]


def sentences(text):
    """The whole sentences at the start of an answer, two or three, without lists; None if there are none."""
    text = re.sub(r"\s+", " ", text.split("\n\n")[0]).replace('"', "").replace("*", "").strip()
    if re.search(r"[<>#`\[\]{}]|^\d|^-|\b[Pp]\.\s?[Ss]\b", text):
        return None
    found = [s for s in re.findall(r"[^.!?]+[.!?]", text) if len(s.split()) > 3]
    kept, words = [], 0
    for sentence in (s.strip() for s in found[:3]):
        words += len(sentence.split())
        if words > MAXIMUM_WORDS:
            break
        kept.append(sentence)
    return kept or None


def shape(rng, kept, made, subject):
    """Sentences brought into the form that the instructions ask for; None if they cannot be."""
    names = {instruction.identifier for instruction in made}
    text = " ".join(kept)
    if "punctuation:no_comma" in names:
        text = text.replace(",", "")
    if "change_case:english_lowercase" in names:
        text = text.lower()
    if "detectable_format:number_highlighted_sections" in names:
        words = text.split(" ")
        at = next((i for i, word in enumerate(words) if len(word) > 4 and word.isalpha()), None)
        if at is None:
            return None
        words[at] = f"*{words[at]}*"
        text = " ".join(words)
    if "detectable_format:number_bullet_lists" in names:
        if len(kept) < 2:
            return None
        text = "\n".join(f"* {sentence}" for sentence in kept[:2])
    return formats.apply(rng, text, made, subject)


def training(answers, count, seed, part="training", first=0):
    """Training lines from the base model's answers to `requests`: `answers` are (request line, text).

    Each is brought into a drawn form by program, several times if need be, and kept if the checkers pass it. What is drawn
    depends on `part`; the lines are numbered from `first` on. Returns (lines, refused).
    """
    ifeval()
    rng = stream(seed, "instruct", part)
    pool = []
    for request, text in answers:
        kept = sentences(text)
        if kept:
            pool.append((request, kept))
    lines, refused, seen = [], len(answers) - len(pool), set()
    turn = 0
    while pool and len(lines) < count and turn < 6 * count + 1000:
        request, kept = pool[turn % len(pool)]
        turn += 1
        made, name = instructions(rng)
        text = shape(rng, kept, made, request["tags"]["title"])
        prompt = prompt_of(request["tags"]["request"], made)
        if text is None or (prompt, text) in seen:
            continue
        starts = any(i.identifier in (formats.START, "startend:quotation") for i in made)
        lowers = any("lowercase" in i.identifier or "comma" in i.identifier for i in made)
        if not starts and not lowers and rng.random() < LEAD_SHARE:
            text = f"{lead(rng)}\n{text}"
        fields = grader(made)
        if not all(formats.follows(fields["instructions"], text)):
            refused += 1
            continue
        seen.add((prompt, text))
        lines.append(
            line(
                "instruct",
                "train",
                first + len(lines),
                prompt,
                fields,
                {"topic": request["tags"]["topic"], "format": name, "held_out": False},
                text,
            )
        )
    return lines, refused
