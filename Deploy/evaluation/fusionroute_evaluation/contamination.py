"""How much of one split can be found in another: exact duplicates, near-duplicates and shared n-grams of prompts."""

import re
from collections import Counter

NGRAM = 8
NEAR = 0.9


def words(text):
    """Words and numbers in lower case."""
    return re.findall(r"[a-z]+|\d+", text.lower())


def ngrams(tokens, n):
    return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}


def prompt_of(line):
    """The text of the last user message. Raises ValueError if there is none."""
    messages = line.get("messages") or line.get("prompt")
    if isinstance(messages, list):
        for message in reversed(messages):
            if isinstance(message, dict) and message.get("role") == "user" and isinstance(message.get("content"), str):
                return message["content"]
    raise ValueError("the line has no message of a user")


class Corpus:
    """Prompts of one file, indexed."""

    def __init__(self, lines):
        self.tokens = [words(prompt_of(line)) for line in lines]
        self.exact = {tuple(tokens) for tokens in self.tokens}
        self.grams = set()
        self.shingles = []
        self.index = {}
        for number, tokens in enumerate(self.tokens):
            self.grams |= ngrams(tokens, NGRAM)
            shingles = ngrams(tokens, 3) or {tuple(tokens)}
            self.shingles.append(shingles)
            for shingle in shingles:
                self.index.setdefault(shingle, []).append(number)

    def nearest(self, tokens):
        """The greatest Jaccard similarity of three-word shingles with any prompt here."""
        shingles = ngrams(tokens, 3) or {tuple(tokens)}
        shared = Counter(number for shingle in shingles for number in self.index.get(shingle, ()))
        return max(
            (count / (len(shingles) + len(self.shingles[number]) - count) for number, count in shared.most_common(50)),
            default=0.0,
        )


def compare(lines, against):
    """Of `lines`' prompts: how many stand in `against` word by word; how many have a neighbour with at least 0.9 of
    their three-word shingles in common, numbers included; and the share of their 8-grams that occurs there, with
    numbers as they are. Questions of one template share words by design; numbers and operations must not be shared.
    """
    corpus = Corpus(against)
    own = [words(prompt_of(line)) for line in lines]
    grams = [gram for tokens in own for gram in ngrams(tokens, NGRAM)]
    with_numbers = [gram for gram in grams if sum(word.isdigit() for word in gram) >= 2]

    def share(of):
        return sum(gram in corpus.grams for gram in of) / len(of) if of else 0.0

    return {
        "prompts": len(lines),
        "exact": sum(tuple(tokens) in corpus.exact for tokens in own),
        "near": sum(corpus.nearest(tokens) >= NEAR for tokens in own),
        "ngrams": round(share(grams), 4),
        "ngrams_with_numbers": round(share(with_numbers), 4),
    }


def keys(lines):
    """What splits must not share: numbers of math, operations of code, topics of instruct."""
    found = set()
    for line in lines:
        tags = line["tags"]
        if "operations" in tags and (tags.get("count", 2) == 2 and "+" in tags["operations"]):
            found.add(("operations", tags["operations"]))
        elif "template" in tags:
            question = prompt_of(line).split("Your answer must")[0]
            found.add(("numbers", *sorted(re.findall(r"\d+", question))))
        elif "topic" in tags:
            found.add(("topic", tags["topic"]))
    return found


def table(rows):
    """Text of the report."""
    head = ("file", "against", "prompts", "exact", f"near {NEAR}", f"{NGRAM}-grams", "with 2 numbers", "shared keys")
    head += ("held-out kinds",)
    body = [
        (
            r["file"],
            r["against"],
            str(r["prompts"]),
            str(r["exact"]),
            str(r["near"]),
            f"{r['ngrams']:.1%}",
            f"{r['ngrams_with_numbers']:.1%}",
            *("–" if r[key] is None else str(r[key]) for key in ("keys", "kinds")),
        )
        for r in rows
    ]
    widths = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in (head, *body)
    )
