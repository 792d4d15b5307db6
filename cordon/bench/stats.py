"""Medians, spread and a rank test, over the few samples that interleaved rounds give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import median


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """First and third quartile, linearly between the samples (Hyndman and Fan's type 7)."""
    s = sorted(samples)

    def at(share: float) -> float:
        place = share * (len(s) - 1)
        low = int(place)
        high = min(low + 1, len(s) - 1)
        return s[low] + (s[high] - s[low]) * (place - low)

    return at(0.25), at(0.75)


def ratio(samples: Sequence[float], native: Sequence[float]) -> float:
    """How many times the native cost: the median of the ratios of the same rounds."""
    pairs = [a / b for a, b in zip(samples, native, strict=False) if b > 0]
    return median(pairs) if pairs else math.nan


def ranks(values: Sequence[float]) -> list[float]:
    """From 1; equal values share the mean of their places."""
    order = sorted(range(len(values)), key=values.__getitem__)
    out = [0.0] * len(values)
    i = 0
    while i < len(order):
        j = i
        while j + 1 < len(order) and values[order[j + 1]] == values[order[i]]:
            j += 1
        for k in range(i, j + 1):
            out[order[k]] = (i + j) / 2 + 1
        i = j + 1
    return out


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p that samples this different come from one distribution: exact (all ways to deal the ranks) for few samples,
    else by the normal approximation with the correction for ties."""
    n, m = len(a), len(b)
    if n == 0 or m == 0:
        return 1.0
    r = ranks([*a, *b])
    mean = n * (n + m + 1) / 2
    seen = abs(sum(r[:n]) - mean)
    if math.comb(n + m, n) <= 20000:
        sums = [abs(sum(c) - mean) for c in combinations(r, n)]
        return sum(s >= seen - 1e-9 for s in sums) / len(sums)
    total = n + m
    ties = sum(t**3 - t for t in (r.count(v) for v in set(r)))
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    return math.erfc(max(0.0, seen - 0.5) / math.sqrt(2 * variance))
