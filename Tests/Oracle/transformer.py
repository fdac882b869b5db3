"""llama, gemma2 and gemma3 forward passes over a whole sequence at once, in plain numpy.

Written from the published architectures. One causal pass gives the logits after every position (teacher forcing), so
there is no cache that could go wrong.
"""

import numpy as np

from gguf_file import GGUF


def rms_norm(x, weight, epsilon):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    """The tanh approximation that Gemma is defined with."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def gelu_half(x):
    """The same, argument and value rounded to half precision between -10 and 10, as ggml's CPU table has it."""
    rounded = gelu(x.astype(np.float16).astype(np.float64)).astype(np.float16).astype(x.dtype)
    return np.where(x <= -10, 0, np.where(x >= 10, x, rounded))


def rope(x, base, adjacent):
    """Rotates [positions, heads, size]; `adjacent` pairs (0,1),(2,3)…, otherwise (0,half),(1,half+1)…"""
    positions, _, size = x.shape
    angles = np.arange(positions)[:, None] * base ** (-np.arange(0, size, 2) / size)[None, :]
    cos, sin = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
    a, b = (x[..., 0::2], x[..., 1::2]) if adjacent else (x[..., :size // 2], x[..., size // 2:])
    out = np.empty_like(x)
    first, second = a * cos - b * sin, a * sin + b * cos
    if adjacent:
        out[..., 0::2], out[..., 1::2] = first, second
    else:
        out[..., :size // 2], out[..., size // 2:] = first, second
    return out


class Transformer:
    def __init__(self, path, dtype=np.float64, half_gelu=False):
        self.file = GGUF(path)
        self.dtype = dtype
        meta = self.file.metadata
        self.architecture = meta["general.architecture"]
        if self.architecture not in ("llama", "gemma2", "gemma3"):
            raise ValueError(f"{path}: the oracle knows llama, gemma2 and gemma3, not {self.architecture}")
        self.gemma = self.architecture != "llama"
        self.gelu = gelu_half if half_gelu else gelu

        def key(name, default=None):
            value = meta.get(f"{self.architecture}.{name}", default)
            if value is None:
                raise ValueError(f"{path}: {self.architecture}.{name} is missing")
            return value

        if key("rope.scaling.factor", 1.0) not in (0.0, 1.0) or "rope_freqs.weight" in self.file:
            raise ValueError(f"{path}: the oracle knows no RoPE scaling")
        self.layers = key("block_count")
        self.width = key("embedding_length")
        self.heads = key("attention.head_count")
        self.kv_heads = key("attention.head_count_kv", self.heads)
        self.head_size = key("attention.key_length", self.width // self.heads)
        self.epsilon = key("attention.layer_norm_rms_epsilon")
        self.rope_base = key("rope.freq_base", 10000.0)
        self.window = key("attention.sliding_window", 4096 if self.architecture == "gemma2" else 0) if self.gemma else 0
        self.pattern = key("attention.sliding_window_pattern", 2 if self.architecture == "gemma2" else 6)
        default = self.rope_base if self.architecture == "gemma2" else 10000.0
        self.window_rope_base = key("rope.freq_base_swa", default)
        gemma2 = self.architecture == "gemma2"
        self.attention_cap = key("attn_logit_softcapping", 50.0) if gemma2 else 0
        self.final_cap = key("final_logit_softcapping", 30.0 if gemma2 else 0.0) if self.gemma else 0
        self.embedding = self.weight("token_embd.weight")
        tied = "output.weight" not in self.file
        self.output = self.embedding if tied else self.weight("output.weight")

    def weight(self, name):
        return self.file.tensor(name, self.dtype)

    def norm(self, x, name):
        return rms_norm(x, self.weight(name), self.epsilon)

    def is_windowed(self, layer):
        """Every `pattern`-th layer attends to everything."""
        return self.window > 0 and (self.pattern == 0 or layer % self.pattern < self.pattern - 1)

    def attention(self, x, layer):
        block = f"blk.{layer}"
        positions = x.shape[0]
        windowed = self.is_windowed(layer)

        def project(name, heads):
            return (x @ self.weight(f"{block}.{name}.weight").T).reshape(positions, heads, self.head_size)

        q, k, v = project("attn_q", self.heads), project("attn_k", self.kv_heads), project("attn_v", self.kv_heads)
        if self.architecture == "gemma3":
            q, k = self.norm(q, f"{block}.attn_q_norm.weight"), self.norm(k, f"{block}.attn_k_norm.weight")
        base = self.window_rope_base if windowed else self.rope_base
        q, k = rope(q, base, not self.gemma), rope(k, base, not self.gemma)
        distance = np.arange(positions)[:, None] - np.arange(positions)[None, :]
        hidden = distance < 0
        if windowed:
            hidden |= distance >= self.window
        out = np.empty((positions, self.heads, self.head_size), self.dtype)
        for head in range(self.heads):
            shared = head * self.kv_heads // self.heads
            scores = q[:, head] @ k[:, shared].T / np.sqrt(self.head_size).astype(self.dtype)
            if self.attention_cap:
                scores = self.attention_cap * np.tanh(scores / self.attention_cap)
            scores[hidden] = -np.inf
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out[:, head] = scores @ v[:, shared] / scores.sum(axis=-1, keepdims=True)
        return out.reshape(positions, -1) @ self.weight(f"{block}.attn_output.weight").T

    def feed_forward(self, x, layer):
        block = f"blk.{layer}"
        gate, up = x @ self.weight(f"{block}.ffn_gate.weight").T, x @ self.weight(f"{block}.ffn_up.weight").T
        activated = self.gelu(gate) if self.gemma else silu(gate)
        return (activated * up) @ self.weight(f"{block}.ffn_down.weight").T

    def hidden_states(self, tokens):
        """[positions, width]: what the output matrix multiplies."""
        x = self.embedding[np.asarray(tokens)]
        if self.gemma:
            x = x * np.sqrt(self.width).astype(self.dtype)
        for layer in range(self.layers):
            block = f"blk.{layer}"
            part = self.attention(self.norm(x, f"{block}.attn_norm.weight"), layer)
            if self.gemma:
                part = self.norm(part, f"{block}.post_attention_norm.weight")
            x = x + part
            part = self.feed_forward(self.norm(x, f"{block}.ffn_norm.weight"), layer)
            if self.gemma:
                part = self.norm(part, f"{block}.post_ffw_norm.weight")
            x = x + part
        return self.norm(x, "output_norm.weight")

    def logits(self, hidden):
        """[positions, vocabulary] for `hidden`, [positions, width]."""
        logits = hidden @ self.output.T
        return self.final_cap * np.tanh(logits / self.final_cap) if self.final_cap else logits
