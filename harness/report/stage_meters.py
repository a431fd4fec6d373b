"""The bill's tables by stage: how the time was used, and what memory held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.numbers import NOT_MEASURED, bytes_text, number
from harness.records import Missing, Record, highest, total
from harness.report.page import Block, Paragraph, Table, cut
from harness.report.view import View
from harness.throughput import operations, peak_share, tokens_per_second
from pipelines.outcomes import TrainOutcome

PARTS = ("weights", "adapter", "reference", "gradients", "optimizer")
TERA = 1e12


def billed_stages(view: View) -> Iterator[tuple[str, str, list[Record]]]:
    """Arm, stage as tables name it, and its finished records over the seeds, in the order of the arm's recipe."""
    for name, trials in view.arms.items():
        for place in range(len(trials[0].billed())):
            records = [done for trial in trials if (done := view.results.done(trial.billed()[place]))]
            records = [record for record in records if record.cost is not None]
            if records:
                kind = records[0].stage.kind
                trained = isinstance(records[0].outcome, TrainOutcome)
                yield name, f"{place + 1}. {kind}" if trained else kind, records


def time_table(view: View) -> list[Block]:
    """Seconds with and without warm-up, waiting, speed and energy; what was measured of no stage is left out."""
    rows = [(name, stage, *_time_cells(records)) for name, stage, records in billed_stages(view)]
    head = (
        "arm", "stage", "train s", "without warm-up", "waiting s", "tokens/s", "TFLOP", "share of peak", "energy kJ",
    )  # fmt: skip
    measured = [place for place in range(len(head)) if any(row[place] != NOT_MEASURED for row in rows)]
    if not rows:
        return []
    said = (
        "How the time was used, means over the finished seeds. Warm-up is training up to the end of its first optimizer step; "
        "waiting is for the data loader, inside the training time; tokens are the policy's, without padding, those of all seeds over the "
        "seconds of all; TFLOP are operations by the "
        "model's formula, without padding and recomputation, and their share is of the device's peak on its data sheet. What was measured "
        "of no stage has no column."
    )
    shown = [[row[place] for place in measured] for row in rows]
    return [
        Paragraph(said),
        *cut(
            Table([head[place] for place in measured], shown, align="ll" + "r" * (len(measured) - 2)),
            view.export,
        ),
    ]


def memory_table(view: View) -> list[Block]:
    """What memory held while a stage trained; nothing where no version counted it."""
    rows = [
        (name, stage, *cells)
        for name, stage, records in billed_stages(view)
        if (cells := _memory_cells(records))
    ]
    if not rows:
        return []
    said = (
        "What memory held while a stage trained: tensors counted exactly, the largest of any seed. Activations are the rest of "
        "the allocator's peak, at least so much; they can be told on CUDA only."
    )
    return [
        Paragraph(said),
        *cut(Table(["arm", "stage", *PARTS, "activations"], rows, align="ll" + "r" * 6), view.export),
    ]


def _time_cells(records: Sequence[Record]) -> tuple[str, ...]:
    costs = [record.cost for record in records if record.cost is not None]
    steady = [cost.steady_train_seconds for cost in costs]
    share, done = peak_share(records), operations(records)
    energy = total(cost.energy_joules for cost in costs)
    count = len(costs)
    return (
        _over(total(cost.train_seconds for cost in costs), count),
        NOT_MEASURED if None in steady else _over(total(steady), count),
        _over(total(cost.waiting_seconds for cost in costs), count),
        number(tokens_per_second(records)),
        _over(done, count * TERA),
        f"{number(100 * share)} %" if isinstance(share, float) else NOT_MEASURED,
        _over(energy, count * 1000),
    )


def _over(value: float | Missing | None, divisor: float) -> str:
    return number(value / divisor) if isinstance(value, float) else NOT_MEASURED


def _memory_cells(records: Sequence[Record]) -> tuple[str, ...] | None:
    held = [
        outcome.tensor_bytes
        for record in records
        if isinstance(outcome := record.outcome, TrainOutcome) and outcome.tensor_bytes is not None
    ]
    if not held:
        return None
    rest = highest(record.cost.activations_bytes for record in records if record.cost is not None)
    return (
        *(bytes_text(max(getattr(each, part) for each in held)) for part in PARTS),
        bytes_text(rest) if isinstance(rest, int) else NOT_MEASURED,
    )
