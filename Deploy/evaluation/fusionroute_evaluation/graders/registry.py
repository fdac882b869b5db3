"""One entry for all graders."""

import functools
import math
import re
from collections import Counter
from dataclasses import asdict, dataclass, field

from ..contamination import ngrams
from ..references import ReferenceMissing
from ..sandbox import Sandbox
from ..tasks.formats import described, follows
from . import benchmarks, code, formal
from .answers import collapsed, final_number

# Of an answer to an instruction: its own letters; how many words in a row are a copy of the prompt, as fewer may name the
# topic; how often a line or sentence, of how many words, makes it no answer.
LEAST_LETTERS = 20
COPIED_WORDS = 4
FILLER_TIMES, FILLER_WORDS = 4, 3
_OWN = "an answer that does not repeat the instructions"


@dataclass
class Verdict:
    """`score` is 1 for a passed answer, else the share of it that is right where that makes sense. `parts`: of what has
    several goals, each."""

    passed: bool
    score: float = None
    parts: dict = field(default_factory=dict)
    reason: str = ""

    def __post_init__(self):
        if self.score is None:
            self.score = float(self.passed)

    @property
    def fields(self):
        return {key: value for key, value in asdict(self).items() if value or key in ("passed", "score", "reason")}


class Grader:
    """Grades answers. Holds the sandbox, which starts with the first code; use it in a `with`."""

    def __init__(self):
        self.sandbox = Sandbox()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sandbox.close()

    def grade(self, grader, text, prompt=""):
        """The verdict on `text` by the `grader` of a task file's line. Raises ValueError for a line that has none."""
        if not isinstance(grader, dict) or not isinstance(grader.get("name"), str):
            raise ValueError('the line has no "grader" with a "name"')
        method = self._methods().get(grader["name"])
        if method is None:
            raise ValueError(f"there is no grader {grader['name']!r}; graders are {', '.join(sorted(self._methods()))}")
        try:
            return method(grader, text, prompt)
        except OverflowError:
            # Of an answer: a number too large to compare.
            raise
        except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise ValueError(f"the grader {grader['name']!r} of the line is incomplete: {error}") from error

    def _methods(self):
        return {
            "math": self._math,
            "code": self._code,
            "instruct": self._instruct,
            "mixed": self._mixed,
            "formal": lambda grader, text, prompt: Verdict(
                **formal.judge(grader["answer"], text, grader.get("least", 1))
            ),
            "any": lambda grader, text, prompt: Verdict(bool(text.strip())),
            "gsm8k": self._published(benchmarks.gsm8k),
            "math500": self._published(benchmarks.math500),
            "humaneval": self._published(functools.partial(benchmarks.humaneval, self.sandbox)),
            "mbpp": self._published(functools.partial(benchmarks.mbpp, self.sandbox)),
            "ifeval": self._published(benchmarks.ifeval),
        }

    @staticmethod
    def _published(judge):
        def grade(grader, text, _prompt):
            if not isinstance(grader["record"], dict):
                raise ValueError('the grader of a published benchmark needs its "record"')
            return Verdict(**judge(grader["record"], text))

        return grade

    def _math(self, grader, text, _prompt):
        expected, number = _expected_number(grader["answer"]), final_number(text)
        if number is None:
            return Verdict(False, reason="no final #### and a number")
        passed = number == expected
        return Verdict(passed, reason="" if passed else "a wrong number")

    def _code(self, grader, text, _prompt):
        passed, score, reason = code.grade(self.sandbox, grader, text)
        return Verdict(passed, score, reason=reason)

    def _instruct(self, grader, text, prompt):
        marks = follows(grader["instructions"], collapsed(text))
        broken = [i["id"] for i, mark in zip(grader["instructions"], marks) if not mark]
        # Formats alone are no answer.
        wanted = {
            "an answer of some words": _own_letters(grader["instructions"], text, prompt) >= LEAST_LETTERS,
            _OWN: not _repeats_instructions(grader["instructions"], text),
            "an answer that does not repeat itself": not _is_filler(text),
        }
        broken += [what for what, is_met in wanted.items() if not is_met]
        return Verdict(
            not broken,
            sum(marks) / len(marks) if all(wanted.values()) else 0.0,
            reason=f"not followed: {', '.join(broken)}" if broken else "",
        )

    def _mixed(self, grader, text, prompt):
        marks = follows(grader["instructions"], collapsed(text))
        content = self.grade(grader["content"], text, prompt)
        broken = [i["id"] for i, mark in zip(grader["instructions"], marks) if not mark]
        if _repeats_instructions(grader["instructions"], text):
            broken.append(_OWN)
        parts = {"format": not broken, "content": content.passed}
        reasons = [f"not followed: {', '.join(broken)}"] if broken else []
        if content.reason:
            reasons.append(content.reason)
        return Verdict(all(parts.values()), sum(parts.values()) / 2, parts, "; ".join(reasons))


def _expected_number(value):
    """The number that a line expects; a text of one is one, as for `gsm8k`. Raises ValueError: every answer would be wrong."""
    if isinstance(value, str) and re.fullmatch(r"-?[\d,]*\.?\d+", value):
        value = float(value.replace(",", ""))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError('the grader\'s "answer" is no number')
    return value


def _repeats_instructions(instructions, text):
    """Whether a text has the words of an instruction: they hold examples of formats, so that a copy would pass."""
    spaced = " ".join(text.lower().split())
    return any(described(instruction)[:40].lower() in spaced for instruction in instructions)


def _words(text):
    return re.findall(r"\w+", text.lower())


def _own_letters(instructions, text, prompt):
    """Letters of a text beside those that the instructions demand (phrases, a title, a postscript) and those that are
    copied from the prompt."""
    for instruction in instructions:
        if instruction["id"] == "detectable_content:postscript":
            text = re.sub(r"(?im)^\s*p\.\s?(p\.\s?)?s.*$", " ", text)
        if instruction["id"] == "detectable_format:title":
            text = re.sub(r"<<[^\n]+>>", " ", text)
        for value in instruction["arguments"].values():
            if isinstance(value, str) and value.strip():
                text = re.sub(re.escape(value.strip()), " ", text, flags=re.IGNORECASE)
    words = _words(text)
    copied, runs = set(), ngrams(_words(prompt), COPIED_WORDS)
    for at in range(len(words)):
        if tuple(words[at : at + COPIED_WORDS]) in runs:
            copied.update(range(at, at + COPIED_WORDS))
    return sum(character.isalpha() for at, word in enumerate(words) if at not in copied for character in word)


def _is_filler(text):
    """Whether a line or a sentence of some words comes again and again."""
    for pieces in (text.split("\n"), re.split(r"[.!?\n]", text)):
        counts = Counter(tuple(words) for words in map(_words, pieces) if len(words) >= FILLER_WORDS)
        if max(counts.values(), default=0) >= FILLER_TIMES:
            return True
    return False


__all__ = ["Grader", "ReferenceMissing", "Verdict"]
