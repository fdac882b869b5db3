"""Primitive operations on lists of integers and on texts.

An operation turns the variable that it names into another value of the same kind, or ends in a result. `{k}` is a
number and `{c}` a letter. The wordings complete "Write a function that …".
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Operation:
    name: str
    kind: str
    wordings: tuple
    expression: str
    # Numbers that {k} may be.
    range: tuple = ()

    @property
    def is_final(self):
        """Whether its result is of another kind, so that nothing can follow."""
        return self.kind.endswith("!")


def _o(name, kind, wordings, expression, numbers=()):
    return Operation(name, kind, tuple(wordings), expression, numbers)


NUMBERS = (
    _o("even", "list", ["keep the even numbers", "drop the odd numbers"], "[n for n in numbers if n % 2 == 0]"),
    _o("odd", "list", ["keep the odd numbers", "drop the even numbers"], "[n for n in numbers if n % 2 == 1]"),
    _o(
        "positive",
        "list",
        ["keep the positive numbers", "keep the numbers above zero"],
        "[n for n in numbers if n > 0]",
    ),
    _o(
        "negative",
        "list",
        ["keep the negative numbers", "keep the numbers below zero"],
        "[n for n in numbers if n < 0]",
    ),
    _o(
        "greater",
        "list",
        ["keep the numbers greater than {k}", "keep the numbers above {k}"],
        "[n for n in numbers if n > {k}]",
        (1, 9),
    ),
    _o(
        "less",
        "list",
        ["keep the numbers less than {k}", "keep the numbers below {k}"],
        "[n for n in numbers if n < {k}]",
        (1, 9),
    ),
    _o(
        "divisible",
        "list",
        ["keep the numbers divisible by {k}", "keep the multiples of {k}"],
        "[n for n in numbers if n % {k} == 0]",
        (3, 5),
    ),
    _o(
        "without",
        "list",
        ["drop every {k}", "remove all numbers equal to {k}"],
        "[n for n in numbers if n != {k}]",
        (1, 5),
    ),
    _o("first", "list", ["take the first {k} numbers", "keep only the first {k} numbers"], "numbers[:{k}]", (2, 4)),
    _o("last", "list", ["take the last {k} numbers", "keep only the last {k} numbers"], "numbers[-{k}:]", (2, 4)),
    _o("skip", "list", ["skip the first {k} numbers", "drop the first {k} numbers"], "numbers[{k}:]", (1, 3)),
    _o("every_second", "list", ["take every second number", "keep every second number"], "numbers[::2]"),
    _o("double", "list", ["double every number", "multiply each number by two"], "[n * 2 for n in numbers]"),
    _o("square", "list", ["square every number", "take the square of each number"], "[n * n for n in numbers]"),
    _o(
        "absolute",
        "list",
        ["take the absolute value of every number", "make every number non-negative"],
        "[abs(n) for n in numbers]",
    ),
    _o("add", "list", ["add {k} to every number", "increase each number by {k}"], "[n + {k} for n in numbers]", (1, 9)),
    _o(
        "subtract",
        "list",
        ["subtract {k} from every number", "decrease each number by {k}"],
        "[n - {k} for n in numbers]",
        (1, 9),
    ),
    _o(
        "times",
        "list",
        ["multiply every number by {k}", "multiply each number by {k}"],
        "[n * {k} for n in numbers]",
        (3, 9),
    ),
    _o("negate", "list", ["negate every number", "change the sign of each number"], "[-n for n in numbers]"),
    _o(
        "remainder",
        "list",
        ["replace every number by its remainder modulo {k}", "take each number modulo {k}"],
        "[n % {k} for n in numbers]",
        (3, 7),
    ),
    _o("ascending", "list", ["sort in ascending order", "sort from small to large"], "sorted(numbers)"),
    _o("descending", "list", ["sort in descending order", "sort from large to small"], "sorted(numbers, reverse=True)"),
    _o("reverse", "list", ["reverse the list", "put the numbers in reverse order"], "numbers[::-1]"),
    _o(
        "unique",
        "list",
        ["remove duplicates but keep the order", "keep only the first of equal numbers"],
        "list(dict.fromkeys(numbers))",
    ),
    _o("sum", "list!", ["return the sum", "return the total"], "sum(numbers)"),
    _o("largest", "list!", ["return the largest", "return the maximum"], "max(numbers)"),
    _o("smallest", "list!", ["return the smallest", "return the minimum"], "min(numbers)"),
    _o("count", "list!", ["return how many there are", "return the count"], "len(numbers)"),
    _o("head", "list!", ["return the first one", "return the first number"], "numbers[0]"),
    _o("tail", "list!", ["return the last one", "return the last number"], "numbers[-1]"),
    _o(
        "spread",
        "list!",
        ["return the difference of maximum and minimum", "return the maximum minus the minimum"],
        "max(numbers) - min(numbers)",
    ),
)
TEXTS = (
    _o("upper", "text", ["convert to upper case", "make all letters upper case"], "text.upper()"),
    _o("lower", "text", ["convert to lower case", "make all letters lower case"], "text.lower()"),
    _o("backwards", "text", ["reverse the text", "turn the text around"], "text[::-1]"),
    _o("no_spaces", "text", ["remove all spaces", "delete the spaces"], 'text.replace(" ", "")'),
    _o(
        "no_vowels",
        "text",
        ["remove all vowels", "delete the vowels"],
        '"".join(c for c in text if c.lower() not in "aeiou")',
    ),
    _o(
        "letters",
        "text",
        ["keep only the letters", "drop everything but letters"],
        '"".join(c for c in text if c.isalpha())',
    ),
    _o(
        "digits",
        "text",
        ["keep only the digits", "drop everything but digits"],
        '"".join(c for c in text if c.isdigit())',
    ),
    _o("swap", "text", ["swap upper and lower case", "swap the case of all letters"], "text.swapcase()"),
    _o("start", "text", ["take the first {k} characters", "keep only the first {k} characters"], "text[:{k}]", (3, 8)),
    _o("end", "text", ["take the last {k} characters", "keep only the last {k} characters"], "text[-{k}:]", (3, 8)),
    _o("repeat", "text", ["repeat the text {k} times", "write the text {k} times in a row"], "text * {k}", (2, 4)),
    _o("dashes", "text", ["replace spaces by dashes", "put a dash for every space"], 'text.replace(" ", "-")'),
    _o(
        "words_back",
        "text",
        ["reverse the order of the words", "put the words in reverse order"],
        '" ".join(text.split()[::-1])',
    ),
    _o("words_sorted", "text", ["sort the words", "put the words in sorted order"], '" ".join(sorted(text.split()))'),
    _o(
        "initials",
        "text",
        ["keep the first letter of every word", "take the first letter of each word"],
        '"".join(w[0] for w in text.split())',
    ),
    _o("drop_letter", "text", ['remove every "{c}"', 'delete each "{c}"'], 'text.replace("{c}", "")'),
    _o("length", "text!", ["return the length", "return the number of characters"], "len(text)"),
    _o(
        "vowels",
        "text!",
        ["return the number of vowels", "return how many vowels there are"],
        'sum(c in "aeiouAEIOU" for c in text)',
    ),
    _o("words", "text!", ["return the number of words", "return how many words there are"], "len(text.split())"),
    _o(
        "upper_count",
        "text!",
        ["return the number of upper case letters", "return how many letters are upper case"],
        "sum(c.isupper() for c in text)",
    ),
    _o("letter_count", "text!", ['return how often "{c}" occurs', 'return the count of "{c}"'], 'text.count("{c}")'),
    _o(
        "longest_word",
        "text!",
        ["return the longest word", "return the word with most letters"],
        "max(text.split(), key=len)",
    ),
    _o("first_word", "text!", ["return the first word", "return the word at the start"], "text.split()[0]"),
    _o("word_list", "text!", ["return the list of words", "return the words as a list"], "text.split()"),
)
