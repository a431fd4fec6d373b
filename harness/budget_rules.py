"""Combinations of keys that cannot be meant in what arms may spend and in what SFT trains on."""

from __future__ import annotations

from collections.abc import Iterator

from harness.budget import is_converted
from harness.config import Comparison, SftData
from harness.config_errors import did_you_mean
from pipelines.data.sources import TOY

Broken = Iterator[tuple[str, str]]


def broken_budget_rules(comparison: Comparison) -> Broken:
    """Every broken rule as (key, the rest of the sentence that begins with it)."""
    yield from _budget(comparison)
    yield from _sft(comparison)


def _budget(comparison: Comparison) -> Broken:
    budget, arms = comparison.budget, list(comparison.arms)
    if budget.yardstick is not None and budget.yardstick not in arms:
        yield (
            "budget.yardstick",
            f"must be the name of an arm, got {budget.yardstick!r}. {did_you_mean(budget.yardstick, arms)}".rstrip(),
        )
    if not is_converted(comparison):
        for key in ("yardstick", "calibration_steps"):
            if key in budget.model_fields_set:
                yield f"budget.{key}", f"must not be given with `budget.match: {budget.match}`."
        return
    if comparison.nightly.seeds == "rotate":
        yield (
            "nightly.seeds",
            f"must be fixed with `budget.match: {budget.match}`, got rotate: the steps are known only while it runs.",
        )
    for name, stages in comparison.arms.items():
        for index, stage in enumerate(stages):
            if budget.match == "seconds" and stage.reference == "precomputed":
                yield (
                    f"arms.{name}.{index}.reference",
                    "must not be precomputed with `budget.match: seconds`: one pass before training serves several "
                    "trials, so it is no part of one's training time. Use copy or adapter.",
                )


def _sft(comparison: Comparison) -> Broken:
    sft = comparison.sft
    if sft == SftData():
        return
    if not any(stage.trainer == "sft" for stages in comparison.arms.values() for stage in stages):
        yield "sft", "must not be given: no arm has an sft stage."
    if sft.data is None:
        return
    if sft.share < 1:
        yield (
            "sft.share",
            "must not be given with sft.data: it is a share of the pairs. Use sft.data.max_train_pairs.",
        )
    for key in ("validation_share", "test_share", "max_validation_pairs", "max_test_pairs"):
        if key in sft.data.model_fields_set:
            yield (
                f"sft.data.{key}",
                "must not be given: SFT's data set is trained on, nothing of it is held out.",
            )
    if sft.data.num_pairs is not None and sft.data.path != TOY:
        yield (
            "sft.data.num_pairs",
            "must not be given unless sft.data.path is toy. Use sft.data.max_train_pairs.",
        )
