"""What one training stage's model received, held against what the data stage prepared, in one pass over the lines."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from harness.audit.prepared import ABSENT, Pair, PreparedPairs, Row

LINES_AT_ONCE = 1000


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
        order: `alike` of the prepared pair of each chosen sequence, in the order in which the model got them; `ABSENT`
            of an unknown one.
        steps: Optimizer steps, as they come.
        step_sizes: How many pairs each has.
        one_sided: Pairs that did not come with the replies that their trainer takes.
        ids: Sequences that are not the prepared ones.
        masks: Prepared sequences whose loss covers other positions than the settings say.
        num_unknown: Sequences of no prepared pair.
        unknown_masks: Sequences whose labels the recorder was not shown.
        ends: Sequences with another number of end-of-turn tokens than one after the prompt's own.
        empty: Sequences of which the loss covers nothing.
        from_test: Sequences of the test split.
    """

    num_sequences: int = 0
    order: array[int] = field(default_factory=lambda: array("i"))
    steps: array[int] = field(default_factory=lambda: array("i"))
    step_sizes: array[int] = field(default_factory=lambda: array("i"))
    one_sided: Examples = field(default_factory=Examples)
    ids: Examples = field(default_factory=Examples)
    num_unknown: int = 0
    masks: Examples = field(default_factory=Examples)
    unknown_masks: int = 0
    ends: Examples = field(default_factory=Examples)
    empty: Examples = field(default_factory=Examples)
    from_test: Examples = field(default_factory=Examples)


def receive(lines: Iterable[Row], prepared: PreparedPairs, *, paired: bool, whole_chosen: bool) -> Received:
    """Read a stage's `batches.jsonl`.

    Args:
        lines: Its lines.
        prepared: What the data stage prepared.
        paired: Whether the trainer takes both replies of a pair, not the chosen one alone.
        whole_chosen: Whether the settings say that the loss covers chosen's prompt as well.
    """
    found = Received()
    lines = iter(lines)
    while some := list(islice(lines, LINES_AT_ONCE)):
        steps = [line["step"] for line in some for _ in line["sequences"]]
        sequences = [sequence for line in some for sequence in line["sequences"]]
        pairs = prepared.pairs([sequence["uid"] for sequence in sequences])
        tested = prepared.tested([sequence["ids"] for sequence in sequences])
        for step, sequence, pair, of_test in zip(steps, sequences, pairs, tested, strict=True):
            _take(found, sequence, pair, step=step, of_test=of_test, whole=whole_chosen)
        for line in some:
            _take_sides(found, line, paired=paired)
    return found


def _take_sides(found: Received, line: Row, *, paired: bool) -> None:
    """A pair's replies are in one micro-batch: its loss is of both."""
    chosen, rejected = (
        Counter(sequence["uid"] for sequence in line["sequences"] if sequence["side"] == side)
        for side in ("chosen", "rejected")
    )
    for uid in ((chosen - rejected) + (rejected - chosen) if paired else rejected).elements():
        found.one_sided.add(f"step {line['step']}, pair {uid}")


def _take(
    found: Received, sequence: Row, pair: Pair | None, *, step: int, of_test: str | None, whole: bool
) -> None:
    side = sequence["side"]
    where = f"step {step}, {side} of pair {sequence['uid']}" if pair else f"step {step}, a {side} sequence"
    found.num_sequences += 1
    if side == "chosen":
        found.order.append(pair.alike if pair else ABSENT)
        if not found.steps or found.steps[-1] != step:
            found.steps.append(step)
            found.step_sizes.append(0)
        found.step_sizes[-1] += 1
    if sequence["loss"] is None:
        found.unknown_masks += 1
    elif not sequence["loss"]:
        found.empty.add(where)
    if of_test is not None:
        found.from_test.add(f"{where} is pair {of_test} of the test split")
    if pair is None:
        found.num_unknown += 1
        found.ids.add(f"{where} of {sequence['tokens']} tokens is no prepared pair's")
        return
    ids, completion = (
        (pair.chosen, pair.chosen_tokens) if side == "chosen" else (pair.rejected, pair.rejected_tokens)
    )
    tokens = pair.prompt_tokens + completion
    if sequence["ends"] != pair.prompt_ends + 1:
        found.ends.add(f"{where} has {sequence['ends'] - pair.prompt_ends} after its prompt")
    if int(sequence["ids"], 16) != ids:
        found.ids.add(f"{where} has {sequence['tokens']} tokens, {tokens} were prepared")
    elif sequence["loss"]:
        first = 1 if whole and side == "chosen" else max(pair.prompt_tokens, 1)
        expected = f"{first}-{tokens - 1}" if tokens - 1 > first else f"{first}"
        if sequence["loss"] != expected:
            found.masks.add(f"{where}: positions {sequence['loss']}, not {expected}")
