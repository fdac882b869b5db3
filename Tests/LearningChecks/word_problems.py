"""Two-step word problems: a generator with worked answers, and a grader of given answers.

A problem is one of 12 templates with numbers up to 60. Its answer has a line per step and a last line `#### N`. Which
numbers a template may take in the test set and which in the training set is decided by a hash, so the two share no
problem, in whatever words.
"""

import hashlib
import random
import re

LARGEST = 60
NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Finn", "Grace", "Henry", "Iris", "Jack", "Lena", "Max", "Nora", "Oscar"]
THINGS = ["apples", "pencils", "stickers", "marbles", "cards", "shells", "coins", "buttons", "beads", "stamps"]
HOLDERS = ["boxes", "bags", "baskets", "jars"]


def boxes_minus(r, name, other, things, holders):
    a, b, c = r.randint(2, 9), r.randint(2, 60), r.randint(2, 60)
    p = a * b
    return (a, b, c), f"{name} has {a} {holders} with {b} {things} each and gives away {c} {things}. How many {things} are left?", [
        f"{a} {holders} with {b} each: {a}*{b}={p}", f"{c} given away: {p}-{c}={p - c}"], p - c


def boxes_plus(r, name, other, things, holders):
    a, b, c = r.randint(2, 9), r.randint(2, 60), r.randint(2, 60)
    p = a * b
    return (a, b, c), f"{name} buys {a} {holders} of {b} {things} and finds {c} more {things}. How many {things} does {name} have?", [
        f"{a} {holders} of {b}: {a}*{b}={p}", f"{c} more: {p}+{c}={p + c}"], p + c


def got_gave(r, name, other, things, holders):
    a, b, c = r.randint(2, 60), r.randint(2, 60), r.randint(2, 60)
    s = a + b
    return (a, b, c), f"{name} had {a} {things}, got {b} from {other} and then lost {c}. How many {things} does {name} have now?", [
        f"{a} and {b} more: {a}+{b}={s}", f"{c} lost: {s}-{c}={s - c}"], s - c


def savings(r, name, other, things, holders):
    a, b, c = r.randint(2, 60), r.randint(2, 9), r.randint(2, 60)
    p = a * b
    return (a, b, c), f"{name} saves {a} dollars a week for {b} weeks and spends {c} dollars. How many dollars are left?", [
        f"{a} dollars for {b} weeks: {a}*{b}={p}", f"{c} spent: {p}-{c}={p - c}"], p - c


def children(r, name, other, things, holders):
    a, b, c = r.randint(2, 9), r.randint(2, 60), r.randint(2, 60)
    s = b + c
    return (a, b, c), f"Each of {a} children has {b} red and {c} blue {things}. How many {things} do they have together?", [
        f"each has {b} and {c}: {b}+{c}={s}", f"{a} children: {a}*{s}={a * s}"], a * s


def rope(r, name, other, things, holders):
    a, b, c = r.randint(2, 60), r.randint(2, 60), r.randint(2, 9)
    d = a - b
    return (a, b, c), f"{name} has {a} metres of rope, uses {b} metres and sells the rest for {c} dollars a metre. How many dollars does {name} get?", [
        f"{b} of {a} used: {a}-{b}={d}", f"{c} dollars a metre: {d}*{c}={d * c}"], d * c


def share_plus(r, name, other, things, holders):
    a, b, c = r.randint(2, 9), r.randint(2, 30), r.randint(2, 60)
    t = a * b
    return (t, a, c), f"{t} {things} are shared equally by {a} friends. {name}, one of them, had {c} {things} before. How many does {name} have now?", [
        f"{t} shared by {a}: {t}/{a}={b}", f"{c} before: {b}+{c}={b + c}"], b + c


def share_minus(r, name, other, things, holders):
    a, b, c = r.randint(2, 9), r.randint(2, 30), r.randint(1, 29)
    t = a * b
    return (t, a, c), f"{name} puts {t} {things} into {a} equal {holders} and takes {c} out of the first. How many {things} are left in it?", [
        f"{t} in {a} {holders}: {t}/{a}={b}", f"{c} taken: {b}-{c}={b - c}"], b - c


def ages(r, name, other, things, holders):
    a, b, c = r.randint(2, 60), r.randint(2, 60), r.randint(2, 60)
    s = a + b
    return (a, b, c), f"{name} is {a} years old. {other} is {b} years older than {name}, and a friend is {c} years younger than {other}. How old is the friend?", [
        f"{other}: {a}+{b}={s}", f"friend: {s}-{c}={s - c}"], s - c


def bus(r, name, other, things, holders):
    a, b, c = r.randint(2, 60), r.randint(2, 60), r.randint(2, 60)
    d = a - b
    return (a, b, c), f"A bus has {a} passengers. {b} get off and {c} get on. How many passengers are on the bus now?", [
        f"{b} get off: {a}-{b}={d}", f"{c} get on: {d}+{c}={d + c}"], d + c


def times_as_many(r, name, other, things, holders):
    a, b, c = r.randint(2, 60), r.randint(2, 9), r.randint(2, 60)
    p = a * b
    return (a, b, c), f"{name} has {a} {things}. {other} had {b} times as many and dropped {c}. How many {things} does {other} have now?", [
        f"{b} times {a}: {b}*{a}={p}", f"{c} dropped: {p}-{c}={p - c}"], p - c


def pages(r, name, other, things, holders):
    a, b, c = r.randint(2, 60), r.randint(2, 9), r.randint(2, 60)
    p = a * b
    return (a, b, c), f"{name} reads {a} pages a day for {b} days. Then {c} pages of the book are left. How many pages does the book have?", [
        f"{a} pages for {b} days: {a}*{b}={p}", f"{c} left: {p}+{c}={p + c}"], p + c


TEMPLATES = [
    boxes_minus, boxes_plus, got_gave, savings, children, rope, share_plus, share_minus, ages, bus, times_as_many, pages,
]


def is_test(template, numbers):
    """A fifth of every template's problems."""
    return hashlib.sha256(f"{template} {numbers}".encode()).digest()[0] % 5 == 0


def problems(count, seed, test):
    """`count` different problems: (prompt, completion, answer)."""
    generator = random.Random(f"{seed} {test}")
    seen, result = set(), []
    while len(result) < count:
        template = TEMPLATES[len(result) % len(TEMPLATES)]
        name, other = generator.sample(NAMES, 2)
        numbers, prompt, steps, answer = template(
            generator, name, other, generator.choice(THINGS), generator.choice(HOLDERS))
        key = (template.__name__, numbers)
        if max(numbers) > LARGEST or answer < 0 or is_test(*key) != test or key in seen:
            continue
        # No step goes below zero.
        if any(int(step.rsplit("=", 1)[1]) < 0 for step in steps):
            continue
        seen.add(key)
        result.append((prompt, "\n".join(steps + [f"#### {answer}"]), answer))
    generator.shuffle(result)
    return result


def is_right(text, answer):
    """Whether the last `#### N` of a text is the answer."""
    found = re.findall(r"####\s*(-?\d+)\s*$", text, re.MULTILINE)
    return bool(found) and int(found[-1]) == answer
