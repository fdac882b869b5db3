"""What an answer holds: its number, its code."""

import ast
import re
import sys
import textwrap

# Thousands may be set apart by commas.
_NUMBER = re.compile(r"####[ \t]*(?:\*\*|__)?\$?(-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)")
# Behind a number that does not stand alone: an operator, or another number on its line. Asterisks alone are bold type.
_GOES_ON = re.compile(r"[ \t]*(?:[/+=^]|\*+[ \t]*[\w(])|.*\d")
# What makes a function of the name: a definition, or a lambda with a name.
_FUNCTION = r"^[ \t]*(?:(?:async[ \t]+)?def[ \t]+{name}\b|{name}[ \t]*(?::[^=\n]+)?=[ \t]*lambda\b)"
_IMPORT = r"(?:from [\w.]+ import\b|import [\w.]+(?: as \w+)?(?:, ?[\w.]+(?: as \w+)?)*[ \t]*(?:#|$))"
# Where code that stands in no block begins, and what goes on with it.
_BEGINS = re.compile(rf"\"?(?:def |@\w|{_IMPORT}|\w+ ?= ?lambda\b)")
_CONTINUES = re.compile(rf"[ \t]|def |@\w|{_IMPORT}|class \w|#|[)\]}}]|\w+ ?= ?")
# What constants are made by.
_MAKERS = {"bool", "dict", "float", "frozenset", "int", "list", "range", "set", "str", "tuple"}
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w* ?= ?[^=]")


def final_number(text):
    """The number behind the last `####` that has one, as a float; None if there is none or it does not stand alone."""
    found = list(_NUMBER.finditer(text))
    if not found or _GOES_ON.match(text[found[-1].end() :].partition("\n")[0]):
        return None
    try:
        return float(found[-1][1].replace(",", ""))
    except ValueError:
        return None


def collapsed(text):
    """A text without very long runs of white space, in which IFEval's checkers look for a mark behind it in a time that grows
    with the square of the run's length. Blank lines stay so: what begins a line or a paragraph still does."""

    def shorter(run):
        lines = [line[:10] for line in run[0].split("\n")]
        return "\n".join(lines if len(lines) <= 100 else lines[:50] + lines[-50:])

    return re.sub(r"\s{200,}", shorter, text)


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
    pattern = _FUNCTION.replace("{name}", re.escape(name) if name else r"\w+")
    return next((block for block in blocks if re.search(pattern, block, re.MULTILINE)), None)


def _is_constant(statement):
    """Whether a statement imports of the standard library, or gives a name to a plain value."""
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        modules = [statement.module or ""] if isinstance(statement, ast.ImportFrom) else [one.name for one in statement.names]
        return all(module.partition(".")[0] in sys.stdlib_module_names for module in modules)
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or statement.value is None:
        return False
    nodes = list(ast.walk(statement.value))
    return all(not isinstance(node, ast.Name) or node.id in _MAKERS for node in nodes) and all(
        isinstance(node.func, ast.Name) for node in nodes if isinstance(node, ast.Call)
    )


def _constants(block):
    """A block that has nothing but imports and constants, such as a function in another block needs; else an empty text."""
    block = textwrap.dedent(block)
    try:
        statements = ast.parse(block).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    return block + "\n" if all(map(_is_constant, statements)) else ""


def python_code(text, name=None):
    """The Python code of an answer: its block with the function `name`, else its first one with a function, behind blocks of
    imports and constants; else what begins at the first `def` or import, or at values right before it, and looks like code. An
    empty text if there is none."""
    blocks = python_blocks(text)
    block = block_with(blocks, name) or block_with(blocks)
    if block:
        # A block in a list is indented as a whole.
        return "".join(map(_constants, blocks[: blocks.index(block)])) + textwrap.dedent(block)
    lines = text.split("\n")
    first = next((i for i, line in enumerate(lines) if _BEGINS.match(line)), None)
    if first is None:
        return ""
    lines[first] = lines[first].lstrip('"')
    start = first
    for i in range(first - 1, -1, -1):
        if _ASSIGNMENT.match(lines[i]) and _constants(lines[i]):
            start = i
        elif lines[i].strip():
            break
    kept = lines[start : first + 1]
    for line in lines[first + 1 :]:
        if line.strip() and not _CONTINUES.match(line):
            break
        kept.append(line)
    return "\n".join(kept).rstrip().removesuffix('"')
