"""Training steps in PyTorch, for Deploy/bench/training: LoRA on a model of SmolLM2-135M's shape, or every weight of a small one.
Weights are random: speed does not depend on them."""

import argparse
import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    layers: int
    width: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    rope_base: float

    @property
    def head(self):
        return self.width // self.heads


SMOLLM2 = Shape(30, 576, 9, 3, 1536, 49152, 100000.0)
SMALL = Shape(4, 128, 4, 4, 384, 512, 10000.0)


class Matrix(nn.Module):
    """A frozen matrix with an adapter; without rank one that is trained itself."""

    def __init__(self, inputs, outputs, rank, scale):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5, requires_grad=rank == 0)
        self.rank, self.scale = rank, scale
        if rank:
            self.a = nn.Parameter(torch.randn(rank, inputs) / inputs**0.5)
            self.b = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x):
        y = F.linear(x, self.weight)
        return y + self.scale * F.linear(F.linear(x, self.a), self.b) if self.rank else y


class Block(nn.Module):
    def __init__(self, shape, rank, scale):
        super().__init__()
        self.shape = shape
        width, keys = shape.width, shape.kv_heads * shape.head
        self.norms = nn.ParameterList([nn.Parameter(torch.ones(width), requires_grad=rank == 0) for _ in range(2)])
        self.q = Matrix(width, width, rank, scale)
        self.k = Matrix(width, keys, rank, scale)
        self.v = Matrix(width, keys, rank, scale)
        self.o = Matrix(width, width, rank, scale)
        self.gate = Matrix(width, shape.feed_forward, rank, scale)
        self.up = Matrix(width, shape.feed_forward, rank, scale)
        self.down = Matrix(shape.feed_forward, width, rank, scale)

    def rotate(self, x, cos, sin):
        half = self.shape.head // 2
        even, odd = x[..., :half], x[..., half:]
        return torch.cat([even * cos - odd * sin, odd * cos + even * sin], dim=-1)

    def forward(self, x, cos, sin):
        batch, length, width = x.shape
        shape = self.shape
        y = F.rms_norm(x, (width,), self.norms[0])
        q = self.q(y).view(batch, length, shape.heads, shape.head).transpose(1, 2)
        k = self.k(y).view(batch, length, shape.kv_heads, shape.head).transpose(1, 2)
        v = self.v(y).view(batch, length, shape.kv_heads, shape.head).transpose(1, 2)
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        k, v = (t.repeat_interleave(shape.heads // shape.kv_heads, dim=1) for t in (k, v))
        y = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(batch, length, width))
        y = F.rms_norm(x, (width,), self.norms[1])
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Model(nn.Module):
    def __init__(self, shape, rank, scale):
        super().__init__()
        self.width = shape.width
        self.embedding = nn.Parameter(torch.randn(shape.vocabulary, shape.width) * 0.02, requires_grad=rank == 0)
        self.blocks = nn.ModuleList([Block(shape, rank, scale) for _ in range(shape.layers)])
        self.norm = nn.Parameter(torch.ones(shape.width), requires_grad=rank == 0)

    def forward(self, tokens, judged, cos, sin):
        x = F.embedding(tokens, self.embedding)
        for block in self.blocks:
            x = block(x, cos, sin)
        return F.linear(F.rms_norm(x[:, judged], (self.width,), self.norm), self.embedding)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", choices=["f32", "bf16"], required=True)
    parser.add_argument("--small", action="store_true", help="every weight of a small model")
    for name, default in (("steps", 5), ("sequences", 4), ("length", 192), ("threads", 2), ("rank", 16)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    shape = SMALL if arguments.small else SMOLLM2
    model = Model(shape, 0 if arguments.small else arguments.rank, 2.0)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-5)
    length = arguments.length
    angles = torch.outer(torch.arange(length), shape.rope_base ** (-torch.arange(0, shape.head, 2) / shape.head))
    cos, sin = angles.cos(), angles.sin()
    tokens = torch.randint(shape.vocabulary, (arguments.sequences, length + 1))
    judged = torch.arange(length // 2, length)
    seconds = []
    for _ in range(arguments.steps + 1):
        start = time.perf_counter()
        optimiser.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.precision == "bf16"):
            logits = model(tokens[:, :-1], judged, cos, sin)
        loss = F.cross_entropy(logits.float().reshape(-1, shape.vocabulary), tokens[:, judged + 1].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        seconds.append(time.perf_counter() - start)
    speed = arguments.sequences * length / statistics.median(seconds[1:])
    count = sum(p.numel() for p in trained)
    print(f"{speed:.0f} tokens/s (PyTorch {torch.__version__}, {arguments.threads} threads, "
          f"{arguments.sequences} × {length} tokens, {count} numbers trained)")


if __name__ == "__main__":
    main()
