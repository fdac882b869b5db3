"""A formal world for models that are trained from nothing: three domains of their own symbols, and mixed prompts.

A prompt is one or two lines, a verb and its list; an answer has a line for each, behind `=`:

    sort d b a c        = a b c d              letters in the order of the alphabet
    close ( [ <         = > ] )                the brackets that close these, the last one first
    sum 3529            = 3809                 running sums, each without its tens
    say b 7 ]           = b 7 ]                the same again

Each of the first three is one expert's. `say` is neutral: it is how an expert learns to go on from lines that are not
its own. A pre-training text has all four, with lists of one or two symbols for the experts' verbs.
"""

from .common import distinct, line, split_of, stream

LETTERS = "abcdefghijkl"
DIGITS = "0123456789"
BRACKETS = {"(": ")", "[": "]", "{": "}", "<": ">"}
NEUTRAL = "say"
DOMAINS = ("sort", "close", "sum")
# Symbols of a list: of a prompt of one domain, and of each line of a mixed one.
LENGTHS = {False: (3, 6), True: (3, 4)}


def result(verb, symbols):
    """The list that answers `verb` on `symbols`."""
    if verb == "sort":
        return sorted(symbols)
    if verb == "close":
        return [BRACKETS[symbol] for symbol in reversed(symbols)]
    if verb == "sum":
        return [str(sum(map(int, symbols[: at + 1])) % 10) for at in range(len(symbols))]
    if verb == NEUTRAL:
        return list(symbols)
    raise ValueError(f"there is no verb {verb!r}; verbs are {', '.join((*DOMAINS, NEUTRAL))}")


def text_of(head, symbols):
    """A line. Digits stand together, since they are tokens of their own anyway."""
    parts = [head]
    for symbol in symbols:
        if symbol.isdigit() and parts[-1].isdigit():
            parts[-1] += symbol
        else:
            parts.append(symbol)
    return " ".join(parts)


def draw(rng, verb, length):
    """A list for `verb`."""
    if verb == "sort":
        return rng.sample(LETTERS, length)
    if verb == "close":
        return rng.choices(list(BRACKETS), k=length)
    if verb == "sum":
        return rng.choices(DIGITS, k=length)
    # Of one kind mostly, as the lines are that an expert has to go on from.
    kinds = (LETTERS, DIGITS, "".join(BRACKETS), "".join(BRACKETS.values()))
    symbols = rng.choice((*kinds, "".join(kinds)))
    return rng.choices(symbols, k=length)


def split_key(verb, symbols):
    """What a list is split by. Whatever their order, letters come out alike."""
    return (verb, *(sorted(symbols) if verb == "sort" else symbols))


def fitting(rng, verb, split, lengths):
    """A list that belongs to the split."""
    while True:
        symbols = draw(rng, verb, rng.randint(*lengths))
        if verb == NEUTRAL or split_of("formal", *split_key(verb, symbols)) == split:
            return symbols


def prompt_and_answer(lines):
    """Of (verb, symbols) a line."""
    prompt = "\n".join(text_of(verb, symbols) for verb, symbols in lines)
    return prompt, "\n".join(text_of("=", result(verb, symbols)) for verb, symbols in lines)


def examples(task, split, count, seed, with_answers=False):
    """Lines of training data for `train` and, with their answers, of data that is not learnt; else of a task file.
    `task` is a domain or `mixed`."""
    is_data = with_answers or split == "train"
    rng = stream(seed, "formal", task, split, is_data)

    def problem():
        verbs = rng.sample(DOMAINS, 2) if task == "mixed" else [task]
        return prompt_and_answer([(verb, fitting(rng, verb, split, LENGTHS[task == "mixed"])) for verb in verbs]), verbs

    found = distinct(problem, count, f"{task} ({split})")
    return [
        line(
            task,
            f"{split}-data" if is_data and split != "train" else split,
            index,
            prompt,
            {"name": "formal", "answer": answer},
            {"verbs": "+".join(verbs), "symbols": len(answer.replace("=", "").replace(" ", "").replace("\n", ""))},
            answer if is_data else None,
        )
        for index, ((prompt, answer), verbs) in enumerate(found)
    ]


def expert_examples(task, count, seed):
    """An expert's training data: prompts of its domain, half of them with a neutral line before or behind."""
    rng = stream(seed, "formal", task, "expert")

    def problem():
        lines = [(task, fitting(rng, task, "train", LENGTHS[False]))]
        if rng.random() < 0.5:
            lines.insert(rng.randrange(2), (NEUTRAL, draw(rng, NEUTRAL, rng.randint(1, 5))))
        return prompt_and_answer(lines)

    return [
        {"id": f"{task}/expert/{index:05d}", "task": task, "prompt": _user(prompt), "completion": answer}
        for index, (prompt, answer) in enumerate(distinct(problem, count, f"{task} (expert)"))
    ]


def base_examples(count, seed):
    """What the base model is trained on: neutral lines of any length, the experts' verbs on one or two symbols, in
    prompts of one or two lines. Prompts may repeat, there are few short ones."""
    rng = stream(seed, "formal", "base")
    made = []
    for _ in range(count):
        verbs = rng.choices((NEUTRAL, NEUTRAL, *DOMAINS), k=rng.randint(1, 2))
        lines = [(v, draw(rng, v, rng.randint(1, 6 if v == NEUTRAL else 2))) for v in verbs]
        prompt, answer = prompt_and_answer(lines)
        made.append({"prompt": _user(prompt), "completion": answer})
    return made


def words():
    """A text from which a byte-level vocabulary learns every symbol and word of this world as one token."""
    symbols = [*LETTERS, *DIGITS, *BRACKETS, *BRACKETS.values()]
    # Words of the chat frame among them.
    verbs = "\n".join((*DOMAINS, NEUTRAL, "=", "user", "assistant"))
    return "\n".join([verbs, " ".join(["", *symbols])] * 2) + "\n"


def _user(prompt):
    return [{"role": "user", "content": prompt}]
