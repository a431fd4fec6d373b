"""Learning: each stage's loss against the tokens and against the seconds that its arm has spent by then."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from harness.numbers import number
from harness.plan import Trial
from harness.records import LOSSES
from harness.report.figures import Curve, Panel, draw_panels, first_of, mean_curve, short_names
from harness.report.page import Figure, Paragraph, Section
from harness.report.price import price_blocks
from harness.report.view import View
from pipelines.outcomes import TrainOutcome

MOST_STAGES, MOST_SEEDS, MOST_POINTS = 4, 20, 400
TITLE = "Learning"


def learning_section(view: View) -> Section:
    """A row of panels for each stage of each arm, the verdict's two first: tokens on the left, seconds on the right."""
    arms = [arm for arm in dict.fromkeys([*view.summary.verdict.compare, *view.arms]) if arm in view.arms]
    # An SFT stage that serves several arms is drawn once.
    stages: dict[str, tuple[str, int]] = {}
    for arm in arms:
        for place, stage_id in enumerate(view.arms[arm][0].training):
            stages.setdefault(stage_id, (arm, place))
    panels: list[Panel] = []
    for arm, place in stages.values():
        if len(panels) < 2 * MOST_STAGES:
            panels += _panels(view, arm, place)
    if not panels:
        return Section(
            TITLE, [Paragraph("Not measured: no training stage left a loss."), *price_blocks(view)]
        )
    draw = partial(draw_panels, panels, columns=2)
    seeds = max(len(panel.curves) for panel in panels)
    cut = first_of(MOST_STAGES, len(stages), "stages")
    caption = (
        f"Training loss; thin lines are seeds (n = up to {seeds}, of each arm the first {MOST_SEEDS} at most), the thick one is their mean. Tokens are the policy's, and "
        "both axes go on from an arm's stage to its next, seconds with the reference log-probs computed before it. Within a stage they are spread evenly over its steps: the record has "
        "the stage's sums. Each trainer has a loss of its own: heights compare within a stage only."
        f"{cut}"
    )
    told = {panel.title: mean_curve(panel.curves).y for panel in panels}
    means = "; ".join(f"{title} from {number(y[0])} to {number(y[-1])}" for title, y in told.items())
    alt = f"Training loss against policy tokens and against seconds, the seeds' mean: {means}"
    return Section(TITLE, [Figure("learning", alt, caption, draw), *price_blocks(view)])


def _panels(view: View, arm: str, place: int) -> Iterator[Panel]:
    trials = view.arms[arm]
    found = [both for trial in trials[:MOST_SEEDS] if (both := _curves(view, trial, place))]
    title = f"{short_names(view.arms)[arm]}: {place + 1}. {view.results.stage(trials[0].training[place]).kind} (n = {len(found)})"
    for column, label in enumerate(("policy tokens so far", "training seconds so far")):
        if found:
            yield Panel(title, view.looks[arm], label, "training loss", [both[column] for both in found])


def _curves(view: View, trial: Trial, place: int) -> tuple[Curve, Curve] | None:
    """Loss against tokens and against seconds; None where the stage did not finish or left no loss."""
    tokens, seconds = 0.0, 0.0
    for stage_id in trial.training[: place + 1]:
        record = view.results.done(stage_id)
        if record is None or record.cost is None or not isinstance(record.outcome, TrainOutcome):
            return None
        if (reference := record.stage.inputs.reference) is not None:  # log-probs that are computed before
            before = view.results.done(reference)
            if before is None or before.cost is None:
                return None
            seconds += before.cost.train_seconds
        start = tokens, seconds
        tokens += record.outcome.num_policy_tokens
        seconds += record.cost.train_seconds
    rows = [
        (row["step"], row["loss"])
        for row in view.results.rows(trial.training[place], LOSSES)
        if row.get("loss") is not None
    ]
    if not rows:
        return None
    last, stride = rows[-1][0], -(-len(rows) // MOST_POINTS)
    losses = [float(loss) for _, loss in rows[::stride]]
    spent = (tokens - start[0], seconds - start[1])
    return tuple(  # type: ignore[return-value]
        Curve([before + total * step / last for step, _ in rows[::stride]], losses)
        for before, total in zip(start, spent, strict=True)
    )
