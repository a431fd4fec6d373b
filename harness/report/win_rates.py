"""Win rates: what each judge says of each two models, and what may have misled it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from harness.matches import judged_pairs
from harness.numbers import interval, number, with_interval
from harness.records import JUDGEMENTS
from harness.report.page import Block, Bullets, Code, Heading, Listing, Paragraph, Table, Text, cut
from harness.report.view import View
from harness.win_rate_schema import NoWinRate, Rate, WinRate
from harness.win_rates import MOST_CATEGORIES
from pipelines.stages import JudgeSettings

MOST_ANSWERS = 3

INTRO = (
    "How often a judge prefers the first model's reply to the second's, ties half, with a 95 % interval for other seeds and other "
    "prompts; above 0.5 the first wins more. Not corrected for the number of rows. At equal length: what a logistic model with "
    "the length difference as a covariate expects where both replies are equally long. Shown first: how often the reply that the "
    "judge saw first won, ties half; 0.5 is no bias. A judge that is asked in both orders and contradicts itself gives a tie, and "
    "equal replies tie whatever it says of them."
)
LEFT_OUT = (
    "No verdict: matches whose answer held none. The interval needs every prompt in every seed, so a prompt without a verdict in "
    "one seed is left out of all, and a seed without any is left out by itself; where this struck one model's replies more than "
    "the other's, the rate is of what is left and may be misled."
)


def win_rate_blocks(view: View) -> Iterator[Block]:
    """A table of every judge and pair, categories where the data has them; nothing without judges."""
    found = view.summary.win_rates
    if not view.results.plan.comparison.evaluations.judges:
        return
    yield Heading("Win rates")
    if found:
        yield from _table(view, found)
    yield from _notes(view, found)
    yield from _categories(view, found)
    yield from _without_verdict(view)


def _table(view: View, found: list[WinRate]) -> Iterator[Block]:
    yield Paragraph(INTRO)
    head = ["judge", "pair", "win rate", "95 % interval", "win / tie / loss", "at equal length"]
    head += ["shown first", "contradicts itself", "no verdict", "seeds", "items"]
    rows = [_row(one) for one in found]
    caption = LEFT_OUT if any(one.num_unparsable for one in found) else ""
    yield from cut(Table(head, rows, align="ll" + "r" * 9, caption=caption), view.export)


def _notes(view: View, found: list[WinRate]) -> Iterator[Block]:
    """What is missing and why: win rates, and rates at equal length; and which replies were read."""
    comparison = view.results.plan.comparison
    without = view.summary.without_win_rate
    have = {(one.judge, one.pair) for one in found} | {(one.judge, one.pair) for one in without}
    lines: list[Text] = [
        (
            Code(one.judge),
            f", {_pair(one)}: not measured, {one.num_unparsable} of {one.num_matches} matches in {one.num_seeds} seeds have no "
            "verdict, and no prompt has one in every seed",
        )
        for one in without
    ]
    lines += [
        (
            Code(judge.name),
            f", {pair[0]} against {pair[1]}: not measured, its stages did not finish (see Failures)",
        )
        for judge in comparison.evaluations.judges
        for pair in judged_pairs(comparison)
        if (judge.name, pair) not in have and set(pair) <= view.models.keys()
    ]
    lines += [
        (Code(one.judge), f", {_pair(one)}: no rate at equal length, {one.length_reason}")
        for one in found
        if one.length_reason
    ]
    lines += [
        (Code(judge.name), f" reads the replies sampled at temperature {number(generation.temperature)}")
        for judge in comparison.evaluations.judges
        if judge.replies == "sampled" and (generation := comparison.evaluations.generation)
    ]
    if lines:
        yield Bullets(lines)


def _row(one: WinRate) -> tuple[Text, ...]:
    rate = one.rate
    return (
        Code(one.judge),
        _pair(one),
        with_interval(rate.mean, rate.low, rate.high),
        interval(rate.low, rate.high),
        " / ".join(number(share) for share in (one.wins, one.ties, one.losses)),
        _rate_text(one.length_controlled),
        _rate_text(one.position_bias),
        "" if one.inconsistent is None else number(one.inconsistent),
        str(one.num_unparsable),
        _of_all(one.num_seeds, one.num_seeds_without_verdict),
        _of_all(one.num_items, one.num_items_left_out),
    )


def _of_all(kept: int, left_out: int) -> str:
    return f"{kept} of {kept + left_out}" if left_out else str(kept)


def _categories(view: View, found: list[WinRate]) -> Iterator[Block]:
    rows: list[tuple[Text, ...]] = []
    for one in found:
        for each in one.categories:
            rows.append(
                (Code(each.category), Code(one.judge), _pair(one), _rate_text(each.rate), str(each.num_items))
            )
    if rows:
        caption = f"By category of the prompt, the {MOST_CATEGORIES} largest at most; small ones say little."
        head = ["category", "judge", "pair", "win rate (95 % interval)", "items"]
        yield from cut(Table(head, rows, align="lllrr", caption=caption), view.export)


def _without_verdict(view: View) -> Iterator[Block]:
    """The first answers of each judge that hold no verdict, as text."""
    for judge in view.results.plan.comparison.evaluations.judges:
        answers = list(islice(_unread(view, judge.name), MOST_ANSWERS))
        if answers:
            yield Paragraph(("Without a verdict, first answers of ", Code(judge.name), ":"))
            yield from (Listing(view.shown(text), limit=300, max_lines=5) for text in answers)


def _unread(view: View, judge: str) -> Iterator[str]:
    stage_ids = dict.fromkeys(
        name for trials in view.models.values() for trial in trials for name in trial.judgements
    )
    for stage_id in stage_ids:
        settings = view.results.stage(stage_id).settings
        if isinstance(settings, JudgeSettings) and settings.judge.name == judge:
            for row in view.results.rows(stage_id, JUDGEMENTS):
                if row["win"] is None:
                    yield " | ".join(row["answers"])


def _pair(one: WinRate | NoWinRate) -> str:
    return f"{one.pair[0]} against {one.pair[1]}"


def _rate_text(rate: Rate | None) -> str:
    if rate is None:
        return ""
    bounds = f" ({interval(rate.low, rate.high)})" if rate.low is not None else ""
    return f"{with_interval(rate.mean, rate.low, rate.high)}{bounds}"
