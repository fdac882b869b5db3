"""Fits an evaluation file to what there is: `python -m fusionroute_evaluation.trained FILE [--published FOLDER]`.

Leaves out rows whose models have not been trained, and with --published has rows take the answers in FOLDER/NAME.jsonl.xz
instead of asking a model. Edits the file, whose paths are relative to it, in place, and says on stderr which rows have gone.
"""

import json
import lzma
import os
import re
import sys

from .arguments import Parser

_NAME = re.compile(r"  ([^\s:#]+):")
_PATH = re.compile(r"\b(?:model|head): *([^\s,}\]]+)")
_LIST = re.compile(r"\b(?:select|oracle|mean): *\[([^\]]*)\]")


def _names(text):
    return [name.strip() for name in text.split(",") if name.strip()]


def _given(name, block, path):
    """The row with the answers of a file; limit and note stay."""
    limit = re.search(r"\blimit: *(\d+)", block)
    note = re.search(r'^    note: *(.+)$|\bnote: *("[^"]*"|[^,}\n]+)', block, re.M)
    parts = [f"answers: {json.dumps(path)}"]
    if limit:
        parts.append(f"limit: {limit[1]}")
    if note:
        parts.append(f"note: {json.dumps((note[1] or note[2]).strip().strip(chr(34)), ensure_ascii=False)}")
    return f"  {name}: {{ {', '.join(parts)} }}\n"


def trained(text, exists, published=lambda name: None, has_cluster=True):
    """`text` without the rows for which `exists` lacks a file, or which are made of such rows; and those rows' names. Rows for
    which `published` has a file of answers take those. Without the models of the file's cluster its rows go too.

    Rows are lines of two spaces and a name below `methods:`, with the lines indented further; comments stay.
    """
    before, _, after = text.partition("methods:\n")
    # Sequence Selection and Collab need it.
    reward = re.search(r"^reward: \{.*\bfrom: *([^\s,}]+)", before, re.M)
    has_reward = reward is None or exists(f"{reward[1]}/head.gguf")
    blocks = re.findall(r"^(?:  \S.*\n(?: {3,}.*\n)*|.*\n)", after, re.M)
    kept, missing = [], []
    for block in blocks:
        name = _NAME.match(block)
        if not name:
            kept.append(block)
            continue
        path = published(name[1])
        made_of = _LIST.search(block)
        if path is not None:
            kept.append(_given(name[1], block, path))
        elif (
            not all(exists(path) for path in _PATH.findall(block))
            or (re.search(r"\b(?:select|collab):", block) and not has_reward)
            or (re.search(r"\b(?:mode|first_expert|collab):", block) and not has_cluster)
            or (made_of and set(_names(made_of[1])) & set(missing))
        ):
            missing.append(name[1])
        else:
            kept.append(block)
    if not has_reward:
        before = re.sub(r"^reward:.*\n", "", before, flags=re.M)

    def changes(match):
        left = [name for name in _names(match[1]) if name not in missing]
        return f"changes_from: [{', '.join(left)}]\n" if left else ""

    before = re.sub(r"^changes_from: \[([^\]]*)\]\n", changes, before, flags=re.M)
    return f"{before}methods:\n{''.join(kept)}", missing


def cluster_is_there(text, folder):
    """Whether all models of the cluster that the evaluation file names are there."""
    cluster = re.search(r"^cluster: *(\S+)", text, re.M)
    if not cluster:
        return True
    path = os.path.join(folder, cluster[1])
    if not os.path.exists(path):
        return False
    with open(path, encoding="utf-8") as file:
        return all(os.path.exists(os.path.join(os.path.dirname(path), model)) for model in _PATH.findall(file.read()))


def unpack(source, folder):
    """Unpacks source/NAME.jsonl.xz into `folder`; paths by name."""
    os.makedirs(folder, exist_ok=True)
    paths = {}
    for file in sorted(os.listdir(source) if os.path.isdir(source) else ()):
        if not file.endswith(".jsonl.xz"):
            continue
        path = f"{folder}/{file.removesuffix('.xz')}"
        with lzma.open(f"{source}/{file}") as packed, open(path, "wb") as plain:
            plain.write(packed.read())
        paths[file.removesuffix(".jsonl.xz")] = path
    return paths


def main(arguments=None):
    parser = Parser(prog="trained", description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--published")
    options = parser.parse_args(arguments)
    folder = os.path.dirname(os.path.abspath(options.file))
    paths = unpack(options.published, f"{folder}/published") if options.published else {}
    with open(options.file, encoding="utf-8") as file:
        before = file.read()
    text, missing = trained(
        before, lambda path: os.path.exists(os.path.join(folder, path)), paths.get, cluster_is_there(before, folder)
    )
    if text != before:
        with open(options.file, "w", encoding="utf-8") as file:
            file.write(text)
    if missing:
        print(f"left out, since not trained here: {', '.join(missing)}", file=sys.stderr)


if __name__ == "__main__":
    main()
