"""LoRA steps on a model of SmolLM2-135M's shape in PyTorch, for Deploy/bench/training. Weights are random: speed does not
depend on them."""

import argparse
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

LAYERS, WIDTH, HEADS, KV_HEADS, FEED_FORWARD, VOCABULARY, ROPE_BASE = 30, 576, 9, 3, 1536, 49152, 100000.0
HEAD = WIDTH // HEADS


class Adapted(nn.Module):
    """A frozen matrix with an adapter."""

    def __init__(self, inputs, outputs, rank, scale):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5, requires_grad=False)
        self.a = nn.Parameter(torch.randn(rank, inputs) / inputs**0.5)
        self.b = nn.Parameter(torch.zeros(outputs, rank))
        self.scale = scale

    def forward(self, x):
        return F.linear(x, self.weight) + self.scale * F.linear(F.linear(x, self.a), self.b)


class Block(nn.Module):
    def __init__(self, rank, scale):
        super().__init__()
        self.norms = nn.ParameterList([nn.Parameter(torch.ones(WIDTH), requires_grad=False) for _ in range(2)])
        self.q = Adapted(WIDTH, HEADS * HEAD, rank, scale)
        self.k = Adapted(WIDTH, KV_HEADS * HEAD, rank, scale)
        self.v = Adapted(WIDTH, KV_HEADS * HEAD, rank, scale)
        self.o = Adapted(HEADS * HEAD, WIDTH, rank, scale)
        self.gate = Adapted(WIDTH, FEED_FORWARD, rank, scale)
        self.up = Adapted(WIDTH, FEED_FORWARD, rank, scale)
        self.down = Adapted(FEED_FORWARD, WIDTH, rank, scale)

    @staticmethod
    def rotate(x, cos, sin):
        even, odd = x[..., : HEAD // 2], x[..., HEAD // 2 :]
        return torch.cat([even * cos - odd * sin, odd * cos + even * sin], dim=-1)

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        y = F.rms_norm(x, (WIDTH,), self.norms[0])
        q = self.q(y).view(batch, length, HEADS, HEAD).transpose(1, 2)
        k = self.k(y).view(batch, length, KV_HEADS, HEAD).transpose(1, 2)
        v = self.v(y).view(batch, length, KV_HEADS, HEAD).transpose(1, 2)
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        k, v = (t.repeat_interleave(HEADS // KV_HEADS, dim=1) for t in (k, v))
        y = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(batch, length, HEADS * HEAD))
        y = F.rms_norm(x, (WIDTH,), self.norms[1])
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Model(nn.Module):
    def __init__(self, rank, scale):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(VOCABULARY, WIDTH) * 0.02, requires_grad=False)
        self.blocks = nn.ModuleList([Block(rank, scale) for _ in range(LAYERS)])
        self.norm = nn.Parameter(torch.ones(WIDTH), requires_grad=False)

    def forward(self, tokens, judged, cos, sin):
        x = F.embedding(tokens, self.embedding)
        for block in self.blocks:
            x = block(x, cos, sin)
        return F.linear(F.rms_norm(x[:, judged], (WIDTH,), self.norm), self.embedding)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", choices=["f32", "bf16"], required=True)
    for name, default in (("steps", 5), ("sequences", 4), ("length", 192), ("threads", 2), ("rank", 16)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    model = Model(arguments.rank, 2.0)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-5)
    length = arguments.length
    angles = torch.outer(torch.arange(length), ROPE_BASE ** (-torch.arange(0, HEAD, 2) / HEAD))
    cos, sin = angles.cos(), angles.sin()
    tokens = torch.randint(VOCABULARY, (arguments.sequences, length + 1))
    judged = torch.arange(length // 2, length)
    seconds = []
    for _ in range(arguments.steps + 1):
        start = time.perf_counter()
        optimiser.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.precision == "bf16"):
            logits = model(tokens[:, :-1], judged, cos, sin)
        loss = F.cross_entropy(logits.float().reshape(-1, VOCABULARY), tokens[:, judged + 1].reshape(-1))
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
