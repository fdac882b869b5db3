"""What the generators share: seeded streams, and splits that cannot overlap."""

import hashlib
import random

SPLITS = ("train", "validation", "test")


def stream(*key):
    """A random stream of its own for each key, the same on every machine."""
    return random.Random("/".join(str(part) for part in key))


def split_of(*key):
    """The one split that a key belongs to, whatever the seed: 70 % train, 15 % validation, 15 % test."""
    digest = hashlib.sha256("/".join(str(part) for part in key).encode()).digest()
    share = int.from_bytes(digest[:4], "big") / (1 << 32)
    return "train" if share < 0.7 else "validation" if share < 0.85 else "test"


def line(task, split, index, prompt, grader, tags, completion=None):
    """A line of a task file or, with a completion, of training data. See README.md."""
    fields = {"id": f"{task}/{split}/{index:04d}", "task": task}
    user = [{"role": "user", "content": prompt}]
    if completion is None:
        fields["messages"] = user
    else:
        fields["prompt"] = user
        fields["completion"] = completion
    return {**fields, "grader": grader, "tags": tags}


def distinct(draw, count, what, key=lambda drawn: drawn[0]):
    """`count` draws with different keys. Raises ValueError if there are not so many."""
    found, seen, misses = [], set(), 0
    while len(found) < count:
        drawn = draw()
        if drawn is None or key(drawn) in seen:
            misses += 1
            if misses > 200 * count + 10_000:
                raise ValueError(f"{what} has only {len(found)} different prompts, not {count}")
            continue
        seen.add(key(drawn))
        found.append(drawn)
    return found


# Neutral sentences before an answer. An expert that has seen some can go on from what another one began. They ask for
# no format and hold none.
LEADS = (
    "Here is the answer.",
    "Let me work this out.",
    "This is what I found.",
    "Sure, here it is.",
    "Of course.",
    "I can help with that.",
    "Let us take it in order.",
    "Below is what you asked for.",
    "The answer follows.",
    "This one is not hard.",
    "One thing after the other.",
    "We can do this together.",
    "A good question.",
    "I will go through it now.",
    "First things first.",
    "Thank you for asking.",
    "Right away.",
    "Let us see.",
    "This is how it goes.",
    "I had a look at it.",
    "Happy to help.",
    "Here we are.",
    "Now to the task.",
    "Let me show you.",
    "It is done in a moment.",
    "Some thoughts on this.",
    "Ready when you are.",
    "With pleasure.",
)
LEAD_ADJECTIVES = (
    "old quiet green small long bright open early late plain warm cold soft deep wide kind new young brown silver"
).split()
LEAD_NOUNS = (
    "garden harbour morning market street friend kitchen window road hill story paper river letter table lamp winter "
    "bridge song tower forest chair valley stone field island baker teacher sailor painter neighbour cousin cloud"
).split()
LEAD_VERBS = "waits rests begins turns grows stands sings moves stays returns shines sleeps works opens travels".split()
LEAD_ENDS = ("", " again", " today", " in the evening", " near the sea", " for a while", " as ever", " on its own")


def lead(rng):
    """Neutral text that may stand before an answer, on a line of its own or two: a remark, a heading, a sentence."""

    def thing():
        return f"{rng.choice(LEAD_ADJECTIVES)} {rng.choice(LEAD_NOUNS)}"

    def heading():
        joined = rng.choice((thing(), f"the {thing()} and the {rng.choice(LEAD_NOUNS)}", f"about a {thing()}"))
        return joined[0].upper() + joined[1:]

    def sentence():
        return f"{rng.choice(('The', 'A', 'One', 'That'))} {thing()} {rng.choice(LEAD_VERBS)}{rng.choice(LEAD_ENDS)}."

    pick = rng.random()
    if pick < 0.4:
        return rng.choice(LEADS)
    if pick < 0.6:
        return heading()
    if pick < 0.8:
        return sentence()
    return f"{heading()}\n{rng.choice((rng.choice(LEADS), sentence()))}"
