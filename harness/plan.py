"""A plan: a comparison expanded into trials and the graph of distinct stages. Also the content of `comparison.json`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from harness.config import Comparison
from pipelines.stages import Stage, Strict

COMPARISON = "comparison.json"


class Trial(Strict):
    """One arm, or one control, with one seed: the stages behind its final model and the evaluations on it."""

    name: str = Field(description="The arm's name, `base`, `sft`, or a sweep's point such as `orpo@2`.")
    role: Literal["arm", "control", "point"]
    seed: int | None = Field(description="None for a base model that all seeds share.")
    preparation: list[str] = Field(
        description="Ids of the stages that make the base model and the data, that time its training's steps, and of the "
        "base model's evaluation that its own is compared with."
    )
    training: list[str] = Field(description="Ids of the training stages in order; empty for the base.")
    references: list[str] = Field(
        default_factory=list, description="Ids of the stages whose reference log-probs its training reads."
    )
    remeasured: list[str] = Field(
        default_factory=list,
        description="A night's bill, where its costs are measured anew: a stage for each of `training`, then `references`.",
    )
    evaluations: list[str] = Field(description="Ids of the evaluation stages on the final model.")
    judgements: list[str] = Field(
        default_factory=list,
        description="Ids of the judges' stages: on its own replies, or on its own against another trial's.",
    )

    def stages(self) -> list[str]:
        """Ids of all its stages."""
        trained = dict.fromkeys([*self.training, *self.references, *self.remeasured])
        return [*self.preparation, *trained, *self.evaluations, *self.judgements]

    def billed(self) -> list[str]:
        """Ids of the stages that its bill counts: its training, with the reference log-probs read there."""
        return self.remeasured or [*self.training, *self.references]

    def label(self) -> str:
        """Its name for people, such as `orpo seed 1`."""
        return self.name if self.seed is None else f"{self.name} seed {self.seed}"


@dataclass(frozen=True)
class Night:
    """What a night changes in the plan of its comparison.

    Attributes:
        date: ISO 8601.
        seeds: The seeds of the trials, in place of the config's.
        remeasure: What is measured anew though it is done.
        measured_before: Whether the stage of an id was measured before this night.
    """

    date: str
    seeds: tuple[int, ...]
    remeasure: Literal["none", "costs", "all"]
    measured_before: Callable[[str], bool]


class Plan(Strict):
    """What a run does: every distinct stage once, inputs before what needs them, and the trials that they serve."""

    schema_version: Literal[1] = Field(1, alias="schema")
    comparison: Comparison
    decision_hash: str = Field(description="Hash of the declared decision rule.")
    night: str | None = Field(None, description="The date of `run --night`.")
    new_seeds: list[int] = Field(
        default_factory=list, description="With `nightly.seeds: rotate`: the seeds that this night adds."
    )
    num_looks: int = Field(
        1, description="How often evidence that this plan rests on has been judged, this time included."
    )
    trials: list[Trial]
    chosen: dict[str, int] = Field(
        default_factory=dict, description="Of a sweep: each swept arm's chosen point, once it is known."
    )
    waiting: list[str] = Field(
        default_factory=list,
        description="Arms and sweep points without trials because their steps follow from records that are not there "
        "yet (`budget.match`).",
    )
    stages: list[Stage]
    identities: dict[str, dict[str, Any]] = Field(
        default_factory=dict, exclude=True, description="What each id is a hash of; kept beside the stage."
    )


def read_plan(folder: Path) -> Plan:
    """The plan that a run left in its results folder."""
    return Plan.model_validate_json((folder / COMPARISON).read_bytes())
