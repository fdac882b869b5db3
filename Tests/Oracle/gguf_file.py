"""Reads GGUF files with nothing but numpy, apart from the runtime's own reader."""

import mmap
import struct

import numpy as np

SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}
STRING, ARRAY = 8, 9
F32, F16, Q8_0, BF16 = 0, 1, 8, 30
# type: (elements per block, bytes per block)
BLOCKS = {F32: (1, 4), F16: (1, 2), Q8_0: (32, 34), BF16: (1, 2)}


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
            raise ValueError(f"{self.path}: {name} has type {kind}; the oracle reads F32, F16, BF16 and Q8_0")
        elements = int(np.prod(shape))
        per_block, block_bytes = BLOCKS[kind]
        raw = np.frombuffer(self.data, np.uint8, elements // per_block * block_bytes, self.base + offset)
        if kind == F32:
            values = raw.view("<f4")
        elif kind == F16:
            values = raw.view("<f2")
        elif kind == BF16:
            values = (raw.view("<u2").astype(np.uint32) << 16).view("<f4")
        else:
            blocks = raw.reshape(-1, block_bytes)
            scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
            values = scale * blocks[:, 2:].view(np.int8).astype(np.float32)
        return values.astype(dtype).reshape(shape[::-1])
