"""Differences between models with their intervals: the verdict's, those beside it, and what the seeds say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from harness.metrics import metric
from harness.numbers import interval, number, p_text, with_interval
from harness.report.figures import Difference, draw_forest, first_of, short_names, span
from harness.report.page import Block, Bullets, Code, Figure, Paragraph, Section, Table, Text, cut
from harness.report.view import View
from harness.summary_schema import Contrast, VerdictSummary

TITLE = "Differences"
MOST_ROWS, MOST_PANELS = 14, 18
MOST_IN_PAIR = 20  # characters of each name


def differences_section(view: View) -> Section:
    """Forest plots, the table behind them, the A/A control and seeds that stand out."""
    summary = view.summary
    contrasts = [*summary.baselines, *summary.secondary]
    if summary.verdict.difference is None and not contrasts:
        return Section(TITLE, [Paragraph("Not measured: no two models were measured on the same items.")])
    blocks: list[Block] = [*_figures(view, contrasts), *_table(view, contrasts)]
    blocks.append(
        Paragraph(
            "Turned so that positive means that the first is better, also where lower values are; as measured where neither "
            "is. The first row is the verdict. Arms against SFT alone and the base are tested one by one, each piece of advice "
            "resting on one; the other rows are one family, and their p-values are corrected by Holm. Where no difference was "
            "detected, a true one as large as the last column says would have been with a power of 80 %, a smaller one less often: "
            "that is not a proof that there is none."
        )
    )
    blocks.append(Bullets([_aa_text(view), *_outliers(view)]))
    return Section(TITLE, blocks)


def _figures(view: View, contrasts: list[Contrast]) -> Iterator[Figure]:
    verdict = view.summary.verdict
    level = f"{100 * (1 - verdict.alpha):g} %"
    primary = [each for each in contrasts if each.metric == verdict.metric]
    rows = list(_primary_rows(verdict, primary))
    shown = rows[:MOST_ROWS]
    compared: list[VerdictSummary | Contrast] = [*primary]
    if verdict.difference is not None:
        compared.append(verdict)
    more = first_of(MOST_ROWS, len(rows), "pairs")
    if rows:
        draw = partial(draw_forest, [(verdict.metric, _label(verdict.metric), shown)], margin=verdict.margin)
        caption = (
            f"Differences on {verdict.metric}, the primary metric, each with its {level} interval where it has one "
            f"(n = {span(each.num_seeds for each in compared)} seeds, {span(each.num_items for each in compared)} items); right of 0 "
            f"the first is better. Shaded: the declared margin, {verdict.margin:g}.{more}"
        )
        alt = f"Differences on {verdict.metric}: {'; '.join(_told(row) for row in shown)}"
        yield Figure("differences", alt, caption, draw)
    others = [each for each in contrasts if each.pair == verdict.compare and each.metric != verdict.metric]
    if others:
        drawn = others[:MOST_PANELS]
        groups = [(each.metric, _label(each.metric), [_difference(each, name="")]) for each in drawn]
        draw = partial(draw_forest, groups, margin=None)
        more = first_of(MOST_PANELS, len(others), "metrics")
        caption = (
            f"{' minus '.join(verdict.compare)} on every other metric (n = {span(each.num_seeds for each in drawn)} seeds, "
            f"{span(each.num_items for each in drawn)} items), with {level} intervals that are not corrected for their number; right of 0 the first is better, where either is.{more}"
        )
        told = "; ".join(f"{each.metric} {_told(_difference(each, name=''))}" for each in drawn)
        yield Figure("differences-other-metrics", f"Differences by metric: {told}", caption, draw)


def _primary_rows(verdict: VerdictSummary, contrasts: list[Contrast]) -> Iterator[Difference]:
    pairs = [verdict.compare, *(each.pair for each in contrasts)]
    labels = short_names((name for pair in pairs for name in pair), MOST_IN_PAIR)
    if verdict.difference is not None:
        yield Difference(_minus(verdict.compare, labels), verdict.difference, verdict.low, verdict.high)
    for each in contrasts:
        yield _difference(each, name=_minus(each.pair, labels))


def _table(view: View, contrasts: list[Contrast]) -> list[Block]:
    verdict = view.summary.verdict
    rows: list[tuple[Text, ...]] = []
    if verdict.difference is not None:
        rows.append(
            (
                Code(verdict.metric),
                f"{verdict.compare[0]} minus {verdict.compare[1]}",
                with_interval(verdict.difference, verdict.low, verdict.high, signed=True),
                interval(verdict.low, verdict.high, signed=True),
                p_text(verdict.p_value),
                "the verdict",
                f"{verdict.outcome} is better" if verdict.outcome in verdict.compare else verdict.outcome,
                "",
            )
        )
    rows += [_row(each) for each in contrasts]
    level = f"{100 * (1 - verdict.alpha):g} % interval"
    head = ["metric", "pair", "difference", level, "p", "p by Holm", "says", "detectable"]
    return cut(Table(head, rows, align="llrrrrlr"), view.export)


def _row(each: Contrast) -> tuple[Text, ...]:
    testable = each.reason is None
    says = each.reason or "no difference detected"
    if testable and each.detected:
        better = each.pair[0] if each.difference > 0 else each.pair[1]
        says = "a difference" if each.direction == "none" else f"{better} is better"
    return (
        Code(each.metric),
        f"{each.pair[0]} minus {each.pair[1]}",
        with_interval(each.difference, each.low, each.high, signed=True),
        interval(each.low, each.high, signed=True),
        p_text(each.p_value),
        "" if each.p_holm is None else p_text(each.p_holm),
        says,
        "" if each.detectable is None or each.detected else number(each.detectable),
    )


def _aa_text(view: View) -> str:
    control = view.summary.aa_control
    if control is None or control.alarm is None:
        reason = control.reason if control else "not available: this summary has none"
        return f"A/A control (one arm against itself, a true difference of 0): {reason}."
    halves = " against ".join("seeds " + " ".join(map(str, seeds)) for seeds in control.seeds)
    found = with_interval(control.difference, control.low, control.high, signed=True)
    bounds = interval(control.low, control.high, signed=True)
    alarm = (
        f"an alarm: the interval excludes 0, as it does by chance in {100 * view.summary.verdict.alpha:g} % of comparisons"
        if control.alarm
        else "no alarm, as it should be"
    )
    return f"A/A control, {control.arm} against itself ({halves}): {found}, interval {bounds}; {alarm}."


def _outliers(view: View) -> Iterator[str]:
    for found in view.summary.outlier_seeds:
        yield (
            f"{found.arm} seed {found.seed} stands out: {number(found.value)} against {number(found.others)} in its other "
            f"seeds (p {p_text(found.p_value)}, corrected). It is counted as every other."
        )


def _difference(each: Contrast, *, name: str) -> Difference:
    return Difference(name, each.difference, each.low, each.high)


def _minus(pair: tuple[str, str], labels: dict[str, str]) -> str:
    return f"{labels[pair[0]]} minus {labels[pair[1]]}"


def _label(name: str) -> str:
    return f"difference ({metric(name).unit})"


def _told(row: Difference) -> str:
    bounds = f" ({interval(row.low, row.high, signed=True)})" if row.low is not None else ""
    return f"{row.name} {with_interval(row.value, row.low, row.high, signed=True)}{bounds}".strip()
