"""Reads GGUF files apart from the runtime's own reader; blocks of every type are decoded by llama.cpp's own numpy code."""

import importlib
import mmap
import struct
import sys
import types
from pathlib import Path

import numpy as np

SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}
STRING, ARRAY = 8, 9


def _llama(module):
    """A module of llama.cpp's own Python package, which comes with its source. The package as a whole wants more than numpy."""
    if "gguf" not in sys.modules:
        package = types.ModuleType("gguf")
        package.__path__ = [str(Path(__file__).resolve().parents[2] / ".deps/llama/gguf-py/gguf")]
        sys.modules["gguf"] = package
    return importlib.import_module(f"gguf.{module}")


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
        kind = _llama("constants").GGMLQuantizationType(kind)
        per_block, block_bytes = _llama("constants").GGML_QUANT_SIZES[kind]
        count = int(np.prod(shape)) // per_block * block_bytes
        raw = np.frombuffer(self.data, np.uint8, count, self.base + offset)
        values = _llama("quants").dequantize(raw.reshape(-1, shape[0] // per_block * block_bytes), kind)
        return values.astype(dtype).reshape(shape[::-1])
