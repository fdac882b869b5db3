"""Small tools for the checks."""


class CheckFailure(Exception):
    pass


def expect(condition, message):
    if not condition:
        raise CheckFailure(message)


def expect_equal(actual, expected, what):
    if actual != expected:
        raise CheckFailure(f"{what}: {actual!r}, expected {expected!r}")


def score(number, digits=3):
    """A number as the page writes it."""
    return "–" if number is None else f"{number:.{digits}f}".replace("-", "−")
