"""What one training stage's model received, held against what the data stage prepared, in one pass over the lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]


class PreparedPairs:
    """The lines of the data stage's `pairs.jsonl`.

    Attributes:
        rows: All of them.
        by_uid: Those of the training split.
        by_ids: All by the hash of each of their sequences; where one is in several splits, test counts.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = list(rows)
        self.by_uid = {row["uid"]: row for row in self.rows if row["split"] == "train"}
        self.by_ids: dict[str, Row] = {}
        for row in self.rows:
            for side in ("chosen", "rejected"):
                if row["split"] == "test" or row[side] not in self.by_ids:
                    self.by_ids[row[side]] = row


@dataclass
class Examples:
    """How often something was found, and the first case in words."""

    count: int = 0
    first: str = ""

    def add(self, words: str) -> None:
        """One more case."""
        self.first = self.first or words
        self.count += 1

    def told(self, what: str, total: int) -> list[str]:
        """One sentence, or none."""
        return [f"{self.count} of {total} {what} (first: {self.first})"] if self.count else []


@dataclass
class Received:
    """What the lines say.

    Attributes:
        num_sequences: All sequences.
        order: Hash of the prepared chosen sequence of each pair, in the order in which the model got them; of an
            unknown pair the hash of what came.
        by_step: Optimizer step to number of pairs.
        ids: Sequences that are not the prepared ones.
        masks: Prepared sequences whose loss covers other positions than the settings say.
        num_unknown: Sequences of no prepared pair.
        unknown_masks: Sequences whose labels the recorder was not shown.
        ends: Sequences with another number of end-of-turn tokens than one after the prompt's own.
        empty: Sequences of which the loss covers nothing.
        from_test: Sequences of the test split.
    """

    num_sequences: int = 0
    order: list[str] = field(default_factory=list)
    by_step: Counter[int] = field(default_factory=Counter)
    ids: Examples = field(default_factory=Examples)
    num_unknown: int = 0
    masks: Examples = field(default_factory=Examples)
    unknown_masks: int = 0
    ends: Examples = field(default_factory=Examples)
    empty: Examples = field(default_factory=Examples)
    from_test: Examples = field(default_factory=Examples)


def receive(lines: Iterable[Row], prepared: PreparedPairs, *, whole_chosen: bool) -> Received:
    """Read a stage's `batches.jsonl`.

    Args:
        lines: Its lines.
        prepared: What the data stage prepared.
        whole_chosen: Whether the settings say that the loss covers chosen's prompt as well.
    """
    found = Received()
    for line in lines:
        for sequence in line["sequences"]:
            _take(found, sequence, prepared, step=line["step"], whole=whole_chosen)
    return found


def _take(found: Received, sequence: Row, prepared: PreparedPairs, *, step: int, whole: bool) -> None:
    side, ids = sequence["side"], sequence["ids"]
    pair = prepared.by_uid.get(sequence["uid"] or "")
    where = f"step {step}, {side} of pair {sequence['uid']}" if pair else f"step {step}, a {side} sequence"
    found.num_sequences += 1
    if side == "chosen":
        found.order.append(pair["chosen"] if pair else ids)
        found.by_step[step] += 1
    if sequence["loss"] is None:
        found.unknown_masks += 1
    elif not sequence["loss"]:
        found.empty.add(where)
    if (source := prepared.by_ids.get(ids)) is not None and source["split"] == "test":
        found.from_test.add(f"{where} is pair {source['uid']} of the test split")
    if pair is None:
        found.num_unknown += 1
        found.ids.add(f"{where} of {sequence['tokens']} tokens is no prepared pair's")
        return
    tokens = pair["prompt_tokens"] + pair[f"{side}_tokens"]
    if sequence["ends"] != pair["prompt_ends"] + 1:
        found.ends.add(f"{where} has {sequence['ends'] - pair['prompt_ends']} after its prompt")
    if ids != pair[side]:
        found.ids.add(f"{where} has {sequence['tokens']} tokens, {tokens} were prepared")
    elif sequence["loss"]:
        first = 1 if whole and side == "chosen" else max(pair["prompt_tokens"], 1)
        expected = f"{first}-{tokens - 1}" if tokens - 1 > first else f"{first}"
        if sequence["loss"] != expected:
            found.masks.add(f"{where}: positions {sequence['loss']}, not {expected}")
