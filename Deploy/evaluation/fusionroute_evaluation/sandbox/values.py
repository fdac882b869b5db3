"""Plain Python values as JSON, so that what generated code returns crosses into another process without pickle.

Numbers, texts, lists, tuples, sets, dictionaries with their views, and what iterates over them; anything else is unencodable.
Subclasses are sent as the plain type that they compare equal to.
"""

import itertools
import math
from collections import deque
from decimal import Decimal, InvalidOperation
from fractions import Fraction

MAXIMUM_NODES = 200_000
MAXIMUM_DEPTH = 60
# Elements of what hashes them: hashes that are all equal make it quadratic.
MOST_HASHED = 10_000
# Integers beyond these lose digits in other JSON readers, and Python limits their decimal form.
EXACT_INTEGER = 1 << 53
MAXIMUM_INTEGER_BITS = 1 << 16
# Digits of a Decimal, and how far its first one is from the point: comparing may write it out.
MAXIMUM_DECIMAL_DIGITS = 1000
MAXIMUM_DECIMAL_EXPONENT = 10_000

_VIEWS = {"keys": type({}.keys()), "values": type({}.values()), "items": type({}.items())}


class Unencodable(Exception):
    """A value that cannot leave its process."""


def encode(value):
    """The JSON form of `value`. Raises Unencodable."""
    return _Encoder().encode(value, 0)


class _Encoder:
    def __init__(self):
        self.nodes = 0

    def encode(self, value, depth):
        self.nodes += 1
        if self.nodes > MAXIMUM_NODES or depth > MAXIMUM_DEPTH:
            raise Unencodable("the value is too large")
        if value is None or value is True or value is False:
            return value
        if isinstance(value, int):
            # Not what a subclass, such as an enumeration's, gives itself out as.
            value = int.__int__(value)
            if value.bit_length() > MAXIMUM_INTEGER_BITS:
                raise Unencodable("the integer is too large")
            return value if abs(value) <= EXACT_INTEGER else {"t": "int", "v": hex(value)}
        if isinstance(value, float):
            value = float.__float__(value)
            return value if math.isfinite(value) else {"t": "float", "v": repr(value)}
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, list):
            return self.all(value, depth)
        if isinstance(value, dict):
            pairs = [[self.encode(k, depth + 1), self.encode(v, depth + 1)] for k, v in list(value.items())]
            return {"t": "dict", "v": pairs}
        if isinstance(value, complex):
            return {"t": "complex", "v": [repr(value.real), repr(value.imag)]}
        if isinstance(value, (bytes, bytearray)):
            return {"t": type(value).__name__, "v": bytes(value).hex()}
        if isinstance(value, (tuple, set, frozenset)):
            kind = next(k for k in (tuple, set, frozenset) if isinstance(value, k))
            return {"t": kind.__name__, "v": self.all(value, depth)}
        if isinstance(value, range):
            return {"t": "range", "v": [value.start, value.stop, value.step]}
        if isinstance(value, Fraction):
            return {"t": "Fraction", "v": [self.encode(n, depth + 1) for n in (value.numerator, value.denominator)]}
        if isinstance(value, Decimal):
            return {"t": "Decimal", "v": str(_checked(Decimal(value), Unencodable))}
        if isinstance(value, deque):
            return {"t": "deque", "v": self.all(value, depth)}
        for kind, view in _VIEWS.items():
            if isinstance(value, view):
                return {"t": kind, "v": self.all(value, depth)}
        if hasattr(type(value), "__next__"):
            return {"t": "iterator", "v": self.all(itertools.islice(value, MAXIMUM_NODES), depth)}
        raise Unencodable(f"a value of the type {type(value).__name__}")

    def all(self, values, depth):
        return [self.encode(value, depth + 1) for value in values]


def _checked(number, error):
    """A Decimal that is quickly compared with others. Raises `error`."""
    if number.is_finite() and (
        len(number.as_tuple().digits) > MAXIMUM_DECIMAL_DIGITS or abs(number.adjusted()) > MAXIMUM_DECIMAL_EXPONENT
    ):
        raise error("the decimal number is too large")
    return number


def decode(value):
    """The value of a JSON form. Raises ValueError for anything that `encode` does not write."""
    return _Decoder().decode(value, 0)


class _Decoder:
    def __init__(self):
        self.hashed = 0

    def count(self, content):
        """Counts elements that will be hashed, of all sets and dictionaries together."""
        self.hashed += len(content)
        if self.hashed > MOST_HASHED:
            raise ValueError("too many elements")

    def decode(self, value, depth):
        if depth > MAXIMUM_DEPTH + 2:
            raise ValueError("nested too deeply")
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, list):
            return [self.decode(element, depth + 1) for element in value]
        if not isinstance(value, dict) or set(value) != {"t", "v"} or not isinstance(value["t"], str):
            raise ValueError("not a value")
        kind, content = value["t"], value["v"]
        if kind in ("int", "float", "bytes", "bytearray", "Decimal"):
            if not isinstance(content, str):
                raise ValueError("not a value")
            if kind == "int":
                # Four bits in each digit, behind a sign and 0x.
                if len(content) > MAXIMUM_INTEGER_BITS // 4 + 4:
                    raise ValueError("the integer is too large")
                return int(content, 16)
            if kind == "Decimal":
                # Digits, sign, point and exponent.
                if len(content) > MAXIMUM_DECIMAL_DIGITS + 30:
                    raise ValueError("not a value")
                try:
                    return _checked(Decimal(content), ValueError)
                except InvalidOperation as error:
                    raise ValueError("not a value") from error
            return float(content) if kind == "float" else {"bytes": bytes, "bytearray": bytearray}[kind].fromhex(content)
        if not isinstance(content, list):
            raise ValueError("not a value")
        if kind in ("dict", "set", "frozenset", "keys", "items"):
            self.count(content)
        if kind == "dict":
            return {self.decode(k, depth + 1): self.decode(v, depth + 1) for k, v in content}
        if kind == "complex":
            return complex(float(content[0]), float(content[1]))
        elements = [self.decode(element, depth + 1) for element in content]
        if kind in ("tuple", "set", "frozenset"):
            return {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](elements)
        if kind == "range":
            return range(*elements)
        if kind == "Fraction":
            if len(elements) != 2 or not all(type(element) is int for element in elements) or elements[1] < 1:
                raise ValueError("not a value")
            return Fraction(*elements)
        if kind == "deque":
            return deque(elements)
        if kind == "keys":
            return dict.fromkeys(elements).keys()
        if kind == "values":
            return dict(enumerate(elements)).values()
        if kind == "items":
            return dict(elements).items()
        if kind == "iterator":
            return iter(elements)
        raise ValueError("not a value")
