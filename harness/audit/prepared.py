"""What a data stage prepared, held as columns: about 100 bytes a pair, so that a million are no burden."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.data.splitting import SPLITS
from pipelines.evaluations import Split

Row = Mapping[str, Any]
Places = NDArray[np.int64]

ABSENT = -1  # in the place of a place: there is none
HASHES = ("prompt", "prompt_normalised", "chosen", "rejected")
COUNTS = ("prompt_tokens", "chosen_tokens", "rejected_tokens", "prompt_ends")
ROWS_AT_ONCE = 1000


class Index:
    """Finds the first place at which each of many keys stands."""

    def __init__(self, keys: NDArray[Any], places: Places) -> None:
        order = np.argsort(keys, kind="stable")
        self._keys, self._places = keys[order], places[order]

    def find(self, wanted: NDArray[Any]) -> Places:
        """The place of each key that is wanted, or `ABSENT`."""
        if not len(self._keys):
            return np.full(len(wanted), ABSENT)
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(self._keys[at] == wanted, self._places[at], ABSENT)


class Pair(NamedTuple):
    """A prepared pair: hashes of prompt and reply together, numbers of tokens, end-of-turn tokens in its prompt.

    Attributes:
        alike: Place of the first training pair with the same prompt and chosen reply, which names it in an order.
    """

    alike: int
    chosen: int
    rejected: int
    prompt_tokens: int
    chosen_tokens: int
    rejected_tokens: int
    prompt_ends: int


class PreparedPairs:
    """The lines of the data stage's `pairs.jsonl`; a pair's place is the number of its line, from 0."""

    def __init__(self, rows: Iterable[Row]) -> None:
        rows = iter(rows)
        parts = [_columns([])]
        while some := list(islice(rows, ROWS_AT_ONCE)):
            parts.append(_columns(some))
        self._columns = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
        train, test = self.places("train"), self.places("test")
        self._by_uid = Index(self["uid"][train], train)
        of_test = np.concatenate([self["chosen"][test], self["rejected"][test]])
        self._tested = Index(of_test, np.concatenate([test, test]))
        first = Index(self["chosen"][train], train).find(self["chosen"])
        self._columns["alike"] = first.astype(np.int32)

    def __len__(self) -> int:
        return len(self._columns["uid"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._columns[name]

    def places(self, split: Split) -> Places:
        """Those of a split's pairs."""
        return np.flatnonzero(self["split"] == SPLITS.index(split))

    def uid(self, place: int) -> str:
        """A pair's name."""
        return str(self["uid"][place].decode())

    def pairs(self, uids: Sequence[str | None]) -> list[Pair | None]:
        """The training pair of each name; None where there is none."""
        places = self._by_uid.find(np.array([uid or "" for uid in uids], dtype=np.bytes_))
        columns = (self[name][places].tolist() for name in Pair._fields)
        found = map(Pair._make, zip(*columns, strict=True))
        return [None if place == ABSENT else pair for place, pair in zip(places, found, strict=True)]

    def tested(self, ids: Sequence[str]) -> list[str | None]:
        """The name of a test pair that has a sequence with this hash, for each hash; None where there is none."""
        places = self._tested.find(np.array([int(one, 16) for one in ids], dtype=np.uint64))
        return [None if place == ABSENT else self.uid(place) for place in places]


def _columns(rows: list[Row]) -> dict[str, NDArray[Any]]:
    return {
        "uid": np.array([row["uid"] for row in rows], dtype=np.bytes_),
        "split": np.array([SPLITS.index(row["split"]) for row in rows], dtype=np.uint8),
        **{name: np.array([int(row[name], 16) for row in rows], dtype=np.uint64) for name in HASHES},
        **{name: np.array([row[name] for row in rows], dtype=np.int32) for name in COUNTS},
        "closed": np.array([row["closed"] for row in rows], dtype=bool),
    }
