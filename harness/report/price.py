"""Quality for its price: what looks at validation pairs during training saw, and what had been spent by then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from harness.learning import Moment, moments_of
from harness.learning_schema import Displacement, OverSeeds, TargetReached, TargetSummary
from harness.metrics import metric
from harness.numbers import count, interval, number, ratio_with_interval, seconds_text, with_interval
from harness.report.curves import Line, LinesPanel, draw_lines
from harness.report.figures import BETTER, MOST_IN_TITLE, MOST_MODELS, Curve, first_of, short_names, span
from harness.report.page import Block, Bullets, Code, Figure, Heading, Paragraph, Table, Text, cut
from harness.report.palette import Look
from harness.report.view import View
from pipelines.evaluations import Split
from pipelines.outcomes import TrainOutcome
from pipelines.stages import TrainSettings

MOST_SEEDS, MOST_PANELS = 20, 6
DEFAULT_METRIC = "preference_accuracy"
SPLITS: tuple[tuple[Split, str], ...] = (("validation", "-"), ("train", "--"), ("test", ":"))
SHOWN = ("preference_accuracy", "preference_margin", "chosen_nll")


def price_blocks(view: View) -> list[Block]:
    """Curves and their numbers, the price of the target, what became of the likelihood of both replies."""
    arms = {name: view.summary.arms[name] for name in list(view.arms)[:MOST_MODELS]}
    if not any(arm.learning for arm in arms.values()):
        without = (
            "Quality during training: not measured, no finished stage looked at validation pairs (",
            Code("training.eval_every"),
            ").",
        )
        return [Paragraph(without)]
    seen = {
        name: [looks for trial in view.arms[name][:MOST_SEEDS] if (looks := moments_of(view.results, trial))]
        for name in arms
    }
    blocks: list[Block] = [Heading("Quality for its price")]
    if any(look.means.get("validation") for by_seed in seen.values() for looks in by_seed for look in looks):
        blocks += [_figure(view, seen), *_target(view), *_selected(view), *_table(view)]
    return [*blocks, *_displacement(view, seen)]


def _figure(view: View, seen: dict[str, list[list[Moment]]]) -> Figure:
    target = view.summary.target
    name = target.metric if target else DEFAULT_METRIC
    about = metric(name)
    panels = [
        LinesPanel(
            title=f"{name} on validation pairs",
            x_label=label,
            y_label=f"{about.unit}; {BETTER[about.direction]}",
            lines=[
                Line(arm, view.looks[arm], curves)
                for arm, by_seed in seen.items()
                if (curves := [_curve(looks, axis, name, "validation") for looks in by_seed])
            ],
            level=target.value if target else None,
        )
        for axis, label in (
            ("num_policy_tokens", "policy tokens so far"),
            ("train_seconds", "training seconds so far"),
        )
    ]
    draw = partial(draw_lines, panels, columns=2)
    pairs = {
        look.num_pairs.get("validation", 0)
        for by_seed in seen.values()
        for looks in by_seed
        for look in looks
    }
    caption = (
        f"{name} on {max(pairs)} validation pairs against what an arm has spent, its earlier stages included; thin lines are seeds "
        f"(n = up to {max(map(len, seen.values()))}, of each arm the first {MOST_SEEDS} at most), the thick one is their mean. The looks "
        "themselves are in no arm's time."
        + (" Dotted: the target." if target else "")
        + first_of(MOST_MODELS, len(view.arms), "arms")
    )
    told = "; ".join(
        f"{arm} from {number(points[0].validation.get(name))} to {number(points[-1].validation.get(name))}"
        for arm in seen
        if (points := view.summary.arms[arm].learning)
    )
    return Figure("validation", f"{name} against policy tokens and against seconds: {told}", caption, draw)


def _curve(looks: list[Moment], axis: str, name: str, split: Split) -> Curve:
    found = [
        (float(getattr(look, axis)), value)
        for look in looks
        if (value := look.value(name, split)) is not None
    ]
    return Curve([x for x, _ in found], [y for _, y in found])


def _table(view: View) -> list[Block]:
    """Every point of every arm, means over seeds."""
    priced = view.summary.arms and any(
        point.money is not None for arm in view.summary.arms.values() for point in arm.learning
    )
    powered = any(
        point.energy_joules is not None for arm in view.summary.arms.values() for point in arm.learning
    )
    head: list[Text] = ["arm", "stage, step", "seeds", "policy tokens", "train s", "total s"]
    head += ["joules"] * powered + ["money"] * bool(priced) + [Code(name) for name in SHOWN]
    rows: list[list[Text]] = []
    for arm, about in view.summary.arms.items():
        for place, point in enumerate(about.learning):
            row: list[Text] = [
                arm if place == 0 else "",
                f"{point.stage}, {point.step}",
                str(point.num_seeds),
                count(point.num_policy_tokens),
                number(point.train_seconds),
                number(point.total_seconds),
            ]
            row += [number(point.energy_joules)] * powered + [number(point.money)] * bool(priced)
            rows.append([*row, *(number(point.validation.get(name)) for name in SHOWN)])
    caption = (
        "Means over seeds at each look, on validation pairs; sums from the start of the arm's first stage."
    )
    return cut(Table(head, rows, align="ll" + "r" * (len(head) - 2), caption=caption), view.export)


def _target(view: View) -> Iterator[Block]:
    """What the target cost each arm, or that it was not reached."""
    target = view.summary.target
    if target is None:
        yield Paragraph(("Price of a quality: not measured, the config declares no ", Code("target"), "."))
        return
    at_least = "at most" if target.direction == "lower" else "at least"
    yield Paragraph(
        (
            "Target: ",
            Code(target.metric),
            f" of {at_least} {target.value:g} on validation pairs, counted at the first look that has it: a look earlier it was not "
            "there yet, so every price is too high by up to one interval between looks.",
        )
    )
    yield Bullets([_price(view, arm, reached) for arm, reached in target.arms.items()] + _ratio(view, target))


def _selected(view: View) -> Iterator[Block]:
    """After how many steps the weights that were left were the stage's, where the best were chosen."""
    lines = []
    for arm, trials in view.arms.items():
        for place in range(len(trials[0].training)):
            records = [view.results.done(trial.training[place]) for trial in trials]
            settings = view.results.stage(trials[0].training[place]).settings
            outcomes = [record.outcome for record in records if record is not None]
            steps = [
                f"{outcome.selected_step or outcome.num_steps} of {outcome.num_steps}"
                for outcome in outcomes
                if isinstance(outcome, TrainOutcome)
            ]
            if isinstance(settings, TrainSettings) and settings.select == "best_validation" and steps:
                lines.append(f"{arm}, {place + 1}. {settings.kind}: {', '.join(steps[:MOST_SEEDS])} steps")
    if lines:
        yield Paragraph(
            "The weights that each stage left, the best on validation pairs, by seed; the whole stage is paid for:"
        )
        yield Bullets(lines)


def _price(view: View, arm: str, reached: TargetReached) -> str:
    seeds = len(reached.by_seed) + len(reached.not_reached)
    best = f"best {_with(reached.best)}" if reached.best else ""
    if reached.by_seed and not any(one.num_policy_tokens for one in reached.by_seed):
        return f"{arm}: met before its training in {len(reached.by_seed)} of {seeds} seeds, so training paid nothing for it ({best})."
    if not reached.by_seed:
        return f"{arm}: not reached in any of {seeds} seeds ({best})."
    if reached.not_reached:
        times = ", ".join(
            f"seed {one.seed} after {seconds_text(one.train_seconds)}" for one in reached.by_seed[:MOST_SEEDS]
        )
        return f"{arm}: reached in {len(reached.by_seed)} of {seeds} seeds ({times}), not reached in the others ({best})."
    parts = [
        f"{_with(reached.train_seconds)} s of training",
        f"{_with(reached.num_policy_tokens)} policy tokens",
        f"{_with(reached.total_seconds)} s in all",
    ]
    if reached.energy_joules is not None:
        parts.append(f"{_with(reached.energy_joules)} J")
    if reached.money is not None:
        parts.append(f"{_with(reached.money)} {view.summary.arms[arm].cost.currency}")
    return f"{arm}: reached in all {seeds} seeds after {', '.join(parts)}."


def _ratio(view: View, target: TargetSummary) -> list[str]:
    if target.ratio is None:
        return []
    first, second = view.summary.verdict.compare
    found, bounds = ratio_with_interval(target.ratio.mean, target.ratio.low, target.ratio.high)
    return [
        f"{first} took {found} times as long as {second} until the target ({bounds}; {target.num_seeds} seeds)."
    ]


def _displacement(view: View, seen: dict[str, list[list[Moment]]]) -> Iterator[Block]:
    """The likelihood of both replies over the steps, and the change of each stage."""
    found = view.summary.displacements
    if not found:
        return
    looked = (
        "Looks see validation pairs, pairs that are trained on, and test pairs, by which nothing was chosen"
        if any(one.split == "test" for one in found)
        else "Looks see validation pairs and pairs that are trained on, never the test split; there, final models are compared under What was lost"
    )
    yield Heading("Likelihood of both replies")
    yield _likelihood_figure(view, seen, found)
    yield Paragraph(
        "Change from a stage's first look to its last, nats per token, with a 95 % interval for other seeds (the same pairs). "
        f"{looked}. The likelihood was displaced where chosen fell while the margin grew, both by their whole intervals: the model then "
        "prefers chosen more, yet says it less often."
    )
    rows = [_change(one) for one in found]
    head = ["arm and stage", "pairs", "seeds", "log p of chosen", "of rejected", "margin", "displaced"]
    yield from cut(Table(head, rows, align="llrrrrl"), view.export)


def _likelihood_figure(
    view: View, seen: dict[str, list[list[Moment]]], changes: Sequence[Displacement]
) -> Figure:
    drawn = {arm: by_seed for arm, by_seed in seen.items() if by_seed}
    panels, titles = [], short_names(drawn, MOST_IN_TITLE)
    for arm, by_seed in list(drawn.items())[:MOST_PANELS]:
        colours = {"chosen": view.looks[arm].colour, "rejected": "#808081"}
        lines = [
            Line(f"{side}, {split}", Look(colours[side], view.looks[arm].marker, dash), curves)
            for side in colours
            for split, dash in SPLITS
            if (
                curves := [
                    _curve(looks, "num_policy_tokens", f"{side}_logprob_mean", split) for looks in by_seed
                ]
            )
            and all(curve.x for curve in curves)
        ]
        panels.append(LinesPanel(titles[arm], "policy tokens so far", "log p, nats per token", lines))
    draw = partial(draw_lines, panels, columns=2)
    tested = ", and on test pairs (dotted)" if any(one.split == "test" for one in changes) else ""
    caption = (
        "Length-averaged log-prob of chosen (coloured) and rejected (grey) replies over the training, on validation pairs (solid) and on "
        f"pairs that are trained on (dashed){tested}; thin lines are seeds, thick ones their means (n = "
        f"{span(map(len, drawn.values()))} seeds, {span(one.num_pairs for one in changes)} pairs of each kind)."
        f"{first_of(MOST_PANELS, len(view.arms), 'arms')}"
    )
    alt = f"Log-probs of chosen and rejected over policy tokens for {', '.join(panel.title for panel in panels)}; the table below has the changes"
    return Figure("likelihood", alt, caption, draw)


def _change(one: Displacement) -> list[Text]:
    says = {None: "no interval", True: "yes", False: "not shown"}[one.displaced]
    changes = [
        f"{with_interval(each.mean, each.low, each.high, signed=True)} ({interval(each.low, each.high, signed=True)})"
        for each in (one.chosen, one.rejected, one.margin)
    ]
    return [
        f"{one.model}: {one.stage}. {one.trainer}",
        f"{one.num_pairs} {one.split}",
        str(one.num_seeds),
        *changes,
        says,
    ]


def _with(value: OverSeeds | None) -> str:
    if value is None:
        return "not measured"
    bounds = f" ({interval(value.low, value.high)})" if value.low is not None else ""
    return f"{with_interval(value.mean, value.low, value.high)}{bounds}"
