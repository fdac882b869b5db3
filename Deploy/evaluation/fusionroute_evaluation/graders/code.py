"""Code: calls the function on hidden cases in the sandbox, and compares what comes back here."""

import math

from .answers import python_code


def same(result, expected):
    """Whether a result is the expected value: equal, and of the same kinds all the way down; floats within 1e-9."""
    if isinstance(expected, bool) or isinstance(result, bool):
        return result is expected
    if isinstance(expected, float) and isinstance(result, (int, float)):
        return math.isclose(result, expected, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(expected, (list, tuple)):
        return (
            type(result) is type(expected)
            and len(result) == len(expected)
            and all(same(r, e) for r, e in zip(result, expected))
        )
    return type(result) is type(expected) and result == expected


def grade(sandbox, grader, text):
    """(passed, share of cases, reason)."""
    cases, function = grader["cases"], grader["function"]
    code = python_code(text, function)
    if not code:
        return False, 0.0, "no Python function in the answer"
    outcome = sandbox.call(code, function, [case["arguments"] for case in cases])
    right = 0
    reason = outcome.reason
    for (kind, value), case in zip(outcome.results, cases):
        if kind == "value" and same(value, case["expected"]):
            right += 1
        elif not reason:
            reason = value if kind == "error" else "a wrong result"
    return right == len(cases), right / len(cases), "" if right == len(cases) else reason
