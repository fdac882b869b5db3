"""The command Deploy/evaluation/grade; see there."""

import hashlib
import json
import sys
from pathlib import Path

from .arguments import Parser
from .files import BadInput, parse
from .graders import Grader
from .references import ReferenceMissing
from .sandbox import SandboxUnavailable

PASSED, FAILED, BAD_INPUT, UNAVAILABLE = 0, 1, 65, 69


def request_of(line, source):
    """(id, grader, answer, prompt) of a line, in either of the two forms."""

    def text(key):
        value = line.get(key)
        if not isinstance(value, str):
            raise BadInput(f'{source}: "{key}" must be a text')
        return value

    if "record" in line:
        # The form of `fusionroute sample --grader`: the prompt's whole line is in "record".
        record = parse(text("record"), f'{source}: "record"')
        return record.get("id"), record.get("grader"), text("answer"), text("prompt")
    prompt = line.get("prompt")
    if not isinstance(prompt, str):
        messages = line.get("messages") or []
        if not isinstance(messages, list):
            raise BadInput(f'{source}: "messages" must be a list')
        prompt = next(
            (m.get("content") for m in reversed(messages) if isinstance(m, dict) and m.get("role") == "user"), ""
        )
        if not isinstance(prompt, str):
            raise BadInput(f'{source}: the "content" of the last user message must be a text')
    return line.get("id"), line.get("grader"), text("text"), prompt


def version(package=Path(__file__).resolve().parent):
    """A name of the code that grades: of all of this package, as parts of it run in processes of their own, and of the versions
    of the packages that it is installed with. Other code may grade otherwise."""
    found = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    # In a checkout of the repository; a copy of the package alone does without.
    requirements = package.parent.parent / "lib/evaluation.requirements"
    if requirements.is_file():
        found[requirements.name] = requirements
    digest = hashlib.sha256()
    for name, path in sorted(found.items()):
        text = path.read_bytes()
        digest.update(f"{name} {len(text)}\n".encode() + text)
    return digest.hexdigest()[:12]


def verdict(grader, line, source):
    """A line of the answer: a verdict, or an error of the task file's line, which is never that of an answer."""
    identifier, fields, answer, prompt = request_of(line, source)
    try:
        return {"id": identifier, **grader.grade(fields, answer, prompt).fields}
    except ValueError as error:
        return {"id": identifier, "error": str(error)}
    except (RecursionError, OverflowError) as error:
        # Of the answer: too deep for the reference grader's parser, a number too large to compare.
        reason = f"it cannot be graded: {type(error).__name__}"
        return {"id": identifier, "passed": False, "score": 0.0, "reason": reason}


def main(arguments=None):
    parser = Parser(prog="grade", description=__doc__)
    parser.add_argument("--one", action="store_true", help="one line; exit with 0 if it passed and 1 if it failed")
    options = parser.parse_args(arguments)
    state = version()
    try:
        with Grader() as grader:
            for number, text in enumerate(sys.stdin, 1):
                if not text.strip():
                    continue
                result = verdict(grader, parse(text, f"line {number}"), f"line {number}")
                if "error" not in result:
                    result["version"] = state
                sys.stdout.write(json.dumps(result) + "\n")
                sys.stdout.flush()
                if options.one:
                    if "error" in result:
                        raise BadInput(result["error"])
                    return PASSED if result["passed"] else FAILED
        if options.one:
            raise BadInput("there is no line on standard input")
        return PASSED
    except BadInput as error:
        code, text = BAD_INPUT, error
    except (SandboxUnavailable, ReferenceMissing) as error:
        code, text = UNAVAILABLE, error
    except (BrokenPipeError, KeyboardInterrupt):
        return 130
    print(f"grade: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
