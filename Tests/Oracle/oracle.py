#!/usr/bin/env python3
"""The fusion oracle: token-level collaboration computed apart from the runtime, in numpy.

    oracle.py [CASE.json]                    a case (or a list of cases) from the file or standard input
    oracle.py --logits MODEL --tokens 1,2,3  raw float32 logits, [positions, vocabulary], on standard output
    oracle.py --greedy MODEL --tokens 1,2,3 --count N   the N ids of a greedy continuation

A case names the files and the product's own tokens, along which it is judged (teacher forcing):
    {"router": "router.gguf", "head": "head.gguf", "experts": {"math": "math.gguf", …},
     "mode": "fusion" | "expert:<name>" | "router" | "no-complement",
     "prompt": [ids], "tokens": [ids], "dtype": "float64" | "float32", "gelu": "half" | "exact",
     "frequency_penalty": f}                       taken off a token's score for each time it was generated before
`gelu` matters for Gemma: llama.cpp's CPU backend reads GELU from a table of half-precision values. "half" (the default)
rounds likewise and differs from it by about 3e-4 per logit of a generated model, "exact" by about 1e-3.
The answer has one entry per product token:
    {"best": id, "second": id, "gap": best - second, "behind": best - the product token's score,
     "expert": name or null, "selection_gap": first - second routing weight}
and a summary: {"positions": […], "agree": count of best == token, "worst_behind": largest "behind"}.
"""

import argparse
import json
import sys

import numpy as np

from gguf_file import GGUF
from transformer import Transformer


class Head:
    def __init__(self, path, dtype):
        file = GGUF(path)
        if file.metadata["general.architecture"] != "fusionroute-head":
            raise ValueError(f"{path} is not a routing head")
        self.experts = file.metadata["fusionroute.experts"]
        self.weight = file.tensor("routing_head.weight", dtype).reshape(len(self.experts), -1)
        bias = "routing_head.bias"
        self.bias = file.tensor(bias, dtype) if bias in file else np.zeros(len(self.experts), dtype)
        self.scale = file.metadata.get("fusionroute.complement_scale", 1.0)

    def weights(self, hidden):
        return hidden @ self.weight.T + self.bias


def best_two(scores):
    """Indices of the best and the second best; ties go to the lowest index."""
    best = int(np.argmax(scores))
    rest = scores.copy()
    rest[best] = -np.inf
    return best, int(np.argmax(rest))


def judge(case):
    dtype = np.dtype(case.get("dtype", "float64")).type
    half = case.get("gelu", "half") == "half"
    mode = case.get("mode", "fusion")
    penalty = case.get("frequency_penalty", 0.0)
    prompt, tokens = case["prompt"], case["tokens"]
    sequence = prompt + tokens[:-1]
    wanted = slice(len(prompt) - 1, len(sequence))

    models = {}

    def evaluate(path):
        if path not in models:
            model = Transformer(path, dtype, half)
            hidden = model.hidden_states(sequence)[wanted]
            models[path] = (hidden, model.logits(hidden))
        return models[path]

    head = routing = router_logits = None
    if not mode.startswith("expert:"):
        hidden, router_logits = evaluate(case["router"])
        if mode != "router":
            head = Head(case["head"], dtype)
            routing = head.weights(hidden)

    positions = []
    for index, token in enumerate(tokens):
        expert, selection_gap = None, None
        if mode.startswith("expert:"):
            expert = mode.split(":", 1)[1]
        elif mode != "router":
            selected, next_best = best_two(routing[index])
            expert = head.experts[selected]
            if len(head.experts) > 1:
                selection_gap = float(routing[index][selected] - routing[index][next_best])
        if mode == "router":
            scores = router_logits[index]
        else:
            scores = evaluate(case["experts"][expert])[1][index]
            if mode == "fusion":
                scores = head.scale * router_logits[index] + scores
        if penalty:
            scores = scores - penalty * np.bincount(tokens[:index], minlength=len(scores))
        best, second = best_two(scores)
        positions.append({
            "best": best, "second": second, "gap": float(scores[best] - scores[second]),
            "behind": float(scores[best] - scores[token]), "expert": expert, "selection_gap": selection_gap,
        })
    return {
        "positions": positions,
        "agree": sum(p["best"] == t for p, t in zip(positions, tokens)),
        "worst_behind": max((p["behind"] for p in positions), default=0.0),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", help="a JSON file; standard input if absent")
    parser.add_argument("--logits", metavar="MODEL", help="write raw logits of this model instead")
    parser.add_argument("--greedy", metavar="MODEL", help="continue the tokens greedily instead")
    parser.add_argument("--count", type=int, default=64, help="tokens for --greedy")
    parser.add_argument("--tokens", default="", help="comma-separated ids; standard input if absent")
    parser.add_argument("--dtype", default="float64", choices=["float64", "float32"])
    parser.add_argument("--gelu", default="half", choices=["half", "exact"])
    arguments = parser.parse_args()
    path = arguments.logits or arguments.greedy
    if path:
        text = arguments.tokens or sys.stdin.read()
        tokens = [int(word) for word in text.replace(",", " ").split()]
        model = Transformer(path, np.dtype(arguments.dtype).type, arguments.gelu == "half")
        if arguments.logits:
            sys.stdout.buffer.write(model.logits(model.hidden_states(tokens)).astype("<f4").tobytes())
            return
        for _ in range(arguments.count):
            tokens.append(int(np.argmax(model.logits(model.hidden_states(tokens)[-1:])[0])))
        print(json.dumps(tokens[-arguments.count:]))
        return
    case = json.load(open(arguments.case) if arguments.case else sys.stdin)
    answer = [judge(one) for one in case] if isinstance(case, list) else judge(case)
    json.dump(answer, sys.stdout)
    print()


if __name__ == "__main__":
    main()
