"""What stands for a sequence of ids, or a prompt, where the thing itself is not kept. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.data.splitting import normalised
from pipelines.evaluations import Split

Ids = Sequence[int] | NDArray[np.integer]

_BYTES = 8  # 1,000,000 sequences collide with a chance of 3 in 100,000,000


def ids_hash(*parts: Ids) -> str:
    """16 hex digits for token ids without padding, given in one piece or more; the same in every stage."""
    digest = hashlib.blake2b(digest_size=_BYTES)
    for part in parts:
        digest.update(np.asarray(part, dtype="<i4").tobytes())
    return digest.hexdigest()


def text_hash(text: str) -> str:
    """16 hex digits for a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_BYTES).hexdigest()


def pair_line(
    pair: Mapping[str, Any], split: Split, end_of_turn_ids: Sequence[int], *, paired: bool = True
) -> dict[str, Any]:
    """What the audit needs of a pair when its ids and texts are gone: hashes and counts.

    `chosen` and `rejected` stand for prompt and completion together; `closed` says whether each completion has exactly
    one end-of-turn token, at its end. Without `paired` there is no rejected one.
    """
    prompt, chosen, rejected = (
        np.asarray(pair[f"{part}_ids"], "<i4") for part in ("prompt", "chosen", "rejected")
    )
    text = str(pair["prompt_text"])

    def num_ends(ids: NDArray[np.int32]) -> int:
        return sum(int(np.count_nonzero(ids == end)) for end in end_of_turn_ids)

    return {
        "uid": str(pair["uid"]),
        "split": split,
        "prompt": text_hash(text),
        "prompt_normalised": text_hash(normalised(text)),
        "chosen": ids_hash(prompt, chosen),
        "rejected": ids_hash(prompt, rejected),
        "prompt_tokens": len(prompt),
        "chosen_tokens": len(chosen),
        "rejected_tokens": len(rejected),
        "prompt_ends": num_ends(prompt),
        "closed": all(
            len(ids) > 0 and int(ids[-1]) in end_of_turn_ids and num_ends(ids) == 1
            for ids in (chosen, *([rejected] if paired else []))
        ),
    }
