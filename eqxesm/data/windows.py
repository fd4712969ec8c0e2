"""Overlapping windows of a protein that is too long to be seen whole."""

import numpy as np


def cut_windows(length: int, size: int) -> list[slice]:
    """As few windows of `size` residues as overlap by at least half, at equal distances from end to end."""
    if length <= size:
        return [slice(0, length)]
    count = 1 + -(-(length - size) // max(1, size // 2))
    starts = np.linspace(0, length - size, count).round().astype(int)
    return [slice(start, start + size) for start in starts.tolist()]
