"""What an answer holds: its number, its code."""

import re
import textwrap

# Thousands may be set apart by commas.
_NUMBER = re.compile(r"####[ \t]*\$?(-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)")
# Behind a number that does not stand alone: an operator, or another number on its line. Asterisks alone are bold type.
_GOES_ON = re.compile(r"[ \t]*(?:[/+=^]|\*+[ \t]*[\w(])|.*\d")
_FUNCTION = r"^[ \t]*(?:async[ \t]+)?def[ \t]+"


def final_number(text):
    """The number behind the last `####` that has one, as a float; None if there is none or it does not stand alone."""
    found = list(_NUMBER.finditer(text))
    if not found or _GOES_ON.match(text[found[-1].end() :].partition("\n")[0]):
        return None
    try:
        return float(found[-1][1].replace(",", ""))
    except ValueError:
        return None


def _language(line):
    """The language behind an opening fence, which may follow other text; None for a line that is none. No regular
    expression: lines are as long as whoever writes them likes."""
    start = line.find("`")
    rest = line[start:].lstrip("`")
    if start < 0 or len(line) - start - len(rest) < 3 or "`" in rest:
        return None
    return re.match(r"[ \t]*(\w*)", rest)[1].lower()


def python_blocks(text):
    """The contents of the fenced blocks that are marked as Python or not at all. The last one may lack its end."""
    blocks, block = [], None
    for line in text.split("\n"):
        if block is not None:
            # Whatever is behind it: a quotation mark, more text.
            if line.lstrip(" \t").startswith("```"):
                block = None
            else:
                block.append(line)
        elif (language := _language(line)) is not None:
            block = []
            blocks.append((language, block))
    return ["\n".join(lines) for language, lines in blocks if language in ("", "python", "py", "python3")]


def block_with(blocks, name=None):
    """The first block that defines the function `name`, or any function if there is no name; None if there is none."""
    pattern = _FUNCTION + (rf"{re.escape(name)}\b" if name else "")
    return next((block for block in blocks if re.search(pattern, block, re.MULTILINE)), None)


def python_code(text, name=None):
    """The Python code of an answer: its block with the function `name`, else its first one with a function, else what
    begins at the first `def` or import and looks like code. An empty text if there is none."""
    blocks = python_blocks(text)
    block = block_with(blocks, name) or block_with(blocks)
    if block:
        # A block in a list is indented as a whole.
        return textwrap.dedent(block)
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
