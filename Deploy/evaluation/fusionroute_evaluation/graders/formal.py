"""The verdict on an answer of the formal world: line by line, symbol by symbol."""


def judge(expected, text, least=1):
    """Fields of a verdict. Spaces at the ends of lines and empty lines at the end do not count. `parts` are the lines,
    where there are several; `score` is the share of symbols that stand where they belong. With `least` below 1 an
    answer with such a share passes: for preference pairs of models that get nothing right yet."""
    wanted = [line.split() for line in expected.split("\n")]
    if not any(wanted):
        raise ValueError('the grader\'s "answer" is blank')
    given = [line.split() for line in text.rstrip().split("\n")]
    marks = [at < len(given) and given[at] == line for at, line in enumerate(wanted)]
    # Digits stand together, other symbols apart.
    symbols, told = (["".join(line) for line in lines] for lines in (wanted, given))
    right = sum(a == b for line, other in zip(symbols, told) for a, b in zip(line, other))
    is_right = all(marks) and len(given) == len(wanted)
    score = 1.0 if is_right else min(right / sum(map(len, symbols)), 0.99)
    reason = ""
    if not is_right:
        wrong = [str(at + 1) for at, mark in enumerate(marks) if not mark]
        reason = f"wrong: line {', '.join(wrong)}" if wrong else "more lines than asked for"
    names = ("first", "second")
    return {
        "passed": score >= least,
        "score": score,
        "parts": dict(zip(names, marks)) if len(wanted) > 1 else {},
        "reason": reason,
    }
