"""Sequences whose items are made when they are asked for."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Int

T = TypeVar("T")


class LazySequence(Sequence[T], Generic[T]):
    """A sequence whose items are made when they are asked for."""

    def __init__(self, length: int, make: Callable[[int], T], iterate: Callable[[], Iterator[T]] | None = None):
        self._length, self._make, self._iterate = length, make, iterate

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        positions = range(self._length)[index]
        if isinstance(positions, range):
            return LazySequence(len(positions), lambda i: self._make(positions[i]))
        return self._make(positions)

    def __iter__(self) -> Iterator[T]:
        return self._iterate() if self._iterate else map(self._make, range(self._length))


def select(proteins: Sequence[T], indices: Int[np.ndarray, " selected"]) -> Sequence[T]:
    """Some items of a sequence, each looked up when it is asked for."""
    return LazySequence(len(indices), lambda i: proteins[int(indices[i])])
