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
    if isinstance(expected, dict) and type(result) is dict:
        return result.keys() == expected.keys() and all(same(result[key], expected[key]) for key in expected)
    return type(result) is type(expected) and result == expected


def _by_itself(cases):
    """On how many cases the best constant is right, or the argument as it came."""
    expected = [case["expected"] for case in cases]
    constant = max((sum(same(one, other) for other in expected) for one in expected), default=0)
    unchanged = sum(len(c["arguments"]) == 1 and same(c["arguments"][0], c["expected"]) for c in cases)
    return max(constant, unchanged)


def grade(sandbox, grader, text):
    """(passed, share of cases beyond those that a constant or the argument itself gets right, reason)."""
    cases, function = grader["cases"], grader["function"]
    if not cases:
        raise ValueError('the grader has no "cases": every function would do')
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
    if right == len(cases):
        return True, 1.0, ""
    free = _by_itself(cases)
    return False, max(0.0, (right - free) / max(1, len(cases) - free)), reason
