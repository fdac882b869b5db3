"""What an answer holds: its number, its code."""

import re

_NUMBER = re.compile(r"####[ \t]*\$?(-?\d[\d,]*(?:\.\d+)?)")
_BLOCK = re.compile(r"```[ \t]*(?:python|py|Python)?[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)


def final_number(text):
    """The number behind the last `####`, as a float; None if there is none."""
    found = _NUMBER.findall(text)
    if not found:
        return None
    try:
        return float(found[-1].replace(",", ""))
    except ValueError:
        return None


def python_code(text):
    """The Python code of an answer: its first block with a function, else what begins at the first `def` or import and
    looks like code. An empty text if there is none."""
    blocks = _BLOCK.findall(text)
    for block in blocks:
        if re.search(r"^\s*(async )?def ", block, re.MULTILINE):
            return block
    lines = text.split("\n")
    first = next((i for i, line in enumerate(lines) if re.match(r"\"?(def |from \w|import \w|@\w)", line)), None)
    if first is None:
        return ""
    kept = [lines[first].lstrip('"')]
    for line in lines[first + 1 :]:
        if line.strip() and not re.match(r"[ \t]|def |from \w|import \w|@\w|class \w|#|[)\]}]|\w+ ?= ?", line):
            break
        kept.append(line)
    return "\n".join(kept).rstrip().removesuffix('"')
