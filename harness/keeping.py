"""Which weights stay when a comparison is done (`keep_weights`), and how the others are given up."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from harness.errors import UserError
from harness.integrity import GIVEN_UP, standing
from harness.metrics import metric
from harness.plan import Plan, Trial
from harness.records import write_json
from harness.reuse import inputs_of

WEIGHTS = "model"
DYING = ".model-given-up"
KINDS_WITH_WEIGHTS = ("pretrain", "convert", "sft", "dpo", "orpo")


def give_up_weights(plan: Plan, folder: Path) -> None:
    """Give up every stage's weights that are not to be kept and that nothing in the plan still has to read."""
    for stage_id in weights_to_give_up(plan, folder):
        give_up(folder / stage_id, because=f"keep_weights: {plan.comparison.keep_weights}")


def weights_to_give_up(plan: Plan, folder: Path) -> Iterator[str]:
    """Ids of the stages whose weights are there, are not to be kept and are read by no stage that has to run."""
    if plan.comparison.keep_weights == "all":
        return
    kept = weights_to_keep(plan, folder)
    is_read = _still_read(plan, folder)
    for stage in plan.stages:
        if (
            stage.kind in KINDS_WITH_WEIGHTS
            and stage.id not in kept
            and (folder / stage.id / WEIGHTS).is_dir()
            and not is_read(stage.id)
            and standing(folder / stage.id) == "whole"
        ):
            yield stage.id


def _still_read(plan: Plan, folder: Path) -> Callable[[str], bool]:
    """Whether a stage that has to run reads this one: one that is not done, or that runs again for its weights.

    Looks only at the stages that it is asked for: a run asks after each of its stages.
    """
    readers: dict[str, list[str]] = {}
    for stage in plan.stages:
        for name in inputs_of(stage):
            readers.setdefault(name, []).append(stage.id)

    @cache
    def is_read(stage_id: str) -> bool:
        return any(has_to_run(reader) for reader in readers.get(stage_id, ()))

    def has_to_run(stage_id: str) -> bool:
        there = standing(folder / stage_id)
        return there == "absent" or (there == "light" and is_read(stage_id))

    return is_read


def weights_to_keep(plan: Plan, folder: Path) -> set[str]:
    """Ids of the stages whose weights `keep_weights` keeps.

    `final`: what the arms end with. `best`: the one of these that is best on the declared metric; until every arm is
    measured, all of them. With an adapter its base model stays too: an adapter is nothing without it.
    """
    keep = plan.comparison.keep_weights
    arms = [trial for trial in plan.trials if trial.role == "arm" and trial.training]
    if keep == "none":
        arms = []
    elif keep == "best":
        arms = _best(plan, folder, arms)
    elif keep == "all":
        return {stage.id for stage in plan.stages}
    kept = {trial.training[-1] for trial in arms}
    if plan.comparison.training.tuning != "full":
        kept |= {stage for trial in arms for stage in trial.preparation}
    return kept


def give_up(folder: Path, *, because: str) -> None:
    """Remove a finished stage's weights and say so beside its record, so that it does not run again for their sake."""
    write_json(folder / GIVEN_UP, {"removed": [WEIGHTS], "because": because})
    # Renamed first: half of a model must never look like one.
    dying = folder / DYING
    shutil.rmtree(dying, ignore_errors=True)
    (folder / WEIGHTS).rename(dying)
    shutil.rmtree(dying)


def _best(plan: Plan, folder: Path, arms: list[Trial]) -> list[Trial]:
    """The trial with the best mean on the declared metric, alone in a list; all of them while one is not measured."""
    measures = {stage_id for trial in arms for stage_id in (*trial.evaluations, *trial.judgements)}
    if not arms or any(standing(folder / stage_id) == "absent" for stage_id in measures):
        return arms
    # What the verdict is computed with loads scipy, which the process that runs a comparison has no other use for.
    from harness.intervals import cluster_means
    from harness.results import read_results
    from harness.win_rates import tables_with_win_rates

    declared = plan.comparison.decision.metric
    try:
        results = read_results(folder)
    except UserError:  # what is damaged is told where it is read for the report
        return arms
    tables = tables_with_win_rates(results)
    sign = -1.0 if metric(declared).direction == "lower" else 1.0
    scores = []
    for trial in arms:
        table = tables.get(trial.name, {}).get(declared)
        if table is None or trial.seed not in table.seeds:
            return arms
        of_seed = table.values[table.seeds.index(trial.seed)]
        scores.append(sign * float(cluster_means(of_seed, table.clusters).mean()))
    return [arms[scores.index(max(scores))]]
