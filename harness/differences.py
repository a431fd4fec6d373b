"""What must be equal in every stage of every arm unless the config declares it, found before a run and in its records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.argument_classes import ANOTHER_OF_DPO, EQUAL, FREE, SET_BY_STAGE
from harness.config import ArmStage, Comparison
from harness.trainer_fields import Trainer, default_of, shared_argument_names

TUNING = (
    "tuning"  # by this key `allow_difference` declares that the arms were not tried at equally many points
)
WARM_UP = "warmup_steps"
SFT_KEYS = ("sft.share", "sft.data")
BY_BUDGET = ("num_train_epochs", "max_steps")  # equal where the budget is matched by epochs


@dataclass(frozen=True)
class Place:
    """A stage as differences are looked for in it.

    Attributes:
        arguments: Those that are not the trainer's default, at least.
    """

    trainer: Trainer
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """A setting with two values.

    Attributes:
        key: As a config has it.
        values: Where to value, as text; the first place for each value.
    """

    key: str
    values: tuple[tuple[str, str], ...]

    def told(self) -> str:
        """`max_grad_norm is 1.0 in orpo (orpo), 0.5 in sft-dpo (dpo)`."""
        return f"{self.key} is " + ", ".join(f"{value} in {where}" for where, value in self.values)


def argument(arguments: Mapping[str, Any], name: str) -> Any:
    """An argument's value where only those that are not the default are listed."""
    return arguments.get(name, default_of(name))


def planned_differences(comparison: Comparison) -> list[Difference]:
    """Those of a config, all of them, declared or not."""
    shape = comparison.training
    places = [
        (f"{arm} ({stage.trainer})", stage) for arm, stages in comparison.arms.items() for stage in stages
    ]
    arguments = {where: {**shape.arguments, **stage.arguments} for where, stage in places}
    by_place = {where: Place(stage.trainer, arguments[where]) for where, stage in places}
    found = list(argument_differences(by_place, free=_free(comparison)))
    covered = {
        where: stage.nll for where, stage in places if stage.trainer != "dpo" and _is_fair(comparison, stage)
    }
    chosen = {where: nll or "completion" for where, nll in covered.items()}
    return [*found, *_warm_up(comparison, arguments), *_differing("nll", chosen), *_of_sft(comparison)]


def undeclared(comparison: Comparison) -> list[Difference]:
    """Those of a config that `allow_difference` does not name."""
    return [
        found for found in planned_differences(comparison) if found.key not in comparison.allow_difference
    ]


def argument_differences(places: Mapping[str, Place], *, free: tuple[str, ...]) -> Iterator[Difference]:
    """Arguments that must be equal and have more than one value; where one is missing, it is the trainers' default.

    Args:
        places: Where to what is there.
        free: Names that may differ besides those that always may.
    """
    compared = (EQUAL | shared_argument_names()) - FREE.keys() - SET_BY_STAGE - set(free)
    names = dict.fromkeys(name for place in places.values() for name in place.arguments)
    for name in names:
        if name in compared:
            values = {
                where: place.arguments.get(name, default_of(name))
                for where, place in places.items()
                if name != ANOTHER_OF_DPO or place.trainer != "dpo"
            }
            yield from _differing(name, values)


def _differing(key: str, by_place: Mapping[str, Any]) -> Iterator[Difference]:
    values: dict[Any, tuple[str, str]] = {}
    for where, value in by_place.items():
        # 1 and 1.0 are equal here, as they are to the trainer.
        values.setdefault(value if isinstance(value, int | float | str) else repr(value), (where, f"{value}"))
    if len(values) > 1:
        yield Difference(key, tuple(values.values()))


def warm_up_steps(arguments: Mapping[str, Any]) -> int:
    """Steps of warm-up; 0 where it is a share of the stage's steps, as every value below 1 is."""
    value = argument(arguments, WARM_UP) or 0
    return int(value) if value >= 1 else 0


def _warm_up(comparison: Comparison, arguments: Mapping[str, Mapping[str, Any]]) -> Iterator[Difference]:
    """A number of warm-up steps in stages of different length is a different share of each."""
    counted = {where: found for where, found in arguments.items() if warm_up_steps(found)}
    if counted and _lengths_differ(comparison, arguments):
        where, found = next(iter(counted.items()))
        told = f"{warm_up_steps(found)} steps"
        yield Difference(
            WARM_UP,
            (
                (where, told),
                ("stages of another length", "as many, another share of theirs (a value below 1 is a share)"),
            ),
        )


def _lengths_differ(comparison: Comparison, arguments: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether stages may have different numbers of steps, as far as the config tells."""
    sft = comparison.sft
    lengths = {tuple(argument(found, name) for name in BY_BUDGET) for found in arguments.values()}
    budgeted = comparison.budget.match in ("pairs", "tokens", "seconds")
    return budgeted or len(lengths) > 1 or sft.share < 1 or sft.data is not None


def _of_sft(comparison: Comparison) -> Iterator[Difference]:
    """What SFT stages train on where it is not what the others do."""
    sft = comparison.sft
    if sft.share < 1:
        yield Difference(SFT_KEYS[0], (("sft stages", f"{sft.share:g}"), ("the others", "1")))
    if sft.data is not None:
        yield Difference(SFT_KEYS[1], (("sft stages", sft.data.path), ("the others", comparison.data.path)))


def _free(comparison: Comparison) -> tuple[str, ...]:
    return () if comparison.budget.match == "epochs" else BY_BUDGET


def _is_fair(comparison: Comparison, stage: ArmStage) -> bool:
    return (stage.preset or comparison.training.preset) == "fair"
