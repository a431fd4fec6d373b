"""Before and after: what each metric was at a station of the training, and what it is at the next one.

A station is a measured model: the untouched base, SFT alone, each arm's final model. One comes before another where its
training is the beginning of the other's. "Did SFT regress after DPO?" is the line from `sft` to `sft-dpo`.
"""

from __future__ import annotations

from harness.diagnostics_schema import Shift, StationChange, StationLikelihood
from harness.intervals import FloatArray, estimate_mean, paired
from harness.metrics import TRAIN_PREFIX, metric
from harness.plan import Trial
from harness.scores import Table, shared_items
from harness.verdict import places

ALPHA = 0.05  # intervals are shown at 95 %, as those of single means
CHOSEN, REJECTED = "chosen_logprob_shift", "rejected_logprob_shift"


def station_changes(
    trials: dict[str, list[Trial]], tables: dict[str, dict[str, Table]]
) -> list[StationChange]:
    """Every metric that has a better direction, between stations that follow each other.

    Args:
        trials: The trials of each model, in the order in which they are shown.
        tables: The scores of each model on each metric.
    """
    return [
        found
        for before, after in _consecutive(trials)
        for name, table in tables[after].items()
        if name in tables[before] and not name.startswith(TRAIN_PREFIX) and metric(name).direction != "none"
        for found in [_change(before, after, name, tables[before][name], table)]
        if found is not None
    ]


def station_likelihoods(tables: dict[str, dict[str, Table]]) -> list[StationLikelihood]:
    """The shift of both replies' log-probs of every model whose pairs were scored; the base has not moved from itself.

    Args:
        tables: The scores of each model on each metric.
    """
    found = []
    for model, of_model in tables.items():
        if not {CHOSEN, REJECTED} <= of_model.keys():
            continue
        items = shared_items(of_model[CHOSEN], of_model[REJECTED])
        if not items:
            continue
        chosen, rejected = of_model[CHOSEN].units(items), of_model[REJECTED].units(items)
        of_chosen, margin = _shift(chosen), _shift(chosen - rejected)
        displaced = None
        if of_chosen.high is not None and margin.low is not None:
            displaced = of_chosen.high < 0 < margin.low
        found.append(
            StationLikelihood(
                model=model,
                chosen=of_chosen,
                rejected=_shift(rejected),
                margin=margin,
                displaced=displaced,
                num_seeds=len(of_model[CHOSEN].seeds),
                num_items=len(items),
            )
        )
    return found


def _shift(units: FloatArray) -> Shift:
    """The mean of (seeds, independent units)."""
    if min(units.shape) < 2:
        return Shift(mean=float(units.mean()), low=None, high=None)
    estimate = estimate_mean(units)
    mean, half = float(estimate.difference), float(estimate.half_width(ALPHA))
    return Shift(mean=mean, low=mean - half, high=mean + half)


def _change(before: str, after: str, name: str, earlier: Table, later: Table) -> StationChange | None:
    items = shared_items(earlier, later)
    seeds = [seed for seed in later.seeds if seed in earlier.seeds or earlier.shared]
    if not items or not seeds:
        return None
    first, second = (_rows(table, seeds, items) for table in (earlier, later))
    low = high = worse = None
    if len(seeds) > 1 and first.shape[1] > 1:
        estimate = paired(second, first)
        difference, half = float(estimate.difference), float(estimate.half_width(ALPHA))
        low, high = difference - half, difference + half
        worse = high < 0 if metric(name).direction == "higher" else low > 0
    return StationChange(
        before=before,
        after=after,
        metric=name,
        before_mean=float(first.mean()),
        after_mean=float(second.mean()),
        difference=float(second.mean() - first.mean()),
        low=low,
        high=high,
        worse=worse,
        num_seeds=len(seeds),
        num_items=len(items),
    )


def _rows(table: Table, seeds: list[int | None], items: tuple[str, ...]) -> FloatArray:
    """Scores of `seeds`, (seeds, independent units); a model that all seeds share stands for each of them."""
    rows = [0] * len(seeds) if table.shared else places(table.seeds, seeds)
    return table.units(items)[rows]


def _consecutive(trials: dict[str, list[Trial]]) -> list[tuple[str, str]]:
    """Pairs of models of which the first is a station on the way to the second, with no measured one between them."""
    return [
        (before, after)
        for after in trials
        for before in trials
        if _leads_to(trials, before, after)
        and not any(
            _leads_to(trials, before, between) and _leads_to(trials, between, after) for between in trials
        )
    ]


def _leads_to(trials: dict[str, list[Trial]], before: str, after: str) -> bool:
    later = {trial.seed: trial.training for trial in trials[after]}
    earlier = {trial.seed: trial.training for trial in trials[before]}
    shared = [seed for seed in later if seed in earlier or None in earlier]
    return bool(shared) and all(
        _begins(later[seed], earlier.get(seed, earlier.get(None, []))) for seed in shared
    )


def _begins(longer: list[str], beginning: list[str]) -> bool:
    return len(beginning) < len(longer) and longer[: len(beginning)] == beginning
