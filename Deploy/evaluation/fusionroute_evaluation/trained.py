"""Leaves out of an evaluation file what has not been trained: `python -m fusionroute_evaluation.trained FILE`.

Edits the file, whose paths are relative to it, in place, and says on stderr which rows have gone.
"""

import argparse
import os
import re
import sys

_PATH = re.compile(r"\b(?:model|head): *([^\s,}\]]+)")
_LIST = re.compile(r"\b(?:select|oracle|mean): *\[([^\]]*)\]")


def _names(text):
    return [name.strip() for name in text.split(",") if name.strip()]


def trained(text, exists):
    """`text` without the rows for which `exists` lacks a file, or which are made of such rows; and those rows' names.

    Rows are lines of two spaces and a name below `methods:`, with the lines indented further; comments stay.
    """
    before, _, after = text.partition("methods:\n")
    # Sequence Selection and Collab need it.
    reward = re.search(r"^reward: \{.*\bfrom: *([^\s,}]+)", before, re.M)
    has_reward = reward is None or exists(f"{reward[1]}/head.gguf")
    blocks = re.findall(r"^(?:  \S.*\n(?: {3,}.*\n)*|.*\n)", after, re.M)
    missing = []
    for block in blocks:
        name = re.match(r"  ([^\s:#]+):", block)
        if not name:
            continue
        made_of = _LIST.search(block)
        if (
            not all(exists(path) for path in _PATH.findall(block))
            or (re.search(r"\b(?:select|collab):", block) and not has_reward)
            or (made_of and set(_names(made_of[1])) & set(missing))
        ):
            missing.append(name[1])
    kept = [block for block in blocks if not (match := re.match(r"  ([^\s:#]+):", block)) or match[1] not in missing]
    if not has_reward:
        before = re.sub(r"^reward:.*\n", "", before, flags=re.M)

    def changes(match):
        left = [name for name in _names(match[1]) if name not in missing]
        return f"changes_from: [{', '.join(left)}]\n" if left else ""

    before = re.sub(r"^changes_from: \[([^\]]*)\]\n", changes, before, flags=re.M)
    return f"{before}methods:\n{''.join(kept)}", missing


def main():
    parser = argparse.ArgumentParser(prog="trained", description=__doc__)
    parser.add_argument("file")
    options = parser.parse_args()
    folder = os.path.dirname(os.path.abspath(options.file))
    with open(options.file, encoding="utf-8") as file:
        text, missing = trained(file.read(), lambda path: os.path.exists(os.path.join(folder, path)))
    if missing:
        with open(options.file, "w", encoding="utf-8") as file:
            file.write(text)
        print(f"left out, since not trained here: {', '.join(missing)}", file=sys.stderr)


if __name__ == "__main__":
    main()
