"""Contrast (WCAG 2.2) and distance of colours as people with and without colour-blindness see them."""

import itertools
import math
import re

# Machado, Oliveira and Fernandes 2009, "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# severity 1.0, for linear RGB.
VISION = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
# Ottosson 2020, "A perceptual color space for image processing".
OKLAB_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def parse(css):
    """Red, green, blue from 0 to 1 of `rgb(…)` as browsers compute it; alpha apart."""
    parts = [float(x) for x in re.findall(r"[\d.]+", css)]
    return tuple(x / 255 for x in parts[:3]), parts[3] if len(parts) > 3 else 1.0


def linear(rgb):
    return tuple(x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in rgb)


def times(matrix, vector):
    return tuple(sum(a * b for a, b in zip(row, vector)) for row in matrix)


def contrast(a, b):
    y = sorted(sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear(parse(c)[0]))) for c in (a, b))
    return (y[1] + 0.05) / (y[0] + 0.05)


def oklab(rgb):
    return times(OKLAB, tuple(max(0, x) ** (1 / 3) for x in times(OKLAB_CONES, rgb)))


def distance(a, b):
    """100 × the least OKLab distance that any kind of vision sees; about 2 is just noticeable side by side."""
    seen = []
    for matrix in VISION.values():
        x, y = (oklab(tuple(min(1, max(0, v)) for v in times(matrix, linear(parse(c)[0])))) for c in (a, b))
        seen.append(100 * math.dist(x, y))
    return min(seen)


def least_distance(colours):
    return min(distance(a, b) for a, b in itertools.combinations(colours, 2))
