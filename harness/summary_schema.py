"""The form of `summary.json`, which other tools read. `python -m harness.summary_schema` writes its JSON schema anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from harness.audit.checks import Audit
from harness.cost_schema import CostRatio, CostSummary, KindCost
from harness.diagnostics_schema import NearTies, PreferenceDiagnostics, StationChange, StationLikelihood
from harness.learning_schema import Displacement, LearningPoint, TargetSummary
from harness.metrics import Direction
from harness.records import Status, write_json
from harness.win_rate_schema import NoWinRate, WinRate
from pipelines.outcomes import DataOutcome
from pipelines.stages import Strict

SUMMARY = "summary.json"
SCHEMA_FILE = Path(__file__).parent / "summary.schema.json"


class MetricSummary(Strict):
    """One metric of one model."""

    by_seed: list[float] = Field(
        description="The mean over items for each seed; empty where all seeds share the model, or the seeds no item."
    )
    seeds: list[int] = Field(description="The seeds of `by_seed`, in its order.")
    mean: float | None = Field(
        description="Mean over seeds and items; null: no item was measured in every seed."
    )
    low: float | None = Field(
        description="95 % interval of the mean, for other seeds and other items; a base that all seeds share: for "
        "other items. null with a single seed, and where the seeds share no item."
    )
    high: float | None
    direction: Direction = Field(description="Which values are better.")
    unit: str
    num_items: int = Field(
        description="Items that every seed was measured on; several from one prompt are averaged and count as one."
    )


class ModelSummary(Strict):
    """One arm, or one control."""

    metrics: dict[str, MetricSummary]
    cost: CostSummary
    diagnostics: list[PreferenceDiagnostics] = Field(
        default_factory=list,
        description="Of each seed with a preference evaluation: length, calibration, overfitting.",
    )
    near_ties: NearTies | None = Field(None, description="Of its greedy replies, all seeds.")
    gold_parts: dict[str, float] = Field(
        default_factory=dict, description="Mean of each part of the gold score, greedy replies, all seeds."
    )
    layers: dict[str, float] = Field(
        default_factory=dict,
        description="Relative change of each layer's weights since the base, mean over seeds; without one that was all zeros.",
    )
    learning: list[LearningPoint] = Field(
        default_factory=list,
        description="Quality on validation pairs while it trained, against what had been spent by then.",
    )


class VerdictSummary(Strict):
    """The verdict on the declared primary metric, and the rule by which it was reached."""

    outcome: str = Field(
        description="The better arm's name, `equivalent`, `undecided`, `unfair` or `incomplete`."
    )
    metric: str
    difference: float | None = Field(description="First arm minus second, turned so that more is better.")
    low: float | None
    high: float | None
    p_value: float | None
    num_seeds: int = Field(description="Finished seeds of the arm that has fewer.")
    num_items: int
    seeds_needed: tuple[int, int] | None = Field(description="Seeds that would decide it, from and to.")
    recommendation: str
    reason: str | None = Field(description="Why there is no verdict, or what limits it.")
    compare: tuple[str, str]
    margin: float
    alpha: float = Field(description="Of this look: the declared alpha shared out over `decision.looks`.")
    form: Literal["welch", "paired"] | None = Field(description="Form of the interval.")
    decision_hash: str = Field(description="Hash of the declared decision rule.")
    cost_ratio: CostRatio | None = Field(description="In the declared cost, `decision.cost`.")


RuleStatus = Literal["declared", "after_data", "unknown"]


class RuleSummary(Strict):
    """When the decision rule was declared."""

    status: RuleStatus = Field(
        description="`declared` before the data were seen; `after_data`: decided after the data were seen; `unknown`: "
        "measured by a version that did not keep this."
    )
    declared_at: str | None = Field(description="UTC, ISO 8601; null where it was not kept.")
    first: dict[str, Any] | None = Field(description="The rule that was declared first.")
    looks: list[int] = Field(description="Numbers of seeds with which this rule was run, in order.")


class Contrast(Strict):
    """Two models on one metric, beside the verdict."""

    metric: str
    pair: tuple[str, str]
    direction: Direction
    difference: float = Field(
        description="First minus second, turned so that more is better; as measured where neither is better."
    )
    low: float | None = Field(
        description="Interval with the verdict's confidence, not corrected for the family."
    )
    high: float | None
    p_value: float | None = Field(description="null where there is no interval, or the seeds do not differ.")
    p_holm: float | None = Field(description="Corrected by Holm over the family; null outside of one.")
    detected: bool = Field(
        description="Whether the corrected p-value, outside of a family the plain one, is at most alpha."
    )
    detectable: float | None = Field(
        description="A true difference of this size would have been detected with a power of 80 %."
    )
    family_half_width: float | None = Field(
        None,
        description="Half the width of the interval at alpha divided by the number of tests of the family.",
    )
    num_seeds: int
    num_items: int
    reason: str | None = Field(description="Why nothing could be tested.")


class AAControl(Strict):
    """One arm against itself: every second of its seeds against the others. The true difference is 0."""

    arm: str
    seeds: tuple[list[int], list[int]] = Field(description="The two halves.")
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    alarm: bool | None = Field(
        None,
        description="Whether the interval excludes 0, as it does by chance in alpha of all; null: not available.",
    )
    reason: str | None = Field(None, description="Why it is not available.")


class OutlierSeed(Strict):
    """A seed that lies further from the others of its arm than chance would have it. Named, never dropped."""

    arm: str
    seed: int
    value: float = Field(description="Its mean on the primary metric.")
    others: float = Field(description="Mean of the arm's other seeds.")
    p_value: float = Field(description="Corrected by Bonferroni for all seeds of both arms.")


ClaimStatus = Literal["holds", "does not hold", "cannot tell", "not measured"]


class Claim(Strict):
    """A published claim as this comparison measured it."""

    name: str = Field(description="A short name, the same in every comparison.")
    claim: str = Field(description="The claim in the words of its source.")
    case: str = Field(description="What it was measured on here: arms, implementation, reference, metric.")
    status: ClaimStatus
    finding: str | None = Field(
        None, description="What the status means, where the claim's words leave it open."
    )
    quantity: str = Field(description="What `value` is; empty where nothing was measured.")
    value: float | None = None
    low: float | None = Field(None, description="Interval with the verdict's confidence, for other seeds.")
    high: float | None = None
    num_seeds: int = 0
    reason: str = Field(description="Why this status, by which rule.")
    evidence: list[str] = Field([], description="Ids of the stages behind the number.")
    measured_by: str | None = Field(None, description="Which config would measure it, or measure it better.")


class PointScore(Strict):
    """One point of a sweep on one metric."""

    by_seed: list[float] = Field(description="The mean over validation items for each finished seed.")
    mean: float | None = Field(description="null where no seed finished.")
    low: float | None = Field(description="95 % interval of the mean; null with a single seed.")
    high: float | None


class PointSummary(PointScore):
    """One point of a sweep, on the metric that chooses."""

    changes: dict[str, Any] = Field(description="Key within the arm to value.")
    sft_signal: PointScore | None = Field(
        None,
        description="The same on `chosen_nll`, SFT's own loss; null where it was not measured, or is what chooses.",
    )
    train_seconds: float | None = Field(None, description="Training of all its stages, mean over seeds.")
    peak_memory_bytes: int | None = Field(None, description="The largest over seeds and stages.")
    num_failed_seeds: int
    chosen: bool = Field(description="Whether its arm was run with it on fresh seeds.")


class SweptArm(Strict):
    """The points of one arm."""

    points: list[PointSummary]
    num_within_margin: int | None = Field(
        description="Points whose mean lies within the declared margin of the arm's best; null where none finished, "
        "or where another metric chose than the margin is declared for."
    )


class SweepSummary(Strict):
    """A sweep: what was tried on validation items before the report's seeds were run."""

    metric: str
    direction: Direction
    unit: str
    margin: float
    num_items: int = Field(description="Validation items that each point was measured on, the fewest of any.")
    arms: dict[str, SweptArm]


class FailureSummary(Strict):
    """A stage that did not finish."""

    stage: str
    status: Status | Literal["not_run"]
    message: str
    advice: str = Field("", description="What to do about it.")
    trials: list[str] = Field(description="What it was needed for, such as `orpo seed 1`.")


class Summary(Strict):
    """The content of `summary.json`: derived from the plan, the records and the items, and from nothing else."""

    schema_version: Literal[1] = Field(1, alias="schema")
    comparison: str = Field(description="The comparison's name.")
    arms: dict[str, ModelSummary]
    controls: dict[str, ModelSummary]
    verdict: VerdictSummary
    cost_ratios: list[CostRatio] = Field(
        description="Of the verdict's two arms, in every cost that was measured."
    )
    changes: list[StationChange] = Field(
        default_factory=list,
        description="Every metric before and after each stretch of training: from the base to SFT, from SFT to DPO.",
    )
    likelihoods: list[StationLikelihood] = Field(
        default_factory=list,
        description="Likelihood displacement on the evaluated pairs: from the base to every other measured model.",
    )
    doubts: list[str] = Field(description="Reasons to doubt the verdict, the strongest first.")
    displacements: list[Displacement] = Field(
        default_factory=list,
        description="Of each training stage of each arm: did the likelihood of chosen fall while the margin grew?",
    )
    target: TargetSummary | None = Field(None, description="The price of the declared `target`.")
    sweep: SweepSummary | None = None
    failures: list[FailureSummary]
    data: DataOutcome | None
    spent: list[KindCost]
    rule: RuleSummary | None = None
    baselines: list[Contrast] = Field(
        [],
        description="Each compared arm against SFT alone and the base on the primary metric; not corrected.",
    )
    secondary: list[Contrast] = Field(
        [],
        description="Other metrics of the declared arms, and all other pairs of arms; one family, corrected by Holm.",
    )
    win_rates: list[WinRate] = Field([], description="What each judge says of each two models.")
    without_win_rate: list[NoWinRate] = Field(
        [], description="Judges and models of which no prompt has a verdict in every seed."
    )
    aa_control: AAControl | None = None
    claims: list[Claim] = Field([], description="Published claims, one or more rows each.")
    outlier_seeds: list[OutlierSeed] = Field([], description="Of the compared arms, on the primary metric.")

    audit: Audit | None = Field(None, description="Whether the arms were treated alike, check by check.")

    def models(self) -> dict[str, ModelSummary]:
        """Controls, then arms."""
        return self.controls | self.arms

    def metric_names(self) -> list[str]:
        """Metrics that any model has, the primary one first."""
        found = dict.fromkeys(name for model in self.models().values() for name in model.metrics)
        primary = self.verdict.metric
        return [primary] * (primary in found) + [name for name in found if name != primary]


def read_summary(folder: Path) -> Summary:
    """The summary that a run left in its results folder."""
    return Summary.model_validate_json((folder / SUMMARY).read_bytes())


def json_schema() -> dict[str, object]:
    """The JSON schema of `summary.json`."""
    schema = Summary.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


if __name__ == "__main__":
    write_json(SCHEMA_FILE, json_schema())
