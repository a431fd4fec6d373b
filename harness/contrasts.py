"""Comparisons beside the verdict: other metrics and other arms with Holm's correction, and arms against the controls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from harness.intervals import Estimate, estimate_mean, p_value
from harness.metrics import TRAIN_PREFIX, metric
from harness.numbers import NOTHING
from harness.results import Results
from harness.scores import Tables, scores_of, shared_items
from harness.summary_schema import Contrast
from harness.verdict import estimate_difference, findable, no_spread, unequal_failures

CONTROLS = ("sft", "base")
FEW_SEEDS = "an interval needs 2 seeds of each model"


def secondary(results: Results, tables: Tables, alpha: float) -> list[Contrast]:
    """The declared arms on every other metric, and every other pair of arms on the primary metric.

    Metrics on training pairs are left out: they show overfitting, and tests of them would weaken the others'. One family: p-values are corrected by Holm, and `detected` goes by the corrected ones.
    """
    decision = results.plan.comparison.decision
    first, second = decision.compare
    metrics = [
        name
        for name in tables.get(first, {})
        if name != decision.metric and not name.startswith(TRAIN_PREFIX)
    ]
    others = [name for name in results.plan.comparison.arms if name not in decision.compare]
    wanted = [(name, first, second) for name in metrics]
    pairs = [(arm, declared) for arm in others for declared in (first, second)]
    wanted += [(decision.metric, *pair) for pair in [*pairs, *combinations(others, 2)]]
    return family_of(tables, wanted, alpha)


def family_of(
    tables: Tables, wanted: Iterable[tuple[str, str, str]], alpha: float, *, controls_too: bool = False
) -> list[Contrast]:
    """Comparisons that share alpha, corrected by Holm.

    Args:
        tables: Of every model.
        wanted: (metric, first, second); what was not measured is left out.
        alpha: Share of families with a false detection that is accepted.
        controls_too: Nothing is detected between an arm and a control either where not the same seeds of them failed.
    """
    found = _compared(tables, wanted, controls_too=controls_too)
    tested = [each.p_value for each in found if each.p_value is not None]
    corrected = iter(holm(tested))
    return [
        each.contrast(
            alpha,
            family=len(tested),
            p_holm=None if each.p_value is None else next(corrected),
        )
        for each in found
    ]


def holm(p_values: list[float]) -> list[float]:
    """Corrected p-values in the order given.

    By hand, as statsmodels' function (which a test holds it to) collects garbage at each call and loads pandas: half a
    second, and much more with large results.

    References:
        Holm, A simple sequentially rejective multiple test procedure (1979).
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def baselines(results: Results, tables: Tables, alpha: float) -> list[Contrast]:
    """Each compared arm against SFT alone and against the base on the primary metric, by the verdict's interval.

    Not corrected: each piece of advice about an arm rests on one of them.
    """
    decision = results.plan.comparison.decision
    wanted = [(decision.metric, arm, control) for arm in decision.compare for control in CONTROLS]
    return [each.contrast(alpha, family=1, p_holm=None) for each in _compared(tables, wanted)]


@dataclass(frozen=True)
class _Compared:
    metric: str
    first: str
    second: str
    estimate: Estimate | None
    difference: float
    p_value: float | None
    reason: str | None
    num_seeds: int
    num_items: int

    def contrast(self, alpha: float, *, family: int, p_holm: float | None) -> Contrast:
        """In the summary's form.

        Args:
            alpha: Of the interval and of what counts as detected.
            family: How many tests share alpha.
            p_holm: The corrected p-value; None outside of a family.
        """
        half = None if self.estimate is None else float(self.estimate.half_width(alpha))
        # With a reason it would be of items alone, and look like one of seeds; or is withheld.
        if self.reason and half is not None and half > NOTHING:
            half = None
        p_decisive = self.p_value if p_holm is None else p_holm
        tested = None if self.reason else self.estimate
        share = alpha / max(family, 1)  # Holm compares the smallest p-value of a family with it
        return Contrast(
            metric=self.metric,
            pair=(self.first, self.second),
            direction=metric(self.metric).direction,
            difference=self.difference,
            low=None if half is None else self.difference - half,
            high=None if half is None else self.difference + half,
            p_value=self.p_value,
            p_holm=p_holm,
            detected=p_decisive is not None and p_decisive <= alpha,
            detectable=None if tested is None else float(findable(tested, share)),
            family_half_width=None if tested is None else float(tested.half_width(share)),
            num_seeds=self.num_seeds,
            num_items=self.num_items,
            reason=self.reason,
        )


def _compared(
    tables: Tables, wanted: Iterable[tuple[str, str, str]], *, controls_too: bool = False
) -> list[_Compared]:
    """What can be compared at all: both models measured, on at least 2 units in common."""
    found = (_compare(tables, *contrast, controls_too=controls_too) for contrast in wanted)
    return [compared for compared in found if compared is not None]


def _compare(tables: Tables, name: str, first: str, second: str, *, controls_too: bool) -> _Compared | None:
    of_first, of_second = tables.get(first, {}).get(name), tables.get(second, {}).get(name)
    if of_first is None or of_second is None:
        return None
    items = shared_items(of_first, of_second)
    one = scores_of(first, name, of_first, items=items)
    other = scores_of(second, name, of_second, items=items)
    if one.values.shape[1] < 2:
        return None
    shared = of_second.shared
    num_seeds = len(one.seeds) if shared else min(len(one.seeds), len(other.seeds))
    estimate = None
    if num_seeds >= 2:
        # A base that all seeds share is one fixed model: only the arm's seeds vary.
        estimate = estimate_mean(one.values - other.values) if shared else estimate_difference(one, other)
    reason = FEW_SEEDS if estimate is None else no_spread(estimate, one, other)
    # As in the verdict; a control is no contestant.
    if controls_too or not {first, second} & set(CONTROLS):
        reason = unequal_failures(one, other) or reason
    return _Compared(
        metric=name,
        first=first,
        second=second,
        estimate=estimate,
        difference=float(one.values.mean() - other.values.mean()),
        p_value=None if estimate is None or reason else p_value(estimate),
        reason=reason,
        num_seeds=num_seeds,
        num_items=one.values.shape[1],
    )
