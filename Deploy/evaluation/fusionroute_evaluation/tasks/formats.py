"""Local formats: what an answer has to begin with, to end with, or to be wrapped in. Checked by IFEval's checkers, the
beginning by one of this project.

Each has its instruction (the checker's own description) and a way to bring an answer into it by program.
"""

import random
import re
from dataclasses import dataclass, field

from ..references import ifeval

STARTS = (
    "Here we go:",
    "Let me tell you:",
    "As you asked:",
    "My answer is this:",
    "Dear reader,",
    "Good morning.",
    "In short:",
    "Well then,",
    "To begin with,",
    "Let us start.",
    "Hello there!",
    "This is my reply:",
    "Listen closely:",
    "Good news:",
    "Here is my take:",
    "A short answer:",
    "Greetings!",
    "So here it is:",
    "Welcome back.",
    "Take a seat.",
)
ENDS = (
    "Hope this helps.",
    "That is all.",
    "Is there anything else I can help with?",
    "Any other questions?",
    "Have a nice day!",
    "Thank you for reading.",
    "See you soon.",
    "I rest my case.",
    "The end.",
    "And that is that.",
    "Good luck!",
    "Let me know what you think.",
    "Take care.",
    "Enjoy your day!",
    "That was it.",
    "Until next time.",
    "Now you know.",
    "Best wishes.",
    "Stay curious.",
    "Over and out.",
)
# The identifier of a beginning.
START = "multi-turn:constrained_start"
# Phrases that are in no training data.
UNSEEN_STARTS = ("Ladies and gentlemen,", "Once more:", "Hear me out:", "As promised:")
UNSEEN_ENDS = ("Case closed.", "Talk to you later.", "Keep on going!", "Nothing more to say.")
POSTSCRIPTS = (
    "Thanks for asking.",
    "Write me again soon.",
    "I enjoyed this one.",
    "Take your time with it.",
    "There is more to say on this.",
    "Tell your friends.",
    "I had fun with it.",
    "Keep this for later.",
)


@dataclass(frozen=True)
class Instruction:
    """A checker's identifier and arguments."""

    identifier: str
    arguments: dict = field(default_factory=dict)

    @property
    def description(self):
        """The checker's own words for it."""
        return described(self.fields)

    @property
    def fields(self):
        return {"id": self.identifier, "arguments": self.arguments}


class StartChecker:
    """An answer's beginning, in the form of IFEval's checkers. IFEval's own, which its registry leaves out, takes the
    phrase for a regular expression, and any line that begins so."""

    def __init__(self, _identifier):
        pass

    def build_description(self, *, starter):
        self._starter = starter.strip()
        return f"During the conversation, when it is your turn, please always start with {self._starter}"

    def check_following(self, value):
        """Whether the answer begins with the phrase. Before it may stand the mark that opens an answer in quotation
        marks, and a line with a title."""
        text = value.strip()
        if len(text) > 1 and text[0] == text[-1] == '"':
            text = text[1:].lstrip()
        return re.sub(r"\A<<[^\n]+>>[ \t]*\n\s*", "", text).startswith(self._starter)


def checker(identifier, arguments):
    """The checker with its arguments, and its description of them. Raises ValueError if it lacks some: IFEval draws these."""
    made = {**ifeval(), START: StartChecker}[identifier](identifier)
    state = random.getstate()
    description = made.build_description(**arguments)
    if random.getstate() != state:
        raise ValueError(f"the instruction {identifier} has too few arguments, or some out of range: {arguments}")
    return made, description


def described(instruction):
    """The checker's own words for an instruction as graders have it, on one line."""
    return " ".join(checker(instruction["id"], instruction["arguments"])[1].split())


def follows(instructions, text):
    """Which of the instructions, as a grader has them, the text follows: a list of booleans. Raises ValueError if there are none:
    every answer would."""
    if not instructions:
        raise ValueError('the grader has no "instructions"')
    # All of them first: whether a line can be used does not depend on the answer.
    checkers = [checker(i["id"], i["arguments"])[0] for i in instructions]
    return [bool(text.strip() and made.check_following(text)) for made in checkers]


def start(rng, is_unseen=False):
    return Instruction(START, {"starter": rng.choice(UNSEEN_STARTS if is_unseen else STARTS)})


def end(rng, is_unseen=False):
    return Instruction("startend:end_checker", {"end_phrase": rng.choice(UNSEEN_ENDS if is_unseen else ENDS)})


def title(_rng=None, _is_unseen=False):
    return Instruction("detectable_format:title")


def postscript(rng, _is_unseen=False):
    return Instruction("detectable_content:postscript", {"postscript_marker": rng.choice(("P.S.", "P.P.S"))})


def quotation(_rng=None, _is_unseen=False):
    return Instruction("startend:quotation")


def bullets(count):
    return Instruction("detectable_format:number_bullet_lists", {"num_bullets": count})


LOCAL = {"start": start, "end": end, "title": title, "postscript": postscript, "quotation": quotation}


def apply(rng, text, instructions, subject):
    """The text with the local formats around it. `subject` is a title for it."""
    by_name = {i.identifier.partition(":")[2]: i for i in instructions}
    if "constrained_start" in by_name:
        text = f"{by_name['constrained_start'].arguments['starter']}\n{text}"
    if "title" in by_name:
        text = f"<<{subject}>>\n{text}"
    if "postscript" in by_name:
        marker = by_name["postscript"].arguments["postscript_marker"]
        text = f"{text}\n{marker} {rng.choice(POSTSCRIPTS)}"
    if "end_checker" in by_name:
        text = f"{text}\n{by_name['end_checker'].arguments['end_phrase']}"
    return f'"{text}"' if "quotation" in by_name else text
