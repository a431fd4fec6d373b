"""What was lost from one station of the training to the next: "did SFT regress after DPO?", line by line."""

from __future__ import annotations

from collections.abc import Iterator

from harness.diagnostics_schema import Shift, StationChange
from harness.metrics import BENCHMARK_PREFIX, metric
from harness.numbers import interval, number, with_interval
from harness.report.page import Block, Bullets, Code, Heading, Inline, Paragraph, Table, Text, cut
from harness.report.view import View

BASE = "base"
YES, NOT_SHOWN, NO_INTERVAL = "Yes, it is worse on", "Not shown to be worse on", "Without an interval, on"
REGRESSION = ("chosen_nll",)  # beside benchmarks: what the question after SFT is answered by


def station_blocks(view: View, names: list[str]) -> list[Block]:
    """The question about SFT answered in words, and every change between stations that follow each other.

    Args:
        view: The comparison.
        names: Metrics whose changes have a row.
    """
    changes = [change for change in view.summary.changes if change.metric in names]
    answers = [_answer(pair, found) for pair, found in _after_training(changes).items()]
    blocks: list[Block] = [Heading("From station to station")]
    if answers:
        blocks.append(Bullets(answers))
    elif any(len(trials[0].training) > 1 for trials in view.arms.values()):
        question = "Did SFT regress after the stage that follows it? Not measured: it needs "
        wanted = (Code("controls: [sft]"), ", and an evaluation that finished on both models.")
        blocks.append(Paragraph((question, *wanted)))
    if changes:
        note = (
            "Each row is later minus earlier on the same items, seed by seed, with a 95 % interval for other seeds and other "
            "items. A row says worse or better where its whole interval does; rows are not corrected for their number: of those "
            "where nothing changed, one in 40 says worse by chance."
        )
        moved = [change for change in changes if not _is_still(change)]
        blocks += [Paragraph(note), *cut(_table(moved), view.export)]
        if len(moved) < len(changes):
            blocks.append(
                Paragraph(f"Not listed, without a change in any seed: {len(changes) - len(moved)}.")
            )
    return blocks if len(blocks) > 1 else []


def likelihood_blocks(view: View) -> Iterator[Block]:
    """Likelihood displacement of every measured model on the evaluated pairs; nothing where no pairs were scored."""
    found = view.summary.likelihoods
    preference = view.results.plan.comparison.evaluations.preference
    if not found or preference is None:
        return
    yield Heading("Likelihood of both replies, station by station")
    looked_at = view.results.plan.comparison.training.eval_test
    unseen = ", which no look during training saw" if preference.split == "test" and not looked_at else ""
    yield Paragraph(
        f"On the {preference.split} pairs{unseen}: how far each model's length-averaged log-prob of chosen and of rejected lies from "
        "the base's, nats per token, with a 95 % interval for other seeds and other items. The likelihood was displaced where chosen "
        "fell while the margin grew, both by their whole intervals. Over the steps of training it is under Learning, on validation "
        f"pairs{', test pairs' if looked_at else ''} and on pairs that are trained on."
    )
    head = ["model", "log p of chosen", "of rejected", "margin", "displaced", "seeds x items"]
    rows: list[list[Text]] = [[BASE, "0", "0", "0", "by definition", ""]]
    for one in found:
        says = {None: "no interval", True: "yes", False: "not shown"}[one.displaced]
        shifts = [_shift_text(each) for each in (one.chosen, one.rejected, one.margin)]
        rows.append([one.model, *shifts, says, f"{one.num_seeds} x {one.num_items}"])
    yield from cut(Table(head, rows, align="lrrrlr"), view.export)


def _shift_text(shift: Shift) -> str:
    told = with_interval(shift.mean, shift.low, shift.high, signed=True)
    return told if shift.low is None else f"{told} ({interval(shift.low, shift.high, signed=True)})"


def _after_training(changes: list[StationChange]) -> dict[tuple[str, str], list[StationChange]]:
    """Changes of capability and of the chosen replies' likelihood since a model that was trained, by the two models."""
    found: dict[tuple[str, str], list[StationChange]] = {}
    for change in changes:
        if change.before != BASE and (
            change.metric in REGRESSION or change.metric.startswith(BENCHMARK_PREFIX)
        ):
            found.setdefault((change.before, change.after), []).append(change)
    return found


def _answer(pair: tuple[str, str], changes: list[StationChange]) -> Text:
    """The question, then a sentence each on the metrics that got worse, that did not, that cannot be told."""
    parts: list[Inline] = [f"Did {pair[0]} regress in {pair[1]}?"]
    for words, worse in ((YES, True), (NOT_SHOWN, False), (NO_INTERVAL, None)):
        side = [change for change in changes if change.worse is worse]
        for place, change in enumerate(side):
            parts += [", " if place else f" {words} ", Code(change.metric), f" ({_told(change)})"]
        if side:
            parts.append(".")
    return tuple(parts)


def _told(change: StationChange) -> str:
    counts = f"{change.num_seeds} seeds, {change.num_items} items"
    difference = with_interval(change.difference, change.low, change.high, signed=True)
    if change.low is None:
        return f"{difference}; {counts}"
    return f"{difference}, {interval(change.low, change.high, signed=True)}; {counts}"


def _table(changes: list[StationChange]) -> Table:
    rows: list[tuple[Text, ...]] = []
    before: tuple[str, str] | None = None
    for change in changes:
        pair = (change.before, change.after)
        rows.append(
            (
                f"{pair[0]} to {pair[1]}" if pair != before else "",
                Code(change.metric),
                number(change.before_mean),
                number(change.after_mean),
                with_interval(change.difference, change.low, change.high, signed=True),
                interval(change.low, change.high, signed=True),
                _says(change),
                f"{change.num_seeds} x {change.num_items}",
            )
        )
        before = pair
    head = ["from and to", "metric", "earlier", "later", "change", "95 % interval", "says", "seeds x items"]
    return Table(head, rows, align="llrrrrlr")


def _is_still(change: StationChange) -> bool:
    return change.difference == 0 and change.low == change.high


def _says(change: StationChange) -> str:
    if change.worse is None or change.low is None or change.high is None:
        return "no interval"
    if change.worse:
        return "worse"
    better = change.high < 0 if metric(change.metric).direction == "lower" else change.low > 0
    return "better" if better else "no change detected"
