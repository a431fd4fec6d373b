"""Pairs that are a test pair's to the model though their texts differ: cut, unknown or normalised characters make ids equal."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

from pipelines.data.splitting import SPLITS

_TEST = SPLITS.index("test")


class Sequences:
    """The hashes by which the audit knows both sequences of every pair; 16 bytes a pair."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def add(self, chosen: str, rejected: str) -> None:
        """The next pair's, of the prompt with either reply (`ids_hash`)."""
        self._hashes.extend((int(chosen, 16), int(rejected, 16)))

    def also_in_test(self, splits: bytearray) -> NDArray[np.int64]:
        """Places of the pairs outside the test split of which a sequence is a test pair's, too, whatever is capped later.

        Args:
            splits: Of every pair, as its place in `SPLITS`.
        """
        sides = np.frombuffer(self._hashes, dtype=np.uint64).reshape(-1, 2)
        of_test = np.frombuffer(splits, dtype=np.uint8) == _TEST
        tested = np.unique(sides[of_test])
        if not len(tested):
            return np.empty(0, np.int64)
        also = ~of_test & (_among(tested, sides[:, 0]) | _among(tested, sides[:, 1]))
        return np.flatnonzero(also)


def _among(sorted_keys: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.bool_]:
    at = np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)
    found: NDArray[np.bool_] = sorted_keys[at] == wanted
    return found
