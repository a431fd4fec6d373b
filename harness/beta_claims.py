"""Whether ORPO's beta has the useful range that was claimed, by arms and by points of a sweep that differ in beta alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.claim_fields import evaluations_of, holds_if_worse, numbers
from harness.config import ArmStage
from harness.contrasts import family_of
from harness.numbers import p_text
from harness.results import Results
from harness.scores import Tables, score_tables
from harness.summary_schema import Claim, ClaimStatus, Contrast
from harness.sweep import Point, points_of, sweep_metric
from harness.sweep_summary import SFT_SIGNAL

BETA_RANGE = "beta 0.05 to 0.2 is the useful range, anything higher crushes the SFT signal"
USEFUL_BETA = (0.05, 0.2)
MIDDLE_BETA = 0.1
RULE = (
    "holds if the beta outside of the range was detected to be worse, fails if it was detected to be better or shown to "
    "differ by less than the margin on the primary metric; p corrected by Holm"
)


@dataclass(frozen=True)
class _Group:
    """Models that differ in beta alone, in and out of the range.

    Attributes:
        where: Of the case: nothing for arms, `orpo, sweep: ` for points.
        measured_on: Of the case: what the items are if they are not the test items.
        betas: Of each model, by name.
        middle: The model in the middle of the range.
        metric: On which both ends of the range are judged.
    """

    where: str
    measured_on: str
    betas: Mapping[str, float]
    middle: str
    metric: str

    def wanted(self, tables: Tables) -> Iterator[tuple[str, str, str]]:
        """Metric and the two models of each test. A beta below the range is not said to crush the SFT signal."""
        for name, beta in self.betas.items():
            if beta < USEFUL_BETA[0] and self.metric != SFT_SIGNAL:
                yield self.metric, name, self.middle
        signal = [SFT_SIGNAL] if SFT_SIGNAL in tables.get(self.middle, {}) else []
        for name in self.above():
            for metric in dict.fromkeys([self.metric, *signal]):
                yield metric, name, self.middle

    def above(self) -> list[str]:
        """Models with a beta above the range."""
        return [name for name, beta in self.betas.items() if beta > USEFUL_BETA[1]]


def beta_range(results: Results, tables: Tables, orpo: Sequence[str], alpha: float) -> Iterator[Claim]:
    """A row for each beta outside of the range and each metric, all of one family; nothing where none was tried.

    Args:
        results: What the run left.
        tables: Scores by model and metric.
        orpo: Names of the arms of one ORPO stage that ran.
        alpha: Of the family.
    """
    groups = [*_of_arms(results, orpo), *_of_sweeps(results, orpo)]
    tables = {**tables, **_tables_of_points(results, groups)}
    wanted = {test: group for group in groups for test in group.wanted(tables)}
    for found in family_of(tables, wanted, alpha):
        yield _row(results, wanted[(found.metric, *found.pair)], found)
    for group in groups:
        scored = [tables[name] for name in group.above() if tables.get(name)]
        if scored and group.where and not any(SFT_SIGNAL in table for table in scored):
            yield _signal_not_measured(group)


def _of_arms(results: Results, orpo: Sequence[str]) -> Iterator[_Group]:
    stages = {arm: _stage_that_ran(results, arm) for arm in orpo}
    betas = {
        arm: beta
        for arm, stage in stages.items()
        if (beta := _positive(stage.arguments.get("beta"))) is not None
    }
    middle = _middle(betas)
    if middle is not None:
        alike = {arm: beta for arm, beta in betas.items() if _alike(stages[arm], stages[middle])}
        yield _Group("", "", alike, middle, results.plan.comparison.decision.metric)


def _stage_that_ran(results: Results, arm: str) -> ArmStage:
    """Of an arm of one stage: as its sweep chose it, else as the config has it."""
    plan = results.plan
    points, chosen = points_of(plan.comparison, arm), plan.chosen.get(arm)
    return (plan.comparison.arms[arm] if chosen is None else points[chosen].recipe)[0]


def _of_sweeps(results: Results, orpo: Sequence[str]) -> Iterator[_Group]:
    comparison = results.plan.comparison
    for arm in orpo:
        for others, betas in _betas_by_the_rest(points_of(comparison, arm)).items():
            middle = _middle(betas)
            if middle is not None and len(betas) > 1:
                where = ", ".join([arm, "sweep", *others])
                yield _Group(f"{where}: ", ", validation items", betas, middle, sweep_metric(comparison))


def _tables_of_points(results: Results, groups: Sequence[_Group]) -> Tables:
    names = {name for group in groups if group.where for name in group.betas}
    return {
        name: score_tables(results, trials)
        for name, trials in results.models_and_points().items()
        if name in names
    }


def _row(results: Results, group: _Group, found: Contrast) -> Claim:
    name, middle = found.pair
    beta, reference = (f"{group.betas[model]:g}" for model in (name, middle))
    better = ", turned so that more is better" if found.direction == "lower" else ""
    status, finding = _judged(results, found)
    # The intervals beside it are not corrected, so they alone do not tell why.
    corrected = "" if found.p_holm is None else f" (p {p_text(found.p_holm)} by Holm)"
    return Claim(
        **(numbers(found) | {"quantity": f"{found.metric}, beta {beta} minus {reference}{better}"}),
        name="useful_beta_range",
        claim=BETA_RANGE,
        case=f"{group.where}beta {beta} against {reference} on {found.metric}{group.measured_on}",
        status=status,
        finding=f"beta {beta} {finding}{corrected}",
        reason=RULE,
        evidence=evaluations_of(results, name, middle),
    )


def _judged(results: Results, found: Contrast) -> tuple[ClaimStatus, str]:
    """Status and finding, in the verdict's order: what is shown to be below the margin does not matter, detected or not."""
    decision = results.plan.comparison.decision
    # The margin is declared for the primary metric alone.
    if (
        found.metric == decision.metric
        and found.family_half_width is not None
        and abs(found.difference) + found.family_half_width < decision.margin
    ):
        return "does not hold", "differs by less than the margin"
    findings = {
        "holds": "was detected to be worse",
        "does not hold": "was detected to be better",
        "cannot tell": "was not shown to be worse, better or as good",
    }
    status = holds_if_worse(found)
    return status, findings[status]


def _signal_not_measured(group: _Group) -> Claim:
    return Claim(
        name="useful_beta_range",
        claim=BETA_RANGE,
        case=f"{group.where}betas above {USEFUL_BETA[1]:g} on {SFT_SIGNAL}, the SFT signal",
        status="not measured",
        quantity="",
        reason=f"the points were scored on {group.metric}, which chose, and not on preference",
        measured_by="evaluations.preference",
    )


def _middle(betas: Mapping[str, float]) -> str | None:
    low, high = USEFUL_BETA
    inside = [name for name, beta in betas.items() if low <= beta <= high]
    return min(inside, key=lambda name: abs(math.log(betas[name] / MIDDLE_BETA)), default=None)


def _betas_by_the_rest(points: Sequence[Point]) -> dict[tuple[str, ...], dict[str, float]]:
    """Betas by point's name, for all points together that differ in nothing else; the key says what else they have."""
    groups: dict[tuple[str, ...], dict[str, float]] = {}
    for point in points:
        swept = {key.rpartition(".")[2]: value for key, value in point.changes.items()}
        beta = _positive(swept.pop("beta", None))
        if beta is not None:
            others = tuple(f"{name} {json.dumps(value)}" for name, value in swept.items())
            groups.setdefault(others, {})[point.name] = beta
    return groups


def _positive(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _alike(stage: ArmStage, other: ArmStage) -> bool:
    """Whether two stages differ in beta alone."""
    one, two = (
        each.model_copy(update={"arguments": {**each.arguments, "beta": None}}) for each in (stage, other)
    )
    return one == two
