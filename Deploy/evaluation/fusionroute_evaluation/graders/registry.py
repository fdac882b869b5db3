"""One entry for all graders."""

import functools
import re
from dataclasses import asdict, dataclass, field

from ..references import ReferenceMissing
from ..sandbox import Sandbox
from ..tasks.formats import described, follows
from . import benchmarks, code, formal
from .answers import final_number

# Of an answer to an instruction.
LEAST_LETTERS = 20


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
        except (KeyError, TypeError, AttributeError) as error:
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
        number = final_number(text)
        if number is None:
            return Verdict(False, reason="no final #### and a number")
        passed = number == grader["answer"]
        return Verdict(passed, reason="" if passed else "a wrong number")

    def _code(self, grader, text, _prompt):
        passed, score, reason = code.grade(self.sandbox, grader, text)
        return Verdict(passed, score, reason=reason)

    def _instruct(self, grader, text, _prompt):
        marks = follows(grader["instructions"], text)
        broken = [i["id"] for i, mark in zip(grader["instructions"], marks) if not mark]
        # Formats alone are no answer; and the prompt holds examples of formats, so that a copy of it would pass.
        is_answer = _own_letters(grader["instructions"], text) >= LEAST_LETTERS
        if not is_answer:
            broken.append("an answer of some words")
        if any(described(i)[:40] in " ".join(text.split()) for i in grader["instructions"]):
            is_answer = False
            broken.append("an answer that does not repeat the instructions")
        return Verdict(
            not broken,
            sum(marks) / len(marks) if is_answer else 0.0,
            reason=f"not followed: {', '.join(broken)}" if broken else "",
        )

    def _mixed(self, grader, text, prompt):
        marks = follows(grader["instructions"], text)
        content = self.grade(grader["content"], text, prompt)
        parts = {"format": all(marks), "content": content.passed}
        broken = [i["id"] for i, mark in zip(grader["instructions"], marks) if not mark]
        reasons = [f"not followed: {', '.join(broken)}"] if broken else []
        if content.reason:
            reasons.append(content.reason)
        return Verdict(all(parts.values()), sum(parts.values()) / 2, parts, "; ".join(reasons))


def _own_letters(instructions, text):
    """Letters of a text beside those that the instructions demand: phrases, a title, a postscript."""
    for instruction in instructions:
        if instruction["id"] == "detectable_content:postscript":
            text = re.sub(r"(?im)^\s*p\.\s?(p\.\s?)?s.*$", " ", text)
        if instruction["id"] == "detectable_format:title":
            text = re.sub(r"<<[^\n]+>>", " ", text)
        for value in instruction["arguments"].values():
            if isinstance(value, str) and value.strip():
                text = re.sub(re.escape(value.strip()), " ", text, flags=re.IGNORECASE)
    return sum(character.isalpha() for character in text)


__all__ = ["Grader", "ReferenceMissing", "Verdict"]
