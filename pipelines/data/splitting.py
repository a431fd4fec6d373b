"""Which split a prompt belongs to, by the hash of its text alone: adding rows moves no other. Imports no torch."""

from __future__ import annotations

import hashlib
import unicodedata
from array import array
from collections.abc import Sequence
from functools import lru_cache
from heapq import nsmallest

from pipelines.data.forms import Message, readable
from pipelines.evaluations import Split
from pipelines.stages import DataSettings

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
LEFT_OUT = len(SPLITS)  # in the place of a split: the pair is in none
_HASH_BITS = 64


def split_of(prompt: Sequence[Message], data: DataSettings) -> Split:
    """The split of every pair with this prompt, or one that differs in case, spacing or its closing mark alone."""
    text = normalised(readable(prompt)).encode("utf-8", "surrogatepass")
    position = int(hashlib.sha256(text).hexdigest()[: _HASH_BITS // 4], 16) / 2**_HASH_BITS
    if position < data.test_share:
        return "test"
    return "validation" if position < data.test_share + data.validation_share else "train"


@lru_cache(maxsize=1)  # the loader asks for its split and for its hash, one after the other
def normalised(text: str) -> str:
    """The text by which near-duplicates are known: compatible characters, case, spacing and a closing mark made equal.

    Marks inside stay: 2 + 2 is not 2 - 2.
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return plain.rstrip(" .?!") or plain


def share_of(uids: Sequence[str], share: float) -> list[int]:
    """Positions of the share of the pairs with the smallest uids, in order: a choice by hash, which a larger one adds to."""
    chosen = sorted(range(len(uids)), key=lambda position: uids[position])
    return sorted(chosen[: share_size(len(uids), share)])


def share_size(num_pairs: int, share: float) -> int:
    """How many pairs a share of them is."""
    return max(1, round(share * num_pairs))


def rows_of_splits(
    uids: Sequence[int], splits: Sequence[int], *, data: DataSettings
) -> dict[Split, array[int]]:
    """Positions of each split's pairs, in the order given.

    A split larger than its cap keeps the pairs with the smallest uids: a choice by hash, which a larger cap adds to.

    Args:
        uids: Of every pair, as a number.
        splits: Of every pair, as its place in `SPLITS`, or `LEFT_OUT`.
        data: Holds the caps.
    """
    caps: dict[Split, int | None] = {
        "train": data.max_train_pairs,
        "validation": data.max_validation_pairs,
        "test": data.max_test_pairs,
    }
    found: dict[Split, array[int]] = {split: array("q") for split in SPLITS}
    for position, place in enumerate(splits):
        if place != LEFT_OUT:
            found[SPLITS[place]].append(position)
    return {split: _capped(positions, uids, caps[split]) for split, positions in found.items()}


def _capped(positions: array[int], uids: Sequence[int], cap: int | None) -> array[int]:
    if cap is None or len(positions) <= cap:
        return positions
    return array("q", sorted(nsmallest(cap, positions, key=lambda position: uids[position])))
