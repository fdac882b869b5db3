"""Merges of models, tensor by tensor, in numpy: what `fusionroute merge` must agree with.

usage: merge.py METHOD LAMBDA NUMBERS BASE EXPERT... ; METHOD is task-arithmetic, dare or ties; NUMBERS are `drop,seed` or
`density`. Writes for each tensor of the base, in the file's order, its merged values as little-endian float32.

The formulas are those of the papers (arXiv 2212.04089, 2311.03099, 2306.01708), in float64 and with whole tensors in memory;
DARE's random numbers are SplitMix64 of a counter, as the runtime's, since another generator would drop other elements.
"""

import sys

import numpy as np

from gguf_file import GGUF

STEP = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def mix(z):
    """SplitMix64's output function of an array of counters."""
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def one(value):
    return int(mix(np.array([value & MASK], np.uint64))[0])


def kept(drop, seed, expert, name, count):
    stream = 0xCBF29CE484222325
    for byte in name.encode():
        stream = ((stream ^ byte) * 0x100000001B3) & MASK
    stream = one(one(one(seed + expert * STEP)) ^ stream)
    with np.errstate(over="ignore"):
        numbers = mix(np.uint64(stream) + (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(STEP))
    return (numbers >> np.uint64(11)).astype(np.float64) / 2.0**53 >= drop


def difference(expert, base, name):
    if expert.metadata.get("general.type") != "adapter":
        return expert.tensor(name, np.float64) - base.tensor(name, np.float64)
    if name + ".lora_a" not in expert:
        return None
    a, b = expert.tensor(name + ".lora_a", np.float64), expert.tensor(name + ".lora_b", np.float64)
    b = b.reshape(base.tensor(name, np.float64).shape[0] if "token_embd" not in name else -1, -1)
    rank = b.shape[1]
    scale = expert.metadata["adapter.lora.alpha"] / rank
    return scale * (a.reshape(-1, rank) @ b.T if "token_embd" in name else b @ a.reshape(rank, -1))


def ties(differences, density):
    trimmed = []
    for one_difference in differences:
        flat = one_difference.astype(np.float32).reshape(-1)
        count = max(1, int(density * flat.size))
        order = np.argsort(-np.abs(flat), kind="stable")[:count]
        keep = np.zeros(flat.size, bool)
        keep[order] = True
        trimmed.append(np.where(keep, flat, 0).astype(np.float64))
    stack = np.stack(trimmed)
    sign = np.where(stack.sum(axis=0) >= 0, 1.0, -1.0)
    agrees = np.sign(stack) == sign
    return ((stack * agrees).sum(axis=0) / np.maximum(agrees.sum(axis=0), 1)).reshape(differences[0].shape)


def merged(method, numbers, base, experts, name):
    differences = [(index, difference(expert, base, name)) for index, expert in enumerate(experts)]
    differences = [(index, value) for index, value in differences if value is not None]
    if not differences:
        return 0
    if method == "ties":
        return ties([value for _, value in differences], numbers[0])
    if method == "dare":
        drop, seed = numbers[0], int(numbers[1])
        differences = [
            (index, value * kept(drop, seed, index, name, value.size).reshape(value.shape) / (1 - drop))
            for index, value in differences
        ]
    return sum(value for _, value in differences)


def main():
    method, scale, numbers, base = sys.argv[1], float(sys.argv[2]), sys.argv[3], GGUF(sys.argv[4])
    numbers = [float(number) for number in numbers.split(",") if number]
    experts = [GGUF(path) for path in sys.argv[5:]]
    for name in base.entries:
        values = base.tensor(name, np.float64)
        if "rope_" not in name:
            values = values + scale * merged(method, numbers, base, experts, name)
        sys.stdout.buffer.write(np.ascontiguousarray(values, "<f4").tobytes())


main()
