"""What lies behind the preference metrics: does a model go by length, does its margin say how sure it may be, does it overfit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from harness.diagnostics import REWARDS, pooled_bins
from harness.diagnostics_schema import PreferenceDiagnostics, ReliabilityBin
from harness.numbers import number
from harness.report.curves import FEW_PAIRS, Reliability, draw_reliability
from harness.report.figures import MOST_MODELS, first_of, span
from harness.report.page import Block, Code, Figure, Heading, Paragraph, Table, Text, cut
from harness.report.view import View

NONE = "none"


def diagnostics_blocks(view: View) -> list[Block]:
    """Length, calibration and overfitting of every model whose pairs were scored; nothing where none were."""
    found = {name: model.diagnostics for name, model in view.summary.models().items() if model.diagnostics}
    if not found:
        return []
    about = (
        "Beside the preference metrics, each cell the mean over seeds with the lowest and the highest seed. Correlation: of ",
        Code("preference_margin"),
        " with how much longer chosen is than rejected, in tokens; far from 0, the model goes by length. Calibration error: how far "
        "the share of pairs in which a reward prefers chosen is from the confidence, the sigmoid of the margin's size, that it prefers it "
        "with (0 is best; a margin in nats per token is small by nature, so its confidence stays near a half).",
    )
    rows = [_row(name, seeds) for name, seeds in found.items()]
    head: list[Text] = [
        "model",
        "seeds x pairs",
        "correlation with length",
        *(("error of ", Code(reward)) for reward in REWARDS),
    ]
    blocks: list[Block] = [
        Heading("Length, calibration, overfitting"),
        Paragraph(about),
        *cut(Table(head, rows), view.export),
    ]
    return [*blocks, *_figure(view, found), *_gaps(view, found)]


def _row(name: str, seeds: Sequence[PreferenceDiagnostics]) -> list[Text]:
    errors = [
        _over_seeds(
            [one.expected_error for of_seed in seeds for one in of_seed.calibration if one.reward == reward]
        )
        for reward in REWARDS
    ]
    correlations = [seed.margin_length_correlation for seed in seeds]
    return [name, f"{len(seeds)} x {seeds[0].num_pairs}", _over_seeds(correlations), *errors]


def _figure(view: View, found: dict[str, list[PreferenceDiagnostics]]) -> Iterator[Block]:
    """A reliability curve of each model, a panel for each reward."""
    panels = []
    for reward in REWARDS:
        curves = [
            Reliability(name, view.looks[name], bins)
            for name, seeds in list(found.items())[:MOST_MODELS]
            if (
                bins := pooled_bins(
                    [one for seed in seeds for one in seed.calibration if one.reward == reward]
                )
            )
        ]
        if curves:
            panels.append((reward, curves))
    if not panels:
        return
    draw = partial(draw_reliability, panels)
    caption = (
        "How often chosen is preferred against the confidence with which either reply is; all seeds' pairs together (n = "
        f"{span(map(len, found.values()))} seeds, {span(seeds[0].num_pairs for seeds in found.values())} pairs each), a mark for each bin of "
        f"0.05 that has pairs, hollow with fewer than {FEW_PAIRS}. On the dotted line a model is as often right as it is sure; below it, less often."
        f"{first_of(MOST_MODELS, len(found), 'models')}"
    )
    told = "; ".join(
        f"{reward}: {', '.join(f'{curve.name} {_ends(curve.bins)}' for curve in curves)}"
        for reward, curves in panels
    )
    yield Figure(
        "reliability",
        f"Reliability curves, accuracy at the lowest and the highest confidence, in brackets the pairs there. {told}",
        caption,
        draw,
    )


def _ends(bins: Sequence[ReliabilityBin]) -> str:
    first, last = bins[0], bins[-1]
    start = f"{number(first.accuracy)} ({first.num_pairs})"
    if len(bins) == 1:
        return start
    return f"{start} to {number(last.accuracy)} at {number(last.confidence)} ({last.num_pairs})"


def _gaps(view: View, found: dict[str, list[PreferenceDiagnostics]]) -> Iterator[Block]:
    """The gap of each metric between pairs that were trained on and others; where it was asked for."""
    names = dict.fromkeys(name for seeds in found.values() for seed in seeds for name in seed.train_test_gap)
    if not names:
        yield Paragraph(
            ("Overfitting: not measured, the config has no ", Code("evaluations.preference.train_items"), ".")
        )
        return
    yield Paragraph(
        "Overfitting: the mean on pairs that were trained on minus the mean on the evaluated split, over seeds (lowest and highest "
        "seed). The base has not seen either: its gap is what the two samples differ by."
    )
    rows: list[list[Text]] = [
        [
            Code(name),
            *(
                _over_seeds([seed.train_test_gap.get(name) for seed in seeds], signed=True)
                for seeds in found.values()
            ),
        ]
        for name in names
    ]
    yield from cut(Table(["gap of", *found], rows), view.export)


def _over_seeds(values: Sequence[float | None], *, signed: bool = False) -> str:
    """`0.21 (0.18 to 0.24)`; a single seed's value alone."""
    known = [value for value in values if value is not None]
    if not known:
        return NONE
    texts = [
        f"{'+' if signed and value > 0 else ''}{number(value)}"
        for value in (sum(known) / len(known), min(known), max(known))
    ]
    return texts[0] if len(known) == 1 else f"{texts[0]} ({texts[1]} to {texts[2]})"
