"""Reads GGUF files with nothing but numpy, apart from the runtime's own reader."""

import mmap
import struct

import numpy as np

SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}
STRING, ARRAY = 8, 9
F32, F16, Q8_0, Q4_K, Q6_K, BF16 = 0, 1, 8, 12, 14, 30
# type: (elements per block, bytes per block)
BLOCKS = {F32: (1, 4), F16: (1, 2), Q8_0: (32, 34), Q4_K: (256, 144), Q6_K: (256, 210), BF16: (1, 2)}


def _halves(raw):
    return raw.copy().view("<f2").astype(np.float32)


def q4_k(blocks):
    """Eight times 32 numbers of 4 bits: d * scale * q - dmin * minimum, scale and minimum of 6 bits each, in 12 bytes."""
    d, dmin = _halves(blocks[:, :2]), _halves(blocks[:, 2:4])
    low, middle, high = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = np.hstack([low & 63, (high & 15) | (low >> 6 << 4)]).astype(np.float32)
    minima = np.hstack([middle & 63, (high >> 4) | (middle >> 6 << 4)]).astype(np.float32)
    bytes_ = blocks[:, 16:].reshape(-1, 4, 1, 32)
    q = np.concatenate([bytes_ & 15, bytes_ >> 4], axis=2).reshape(-1, 8, 32).astype(np.float32)
    return (d * scales)[:, :, None] * q - (dmin * minima)[:, :, None]


def q6_k(blocks):
    """Sixteen times 16 numbers of 6 bits: d * scale * (q - 32); four bits of each in `low`, two in `high`."""
    low, high = blocks[:, :128].reshape(-1, 2, 2, 32), blocks[:, 128:192].reshape(-1, 2, 1, 32)
    scales, d = blocks[:, 192:208].view(np.int8).astype(np.float32), _halves(blocks[:, 208:])
    four = np.concatenate([low & 15, low >> 4], axis=2)
    two = np.concatenate([high >> shift & 3 for shift in (0, 2, 4, 6)], axis=2)
    q = (four | two << 4).reshape(-1, 16, 16).astype(np.float32) - 32
    return (d * scales)[:, :, None] * q


class GGUF:
    """Metadata as a dictionary, tensors by name as float arrays of shape [rows, row length] (or [row length])."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.path = path
        self.at = 0
        if self.data[:4] != b"GGUF":
            raise ValueError(f"{path} is not a GGUF file")
        self.at = 4
        version, tensors, pairs = self._unpack("<I"), self._unpack("<Q"), self._unpack("<Q")
        if version not in (2, 3):
            raise ValueError(f"{path} has GGUF version {version}")
        self.metadata = {}
        for _ in range(pairs):
            key = self._string()
            self.metadata[key] = self._value(self._unpack("<I"))
        self.entries = {}
        for _ in range(tensors):
            name = self._string()
            shape = [self._unpack("<Q") for _ in range(self._unpack("<I"))]
            kind, offset = self._unpack("<I"), self._unpack("<Q")
            self.entries[name] = (shape, kind, offset)
        alignment = self.metadata.get("general.alignment", 32)
        self.base = (self.at + alignment - 1) // alignment * alignment

    def _unpack(self, layout):
        (value,) = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return value

    def _string(self):
        size = self._unpack("<Q")
        text = self.data[self.at:self.at + size]
        self.at += size
        return text.decode("utf-8", "replace")

    def _value(self, kind):
        if kind in SCALARS:
            return self._unpack(SCALARS[kind])
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            raise ValueError(f"{self.path}: unknown metadata type {kind}")
        element, count = self._unpack("<I"), self._unpack("<Q")
        if element == STRING:
            return [self._string() for _ in range(count)]
        layout = np.dtype(SCALARS[element])
        values = np.frombuffer(self.data, layout, count, self.at)
        self.at += count * layout.itemsize
        return values.tolist()

    def __contains__(self, name):
        return name in self.entries

    def tensor(self, name, dtype):
        """The tensor as `dtype`, reversed ne: [n_out, n_in] for a matrix that maps n_in to n_out."""
        shape, kind, offset = self.entries[name]
        if kind not in BLOCKS:
            raise ValueError(f"{self.path}: {name} has type {kind}; the oracle reads F32, F16, BF16, Q8_0, Q4_K and Q6_K")
        elements = int(np.prod(shape))
        per_block, block_bytes = BLOCKS[kind]
        raw = np.frombuffer(self.data, np.uint8, elements // per_block * block_bytes, self.base + offset)
        if kind == F32:
            values = raw.view("<f4")
        elif kind == F16:
            values = raw.view("<f2")
        elif kind == BF16:
            values = (raw.view("<u2").astype(np.uint32) << 16).view("<f4")
        elif kind in (Q4_K, Q6_K):
            values = (q4_k if kind == Q4_K else q6_k)(raw.reshape(-1, block_bytes))
        else:
            blocks = raw.reshape(-1, block_bytes)
            scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
            values = scale * blocks[:, 2:].view(np.int8).astype(np.float32)
        return values.astype(dtype).reshape(shape[::-1])
